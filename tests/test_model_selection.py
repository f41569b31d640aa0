import pickle

import numpy as np
import pytest
import sklearn
import torch
from conftest import TinyNet
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LearningCurveDisplay,
    ShuffleSplit,
    check_cv,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skcoft import COFTDetector
from skcoft.model_selection import LabelFreeScorer, OneClassKFold, OneClassShuffleSplit

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
def test_training_images_are_normal_and_not_in_the_test_set(cv):
    splits = list(cv.split(Y, Y))
    assert len(splits) == cv.get_n_splits() == cv.get_n_splits(Y, Y, GROUPS)
    for train, test in splits:
        assert (Y[train] == 1).all()
        assert not np.intersect1d(train, test).size
        assert len(np.unique(np.r_[train, test])) == len(train) + len(test)
        assert {-1, 1} == set(Y[test])
        if cv.shots is not None:
            assert len(train) == cv.shots
        assert (Y[test] == -1).sum() == {1.0: 3, 0.5: 2, 2: 2}[cv.anomaly_size]


@every
def test_groups_are_never_on_both_sides(cv):
    cv = clone_splitter(cv, n_splits=2, shots=2)
    tested = set()
    for train, test in cv.split(Y, Y, GROUPS):
        assert (Y[train] == 1).all() and (Y[test] == 1).any()
        assert not set(GROUPS[train]) & set(GROUPS[test])
        tested |= set(test)
    if isinstance(cv, OneClassKFold):
        assert set(np.flatnonzero(Y == 1)) <= tested


def clone_splitter(cv, **params):
    params = {**vars(cv), **params}
    if params["anomaly_size"] == 2:
        params["anomaly_size"] = 1.0
    return type(cv)(**params)


def test_every_normal_is_held_out_once():
    tests = np.concatenate([test for _, test in OneClassKFold(3).split(Y, Y)])
    assert_array_equal(np.sort(tests[Y[tests] == 1]), np.flatnonzero(Y == 1))
    assert_array_equal(np.bincount(tests)[Y == -1], [3, 3, 3])


@every
def test_an_int_makes_splits_repeatable(cv):
    for first, again in zip(cv.split(Y, Y), cv.split(Y, Y), strict=True):
        assert_array_equal(first[0], again[0])
        assert_array_equal(first[1], again[1])


def test_shots_differ_between_splits_and_seeds():
    for cv in (OneClassShuffleSplit(5, shots=3), OneClassKFold(3, shots=2, shuffle=True)):
        shots = []
        for seed in (0, 1):
            cv.random_state = seed
            shots += [tuple(sorted(train)) for train, _ in cv.split(Y, Y)]
        assert len(set(shots)) > len(shots) // 2


def test_images_without_labels_are_normal():
    cv = OneClassKFold(3)
    tests = np.concatenate([test for _, test in cv.split(Y)])
    assert_array_equal(np.sort(tests), np.arange(12))


@pytest.mark.parametrize(
    "cv, y, groups, key",
    [
        (OneClassKFold(1), Y, None, "'n_splits'"),
        (OneClassShuffleSplit(0), Y, None, "'n_splits'"),
        (OneClassKFold(3, shots=0), Y, None, "'shots'"),
        (OneClassKFold(3, anomaly_size=0.0), Y, None, "'anomaly_size'"),
        (OneClassShuffleSplit(test_size=1.0), Y, None, "'test_size'"),
        (OneClassKFold(3, anomaly_size=4), Y, None, "anomaly_size=4"),
        (OneClassKFold(3, shots=7), Y, None, "from the 6"),
        (OneClassShuffleSplit(shots=7), Y, None, "from the 4"),
        (OneClassKFold(3), -np.ones(12), None, "at least 3 normal images"),
        (OneClassKFold(3), Y, np.zeros(12), "at least 3 groups"),
        (OneClassShuffleSplit(), [1], None, "at least 2 normal images"),
        (OneClassKFold(3), np.arange(12), None, "y must"),
        (OneClassKFold(3), Y[:5], None, "number"),
        (OneClassKFold(3), Y, GROUPS[:5], "number"),
    ],
)
def test_invalid_splits_raise(cv, y, groups, key):
    X = np.zeros((1 if len(y) == 1 else 12, 2))
    with pytest.raises(ValueError) as caught:
        list(cv.split(X, y, groups))
    assert key in str(caught.value)


