"""Fits are whole or not there, and depend on nothing that the caller has set."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_val_predict

import skcoft._model as model_module
from skcoft import COFTDetector, COFTEmbedder
from skcoft.model_selection import OneClassKFold

PARAMS = dict(max_iter=2, learning_rate=0.01, random_state=0, n_views=2)


def detector(**params):
    return COFTDetector(TinyNet(), **{**PARAMS, **params})


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_refit_that_fails_leaves_the_earlier_fit(method, error, photos, monkeypatch):
    """Even where it fails last of all, on setting the threshold."""
    fitted = detector().fit(photos[:6])
    before, state = fitted.score_samples(photos), dict(vars(fitted))

    def fail(*args):
        raise error

    monkeypatch.setattr(model_module, "automatic_offset", fail)
    with pytest.raises(error):
        getattr(fitted, method)(photos[6:])
    assert vars(fitted) == state
    assert_array_equal(fitted.score_samples(photos), before)


def test_a_first_fit_that_fails_leaves_nothing():
    unfitted = COFTDetector(density=NoDensity(), max_iter=0)
    with pytest.raises(ValueError):
        unfitted.fit(np.eye(8))
    assert vars(unfitted) == vars(COFTDetector(density=unfitted.density, max_iter=0))


def test_columns_are_forgotten_by_a_fit_on_images(photos):
    for estimator in (detector(), COFTEmbedder(TinyNet(), max_iter=0)):
        rows = np.random.default_rng(0).normal(size=(8, 3))
        assert estimator.fit(rows).n_features_in_ == 3
        assert not hasattr(estimator.fit(photos), "n_features_in_")
    frame = detector().fit(rows).embedder_
    assert frame.n_features_in_ == 3


class NoDensity(BaseEstimator):
    """A density that has no answer for what it has not seen."""

    def __init__(self, value=np.nan):
        self.value = value

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def score_samples(self, X):
        return np.full(len(X), self.value)


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
@pytest.mark.parametrize("contamination", ["auto", 0.1])
def test_scores_that_are_not_finite_set_no_threshold(value, contamination, photos):
    broken = detector(density=NoDensity(value), contamination=contamination, local=False)
    with pytest.raises(ValueError, match="density=NoDensity"):
        broken.fit(photos[:6])


def test_a_score_that_is_not_a_number_is_not_normal(photos):
    fitted = detector(density=NoDensity(0.0), local=False).fit(photos[:6])
    new = photos[6:]
    assert_array_equal(fitted.predict(new), 1)
    fitted.density_.value = np.nan
    assert_array_equal(fitted.predict(new), -1)
    assert_array_equal(fitted.predict_pvalue(new), 1 / 7)
    for setting in (
        lambda: fitted.set_threshold(new, max_fpr=0.5),
        lambda: fitted.tune_threshold(new, [1] * 3 + [-1] * 3),
    ):
        with pytest.raises(ValueError):
            setting()
    fitted.density_.value = -np.inf
    assert_array_equal(fitted.predict(new), -1)


def test_partial_fit_warns_if_it_replaces_a_threshold_that_was_set(photos):
    fitted = detector().fit(photos[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.partial_fit(photos[4:5])
    cases = (
        (lambda: fitted.set_threshold(photos[5:], max_fpr=0.25), r"set_threshold\(max_fpr=0.25\)"),
        (lambda: fitted.tune_threshold(photos[6:], [1] * 3 + [-1] * 3), "tune_threshold"),
        (lambda: setattr(fitted, "offset_", 5.0), "offset_=5"),
        (
            lambda: setattr(fitted.set_threshold(photos[8:], max_fpr=0.25), "offset_", 4.0),
            "offset_=4",
        ),
    )
    for i, (set_threshold, source) in enumerate(cases, start=5):
        set_threshold()
        offset = fitted.offset_
        with pytest.warns(UserWarning, match=f"set by {source}"):
            fitted.partial_fit(photos[i : i + 1])
        assert fitted.offset_ != offset
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.set_threshold(photos[9:], max_fpr=0.25).fit(photos[:4])
        fitted.partial_fit(photos[4:5])


def test_set_threshold_warns_of_duplicates_and_training_images(photos):
    fitted = detector().fit(photos[:4])
    for X, kind in (
        (np.concatenate([photos[4:], photos[4:6]]), "exactly the score"),
        (photos[2:], "training images"),
    ):
        with pytest.warns(UserWarning, match=f"2 of the 10 images of X .*{kind}"):
            fitted.set_threshold(X, max_fpr=0.25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.set_threshold(photos[4:], max_fpr=0.25)


CONTEXTS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("backbone", ["tiny", "resnet10t", "rows"])
def test_contexts_of_torch_change_nothing(context, backbone, photos):
    network = TinyNet() if backbone == "tiny" else "resnet10t"

    def run():
        if backbone == "rows":
            X = np.random.default_rng(0).normal(size=(9, 4))
            return COFTDetector(**PARAMS).fit(X).score_samples(X)
        fitted = COFTDetector(network, weights=None, image_size=32, **PARAMS).fit(photos[:5])
        fitted.partial_fit(photos[5:6])
        assert np.isfinite(fitted.anomaly_map(photos)).all()
        assert np.isfinite(fitted.embedder_.transform(photos)).all()
        return fitted.score_samples(photos)

    expected = run()
    with CONTEXTS[context]():
        actual = run()
    assert_array_equal(actual, expected)


def test_the_default_type_of_torch_changes_nothing_and_stays(photos):
    first, second = detector(), detector()
    expected = first.fit(photos[:5]).score_samples(photos)
    torch.set_default_dtype(torch.float64)
    try:
        actual = second.fit(photos[:5]).score_samples(photos)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert_array_equal(actual, expected)


def noisy(image):
    """An augmentation that draws from torch's global generator."""
    return (image + 0.1 * torch.randn(image.shape)).clamp(0, 1)


