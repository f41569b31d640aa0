"""Model files: the same detector again, whole or not at all, and no code from anywhere."""

import gzip
import json
import os
import signal
import subprocess
import sys
import warnings
from contextlib import nullcontext
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from conftest import TinyNet
from golden import stripes
from model_files import DATA, RELEASE, measure
from numpy.testing import assert_array_equal
from safetensors.numpy import save_file
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture

from skcoft import COFTDetector, __version__
from skcoft._persistence import model_file as model_file
from skcoft.density import GaussianDensity, KernelDensity

SMALL = {"backbone": "test_efficientnet", "weights": None, "max_pixels": 32 * 32, "max_iter": 1}
EMBEDDED = {"backbone": "embedded", "image_size": 32, "max_iter": 0}
ROWS = np.random.default_rng(0).normal(size=(24, 5))
FRAME = pd.DataFrame(ROWS, columns=list("abcde"))
IMAGES = stripes(24, seed=0)

CASES = {  # parameters, X; the first four are the shots
    "rows": ({"max_iter": 2}, ROWS),
    "frame": ({"max_iter": 0, "contamination": 0.2}, FRAME),
    "rows, Gaussian": ({"max_iter": 0, "density": "gaussian"}, ROWS),
    "rows, likelihood bandwidth": ({"max_iter": 0, "density": KernelDensity("loo")}, ROWS),
    "rows, densities": ({"max_iter": 0, "density": ["kde", GaussianDensity(0.5)]}, ROWS),
    "two backbones, densities": (
        {**SMALL, "backbone": ["test_vit", "test_efficientnet"], "density": ["gaussian", "kde"]},
        IMAGES,
    ),
    "images": (
        {**SMALL, "n_views": 1, "augmentation": {"degrees": 20}, "negatives": ["warp", "crack"]},
        IMAGES,
    ),
    "transformer": ({**SMALL, "backbone": "test_vit", "density": GaussianDensity(0.3)}, IMAGES),
    "one size": ({**SMALL, "image_size": (32, 64), "local": False, "density": "gaussian"}, IMAGES),
    "two backbones": ({**SMALL, "backbone": ["test_vit", "test_efficientnet"]}, IMAGES),
    "views": ({**SMALL, "n_views": 2, "multiscale": False, "contamination": 0.5}, IMAGES),
    "embedded": (EMBEDDED, IMAGES),
}


def fitted(name="rows", **params):
    """A fitted detector of a case, and the X of the case."""
    settings, X = CASES[name]
    return COFTDetector(**{"random_state": 0, **settings, **params}).fit(X[:4]), X


def outputs(detector, X):
    """All that a detector says of X and of itself."""
    found = {
        name: getattr(detector, name)(X)
        for name in ("score_samples", "decision_function", "predict", "predict_pvalue", "embed")
    }
    found["distances"], found["neighbors"] = detector.kneighbors(X, n_neighbors=2)
    if detector.map_threshold_ is not None:
        found["maps"] = np.stack(detector.anomaly_map(X))
    for name in ("offset_", "calibration_scores_", "embeddings_", "classes_", "device_"):
        found[name] = getattr(detector, name)
    return found


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name in expected:
        assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "wall.skcoft"


def save_and_load(detector, path, **options):
    detector.save(path)
    return COFTDetector.load(path, **options)


@pytest.mark.parametrize("name", CASES)
def test_everything_is_the_same_to_the_bit(name, path):
    """At once, with another threshold, and with more shots."""
    detector, X = fitted(name)
    state = torch.get_rng_state()
    again = save_and_load(detector, path)
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(outputs(again, X), outputs(detector, X))
    assert repr(again.get_params()) == repr(detector.get_params())
    assert again.n_iter_ == detector.n_iter_ and again.weights_ == detector.weights_
    assert repr(again.history_) == repr(detector.history_)
    for one in (detector, again):
        one.set_threshold(X[4:], max_fpr=0.5)
    assert_same(outputs(again, X), outputs(detector, X))
    for one in (detector, again):
        with pytest.warns(UserWarning, match="set_threshold"):
            one.partial_fit(X[4:12])
    assert_same(outputs(again, X), outputs(detector, X))
    assert_same(outputs(save_and_load(again, path), X), outputs(detector, X))


def test_objects_are_shared_as_they_were(path):
    again = save_and_load(fitted("two backbones")[0], path)
    branches, encoders = again._model.joint.backbone_scores, again.embedder_.encoders_
    assert [branch.encoder for branch in branches] == [*encoders, encoders[1]]
    assert again.density_ == [branch.components["image"].fitted for branch in branches[:2]]


