"""What parameters may hold, and what happens if they are changed after fit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from golden import ROWS, stripes
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from skcoft import COFTDetector, COFTEmbedder
from skcoft.density import GaussianDensity, KernelDensity
from skcoft.pyod import PyODDetector

TILES = stripes(10, seed=0)
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
SOME = ("int8", "uint8", "int64")  # for images, which take longer
FLOATS = ("float16", "float32", "float64", "longdouble")


def images_detector(**params):
    """Return a detector of images that is fitted fast."""
    defaults = {"weights": None, "max_pixels": 1024, "max_iter": 0, "random_state": 0}
    return COFTDetector(**{"backbone": "test_efficientnet", **defaults, **params})


def rows_detector(**params):
    return COFTDetector(**{"max_iter": 0, "random_state": 0, **params})


# Numbers of NumPy

NUMBERS = {  # parameter: value, dtypes, kind of detector
    "image_size": (96, SOME, images_detector),  # 96 * 96 overflows an int8 and a uint8
    "max_pixels": (1500, ("int16", "uint32"), images_detector),
    "bit_depth": (12, SOME, images_detector),
    "n_views": (2, SOME, images_detector),
    "max_iter": (2, INTEGERS, rows_detector),
    "batch_size": (4, INTEGERS, rows_detector),
    "n_jobs": (2, INTEGERS, rows_detector),
    "verbose": (0, (*INTEGERS, "bool"), rows_detector),
    "random_state": (7, INTEGERS, rows_detector),
    "learning_rate": (0.01, FLOATS, rows_detector),
    "temperature": (0.5, FLOATS, rows_detector),
    "positive_weight": (1.5, (*FLOATS, "uint8"), rows_detector),
    "negative_weight": (0.5, FLOATS, rows_detector),
    "contamination": (0.25, FLOATS, rows_detector),
    "local": (False, ("bool",), images_detector),
    "multiscale": (False, ("bool",), images_detector),
}


def scores_of(detector, path):
    """Return the scores of a detector that was fitted, saved and loaded."""
    is_rows = detector.backbone == "tf_efficientnet_lite2"
    X = ROWS if is_rows else TILES
    if detector.bit_depth == 12:
        X = X.astype(np.uint16) * 16
    detector.fit(X[:6]).save(path)
    scores = detector.score_samples(X)
    assert_array_equal(COFTDetector.load(path).score_samples(X), scores)
    return scores


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_numpy_are_numbers(name, tmp_path, capfd):
    value, dtypes, make = NUMBERS[name]
    path = tmp_path / "wall.skcoft"
    iterations = {"max_iter": 2} if make is rows_detector else {}
    for dtype in dtypes:
        number = np.dtype(dtype).type(value)
        as_python = bool(number) if dtype == "bool" else type(value)(number)
        expected = scores_of(make(**{**iterations, name: as_python}), path)
        assert_array_equal(scores_of(make(**{**iterations, name: number}), path), expected)


def test_every_parameter_that_is_a_number_is_tried():
    accepted = set()
    for name in COFTDetector().get_params():
        for value in (1, 0.25, True):
            try:
                rows_detector(**{name: value}).fit(ROWS[:6])
            except ValueError:
                continue
            accepted.add(name)
    # these two accept any callable or path-like object, and nothing of it is a number
    assert accepted == set(NUMBERS)


@pytest.mark.parametrize(
    "params",
    [
        {"image_size": (np.uint8(96), np.int8(64))},
        {"image_size": [np.uint8(96), np.uint8(64)], "backbone": ["test_efficientnet"] * 2},
        {"augmentation": {"degrees": np.float16(10), "flip": np.uint8(1)}},
        {"density": KernelDensity(np.float32(0.5))},
        {"density": GaussianDensity(np.float16(0.5))},
    ],
    ids=str,
)
def test_numbers_of_numpy_inside_other_values(params, tmp_path):
    assert np.isfinite(scores_of(images_detector(**params), tmp_path / "wall.skcoft")).all()


# Masks

INSIDE = np.zeros((32, 40), dtype=bool)
INSIDE[4:30, 6:36] = True


def bordered(images):
    """Images whose pixels outside of the mask are noise."""
    noise = np.random.default_rng(1).integers(0, 255, images.shape, dtype=np.uint8)
    return np.where(INSIDE, images, noise)


@pytest.mark.parametrize(
    "mask",
    [
        torch.from_numpy(INSIDE),
        torch.from_numpy(INSIDE).float(),
        pd.DataFrame(INSIDE),
        Image.fromarray(INSIDE),
        INSIDE.tolist(),
        np.asfortranarray(INSIDE),
        INSIDE.astype(">i4"),
    ],
    ids=lambda mask: type(mask).__name__,
)
def test_a_mask_may_be_an_image_a_frame_or_a_tensor(mask, tmp_path):
    path = tmp_path / "wall.skcoft"
    expected = images_detector(mask=INSIDE).fit(TILES[:6]).score_samples(TILES)
    detector = images_detector(mask=mask).fit(TILES[:6])
    assert detector.mask is mask and isinstance(detector.embedder_.mask, np.ndarray)
    detector.save(path)
    for fitted in (detector, COFTDetector.load(path)):
        assert_array_equal(fitted.score_samples(bordered(TILES)), expected)
        fitted.partial_fit(TILES[6:8])
    params = {"weights": None, "max_pixels": 1024, "max_iter": 0, "mask": mask}
    embedder = COFTEmbedder("test_efficientnet", **params).fit(TILES[:4])
    assert_array_equal(embedder.transform(bordered(TILES)), embedder.transform(TILES))


# Parameters that are changed before partial_fit

ANOTHER = {  # value: that of the other parameters is the default of images_detector
    "backbone": "test_vit",
    "weights": "pretrained",
    "image_size": 64,
    "max_pixels": 4096,
    "image_shape": (32, 40),
    "bit_depth": 12,
    "mask": INSIDE,
    "max_iter": 5,
    "batch_size": 4,
    "learning_rate": 0.1,
    "contrastive": "infonce",
    "temperature": 0.5,
    "positive_weight": 1.0,
    "negative_weight": 0.5,
    "negatives": "warp",
    "augmentation": {"flip": 0},
    "n_views": 2,
    "local": False,
    "multiscale": False,
    "prompts": {"normal": ["a"], "anomalous": ["b"]},
    "device": "meta",
    "random_state": 1,
}
TAKES_EFFECT = {  # parameter: value, and what it changes
    "density": ("gaussian", "score_samples"),
    "contamination": (0.5, "predict"),  # the automatic threshold labels fewer as anomalous
    "on_error": ("nan", None),
    "memory": ("cache", None),
    "n_jobs": (2, None),
    "verbose": (1, None),
}


def test_every_parameter_is_classified():
    assert set(ANOTHER) | set(TAKES_EFFECT) == set(COFTDetector().get_params())
    assert not set(ANOTHER) & set(TAKES_EFFECT)
    text = " ".join(COFTDetector.partial_fit.__doc__.split("Parameters")[0].split())
    for name in [*TAKES_EFFECT, "prompts"]:
        assert f"``{name}``" in text


@pytest.mark.parametrize("name", ANOTHER)
def test_parameters_that_partial_fit_cannot_use_may_not_be_changed(name):
    detector = images_detector().fit(TILES[:6])
    before = detector.get_params()[name]
    scores = detector.score_samples(TILES)
    detector.set_params(**{name: ANOTHER[name]})
    with pytest.raises(ValueError, match=name):
        detector.partial_fit(TILES[6:8])
    detector.set_params(**{name: before})
    assert_array_equal(detector.score_samples(TILES), scores)
    assert len(detector.partial_fit(TILES[6:8]).embeddings_) == 8


@pytest.mark.parametrize("name", TAKES_EFFECT)
def test_parameters_that_partial_fit_uses(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value, method = TAKES_EFFECT[name]
    detector = images_detector().fit(TILES[:6]).set_params(**{name: value})
    detector.partial_fit(TILES[6:8])
    plain = images_detector().fit(TILES[:6]).partial_fit(TILES[6:8])
    assert detector.get_params()[name] == value
    if method is not None:
        assert not np.array_equal(getattr(detector, method)(TILES), getattr(plain, method)(TILES))


def test_several_changes_are_named_together():
    detector = rows_detector().fit(ROWS[:6]).set_params(max_iter=3, temperature=1.0)
    with pytest.raises(ValueError, match="max_iter, temperature differ from their values"):
        detector.partial_fit(ROWS[6:8])


def test_equal_values_are_no_change(tmp_path):
    """Of other types, after a model file, and a random state that was used."""
    state = np.random.RandomState(0)
    detector = rows_detector(random_state=state, image_size=[64, 64]).fit(ROWS[:6])
    detector.save(tmp_path / "wall.skcoft")
    COFTDetector.load(tmp_path / "wall.skcoft").partial_fit(ROWS[6:7])
    state.random_sample(3)
    detector.set_params(batch_size=np.uint8(8), image_size=[64, 64]).partial_fit(ROWS[6:7])
    assert len(detector.embeddings_) == 7


# Parameters of parameters

NESTED = [
    (COFTDetector(), "density__bandwidth", "density=KernelDensity"),
    (COFTDetector(density=["kde", KernelDensity()]), "density__bandwidth", "list"),
    (COFTDetector(), "negatives__n", "negatives is 'cutpaste'"),
    (COFTDetector(torch.nn.Identity()), "backbone__n", "Identity"),
    (COFTDetector(augmentation={"flip": 0}), "augmentation__flip", "dict"),
    (COFTEmbedder(), "mask__size", "mask is None"),
    (PyODDetector(), "detector__max_iter", "detector=COFTDetector"),
    (KernelDensity(), "bandwidth__x", "bandwidth is 'scale'"),
]


def search_over(estimator, **params):
    grid = {name: [value] for name, value in params.items()}
    search = GridSearchCV(estimator, grid, cv=2, scoring=lambda *args: 0.0, error_score="raise")
    search.fit(ROWS, [1] * 14)


@pytest.mark.parametrize("estimator, name, message", NESTED, ids=lambda value: str(value)[:30])
def test_parameters_of_values_that_have_none(estimator, name, message):
    pipeline = make_pipeline(estimator)
    nested = f"{pipeline.steps[0][0]}__{name}"
    for call, key in (
        (estimator.set_params, name),
        (pipeline.set_params, nested),
        (lambda **params: search_over(pipeline, **params), nested),
    ):
        with pytest.raises(ValueError, match=f"(?s){name}.*{message}"):
            call(**{key: 1})


def test_parameters_of_values_that_have_some():
    detector = COFTDetector().set_params(density__bandwidth=0.5, density=KernelDensity())
    assert detector.density.bandwidth == 0.5
    detector = PyODDetector().set_params(detector=COFTDetector(), detector__max_iter=3)
    assert detector.detector.max_iter == 3
    assert COFTDetector(density=GaussianMixture()).set_params(density__n_components=2)
    with pytest.raises(ValueError, match="Invalid parameter"):
        COFTDetector().set_params(nonsense__x=1)


# Densities


@pytest.mark.parametrize(
    "density, message",
    [
        (LocalOutlierFactor(3), "novelty=True"),
        (make_pipeline(StandardScaler(), LocalOutlierFactor(3)), "novelty=True"),
        (GridSearchCV(LocalOutlierFactor(), {"n_neighbors": [2, 3]}), "novelty=True"),
        (["kde", LocalOutlierFactor(2)], "novelty=True"),
        (LocalOutlierFactor, r"LocalOutlierFactor\(\), not the class"),
        (KernelDensity, r"KernelDensity\(\), not the class"),
        (LogisticRegression(), "is a classifier"),
        (NearestNeighbors(), "`score_samples`"),
    ],
    ids=str,
)
def test_densities_that_cannot_score_say_what_to_pass(density, message, tmp_path):
    with pytest.raises(ValueError, match=f"(?s)'density' parameter .*{message}"):
        rows_detector(density=density, memory=tmp_path / "cache").fit(ROWS[:8])
    assert not Path(tmp_path / "cache").exists()  # nothing was trained


@pytest.mark.parametrize(
    "density", [LocalOutlierFactor(3, novelty=True), OneClassSVM(), GaussianMixture()], ids=str
)
def test_densities_of_scikit_learn(density):
    assert np.isfinite(rows_detector(density=density).fit(ROWS[:8]).score_samples(ROWS)).all()
