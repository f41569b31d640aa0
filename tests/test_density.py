import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from sklearn import config_context
from sklearn.covariance import OAS, LedoitWolf, ShrunkCovariance
from sklearn.neighbors import KernelDensity as TreeKernelDensity

from skcoft.density import (
    GaussianDensity,
    KernelDensity,
    in_chunks,
    likelihood_bandwidth,
    logsumexp_rows,
)

DENSITIES = [
    KernelDensity(),
    KernelDensity("loo"),
    KernelDensity(0.3),
    KernelDensity(covariance_type="full"),
    GaussianDensity(),
    GaussianDensity("ledoit_wolf"),
    GaussianDensity(0.1),
]


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(40, 6)) * [1, 2, 3, 1, 1, 0.5] + 5


@pytest.mark.parametrize("estimator", [KernelDensity, GaussianDensity])
def test_defaults(estimator):
    expected = {
        KernelDensity: {"bandwidth": "scale", "covariance_type": "spherical"},
        GaussianDensity: {"shrinkage": "oas"},
    }
    assert estimator().get_params() == expected[estimator]


def test_kernel_density_equals_sklearn(rows):
    queries = np.random.default_rng(1).normal(size=(300, 6)) * 3 + 5
    expected = TreeKernelDensity(bandwidth=0.7).fit(rows).score_samples(queries)
    assert_allclose(KernelDensity(0.7).fit(rows).score_samples(queries), expected, atol=1e-8)


@pytest.mark.parametrize("shrinkage", ["oas", 0.3])
def test_gaussian_equals_scipy(rows, shrinkage):
    queries = np.random.default_rng(1).normal(size=(50, 6)) * 3 + 5
    covariance = OAS() if shrinkage == "oas" else ShrunkCovariance(shrinkage=shrinkage)
    covariance.fit(rows)
    expected = multivariate_normal(rows.mean(0), covariance.covariance_).logpdf(queries)
    assert_allclose(GaussianDensity(shrinkage).fit(rows).score_samples(queries), expected)


@pytest.mark.parametrize("bandwidth", ["scale", "loo", 0.4])
def test_full_kernels_have_the_shape_of_the_shrunk_covariance(rows, bandwidth):
    """A mixture of normal densities around the rows, of b² times the covariance."""
    queries = np.random.default_rng(1).normal(size=(50, 6)) * 3 + 5
    fitted = KernelDensity(bandwidth, "full").fit(rows)
    covariance = fitted.bandwidth_**2 * OAS().fit(rows).covariance_
    kernels = [multivariate_normal(row, covariance).logpdf(queries) for row in rows]
    expected = logsumexp(kernels, axis=0) - np.log(40)
    assert_allclose(fitted.score_samples(queries), expected)
    whitened = GaussianDensity().fit(rows).whiten(rows)
    if isinstance(bandwidth, str):
        assert fitted.bandwidth_ == pytest.approx(
            KernelDensity(bandwidth).fit(whitened).bandwidth_
        )


def test_full_kernels_of_few_rows_count_what_lies_outside_of_their_span():
    """As the Gaussian does; along the span they are kernels of rows."""
    rng = np.random.default_rng(0)
    X, queries = rng.normal(size=(8, 100)), rng.normal(size=(50, 100))
    full, gaussian = KernelDensity(covariance_type="full").fit(X), GaussianDensity().fit(X)
    ranks = [density.score_samples(queries) for density in (full, gaussian)]
    assert np.corrcoef(*ranks)[0, 1] > 0.9
    between = X[:2].mean(axis=0, keepdims=True)  # in the span
    off = between + 0.5 * queries[:1]
    assert full.score_samples(X[:1]) > full.score_samples(between) > full.score_samples(off)


def test_rows_in_units_of_the_covariance(rows):
    """Distances to the fitted rows are those of Mahalanobis; outside is the last column."""
    few = rows[:4]
    for X, queries in ((rows, rows[:5] + 1), (few, rows[5:9])):
        density = GaussianDensity().fit(X)
        precision = np.linalg.inv(OAS().fit(X).covariance_)
        away = queries - X[0]
        expected = np.sqrt(np.einsum("ij,jk,ik->i", away, precision, away))
        assert_allclose(
            np.linalg.norm(density.whiten(queries) - density.whiten(X[:1]), axis=1), expected
        )
        assert_allclose(density.whiten(X)[:, -1], 0, atol=1e-6)
    assert density.log_determinant_ == pytest.approx(-np.linalg.slogdet(precision)[1])
    with pytest.raises(ValueError, match="features"):
        density.whiten(rows[:, :5])