def test_columns_and_groups(path):
    detector = COFTDetector(max_iter=0, random_state=0)
    detector.fit(FRAME[:6], groups=["a", "a", "b", "c", 7, None])
    again = save_and_load(detector, path)
    assert again.feature_names_in_.tolist() == list("abcde") and again.n_features_in_ == 5
    assert again.feature_names_in_.dtype == object
    for one in (detector, again):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            one.partial_fit(FRAME[6:12], groups=["c", "d", "e", "b", "g", "h"])
    assert_array_equal(again._model.registry.ids, [0, 0, 2, 3, 4, 5, 3, 7, 8, 2, 10, 11])
    assert_array_equal(again.score_samples(FRAME), detector.score_samples(FRAME))


def test_parameters_of_many_types(path, tmp_path):
    weights = tmp_path / "weights.safetensors"
    state = timm.create_model("test_efficientnet", num_classes=0).state_dict()
    save_file({name: value.numpy() for name, value in state.items()}, weights)
    detector, _ = fitted(
        "images",
        weights=weights,
        memory=tmp_path / "cache",
        device=torch.device("cpu"),
        random_state=np.random.RandomState(3),
        image_size=torch.Size([32, 32]),
        temperature=np.float32(0.3),
        batch_size=np.int64(4),
        local=np.True_,
        negatives=("warp", np.str_("crack")),
    )
    again = save_and_load(detector, path)
    assert json.loads(model_file.read(path)[0]["model"])["parameters"]["memory"] is None
    assert again.memory is None and again.embedder_.weights == str(weights)
    assert again.device == torch.device("cpu") and again.image_size == (32, 32)
    assert type(again.temperature) is np.float32 and again.temperature == np.float32(0.3)
    assert type(again.batch_size) is np.int64 and type(again.local) is np.bool_
    assert again.negatives == ("warp", "crack") and again.verbose == 0
    draws = [one.random_state.randint(2**31, size=9) for one in (again, detector)]
    assert_array_equal(*draws)
    assert again.weights_ == str(weights)


def test_arrays_keep_type_layout_and_can_be_written_to(path):
    detector, _ = fitted("one size")
    density = save_and_load(detector, path).density_
    assert density._directions.flags.f_contiguous and not density._directions.flags.c_contiguous
    assert density._directions.strides == detector.density_._directions.strides
    assert type(density.log_determinant_) is np.float64
    density.location_[0] = 1
    assert density._spanned.flags.writeable and density._directions.flags.aligned


