import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity as TreeKernelDensity

from skcoft import COFTDetector
from skcoft.datasets import make_plates
from skcoft.density import GaussianDensity, KernelDensity


def detector(**params):
    defaults = dict(backbone=TinyNet(), max_iter=3, learning_rate=0.01, random_state=0)
    return COFTDetector(**{**defaults, **params})


@pytest.fixture
def fitted(task):
    return detector().fit(task[0])


@pytest.fixture
def task(digits):
    """8 shots; test images; their labels."""
    zeros, ones = digits
    X = np.concatenate([zeros[8:40], ones[:32]])
    return zeros[:8], X, np.r_[np.ones(32), -np.ones(32)]


@pytest.mark.parametrize(
    "density",
    [
        "kde",
        "gaussian",
        KernelDensity("loo"),
        GaussianDensity(0.1),
        TreeKernelDensity(bandwidth=0.2),
        GaussianMixture(2, reg_covar=1e-3, random_state=0),
        IsolationForest(random_state=0),
    ],
    ids=str,
)
def test_every_density_separates_digits(density, task):
    shots, X, y = task
    fitted = detector(density=density).fit(shots)
    scores = fitted.score_samples(X)
    assert scores.dtype == np.float64 and scores.shape == (64,)
    assert_allclose(fitted.decision_function(X), scores - fitted.offset_)
    assert_array_equal(fitted.predict(X), np.where(scores < fitted.offset_, -1, 1))
    assert fitted.score(X, y) == pytest.approx(roc_auc_score(y, scores))
    assert fitted.score(X, y) > 0.8
    assert fitted.density_ is not density


def test_fitted_attributes(task):
    shots, X, _ = task
    fitted = detector(n_views=3).fit(shots)
    assert fitted.embeddings_.shape == (8, 16)
    assert_array_equal(fitted.embeddings_, fitted.embed(shots))
    assert_allclose(np.linalg.norm(fitted.embed(X), axis=1), 1, rtol=1e-6)
    assert fitted.n_iter_ == 3 and len(fitted.history_["loss"]) == 3
    assert fitted.device_ == str(fitted.embedder_.network_.mean.device)
    assert len(fitted.density_._kernels) == 8 * (1 + 1 + 3)  # itself, mirror image, views
    unmirrored = detector(n_views=3, augmentation={"flip": 0}).fit(shots)
    assert len(unmirrored.density_._kernels) == 8 * (1 + 3)


def test_threshold_flags_few_unseen_normals(digits):
    zeros, ones = digits
    rates = []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(zeros))
        fitted = detector(random_state=seed).fit(zeros[order[:8]])
        rates.append(np.mean(fitted.predict(zeros[order[8:]]) == -1))
    assert np.mean(rates) < 0.15
    assert np.mean(fitted.predict(ones) == -1) > 0.5


def test_contamination_is_a_share_of_the_training_images(photos):
    rows = np.random.default_rng(0).normal(size=(300, 4))
    fitted = COFTDetector(contamination=0.1, max_iter=2, random_state=0).fit(rows)
    assert np.sum(fitted.predict(rows) == -1) == 30
    fitted = detector(contamination=0.25).fit(photos)
    assert np.sum(fitted.predict(photos) == -1) == 3


def test_fit_predict(photos):
    assert_array_equal(
        detector(contamination=0.25).fit_predict(photos),
        detector(contamination=0.25).fit(photos).predict(photos),
    )


def test_one_shot(task):
    shots, X, y = task
    with pytest.warns(UserWarning):
        fitted = detector().fit(shots[:1])
    assert fitted.score(X, y) > 0.7


