import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    get_scorer,
    make_scorer,
    recall_score,
)

from skcoft._evidence.threshold import (
    automatic_offset,
    best_offset,
    conformal_offset,
    conformal_pvalues,
    labels_from_decision,
)


@pytest.mark.parametrize("n", [1, 2])
def test_of_too_few_shots_it_is_the_lowest_score_of_a_shot_or_view(n):
    scores = np.array([3.0, 2.0])[:n]
    for of_views, lowest in (([1.0, 4.0], 1.0), ([9.0], scores.min()), ([], scores.min())):
        with pytest.warns(UserWarning, match=f"on {n} of"):
            assert automatic_offset(scores, np.array(of_views)) == lowest


@pytest.mark.parametrize("max_fpr", [0.05, 0.1, 0.34])
def test_conformal_offset_bounds_false_alarms(max_fpr):
    """On average over calibration sets, as close below max_fpr as their size allows."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 40))
    rates = [(row[20:] < conformal_offset(row[:20], max_fpr)).mean() for row in scores]
    assert np.mean(rates) == pytest.approx(np.floor(max_fpr * 21) / 21, abs=0.004)


def test_conformal_pvalues_are_uniform_on_normals_and_never_zero():
    rng = np.random.default_rng(0)
    pvalues = np.array(
        [conformal_pvalues(rng.normal(size=9), rng.normal(size=1)) for _ in range(9999)]
    )
    counts = np.bincount((pvalues.ravel() * 10).round().astype(int), minlength=11)
    assert counts[0] == 0
    assert counts[1:] == pytest.approx(np.full(10, 999.9), rel=0.12)
    assert_allclose(
        conformal_pvalues([1.0, 2.0, 3.0], [-9.0, 2.0, 2.5, 9.0]), [0.25, 0.75, 0.75, 1]
    )


def test_best_offset_maximises_the_metric_over_all_cuts():
    rng = np.random.default_rng(0)
    scores = np.r_[rng.normal(1, 1, 30), rng.normal(-1, 1, 20)]
    y = np.r_[np.ones(30, int), -np.ones(20, int)]
    anomalies = make_scorer(f1_score, pos_label=-1)
    metrics = {
        "balanced_accuracy": balanced_accuracy_score,
        "f1": f1_score,
        anomalies: lambda y, p: f1_score(y, p, pos_label=-1),
    }
    for scoring, metric in metrics.items():
        values = [metric(y, np.where(scores < cut, -1, 1)) for cut in scores]
        found = best_offset(scores, y, scoring)
        assert metric(y, np.where(scores < found, -1, 1)) == max(values)


@pytest.mark.parametrize("scoring", ["balanced_accuracy", "recall", "f1", "matthews_corrcoef"])
def test_named_metrics_are_taken_where_labels_change_and_all_cuts_count(scoring):
    """A scorer, which is asked at every cut, finds the same threshold as its name."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        y = rng.choice([-1, 1], 60)
        scores = (rng.normal(size=60) + y).round(1)  # of which some are equal
        everywhere = get_scorer(scoring)
        calls = []

        def counted(*args, everywhere=everywhere, calls=calls):
            calls.append(1)
            return everywhere(*args)

        assert best_offset(scores, y, scoring) == best_offset(scores, y, counted)
        assert len(calls) == len(np.unique(scores)) + 1


def test_a_cut_above_all_scores_counts():
    recall = make_scorer(recall_score, pos_label=-1)
    scores, y = np.array([1.0, 2, 3]), np.array([-1, 1, -1])
    assert best_offset(scores, y, recall) > 3


def test_scorers_that_give_no_number():
    scores, y = np.array([1.0, 2, 3, 4]), np.array([-1, -1, 1, 1])

    def sometimes(estimator, X, y):
        found = (estimator.predict(X) == y).mean()
        return found if found < 1 else np.nan

    assert best_offset(scores, y, sometimes) in (1.5, 3.5)
    for scoring in ("no_such_metric", lambda *args: np.nan, lambda *args: "high"):
        with pytest.raises(ValueError, match="scoring"):
            best_offset(scores, y, scoring)


def test_labels_of_distances():
    distances = np.array([-1, 0, 2, np.nan, np.inf, -np.inf])
    assert labels_from_decision(distances).tolist() == [-1, 1, 1, -1, -1, -1]
