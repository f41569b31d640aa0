"""The image generator and the training script of the embedded backbone."""

import csv
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from pretraining.images import border_coverage, draw_formulas, photograph, recolour, render
from pretraining.project import main, project
from pretraining.shapes import SHAPES
from pretraining.textures import TEXTURES
from pretraining.train import Pool, add_defects, multi_positive_loss, parse_args, train
from skcoft import COFTEmbedder
from skcoft._network import embedded as _embedded
from skcoft._network.patches import average_neighbours


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def few_images(monkeypatch):
    """Fit projections on few images, to save time."""
    for module in ("train", "project"):
        monkeypatch.setattr(f"pretraining.{module}.project", partial(project, n_images=32))


def apply(function, count):
    """Apply a texture or shape to ``count`` random formulas."""
    p = [torch.rand(count, 1, 1, generator=seeded(i)) for i in range(24)]
    axis = torch.linspace(-1, 1, 40)
    y, x = (c.expand(count, 40, 40) for c in torch.meshgrid(axis, axis, indexing="ij"))
    return function(p, x, y, seeded(9))


@pytest.mark.parametrize("texture", TEXTURES, ids=lambda f: f.__name__)
def test_textures_vary_within_their_range(texture):
    out = apply(texture, 32)
    assert out.shape == (32, 40, 40)
    assert out.min() > -0.2 and out.max() < 1.2
    assert (out.flatten(1).std(dim=1) > 1e-3).float().mean() > 0.8


@pytest.mark.parametrize("shape", dict.fromkeys(SHAPES), ids=lambda f: f.__name__)
def test_shapes_have_an_inside_and_an_outside(shape):
    out = apply(shape, 32)
    assert torch.isfinite(out).all()
    both = (out > 0).any(dim=(1, 2)) & (out <= 0).any(dim=(1, 2))
    assert both.float().mean() > 0.8


def test_borders_leave_background_on_both_sides():
    axis = torch.linspace(-1, 1, 40)
    y, x = (c.expand(64, 40, 40) for c in torch.meshgrid(axis, axis, indexing="ij"))
    coverage = border_coverage(torch.rand(64, 8, generator=seeded()), x, y, seeded(1))
    assert coverage.shape == (64, 1, 40, 40) and coverage.min() >= 0 and coverage.max() <= 1
    low, high = coverage.flatten(1).amin(dim=1), coverage.flatten(1).amax(dim=1)
    assert ((low < 0.2) & (high > 0.8)).float().mean() > 0.9


def test_images_of_one_formula_are_more_similar_than_others():
    formulas = draw_formulas(16, seeded(1))
    first, second = (render(formulas, 48, seeded(s)) for s in (2, 3))
    for images in (first, photograph(first, 32, seeded(4))):
        assert images.min() >= 0 and images.max() <= 1
        assert images.flatten(1).std(dim=1).median() > 0.02
    assert (first != second).any(dim=(1, 2, 3)).all()
    colours = [normalize(i.mean(dim=(2, 3)) - 0.5, dim=1) for i in (first, second)]
    similarity = colours[0] @ colours[1].T
    assert similarity.diag().mean() > similarity.mean() + 0.3


def test_a_seed_determines_the_images():
    formulas = draw_formulas(12, seeded(5))
    assert (render(formulas, 32, seeded(6)) == render(formulas, 32, seeded(6))).all()


def test_recolouring_keeps_brightness_and_a_share_of_the_images():
    images = 0.4 + 0.2 * torch.rand(400, 3, 6, 6, generator=seeded(7))
    out = recolour(images, 0.75, seeded(8))
    torch.testing.assert_close(out.mean(dim=1), images.mean(dim=1))
    unchanged = torch.isclose(out, images, atol=1e-5).flatten(1).all(dim=1).float().mean()
    gray = (out.std(dim=1) < 1e-5).flatten(1).all(dim=1).float().mean()
    assert 0.15 < unchanged < 0.35 and 0.12 < gray < 0.35
    assert (recolour(images, 0.0, seeded(8)) == images).all()


