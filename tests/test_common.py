"""scikit-learn's checks and our own contract, over every estimator."""

import os
import pickle
import random
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

from skcoft import COFTDetector, COFTEmbedder
from skcoft.density import GaussianDensity, KernelDensity

ESTIMATORS = [COFTDetector(), COFTEmbedder(), GaussianDensity(), KernelDensity()]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_sklearn(estimator):
    """No check fails, is skipped or is expected to fail."""
    results = check_estimator(estimator, on_skip=None)
    assert len(results) > 40
    assert [r["check_name"] for r in results if r["status"] != "passed"] == []


# What follows runs on images, over both estimators.


def tiny(cls, **params):
    defaults = dict(backbone=TinyNet(), max_iter=3, learning_rate=0.01, random_state=0)
    return cls(**{**defaults, **params})


def outputs(fitted, X):
    """What users see: scores of a detector, embeddings of an embedder."""
    return fitted.score_samples(X) if isinstance(fitted, COFTDetector) else fitted.transform(X)


both = pytest.mark.parametrize("cls", [COFTDetector, COFTEmbedder])


@both
def test_kinds_of_input_agree(cls, photos, tmp_path):
    paths = [tmp_path / f"{i:02d}.png" for i in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        Image.fromarray(photo).save(path)
    kinds = {
        "float": photos / 255,
        "tensor": torch.from_numpy(photos).permute(0, 3, 1, 2),
        "list": list(photos),
        "paths": paths,
        "PIL": [Image.fromarray(p) for p in photos],
    }
    fitted = tiny(cls).fit(photos[:6])
    expected = outputs(fitted, photos)
    for kind, X in kinds.items():
        assert_array_equal(outputs(fitted, X), expected, err_msg=f"scored {kind}")
        refitted = tiny(cls).fit(X[:6])
        assert_array_equal(outputs(refitted, photos), expected, err_msg=f"fitted {kind}")
    flat = tiny(cls, image_shape=photos.shape[1:]).fit(photos[:6].reshape(6, -1))
    assert_array_equal(outputs(flat, photos.reshape(len(photos), -1)), expected)
    assert flat.n_features_in_ == photos[0].size


@both
@pytest.mark.parametrize("backbone", [TinyNet(), "resnet10t", "test_vit"], ids=str)
def test_scores_do_not_depend_on_the_batch(cls, backbone, photos):
    size = (24, 20) if isinstance(backbone, TinyNet) else 64
    fitted = tiny(cls, backbone=backbone, weights=None, image_size=size, max_iter=1)
    fitted.fit(photos[:5])
    together = outputs(fitted, photos)
    alone = np.concatenate([outputs(fitted, photos[i : i + 1]) for i in range(len(photos))])
    assert_array_equal(together, alone)
    order = np.random.default_rng(0).permutation(len(photos))
    assert_array_equal(outputs(fitted, photos[order]), together[order])


@both
def test_same_seed_same_fit(cls, photos):
    first, again = (outputs(tiny(cls).fit(photos[:6]), photos) for _ in range(2))
    other = outputs(tiny(cls, random_state=1).fit(photos[:6]), photos)
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@both
def test_input_and_global_state_are_left_alone(cls, photos):
    X = photos / 255
    X.setflags(write=False)
    before = X.copy()
    random.seed(7), np.random.seed(7), torch.manual_seed(7)  # noqa: NPY002
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    fitted = tiny(cls, backbone="resnet10t", weights=None, image_size=32).fit(X[:6])
    outputs(fitted, X)
    assert random.getstate() == state[0]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), state[1], strict=True))  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state[2])
    assert_array_equal(X, before)


@both
def test_callables_that_write_in_place_do_not_change_the_input(cls, photos):
    X = photos.astype(np.float32) / 255
    before = X.copy()
    callables = {"augmentation": lambda x: x.mul_(0.9), "negatives": lambda x: x.zero_()}
    outputs(tiny(cls, **callables).fit(X), X)
    assert_array_equal(X, before)


@both
def test_quiet(cls, photos, capfd, recwarn):
    outputs(tiny(cls).fit(photos[:6]), photos)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.slow
