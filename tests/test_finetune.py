import numpy as np
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_array_equal
from torch import nn
from torchvision.transforms import v2

import skcoft._finetune as finetune
from skcoft import COFTDetector, COFTEmbedder
from skcoft._finetune import draw_shots
from skcoft._views import make_synthesizer, make_views
from skcoft.augmentation import random_views

IMAGES = np.random.default_rng(0).random((6, 16, 16, 3)).astype(np.float32)
FAMILIES = ["mean_shifted", "infonce", "simsiam"]


def embedder(**params):
    defaults = dict(backbone=TinyNet(), max_iter=4, learning_rate=0.01, random_state=0)
    return COFTEmbedder(**{**defaults, **params})


@pytest.mark.parametrize("contrastive", FAMILIES)
@pytest.mark.parametrize("shots", [1, 2, 6])
def test_history_holds_every_term(contrastive, shots):
    fitted = embedder(contrastive=contrastive, positive_weight=2, negative_weight=0.5)
    fitted.fit(IMAGES[:shots])
    history = fitted.history_
    assert set(history) == {"loss", "contrastive", "positive", "negative"}
    assert fitted.n_iter_ == 4 and all(len(v) == 4 for v in history.values())
    total = history["contrastive"] + 2 * history["positive"] + 0.5 * history["negative"]
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5, atol=1e-6)
    assert (history["negative"] > 0).all()
    if shots == 1:
        assert (history["positive"] == 0).all()
        assert (contrastive == "simsiam") == (history["contrastive"] != 0).all()


@pytest.mark.parametrize("contrastive", FAMILIES)
def test_contrastive_term_falls(contrastive):
    rates = {"mean_shifted": 0.01, "infonce": 0.001, "simsiam": 0.01}
    fitted = embedder(contrastive=contrastive, positive_weight=0, negatives=None, max_iter=60)
    fitted.set_params(learning_rate=rates[contrastive])
    loss = fitted.fit(IMAGES).history_["contrastive"]
    assert loss[-10:].mean() < loss[:10].mean()


def test_positive_pairs_make_one_tight_cluster():
    def spread(weight):
        fitted = embedder(positive_weight=weight, negatives=None, max_iter=40)
        h = fitted.fit_transform(IMAGES)
        return 1 - (h @ h.T).mean()

    assert spread(10) < spread(0)


@pytest.mark.parametrize(("shots", "weight"), [(2, 0.25), (6, 0.75), (20, 2)])
def test_automatic_weight_of_positive_pairs_goes_by_the_shots(shots, weight):
    images = np.concatenate([IMAGES] * 4)[:shots]
    history = embedder(negatives=None).fit(images).history_
    total = history["contrastive"] + weight * history["positive"]
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5, atol=1e-6)
    by_label = embedder(negatives=None).fit(
        np.concatenate([images, IMAGES]), [1] * shots + [-1] * 6
    )
    assert_array_equal(by_label.history_["loss"], history["loss"])


def test_negative_pairs_push_anomalies_away():
    def cosine(weight):
        fitted = embedder(negative_weight=weight, negatives="noise_texture", max_iter=40)
        return fitted.fit(IMAGES).history_["negative"][-5:].mean()

    assert cosine(10) < cosine(1e-6)


def test_no_iterations_is_the_frozen_backbone():
    fitted = embedder(max_iter=0).fit(IMAGES)
    assert fitted.n_iter_ == 0 and fitted.history_ == {}
    own, given = fitted.network_.body.state_dict(), TinyNet().state_dict()
    assert all(torch.equal(own[k], given[k]) for k in given)


def test_batch_norm_keeps_its_statistics_and_trains_its_affine_part():
    fitted = embedder(learning_rate=0.1).fit(IMAGES)
    own, given = fitted.network_.body.layers[1], TinyNet().layers[1]
    assert torch.equal(own.running_mean, given.running_mean)
    assert torch.equal(own.running_var, given.running_var)
    assert not torch.equal(own.weight, given.weight)
    assert not fitted.network_.training