def test_what_torch_is_set_to_changes_nothing(path):
    detector, X = fitted("one size")
    detector.save(path)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.inference_mode():
            again = COFTDetector.load(path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {value.dtype for value in again.embedder_.network_.parameters()} == {torch.float32}
    assert not again.embedder_.network_.mean.is_inference()
    assert_array_equal(again.score_samples(X), detector.score_samples(X))


def test_what_the_file_says_of_itself(path):
    detector, _ = fitted("images")
    detector.save(path)
    metadata, arrays = model_file.read(path)
    assert metadata["format"] == "skcoft" and metadata["format_version"] == "5"
    versions = json.loads(metadata["versions"])
    assert versions["skcoft"] == __version__ and versions["timm"] == timm.__version__
    assert versions["torch"] == torch.__version__.partition("+")[0] or versions["torch"]
    model = json.loads(metadata["model"])
    assert model["parameters"]["backbone"] == "test_efficientnet"
    assert {node["class"] for node in model["objects"]} >= {"Backbone", "Encoder", "JointScore"}
    assert "embedder_.encoders_.0.network.body.conv_stem.weight" in arrays


@pytest.mark.parametrize("name", ["wall", "wall.safetensors", "wände 1.skcoft"])
def test_any_suffix_and_both_kinds_of_path(name, tmp_path):
    detector, X = fitted()
    for path in (tmp_path / name, str(tmp_path / name)):
        assert detector.save(path) is None
        assert_array_equal(COFTDetector.load(path).predict(X), detector.predict(X))
    assert [file.name for file in tmp_path.iterdir()] == [name]


class Strict(COFTDetector):
    def predict(self, X):
        return np.full(len(X), -1)


class WithOwnParameters(COFTDetector):
    def __init__(self, name="wall", max_iter=0):
        super().__init__(max_iter=max_iter)
        self.name = name


@pytest.mark.parametrize("cls", [Strict, WithOwnParameters])
def test_a_detector_of_a_subclass_is_not_saved_as_another_class(cls, path):
    """A file holds no methods, so it would decide otherwise."""
    detector = cls(max_iter=0)
    assert_not_saved(detector, path, f"subclass .*{cls.__name__}")  # before the fit as well
    vars(detector).update(vars(fitted()[0]))
    assert_not_saved(detector, path, f"subclass .*{cls.__name__}.*joblib")
    fitted()[0].save(path)
    with pytest.raises(TypeError, match="Call COFTDetector.load"):
        cls.load(path)


# What is refused on save, before anything is written


def shift(images):
    return images


class OwnDensity(KernelDensity):
    pass


class OwnEstimator(BaseEstimator):
    def fit(self, X):
        return self

    def score_samples(self, X):
        return -np.square(X).sum(axis=1)


REFUSED = [  # parameters, the one that is refused, its class or function, what to use instead
    ({"density": GaussianMixture()}, "density", "GaussianMixture", "skops"),
    ({"density": ["kde", OwnDensity()]}, "density.1", "OwnDensity", "skops"),
    ({"density": OwnDensity()}, "density", "OwnDensity", "density="),
    ({"density": OwnEstimator()}, "density", "OwnEstimator", "skops"),
    ({"augmentation": shift}, "augmentation", "shift", "a dict"),
    ({"negatives": ["warp", shift]}, "negatives.1", "shift", "names"),
    ({"backbone": TinyNet(), "image_size": 32}, "backbone", "TinyNet", "joblib.dump; "),
]


def assert_not_saved(detector, path, key, error=TypeError):
    """Saving raises an error, whose message names a key, and leaves the earlier file."""
    path.write_bytes(b"earlier")
    with pytest.raises(error, match=key):
        detector.save(path)
    assert path.read_bytes() == b"earlier" and os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("params, parameter, value, hint", REFUSED)
def test_what_is_no_data_is_refused(params, parameter, value, hint, path):
    detector, _ = fitted("images", max_iter=0, **params)
    assert_not_saved(detector, path, f": {parameter} is .*{value}.*{hint}")


def test_other_objects_are_refused(path):
    detector = COFTDetector(max_iter=0).fit(
        ROWS[:4], groups=[date(2026, 1, i) for i in (1, 2, 3, 4)]
    )
    assert_not_saved(detector, path, "groups.0 is .*datetime.date.*groups=")
    for other in (np.random, np.random.RandomState(np.random.PCG64(0))):
        assert_not_saved(fitted()[0].set_params(random_state=other), path, "random_state is .*")


def test_what_was_changed_after_the_fit_is_refused_as_well(path):
    """A parameter that no longer tells what the fitted detector holds."""
    detector, _ = fitted("images", backbone=TinyNet(), image_size=32)
    detector.set_params(backbone="resnet10t")
    assert_not_saved(detector, path, "embedder_.*TinyNet")
    detector, _ = fitted()
    detector.note = "of Monday"
    assert_not_saved(detector, path, "'note'", ValueError)


@pytest.mark.parametrize("name", ["hf-hub:timm/test_vit", "local-dir:/srv/model"])
def test_names_that_only_a_hub_or_a_folder_knows(name, path):
    detector, _ = fitted("images")
    detector.set_params(backbone=["test_efficientnet", name])
    assert_not_saved(detector, path, f"backbone='{name}'", ValueError)


def test_unfitted():
    with pytest.raises(NotFittedError):
        COFTDetector().save("wall.skcoft")
    assert not Path("wall.skcoft").exists()


@pytest.mark.parametrize("wrong", [None, 3, b"wall", open])
def test_paths_that_are_none(wrong):
    for call in (fitted()[0].save, COFTDetector.load):
        with pytest.raises(TypeError, match="path must be"):
            call(wrong)


def test_folders(tmp_path):
    detector, _ = fitted()
    for call in (detector.save, COFTDetector.load):
        for name, error in (("", IsADirectoryError), ("missing/wall", FileNotFoundError)):
            with pytest.raises(error, match=f"path='{tmp_path / name}'"):
                call(tmp_path / name)
    assert not os.listdir(tmp_path)


# Whole or not at all


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_earlier_file_and_no_litter(step, path, monkeypatch):
    detector, _ = fitted()
    detector.save(path)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError):
        detector.partial_fit(ROWS[4:6]).save(path)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_a_link_stays_one(path, tmp_path):
    target = tmp_path / "versions" / "1.skcoft"
    target.parent.mkdir()
    path.symlink_to(target)
    fitted()[0].save(path)
    assert path.is_symlink() and target.is_file() and COFTDetector.load(path).offset_


