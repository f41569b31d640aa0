"""The embedded backbone: its weights, its features, and that it works offline."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from pretraining.images import draw_formulas, photograph, render
from skcoft import COFTEmbedder
from skcoft._network import embedded as _embedded
from skcoft._network.factory import build_backbone

ROOT = Path(__file__).parents[2]


def test_weights_file_agrees_with_the_code():
    assert (
        hashlib.sha256(_embedded.WEIGHTS_FILE.read_bytes()).hexdigest() == _embedded.WEIGHTS_SHA256
    )
    assert _embedded.WEIGHTS_FILE.stat().st_size < 6_000_000
    state = _embedded.Embedded().state_dict()
    with safe_open(_embedded.WEIGHTS_FILE, framework="pt") as file:
        assert set(file.keys()) == {k for k in state if "num_batches" not in k}
        for key in file.keys():
            tensor = file.get_tensor(key)
            assert tensor.dtype == torch.float16 and tensor.shape == state[key].shape
            assert torch.isfinite(tensor).all()
        metadata = file.metadata()
    assert metadata["architecture"] == _embedded.TRUNK_ARCHITECTURE
    assert json.loads(metadata["options"]) == {
        k: list(v) for k, v in _embedded.TRUNK_OPTIONS.items()
    }
    assert json.loads(metadata["mean"]) == list(_embedded.PIXEL_MEAN)
    assert json.loads(metadata["std"]) == list(_embedded.PIXEL_STD)


@pytest.mark.parametrize(
    ("shape", "size"), [((32, 32), (192, 192)), ((300, 200), (224, 160)), ((999, 999), (192, 192))]
)
def test_default_size(shape, size):
    network, sizing = build_backbone("embedded", "pretrained", None, [shape], None, 0)
    assert sizing.size == size
    assert network(torch.zeros(2, 3, *size)).shape == (2, 2176)


@pytest.mark.parametrize("size", [(48, 48), (64, 160), 33])
def test_other_sizes(size):
    images = np.random.default_rng(0).random((3, 40, 50))
    embedder = COFTEmbedder("embedded", image_size=size, max_iter=0).fit(images)
    assert embedder.transform(images).shape == (3, 2176)


@pytest.mark.slow
def test_features_are_means_and_deviations_of_whitened_cells():
    network = build_backbone("embedded", "pretrained", 128, [(9, 9)], None, 0)[0]
    generator = torch.Generator().manual_seed(5)
    images = photograph(render(draw_formulas(200, generator), 128, generator), 128, generator)
    with torch.inference_mode():
        images = (images - 0.5) / 0.25
        features = network.body(images)
        maps = network.body.trunk.forward_intermediates(images, intermediates_only=True)[3:]
    for layer_features, layer_maps, whiten in zip(
        features.split(17 * 64, 1), maps, network.body.whiten, strict=True
    ):
        cells = whiten(_embedded.average_cells(layer_maps)).flatten(2).detach()
        covariance = cells.movedim(1, 2).flatten(0, 1).T.cov()
        assert (covariance.diag() > 0.4).all() and (covariance.diag() < 1.5).all()
        assert (covariance - torch.diag(covariance.diag())).abs().mean() < 0.1
        deviations = layer_features[:, : 16 * 64].unflatten(1, (64, 16))
        means = layer_features[:, 16 * 64 :]
        torch.testing.assert_close(deviations.flatten(1).norm(dim=1), torch.ones(200))
        torch.testing.assert_close(deviations.sum(dim=2), torch.zeros(200, 64), atol=1e-4, rtol=0)
        expected = cells.mean(dim=2)
        torch.testing.assert_close(means, 0.5 * expected / expected.norm(dim=1, keepdim=True))


@pytest.mark.slow
def test_pretrained_weights_separate_formulas_better_than_random_weights():
    generator = torch.Generator().manual_seed(123)
    formulas = draw_formulas(60, generator)
    first, second = (
        photograph(render(formulas, 128, generator), 128, generator) for _ in range(2)
    )
    accuracies = {}
    for weights in ("pretrained", None):
        embedder = COFTEmbedder("embedded", weights=weights, max_iter=0, random_state=0)
        embedder.fit(first[:4])
        a, b = embedder.transform(first), embedder.transform(second)
        accuracies[weights] = ((a @ b.T).argmax(axis=1) == np.arange(60)).mean()
    assert accuracies["pretrained"] > accuracies[None] + 0.1


@pytest.mark.slow
def test_works_offline_with_an_empty_cache(tmp_path):
    code = (
        "import socket, numpy as np\n"
        "def refuse(*args, **kwargs): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "from skcoft import COFTDetector\n"
        "images = np.random.default_rng(0).random((12, 64, 64))\n"
        "fitted = COFTDetector('embedded', max_iter=1, random_state=0).fit(images[:8])\n"
        "assert fitted.score_samples(images).shape == (12,)\n"
    )
    env = {"HF_HOME": str(tmp_path), "HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    path = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=env | path, cwd=tmp_path, check=True)


def test_wheel_contains_the_weights_and_is_small(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "skcoft", source / "skcoft")
    for name in ("pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-q", "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 10_000_000
    with zipfile.ZipFile(wheel) as archive:
        assert "skcoft/_network/embedded.safetensors" in archive.namelist()
        assert not [n for n in archive.namelist() if n.startswith("pretraining")]


def test_constants():
    assert (_embedded.TRUNK_ARCHITECTURE, _embedded.GRID_SIDE, _embedded.WHITENED_WIDTH) == (
        "resnet18",
        4,
        64,
    )
    assert _embedded.TRUNK_OPTIONS == {"layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256)}
    assert (_embedded.EMBEDDING_LAYERS, _embedded.PATCH_LAYERS) == ([3, 4], [2, 3])
    assert (_embedded.MEAN_WEIGHT, _embedded.TRAINING_SIZE) == (0.5, (128, 128))
    assert (_embedded.PIXEL_MEAN, _embedded.PIXEL_STD) == ((0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def random_network():
    """The network with random weights, two images and their maps of all layers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _embedded.Embedded().eval()
        images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        maps = network.trunk.forward_intermediates(images, intermediates_only=True)
        yield network, images, maps


