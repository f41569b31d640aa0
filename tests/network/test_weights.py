"""Where weights come from: files, the hub's cache, torch's cache, the hub."""

import pickle

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
    with torch.random.fork_rng():
        return timm.create_model("resnet10t").state_dict()


@pytest.fixture(autouse=True)
def no_hub(monkeypatch, tmp_path):
    """Empty caches, and a hub that cannot be reached."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def in_hub_cache(state, tmp_path):
    """Write weights as the hub's client does: a snapshot, and what the branch points to."""
    repository = tmp_path / "hub" / "models--timm--resnet10t.c3_in1k"

    def write(name, save):
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("abc")
        file = repository / "snapshots" / "abc" / name
        file.parent.mkdir(parents=True)
        save(state, file)
        return file

    return write


def holds(network, state):
    own = network.body.state_dict()
    return all(torch.equal(own[key], state[key]) for key in own)


@pytest.mark.parametrize(
    "name, save", [("model.safetensors", save_file), ("pytorch_model.bin", torch.save)]
)
def test_the_cache_of_the_hub_is_asked_first(in_hub_cache, state, name, save):
    file = in_hub_cache(name, save)
    for backbone in (NAME, "resnet10t"):
        network = build(backbone)
        assert holds(network, state)
        assert network.origin == f"hub cache {file}"


def test_the_cache_of_torch_is_asked_too(state, tmp_path, monkeypatch):
    config = timm.models.get_pretrained_cfg("resnet10t")
    monkeypatch.setattr(config, "url", "https://example.org/resnet10t-1234abcd.pth")
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda *a, **k: config)
    assert cached_by_hub("resnet10t") is None
    file = tmp_path / "torch" / "hub" / "checkpoints" / "resnet10t-1234abcd.pth"
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    assert cached_by_hub("resnet10t") == str(file)


def test_an_empty_cache_and_no_hub():
    assert cached_by_hub(NAME) is None
    message = r"of backbone='resnet10t.c3_in1k' could not be fetched .* network, pass a local"
    with pytest.raises(OSError, match=message):
        build()


def test_names_that_are_the_hubs_alone():
    assert cached_by_hub("hf-hub:somebody/network") is None


def test_a_damaged_file_in_the_cache_is_named(in_hub_cache):
    file = in_hub_cache("model.safetensors", lambda state, file: file.write_text("no tensors"))
    with pytest.raises(ValueError, match=f"weights='{file}' could not be read"):
        build()


def test_a_file_in_the_cache_that_does_not_fit_is_named(in_hub_cache):
    def save_another(state, file):
        save_file({**state, "conv1.0.weight": torch.zeros(2, 3)}, file)

    file = in_hub_cache("model.safetensors", save_another)
    with pytest.raises(
        ValueError, match=rf"(?s)cache do not fit backbone=.resnet10t.c3_in1k.: .*Delete {file}"
    ):
        build()


def test_where_weights_came_from(state, tmp_path):
    save_file(state, tmp_path / "own.safetensors")
    assert build(weights=tmp_path / "own.safetensors").origin == str(tmp_path / "own.safetensors")
    assert build(weights=None).origin is None
    assert build("embedded").origin.startswith("package skcoft ")


class Harmful:
    def __reduce__(self):
        return print, ("code of a pickle runs",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_code_of_a_pickle_runs(tmp_path, capsys):
    file = tmp_path / "weights.pth"
    file.write_bytes(pickle.dumps({"conv1.weight": Harmful()}))
    torch.save({"conv1.weight": Harmful()}, tmp_path / "zipped.pth")
    for path in (file, tmp_path / "zipped.pth"):
        with pytest.raises(ValueError, match="could not be read as a .safetensors or .pth"):
            read_state(path)
        with pytest.raises(ValueError, match="could not be read as a .safetensors or .pth"):
            build(weights=path)
    assert "code of a pickle" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, size",
    [("vit_small_patch14_dinov2.lvd142m", 224), ("test_vit", 160), ("resnet10t", 256)],
)
def test_sizes_of_transformers_are_bearable(name, size):
    """518 pixels, DINOv2's own, are not; what is at most 256 stays, but for multiples."""
    network, sizing = build_backbone(name, None, None, [(500, 500)], None, 0)
    found = sizing.size
    assert found == (size, size)
    if network.layers is not None:
        _, positions = network.features_and_patches(torch.zeros(1, 3, *found))
        assert positions.shape[1] == 16 or name != "vit_small_patch14_dinov2.lvd142m"
    assert build_backbone(name, None, 112, [(500, 500)], None, 0)[1].size == (112, 112)