def test_recomputed_activations_give_the_same_fit(monkeypatch):
    kept = embedder(negative_weight=1).fit(IMAGES)
    calls = []

    def spy(function, *args, **options):
        calls.append(len(args[0]))
        return torch.utils.checkpoint.checkpoint(function, *args, **options)

    monkeypatch.setattr(finetune, "RECOMPUTED", 0)
    monkeypatch.setattr(finetune, "checkpoint", spy)
    again = embedder(negative_weight=1).fit(IMAGES)
    assert calls and max(calls) == 4
    np.testing.assert_allclose(again.history_["loss"], kept.history_["loss"], rtol=1e-5)
    np.testing.assert_allclose(again.transform(IMAGES), kept.transform(IMAGES), atol=1e-5)


def test_interrupt_stops_cleanly(monkeypatch):
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw_shots(*args)

    monkeypatch.setattr(finetune, "draw_shots", interrupted)
    fitted = embedder(max_iter=9)
    with pytest.warns(UserWarning, match="interrupted after 2 of 9 iterations"):
        fitted.fit(IMAGES)
    assert fitted.n_iter_ == 2 and len(fitted.history_["loss"]) == 2
    assert np.isfinite(fitted.transform(IMAGES)).all()


def test_loss_that_is_not_finite_stops():
    fitted = embedder(learning_rate=1e30, max_iter=20)
    with pytest.raises(FloatingPointError, match=r"at iteration \d+ of 20. Lower learning_rate"):
        fitted.fit(IMAGES)
    assert not hasattr(fitted, "network_")


def test_progress_only_where_asked(capsys):
    embedder(verbose=0).fit(IMAGES)
    silent = capsys.readouterr()
    assert silent.out == silent.err == ""
    embedder(verbose=1).fit(IMAGES)
    assert "fine-tuning: 100%" in capsys.readouterr().err


def test_shots_are_drawn_evenly():
    shots = draw_shots(4, 32, torch.Generator().manual_seed(0))
    assert torch.bincount(shots).tolist() == [8] * 4
    assert len(set(draw_shots(20, 8, torch.Generator().manual_seed(0)).tolist())) == 8


def test_nothing_to_train():
    frozen = TinyNet().requires_grad_(False)
    with pytest.raises(ValueError, match=r"requires a gradient; pass max_iter=0"):
        embedder(backbone=frozen).fit(IMAGES)
    assert np.isfinite(embedder(backbone=frozen, max_iter=0).fit_transform(IMAGES)).all()


@pytest.mark.parametrize("params", [{"negatives": None}, {"negative_weight": 0}])
def test_one_image_and_nothing_to_contrast(params):
    with pytest.raises(ValueError, match="one image .* nothing to contrast it with: negatives="):
        embedder(**params).fit(IMAGES[:1])
    embedder(**params, max_iter=0).fit(IMAGES[:1])
    embedder(**params, contrastive="simsiam").fit(IMAGES[:1])


def test_one_image_is_left_to_the_frozen_backbone_unless_asked_for():
    one = IMAGES[:1]
    fitted = embedder(learning_rate="auto").fit(one)
    assert fitted.n_iter_ == 0 and fitted.history_ == {}
    assert_array_equal(fitted.transform(IMAGES), embedder(max_iter=0).fit(one).transform(IMAGES))
    assert embedder(learning_rate="auto", negatives=None).fit(one).n_iter_ == 0
    assert embedder(learning_rate="auto").fit(IMAGES[:2]).n_iter_ == 4
    assert embedder(learning_rate=2e-5).fit(one).n_iter_ == 4
    labelled = embedder(learning_rate="auto", negatives="labelled")
    assert labelled.fit(IMAGES[:3], [1, -1, -1]).n_iter_ == 4


# views and negatives


