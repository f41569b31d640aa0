"""PyOD in both directions: its detectors as densities, ours where its are expected."""

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
def test_detectors_of_others_as_density(density):
    detector = frozen(density=density).fit(SHOTS)
    assert detector.score(X, Y) > 0.9
    assert (detector.predict(NORMAL) == 1).mean() > 0.6
    assert (detector.predict(ANOMALOUS) == -1).mean() > 0.7
    assert type(detector.density_) is type(density) and detector.density_ is not density
    alone = [detector.score_samples(row[None])[0] for row in X[:5]]
    assert_allclose(detector.score_samples(X)[:5], alone, rtol=1e-6)  # ECOD's as well
    assert_array_equal(pickle.loads(pickle.dumps(detector)).predict(X), detector.predict(X))


def test_beside_others():
    """In a list, each on the scale of held-out shots."""
    detector = frozen(density=["kde", KNN(n_neighbors=3), ECOD()]).fit(SHOTS)
    assert detector.score(X, Y) > 0.95
    assert [type(one).__name__ for one in detector.density_] == ["KernelDensity", "KNN", "ECOD"]
    with pytest.raises(ValueError, match="one of skcoft.density; got density=KNN"):
        detector.to_onnx("file.onnx", SHOTS)


def test_scores_are_pyods_turned_round():
    detector = frozen(density=KNN(n_neighbors=3)).fit(SHOTS)
    theirs = detector.density_.decision_function(detector.embed(X))
    assert_array_equal(detector.score_samples(X), -theirs)
    same = frozen(density=KernelDensity(bandwidth=0.5)).fit(SHOTS)
    ours = same.density_.score_samples(same.embed(X))
    assert_array_equal(same.score_samples(X), ours)


def test_held_out_scores_are_of_detectors_that_have_not_seen_the_shot(photos):
    params = {"local": False, "n_views": 0, "density": KNN(n_neighbors=1)}
    detector = COFTDetector(TinyNet(), max_iter=0, **params).fit(photos[:8])
    shots = detector.embeddings_
    distances = np.linalg.norm(shots[:, None] - shots, axis=2) + np.diag(np.full(8, np.inf))
    assert_allclose(detector.calibration_scores_, -distances.min(axis=1), atol=1e-6)


def test_images(photos):
    detector = COFTDetector(TinyNet(), max_iter=0, density=KNN(n_neighbors=2)).fit(photos[:6])
    assert np.isfinite(detector.score_samples(photos)).all()
    assert detector.partial_fit(photos[6:8]).calibration_scores_.shape == (8,)


def test_parameters_are_reached_by_name():
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
    """It follows neither scikit-learn's nor PyOD's contract."""

    def fit(self, X):
        return self

    def decision_function(self, X):
        return X.sum(axis=1)


@pytest.mark.parametrize(
    "density, message",
    [
        (KNN(n_neighbors=200), r"density=KNN\(.* cannot be fitted on 90 embeddings \(of 10 shots"),
        (COF(), r"density=COF\(.* cannot score an embedding alone: "),
        (Undirected(), "Undirected.. has decision_function alone, and not PyOD's decision_scor"),
        (LocalOutlierFactor(), "'density' parameter .* `score_samples` or .* `decision_function`"),
        (KNN, "'density' parameter"),
    ],
)
def test_what_cannot_be_a_density(density, message):
    detector = frozen(density=density)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        detector.fit(SHOTS)
    assert not hasattr(detector, "offset_")