def test_conventions():
    assert repr(OneClassKFold(3)) == (
        "OneClassKFold(anomaly_size=1.0, n_splits=3, random_state=None, shots=None,\n"
        "       shuffle=False)"
    )
    assert repr(OneClassShuffleSplit(3, shots=2)) == (
        "OneClassShuffleSplit(anomaly_size=1.0, n_splits=3, random_state=None, shots=2,\n"
        "           test_size=0.5)"
    )
    for cv in SPLITTERS:
        assert check_cv(cv) is cv
        assert cv.get_metadata_routing().split.requests == {"groups": True}


@pytest.mark.parametrize(
    "cv", [OneClassKFold(2), OneClassShuffleSplit(2, shots=2, random_state=0)], ids=str
)
def test_groups_are_routed(cv):
    with sklearn.config_context(enable_metadata_routing=True):
        splits = cross_validate(
            IsolationForest(), Y[:, None], Y, params={"groups": GROUPS}, cv=cv,
            scoring="roc_auc", return_indices=True,
        )  # fmt: skip
    for train, test in zip(*splits["indices"].values(), strict=True):
        assert not set(GROUPS[train]) & set(GROUPS[test])


class Spy(BaseEstimator):
    """Records every row that any clone of it was fitted on."""

    fitted_rows = []

    def __init__(self, level=0):
        self.level = level

    def fit(self, X, y=None):
        self.fitted_rows.append(X[:, 0].tolist())
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
        Spy.fitted_rows.clear()
        tool()
        assert len(Spy.fitted_rows) >= cv.get_n_splits()
        assert set(Y[np.concatenate(Spy.fitted_rows).astype(int)]) == {1}


@pytest.fixture(scope="module")
def task(digits):
    zeros, ones = digits
    X = np.concatenate([zeros[:24], ones[:12]]) / 1.0
    return X, np.r_[np.ones(24, int), -np.ones(12, int)]


def detector(**params):
    return COFTDetector(TinyNet(), max_iter=1, learning_rate=0.01, random_state=0, **params)


def test_no_anomaly_reaches_the_refit(task):
    """GridSearchCV refits on all of X and y, whatever the splits are."""
    X, y = task
    search = GridSearchCV(
        detector(), {"n_views": [2, 4]}, cv=OneClassKFold(2, shots=6), error_score="raise"
    ).fit(X, y)
    alone = detector(**search.best_params_).fit(X[y == 1])
    assert len(search.best_estimator_.embeddings_) == 24
    assert_array_equal(search.decision_function(X), alone.decision_function(X))


@pytest.mark.parametrize("scoring", [None, "roc_auc", "average_precision", "balanced_accuracy"])
def test_cross_validation_with_metrics_of_scikit_learn(scoring, task):
    cv = OneClassShuffleSplit(2, shots=6, random_state=0)
    scores = cross_val_score(detector(), *task, cv=cv, scoring=scoring, error_score="raise")
    assert (scores > 0.5).all() and (scores <= 1).all()


