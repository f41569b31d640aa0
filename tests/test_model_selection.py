import numpy as np
import pytest
import sklearn
from conftest import TinyNet
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import (
    GridSearchCV,
    LearningCurveDisplay,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skcoft import COFTDetector
from skcoft.model_selection import OneClassKFold, OneClassShuffleSplit

Y = np.array([1, 1, -1, 1, 1, 1, -1, 1, 1, 1, -1, 1])  # 9 normals, 3 anomalies
GROUPS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4])
SPLITTERS = [
    OneClassKFold(3),
    OneClassKFold(3, shots=2, shuffle=True, random_state=0),
    OneClassKFold(2, anomaly_size=0.5, random_state=0),
    OneClassShuffleSplit(4, shots=3, random_state=0),
    OneClassShuffleSplit(4, shots=None, test_size=3, anomaly_size=2, random_state=0),
]
every = pytest.mark.parametrize("cv", SPLITTERS, ids=str)


@every
def test_training_is_on_normals_and_apart_from_the_test(cv):
    splits = list(cv.split(Y, Y))
    assert len(splits) == cv.get_n_splits() == cv.get_n_splits(Y, Y, GROUPS)
    for train, test in splits:
        assert (Y[train] == 1).all()
        assert not np.intersect1d(train, test).size
        assert len(np.unique(np.r_[train, test])) == len(train) + len(test)
        assert {-1, 1} == set(Y[test])
        if cv.shots is not None:
            assert len(train) == cv.shots
        wanted = {1.0: 3, 0.5: 2, 2: 2}[cv.anomaly_size]
        assert (Y[test] == -1).sum() == wanted


@every
def test_groups_are_never_on_both_sides(cv):
    cv = clone_splitter(cv, n_splits=2, shots=2)
    seen = set()
    for train, test in cv.split(Y, Y, GROUPS):
        assert (Y[train] == 1).all() and (Y[test] == 1).any()
        assert not set(GROUPS[train]) & set(GROUPS[test])
        seen |= set(test)
    if isinstance(cv, OneClassKFold):
        assert set(np.flatnonzero(Y == 1)) <= seen


def clone_splitter(cv, **params):
    given = {**vars(cv), **params}
    if given["anomaly_size"] == 2:
        given["anomaly_size"] = 1.0
    return type(cv)(**given)


def test_every_normal_is_held_out_once():
    tests = np.concatenate([test for _, test in OneClassKFold(3).split(Y, Y)])
    assert_array_equal(np.sort(tests[Y[tests] == 1]), np.flatnonzero(Y == 1))
    assert_array_equal(np.bincount(tests)[Y == -1], [3, 3, 3])


@every
def test_an_int_makes_splits_repeatable(cv):
    for first, again in zip(cv.split(Y, Y), cv.split(Y, Y), strict=True):
        assert_array_equal(first[0], again[0])
        assert_array_equal(first[1], again[1])


def test_what_is_drawn_differs_between_splits_and_seeds():
    for cv in (OneClassShuffleSplit(5, shots=3), OneClassKFold(3, shots=2, shuffle=True)):
        kept = []
        for seed in (0, 1):
            cv.random_state = seed
            kept += [tuple(sorted(train)) for train, _ in cv.split(Y, Y)]
        assert len(set(kept)) > len(kept) // 2


def test_zero_stands_for_anomalous_and_no_labels_for_normal():
    cv = OneClassKFold(3)
    for (train, test), (train_, test_) in zip(cv.split(Y, Y), cv.split(Y, Y == 1), strict=True):
        assert_array_equal(train, train_)
        assert_array_equal(test, test_)
    tests = np.concatenate([test for _, test in cv.split(Y)])
    assert_array_equal(np.sort(tests), np.arange(12))


@pytest.mark.parametrize(
    "cv, y, groups, message",
    [
        (OneClassKFold(1), Y, None, "'n_splits' parameter of OneClassKFold .* >= 2; got 1"),
        (OneClassShuffleSplit(0), Y, None, "'n_splits' parameter .* >= 1; got 0"),
        (OneClassKFold(3, shots=0), Y, None, "'shots' parameter .* >= 1 or None; got 0"),
        (OneClassKFold(3, anomaly_size=0.0), Y, None, "'anomaly_size' .* share in .0, 1. or"),
        (OneClassShuffleSplit(test_size=1.0), Y, None, r"'test_size' .* share in \(0, 1\) or"),
        (OneClassKFold(3, anomaly_size=4), Y, None, "anomaly_size=4 anomalies .* from 3"),
        (OneClassKFold(3, shots=7), Y, None, "shots=7 normal images .* the 6 that OneClassK"),
        (OneClassShuffleSplit(shots=7), Y, None, "shots=7 normal images .* the 4 that OneClassS"),
        (OneClassKFold(3), -np.ones(12), None, "at least 3 normal images .y == 1.; got 0"),
        (OneClassKFold(3), Y, np.zeros(12), "at least 3 groups of normal images; got 1"),
        (OneClassShuffleSplit(), [1], None, "at least 2 normal images .y == 1.; got 1"),
        (OneClassKFold(3), np.arange(12), None, "y must hold .1 .normal. and -1"),
        (OneClassKFold(3), Y[:5], None, "inconsistent numbers of samples"),
        (OneClassKFold(3), Y, GROUPS[:5], "inconsistent numbers of samples"),
    ],
)
def test_what_cannot_be_split(cv, y, groups, message):
    X = np.zeros((1 if len(y) == 1 else 12, 2))
    with pytest.raises(ValueError, match=message):
        list(cv.split(X, y, groups))


