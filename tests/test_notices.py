"""What would go wrong without a word: black masks, plain images, networks that tell nothing."""

import warnings

import joblib
import numpy as np
import pytest
import torch
from conftest import TinyNet
from PIL import Image
from torch import nn

from skcoft import COFTDetector, COFTEmbedder

MASKS = np.random.default_rng(0).integers(0, 2, (6, 16, 16), dtype=np.uint8)


def detector(**params):
    return COFTDetector(**{"backbone": TinyNet(), "max_iter": 0, "random_state": 0, **params})


KINDS = {
    "array": lambda masks: masks,
    "list": list,
    "PIL": lambda masks: [Image.fromarray(mask) for mask in masks],
    "int64": lambda masks: masks.astype(np.int64),
    "tensor": lambda masks: torch.from_numpy(masks)[:, None],
    "float": lambda masks: masks / 255,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings(
    "ignore:X holds .*duplicate", "ignore:contam", "ignore:The images hold"
)
def test_masks_of_whole_numbers_are_noticed(kind, photos):
    for method in (detector().fit, detector().fit(photos[..., 0][:4]).score_samples):
        with pytest.warns(UserWarning, match="no value above 1 of 255"):
            method(KINDS[kind](MASKS))


@pytest.mark.parametrize("X", [MASKS.astype(bool), MASKS * 255, MASKS.astype(float)], ids=str)
def test_masks_that_are_black_and_white_are_images(X):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = detector().fit(X)
        fitted.predict(X)
        fitted.predict(np.zeros((1, 16, 16)))  # one that is wholly black


@pytest.mark.parametrize("color", [0, 128, (200, 30, 90)])
@pytest.mark.filterwarnings("ignore:X holds .*duplicate", "ignore:contam")
def test_shots_of_one_colour_are_noticed(color):
    X = np.full((4, 16, 16, 3), color, np.uint8)
    for estimator in (detector(), COFTEmbedder(TinyNet(), max_iter=0)):
        with pytest.warns(UserWarning, match="of one colour"):
            estimator.fit(X)
    X[2, 0, 0] += 1
    with warnings.catch_warnings(record=True) as actual:
        warnings.simplefilter("always")
        detector().fit(X)
    assert not any("of one colour" in str(warning.message) for warning in actual)


class Mean(nn.Module):
    """The mean colour, times and plus something."""

    def __init__(self, times=1.0, plus=0.0):
        super().__init__()
        self.times = nn.Parameter(torch.tensor(times))
        self.plus = plus

    def forward(self, images):
        return images.mean(dim=(2, 3)) * self.times + self.plus


@pytest.mark.parametrize("estimator", [COFTDetector, COFTEmbedder])
@pytest.mark.parametrize("max_iter", [0, 2])
@pytest.mark.parametrize(
    "module, message",
    [
        (Mean(0.0), "the same features"),
        (Mean(0.0, 1.0), "the same features"),
        (Mean(torch.nan), "NaN or infinite features"),
        (Mean(torch.inf), "NaN or infinite features"),
    ],
    ids=["zero", "constant", "NaN", "infinity"],
)
def test_networks_that_tell_nothing(module, message, max_iter, estimator, photos):
    with pytest.raises(ValueError, match=message):
        estimator(module, max_iter=max_iter).fit(photos[:4])


def test_features_that_are_not_finite_of_some_images(photos):
    """They are an error, not an embedding."""

    class Ratio(nn.Module):
        def forward(self, images):
            mean = images.mean(dim=(2, 3))
            return torch.cat([mean, 1 / (mean[:, :1] - 1)], dim=1)

    fitted = COFTEmbedder(Ratio(), max_iter=0).fit(photos[:4])
    white = np.full((1, 24, 20, 3), 255, np.uint8)
    for method in (fitted.transform, COFTDetector(Ratio(), max_iter=0).fit(photos[:4]).predict):
        with pytest.raises(ValueError, match="NaN or infinite features"):
            method(white)


@pytest.mark.parametrize("local", [True, False])
def test_a_share_of_images_after_more_of_them(local, photos):
    """It is met in fit and after every ``partial_fit``."""
    fitted = detector(contamination=0.25, local=local).fit(photos[:8])
    assert (fitted.predict(photos[:8]) == -1).mean() == 0.25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.partial_fit(photos[8:])
    assert (fitted.predict(photos) == -1).mean() == 0.25


class Maps(TinyNet):
    """A network that offers what some function makes of its last map."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, images):
        return super().forward(images).mean(dim=(2, 3))

    def forward_intermediates(self, images, indices=None):
        last = super().forward(images)
        maps = [last, self.change(last)]
        return last, maps if indices is None else [maps[i] for i in indices]

    def forward_head(self, last):
        return last


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda last: last.mean(dim=(2, 3)), r"shape \(1, 16\)"),
        (lambda last: last.flatten(2).mT, r"shape \(1, 30, 16\)"),
        (lambda last: last * torch.nan, "NaN"),
    ],
    ids=["vector", "tokens", "NaN"],
)
def test_maps_that_are_none(change, reason, photos):
    with pytest.warns(UserWarning, match=reason):
        fitted = COFTDetector(Maps(change), max_iter=0).fit(photos[:4])
    assert np.isfinite(fitted.score_samples(photos)).all()


def test_other_maps_than_were_asked_for(photos):
    class All(Maps):
        def forward_intermediates(self, images, indices=None):
            return super().forward_intermediates(images)

    with pytest.warns(UserWarning):
        COFTDetector(All(lambda last: last[..., ::2, ::2]), max_iter=0).fit(photos[:4])


def test_maps_that_are_not_finite_of_some_images(photos):
    """The least likely positions of an image would be those that are left."""

    class Bright(Maps):
        def forward_intermediates(self, images, indices=None):
            last, maps = super().forward_intermediates(images)
            white = images.amin(dim=(1, 2, 3), keepdim=True) == 1
            maps[1] = torch.where(white, torch.nan, maps[1])
            return last, maps if indices is None else [maps[i] for i in indices]

    fitted = COFTDetector(Bright(lambda last: last * 2), max_iter=0).fit(photos[:4])
    with pytest.raises(ValueError):
        fitted.score_samples(np.full((1, 24, 20, 3), 255, np.uint8))


@pytest.fixture
def warn_always():
    """Torch warns but once a program of some things."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.mark.parametrize("kind", ["images", "rows"])
def test_arrays_that_joblib_maps_into_memory(kind, photos, tmp_path, warn_always):
    """Nothing is written to them, and torch has no word to say."""
    X = photos if kind == "images" else np.random.default_rng(0).normal(size=(12, 5))
    fitted = detector().fit(X[:6])
    joblib.dump(fitted, tmp_path / "detector")
    joblib.dump(X, tmp_path / "X")
    mapped, queries = (joblib.load(tmp_path / name, mmap_mode="r") for name in ("detector", "X"))
    support = mapped._model.joint.backbone_scores[0].support
    assert not support.embeddings.flags.writeable and not queries.flags.writeable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(mapped.score_samples(queries), fitted.score_samples(X))
        actual = mapped.partial_fit(queries[6:9]).score_samples(queries)
    np.testing.assert_array_equal(actual, fitted.partial_fit(X[6:9]).score_samples(X))