def test_pool_draws_two_photographs_of_each_image():
    pool = Pool(draw_formulas(6, seeded()), 2, 24, False, seeded(1))
    photographs, labels = pool.draw(4, 16)
    assert photographs.shape == (16, 3, 16, 16)
    assert labels.unique(return_counts=True)[1].tolist() == [4] * 4


@pytest.mark.parametrize("new_formulas", [False, True])
def test_pool_replaces_images_and_optionally_formulas(new_formulas):
    pool = Pool(draw_formulas(6, seeded()), 2, 24, new_formulas, seeded(1))
    formulas, images = pool.formulas.clone(), pool.images.clone()
    pool.renew(4)
    pool.renew(1)
    changed = (pool.images != images).flatten(1).any(dim=1)
    assert changed.tolist() == [True] * 5 + [False]
    assert (pool.formulas != formulas).any(dim=1).tolist() == [new_formulas] * 5 + [False]


def test_multi_positive_loss_is_the_mean_over_positives():
    z, labels = torch.randn(6, 4, generator=seeded()), torch.tensor([0, 0, 0, 1, 1, 2])
    labels[5] = 1
    unit = normalize(z, dim=1)
    expected = 0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        total = sum((unit[i] @ unit[j] / 0.1).exp() for j in others)
        same = [j for j in others if labels[j] == labels[i]]
        expected -= sum((unit[i] @ unit[j] / 0.1) - total.log() for j in same) / len(same) / 6
    torch.testing.assert_close(multi_positive_loss(z, labels), expected)


def test_defect_maps_are_positive_only_on_defects():
    images = render(draw_formulas(8, seeded()), 64, seeded())
    defective, defect_maps = add_defects(images, seeded())
    assert defect_maps.shape == (8, 8, 8)
    changed = (defective != images).any(dim=1).reshape(8, 8, 8, 8, 8).any(dim=(2, 4))
    assert (defect_maps > 0).flatten(1).any(dim=1).sum() >= 6
    assert not (defect_maps[~changed] > 0).any()


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["classify", "contrast", "both"])
def test_losses_fall_and_training_resumes(tmp_path, signal, few_images):
    options = ["--out", str(tmp_path), "--signal", signal, "--formulas", "8", "--size", "48"]
    options += ["--batch", "16", "--steps", "60", "--save-every", "10", "--rate", "5e-3"]
    options += ["--device", "cpu", "--renew", "2", "--dense", "5"]
    train(parse_args([*options, "--minutes", "1e-6"]))
    assert torch.load(tmp_path / "checkpoint.pt")["step"] == 1
    train(parse_args(options))
    with (tmp_path / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(r["step"]) for r in rows] == [1, *range(10, 61, 10)]
    names = {"classify": ["classify"], "contrast": ["contrast"], "both": ["classify", "contrast"]}
    for name in [*names[signal], "dense"]:
        assert float(rows[-1][name]) < float(rows[1][name])
    weights = tmp_path / "backbone.safetensors"
    images = torch.rand(3, 3, 32, 32)
    embedder = COFTEmbedder("embedded", weights=weights, max_iter=0).fit(images)
    assert embedder.transform(images).shape == (3, 2176)


def test_training_can_start_from_an_earlier_run(tmp_path, few_images):
    options = ["--formulas", "8", "--size", "48", "--batch", "16", "--device", "cpu"]
    first = train(parse_args([*options, "--steps", "3", "--out", str(tmp_path / "a")]))
    init = ["--init", str(tmp_path / "a" / "backbone.safetensors")]
    options += [*init, "--steps", "2", "--rate", "1e-9", "--seed", "1"]
    second = train(parse_args([*options, "--out", str(tmp_path / "b")]))
    weight = "conv1.weight"
    torch.testing.assert_close(
        second.body.state_dict()[weight], first.body.state_dict()[weight], atol=1e-3, rtol=0
    )


