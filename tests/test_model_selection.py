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


def test_no_labels_stand_for_normal():
    cv = OneClassKFold(3)
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
        pipeline, {"isolationforest__n_estimators": [5, 50]},
        cv=OneClassKFold(3, shots=8, random_state=0),
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


def test_label_free_search(task):
    """Normal images alone tell a network that sees shapes from one that sees the mean alone."""
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
    blind, sighted = search.cv_results_["mean_test_score"]
    assert sighted > blind + 0.1


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
    """Of an estimator that sees brightness alone, and a kind that changes nothing else."""

    class Brightness(BaseEstimator):
        def decision_function(self, X):
            return torch.as_tensor(X).float().mean(dim=(1, 2, 3)).numpy()

    images = np.stack([np.full((8, 8), level) for level in (0.2, 0.4, 0.6, 0.8)])
    for factor, low, high in ((0.0, 1, 1), (1.0, 0.4, 0.6), (1.2, 0, 0.5)):
        scorer = LabelFreeScorer(kinds=[lambda x, f=factor: (x * f).clamp(0, 1)])
        assert low <= scorer(Brightness(), images) <= high


@pytest.mark.parametrize("kind", ["arrays", "uint8 rows", "float rows", "sizes"])
def test_label_free_score_of_other_inputs(kind, photos):
    """Table are given to the detector as rows, images of several sizes one by one."""
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
    """The pipeline gets rows, and gives the score of its detector on what it makes of them."""
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
    "scorer, params, message",
    [
        (LabelFreeScorer(kinds=[]), {}, "'kinds' parameter of LabelFreeScorer must be a sequence"),
        (LabelFreeScorer(kinds=["labelled"]), {}, "'kinds' parameter"),
        (LabelFreeScorer(n_draws=0), {}, "'n_draws' parameter .* >= 1; got 0"),
        (LabelFreeScorer(random_state=None), {}, "'random_state' parameter .* >= 0; got None"),
        (LabelFreeScorer(["cutpaste"]), {}, "holds .'cutpaste'., which the candidate was trained"),
        (LabelFreeScorer(), {"negatives": ["cutpaste", "warp"]}, r"\(negatives=\['cutpaste'"),
    ],
)
def test_what_cannot_be_scored(scorer, params, message, task):
    X, _ = task
    with pytest.raises(ValueError, match=message):
        scorer(detector(**params).fit(X[:6]), X[6:24])


def test_kinds_count_as_trained_on_only_where_they_were(task):
    X, _ = task
    for params in ({"negative_weight": 0}, {"max_iter": 0}):
        fitted = detector().set_params(**params).fit(X[:6])
        assert LabelFreeScorer(["cutpaste"])(fitted, X[6:24]) > 0
    pipeline = make_pipeline(detector()).fit(X[:6])
    with pytest.raises(ValueError, match="coftdetector__negatives='cutpaste'"):
        LabelFreeScorer(["cutpaste"])(pipeline, X[6:24])


def test_rows_and_anomalies_alone_cannot_be_scored(task):
    X, _ = task
    fitted = detector().fit(X[:6])
    with pytest.raises(ValueError, match="X must hold images; got rows of features"):
        LabelFreeScorer()(fitted, X.reshape(36, -1))
    with pytest.raises(ValueError, match="X holds no normal image"):
        LabelFreeScorer()(fitted, X, -np.ones(36))


@pytest.mark.parametrize(
    "made, expected",
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
def test_defaults(made, expected):
    assert vars(made) == expected


def test_default_detectors_are_not_trained_on_what_they_are_scored_by():
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
    """The test set is the held-out normals in its order, then the anomalies in theirs."""
    if groups is not None:
        params = {k: v for k, v in vars(reference).items() if not k.startswith("_")}
        grouped = GroupKFold if isinstance(reference, KFold) else GroupShuffleSplit
        reference = grouped(**params)
    if getattr(cv, "shuffle", True):
        reference.random_state = np.random.RandomState(seed)
    normals = np.flatnonzero(Y == 1)
    held = None if groups is None else groups[normals]
    cv = clone_splitter(cv, random_state=seed)
    expected = list(reference.split(normals, groups=held))
    for (train, test), (left, right) in zip(cv.split(Y, Y, groups), expected, strict=True):
        assert_array_equal(train, normals[left])
        shown = np.flatnonzero(Y == -1)
        if groups is not None:
            shown = shown[~np.isin(groups[shown], groups[train])]
        assert_array_equal(test, np.r_[normals[right], shown])


@pytest.mark.parametrize("cv", [OneClassKFold(3), OneClassShuffleSplit(9, test_size=3)], ids=str)
def test_shots_are_drawn_at_random_from_the_normals_left(cv):
    y = np.r_[np.ones(30, int), -np.ones(5, int)]
    all_left = clone_splitter(cv, shots=None, random_state=0).split(y, y)
    few = clone_splitter(cv, shots=6, random_state=0)
    drawn = [train for train, _ in few.split(y, y)]
    (left, _), *_ = all_left
    assert set(drawn[0]) < set(left)
    assert any(np.diff(train).min() < 0 for train in drawn)  # in random order
    assert not np.array_equal(drawn[0], left[:6])
    other = [train for train, _ in clone_splitter(few, random_state=1).split(y, y)]
    assert not all(map(np.array_equal, drawn, other))


def test_anomalies_are_drawn_anew_in_each_split():
    y = np.r_[np.ones(10, int), -np.ones(20, int)]
    cv = OneClassKFold(5, anomaly_size=5, random_state=0)
    shown = [test[test >= 10] for _, test in cv.split(y, y)]
    assert len({tuple(s) for s in shown}) == 5
    assert all((np.diff(s) > 0).all() for s in shown)  # distinct and in order
    assert max(map(max, shown)) > 25 and min(map(min, shown)) < 15
    cv.random_state = 1
    assert any(tuple(t[t >= 10]) != tuple(s) for (_, t), s in zip(cv.split(y, y), shown, strict=1))


@pytest.mark.parametrize("size, number", [(0.5, 13), (0.55, 14), (0.04, 1), (0.28, 7), (1.0, 25)])
def test_shares_of_anomalies_are_rounded_up(size, number):
    """But 28 % of 25 are 7, though 0.28 x 25 is a little more in binary."""
    y = np.r_[np.ones(4, int), -np.ones(25, int)]
    for _, test in OneClassKFold(2, anomaly_size=size).split(y, y):
        assert (y[test] == -1).sum() == number


def test_anomalies_of_a_group_that_no_shot_is_of_are_shown():
    """Groups are kept apart from the shots, not from normals that were not drawn."""
    y = np.r_[np.ones(8, int), -np.ones(4, int)]
    groups = np.r_[0, 0, 1, 1, 2, 2, 3, 3, 0, 1, 2, 3]
    for train, test in OneClassKFold(2, shots=1, random_state=0).split(y, y, groups):
        assert_array_equal(test[y[test] == -1], 8 + np.setdiff1d(range(4), groups[train]))