def test_cross_val_predict_covers_every_normal_image(task):
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
        pipeline, {"isolationforest__n_estimators": [5, 50]},
        cv=OneClassKFold(3, shots=8, random_state=0),
        scoring="roc_auc", refit=False, error_score="raise",
    )  # fmt: skip
    search.fit(X.reshape(len(X), -1), y, groups=np.arange(36) // 2)
    assert search.best_score_ > 0.8


@pytest.mark.filterwarnings("ignore:Only one class is present")
def test_learning_curves_have_few_shots(task):
    """Training scores of normal images alone are undefined; test scores are defined."""
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


def test_label_free_search_selects_the_better_backbone(task):
    """Normal images are enough to prefer a network that sees shapes to one that sees means."""
    X, y = task

    class Blind(TinyNet):
        def forward(self, images):
            return super().forward(images.mean(dim=(2, 3), keepdim=True).expand_as(images))

    search = GridSearchCV(
        detector(),
        {"backbone": [Blind(), TinyNet()]},
        cv=OneClassKFold(2, shots=8, random_state=0),
        scoring=LabelFreeScorer(),
        error_score="raise",
    ).fit(X[y == 1])
    assert isinstance(search.best_params_["backbone"], TinyNet)
    assert not isinstance(search.best_params_["backbone"], Blind)
    blind_score, score = search.cv_results_["mean_test_score"]
    assert score > blind_score + 0.1


def test_label_free_score_ignores_anomalies_and_repeats_itself(task):
    X, y = task
    fitted = detector().fit(X[:8])
    scorer = LabelFreeScorer()
    score = scorer(fitted, X[8:24])
    assert 0.5 < score <= 1
    assert scorer(fitted, X[8:], y[8:]) == score
    assert LabelFreeScorer(random_state=1)(fitted, X[8:24]) != score
    state = torch.get_rng_state()
    LabelFreeScorer(kinds=[lambda images: images * torch.rand(1)])(fitted, X[8:24])
    assert torch.equal(torch.get_rng_state(), state)


def test_label_free_scorer_follows_conventions(task):
    X, y = task
    scorer = LabelFreeScorer(n_draws=2)
    assert repr(scorer) == "LabelFreeScorer(n_draws=2)"
    assert clone(scorer).get_params() == scorer.get_params()
    scoring = {"free": clone(scorer), "labelled": "roc_auc"}
    search = GridSearchCV(
        detector(), {"n_views": [2, 8]}, cv=OneClassKFold(2, shots=6, random_state=0),
        scoring=scoring, refit="free", error_score="raise",
    )  # fmt: skip
    plain = search.fit(X, y).cv_results_
    with sklearn.config_context(enable_metadata_routing=True):
        routed = search.fit(X, y).cv_results_
    assert_array_equal(routed["mean_test_free"], plain["mean_test_free"])
    assert not np.array_equal(plain["mean_test_free"], plain["mean_test_labelled"])
    (train, test), *_ = search.cv.split(X, y)
    fitted = detector(n_views=2).fit(X[train])
    assert plain["split0_test_free"][0] == pickle.loads(pickle.dumps(scorer))(fitted, X[test[:12]])


def test_label_free_score_is_an_area_under_the_roc_curve():
    """The estimator scores brightness, and the anomalies differ only in brightness."""

    class Brightness(BaseEstimator):
        def decision_function(self, X):
            return torch.as_tensor(X).float().mean(dim=(1, 2, 3)).numpy()

    images = np.stack([np.full((8, 8), level) for level in (0.2, 0.4, 0.6, 0.8)])
    for factor, low, high in ((0.0, 1, 1), (1.0, 0.4, 0.6), (1.2, 0, 0.5)):
        scorer = LabelFreeScorer(kinds=[lambda x, f=factor: (x * f).clamp(0, 1)])
        assert low <= scorer(Brightness(), images) <= high


@pytest.mark.parametrize("kind", ["arrays", "uint8 rows", "float rows", "sizes"])
def test_label_free_score_of_other_inputs(kind, photos):
    """Flattened images reach the detector as rows, images of several sizes one by one."""
    if kind == "sizes":
        X, params = [p[: 24 - i] for i, p in enumerate(photos)], {"image_size": (24, 20)}
    elif kind == "arrays":
        X, params = list(photos), {}
    else:
        X, params = photos.reshape(12, -1), {"image_shape": photos.shape[1:]}
        X = X / 255 if kind == "float rows" else X
    fitted = detector(**params).fit(X[:6])
    scorer = LabelFreeScorer(image_shape=params.get("image_shape"))
    score = scorer(fitted, X[6:])
    assert 0 <= score <= 1
    if kind != "sizes":
        plain = detector().fit(photos[:6])
        assert score == pytest.approx(LabelFreeScorer()(plain, photos[6:]), abs=0.01)


def test_label_free_score_in_a_pipeline(task):
    """The pipeline gets rows, and its detector scores the transformed rows."""
    X, _ = task
    rows = X[:24].reshape(24, -1)
    alone = detector(image_shape=(8, 8))
    scorer = LabelFreeScorer(image_shape=(8, 8))
    pipeline = make_pipeline(FunctionTransformer(lambda rows: 1 - rows), alone)
    folds = [(np.arange(8), np.arange(8, 24))]
    scores = cross_val_score(pipeline, rows, cv=folds, scoring=scorer, error_score="raise")

    class Inverted(BaseEstimator):
        def score_samples(self, X):
            return fitted.score_samples(1 - X)

    fitted = clone(alone).fit(1 - rows[:8])
    assert scores == [scorer(Inverted(), rows[8:])]
    assert scores != [scorer(clone(alone).fit(rows[:8]), rows[8:])]


@pytest.mark.parametrize(
    "scorer, params, key",
    [
        (LabelFreeScorer(kinds=[]), {}, "'kinds'"),
        (LabelFreeScorer(kinds=["labelled"]), {}, "'kinds'"),
        (LabelFreeScorer(n_draws=0), {}, "'n_draws'"),
        (LabelFreeScorer(random_state=None), {}, "'random_state'"),
        (LabelFreeScorer(["cutpaste"]), {}, "negatives='cutpaste'"),
        (LabelFreeScorer(), {"negatives": ["cutpaste", "warp"]}, "negatives=['cutpaste', 'warp']"),
    ],
)
def test_invalid_scorers_raise(scorer, params, key, task):
    X, _ = task
    with pytest.raises(ValueError) as caught:
        scorer(detector(**params).fit(X[:6]), X[6:24])
    assert key in str(caught.value)


def test_kinds_count_as_trained_on_only_if_negatives_are_used(task):
    X, _ = task
    for params in ({"negative_weight": 0}, {"max_iter": 0}):
        fitted = detector().set_params(**params).fit(X[:6])
        assert LabelFreeScorer(["cutpaste"])(fitted, X[6:24]) > 0
    pipeline = make_pipeline(detector()).fit(X[:6])
    with pytest.raises(ValueError) as caught:
        LabelFreeScorer(["cutpaste"])(pipeline, X[6:24])
    assert "coftdetector__negatives='cutpaste'" in str(caught.value)


def test_only_normal_images_can_be_scored(task):
    X, _ = task
    fitted = detector().fit(X[:6])
    for invalid, y, key in (
        (X.reshape(36, -1), None, "image_shape"),
        ({"front": list(X), "back": list(X)}, None, "['front', 'back']"),
        (X, -np.ones(36), "y == 1"),
    ):
        with pytest.raises(ValueError) as caught:
            LabelFreeScorer()(fitted, invalid, y)
        assert key in str(caught.value)


@pytest.mark.parametrize(
    "estimator, expected",
    [
        (
            OneClassKFold(),
            dict(n_splits=5, shots=None, anomaly_size=1.0, shuffle=False, random_state=None),
        ),
        (
            OneClassShuffleSplit(),
            dict(n_splits=10, shots=8, test_size=0.5, anomaly_size=1.0, random_state=None),
        ),
        (
            LabelFreeScorer(),
            dict(
                kinds=("crack", "patch_shuffle", "smudge", "warp"),
                n_draws=4, image_shape=None, n_jobs=None, random_state=0,
            ),
        ),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_defaults(estimator, expected):
    assert vars(estimator) == expected


def test_default_kinds_are_not_default_negatives():
    negatives = COFTDetector().negatives
    assert negatives == "cutpaste" and negatives not in LabelFreeScorer().kinds


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["alone", "groups"])
@pytest.mark.parametrize(
    "cv, reference",
    [
        (OneClassKFold(3), KFold(3)),
        (OneClassKFold(3, shuffle=True), KFold(3, shuffle=True)),
        (OneClassShuffleSplit(3, shots=None), ShuffleSplit(3, test_size=0.5)),
        (OneClassShuffleSplit(3, shots=None, test_size=2), ShuffleSplit(3, test_size=2)),
    ],
    ids=str,
)
def test_normals_are_split_as_by_scikit_learn(cv, reference, groups, seed):
    """The test set is the held-out normals as in scikit-learn, then the anomalies in order."""
    if groups is not None:
        params = {k: v for k, v in vars(reference).items() if not k.startswith("_")}
        grouped = GroupKFold if isinstance(reference, KFold) else GroupShuffleSplit
        reference = grouped(**params)
    if getattr(cv, "shuffle", True):
        reference.random_state = np.random.RandomState(seed)
    normals = np.flatnonzero(Y == 1)
    normal_groups = None if groups is None else groups[normals]
    cv = clone_splitter(cv, random_state=seed)
    expected = list(reference.split(normals, groups=normal_groups))
    for (train, test), (left, right) in zip(cv.split(Y, Y, groups), expected, strict=True):
        assert_array_equal(train, normals[left])
        anomalies = np.flatnonzero(Y == -1)
        if groups is not None:
            anomalies = anomalies[~np.isin(groups[anomalies], groups[train])]
        assert_array_equal(test, np.r_[normals[right], anomalies])


@pytest.mark.parametrize("cv", [OneClassKFold(3), OneClassShuffleSplit(9, test_size=3)], ids=str)
def test_shots_are_drawn_at_random_from_the_training_normals(cv):
    y = np.r_[np.ones(30, int), -np.ones(5, int)]
    (candidates, _), *_ = clone_splitter(cv, shots=None, random_state=0).split(y, y)
    few = clone_splitter(cv, shots=6, random_state=0)
    shots = [train for train, _ in few.split(y, y)]
    assert set(shots[0]) < set(candidates)
    assert any(np.diff(train).min() < 0 for train in shots)  # in random order
    assert not np.array_equal(shots[0], candidates[:6])
    other = [train for train, _ in clone_splitter(few, random_state=1).split(y, y)]
    assert not all(map(np.array_equal, shots, other))


def test_anomalies_are_drawn_anew_in_each_split():
    y = np.r_[np.ones(10, int), -np.ones(20, int)]
    cv = OneClassKFold(5, anomaly_size=5, random_state=0)
    anomalies = [test[test >= 10] for _, test in cv.split(y, y)]
    assert len({tuple(a) for a in anomalies}) == 5
    assert all((np.diff(a) > 0).all() for a in anomalies)  # distinct and in order
    assert max(map(max, anomalies)) > 25 and min(map(min, anomalies)) < 15
    cv.random_state = 1
    other = [test[test >= 10] for _, test in cv.split(y, y)]
    assert not all(map(np.array_equal, anomalies, other))


@pytest.mark.parametrize("size, number", [(0.5, 13), (0.55, 14), (0.04, 1), (0.28, 7), (1.0, 25)])
def test_shares_of_anomalies_are_rounded_up(size, number):
    """28 % of 25 are 7, although 0.28 x 25 is a little more in binary."""
    y = np.r_[np.ones(4, int), -np.ones(25, int)]
    for _, test in OneClassKFold(2, anomaly_size=size).split(y, y):
        assert (y[test] == -1).sum() == number


def test_anomalies_are_tested_unless_a_shot_is_of_their_group():
    """Groups of normal images that were not drawn do not count."""
    y = np.r_[np.ones(8, int), -np.ones(4, int)]
    groups = np.r_[0, 0, 1, 1, 2, 2, 3, 3, 0, 1, 2, 3]
    for train, test in OneClassKFold(2, shots=1, random_state=0).split(y, y, groups):
        assert_array_equal(test[y[test] == -1], 8 + np.setdiff1d(range(4), groups[train]))
