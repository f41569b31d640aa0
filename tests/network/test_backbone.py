import warnings

import numpy as np
import pytest
import timm
import torch
from conftest import TinyNet
from safetensors.torch import save_file
from torch import nn

from skcoft import COFTDetector, COFTEmbedder
from skcoft._network.factory import build_backbone


def build(backbone, weights=None, image_size=32, shapes=((32, 32),), max_pixels=None, seed=0):
    network, sizing = build_backbone(backbone, weights, image_size, shapes, max_pixels, seed)
    return network, sizing.size


@pytest.fixture(scope="module")
def state():
    with torch.random.fork_rng():
        return timm.create_model("resnet10t", num_classes=7).state_dict()


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("head", [True, False])
def test_local_weights(tmp_path, state, suffix, head):
    kept = {k: v for k, v in state.items() if head or not k.startswith("fc.")}
    path = tmp_path / f"weights.{suffix}"
    save_file(kept, path) if suffix == "safetensors" else torch.save(kept, path)
    for weights in (path, str(path)):
        network, _ = build("resnet10t", weights)
        own = network.body.state_dict()
        assert own and all(torch.equal(own[k], state[k]) for k in own)


def test_weights_that_do_not_fit_name_the_keys(tmp_path, state):
    path = tmp_path / "other.safetensors"
    broken = dict(state)
    del broken["conv1.0.weight"]
    broken["extra.weight"] = torch.zeros(2)
    broken["layer1.0.conv1.weight"] = torch.zeros(2, 3)
    save_file(broken, path)
    with pytest.raises(ValueError, match="do not fit backbone='resnet10t'") as error:
        build("resnet10t", path)
    for part in (
        "1 missing: conv1.0.weight",
        "1 unknown: extra.weight",
        "1 of another shape: layer1.0.conv1.weight (2, 3) for",
    ):
        assert part in str(error.value)


def test_weights_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.pth' is neither a file, 'pretrained'"):
        build("resnet10t", tmp_path / "none.pth")
    path = tmp_path / "text.safetensors"
    path.write_text("no tensors here")
    with pytest.raises(ValueError, match="could not be read as a .safetensors or .pth"):
        build("resnet10t", path)


def test_no_network(monkeypatch, tmp_path):
    """An empty cache and no hub: one clear error, before any work."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(OSError, match=r"could not be fetched .* pass a local file in timm's"):
        build("test_vit.r160_in1k", "pretrained")


@pytest.mark.parametrize("name", ["resnet81", "resnet-18", "zzz"])
def test_unknown_backbone(name):
    with pytest.raises(ValueError, match=f"backbone='{name}' is not a timm") as error:
        build(name)
    assert ("Similar names: " in str(error.value)) == name.startswith("resnet")


@pytest.mark.parametrize(
    "name, image_size, shape, max_pixels, expected",
    [
        ("resnet10t", None, (500, 500), None, (256, 256)),  # timm's 176, twice its pixels
        ("resnet10t", None, (32, 32), None, (192, 192)),  # not enlarged further than that
        ("resnet10t", None, (140, 100), None, (224, 160)),
        ("resnet10t", None, (640, 480), None, (288, 224)),
        ("resnet10t", None, (640, 480), 320 * 240, (320, 256)),
        ("resnet10t", None, (640, 480), 10**6, (640, 480)),
        ("resnet10t", None, (2000, 20), None, (1984, 32)),
        ("resnet10t", 64, (32, 32), 99, (64, 64)),
        ("resnet10t", np.int64(64), (32, 32), None, (64, 64)),
        ("resnet10t", (48, 96), (500, 500), None, (48, 96)),
        ("test_vit", None, (32, 32), None, (160, 160)),  # takes no other number of pixels
        ("test_vit", None, (300, 100), None, (272, 96)),
        ("test_vit", None, (300, 300), 64 * 64, (64, 64)),  # unless it is asked for
        ("test_vit", (96, 64), (500, 500), None, (96, 64)),
    ],
)
def test_image_size(name, image_size, shape, max_pixels, expected):
    network, size = build(name, None, image_size, [shape], max_pixels)
    assert size == expected
    config = timm.models.get_pretrained_cfg(name)
    assert np.allclose(network.mean.flatten(), config.mean)
    assert np.allclose(network.std.flatten(), config.std)
    assert network(torch.rand(2, 3, *size)).ndim == 2
    assert not network.training


def test_positions_of_a_vit_are_resized_with_its_weights(tmp_path):
    with torch.random.fork_rng():
        source = timm.create_model("test_vit")
    save_file(source.state_dict(), tmp_path / "vit.safetensors")
    network, size = build("test_vit", tmp_path / "vit.safetensors", image_size=96)
    assert size == (96, 96)
    assert torch.equal(network.body.patch_embed.proj.weight, source.patch_embed.proj.weight)


def test_random_weights_are_seeded():
    first, again, other = (build("resnet10t", seed=s)[0].state_dict() for s in (0, 0, 1))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_module_is_copied(tiny_net):
    before = {k: v.clone() for k, v in tiny_net.state_dict().items()}
    images = np.random.default_rng(0).random((4, 16, 16))
    embedder = COFTEmbedder(tiny_net, max_iter=3, learning_rate=0.01, random_state=0).fit(images)
    assert tiny_net.training
    assert all(p.requires_grad and p.grad is None for p in tiny_net.parameters())
    assert all(torch.equal(before[k], v) for k, v in tiny_net.state_dict().items())
    tuned = embedder.network_.body.state_dict()
    assert any(not torch.equal(before[k], tuned[k]) for k in before)


@pytest.mark.parametrize(
    "module, message",
    [
        (nn.Flatten(1, 2), r"must map \(n, 3, H, W\) .* one image gave \(1, 96, 32\)"),
        (nn.Conv2d(1, 4, 3), "cannot process images of 32x32 pixels"),
        (nn.Flatten(0, 3), "one image gave"),
    ],
)
def test_module_of_another_kind(module, message):
    with pytest.raises(ValueError, match=message):
        build(module)


def test_module_needs_a_size_where_images_differ():
    with pytest.raises(ValueError, match="image_size is needed: the images differ in size"):
        build(TinyNet(), image_size=None, shapes=[(32, 32), (32, 31)])


@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet18"])
def test_real_weights(shared, name):
    network, size = build(
        name, shared / "weights" / f"{name}.safetensors", image_size=None, shapes=[(600, 600)]
    )
    assert size == (320, 320)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = network(images)
    assert features.std() > 0.01  # weights that are all there tell images apart


class Unsteady(TinyNet):
    """A module whose features depend on chance, or on the other images of a batch."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, images):
        return self.change(super().forward(images))


