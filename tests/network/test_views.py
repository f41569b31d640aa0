import numpy as np
import pytest
import torch
from conftest import TinyNet
from torchvision.transforms import v2

from skcoft import COFTDetector, COFTEmbedder
from skcoft._network.backbone import Backbone
from skcoft._network.tabular import TabularNetwork
from skcoft._network.views import (
    VIEW_OPTIONS,
    draw_labelled,
    image_synthesizer,
    make_synthesizer,
    make_views,
)
from skcoft.augmentation import SYNTHESIZERS, random_views

IMAGES = np.random.default_rng(0).random((6, 16, 16, 3)).astype(np.float32)


def embedder(**params):
    defaults = dict(backbone=TinyNet(), max_iter=4, learning_rate=0.01, random_state=0)
    return COFTEmbedder(**{**defaults, **params})


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_options_are_those_of_random_views():
    assert VIEW_OPTIONS == {
        "degrees": 5.0,
        "translate": 0.05,
        "scale": 0.1,
        "flip": 0.5,
        "brightness": 0.1,
        "contrast": 0.1,
    }


def test_no_augmentation_means_the_default_views():
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    for nothing in (None, {}):
        drawn = make_views(nothing, Backbone)(images, seeded())
        assert torch.equal(drawn, random_views(images, generator=seeded()))


@pytest.mark.parametrize("name", SYNTHESIZERS)
def test_a_name_means_its_function(name):
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    found = make_synthesizer(name, Backbone.make_synthesizer)(images, seeded())
    assert torch.equal(found, SYNTHESIZERS[name](images, generator=seeded()))


def test_rows_have_views_and_anomalies_of_their_own():
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3)))
    network = TabularNetwork(rows.numpy(), 0)
    drawn = make_views(None, network)(rows, seeded())
    assert torch.equal(drawn, network.views(rows, seeded()))
    for name in ("cutpaste", "crack"):
        made = make_synthesizer(name, network.make_synthesizer)(rows, seeded())
        assert torch.equal(made, network.shuffled(rows, seeded()))


def test_labelled_anomalies_are_drawn_as_views():
    """Of all of them, as many as there are images, seeded."""
    stored = torch.arange(3.0)[:, None, None, None].expand(3, 3, 4, 4)
    draw = draw_labelled(lambda index: stored[index], 3, lambda images, generator: images + 0.5)
    drawn = draw(torch.zeros(300, 3, 4, 4), seeded())
    assert drawn.shape == (300, 3, 4, 4)
    counts = {value: (drawn[:, 0, 0, 0] == value).sum().item() for value in (0.5, 1.5, 2.5)}
    assert sum(counts.values()) == 300 and min(counts.values()) > 70
    assert torch.equal(drawn, draw(torch.zeros(300, 3, 4, 4), seeded()))


def test_options_of_random_views_as_augmentation():
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    drawn = make_views({"degrees": 180, "flip": 0}, Backbone)(
        images, torch.Generator().manual_seed(0)
    )
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
    views = make_views(pipeline, Backbone)
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
    synthesize = make_synthesizer(kinds, image_synthesizer)
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
        (None, "y.*None"),
        ([1, 1, 1, 1, 1, 0], "labelled.*0, 1"),
        ([1] * 6, r"labelled.*\b1\b"),
        (["a", "b"] * 3, "'a', 'b'"),
        ([1, -1], "samples"),
    ],
)
def test_labels_that_cannot_be_used(y, message):
    with pytest.raises(ValueError, match=message):
        embedder(negatives="labelled").fit(IMAGES, y)


@pytest.mark.parametrize("name", ["augmentation", "negatives"])
@pytest.mark.parametrize(
    "function, message",
    [
        (lambda images: images[..., :4], r"\(1, 3, 16, 16\)"),
        (lambda images: 5, "tensors"),
    ],
)
def test_callable_that_changes_shapes_fails_before_training(name, function, message, monkeypatch):
    monkeypatch.setattr("skcoft._training.batches.draw_shots", lambda *a: pytest.fail("trained"))
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        embedder(**{name: function}).fit(IMAGES)