@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_few_rows_in_many_dimensions(density):
    """8 unit vectors in 512 dimensions: finite, ranks near above far, far is not -inf."""
    rng = np.random.default_rng(0)
    center = rng.normal(size=512)
    X = center + 0.3 * rng.normal(size=(8, 512))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    near = X.mean(0, keepdims=True)
    scores = density.fit(X).score_samples(np.concatenate([near, -near, 100 * near]))
    assert np.isfinite(scores).all()
    assert scores[0] > scores[1] > scores[2]


@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_score_does_not_depend_on_other_rows(density, rows):
    queries = np.random.default_rng(1).normal(size=(301, 6)) + 5
    density.fit(rows)
    together = density.score_samples(queries)
    alone = np.concatenate([density.score_samples(q[None]) for q in queries])
    order = np.random.default_rng(2).permutation(len(queries))
    assert_array_equal(together, alone)
    assert_array_equal(together[order], density.score_samples(queries[order]))


@pytest.mark.parametrize("working_memory", [0.001, 0])
@pytest.mark.parametrize("density", [KernelDensity("loo"), GaussianDensity()], ids=str)
def test_memory_bound_changes_nothing(density, rows, working_memory):
    queries = np.random.default_rng(1).normal(size=(200, 6)) + 5
    expected = density.fit(rows).score_samples(queries)
    with config_context(working_memory=working_memory):
        assert_allclose(density.fit(rows).score_samples(queries), expected, rtol=1e-6)


@pytest.mark.parametrize("bandwidth", ["scale", "loo"])
def test_bandwidth_follows_scale(rows, bandwidth):
    small = KernelDensity(bandwidth).fit(rows).bandwidth_
    large = KernelDensity(bandwidth).fit(1000 * rows).bandwidth_
    assert large == pytest.approx(1000 * small, rel=1e-6)


def test_scale_bandwidth_is_scotts_rule_for_round_data():
    X = np.random.default_rng(0).normal(size=(20000, 2))
    assert KernelDensity().fit(X).bandwidth_ == pytest.approx(20000 ** (-1 / 6), rel=0.02)


def test_loo_bandwidth_maximises_held_out_likelihood(rows):
    def likelihood(b):
        left_out = [
            KernelDensity(b).fit(np.delete(rows, i, 0)).score(rows[i : i + 1]) for i in range(40)
        ]
        return sum(left_out)

    best = KernelDensity("loo").fit(rows).bandwidth_
    assert likelihood(best) > max(likelihood(0.9 * best), likelihood(1.1 * best))


def test_loo_leaves_out_whole_groups(rows):
    """Views that hardly differ from their shot must not pull the bandwidth to nothing."""
    views = np.concatenate([rows, rows + 1e-6, rows - 1e-6])
    groups = np.tile(np.arange(40), 3)
    grouped = KernelDensity("loo").fit(views, groups=groups).bandwidth_
    alone = KernelDensity("loo").fit(rows).bandwidth_
    assert grouped == pytest.approx(alone, rel=0.05)
    assert KernelDensity("loo").fit(views).bandwidth_ < 0.1 * alone


@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_equal_rows(density):
    X = np.ones((5, 3))
    scores = density.fit(X).score_samples([[1, 1, 1], [2, 2, 2]])
    assert np.isfinite(scores).all() and scores[0] > scores[1]


def test_fit_at_scale_of_keeps_the_constant(rows):
    kde = KernelDensity().fit(rows)
    assert KernelDensity().fit_at_scale_of(kde, 0.1 * rows[:9]).bandwidth_ == kde.bandwidth_
    full = KernelDensity(covariance_type="full").fit(rows)
    less = KernelDensity(covariance_type="full").fit_at_scale_of(full, 0.1 * rows[:9])
    assert less.bandwidth_ == full.bandwidth_
    assert less._shape.log_determinant_ == pytest.approx(full._shape.log_determinant_)
    whole = GaussianDensity().fit(rows)
    part = GaussianDensity().fit_at_scale_of(whole, 0.1 * rows[:9])
    assert_allclose(part.score_samples([part.location_]), whole.score_samples([whole.location_]))


