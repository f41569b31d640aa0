"""PyOD in both directions: its detectors as densities, and skcoft's with its interface."""

import pickle
import re

import numpy as np
import pytest
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal
from numpydoc.validate import validate
from sklearn.base import BaseEstimator, clone
from sklearn.covariance import EllipticEnvelope
from sklearn.linear_model import SGDOneClassSVM
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.random_projection import GaussianRandomProjection
from sklearn.svm import OneClassSVM

from skcoft import COFTDetector
from skcoft.datasets import make_plates
from skcoft.model_selection import OneClassShuffleSplit

pytest.importorskip("pyod")

from pyod.models.cof import COF
from pyod.models.copod import COPOD
from pyod.models.ecod import ECOD
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.utils.data import evaluate_print
from pyod.utils.utility import check_detector, standardizer

from skcoft.pyod import PyODDetector

ROWS = np.random.default_rng(0).normal(size=(60, 4))
SHOTS, NORMAL, ANOMALOUS = ROWS[:10], ROWS[10:], ROWS[10:] + 3
X, Y = np.concatenate([NORMAL, ANOMALOUS]), np.repeat([1, -1], 50)


def frozen(**params):
    return COFTDetector(**{"max_iter": 0, "random_state": 0, **params})


@pytest.mark.parametrize(
    "density",
    [
        COPOD(),
        ECOD(),
        IForest(random_state=0),
        KNN(n_neighbors=3),
        make_pipeline(GaussianRandomProjection(3, random_state=0), KNN(n_neighbors=3)),
        EllipticEnvelope(random_state=0),
        LocalOutlierFactor(5, novelty=True),
        OneClassSVM(),
        SGDOneClassSVM(random_state=0),
    ],
    ids=lambda density: type(density).__name__,
)
def test_outlier_detectors_of_other_libraries_as_density(density):
    detector = frozen(density=density).fit(SHOTS)
    assert detector.score(X, Y) > 0.9
    assert (detector.predict(NORMAL) == 1).mean() > 0.6
    assert (detector.predict(ANOMALOUS) == -1).mean() > 0.4
    assert type(detector.density_) is type(density) and detector.density_ is not density
    alone = [detector.score_samples(row[None])[0] for row in X[:5]]
    assert_allclose(detector.score_samples(X)[:5], alone, rtol=1e-6)  # also with ECOD
    assert_array_equal(pickle.loads(pickle.dumps(detector)).predict(X), detector.predict(X))


def test_densities_in_a_list_are_standardised_and_combined():
    detector = frozen(density=["kde", KNN(n_neighbors=3), ECOD()]).fit(SHOTS)
    assert detector.score(X, Y) > 0.95
    assert [type(density).__name__ for density in detector.density_] == [
        "KernelDensity",
        "KNN",
        "ECOD",
    ]
    with pytest.raises(ValueError) as caught:
        detector.to_onnx("file.onnx", SHOTS)
    assert "density=KNN" in str(caught.value)


def test_scores_are_those_of_pyod_times_minus_one():
    detector = frozen(density=KNN(n_neighbors=3)).fit(SHOTS)
    anomaly_scores = detector.density_.decision_function(detector.embed(X))
    assert_array_equal(detector.score_samples(X), -anomaly_scores)
    detector = frozen(density=KernelDensity(bandwidth=0.5)).fit(SHOTS)
    densities = detector.density_.score_samples(detector.embed(X))
    assert_array_equal(detector.score_samples(X), densities)


def test_held_out_scores_come_from_densities_fitted_without_the_shot(photos):
    params = {"local": False, "n_views": 0, "density": KNN(n_neighbors=1)}
    detector = COFTDetector(TinyNet(), max_iter=0, **params).fit(photos[:8])
    shots = detector.embeddings_
    distances = np.linalg.norm(shots[:, None] - shots, axis=2) + np.diag(np.full(8, np.inf))
    assert_allclose(detector.calibration_scores_, -distances.min(axis=1), atol=1e-6)


def test_pyod_density_on_images(photos):
    detector = COFTDetector(TinyNet(), max_iter=0, density=KNN(n_neighbors=2)).fit(photos[:6])
    assert np.isfinite(detector.score_samples(photos)).all()
    assert detector.partial_fit(photos[6:8]).calibration_scores_.shape == (8,)