@pytest.mark.slow
def test_losses_fall_in_bfloat16(tmp_path, few_images):
    options = ["--out", str(tmp_path), "--formulas", "8", "--size", "48", "--batch", "16"]
    options += ["--device", "cpu", "--bfloat16", "--rate", "5e-3", "--save-every", "10"]
    learner = train(parse_args([*options, "--steps", "40"]))
    with (tmp_path / "curve.csv").open() as file:
        losses = [float(row["contrast"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0]
    assert {p.dtype for p in learner.parameters()} == {torch.float32}


def test_init_rejects_a_file_of_a_trunk_alone(tmp_path):
    save_file(_embedded.Embedded().trunk.state_dict(), tmp_path / "trunk.safetensors")
    options = ["--out", str(tmp_path), "--init", str(tmp_path / "trunk.safetensors")]
    with pytest.raises(ValueError):
        train(parse_args([*options, "--formulas", "8", "--device", "cpu"]))


def test_projection_keeps_the_largest_components_at_unit_variance():
    trunk = _embedded.Embedded().trunk.state_dict()
    network = project(trunk, seed=0, n_images=64, floor=0)
    generator = seeded(0)
    images = photograph(render(draw_formulas(64, generator), 128, generator), 128, generator)
    with torch.inference_mode():
        maps = network.trunk.forward_intermediates((images - 0.5) / 0.25, intermediates_only=True)
    maps = [maps[layer] for layer in _embedded.EMBEDDING_LAYERS]
    for layer_maps, whiten in zip(maps, network.whiten, strict=True):
        cells = _embedded.average_cells(layer_maps)
        rows, projected = (c.movedim(1, -1).flatten(0, 2) for c in (cells, whiten(cells).detach()))
        torch.testing.assert_close(projected.T.cov(), torch.eye(64), atol=0.02, rtol=0)
        # the variance that the projection leaves out is that of the smallest components
        centered = rows - rows.mean(dim=0)
        residual = centered - projected @ torch.linalg.lstsq(projected, centered).solution
        variances = torch.linalg.eigvalsh(rows.T.cov())
        total = residual.square().sum() / (len(rows) - 1)
        torch.testing.assert_close(total, variances[:-64].sum(), rtol=0.02, atol=1e-6)


def test_maps_for_patch_embeddings_are_whitened_per_patch():
    network = project(_embedded.Embedded().trunk.state_dict(), seed=0, n_images=64, floor=0.01)
    generator = seeded(0)
    images = photograph(render(draw_formulas(64, generator), 128, generator), 128, generator)
    with torch.inference_mode():
        _, maps = network.forward_intermediates((images - 0.5) / 0.25, _embedded.PATCH_LAYERS)
    for layer_maps in maps:
        rows = average_neighbours(layer_maps).movedim(1, -1).flatten(0, 2)
        torch.testing.assert_close(rows.mean(dim=0), torch.zeros(rows.shape[1]), atol=0.02, rtol=0)
        covariance = rows.T.cov()
        variances = covariance.diag()
        torch.testing.assert_close(covariance, variances.diag(), atol=0.02, rtol=0)
        # the floor keeps the variance of directions with little variance below one
        assert variances.max() < 1.02 and variances.sort().values[-8:].min() > 0.9


def test_a_seed_determines_the_projection():
    trunk = _embedded.Embedded().trunk.state_dict()
    first, second, other = (project(trunk, seed, 32).whiten[0].weight for seed in (1, 1, 2))
    assert (first == second).all() and (first != other).any()


def test_projection_of_a_file(tmp_path, few_images):
    trunk = {k: v.half() for k, v in _embedded.Embedded().trunk.state_dict().items()}
    save_file(trunk, tmp_path / "trunk.safetensors")
    main([str(tmp_path / "trunk.safetensors"), str(tmp_path / "out.safetensors")])
    state = load_file(tmp_path / "out.safetensors")
    assert (state["trunk.conv1.weight"] == trunk["conv1.weight"]).all()
    expected = project({k: v.float() for k, v in trunk.items()}, seed=0, n_images=32)
    assert (state["whiten.1.bias"] == expected.whiten[1].bias.half()).all()
