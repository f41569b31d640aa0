import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.ensemble import IsolationForest
from sklearn.metrics import balanced_accuracy_score, f1_score, make_scorer
from sklearn.mixture import GaussianMixture

from skcoft._threshold import (
    MOST_ALIKE,
    automatic_offset,
    best_offset,
    conformal_offset,
    conformal_pvalues,
    fit_density,
    held_out_scores,
    join_densities,
    likeness,
)
from skcoft.density import GaussianDensity, KernelDensity


def offset_of(fitted, embeddings, shots, own):
    weight, held_out = join_densities(fitted, None, embeddings, shots, own, np.zeros_like(own))
    assert weight == 0  # there is no local density
    return automatic_offset(held_out, own.sum())


def sample(k, n_views=8, d=64, seed=0):
    """Shots and their views (close to them) around one centre; then 1,000 unseen normals."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d)) * np.exp(-np.arange(d) / 8)
    normal = rng.normal(size=(k + 1000, d)) @ mixing.T
    views = normal[None, :k] + 0.1 * rng.normal(size=(n_views, k, d)) @ mixing.T
    embeddings = np.concatenate([normal[:k], views.reshape(-1, d)])
    shots = np.tile(np.arange(k), n_views + 1)
    return embeddings, shots, np.arange(len(shots)) < k, normal[k:]


@pytest.mark.parametrize("density", [KernelDensity(), KernelDensity("loo"), GaussianDensity()])
@pytest.mark.parametrize("k", [4, 8, 16])
def test_false_alarms_on_unseen_normals(density, k):
    """About 5 % on average, where an in-sample threshold would flag most of them."""
    rates, naive = [], []
    for seed in range(20):
        embeddings, shots, own, unseen = sample(k, seed=seed)
        fitted = fit_density(density, embeddings, shots)
        scores = fitted.score_samples(unseen)
        rates.append(np.mean(scores < offset_of(fitted, embeddings, shots, own)))
        naive.append(np.mean(scores < fitted.score_samples(embeddings).min()))
    assert 0.005 < np.mean(rates) < (0.2 if k == 4 else 0.12)  # four shots tell little
    assert np.mean(naive) > 0.5


def test_no_view_of_a_shot_calibrates_against_that_shot():
    """A density is told only rows of other shots, for each of the shots in turn."""
    embeddings, shots, own, _ = sample(12, n_views=2)
    row_of = {row.tobytes(): shot for row, shot in zip(embeddings, shots, strict=True)}
    seen = []

    class Spy(GaussianMixture):
        def fit(self, X, y=None):
            seen.append({row_of[row.tobytes()] for row in X})
            return super().fit(X)

        def score_samples(self, X):
            assert not seen[-1] & {row_of[row.tobytes()] for row in X}
            return super().score_samples(X)

    scores = held_out_scores(Spy(reg_covar=1.0), embeddings, shots, own)
    assert scores.shape == (12,) and np.isfinite(scores).all()
    assert len(seen) == 10


def test_any_density_can_be_held_out():
    embeddings, shots, own, unseen = sample(8)
    fitted = IsolationForest(random_state=0).fit(embeddings)
    offset = offset_of(fitted, embeddings, shots, own)
    assert np.mean(fitted.score_samples(unseen) < offset) < 0.3


@pytest.mark.parametrize("n_shots", [1, 2])
def test_too_few_shots_warn(n_shots):
    embeddings, shots, own, _ = sample(n_shots)
    fitted = fit_density(KernelDensity(), embeddings, shots)
    with pytest.warns(UserWarning, match=f"cannot calibrate a threshold on {n_shots} of the at"):
        offset = offset_of(fitted, embeddings, shots, own)
    assert np.isfinite(offset)
    assert offset <= fitted.score_samples(embeddings).min()  # every view is held out


@pytest.mark.parametrize("n_shots", [3, 4, 8])
def test_automatic_offset_counts_that_held_out_scores_share_distances(n_shots):
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(300):
        X, unseen = rng.normal(size=(n_shots, 20)), rng.normal(size=(50, 20))
        density, shots = KernelDensity().fit(X), np.arange(n_shots)
        held_out = held_out_scores(density, X, shots, shots >= 0)
        offset = automatic_offset(held_out, n_shots)
        rates.append(np.mean(density.score_samples(unseen) < offset))
    assert 0.03 < np.mean(rates) < 0.075


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
    with pytest.raises(ValueError, match="scoring"):
        best_offset(scores, y, "no_such_metric")


def test_likeness_is_one_where_shots_differ_as_views_do():
    rng = np.random.default_rng(0)
    for spread, low, high in ((0.0, 0.97, 1.03), (1.0, 0.45, 0.55), (3.0, 0.07, 0.13)):
        firsts = rng.normal(size=(50, 200), scale=np.sqrt(1 + spread**2))
        views = firsts + rng.normal(size=(8, 50, 200))
        embeddings = np.concatenate([firsts, views.reshape(400, 200)])
        shots, own = np.tile(np.arange(50), 9), np.arange(450) < 50
        assert low <= likeness(embeddings, shots, own) <= high


def test_likeness_grows_where_shots_differ_less_than_views():
    rng = np.random.default_rng(0)
    firsts = rng.normal(size=(50, 200)) / 2
    views = firsts + rng.normal(size=(8, 50, 200))
    embeddings = np.concatenate([firsts, views.reshape(400, 200)])
    shots, own = np.tile(np.arange(50), 9), np.arange(450) < 50
    assert_allclose(likeness(embeddings, shots, own), 4, rtol=0.05)


def test_likeness_does_not_hang_on_order_and_scale():
    embeddings, shots, own, _ = sample(6)
    expected = likeness(embeddings, shots, own)
    assert 0 < expected < 0.1  # views within a tenth of the shots' spread
    order = np.random.default_rng(0).permutation(len(shots))
    found = likeness(7 * embeddings[order] - 3, 100 - shots[order], own[order])
    assert_allclose(found, expected)


@pytest.mark.parametrize("n_views", [0, 3])
def test_likeness_is_bounded_for_equal_shots_and_one_without_a_pair(n_views):
    rng = np.random.default_rng(0)
    views = np.concatenate([np.ones((4, 5)), 1 + 0.1 * rng.normal(size=(4 * n_views, 5))])
    shots, own = np.tile(np.arange(4), n_views + 1), np.arange(len(views)) < 4
    assert_allclose(likeness(views, shots, own), MOST_ALIKE if n_views else 1)
    assert likeness(np.ones_like(views), shots, own) == 1
    one = shots == 0
    assert likeness(views[one], shots[one], own[one]) == 1