@pytest.mark.parametrize(
    "change",
    [
        lambda f: nn.functional.dropout(f, 0.5),
        lambda f: f - f.mean(dim=0),
        lambda f: f + f.amax(0),
    ],
    ids=["dropout", "mean of the batch", "maximum of the batch"],
)
def test_a_module_that_is_not_steady_is_refused(change):
    with pytest.raises(ValueError, match="dropout or batch statistics are active in it"):
        build(Unsteady(change))


class Failing(TinyNet):
    """A module that offers its maps, and then does not."""

    def forward_intermediates(self, images, indices=None):
        raise NotImplementedError("no maps today")


class OtherPooling(TinyNet):
    """A module whose output is not what its maps give."""

    def forward(self, images):
        return super().forward(images).amax(dim=(2, 3))

    def forward_intermediates(self, images, indices=None):
        maps = super().forward(images)
        return maps, [maps]

    def forward_head(self, maps):
        return maps


class Pooled(TinyNet):
    def forward(self, images):
        return super().forward(images).mean(dim=(2, 3))


def test_a_local_density_that_is_left_out_says_why(photos):
    class FailingAndPooled(Failing, Pooled):
        pass

    for module, reason in (
        (FailingAndPooled(), r"its forward_intermediates failed: NotImplementedError\('no maps"),
        (OtherPooling(), "forward_head of its last maps gives another output than forward"),
    ):
        with pytest.warns(UserWarning, match=f"local density is left out.*{reason}"):
            fitted = COFTDetector(module, max_iter=0).fit(photos[:6])
        assert list(fitted._model.joint.components) == [(0, "image")]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            COFTDetector(module, max_iter=0, local=False).fit(photos[:6])
            COFTEmbedder(module, max_iter=0).fit(photos[:6])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        COFTDetector(Pooled(), max_iter=0).fit(photos[:6])  # it offers none


def test_names_and_keys_of_other_tools(tmp_path, state):
    with pytest.raises(ValueError, match="pass 'hf-hub:timm/resnet18.a1_in1k'"):
        build("timm/resnet18.a1_in1k")
    save_file({f"model.{key}": value for key, value in state.items()}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"All keys begin with 'model\.': save them without it"):
        build("resnet10t", tmp_path / "a.safetensors")
    torch.save({**state, "epoch": 3, "name": "x"}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match="hold what is no tensor: epoch, name. Save"):
        build("resnet10t", tmp_path / "b.pth")