@pytest.mark.parametrize("density", [KernelDensity(), GaussianDensity()], ids=str)
def test_fit_at_scale_of_same_rows(density, rows):
    whole = density.fit(rows)
    same = type(density)().fit_at_scale_of(whole, rows)
    far = rows.mean(0, keepdims=True) + 3
    assert_allclose(same.score_samples(far), whole.score_samples(far))


@pytest.mark.parametrize(
    "density, parameter",
    [
        (KernelDensity(0), "bandwidth"),
        (KernelDensity("scott"), "bandwidth"),
        (KernelDensity(covariance_type="diag"), "covariance_type"),
        (GaussianDensity(0), "shrinkage"),
        (GaussianDensity("best"), "shrinkage"),
    ],
)
def test_bad_parameters(density, parameter, rows):
    with pytest.raises(ValueError, match=f"'{parameter}' parameter"):
        density.fit(rows)


def test_groups_of_another_length(rows):
    with pytest.raises(ValueError):
        KernelDensity().fit(rows, groups=[0, 1])


def scott(X, k):
    """The equation, with the covariance written out."""
    covariance = np.cov(X.T, bias=True)
    trace = np.trace(covariance)
    effective = trace**2 / np.square(covariance).sum()
    return np.sqrt(trace / effective * k ** (-2 / (effective + 4)))


@pytest.mark.parametrize("n", [4, 40])  # below and above the dimension
@pytest.mark.parametrize("n_groups", [None, 1, 2, 4])
def test_scale_bandwidth_is_scotts_rule_for_groups(rows, n, n_groups):
    """In the effective dimension; rows of one group count once."""
    groups = None if n_groups is None else np.arange(n) % n_groups
    fitted = KernelDensity().fit(rows[:n], groups=groups)
    assert fitted.bandwidth_ == pytest.approx(scott(rows[:n], n_groups or n), rel=1e-9)


def test_groups_may_have_any_names(rows):
    names = np.array(["b", "a", "c", "a"])
    for bandwidth in ("scale", "loo"):
        expected = KernelDensity(bandwidth).fit(rows[:4], groups=[1, 0, 2, 0]).bandwidth_
        assert KernelDensity(bandwidth).fit(rows[:4], groups=names).bandwidth_ == expected


@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_place_is_of_no_account(density, rows):
    """Also far from the origin, where differences of squares would lose all digits."""
    queries = rows[:5] + 0.5
    expected = density.fit(rows).score_samples(queries)
    assert_allclose(density.fit(rows + 1e6).score_samples(queries + 1e6), expected, rtol=1e-6)


@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_score_is_the_total_of_the_rows(density, rows):
    density.fit(rows)
    assert density.score(rows) == pytest.approx(density.score_samples(rows).sum())


@pytest.mark.parametrize("sizes", [(1, 1), (5, 2)])
@pytest.mark.parametrize("d", [1, 3])
def test_loo_bandwidth_of_two_groups(sizes, d):
    """Equal rows, D apart from those of the other group: the best b is D over the root of d."""
    X = np.zeros((sum(sizes), d))
    X[sizes[0] :, 0] = 6
    fitted = KernelDensity("loo").fit(X, groups=np.repeat([0, 1], sizes))
    assert fitted.bandwidth_ == pytest.approx(6 / np.sqrt(d), rel=0.01)


def test_loo_bandwidth_is_a_hundredth_of_scotts_rule_at_least(rows):
    twice = np.repeat(rows, 2, axis=0)  # the copy that is left in would have it at 0
    fitted = KernelDensity("loo").fit(twice)
    assert fitted.bandwidth_ == pytest.approx(0.01 * scott(twice, 80), rel=0.02)


def test_loo_bandwidth_is_10_times_scotts_rule_at_most():
    X = np.array([[0.0], [1]])  # greatest at 1
    assert likelihood_bandwidth(X, X[:, 0], None, 0.02) == pytest.approx(0.2, rel=0.02)
    assert likelihood_bandwidth(X, X[:, 0], None, 0.2) == pytest.approx(1, rel=0.02)


def test_loo_of_one_group_is_scotts_rule(rows):
    one = np.zeros(len(rows))
    fitted = KernelDensity("loo").fit(rows, groups=one)
    assert fitted.bandwidth_ == KernelDensity().fit(rows, groups=one).bandwidth_