def test_options_of_random_views_as_augmentation():
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    drawn = make_views({"degrees": 180, "flip": 0}, None)(images, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    expected = random_views(images, generator=generator, degrees=180, flip=0)
    assert torch.equal(drawn, expected)


def test_turned_views_know_turned_images():
    """Of a texture with a direction, views of every orientation cover what gentle ones do not."""
    stripes = np.indices((32, 32))[0] % 8 < 4
    shots = np.stack([np.roll(stripes, i, axis=0) for i in range(6)]).astype(np.float32)
    turned = np.rot90(shots, axes=(1, 2))
    gains = [
        detector.score_samples(turned).mean() - detector.score_samples(shots).mean()
        for detector in (
            COFTDetector(
                TinyNet(), max_iter=0, n_views=32, augmentation=options, random_state=0
            ).fit(shots)
            for options in ({}, {"degrees": 180})
        )
    ]
    assert gains[1] > gains[0] / 2


def test_torchvision_pipeline_as_augmentation():
    pipeline = v2.Compose([v2.RandomResizedCrop(16, scale=(0.5, 1)), v2.ColorJitter(0.4, 0.4)])
    state = torch.get_rng_state()
    first, again = (embedder(augmentation=pipeline).fit_transform(IMAGES) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)
    views = make_views(pipeline, None)
    same = torch.from_numpy(IMAGES[:1]).permute(0, 3, 1, 2).repeat(4, 1, 1, 1)
    drawn = views(same, torch.Generator().manual_seed(0))
    assert len({d.numpy().tobytes() for d in drawn}) == 4  # one draw per image


@pytest.mark.parametrize(
    "negatives",
    [
        "cutpaste",
        "rotation",
        "patch_shuffle",
        "noise_texture",
        lambda images: 1 - images,
        ["cutpaste", "rotation", lambda images: images * 0],
    ],
)
def test_negatives(negatives):
    history = embedder(negatives=negatives).fit(IMAGES).history_
    assert (history["negative"] > 0).all()


def test_a_list_of_negatives_is_drawn_from_per_image():
    kinds = [lambda images: images * 0, lambda images: images * 0 + 1]
    synthesize = make_synthesizer(kinds, nn.Identity(), None, None)
    out = synthesize(torch.full((200, 3, 2, 2), 0.5), torch.Generator().manual_seed(0))
    share = out.mean().item()
    assert set(out.unique().tolist()) == {0, 1} and 0.35 < share < 0.65


def test_labelled_negatives():
    anomalies = np.zeros((3, 16, 16, 3), np.float32)
    X, y = np.concatenate([IMAGES, anomalies]), np.r_[np.ones(6), -np.ones(3)]
    labelled = embedder(negatives="labelled", negative_weight=5, max_iter=40).fit(X, y)
    plain = embedder(negatives=None, max_iter=40).fit(IMAGES)

    def cosine(fitted):
        return (fitted.transform(IMAGES) @ fitted.transform(anomalies).T).mean()

    assert cosine(labelled) < cosine(plain)


@pytest.mark.parametrize(
    "y, message",
    [
        (None, "requires y, with -1 for anomalies; got None"),
        ([1, 1, 1, 1, 1, 0], r"both \+1 .* and -1 .* got labels \[0, 1\]"),
        ([1] * 6, r"got labels \[1\]"),
        (["a", "b"] * 3, r"got labels \['a', 'b'\]"),
        ([1, -1], "inconsistent numbers of samples"),
    ],
)
def test_labels_that_cannot_be_used(y, message):
    with pytest.raises(ValueError, match=message):
        embedder(negatives="labelled").fit(IMAGES, y)


@pytest.mark.parametrize("name", ["augmentation", "negatives"])
@pytest.mark.parametrize(
    "function, message",
    [
        (lambda images: images[..., :4], r"callable must keep the shape \(1, 3, 16, 16\)"),
        (lambda images: 5, "callable must return tensors of one shape"),
    ],
)
def test_callable_that_changes_shapes_fails_before_training(name, function, message, monkeypatch):
    monkeypatch.setattr("skcoft._embedder.fine_tune", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(ValueError, match=f"The {name} {message}"):
        embedder(**{name: function}).fit(IMAGES)
