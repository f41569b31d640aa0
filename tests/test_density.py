import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn import config_context
from sklearn.covariance import OAS, ShrunkCovariance
from sklearn.neighbors import KernelDensity as TreeKernelDensity

from skcoft.density import GaussianDensity, KernelDensity

DENSITIES = [
    KernelDensity(),
    KernelDensity("loo"),
    KernelDensity(0.3),
    GaussianDensity(),
    GaussianDensity("ledoit_wolf"),
    GaussianDensity(0.1),
]


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(40, 6)) * [1, 2, 3, 1, 1, 0.5] + 5


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


@pytest.mark.parametrize("density", [KernelDensity("loo"), GaussianDensity()], ids=str)
def test_memory_bound_changes_nothing(density, rows):
    queries = np.random.default_rng(1).normal(size=(200, 6)) + 5
    expected = density.fit(rows).score_samples(queries)
    with config_context(working_memory=0.001):
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
    "density, message",
    [
        (KernelDensity(0), "'bandwidth' parameter of KernelDensity must be a number > 0 or"),
        (KernelDensity("scott"), "'scale' or 'loo'; got 'scott'"),
        (GaussianDensity(0), "'shrinkage' parameter of GaussianDensity must be"),
        (GaussianDensity("best"), "'oas' or 'ledoit_wolf'; got 'best'"),
    ],
)
def test_bad_parameters(density, message, rows):
    with pytest.raises(ValueError, match=message):
        density.fit(rows)


def test_groups_of_another_length(rows):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        KernelDensity().fit(rows, groups=[0, 1])