@both
def test_pickle_loads_in_a_fresh_process_without_a_network(cls, photos, tmp_path):
    fitted = tiny(cls, backbone="resnet10t", weights=None, image_size=32).fit(photos[:6])
    (tmp_path / "fitted.pkl").write_bytes(pickle.dumps(fitted))
    np.save(tmp_path / "photos.npy", photos)
    method = "score_samples" if cls is COFTDetector else "transform"
    code = (
        "import pickle, numpy as np\n"
        "fitted = pickle.load(open('fitted.pkl', 'rb'))\n"
        f"np.save('out.npy', fitted.{method}(np.load('photos.npy')))\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert_array_equal(np.load(tmp_path / "out.npy"), outputs(fitted, photos))


@both
def test_clone_and_set_params(cls, photos):
    fitted = tiny(cls).fit(photos[:6])
    copy = clone(fitted)
    assert not any(name.endswith("_") and not name.startswith("__") for name in vars(copy))
    assert_array_equal(outputs(copy.fit(photos[:6]), photos), outputs(fitted, photos))
    assert copy.set_params(temperature=0.5).temperature == 0.5


@both
def test_other_input_type_at_predict(cls, photos):
    features = np.random.default_rng(0).normal(size=(6, 5))
    for shots, X in ((photos[:6], features), (features, photos)):
        with pytest.raises(ValueError, match="fitted on"):
            outputs(tiny(cls).fit(shots), X)


@pytest.mark.parametrize(
    "params, accepted",
    [
        ({"backbone": 3}, "a timm architecture name, .* or an nn.Module or a list"),
        ({"weights": 1}, "'pretrained' or a path or None or a list of these"),
        ({"image_size": 0}, ">= 1 or .H, W. or None or a list of these"),
        ({"image_shape": 8}, r"\(H, W\) or \(H, W, C\) or None"),
        ({"max_iter": -1}, "an integer >= 0"),
        ({"max_iter": 2.5}, "an integer >= 0"),
        ({"batch_size": 0}, ""),
        ({"learning_rate": 0}, "a number > 0 or 'auto'"),
        ({"contrastive": "simclr"}, "'mean_shifted' or 'infonce' or 'simsiam'"),
        ({"temperature": 0}, ""),
        ({"positive_weight": -1}, ""),
        ({"positive_weight": np.inf}, ""),
        ({"negative_weight": np.nan}, ""),
        ({"negatives": "cut"}, "'cutpaste' or .* 'labelled'"),
        ({"negatives": []}, ""),
        ({"augmentation": "strong"}, "a callable or None"),
        ({"augmentation": {"angle": 9}}, "a dict from degrees, .* to numbers >= 0, flip <= 1 or"),
        ({"augmentation": {"degrees": -9}}, ""),
        ({"augmentation": {"flip": 2}}, "flip <= 1 or a callable"),
        ({"n_jobs": 0}, ""),
        ({"device": 3}, ""),
        ({"verbose": -1}, ""),
    ],
)
@both
def test_errors_name_a_bad_parameter_its_values_and_what_it_accepts(cls, params, accepted, photos):
    ((name, value),) = params.items()
    message = f"'{name}' parameter .*{accepted}.*{re.escape(repr(value))}"
    with pytest.raises(ValueError, match=message):
        tiny(cls, **params).fit(photos[:6])


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
@both
def test_devices_that_are_not_available(cls, device, photos):
    with pytest.raises(ValueError, match=f"device='{device}'"):
        tiny(cls, device=device).fit(photos[:6])


@both
def test_unfitted(cls, photos):
    failed = tiny(cls, backbone="no_such_network")
    with pytest.raises(ValueError):
        failed.fit(photos)
    for estimator in (tiny(cls), failed):
        with pytest.raises(NotFittedError):
            outputs(estimator, photos)


def test_pipeline_of_embedder_and_another_detector(digits):
    zeros, ones = digits
    pipeline = make_pipeline(tiny(COFTEmbedder), LocalOutlierFactor(3, novelty=True))
    pipeline.fit(zeros[:16])
    scores = pipeline.score_samples(np.concatenate([zeros[16:], ones]))
    assert scores[: len(zeros) - 16].mean() > scores[len(zeros) - 16 :].mean()


@pytest.mark.slow
def test_grid_search_in_a_pipeline():
    """Over the training, the backbone and a parameter of the density, in two processes."""
    data = load_digits()
    X = data.data[np.isin(data.target, (0, 1))][:60]
    y = np.where(data.target[np.isin(data.target, (0, 1))][:60] == 0, 1, -1)
    detector = tiny(
        COFTDetector, image_shape=(8, 8), weights=None, image_size=32, density=KernelDensity()
    )
    pipeline = make_pipeline(MinMaxScaler(feature_range=(0, 1), clip=True), detector)
    grid = {
        "coftdetector__negative_weight": [0, 1],
        "coftdetector__backbone": [TinyNet(), TinyNet(width=8)],
        "coftdetector__density__bandwidth": ["scale", 0.1],
    }
    normal, anomalous = np.flatnonzero(y == 1), np.flatnonzero(y == -1)
    folds = [
        (normal[:8], np.r_[normal[8:], anomalous]),
        (normal[8:16], np.r_[normal[:8], normal[16:], anomalous]),
    ]
    search = GridSearchCV(pipeline, grid, cv=folds, n_jobs=2, error_score="raise").fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert len(scores) == 8 and np.isfinite(scores).all() and len(set(scores)) > 2
    assert search.best_score_ > 0.6
