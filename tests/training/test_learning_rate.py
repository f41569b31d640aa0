from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TinyNet

from skcoft import COFTDetector, COFTEmbedder
from skcoft._input.defaults import IMAGE_DEFAULTS, TABULAR_DEFAULTS
from skcoft._training import learning_rate
from skcoft._training.batches import StoredBatches
from skcoft._training.learning_rate import automatic_rate

NETWORK = {"backbone": "resnet10t", "weights": None, "image_size": 64, "random_state": 0}


def encoder_of(defaults):
    return SimpleNamespace(network=SimpleNamespace(defaults=defaults))


def rate_of(ratio, n_shots=3, has_anomalies=False):
    """Return the rate for shots at a within/between ratio: unit vectors of a plane."""
    shots = np.eye(3)[:n_shots]  # the squared distance of any two is 2
    views = np.repeat(shots, 2, axis=0)
    views[:, 0] += np.tile([1, -1], n_shots) * ratio**0.5  # within: twice the ratio
    stored = StoredBatches([], views, np.repeat([5, 7, 9][:n_shots], 2))
    arguments = shots, np.array([5, 7, 9][:n_shots]), stored, has_anomalies
    return automatic_rate(encoder_of(IMAGE_DEFAULTS), *arguments)


@pytest.mark.parametrize(
    ("ratio", "rate"), [(0.51, 0.51**2 * 1e-4), (0.8, 6.4e-5), (1, 1e-4), (9, 1e-4)]
)
def test_the_rate_of_last_stages_grows_with_the_square_of_the_ratio_up_to_one(ratio, rate):
    assert rate_of(ratio) == pytest.approx(rate)


def test_shots_that_differ_far_more_than_views_are_not_trained_on_without_anomalies():
    assert rate_of(0.49) == 0
    assert rate_of(0.2, has_anomalies=True) == pytest.approx(4e-6)


def test_one_shot_has_the_rate_of_a_ratio_of_one_half():
    assert rate_of(9, n_shots=1, has_anomalies=True) == pytest.approx(2.5e-5)


@pytest.mark.parametrize(("defaults", "rate"), [(IMAGE_DEFAULTS, 2e-5), (TABULAR_DEFAULTS, 1e-3)])
def test_whole_networks_have_a_constant_rate_that_depends_on_the_input_type(defaults, rate):
    assert automatic_rate(encoder_of(defaults), np.eye(2), np.arange(2), None, False) == rate


def different_and_alike():
    """Two sets of images: of random colours, and of one pattern with little noise."""
    rng = np.random.default_rng(0)
    different = np.ones((4, 64, 64, 3)) * rng.random((4, 1, 1, 3)) * rng.random((4, 64, 1, 1))
    alike = np.tile(rng.random((64, 64, 3)), (4, 1, 1, 1)) + 0.05 * rng.random((4, 64, 64, 3))
    return different, alike / alike.max()


def test_a_fit_says_whether_the_backbone_was_fine_tuned(monkeypatch):
    _, alike = different_and_alike()
    tuned = COFTEmbedder(**NETWORK, max_iter=2).fit(alike)
    assert tuned.tuned_ is True and tuned.n_iter_ == 2
    monkeypatch.setattr(learning_rate, "MIN_RATIO", np.inf)
    frozen = COFTDetector(**NETWORK, max_iter=2).fit(alike)
    assert frozen.tuned_ is False and frozen.n_iter_ == 0 and frozen.history_ == {}
    assert COFTEmbedder(**NETWORK, max_iter=2, learning_rate=1e-5).fit(alike).tuned_
    several = COFTEmbedder([TinyNet(), TinyNet()], max_iter=0, image_size=16).fit(alike)
    assert several.tuned_ == [False, False]


def test_a_frozen_fit_equals_one_without_iterations(monkeypatch):
    different, _ = different_and_alike()
    monkeypatch.setattr(learning_rate, "MIN_RATIO", np.inf)
    gated = COFTDetector(**NETWORK, max_iter=2).fit(different)
    frozen = COFTDetector(**NETWORK, max_iter=0).fit(different)
    np.testing.assert_array_equal(gated.score_samples(different), frozen.score_samples(different))


def test_the_ratio_is_that_of_the_shots_and_of_their_views(monkeypatch):
    calls = []

    def spy(*args):
        calls.append(args)
        return 1.0

    monkeypatch.setattr(learning_rate, "within_between_ratio", spy)
    different, _ = different_and_alike()
    options = {**NETWORK, "max_iter": 9, "batch_size": 5, "augmentation": lambda image: image}
    embedder = COFTEmbedder(**options).fit(different, groups=[0, 0, 1, 2])
    shots, views, shot_of_view = calls[0]
    assert shots.shape[0] == 3 and len(views) == 8 * 2 * 5 and embedder.tuned_
    single = shot_of_view > 0  # shots of one image, whose views are the image
    np.testing.assert_allclose(views[single], shots[shot_of_view[single]], atol=1e-5)
