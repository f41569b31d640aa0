import numpy as np
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.cluster import kmeans_plusplus

from skcoft._evidence.patch_kde import PatchKDE, choose_kernels, metric_of_moves
from skcoft.density import KernelDensity


def units(*shape, seed=0):
    points = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return points / np.linalg.norm(points, axis=-1, keepdims=True)


def kernels_and_images():
    """PatchKDE, and images some of whose positions lie close to kernels, some far off."""
    points, images = units(2048, 128), units(3, 20, 30, 128, seed=1)
    images[0, :10] = points[:300].reshape(10, 30, 128) + 0.01 * images[0, :10]
    images[1, 0] *= 3
    return points, images


def test_log_densities_are_those_of_double_precision():
    points, images = kernels_and_images()
    scott = KernelDensity("scale").fit(points).bandwidth_
    for bandwidth, expected_bandwidth in ((None, 0.5 * scott), (0.05, 0.05), (0.5, 0.5)):
        exact = KernelDensity(expected_bandwidth).fit(points)
        kernels = PatchKDE(points, bandwidth)
        expected = exact.score_samples(images.reshape(-1, 128)).reshape(3, 20, 30)
        found = kernels.log_maps(torch.from_numpy(images))
        assert found.dtype == np.float64 and kernels.bandwidth == expected_bandwidth
        near = expected > -1000
        assert near.sum() >= 1770
        assert_allclose(found[near], expected[near], rtol=0, atol=1e-3)
        assert_allclose(found, expected, rtol=1e-6, atol=1e-3)


def test_what_an_image_gets_depends_on_no_other_image():
    points, images = kernels_and_images()
    kernels, tensor = PatchKDE(points), torch.from_numpy(images)
    whole = kernels.log_maps(tensor)
    for i in range(3):
        assert_array_equal(kernels.log_maps(tensor[i : i + 1])[0], whole[i])
    changed = tensor.clone()
    changed[0, 0] = 0  # nor do its rows on each other
    assert_array_equal(kernels.log_maps(changed)[0, 1:], whole[0, 1:])


def test_memory_for_exponents_is_bounded(monkeypatch):
    points, images = kernels_and_images()
    kernels = PatchKDE(points)
    assert kernels.chunk_size == 256
    whole = kernels.log_maps(torch.from_numpy(images))
    with sklearn.config_context(working_memory=1):
        assert kernels.chunk_size == 128
        assert_allclose(kernels.log_maps(torch.from_numpy(images)), whole, atol=1e-4)
    with sklearn.config_context(working_memory=0):
        assert kernels.chunk_size == 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_points_have_a_density(value):
    points = np.full((32, 8), value, dtype=np.float32)
    maps = PatchKDE(points).log_maps(torch.full((1, 2, 2, 8), value))
    assert_allclose(maps, -4 * np.log(2 * np.pi * 0.5**2))


def test_a_metric_adds_the_mean_square_of_moves_to_the_covariance_of_kernels():
    points, rows = units(12, 4), units(1, 2, 3, 4, seed=1)
    moves = [units(2, 3, 4, seed=2) * [1, 0.1, 0.1, 0], units(4, 1, 4, seed=3) * 0.2]
    metric = metric_of_moves(moves, 0.3)
    assert metric.dtype == np.float32
    stacked = np.concatenate([move.reshape(-1, 4) for move in moves])
    covariance = 0.3**2 * np.eye(4) + stacked.T @ stacked / 10
    expected = [
        logsumexp([multivariate_normal(point, covariance).logpdf(row) for point in points])
        for row in rows.reshape(-1, 4)
    ]
    maps = PatchKDE(points, 0.3, metric).log_maps(torch.from_numpy(rows))
    assert_allclose(maps.ravel(), np.array(expected) - np.log(12), rtol=1e-5, atol=1e-4)


def test_a_metric_of_small_moves_changes_nothing():
    assert_allclose(metric_of_moves([np.zeros((3, 2))], 1.0), np.eye(2))


@pytest.mark.parametrize(("n", "n_kernels"), [(1, 1), (5, 5), (40, 33), (900, 200)])
def test_kernels_are_those_of_kmeans_plusplus(n, n_kernels):
    """To the last one: another kernel would move the scores."""
    for seed in range(4):
        close = 0.99 + 0.01 * units(n, 128, seed=seed)
        doubled = units(n, 6, seed=seed)
        doubled[n // 2 :] = doubled[: n - n // 2]  # some kernels are duplicates of earlier ones
        for points in (units(n, 128, seed=seed), close, doubled, np.ones((n, 3), np.float32)):
            _, expected = kmeans_plusplus(
                points.astype(np.float64), n_kernels, random_state=seed, n_local_trials=1
            )
            assert_array_equal(choose_kernels(points, n_kernels, seed), expected)
