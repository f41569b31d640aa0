"""Model files that are damaged, of others, or made by hand to do harm: a ValueError says so."""

import importlib.util
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from golden import stripes
from model_files import forge
from safetensors.numpy import save_file

from skcoft import COFTDetector
from skcoft._persistence import model_file as model_file

ROWS = np.random.default_rng(0).normal(size=(24, 5))


def saved(folder, X, *args, **params):
    """Contents of the model file of a detector."""
    path = folder / "wall.skcoft"
    COFTDetector(*args, max_iter=0, random_state=0, **params).fit(X).save(path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "wall.skcoft"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A model file of rows."""
    return saved(tmp_path_factory.mktemp("model"), ROWS[:4], n_views=1)


@pytest.fixture(scope="module")
def content_of_images(tmp_path_factory):
    """A model file of images."""
    folder, options = tmp_path_factory.mktemp("model"), {"weights": None, "max_pixels": 1024}
    return saved(folder, stripes(4, seed=0), "test_efficientnet", **options)


def assert_refused(path, key="No detector can be made"):
    """Loading raises ValueError, whose message names a key."""
    with pytest.raises(ValueError, match=f"(?s){key}"):
        COFTDetector.load(path)


def test_every_flipped_bit_is_noticed(content, path):
    """Of a sample, in the header and in the data."""
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(content[:8], "little")
    places = [*range(8), *rng.integers(8, header, 300), *rng.integers(header, len(content), 100)]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        assert_refused(path, "damaged|Update skcoft|did not write it")
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert_refused(path, "SHA-256")


@pytest.mark.parametrize("share", [0, 0.0001, 0.01, 0.5, 0.9999])
def test_files_that_are_cut_off(share, content, path):
    path.write_bytes(content[: int(share * len(content))])
    assert_refused(path, "damaged or incomplete")


def test_files_of_others(path):
    path.write_bytes(pickle.dumps(COFTDetector()))
    assert_refused(path, "pickle")
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": np.zeros(3)}, path, metadata)
        assert_refused(path, "weights=")


def test_files_of_a_newer_format(content, path):
    forge(content, path, metadata={"format_version": "6", "versions": '{"skcoft": "9.0"}'})
    assert_refused(path, "format 6, .* up to 5")


def set_class(name):
    def change(model):
        model["objects"][0]["class"] = name

    return change


def set_state(cls, **values):
    def change(model):
        state = next(node["state"] for node in model["objects"] if node["class"] == cls)
        state.update(values)

    return change


def set_fitted(**values):
    return lambda model: model["fitted"].update(values)


def set_parameter(**values):
    return lambda model: model["parameters"].update(values)


def drop(*keys):
    def change(model):
        for key in keys[:-1]:
            model = model[key]
        del model[keys[-1]]

    return change


CENTER = "embedder_.encoders_.0.network.mean"
HOSTILE = {
    "class of os": (set_class("os.system"), "names the class 'os.system'"),
    "class of Python": (set_class("type"), "names the class 'type'"),
    "class that is no text": (set_class([]), ""),
    "detector in the detector": (set_class("COFTDetector"), "names the class 'COFTDetector'"),
    "another class of ours": (set_class("ShotRegistry"), "ShotRegistry has 'body.0.bias'"),
    "attribute": (set_state("Encoder", __class__="x"), "Encoder has '__class__'"),
    "method": (set_state("KernelDensity", score_samples=1), "KernelDensity has 'score_samples'"),
    "type": (set_state("Encoder", seed="1"), "Encoder has a str as 'seed'"),
    "object of another class": (set_state("Encoder", network={"object": 1}), ""),
    "itself": (set_state("Encoder", network={"object": 10**6}), ""),
    "unknown kind": (set_fitted(offset_={"pickle": "gASV"}), 'holds a "pickle"'),
    "two kinds": (set_fitted(offset_={"number": ["float64", 1], "dict": []}), ""),
    "numbers of another kind": (set_fitted(offset_={"number": ["object", 1]}), ""),
    "no number": (set_state("Threshold", value="1"), "Threshold has a str as 'value'"),
    "key": (set_fitted(embedder_={"dict": [[[1], 2]]}), ""),
    "array that is not there": (set_state("FittedModel", calibration_scores={"array": "x"}), ""),
    "fitted attribute": (set_fitted(predict=1), "the detector has 'predict'"),
    "method of the detector": (set_fitted(_read=1), "the detector has '_read'"),
    "lacking attribute": (drop("fitted", "_model"), "the detector lacks _model"),
    "lacking objects": (drop("objects"), "objects"),
    "lacking field": (drop("objects", 0, "state", "mean"), "TabularNetwork lacks mean"),
    "parameter": (set_parameter(backdoor=1), "backdoor"),
    "value of a parameter": (set_parameter(max_iter=-1), "'max_iter' parameter"),
    "callable": (set_parameter(density={"object": 0}), "'density' parameter"),
    "hub": (set_parameter(backbone="hf-hub:somebody/model"), "backbone='hf-hub:somebody/model'"),
    "folder": (set_parameter(backbone="local-dir:/etc"), "backbone='local-dir:/etc'"),
    "hub of the embedder": (set_state("COFTEmbedder", backbone="hf-hub:a/b"), "backbone='hf-hub"),
    "device": (set_state("Encoder", device="nonsense"), "nonsense"),
    "no JSON": (lambda model: "{", ""),
    "no object": (lambda model: "[1]", ""),
    "depth": (lambda model: "[" * 10**5 + "]" * 10**5, ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_models(name, content, path):
    change, message = HOSTILE[name]
    forge(content, path, change)
    assert_refused(path, f"No detector can be made of .*wall.skcoft.*{message}")


def test_a_cache_that_a_file_names_is_not_used(content, path, tmp_path):
    """joblib's caches are pickles."""
    forge(content, path, set_parameter(memory=str(tmp_path / "cache")))
    again = COFTDetector.load(path)
    assert again.memory is None and again.score_samples(ROWS).shape == (24,)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "value, message",
    [
        (None, CENTER),
        (
            np.zeros(5, dtype=np.float32),
            r"TabularNetwork has an array of float32, shape \(5,\), as",
        ),
        (np.zeros(6), r"array of float64, shape \(5,\), as 'scale'"),
        (np.zeros((5, 1)), r"array of float64, shape \(5, 1\), as 'mean'"),
        (np.zeros(5, dtype=np.int64), "array of int64"),
    ],
)
def test_hostile_arrays(value, message, content, path):
    forge(content, path, arrays={CENTER: value})
    assert_refused(path, f"No detector can be made of .*{message}")


