import numpy as np
import pytest
from scipy import stats

from skcoft._evidence.held_out import score_held_out
from skcoft._evidence.limits import is_suspect, lower_limit, median_and_deviation
from skcoft.density import KernelDensity


def test_deviation_is_that_of_normal_deviates():
    scores = np.random.default_rng(0).normal(5, 2, 20_000)
    assert median_and_deviation(scores) == pytest.approx((5, 2), rel=0.02)


@pytest.mark.parametrize(("n", "dof"), [(3, 1), (4, 1.5), (7, 3), (30, 3)])
def test_lower_limit_is_the_lower_end_of_a_prediction_interval(n, dof):
    """For scores that correlate by 1 / (n - 1); views do not count from three shots on."""
    scores = np.random.default_rng(n).normal(5, 2, n)
    median, mad = np.median(scores), stats.median_abs_deviation(scores, scale="normal")
    deviation = mad / np.sqrt(1 - 1 / (n - 1)) * np.sqrt(1 + np.pi / n)
    assert lower_limit(scores, [-99.0]) == pytest.approx(
        median - stats.t.ppf(0.95, dof) * deviation
    )


@pytest.mark.parametrize("n", [1, 2])
def test_of_too_few_shots_it_is_the_lowest_score_of_a_shot_or_view(n):
    scores = np.array([3.0, 2.0])[:n]
    for of_views, lowest in (([1.0, 4.0], 1.0), ([9.0], scores.min()), ([], scores.min())):
        assert lower_limit(scores, np.array(of_views)) == lowest


@pytest.mark.parametrize("n_shots", [4, 8, 32])
def test_about_five_percent_of_unseen_rows_lie_below(n_shots):
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(300):
        X, unseen = rng.normal(size=(n_shots, 20)), rng.normal(size=(50, 20))
        density, shots = KernelDensity().fit(X), np.arange(n_shots)
        held_out = score_held_out(density, lambda training, X=X: X, shots, shots >= 0)
        rates.append(np.mean(density.score_samples(unseen) < lower_limit(held_out)))
    assert 0.02 < np.mean(rates) < 0.08


def test_one_wrong_score_hardly_moves_the_limit():
    rng = np.random.default_rng(0)
    for n in (8, 16, 32):
        scores = rng.normal(size=(200, n))
        wrong = np.c_[scores[:, 1:], np.full(200, -1e6)]
        limits, with_wrong = ([lower_limit(row) for row in rows] for rows in (scores, wrong))
        assert np.median(np.subtract(limits, with_wrong)) < 1.3


def test_a_score_far_below_the_others_is_suspect():
    scores = np.r_[np.random.default_rng(0).normal(size=15), -30]
    assert is_suspect(scores).tolist() == [False] * 15 + [True]
    assert not is_suspect(scores[:15]).any()
    assert not is_suspect(np.array([0.0, 1.0, -1e9])).any()  # too few to know


@pytest.mark.parametrize("n", [4, 8, 32])
def test_scores_with_heavy_tails_are_rarely_suspect(n):
    scores = np.random.default_rng(0).standard_t(4, size=(2000, n))
    assert np.mean([is_suspect(row).any() for row in scores]) < 0.04


def test_equal_scores_are_their_own_limit():
    assert lower_limit(np.full(8, 3.0)) == 3
    assert not is_suspect(np.full(8, 3.0)).any()