def test_files_of_ours_hold_no_density_of_others(tmp_path):
    detector = frozen(density=KNN(n_neighbors=3)).fit(SHOTS)
    with pytest.raises(TypeError, match=r"density is an object of pyod.models.knn.KNN. Store"):
        detector.save(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_single_shot():
    """Its views are not left out one by one: the scale would be another."""
    with pytest.warns(UserWarning, match="on 1 of the at least 3"):
        detector = frozen(density=KNN(n_neighbors=2)).fit(SHOTS[:1])
    assert_array_equal(detector.calibration_scores_, detector.score_samples(SHOTS[:1]))


@pytest.fixture(scope="module")
def fitted():
    return PyODDetector(frozen(), contamination=0.2).fit(SHOTS)


def test_what_pyod_asks_of_every_detector(fitted):
    """As its own tests do."""
    y = np.where(Y == 1, 0, 1)
    assert check_detector(fitted) is None
    assert fitted.decision_scores_.shape == (10,)
    assert set(fitted.labels_) == {0, 1} and fitted.labels_.sum() == 2
    assert_array_equal(fitted.labels_, fitted.decision_scores_ > fitted.threshold_)
    scores = fitted.decision_function(X)
    assert scores.shape == (100,) and roc_auc_score(y, scores) > 0.95
    labels = fitted.predict(X)
    assert_array_equal(labels, scores > fitted.threshold_)
    assert labels[50:].mean() > 0.9 and labels[:50].mean() < 0.5
    for method in ("linear", "unify"):
        found = fitted.predict_proba(X, method=method)
        assert found.shape == (100, 2) and found.min() >= 0 and found.max() <= 1
        assert_allclose(found.sum(axis=1), 1)
        assert found[50:, 1].mean() > 0.9
    with pytest.raises(ValueError, match="not a valid probability conversion"):
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


def test_its_scores_are_the_detectors(fitted):
    ours = frozen().fit(SHOTS)
    assert_array_equal(fitted.decision_function(X), -ours.score_samples(X))
    assert_array_equal(fitted.decision_scores_, -ours.calibration_scores_)
    assert_array_equal(fitted.detector_.predict(X), ours.predict(X))


def test_copies_share_a_held_out_score():
    with pytest.warns(UserWarning, match="duplicate"):
        fitted = PyODDetector(frozen()).fit(SHOTS[[0, 1, 2, 1, 3, 4]])
    assert_array_equal(fitted.detector_.shot_ids_, [0, 1, 2, 1, 4, 5])
    scores = fitted.decision_scores_
    assert len(scores) == 6 and scores[3] == scores[1] and len(set(scores)) == 5


@pytest.mark.parametrize("kind", ["array", "list", "iterator", "objects"])
def test_images_in_pyods_contract(kind, photos):
    forms = {
        "array": lambda: photos,
        "list": lambda: list(photos),
        "iterator": lambda: iter(photos),
        "objects": lambda: np.fromiter(photos, dtype=object, count=len(photos)),
    }
    images = forms[kind]
    detector = COFTDetector(TinyNet(), max_iter=0, random_state=0)
    fitted = PyODDetector(detector).fit(photos[:6])
    scores = fitted.decision_function(photos)
    assert_array_equal(fitted.predict_proba(images())[:, 1] > 1, False)
    assert_array_equal(fitted.predict_proba(images()), fitted.predict_proba(photos))
    assert_array_equal(fitted.predict(images()), scores > fitted.threshold_)
    assert fitted.detector_.anomaly_map(photos[:1]).shape == (1, 24, 20)


def test_pyods_tools_take_it(fitted, capsys):
    other = HBOS(contamination=0.2).fit(SHOTS)
    train = np.column_stack([fitted.decision_scores_, other.decision_scores_])
    new = np.column_stack([fitted.decision_function(X), other.decision_function(X)])
    _, standard = standardizer(train, new)
    assert roc_auc_score(Y == -1, standard.mean(axis=1)) > 0.95
    evaluate_print("COFT", Y == -1, fitted.decision_function(X))
    assert re.search(r"COFT ROC:(1.0|0.9\d+), precision @ rank n:", capsys.readouterr().out)


def test_bad_parameters():
    assert PyODDetector().detector is None and PyODDetector().contamination == 0.1
    unfitted = PyODDetector(KNN())
    with pytest.raises(TypeError, match=r"detector must be a COFTDetector or None; got KNN\("):
        unfitted.fit(SHOTS)
    with pytest.raises(ValueError, match=re.escape("contamination must be in (0, 0.5]")):
        PyODDetector(contamination=0.7)


@pytest.mark.parametrize("name", ["", ".fit", ".decision_function", ".predict_proba"])
def test_it_is_documented(name):
    ignored = {"ES01", "EX01", "SA01", "GL08", "YD01"}
    errors = validate(f"skcoft.pyod.PyODDetector{name}")["errors"]
    assert not [error for error in errors if error[0] not in ignored]