@pytest.mark.parametrize("contrastive", ["mean_shifted", "simsiam"])
def test_seeds_hold_under_threads(contrastive, photos):
    def run(seed):
        fitted = COFTDetector(
            "resnet10t",
            weights=None,
            image_size=32,
            contrastive=contrastive,
            augmentation=noisy,
            **{**PARAMS, "random_state": seed},
        )
        return fitted.fit(photos[:5]).score_samples(photos)

    torch.manual_seed(7)
    state = torch.get_rng_state()
    expected = [run(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(run, range(4)))
    assert_array_equal(actual, expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_of_two_threads_that_add_shots_neither_loses_any(photos):
    fitted = detector(max_iter=0).fit(photos[:4])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: fitted.partial_fit(photos[i : i + 1]), range(4, 12)))
    assert len(fitted.embeddings_) == 12 and len(fitted.calibration_scores_) == 12


def test_tools_that_ask_for_classes(photos):
    """``classes_`` is what scikit-learn's own tools for classifiers need."""
    y = [1] * 8 + [-1] * 4
    X = np.concatenate([photos[:8], photos[8:] // 4])
    fitted = detector().fit(X[:6])
    assert_array_equal(fitted.classes_, [-1, 1])
    actual = cross_val_predict(detector(), X, y, cv=Folds(), method="decision_function")
    assert actual.shape == (12,) and np.isfinite(actual).all()
    calibrated = CalibratedClassifierCV(FrozenEstimator(fitted)).fit(X, y)
    probability = calibrated.predict_proba(X)
    assert probability.shape == (12, 2) and probability[8:, 0].mean() > probability[:8, 0].mean()


class Folds(OneClassKFold):
    """Two folds that also cut the anomalies, as ``cross_val_predict`` needs."""

    def __init__(self):
        super().__init__(2)

    def split(self, X, y=None, groups=None):
        for part in (0, 1):
            test = np.arange(len(X)) % 2 == part
            yield np.flatnonzero(~test & (np.asarray(y) == 1)), np.flatnonzero(test)


@pytest.mark.parametrize("kind", ["images", "rows"])
def test_detectors_load_under_any_setting_of_torch(kind):
    X = np.random.default_rng(0).random((6, 16, 16) if kind == "images" else (6, 4))
    fitted = COFTDetector("embedded", max_iter=0, random_state=0).fit(X)
    stored, expected = pickle.dumps(fitted), fitted.score_samples(X)
    torch.set_default_dtype(torch.float64)
    try:
        assert_array_equal(pickle.loads(stored).score_samples(X), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert_array_equal(pickle.loads(stored).score_samples(X), expected)
    with torch.inference_mode():
        assert_array_equal(pickle.loads(stored).score_samples(X), expected)


def test_an_infinite_score_is_not_normal(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(20, 3))
    fitted = COFTDetector(max_iter=0, random_state=0).fit(rows)
    monkeypatch.setattr(COFTDetector, "score_samples", lambda self, X: np.full(len(X), np.inf))
    assert_array_equal(fitted.predict(rows), -1)
    assert_array_equal(fitted.predict_pvalue(rows), 1 / 21)


def test_rows_in_any_memory_layout():
    rows = np.random.default_rng(0).normal(size=(20, 4))
    fitted = COFTDetector(max_iter=0, random_state=0).fit(rows)
    expected = fitted.score_samples(rows)
    assert_array_equal(fitted.score_samples(rows[::-1])[::-1], expected)
    COFTDetector(max_iter=1, random_state=0).fit(rows[::-1, ::-1])


def test_partial_fit_rejects_other_components_than_those_of_fit():
    X = np.random.default_rng(0).random((6, 16, 16))
    fitted = COFTDetector("embedded", max_iter=0, local=False, random_state=0).fit(X)
    for params, name in (
        ({"local": True, "multiscale": True}, "local=True"),
        ({"local": False, "multiscale": False}, "multiscale differs"),
    ):
        with pytest.raises(ValueError, match=name):
            fitted.set_params(**params).partial_fit(X[:1] / 2)
    fitted.set_params(multiscale=True).partial_fit(X[:1] / 2)
