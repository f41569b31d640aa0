"""Weights from files, the hub's cache, torch's cache and the hub, and how they are loaded."""

import pickle
import re
from functools import partial

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from skcoft._network.factory import build_backbone
from skcoft._network.weights import cached_by_hub, read_state

NAME = "resnet10t.c3_in1k"


def build(name=NAME, weights="pretrained"):
    return build_backbone(name, weights, 32, [(32, 32)], None, 0)[0]


@pytest.fixture(scope="module")
def state():
    """Random weights with a classifier head."""
    with torch.random.fork_rng():
        return timm.create_model("resnet10t", num_classes=7).state_dict()


def has_weights(network, state):
    weights = network.body.state_dict()
    return bool(weights) and all(torch.equal(weights[key], state[key]) for key in weights)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("with_head", [True, False])
def test_a_local_file_is_loaded_with_or_without_a_head(tmp_path, state, suffix, with_head):
    stored = {k: v for k, v in state.items() if with_head or not k.startswith("fc.")}
    path = tmp_path / f"weights.{suffix}"
    save_file(stored, path) if suffix == "safetensors" else torch.save(stored, path)
    for weights in (path, str(path)):
        assert has_weights(build("resnet10t", weights), state)


def other_keys(state):
    state = {**state, "extra.weight": torch.zeros(2), "layer1.0.conv1.weight": torch.zeros(2, 3)}
    del state["conv1.0.weight"]
    return state


@pytest.mark.parametrize(
    "change, names",
    [
        (
            other_keys,
            [
                "backbone='resnet10t'",
                "1 missing: conv1.0.weight",
                "1 unknown: extra.weight",
                "1 of another shape: layer1.0.conv1.weight (2, 3) for",
            ],
        ),
        (lambda state: {f"model.{key}": value for key, value in state.items()}, ["'model.'"]),
        (lambda state: {**state, "epoch": 3, "name": "x"}, ["epoch, name"]),
    ],
    ids=["other keys", "common prefix", "no tensors"],
)
def test_weights_that_do_not_fit_are_refused_with_the_keys(change, names, tmp_path, state):
    torch.save(change(dict(state)), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=".*".join(map(re.escape, names))):
        build("resnet10t", tmp_path / "other.pth")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        build("resnet10t", tmp_path / "none.pth")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch, tmp_path):
    """Empty caches, and a hub that cannot be reached."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def in_hub_cache(state, tmp_path):
    """Write weights as the hub's client does: a snapshot, and a reference of the branch."""
    repository = tmp_path / "hub" / "models--timm--resnet10t.c3_in1k"

    def write(name, save):
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("abc")
        file = repository / "snapshots" / "abc" / name
        file.parent.mkdir(parents=True)
        save(state, file)
        return file

    return write


@pytest.mark.parametrize(
    "name, save", [("model.safetensors", save_file), ("pytorch_model.bin", torch.save)]
)
def test_the_hub_cache_is_read_first(in_hub_cache, state, name, save):
    file = in_hub_cache(name, save)
    for backbone in (NAME, "resnet10t"):
        network = build(backbone)
        assert has_weights(network, state)
        assert network.origin == f"hub cache {file}"


def test_the_torch_cache_is_read_too(state, tmp_path, monkeypatch):
    config = timm.models.get_pretrained_cfg("resnet10t")
    monkeypatch.setattr(config, "url", "https://example.org/resnet10t-1234abcd.pth")
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda *a, **k: config)
    assert cached_by_hub("resnet10t") is None
    file = tmp_path / "torch" / "hub" / "checkpoints" / "resnet10t-1234abcd.pth"
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    assert cached_by_hub("resnet10t") == str(file)


@pytest.mark.parametrize("name", [NAME, "test_vit.r160_in1k"])
def test_without_cache_and_hub_the_error_names_the_alternatives(name):
    assert cached_by_hub(name) is None
    with pytest.raises(OSError, match=f"{name}.*weights="):
        build(name)


def test_a_name_on_the_hub_is_not_in_the_caches():
    assert cached_by_hub("hf-hub:somebody/network") is None


def write_text(state, file):
    file.write_text("no tensors")


def save_another_shape(state, file):
    save_file({**state, "conv1.0.weight": torch.zeros(2, 3)}, file)


@pytest.mark.parametrize("save", [write_text, save_another_shape])
def test_a_wrong_file_in_the_hub_cache_is_named(in_hub_cache, save):
    file = in_hub_cache("model.safetensors", save)
    with pytest.raises(ValueError, match=str(file)):
        build()


def test_the_origin_says_where_weights_come_from(state, tmp_path):
    save_file(state, tmp_path / "own.safetensors")
    assert build(weights=tmp_path / "own.safetensors").origin == str(tmp_path / "own.safetensors")
    assert build(weights=None).origin is None
    assert build("embedded").origin.startswith("package skcoft ")


class Harmful:
    def __reduce__(self):
        return print, ("code of a pickle runs",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_an_unreadable_file_is_named_and_runs_no_code(tmp_path, capsys):
    files = [tmp_path / name for name in ("weights.pth", "zipped.pth", "text.safetensors")]
    files[0].write_bytes(pickle.dumps({"conv1.weight": Harmful()}))
    torch.save({"conv1.weight": Harmful()}, files[1])
    files[2].write_text("no tensors here")
    for file in files:
        for read in (read_state, partial(build, "resnet10t")):
            with pytest.raises(ValueError, match=file.name):
                read(file)
    assert "code of a pickle" not in capsys.readouterr().out