def test_shapes_that_do_not_fit_elsewhere_in_the_file(content, path):
    for name in ("_model.registry.ids", "_model.joint.backbone_scores.0.support.embeddings"):
        path.write_bytes(content)
        array = model_file.read(path)[1][name]
        for cut in (array[1:], array[..., :-1]):
            forge(content, path, arrays={name: cut})
            assert_refused(path, "does not fit|different widths")


RECIPES = [
    {"name": "hf-hub:somebody/model", "options": {"num_classes": 0}},
    {"name": "local-dir:/srv/model", "options": {"num_classes": 0}},
    {"name": "test_vit.hf-hub:a/b", "options": {"num_classes": 0}},
    {"name": "../test_vit", "options": {"num_classes": 0}},
    {"name": "no_such_net", "options": {"num_classes": 0}},
    {"name": "test_efficientnet", "options": {"num_classes": 0, "pretrained": True}},
    {"name": "test_efficientnet", "options": {"num_classes": 0, "checkpoint_path": "/srv/x.pth"}},
    {"name": "test_efficientnet", "options": {"num_classes": 10**9}},
    {"name": "test_vit", "options": {"num_classes": 0, "img_size": "32"}},
    {"name": "test_vit", "options": {"num_classes": 0, "img_size": [32, -32]}},
    {"name": "embedded", "options": {"num_classes": 0, "pretrained": True}},
    {"name": 3, "options": {"num_classes": 0}},
    {"name": "test_vit", "options": None},
    {"name": "test_vit"},
    None,
]


def as_nodes(value):
    """Dicts as a model file writes them."""
    if isinstance(value, dict):
        return {"dict": [[key, as_nodes(item)] for key, item in value.items()]}
    return value


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_recipes_reach_nothing_else_of_timm(recipe, content_of_images, path, monkeypatch):
    calls = []
    forge(content_of_images, path, set_state("Backbone", recipe=as_nodes(recipe)))
    monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: calls.append(args))
    assert_refused(path)
    assert not calls


@pytest.mark.parametrize("name", ["forward", "__class__", "kind"])
def test_buffers_of_other_names(name, content_of_images, path):
    def change(model):
        for node in model["objects"]:
            if node["class"] == "Backbone":
                ((_, mean), *_) = buffers = node["state"]["buffers"]["dict"]
                buffers.append([name, mean])

    forge(content_of_images, path, change)
    assert_refused(path, "Backbone has a dict as 'buffers'")


def test_networks_of_other_arrays(content_of_images, path):
    stem = "embedder_.encoders_.0.network.body.conv_stem.weight"
    for value in (np.zeros((3, 3), dtype=np.float32), np.zeros((9, 3, 3, 3), dtype=np.float32)):
        forge(content_of_images, path, arrays={stem: value})
        assert_refused(path, "No detector can be made of .*conv_stem.weight")
    other = {"name": "test_vit", "options": {"num_classes": 0}}
    forge(content_of_images, path, set_state("Backbone", recipe=as_nodes(other)))
    assert_refused(path, "No detector can be made of .*VisionTransformer")


