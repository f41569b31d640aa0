import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TinyNet
from joblib import Memory
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.model_selection import GridSearchCV

import skcoft
from skcoft import COFTDetector
from skcoft._network.encoder import Encoder
from skcoft._training import encoders as encoders_module
from skcoft._utils.cache import fingerprint, package_hash
from skcoft.density import KernelDensity


def darker(image):
    return image * 0.9


def detector(memory, **params):
    defaults = dict(backbone=TinyNet(), max_iter=2, learning_rate=0.01, random_state=0)
    return COFTDetector(**{**defaults, "memory": memory, **params})


@pytest.fixture
def trainings(monkeypatch):
    """A list that grows by one with every fine-tuning."""
    done = []
    build = encoders_module.build_encoder

    def spy(*args):
        done.append(args)
        return build(*args)

    monkeypatch.setattr(encoders_module, "build_encoder", spy)
    return done


@pytest.mark.slow
def test_a_grid_over_densities_trains_once_a_fold(trainings, photos, tmp_path):
    """And finds the same scores as without memory."""
    y = np.r_[np.ones(8), -np.ones(4)]
    folds = [(np.arange(4), np.arange(4, 12)), (np.arange(4, 8), np.r_[0:4, 8:12])]
    grid = [
        {"density": [KernelDensity()], "density__bandwidth": [0.1, 0.3, "scale", "loo"]},
        {"density": ["gaussian"], "contamination": ["auto", 0.2]},
        {"local": [True, False], "n_views": [2, 8]},
    ]
    searches = [
        GridSearchCV(detector(memory), grid, cv=folds, error_score="raise").fit(photos, y)
        for memory in (str(tmp_path), None)
    ]
    assert len(trainings) == (2 + 1) + (2 * 10 + 1)  # two folds and the refit
    cached, fresh = (search.cv_results_["mean_test_score"] for search in searches)
    assert_array_equal(cached, fresh)
    assert len(set(fresh)) > 1


def test_another_density_embeds_nothing_again(photos, tmp_path, monkeypatch):
    detector(tmp_path).fit(photos[:6]).score_samples(photos)
    monkeypatch.setattr(Encoder, "_run", lambda *a, **k: pytest.fail("embedded"))
    detector(tmp_path, density="gaussian").fit(photos[:6]).score_samples(photos)


@pytest.mark.parametrize(
    "params",
    [
        {"max_iter": 3},
        {"random_state": 1},
        {"negative_weight": 0.5},
        {"backbone": TinyNet(seed=1)},
        {"augmentation": darker},
        {"image_size": 16},
    ],
    ids=lambda params: next(iter(params)),
)
def test_another_training_is_not_taken_from_memory(params, trainings, photos, tmp_path):
    first = detector(tmp_path).fit(photos[:6])
    other = detector(tmp_path, **params).fit(photos[:6])
    assert len(trainings) == 2
    assert not np.array_equal(other.score_samples(photos), first.score_samples(photos))
    assert_array_equal(
        other.score_samples(photos),
        detector(None, **params).fit(photos[:6]).score_samples(photos),
    )


def test_other_images_or_labels_are_not_taken_from_memory(trainings, photos, tmp_path):
    fitted = detector(tmp_path, negatives="labelled").fit(photos, [1] * 8 + [-1] * 4)
    detector(tmp_path, negatives="labelled").fit(photos, [1] * 7 + [-1] * 5)
    detector(tmp_path, negatives="labelled").fit(photos[::-1], [1] * 8 + [-1] * 4)
    assert len(trainings) == 3
    scores = fitted.score_samples(photos)
    assert_array_equal(fitted.score_samples(photos[::-1]), scores[::-1])
    assert_array_equal(fitted.score_samples(photos), scores)


