"""Held-out scores from inner products are those of densities that are fitted on every fold."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.covariance import OAS

from skcoft._evidence import held_out
from skcoft._evidence.density_calls import fit_density
from skcoft._evidence.gram import Gram, can_use_gram
from skcoft._evidence.held_out import score_by_gram, score_calibration_rows, score_held_out
from skcoft._network.support import Support
from skcoft.density import GaussianDensity, KernelDensity

DENSITIES = [
    KernelDensity(),
    KernelDensity("loo"),
    KernelDensity(0.3),
    KernelDensity(covariance_type="full"),
    KernelDensity("loo", covariance_type="full"),
    GaussianDensity(),
    GaussianDensity(0.02),
]


def make_support(ids, d=200, n_views=0, mirror=True, n_moved=4, seed=0):
    """Return a support of unit vectors, as images have: rows of a shot lie close together."""
    rng = np.random.default_rng(seed)
    support = Support.allot(ids, n_views, mirror)
    scales = np.exp(-np.arange(d) / 20)
    shots = 10 * rng.normal(size=d) + rng.normal(size=(max(ids) + 1, d)) * scales
    rows = shots[support.shot_ids]
    rows += rng.normal(size=(len(support.shot_ids), d)) * scales / 5
    moved = np.tile(np.arange(n_moved) % (max(ids) + 1), 3)
    has_moves = len(moved) > 0
    return Support(
        rows / np.linalg.norm(rows, axis=1, keepdims=True),
        support.shot_ids,
        support.roles,
        support.is_calibration,
        moves=rng.normal(size=(len(moved), d)) * scales[::-1] / 50 if has_moves else None,
        move_ids=moved if has_moves else None,
    )


def score_both_ways(density, support):
    """Return held-out scores from inner products, and by densities that are fitted on folds."""
    fitted = fit_density(density, support.embeddings, support.shot_ids, support.moves)
    groups, is_scored = support.groups, support.is_calibration
    by_fits = score_held_out(
        fitted, support.embeddings_held_out, groups, is_scored, support.moves_held_out
    )
    return score_by_gram(fitted, support, groups, is_scored), by_fits


SUPPORTS = {
    "a single shot": make_support([0], n_views=8, n_moved=1),
    "two shots": make_support(range(2), n_views=8, n_moved=2),
    "eight shots": make_support(range(8), n_moved=8),
    "only some with moves": make_support(range(8), n_moved=1),
    "without moves": make_support(range(8), n_moved=0),
    "more shots than folds": make_support(range(24), n_moved=16),
    "shots of several images": make_support([0, 1, 1, 2, 3, 3, 3, 4], n_views=2, n_moved=5),
    "more rows than features": make_support(range(24), d=20, n_moved=16),
}


@pytest.mark.parametrize("density", DENSITIES, ids=str)
@pytest.mark.parametrize("name", SUPPORTS)
def test_scores_from_inner_products(density, name):
    actual, expected = score_both_ways(density, SUPPORTS[name])
    assert len(expected) == SUPPORTS[name].is_calibration.sum() and np.ptp(expected) > 1e-5
    # whitened rows of the fold lie outside of its span by round-off, see the next test. It is up
    # to 7e-8 on one processor and 1.2e-7 on another.
    is_whitened = isinstance(density, KernelDensity) and density.covariance_type == "full"
    assert_allclose(actual, expected, rtol=3e-7 if is_whitened else 1e-9)


@pytest.mark.parametrize("name", ["two shots", "eight shots", "shots of several images"])
def test_scores_from_inner_products_are_those_of_the_equation(name):
    """Of full kernels, with the inverse of the covariance."""
    support = SUPPORTS[name]
    rows, groups, d = support.embeddings, support.groups, 200
    fitted = KernelDensity(0.5, "full").fit(rows, groups=groups, moves=support.moves)
    actual, expected = np.full((2, len(rows)), np.nan)
    actual[support.is_calibration] = score_by_gram(fitted, support, groups, support.is_calibration)
    for shot in np.unique(groups):
        train, test = groups != shot, (groups == shot) & support.is_calibration
        moves = support.moves[support.move_ids != shot]
        covariance = np.cov(rows[train].T, bias=True)
        rho = OAS().fit(rows[train]).shrinkage_
        covariance = (1 - rho) * covariance + rho * np.trace(covariance) / d * np.eye(d)
        covariance += moves.T @ moves / max(len(moves), 1)
        # at the determinant of all rows
        log_ratio = vars(fitted)["_shape"].log_determinant_ - np.linalg.slogdet(covariance)[1]
        covariance *= np.exp(log_ratio / d)
        points = [multivariate_normal(row, 0.25 * covariance) for row in rows[train]]
        counts = np.unique(groups[train], return_inverse=True, return_counts=True)[1:]
        weights = 1 / counts[1][counts[0]] / len(counts[1])
        densities = np.stack([point.logpdf(rows[test]) for point in points])
        expected[test] = logsumexp(densities, axis=0, b=weights[:, None])
    assert_allclose(actual, expected, rtol=1e-9)


@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_no_density_is_fitted_on_a_fold_of_images(density, monkeypatch):
    support = SUPPORTS["eight shots"]
    fitted = fit_density(density, support.embeddings, support.shot_ids, support.moves)
    expected = score_both_ways(density, support)[0]
    monkeypatch.setattr(held_out, "score_held_out", None)
    assert_array_equal(score_calibration_rows(fitted, support), expected)


def test_other_densities_are_fitted_on_every_fold():
    class Own(KernelDensity):
        pass

    support = SUPPORTS["eight shots"]
    arrays = support.embeddings, support.moves
    assert can_use_gram(KernelDensity().fit(arrays[0]), *arrays)
    assert not can_use_gram(Own().fit(arrays[0]), *arrays)
    assert not can_use_gram(GaussianDensity("ledoit_wolf").fit(arrays[0]), *arrays)
    few_features = SUPPORTS["more rows than features"]  # the Gram matrix would be the larger one
    rows = few_features.embeddings
    assert not can_use_gram(KernelDensity().fit(rows), rows, few_features.moves)
    expected = score_both_ways(KernelDensity(), support)[1]
    fitted = fit_density(Own(), arrays[0], support.shot_ids)
    assert_array_equal(score_calibration_rows(fitted, support), expected)


@pytest.mark.parametrize("density", [KernelDensity(covariance_type="full"), GaussianDensity()])
def test_images_that_hardly_differ_are_scored_with_all_digits(density):
    """Inner products have too few digits if moves are far longer than differences of images."""
    support = SUPPORTS["eight shots"]
    center = support.embeddings.mean(axis=0)
    support.embeddings[:] = center + 1e-6 * (support.embeddings - center)
    fitted = fit_density(density, support.embeddings, support.shot_ids, support.moves)
    with pytest.raises(np.linalg.LinAlgError):
        score_both_ways(density, support)
    expected = score_held_out(
        fitted,
        support.embeddings_held_out,
        support.groups,
        support.is_calibration,
        support.moves_held_out,
    )
    assert_array_equal(score_calibration_rows(fitted, support), expected)


def test_rows_far_from_the_origin_lose_no_digits():
    support = make_support(range(8))
    far = Support(
        support.embeddings + 1e4,
        support.shot_ids,
        support.roles,
        support.is_calibration,
        moves=support.moves,
        move_ids=support.move_ids,
    )
    gram = Gram.of(far.embeddings, far.moves)
    assert_allclose(gram.products, Gram.of(support.embeddings, support.moves).products, atol=1e-9)
    assert_allclose(*score_both_ways(KernelDensity(covariance_type="full"), far), rtol=1e-7)