def test_partial_fit_adds_shots_without_fine_tuning(task):
    shots, X, _ = task
    fitted = detector().fit(shots[:5])
    weights = copy.deepcopy(fitted.embedder_.network_.state_dict())
    offset, before = fitted.offset_, fitted.embeddings_
    assert fitted.partial_fit(shots[5:]) is fitted
    assert all((weights[k] == v).all() for k, v in fitted.embedder_.network_.state_dict().items())
    assert_array_equal(fitted.embeddings_, np.concatenate([before, fitted.embed(shots[5:])]))
    assert len(fitted.density_._kernels) == 8 * (1 + 1)
    assert fitted.offset_ != offset
    indices = fitted.kneighbors(shots, return_distance=False)
    assert_array_equal(indices[:, 0], np.arange(8))
    first = detector().partial_fit(shots[:5])
    assert_array_equal(first.score_samples(X), detector().fit(shots[:5]).score_samples(X))


def test_bad_partial_fit_changes_nothing(task):
    shots, X, _ = task
    fitted = detector().fit(shots)
    before = fitted.score_samples(X)
    for bad in (np.zeros((2, 5)), np.full((2, 8, 8), 7.0)):
        with pytest.raises(ValueError):
            fitted.partial_fit(bad)
    assert_array_equal(fitted.score_samples(X), before)


def test_failed_refit_keeps_the_old_fit(task):
    shots, X, _ = task
    fitted = detector().fit(shots)
    before = fitted.score_samples(X)
    with pytest.raises(FloatingPointError):
        fitted.set_params(learning_rate=1e30, max_iter=20).fit(shots)
    assert_array_equal(fitted.score_samples(X), before)


def test_kneighbors(task):
    shots, X, _ = task
    fitted = detector().fit(shots)
    distances, indices = fitted.kneighbors(X, n_neighbors=3)
    expected = np.linalg.norm(fitted.embed(X)[:, None] - fitted.embeddings_, axis=2)
    assert_allclose(distances, np.sort(expected)[:, :3], atol=1e-7)
    assert_array_equal(indices[:, 0], expected.argmin(1))


@pytest.mark.parametrize(
    "call, name",
    [
        *(
            (lambda d, X, y, n=n: d.kneighbors(X, n_neighbors=n), rf"n_neighbors.*{n!r}")
            for n in (0, 9, "2", 1.5, True)
        ),
        *(
            (lambda d, X, y, m=m: d.set_threshold(X[:8], max_fpr=m), rf"max_fpr.*{m!r}")
            for m in (0, 1, "5%")
        ),
        (lambda d, X, y: d.set_threshold(X[:8], max_fpr=0.05), "max_fpr=0.05 .*19"),
        (lambda d, X, y: d.score(X), "score needs y.*LabelFreeScorer"),
        (lambda d, X, y: d.score(iter(X), y[:-1]), "64, 63"),
        (lambda d, X, y: d.tune_threshold(iter(X), y[:-1]), "64, 63"),
        (lambda d, X, y: d.tune_threshold(X, [1] * 64), "^y "),
        (lambda d, X, y: d.tune_threshold(X, y, scoring="best"), "scoring"),
        (lambda d, X, y: d.tune_threshold(X, y, scoring="roc_auc"), "scoring='roc_auc'"),
    ],
)
def test_invalid_arguments_change_nothing(call, name, fitted, task):
    offset = fitted.offset_
    with pytest.raises(ValueError, match=name):
        call(fitted, *task[1:])
    assert fitted.offset_ == offset


def test_score_is_nan_if_y_holds_class_labels():
    rows = COFTDetector(max_iter=0).fit(np.eye(4))
    with pytest.warns(UserWarning):
        assert np.isnan(rows.score(np.eye(4), [0, 1, 2, 1]))


def test_score_is_nan_if_all_labels_are_the_same(fitted, task):
    """scikit-learn's metric returns NaN, so its tools accept folds of normal images."""
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(fitted.score(task[1], [1] * 64))


def test_set_threshold_and_pvalues_agree(task):
    """The rate holds on the images that set it, as far as their number allows."""
    shots, X, y = task
    fitted = detector().fit(shots)
    assert fitted.calibration_scores_.shape == (8,)
    assert fitted.predict_pvalue(X).min() == pytest.approx(1 / 9)
    normal = X[y == 1][:24]
    scores = fitted.score_samples(X)
    for max_fpr in (0.04, 0.1, 0.5):
        assert fitted.set_threshold(normal, max_fpr=max_fpr) is fitted
        assert_array_equal(fitted.predict(X) == -1, fitted.predict_pvalue(X) <= max_fpr)
        assert np.mean(fitted.predict(normal) == -1) <= max_fpr
    assert_array_equal(fitted.score_samples(X), scores)
    assert_array_equal(fitted.calibration_scores_, scores[:24])