def test_conventions():
    assert repr(OneClassKFold(3)) == (
        "OneClassKFold(anomaly_size=1.0, n_splits=3, random_state=None, shots=None,\n"
        "       shuffle=False)"
    )
    for cv in SPLITTERS:
        assert cv.get_metadata_routing().split.requests == {"groups": True}
    with sklearn.config_context(enable_metadata_routing=True):
        splits = cross_validate(
            IsolationForest(), Y[:, None], Y, params={"groups": GROUPS}, cv=OneClassKFold(2),
            scoring="roc_auc", return_indices=True,
        )  # fmt: skip
    for train, test in zip(*splits["indices"].values(), strict=True):
        assert not set(GROUPS[train]) & set(GROUPS[test])


class Spy(BaseEstimator):
    """Remembers every row that any copy of it was fitted on."""

    seen = []

    def __init__(self, level=0):
        self.level = level

    def fit(self, X, y=None):
        self.seen.append(X[:, 0].tolist())
        return self

    def score(self, X, y):
        return float(len(X))


@every
def test_no_anomaly_reaches_fit(cv):
    X = np.arange(12.0)[:, None]
    for tool in (
        lambda: GridSearchCV(Spy(), {"level": [0, 1]}, cv=cv, refit=False).fit(X, Y),
        lambda: cross_validate(Spy(), X, Y, cv=cv),
    ):
        Spy.seen.clear()
        tool()
        assert len(Spy.seen) >= cv.get_n_splits()
        assert set(Y[np.concatenate(Spy.seen).astype(int)]) == {1}


@pytest.fixture(scope="module")
def task(digits):
    zeros, ones = digits
    X = np.concatenate([zeros[:24], ones[:12]]) / 1.0
    return X, np.r_[np.ones(24, int), -np.ones(12, int)]


def detector(**params):
    return COFTDetector(TinyNet(), max_iter=1, learning_rate=0.01, random_state=0, **params)


def test_no_anomaly_reaches_the_refit(task):
    """GridSearchCV refits on all of X and y, which OneClassKFold has no say in."""
    X, y = task
    search = GridSearchCV(
        detector(), {"n_views": [2, 4]}, cv=OneClassKFold(2, shots=6), error_score="raise"
    ).fit(X, y)
    alone = detector(**search.best_params_).fit(X[y == 1])
    assert len(search.best_estimator_.embeddings_) == 24
    assert_array_equal(search.decision_function(X), alone.decision_function(X))


@pytest.mark.parametrize("scoring", [None, "roc_auc", "average_precision", "balanced_accuracy"])
def test_metrics_of_scikit_learn(scoring, task):
    cv = OneClassShuffleSplit(2, shots=6, random_state=0)
    scores = cross_val_score(detector(), *task, cv=cv, scoring=scoring, error_score="raise")
    assert (scores > 0.5).all() and (scores <= 1).all()


def test_predictions_of_every_normal(task):
    X, y = task
    normals = X[y == 1]
    decisions = cross_val_predict(
        detector(), normals, cv=OneClassKFold(4), method="decision_function"
    )
    assert decisions.shape == (24,) and np.mean(decisions < 0) < 0.5


def test_search_in_a_pipeline_with_groups(task):
    X, y = task
    pipeline = make_pipeline(StandardScaler(), IsolationForest(random_state=0))
    search = GridSearchCV(
        pipeline, {"isolationforest__n_estimators": [5, 50]}, cv=OneClassKFold(3, shots=8),
        scoring="roc_auc", refit=False, error_score="raise",
    )  # fmt: skip
    search.fit(X.reshape(len(X), -1), y, groups=np.arange(36) // 2)
    assert search.best_score_ > 0.8


@pytest.mark.filterwarnings("ignore:Only one class is present")
def test_few_shot_curves(task):
    """The training scores, of normal images alone, are undefined; the others are not."""
    cv = OneClassShuffleSplit(3, shots=8, random_state=0)
    sizes, _, scores = learning_curve(
        detector(), *task, cv=cv, train_sizes=[2, 4, 8], error_score="raise"
    )
    assert_array_equal(sizes, [2, 4, 8])
    assert scores.shape == (3, 3) and np.isfinite(scores).all()
    import matplotlib

    matplotlib.use("Agg")
    display = LearningCurveDisplay.from_estimator(
        detector(), *task, cv=cv, train_sizes=[2, 8], score_type="test"
    )
    assert_array_equal(display.train_sizes, [2, 8])
