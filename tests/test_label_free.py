"""How LabelFreeScorer synthesises anomalies and scores them; see also test_model_selection.py."""

import warnings

import numpy as np
import pytest
import torch
from conftest import TinyNet
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skcoft import COFTDetector
from skcoft.augmentation import crack, patch_shuffle, smudge, warp
from skcoft.model_selection import LabelFreeScorer


class Brightness(BaseEstimator):
    """Score images by their brightness and record them."""

    def __init__(self):
        self.batches = []

    def score_samples(self, X):
        self.batches.append(torch.as_tensor(X))
        return self.batches[-1].mean(dim=(1, 2, 3)).numpy()


def grays(*levels):
    return np.stack([np.full((12, 12), level) for level in levels])


def test_images_are_scored_before_four_anomalies_of_each_kind():
    """All anomalies are drawn from one seed."""
    images = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    images = images.expand(-1, 3, -1, -1)
    brightness = Brightness()
    LabelFreeScorer(random_state=7)(brightness, images)
    generator = torch.Generator().manual_seed(7)
    repeated = images.repeat_interleave(4, dim=0)
    normal, *anomalous = brightness.batches
    assert torch.equal(normal, images)
    for anomalies, kind in zip(anomalous, (crack, patch_shuffle, smudge, warp), strict=True):
        assert torch.equal(anomalies, kind(repeated, generator=generator))


@pytest.mark.parametrize("n_draws", [1, 3])
def test_number_of_draws(n_draws):
    brightness = Brightness()
    LabelFreeScorer(["warp"], n_draws=n_draws)(brightness, grays(0.2, 0.4))
    assert [len(images) for images in brightness.batches] == [2, 2 * n_draws]


def test_images_are_scored_32_at_a_time():
    brightness = Brightness()
    LabelFreeScorer(["warp"], n_draws=2)(brightness, grays(*np.linspace(0, 1, 40)))
    assert [len(images) for images in brightness.batches] == [32, 32 * 2, 8, 8 * 2]


def darker(amount):
    return lambda images: (images - amount).clamp(0, 1)


@pytest.mark.parametrize("kinds, expected", [((1, 0, 0), 1 / 3), ((1, 1, 0), 2 / 3)])
def test_label_free_scores_are_means_over_kinds(kinds, expected):
    kinds = [darker(0.4 if kind else -0.4) for kind in kinds]
    assert LabelFreeScorer(kinds)(Brightness(), grays(*[0.5] * 4)) == pytest.approx(expected)


def test_label_free_scores_compare_all_images_with_all_anomalies():
    """Images and anomalies of different images and batches are compared as well."""
    X = grays(*[0.2] * 32, *[0.8] * 8)
    score = LabelFreeScorer([darker(0.15)], n_draws=1)(Brightness(), X)
    # bright anomalies (0.65) are told from bright images, but not from dark ones
    assert score == pytest.approx(0.8 + 0.2 * 0.2)


def test_scores_are_preferred_to_decisions():
    class Both(Brightness):
        def decision_function(self, X):
            raise AssertionError

    assert LabelFreeScorer([darker(0.4)])(Both(), grays(0.5, 0.5)) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_flattened_images_are_scored_as_rows(dtype):
    """Rows have the channels last and the type of X; integers are rounded, not truncated."""
    photos = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3)) / 255
    rows = photos.reshape(3, -1)
    rows = (rows * 255).round().astype(dtype) if dtype == np.uint8 else rows
    batches = []

    class RowScorer(BaseEstimator):
        def score_samples(self, X):
            batches.append(X)
            return np.asarray(X, dtype=float).mean(axis=1)

    def dimmed(images):
        return images - 0.6 / 255 * (images > 0.5)

    LabelFreeScorer([dimmed], n_draws=1, image_shape=(6, 5, 3))(RowScorer(), rows)
    np.testing.assert_allclose(batches[0], rows, atol=1e-6)
    assert batches[0].dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    expected = photos - 0.6 / 255 * (photos > 0.5)
    expected = (expected * 255).round() if dtype == np.uint8 else expected
    np.testing.assert_allclose(batches[1], expected.reshape(3, -1), atol=1e-6)


def test_rows_of_images_with_an_opaque_alpha_channel_score_as_those_without(photos):
    alpha = np.full_like(photos[..., :1], 255)
    scores = []
    for X in (photos, np.concatenate([photos, alpha], axis=-1)):
        rows, shape = X.reshape(len(X), -1), X.shape[1:]
        detector = COFTDetector(TinyNet(), max_iter=0, random_state=0, image_shape=shape)
        scorer = LabelFreeScorer(n_draws=1, image_shape=shape, random_state=0)
        scores.append(scorer(detector.fit(rows[:6]), rows[6:]))
    assert scores[0] == scores[1]


def test_integers_are_read_with_the_bit_depth_of_the_training_images():
    """The maximum of X does not matter; the same holds in a pipeline."""
    X = np.random.default_rng(0).integers(0, 1000, (6, 12, 12)).astype(np.uint16)
    maxima = []

    class Spy(COFTDetector):
        def score_samples(self, X):
            maxima.append(float(X.max()))
            return super().score_samples(X)

    detector = Spy(TinyNet(), max_iter=0, bit_depth=12, random_state=0).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for estimator in (detector, make_pipeline(detector)):
            maxima.clear()
            LabelFreeScorer(["warp"], n_draws=1)(estimator, X)
            assert maxima[0] == pytest.approx(X.max() / 4095)
    fitted = COFTDetector(TinyNet(), max_iter=0, random_state=0).fit((X / 4).astype(np.uint8))
    with pytest.raises(ValueError) as caught:
        LabelFreeScorer(["warp"])(fitted, X)
    assert "8 bits" in str(caught.value)
    maxima.clear()
    scaled = make_pipeline(FunctionTransformer(lambda X: torch.as_tensor(X) / 2), fitted)
    with pytest.warns(UserWarning) as warned:
        assert 0 <= LabelFreeScorer(["warp"], n_draws=1)(scaled, X) <= 1
    assert any("10 bits" in str(warning.message) for warning in warned)