def test_a_parameter_that_an_earlier_version_had_not(content, path):
    def change(model):
        del model["parameters"]["bit_depth"]
        for node in model["objects"]:
            if node["class"] != "Encoder":
                node["state"].pop("bit_depth", None)
            node["state"].pop("covariance_type", None)

    forge(content, path, change)
    again = COFTDetector.load(path)
    assert again.bit_depth is None and again.embedder_.bit_depth is None
    assert again.density_.covariance_type == "spherical"
    assert np.isfinite(again.score_samples(ROWS)).all()


# Values that are not finite, or that make no sense


@pytest.fixture(scope="module")
def contents(content, content_of_images, tmp_path_factory):
    """Model files whose arrays are those of every class that a file may hold."""
    folder, X = tmp_path_factory.mktemp("model"), stripes(8, seed=0)
    mask = np.ones((32, 40))
    mask[:4] = 0
    params = {"weights": None, "max_pixels": 1024, "n_views": 1, "negatives": "labelled"}
    path = folder / "labelled.skcoft"
    COFTDetector(
        "test_efficientnet", max_iter=0, mask=mask, density=["gaussian", "kde"], **params
    ).fit(X, [1] * 6 + [-1] * 2).save(path)
    return [content, content_of_images, path.read_bytes()]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_array_may_hold_a_value_that_is_not_finite(value, contents, path):
    classes = set()
    for each in contents:
        path.write_bytes(each)
        metadata, arrays = model_file.read(path)
        classes |= {node["class"] for node in json.loads(metadata["model"])["objects"]}
        for name, array in arrays.items():
            if array.dtype.kind == "f" and array.size:
                changed = array.copy()
                changed.flat[-1] = value
                forge(each, path, arrays={name: changed})
                assert_refused(path, f"{name} holds NaN or infinity")
    assert classes >= {"PatchKDE", "LabelledHead", "MeanOfDensities", "HeldOutStandardizer"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"number": ["float64", "inf"]}])
def test_no_number_may_be_one_that_is_not_finite(value, content, path):
    forge(content, path, set_state("Threshold", value=value))
    assert_refused(path, "Threshold has a str as|NaN or infinity|number")
    forge(content, path, set_state("KernelDensity", bandwidth_=value))
    assert_refused(path)


@pytest.mark.parametrize(
    "name, change",
    [
        ("components.image.fitted._shape._spanned", np.negative),
        ("components.image.fitted._shape._directions", lambda array: array * 1e300),
        ("components.image.fitted._kernels", np.transpose),
        ("components.image.held_out_scores", lambda array: array[:2]),
        ("support.is_calibration", np.ones_like),
        ("components.patch.kde.center", lambda array: array * np.float32(1e38)),
    ],
)
def test_statistics_that_give_no_scores(name, change, content_of_images, path):
    path.write_bytes(content_of_images)
    name = f"_model.joint.backbone_scores.0.{name}"
    forge(content_of_images, path, arrays={name: change(model_file.read(path)[1][name])})
    assert_refused(path)


def test_networks_that_give_no_features(content_of_images, path):
    name = "embedder_.encoders_.0.network.body.conv_stem.weight"
    path.write_bytes(content_of_images)
    stem = np.full_like(model_file.read(path)[1][name], 1e38)
    forge(content_of_images, path, arrays={name: stem})
    assert_refused(path, "NaN or infinite")
    for fields in ({"layers": [1]}, {"pairs": {"dict": [["conv_stem", ""]]}}):
        forge(content_of_images, path, set_state("Backbone", **fields))
        assert_refused(path)
    forge(content_of_images, path, set_state("Sizing", pixels=10**400))
    assert_refused(path, "Sizing has a int as 'pixels'")


def test_what_is_not_finite_is_not_saved(path):
    detector = COFTDetector(max_iter=0, random_state=0).fit(ROWS[:4])
    detector.density_._kernels[0, 0] = np.nan
    with pytest.raises(ValueError, match="_kernels holds NaN or infinity"):
        detector.save(path)
    assert not path.exists()
    for value in (np.nan, -np.inf, "high", None):
        with pytest.raises(ValueError, match="offset_ must be a number"):
            detector.offset_ = value


def test_changes_at_random_are_refused_or_score():
    """A few cases of the script, which runs as long as one likes."""
    file = Path(__file__).parents[1] / "fuzz" / "fuzz_model_files.py"
    spec = importlib.util.spec_from_file_location("fuzz_model_files", file)
    script = importlib.util.module_from_spec(spec)
    paths, threads = list(sys.path), torch.get_num_threads()
    try:
        spec.loader.exec_module(script)
        outcomes, failures = script.run(seconds=60, seed=7, count=120)
    finally:
        sys.path[:] = paths
        torch.set_num_threads(threads)
    assert not failures and outcomes.total() > 60
    assert outcomes["json", "refused"] and outcomes["array", "scores"]