def test_parameters_of_a_density_are_set_by_name():
    detector = frozen(density=KNN())
    assert detector.set_params(density__n_neighbors=3).density.n_neighbors == 3
    assert clone(detector).density.n_neighbors == 3 and clone(detector).density is not detector
    search = GridSearchCV(
        detector,
        {"density__n_neighbors": [1, 4]},
        cv=OneClassShuffleSplit(2, shots=8, random_state=0),
        error_score="raise",
    ).fit(X, Y)
    first, second = search.cv_results_["mean_test_score"]
    assert first != second and min(first, second) > 0.9
    assert search.best_estimator_.density_.n_neighbors in (1, 4)


class Undirected(BaseEstimator):
    """A detector with the interface of neither scikit-learn nor PyOD."""

    def fit(self, X):
        return self

    def decision_function(self, X):
        return X.sum(axis=1)


@pytest.mark.parametrize(
    "density, key",
    [
        (KNN(n_neighbors=200), "90 embeddings (of 10 shots"),
        (COF(), "density=COF("),
        (Undirected(), "decision_scores_"),
        (LocalOutlierFactor(), "'density'"),
        (KNN, "'density'"),
    ],
)
def test_unsuitable_densities_raise(density, key):
    detector = frozen(density=density)
    with pytest.raises(ValueError) as caught:
        detector.fit(SHOTS)
    assert key in str(caught.value)
    assert not hasattr(detector, "offset_")


def test_model_files_hold_no_density_of_other_libraries(tmp_path):
    detector = frozen(density=KNN(n_neighbors=3)).fit(SHOTS)
    with pytest.raises(TypeError) as caught:
        detector.save(tmp_path / "file")
    assert "density" in str(caught.value) and "pyod.models.knn.KNN" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_views_of_a_single_shot_are_not_held_out():
    """Scores without one of the views would be on another scale."""
    with pytest.warns(UserWarning):
        detector = frozen(density=KNN(n_neighbors=2)).fit(SHOTS[:1])
    assert_array_equal(detector.calibration_scores_, detector.score_samples(SHOTS[:1]))


@pytest.fixture(scope="module")
def fitted():
    return PyODDetector(frozen(), contamination=0.2).fit(SHOTS)


def test_pyod_interface(fitted):
    """The checks are those of PyOD's own tests."""
    y = np.where(Y == 1, 0, 1)
    assert check_detector(fitted) is None
    assert fitted.decision_scores_.shape == (10,)
    assert set(fitted.labels_) == {0, 1} and fitted.labels_.sum() == 2
    assert_array_equal(fitted.decision_function(SHOTS), fitted.decision_scores_)
    assert_array_equal(fitted.labels_, fitted.decision_scores_ > fitted.threshold_)
    scores = fitted.decision_function(X)
    assert scores.shape == (100,) and roc_auc_score(y, scores) > 0.95
    labels = fitted.predict(X)
    assert_array_equal(labels, scores > fitted.threshold_)
    assert labels[50:].mean() > 0.9 and labels[:50].mean() < 0.5
    for method in ("linear", "unify"):
        probabilities = fitted.predict_proba(X, method=method)
        assert probabilities.shape == (100, 2)
        assert probabilities.min() >= 0 and probabilities.max() <= 1
        assert_allclose(probabilities.sum(axis=1), 1)
        assert probabilities[50:, 1].mean() > 0.9
    with pytest.raises(ValueError):
        fitted.predict_proba(X, method="something")
    both = (
        fitted.predict(X, return_confidence=True),
        fitted.predict_proba(X, return_confidence=True),
    )
    for _, confidence in both:
        assert confidence.shape == (100,) and confidence.min() >= 0 and confidence.max() <= 1
        assert_array_equal(confidence, fitted.predict_confidence(X))
    assert set(fitted.predict_with_rejection(X)) <= {-2, 0, 1}
    again = clone(fitted)
    assert not hasattr(again, "labels_") and again.contamination == 0.2
    assert_array_equal(again.fit(SHOTS).decision_scores_, fitted.decision_scores_)
    restored = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(restored.decision_function(X), scores)


def test_scores_are_those_of_the_detector_times_minus_one(fitted):
    detector = frozen().fit(SHOTS)
    assert_array_equal(fitted.decision_function(X), -detector.score_samples(X))
    assert_array_equal(fitted.decision_scores_, -detector.calibration_scores_)
    assert_array_equal(fitted.detector_.predict(X), detector.predict(X))