def test_held_out_scores_are_calibration_scores(task):
    """Those that the automatic threshold is set by, whatever sets it."""
    shots = task[0]
    automatic = detector().fit(shots)
    share = detector(contamination=0.25).fit(shots)
    assert_array_equal(share.calibration_scores_, automatic.calibration_scores_)
    assert_array_equal(automatic.calibration_scores_, automatic.held_out_scores_)
    more = automatic.partial_fit(task[1][:3])
    assert more.calibration_scores_.shape == (11,)


def test_training_images_get_their_held_out_scores(task):
    """Whatever else is in the call, and in any order; other images are scored as they were."""
    shots, X, _ = task
    fitted = detector().fit(shots)
    held_out = fitted.held_out_scores_
    plain = fitted._model.score_as_new(fitted._read(shots))
    assert (held_out < plain).all()
    assert_array_equal(fitted.score_samples(shots), held_out)
    order = [5, 0, 7]
    mixed = fitted.score_samples(np.concatenate([X[:3], shots[order], X[3:5]]))
    assert_array_equal(mixed[3:6], held_out[order])
    assert_array_equal(mixed[[0, 1, 2, 6, 7]], fitted._model.score_as_new(fitted._read(X[:5])))
    restored = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(restored.score_samples(shots), held_out)
    fitted.partial_fit(X[:3])
    assert fitted.held_out_scores_.shape == (11,)
    both = np.concatenate([shots, X[:3]])
    assert_array_equal(fitted.score_samples(both), fitted.held_out_scores_)


@pytest.mark.parametrize(
    "kind", ["two backbones", "modalities", "tabular", "single shot", "multiscale", "densities"]
)
@pytest.mark.filterwarnings("ignore:contamination='auto'")
def test_training_images_of_every_kind_are_recognised(kind, photos):
    plates = make_plates(5, 3, size=64, random_state=0)
    params, X = {
        "two backbones": ({"backbone": [TinyNet(), TinyNet(8, seed=1)]}, photos),
        "modalities": ({}, {"colour": plates.images, "depth": plates.depths}),
        "tabular": ({}, np.random.default_rng(0).normal(size=(30, 4))),
        "single shot": ({}, photos[:1]),
        "multiscale": ({"backbone": "embedded"}, plates.images),
        "densities": ({"density": ["kde", "gaussian"]}, photos),
    }[kind]
    fitted = detector(**params).fit(X)
    assert_array_equal(fitted.score_samples(X), fitted.held_out_scores_)
    plain = fitted._model.score_as_new(fitted._read(X))
    assert (fitted.held_out_scores_ != plain).all()


def test_duplicates_and_groups_are_held_out_together(task):
    shots = task[0]
    fitted = detector().fit(shots, groups=[0, 0, 1, 2, 3, 4, 5, 6])
    alone = detector().fit(shots)
    assert_array_equal(fitted.score_samples(shots), fitted.held_out_scores_)
    assert fitted.calibration_scores_[0] == fitted.held_out_scores_[:2].mean()
    assert (alone.held_out_scores_ != fitted.held_out_scores_)[:2].all()
    with pytest.warns(UserWarning, match="duplicate"):
        twice = detector().fit(np.concatenate([shots, shots[2:3]]))
    assert twice.held_out_scores_[8] == twice.held_out_scores_[2]


def test_anomalies_among_the_training_images_are_detected():
    """As scikit-learn's outlier detectors do; by its own kernels, an anomaly looks normal."""
    rows = np.random.default_rng(0).normal(size=(40, 20))
    rows[36:] *= 2
    y = np.repeat([1, -1], [36, 4])
    fitted = COFTDetector(max_iter=0, contamination=0.1, random_state=0)
    assert_array_equal(fitted.fit_predict(rows), y)
    assert fitted.score(rows, y) == 1
    assert roc_auc_score(y, fitted._model.score_as_new(fitted._read(rows))) < 0.97