KILLED = """
import os, signal, sys
from skcoft import COFTDetector
detector = COFTDetector.load(sys.argv[1])
detector.offset_ = 7.0
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
detector.save(sys.argv[1])
"""


def test_a_process_that_is_killed_while_it_writes(path):
    """The earlier file stays; what was written lies beside it."""
    detector, _ = fitted()
    detector.save(path)
    before = path.read_bytes()
    run = subprocess.run([sys.executable, "-c", KILLED, path], cwd=model_folder())
    assert run.returncode == -signal.SIGKILL
    assert path.read_bytes() == before and COFTDetector.load(path).offset_ == detector.offset_
    assert len(os.listdir(path.parent)) == 2 and len(list(path.parent.glob(".*.part"))) == 1


def model_folder():
    """The folder that this skcoft is imported from."""
    return Path(model_file.__file__).parents[2]


# Devices


@pytest.mark.parametrize("count, wanted", [(0, "cpu"), (1, "cuda:0"), (4, "cuda:3")])
def test_a_device_that_is_not_there(count, wanted, path, monkeypatch):
    detector, _ = fitted()
    detector.embedder_.encoders_[0].device = "cuda:3"
    detector.save(path)
    moved = []
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: moved.append(device))
    again = COFTDetector.load(path)
    assert again.device_ == wanted and moved == [wanted] and again.device is None


def test_a_device_of_ones_choice(path):
    detector, X = fitted(device="cpu")
    detector.set_params(device="cuda").embedder_.encoders_[0].device = "cuda:3"
    detector.save(path)
    again = COFTDetector.load(path, device="cpu")
    assert again.device == again.embedder_.device == again.device_ == "cpu"
    again.fit(X[:5])
    again = COFTDetector.load(path, device="meta")  # of tensors without values, which is anywhere
    assert again.device == again.embedder_.device == again.device_ == "meta"
    assert again.embedder_.network_.mean.device.type == "meta"
    with pytest.raises(ValueError, match="device='nonsense'"):
        COFTDetector.load(path, device="nonsense")


LOADED = """
import sys
import numpy as np
from skcoft import COFTDetector
import timm
seen = []
sys.addaudithook(lambda event, args: seen.append(event))
detector = COFTDetector.load(sys.argv[1])
bad = {e for e in seen if e.startswith(("pickle", "socket", "subprocess", "os.system", "urllib"))}
assert not bad, bad
np.save(sys.argv[2], detector.score_samples(np.load(sys.argv[3])))
"""


def test_no_pickle_and_no_network_in_a_fresh_process(path, tmp_path):
    detector, X = fitted("images")
    detector.save(path)
    files = tmp_path / "scores.npy", tmp_path / "images.npy"
    np.save(files[1], X)
    subprocess.run([sys.executable, "-c", LOADED, path, *files], cwd=model_folder(), check=True)
    assert_array_equal(np.load(files[0]), detector.score_samples(X))


# Files of earlier versions, which tests/model_files.py wrote


def test_the_files_are_there():
    """Those of every version, from the first to this one."""
    assert {"rows-0.1.0.skcoft.gz", "images-0.1.0.skcoft.gz"} <= set(os.listdir(DATA))
    assert f"{RELEASE}.json" in os.listdir(DATA)


@pytest.mark.parametrize("name", sorted(file.name for file in DATA.glob("*.skcoft.gz")))
def test_files_of_earlier_versions_load_and_score_as_then(name, path):
    """As far as float32 holds scores on another processor.

    There a score may pass the calibration score that it equals here: a step of the p-value.
    """
    case, release = name.removesuffix(".skcoft.gz").split("-")
    path.write_bytes(gzip.decompress((DATA / name).read_bytes()))
    found = measure(case, COFTDetector.load(path))
    expected = json.loads((DATA / f"{release}.json").read_text())[case]
    assert set(found) == set(expected)
    for key, values in expected.items():
        atol = np.diff(np.unique(values)).min() if key == "p-values" else 2e-3
        np.testing.assert_allclose(found[key], values, rtol=2e-4, atol=atol, err_msg=key)