@pytest.mark.parametrize("n", [4, 40])
@pytest.mark.parametrize(
    "shrinkage, reference", [("oas", OAS()), ("ledoit_wolf", LedoitWolf())], ids=str
)
def test_shrinkage_equals_sklearn(rows, shrinkage, reference, n):
    X = rows[:n]
    fitted, reference = GaussianDensity(shrinkage).fit(X), reference.fit(X)
    assert fitted.shrinkage_ == pytest.approx(reference.shrinkage_, rel=1e-9)
    expected = multivariate_normal(X.mean(0), reference.covariance_).logpdf(rows)
    assert_allclose(fitted.score_samples(rows), expected)
    assert_allclose(fitted.location_, X.mean(0))


def test_ridge_follows_the_scale_of_the_data(rows):
    """In other units the density is the same, but for the volume."""
    X = rows[:4]
    expected = GaussianDensity().fit(X).score_samples(rows)
    scores = GaussianDensity().fit(1e-6 * X).score_samples(1e-6 * rows)
    assert_allclose(scores + 6 * np.log(1e-6), expected)


@pytest.mark.parametrize("shrinkage", ["oas", "ledoit_wolf", 0.1])
def test_gaussian_of_one_feature_is_plain(rows, shrinkage):
    X = rows[:, :1]
    fitted = GaussianDensity(shrinkage).fit(X)
    assert fitted.shrinkage_ == 1
    assert_allclose(fitted.score_samples(X), norm(X.mean(), X.std()).logpdf(X[:, 0]))


@pytest.mark.parametrize("X", [np.full((1, 3), 2.0), np.full((5, 3), 2.0)], ids=["one", "equal"])
@pytest.mark.parametrize("density", [KernelDensity(), GaussianDensity()], ids=str)
def test_rows_without_spread_have_a_scale_of_1(X, density):
    queries = np.array([[2.0, 2, 2], [2, 2, 5]])
    expected = multivariate_normal(X[0], np.eye(3)).logpdf(queries)
    assert_allclose(density.fit(X).score_samples(queries), expected)


@pytest.mark.parametrize("shrinkage", ["oas", "ledoit_wolf", 0.1])
def test_one_row_shrinks_to_a_ball(shrinkage):
    fitted = GaussianDensity(shrinkage).fit([[1.0, 2, 3]])
    assert fitted.shrinkage_ == 1
    assert_allclose(fitted.score_samples([[1, 2, 3]]), 3 * norm.logpdf(0))


def test_equal_rows_shrink_to_a_ball():
    assert GaussianDensity().fit(np.ones((5, 3))).shrinkage_ == 1


def test_many_rows_hardly_shrink():
    X = np.random.default_rng(0).normal(size=(5000, 2)) * [1, 0.01]
    expected = OAS().fit(X).shrinkage_
    assert expected < 1e-3
    assert GaussianDensity().fit(X).shrinkage_ == pytest.approx(expected)


def test_no_shrinkage_is_none_but_finite():
    """Ledoit's and Wolf's rule gives 0 where all rows are as far from the mean."""
    fitted = GaussianDensity("ledoit_wolf").fit([[1.0, 2], [-1, -2], [1, 2], [-1, -2]])
    assert fitted.shrinkage_ == 1e-12
    assert np.isfinite(fitted.score_samples([[1.0, 2], [2, -1]])).all()


def test_oas_of_round_data_shrinks_to_a_ball():
    X = np.r_[np.eye(3), -np.eye(3)]
    fitted = GaussianDensity().fit(X)
    assert fitted.shrinkage_ == 1
    assert_allclose(fitted.score_samples(X), multivariate_normal(cov=np.eye(3) / 3).logpdf(X))


@pytest.mark.parametrize("n", [4, 9])
def test_fit_at_scale_of_keeps_the_shape_of_the_part(rows, n):
    part = rows[:n] * [1, 1, 1, 1, 1, 9]
    whole, own = (GaussianDensity(0.3).fit(X) for X in (rows, part))
    fitted = GaussianDensity(0.3).fit_at_scale_of(whole, part)
    covariance, target = (ShrunkCovariance(shrinkage=0.3).fit(X).covariance_ for X in (part, rows))
    factor = (np.linalg.det(target) / np.linalg.det(covariance)) ** (1 / 6)
    expected = multivariate_normal(part.mean(0), factor * covariance).logpdf(rows)
    assert_allclose(fitted.score_samples(rows), expected)
    assert not np.allclose(own.score_samples(rows), expected)