def test_duplicates_share_a_held_out_score():
    with pytest.warns(UserWarning):
        fitted = PyODDetector(frozen()).fit(SHOTS[[0, 1, 2, 1, 3, 4]])
    assert_array_equal(fitted.detector_.shot_ids_, [0, 1, 2, 1, 4, 5])
    scores = fitted.decision_scores_
    assert len(scores) == 6 and scores[3] == scores[1] and len(set(scores)) == 5


@pytest.mark.parametrize("form", ["array", "list", "iterator", "objects"])
def test_pyod_interface_on_images(form, photos):
    forms = {
        "array": lambda: photos,
        "list": lambda: list(photos),
        "iterator": lambda: iter(photos),
        "objects": lambda: np.fromiter(photos, dtype=object, count=len(photos)),
    }
    images = forms[form]
    detector = COFTDetector(TinyNet(), max_iter=0, random_state=0)
    fitted = PyODDetector(detector).fit(photos[:6])
    scores = fitted.decision_function(photos)
    assert_array_equal(fitted.predict_proba(images())[:, 1] > 1, False)
    assert_array_equal(fitted.predict_proba(images()), fitted.predict_proba(photos))
    assert_array_equal(fitted.predict(images()), scores > fitted.threshold_)
    assert fitted.detector_.anomaly_map(photos[:1]).shape == (1, 24, 20)


def test_utilities_of_pyod(fitted, capsys):
    other = HBOS(contamination=0.2).fit(SHOTS)
    train = np.column_stack([fitted.decision_scores_, other.decision_scores_])
    new = np.column_stack([fitted.decision_function(X), other.decision_function(X)])
    _, standard = standardizer(train, new)
    assert roc_auc_score(Y == -1, standard.mean(axis=1)) > 0.95
    evaluate_print("COFT", Y == -1, fitted.decision_function(X))
    assert re.search(r"COFT ROC:(1.0|0.9\d+), precision @ rank n:", capsys.readouterr().out)


def test_parameters():
    assert PyODDetector().detector is None and PyODDetector().contamination == 0.1
    with pytest.raises(TypeError):
        PyODDetector(KNN()).fit(SHOTS)
    with pytest.raises(ValueError):
        PyODDetector(contamination=0.7)


@pytest.mark.parametrize("name", ["", ".fit", ".decision_function", ".predict_proba"])
def test_documentation(name):
    ignored = {"ES01", "EX01", "SA01", "GL08", "YD01"}
    errors = validate(f"skcoft.pyod.PyODDetector{name}")["errors"]
    assert not [error for error in errors if error[0] not in ignored]


READING = {  # methods of PyODDetector that read X, and their arguments
    "predict": [{}, {"return_confidence": True}],
    "predict_proba": [{}, {"return_confidence": True}, {"method": "unify"}],
    "predict_confidence": [{}],
    "predict_with_rejection": [{}],
    "decision_function": [{}],
    "fit_predict": [{}],
}


@pytest.mark.filterwarnings("ignore:The cost of rejection", "ignore:Function fit_predict")
@pytest.mark.parametrize("method", READING)
def test_streams_are_read_once_and_embedded_once(method, monkeypatch):
    plates = make_plates(14, 0, size=32, random_state=0).images
    options = {"max_iter": 0, "image_size": 32, "random_state": 0}
    detector = PyODDetector(COFTDetector("embedded", **options)).fit(plates[:8])
    calls = []
    original = COFTDetector.score_samples
    monkeypatch.setattr(
        COFTDetector, "score_samples", lambda self, X: calls.append(1) or original(self, X)
    )
    for arguments in READING[method]:
        expected = getattr(detector, method)(plates, **arguments)
        calls.clear()
        actual = getattr(detector, method)(iter(plates), **arguments)
        assert len(calls) == (method != "fit_predict")
        is_pair = isinstance(expected, tuple)
        pairs = zip(actual, expected, strict=True) if is_pair else [(actual, expected)]
        for values, others in pairs:
            assert_array_equal(values, others)


def test_unreadable_samples_are_anomalous():
    plates = make_plates(14, 0, size=32, random_state=0).images
    options = {"max_iter": 0, "image_size": 32, "random_state": 0, "on_error": "nan"}
    detector = PyODDetector(COFTDetector("embedded", **options)).fit(plates[:8])
    with pytest.warns(UserWarning):
        labels, confidence = detector.predict([plates[8], None], return_confidence=True)
    assert labels[1] == 1 and np.isnan(confidence[1])
    assert_array_equal(labels[:1], detector.predict(plates[8:9]))
