"""What docs/many_machines.rst promises, on a cluster of two processes."""

import os
import signal
import time

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from sklearn.model_selection import GridSearchCV

from skcoft import COFTDetector
from skcoft.density import KernelDensity
from skcoft.model_selection import OneClassKFold

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def task(digits):
    zeros, ones = digits
    return np.concatenate([zeros[:40], ones[:20]]), np.r_[np.ones(40), -np.ones(20)]


def detector(**params):
    network = dict(backbone="resnet10t", weights=None, image_size=32)
    return COFTDetector(**network, max_iter=1, random_state=0, **params)


@pytest.fixture(scope="module")
def fitted(task):
    return detector().fit(task[0][:8])


@pytest.fixture
def paths(task, tmp_path):
    files = [str(tmp_path / f"{i:02d}.png") for i in range(len(task[0]))]
    for file, image in zip(files, task[0], strict=True):
        Image.fromarray((image * 255).astype(np.uint8)).save(file)
    return files


def assert_same_scores(far, near):
    """Workers run other numbers of threads, so float32 sums may differ in their last bits."""
    assert_allclose(far, near, rtol=0, atol=1e-4)


def make_score(seconds=0):
    """Build the function of the docs; a local one, since workers cannot import this file."""

    def score(items, detector):
        time.sleep(seconds)
        return detector.score_samples(list(items))

    return score


def test_grid_search(client, task, tmp_path):
    """The same figures as on one machine; the workers share the memory."""
    grid = {"density__bandwidth": [0.1, "scale"]}
    search = GridSearchCV(
        detector(density=KernelDensity(), memory=str(tmp_path), local=False),
        grid,
        cv=OneClassKFold(2, shots=4, random_state=0),
        refit=False,
        error_score="raise",
    )
    with joblib.parallel_config(backend="dask"):
        far = search.fit(*task).cv_results_["mean_test_score"]
    near = search.set_params(estimator__memory=None).fit(*task).cv_results_["mean_test_score"]
    assert list(tmp_path.iterdir())
    assert_allclose(far, near)
    assert len(set(near)) > 1


def test_bag_of_files_ships_the_detector_once_a_worker(client, fitted, paths):
    from dask import bag

    def count_loads():
        from skcoft import COFTEmbedder

        load, COFTEmbedder.loads = COFTEmbedder.__setstate__, 0

        def spy(self, state):
            COFTEmbedder.loads += 1
            load(self, state)

        COFTEmbedder.__setstate__ = spy

    def loads():
        from skcoft import COFTEmbedder

        return COFTEmbedder.loads

    client.run(count_loads)
    shipped = client.scatter(fitted, broadcast=True)
    scores = bag.from_sequence(paths, npartitions=12).map_partitions(make_score(), shipped)
    assert_same_scores(scores.compute(), fitted.score_samples(paths))
    assert list(client.run(loads).values()) == [1, 1]


def test_array_in_chunks(client, fitted, task, tmp_path):
    from dask import array

    np.save(tmp_path / "images.npy", task[0])
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    images = array.from_array(images, chunks=(7, -1, -1))
    shipped = client.scatter(fitted, broadcast=True)
    scores = images.map_blocks(make_score(), shipped, drop_axis=(1, 2), dtype=np.float64)
    assert scores.chunks == ((7,) * 8 + (4,),)
    assert_same_scores(scores.compute(), fitted.score_samples(task[0]))


def test_a_killed_worker_loses_nothing(client, fitted, paths):
    from dask import bag

    shipped = client.scatter(fitted, broadcast=True)
    parts = bag.from_sequence(paths, npartitions=12).map_partitions(make_score(0.5), shipped)
    running = client.compute(parts)
    time.sleep(1.2)  # some partitions are done, some are not
    assert not running.done()
    victim = next(iter(client.run(os.getpid).values()))
    os.kill(victim, signal.SIGKILL)
    assert_same_scores(running.result(timeout=120), fitted.score_samples(paths))
    assert victim not in client.run(os.getpid).values()