def test_strides_and_widths_of_the_maps(random_network):
    _, _, maps = random_network
    strides = (2, 4, 8, 16, 32)
    assert [tuple(m.shape[2:]) for m in maps] == [(64 // s, 96 // s) for s in strides]
    assert [m.shape[1] for m in maps][1:] == [32, 64, 128, 256]


def test_features_follow_the_equation(random_network):
    """For strides 16 and 32: deviations of the cells, length 1, then their mean, length 0.5."""
    network, images, maps = random_network
    groups = []
    for layer_maps, whiten in zip(maps[3:], network.whiten, strict=True):
        averaged = torch.nn.functional.adaptive_avg_pool2d(layer_maps, 4)
        weight, bias = whiten.weight[:, :, 0, 0], whiten.bias
        cells = torch.einsum("ec,nchw->nehw", weight, averaged) + bias[:, None, None]
        mean = cells.mean(dim=(2, 3))
        deviations = (cells - mean[:, :, None, None]).flatten(1)
        groups.append(deviations / deviations.norm(dim=1, keepdim=True))
        groups.append(mean / mean.norm(dim=1)[:, None] / 2)
    expected = torch.cat(groups, dim=1).numpy()
    assert expected.shape == (2, 2176)
    np.testing.assert_allclose(network(images), expected, atol=1e-6)
    np.testing.assert_array_equal(network.forward_head(network(images)), network(images))


def test_cells_are_averages():
    """Cells have equal sizes if the side is a multiple of 4. Maps may be smaller than the grid."""
    maps = torch.arange(96.0).view(1, 1, 8, 12)
    expected = maps.view(4, 2, 4, 3).mean(dim=(1, 3))
    np.testing.assert_allclose(_embedded.average_cells(maps)[0, 0], expected)
    np.testing.assert_array_equal(
        _embedded.average_cells(maps[..., :1, :1]), np.zeros((1, 1, 4, 4))
    )


@pytest.mark.parametrize("indices", [None, [2, 3], [1], []])
def test_only_maps_for_patch_embeddings_are_whitened(random_network, indices):
    network, images, maps = random_network
    features, returned_maps = network.forward_intermediates(images, indices)
    np.testing.assert_array_equal(features, network(images))
    layers = range(5) if indices is None else indices
    for layer, layer_maps in zip(layers, returned_maps, strict=True):
        expected = maps[layer]
        if layer in (2, 3):
            whiten = network.whiten_local[str(layer)]
            expected = torch.einsum("ec,nchw->nehw", whiten.weight[:, :, 0, 0], expected)
            expected = expected + whiten.bias[:, None, None]
        np.testing.assert_allclose(layer_maps, expected, atol=1e-5)


def test_features_of_one_image():
    """Guards the weights and the code around them, because figures were published with these."""
    network = build_backbone("embedded", "pretrained", 128, [(9, 9)], None, 0)[0]
    y, x = torch.meshgrid(torch.linspace(0, 1, 128), torch.linspace(0, 1, 128), indexing="ij")
    image = torch.stack([x, y, (x - y).abs()])[None]
    with torch.inference_mode():
        features = network(image)
    expected = [-0.1233, -0.1498, 0.1259, 0.1576]  # the largest of each group
    np.testing.assert_allclose(features[0, [240, 1075, 1621, 2151]], expected, atol=5e-4)


def test_rounding_errors_do_not_become_features():
    """The cells of a 1 x 1 map are all equal, so their deviations are rounding errors."""
    images = np.random.default_rng(0).random((6, 32, 32))
    embedder = COFTEmbedder("embedded", image_size=32, max_iter=0).fit(images)
    moved = np.clip(images + 1e-7, 0, 1)
    difference = embedder.transform(images) - embedder.transform(moved)
    assert np.linalg.norm(difference, axis=1).max() < 0.01
    cells = torch.ones(1, 2, 4)
    deviations = torch.zeros(1, 8)
    deviations[0, 0] = 8**0.5 * 1e-4  # a tenth of the rounding limit
    assert _embedded.unit_length(deviations, cells).norm() == pytest.approx(0.1)
    assert _embedded.unit_length(20 * deviations, cells).norm() == pytest.approx(1)
    assert not _embedded.unit_length(torch.zeros(1, 8), torch.zeros(1, 2, 4)).isnan().any()