@pytest.mark.parametrize("n", [4, 40])
def test_moves_add_their_mean_square_to_the_covariance(rows, n):
    moves = np.random.default_rng(1).normal(size=(3, 6)) * [5, 1, 1, 1, 0, 0]
    covariance = ShrunkCovariance(shrinkage=0.3).fit(rows[:n]).covariance_ + moves.T @ moves / 3
    gaussian = GaussianDensity(0.3).fit(rows[:n], moves=moves)
    expected = multivariate_normal(rows[:n].mean(0), covariance).logpdf(rows)
    assert_allclose(gaussian.score_samples(rows), expected)
    fitted = GaussianDensity(0.3).fit_at_scale_of(GaussianDensity().fit(rows), rows[:n], moves)
    factor = np.exp((fitted.log_determinant_ - gaussian.log_determinant_) / 6)
    expected = multivariate_normal(rows[:n].mean(0), factor * covariance).logpdf(rows)
    assert_allclose(fitted.score_samples(rows), expected)


def test_moves_shape_the_kernels(rows):
    """A query that differs from a kernel by a move scores higher than without moves."""
    moves, query = np.eye(6)[:1] * 3, rows[:1] + np.eye(6)[0] * 3
    fitted = KernelDensity(covariance_type="full").fit(rows[:4], moves=moves)
    again = KernelDensity().fit_at_scale_of(fitted, rows[:4], moves=moves)
    again.set_params(covariance_type="full").fit_at_scale_of(fitted, rows[:4], moves=moves)
    assert_allclose(again.score_samples(rows), fitted.score_samples(rows))
    shape = GaussianDensity().fit(rows[:4], moves=moves)
    expected = KernelDensity().fit(shape.whiten(rows[:4])).score_samples(shape.whiten(rows))
    difference = fitted.score_samples(rows) - expected
    assert_allclose(difference, difference[0])
    plain = KernelDensity(covariance_type="full").fit(rows[:4])
    loss, plain_loss = (
        density.score_samples(rows[:1]) - density.score_samples(query)
        for density in (fitted, plain)
    )
    assert loss < plain_loss / 4
    spherical = KernelDensity().fit(rows[:4], moves=moves).score_samples(rows)
    assert_array_equal(spherical, KernelDensity().fit(rows[:4]).score_samples(rows))


@pytest.mark.parametrize("moves", [np.ones((2, 5)), np.full((1, 6), np.nan), np.ones(6), []])
def test_moves_that_are_invalid(rows, moves):
    with pytest.raises(ValueError, match="moves|array"):
        GaussianDensity().fit(rows, moves=moves)


def test_fit_at_scale_of_places_kernels_on_the_part(rows):
    whole = KernelDensity("loo").fit(rows)
    fitted = KernelDensity().fit_at_scale_of(whole, rows[:9])
    expected = KernelDensity(whole.bandwidth_).fit(rows[:9]).score_samples(rows)
    assert_array_equal(fitted.score_samples(rows), expected)


@pytest.mark.parametrize(
    "working_memory, width, height",
    [(1024, 6, 128), (1, 1024, 128), (1, 1025, 127), (1, 2**14, 8), (1, 2**30, 1), (1024, 0, 128)],
)
def test_chunks_have_one_shape(working_memory, width, height):
    """So that a row's result is the same to the last bit, whatever the other rows."""
    seen = []

    def function(rows):
        seen.append(rows.shape)
        return rows[:, 0]

    X = np.arange(300.0).reshape(150, 2)
    with config_context(working_memory=working_memory):
        assert_array_equal(in_chunks(function, X, width), X[:, 0])
    assert set(seen) == {(height, 2)} and len(seen) == -(-150 // height)


def test_sums_of_exponentials_neither_overflow_nor_vanish():
    exponents = np.array([[-1e4, -1e4, -1e4], [1e4, 1e4 - 1, -np.inf], [0.0, 1.0, 2.0]])
    assert_allclose(logsumexp_rows(exponents.copy()), logsumexp(exponents, axis=1))
