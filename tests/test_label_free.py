"""What LabelFreeScorer makes of images; how it is used is in test_model_selection.py."""

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
    """Scores images by their brightness and remembers them."""

    def __init__(self):
        self.seen = []

    def score_samples(self, X):
        self.seen.append(torch.as_tensor(X))
        return self.seen[-1].mean(dim=(1, 2, 3)).numpy()


def grays(*levels):
    return np.stack([np.full((12, 12), level) for level in levels])


def test_what_is_scored_label_free():
    """Images as they are, then each kind of anomaly, 4 of every image by one seed."""
    images = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    images = images.expand(-1, 3, -1, -1)
    brightness = Brightness()
    LabelFreeScorer(random_state=7)(brightness, images)
    generator = torch.Generator().manual_seed(7)
    repeated = images.repeat_interleave(4, dim=0)
    normal, *anomalous = brightness.seen
    assert torch.equal(normal, images)
    for made, kind in zip(anomalous, (crack, patch_shuffle, smudge, warp), strict=True):
        assert torch.equal(made, kind(repeated, generator=generator))


@pytest.mark.parametrize("n_draws", [1, 3])
def test_number_of_draws(n_draws):
    brightness = Brightness()
    LabelFreeScorer(["warp"], n_draws=n_draws)(brightness, grays(0.2, 0.4))
    assert [len(images) for images in brightness.seen] == [2, 2 * n_draws]


def test_images_are_scored_32_at_a_time():
    brightness = Brightness()
    LabelFreeScorer(["warp"], n_draws=2)(brightness, grays(*np.linspace(0, 1, 40)))
    assert [len(images) for images in brightness.seen] == [32, 32 * 2, 8, 8 * 2]


def darker(by):
    return lambda images: (images - by).clamp(0, 1)


@pytest.mark.parametrize("kinds, expected", [((1, 0, 0), 1 / 3), ((1, 1, 0), 2 / 3)])
def test_label_free_scores_are_means_over_kinds(kinds, expected):
    kinds = [darker(0.4 if kind else -0.4) for kind in kinds]
    assert LabelFreeScorer(kinds)(Brightness(), grays(*[0.5] * 4)) == pytest.approx(expected)


def test_label_free_scores_compare_all_images_with_all_anomalies():
    """Also those of different images and of different batches."""
    X = grays(*[0.2] * 32, *[0.8] * 8)
    score = LabelFreeScorer([darker(0.15)], n_draws=1)(Brightness(), X)
    # bright anomalies (0.65) are told from bright images, but not from dark ones
    assert score == pytest.approx(0.8 + 0.2 * 0.2)


def test_scores_go_before_decisions():
    class Both(Brightness):
        def decision_function(self, X):
            raise AssertionError

    assert LabelFreeScorer([darker(0.4)])(Both(), grays(0.5, 0.5)) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_rows_are_given_as_rows(dtype):
    """Channels last, of the type they came in, and rounded, not cut."""
    photos = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3)) / 255
    rows = photos.reshape(3, -1)
    rows = (rows * 255).round().astype(dtype) if dtype == np.uint8 else rows
    seen = []

    class Table(BaseEstimator):
        def score_samples(self, X):
            seen.append(X)
            return np.asarray(X, dtype=float).mean(axis=1)

    def dimmed(images):
        return images - 0.6 / 255 * (images > 0.5)

    LabelFreeScorer([dimmed], n_draws=1, image_shape=(6, 5, 3))(Table(), rows)
    np.testing.assert_allclose(seen[0], rows, atol=1e-6)
    assert seen[0].dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    expected = photos - 0.6 / 255 * (photos > 0.5)
    expected = (expected * 255).round() if dtype == np.uint8 else expected
    np.testing.assert_allclose(seen[1], expected.reshape(3, -1), atol=1e-6)


def test_whole_numbers_are_read_by_the_bits_of_the_fit():
    """As the detector itself reads them, whatever the greatest value in X; also in a pipeline."""
    X = np.random.default_rng(0).integers(0, 1000, (6, 12, 12)).astype(np.uint16)
    seen = []

    class Spy(COFTDetector):
        def score_samples(self, X):
            seen.append(float(X.max()))
            return super().score_samples(X)

    detector = Spy(TinyNet(), max_iter=0, bit_depth=12, random_state=0).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for estimator in (detector, make_pipeline(detector)):
            seen.clear()
            LabelFreeScorer(["warp"], n_draws=1)(estimator, X)
            assert seen[0] == pytest.approx(X.max() / 4095)
    fitted = COFTDetector(TinyNet(), max_iter=0, random_state=0).fit((X / 4).astype(np.uint8))
    with pytest.raises(ValueError, match="the estimator was fitted on images of 8 bits"):
        LabelFreeScorer(["warp"])(fitted, X)
    seen.clear()
    scaled = make_pipeline(FunctionTransformer(lambda X: torch.as_tensor(X) / 2), fitted)
    with pytest.warns(UserWarning, match="10 bits"):
        assert 0 <= LabelFreeScorer(["warp"], n_draws=1)(scaled, X) <= 1