def test_files_count_by_their_contents(trainings, photos, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path, photo in zip(paths, photos, strict=False):
        Image.fromarray(photo).save(path)
    scores = detector(tmp_path / "memory").fit(paths).score_samples(paths)
    moved = [path.rename(path.with_suffix(".PNG")) for path in paths]
    assert_array_equal(detector(tmp_path / "memory").fit(moved).score_samples(moved), scores)
    assert len(trainings) == 1
    Image.fromarray(photos[-1]).save(moved[0], format="png")
    refitted = detector(tmp_path / "memory").fit(moved)
    assert len(trainings) == 2
    assert not np.array_equal(refitted.score_samples(moved), scores)


def test_a_file_of_weights_counts_by_its_contents(trainings, photos, tmp_path):
    import timm

    path = tmp_path / "weights.pth"
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(timm.create_model("resnet10t", num_classes=0).state_dict(), path)
        for _ in range(2):
            detector(tmp_path, backbone="resnet10t", weights=path, image_size=32).fit(photos)
    assert len(trainings) == 2


def test_more_shots_after_a_fit_from_memory(photos, tmp_path):
    scores = [
        detector(memory).fit(photos[:4]).partial_fit(photos[4:8]).score_samples(photos)
        for memory in (None, tmp_path, tmp_path)
    ]
    assert_array_equal(scores[1], scores[0])
    assert_array_equal(scores[2], scores[0])


def test_joblib_memory_and_rows(trainings, tmp_path):
    rows = np.random.default_rng(0).normal(size=(12, 5))
    memory = Memory(tmp_path, verbose=0)
    scores = [detector(memory).fit(rows).score_samples(rows) for _ in range(2)]
    assert_array_equal(*scores)
    assert len(trainings) == 1


def test_every_folder_has_what_another_process_looks_for(tmp_path):
    """joblib's note of the code, without which it takes the results for those of other code."""
    rows = np.random.default_rng(0).normal(size=(6, 3))
    for name in ("first", "second"):
        detector(tmp_path / name, backbone="embedded").fit(rows)
        assert len(list((tmp_path / name).rglob("func_code.py"))) == 1


@pytest.mark.slow
def test_another_process_finds_the_training(photos, tmp_path):
    params = dict(
        backbone="resnet10t",
        weights=None,
        image_size=32,
        max_iter=1,
        negatives=["cutpaste", "rotation"],
        random_state=0,
    )
    COFTDetector(**params, memory=tmp_path / "memory").fit(photos[:6])
    np.save(tmp_path / "photos.npy", photos)
    code = (
        "import numpy as np; from skcoft import COFTDetector\n"
        "from skcoft._training import encoders\n"
        "del encoders.build_encoder  # a training would fail\n"
        f"COFTDetector(**{params}, memory='memory').fit(np.load('photos.npy')[:6])\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_arrays_count_by_their_contents_alone():
    values = np.arange(24.0).reshape(4, 6)
    tensor = torch.rand(2, 3, 4, 5)
    for one, same in (
        (values[:, 2], values[:, 2].copy()),
        (values[:1, 2], values[:1, 2].copy()),
        (values, np.asfortranarray(values)),
        (tensor, tensor.contiguous(memory_format=torch.channels_last)),
    ):
        assert fingerprint(one) == fingerprint(same)
    others = [values, values + 1, values.T, values[:2], values.reshape(-1), values.astype(int)]
    others += [tensor, tensor + 1, np.array(3.0), np.array([3.0]), np.array([None, "a"])]
    assert len(set(map(fingerprint, others))) == len(others)


def test_functions_count_by_their_code_and_what_they_enclose():
    def scaled(factor):
        return lambda image: image * factor

    assert fingerprint(scaled(2)) == fingerprint(scaled(2))
    assert fingerprint(scaled(2)) != fingerprint(scaled(3))
    assert fingerprint(scaled(2)) != fingerprint(darker)


def test_parameters_that_cannot_be_cached_are_rejected_before_training(
    trainings, photos, tmp_path
):
    for memory, params, name in (
        (tmp_path, {"augmentation": lambda image: image}, "augmentation="),
        (3, {}, "'memory'"),
    ):
        with pytest.raises(ValueError, match=name):
            detector(memory, **params).fit(photos)
    assert not trainings and not list(tmp_path.iterdir())


MODULE = """
import torch
from sklearn.base import BaseEstimator

STRENGTH = 0.1
OPTIONS = {"darker": [0.1, (0.2, 0.3)]}

import functools
import users_helpers

def helper(image):
    return image * (1 - STRENGTH)

@functools.cache
def factor():
    return 0.5

def views(image):
    return users_helpers.blurred(helper(image)) * factor() - OPTIONS["darker"][0]

class Darker:
    levels = [0.1, 0.2]

    def __call__(self, image):
        return self.change(image)

    def change(self, image):
        return image * 0.9

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.layer(images) * 1.0
"""

EDITS = {
    "views": ("STRENGTH = 0.1", "STRENGTH = 0.2"),
    "views, a collection": ("(0.2, 0.3)", "(0.2, 0.4)"),
    "views, a cached helper": ("return 0.5", "return 0.6"),
    "Darker, a list": ("levels = [0.1", "levels = [0.3"),
    "helper": ("return image * (1 - STRENGTH)", "return image * (1 - STRENGTH) ** 2"),
    "Darker": ("image * 0.9", "image * 0.8"),
    "Net": ("* 1.0", "* 2.0"),
    "untouched": ("import torch\n", "import torch\n\n\n# a comment, other lines\n"),
}


@pytest.mark.parametrize("edited", EDITS)
def test_an_edit_of_the_users_code_is_seen(edited, tmp_path, monkeypatch):
    """Of a helper, a constant, a method; comments and line numbers do not count."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)

    def fingerprints(text):
        (tmp_path / "users_code.py").write_text(text)
        (tmp_path / "users_helpers.py").write_text("def blurred(image):\n    return image")
        for name in ("users_helpers", "users_code"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        module = importlib.import_module("users_code")
        torch.manual_seed(0)
        return {
            "views": fingerprint(module.views),
            "Darker": fingerprint(module.Darker()),
            "Net": fingerprint(module.Net()),
        }

    before = fingerprints(MODULE)
    assert fingerprints(MODULE) == before
    after = fingerprints(MODULE.replace(*EDITS[edited]))
    changed = {name for name in before if before[name] != after[name]}
    named = edited.partition(",")[0]
    assert changed == {"helper": {"views"}, "untouched": set()}.get(named, {named})


def test_an_edit_of_a_module_that_the_users_code_names_is_seen(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    actual = []
    for value in ("image", "0 * image"):
        (tmp_path / "users_helpers.py").write_text(f"def blurred(image):\n    return {value}")
        (tmp_path / "users_code.py").write_text(MODULE)
        for name in ("users_helpers", "users_code"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        actual.append(fingerprint(importlib.import_module("users_code").views))
    assert actual[0] != actual[1]


def test_the_packages_package_hash_counts(monkeypatch):
    before = fingerprint(1)
    monkeypatch.setattr("skcoft._utils.cache.package_hash", lambda: "another release")
    assert fingerprint(1) != before
    names = {file.name for file in Path(skcoft.__file__).parent.rglob("*.py")}
    assert len(package_hash()) == 64 and "cache.py" in names


def test_random_states_advance_alike_with_and_without_a_hit(photos, tmp_path):
    after = []
    for memory in (None, tmp_path, tmp_path):
        state = np.random.RandomState(0)
        COFTDetector(TinyNet(), max_iter=1, memory=memory, random_state=state).fit(photos[:4])
        after.append(state.randint(2**31))
    assert len(set(after)) == 1