def test_nineteen_images_suffice_for_a_false_positive_rate_of_5_percent(task):
    shots, X, _ = task
    detector().fit(shots).set_threshold(X[:19], max_fpr=0.05)


def test_tune_threshold(task):
    shots, X, y = task
    fitted = detector(contamination=0.5).fit(shots)
    scores = fitted.score_samples(X)
    best = max(balanced_accuracy_score(y, np.where(scores < s, -1, 1)) for s in scores)
    assert fitted.tune_threshold(X, y) is fitted
    assert balanced_accuracy_score(y, fitted.predict(X)) == best


@pytest.mark.parametrize(
    "params",
    [
        {"density": "svm"},
        {"density": KernelDensity},
        {"contamination": 0},
        {"contamination": 0.6},
        {"n_views": -1},
    ],
)
def test_bad_parameters(params, task):
    (name,) = params
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        detector(**params).fit(task[0])


def test_labelled_anomalies_stay_out_of_the_density(task):
    _, X, y = task
    fitted = detector(negatives="labelled", negative_weight=1).fit(X, y)
    assert len(fitted.embeddings_) == 32
    assert fitted.score(X, y) > 0.9


def test_images_that_y_calls_anomalous_are_left_out(task, tmp_path):
    _, X, y = task
    alone = detector().fit(X[y == 1])
    for memory in (None, tmp_path):
        fitted = detector(memory=memory).fit(X, y)
        assert len(fitted.embeddings_) == 32
        assert_array_equal(fitted.score_samples(X), alone.score_samples(X))
        assert fitted.offset_ == alone.offset_
    more = detector().fit(X[:8])
    more.partial_fit(X[8:16], [1, -1] * 4)
    assert len(more.embeddings_) == 12
    assert_array_equal(
        more.score_samples(X), detector().fit(X[:8]).partial_fit(X[8:16:2]).score_samples(X)
    )


@pytest.mark.parametrize(
    "y, key",
    [(-np.ones(8), "y == 1"), (np.ones(7), "number"), (np.ones((8, 2)), "^y .*1d")],
)
def test_labels_that_fit_cannot_use(y, key, task):
    with pytest.raises(ValueError, match=key):
        detector().fit(task[0], y)


@pytest.mark.slow
def test_real_images_and_weights(shared):
    """Bottles: the default settings with ImageNet weights, few iterations."""
    data = np.load(shared / "data" / "mvtec_bottle.npz")
    weights = shared / "weights" / "mobilenetv2_100.safetensors"
    fitted = COFTDetector("mobilenetv2_100", weights=weights, max_iter=3, random_state=0)
    fitted.fit(data["normal"][:8])
    X = np.concatenate([data["normal"][64:84], data["anomaly_broken_large"]])
    assert fitted.score(X, np.r_[np.ones(20), -np.ones(20)]) > 0.9


def test_the_greatest_rates_are_possible(task):
    """The threshold is then the greatest score of all."""
    shots, X, _ = task
    fitted = detector().fit(shots)
    scores = fitted.score_samples(X)
    assert fitted.set_threshold(X, max_fpr=1 - 1e-10).offset_ == scores.max()


@pytest.mark.parametrize(
    "method", ["predict_pvalue", "set_threshold", "score", "kneighbors", "embed", "anomaly_map"]
)
def test_methods_of_a_detector_that_is_not_fitted(method, task):
    with pytest.raises(NotFittedError):
        getattr(detector(), method)(task[0])


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_a_backbone_with_weight_norm_pickles(task):
    network = torch.nn.utils.weight_norm(torch.nn.Conv2d(3, 8, 3))
    fitted = detector(backbone=network, max_iter=2, random_state=0).fit(task[0])
    loaded = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(loaded.score_samples(task[1]), fitted.score_samples(task[1]))
