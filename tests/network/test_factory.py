"""Networks that are built by name or from a user's module, and the sizes of their images."""

import numpy as np
import pytest
import timm
import torch
from conftest import TinyNet
from safetensors.torch import save_file
from torch import nn

from skcoft import COFTEmbedder
from skcoft._network.factory import build_backbone


def build(backbone, weights=None, image_size=32, shapes=((32, 32),), max_pixels=None, seed=0):
    network, sizing = build_backbone(backbone, weights, image_size, shapes, max_pixels, seed)
    return network, sizing.size


@pytest.mark.parametrize(
    "name, names",
    [
        ("resnet81", "'resnet81'.*resnet18"),
        ("resnet-18", "'resnet-18'.*resnet18"),
        ("zzz", r"'zzz'[^:]*$"),
        ("timm/resnet18.a1_in1k", "'hf-hub:timm/resnet18.a1_in1k'"),
    ],
)
def test_an_unknown_name_is_refused_with_similar_names(name, names):
    with pytest.raises(ValueError, match=names):
        build(name)


@pytest.mark.parametrize(
    "name, image_size, shape, max_pixels, expected",
    [
        ("resnet10t", None, (500, 500), None, (256, 256)),  # twice the pixels of timm's 176
        ("resnet10t", None, (32, 32), None, (192, 192)),  # small images are enlarged
        ("resnet10t", None, (140, 100), None, (224, 160)),
        ("resnet10t", None, (640, 480), None, (288, 224)),
        ("resnet10t", None, (640, 480), 320 * 240, (320, 256)),
        ("resnet10t", None, (640, 480), 10**6, (640, 480)),
        ("resnet10t", None, (2000, 20), None, (1984, 32)),
        ("resnet10t", 64, (32, 32), 99, (64, 64)),
        ("resnet10t", np.int64(64), (32, 32), None, (64, 64)),
        ("resnet10t", (48, 96), (500, 500), None, (48, 96)),
        ("test_vit", None, (32, 32), None, (160, 160)),  # a fixed number of pixels
        ("test_vit", None, (300, 100), None, (272, 96)),
        ("test_vit", None, (300, 300), 64 * 64, (64, 64)),  # unless max_pixels is set
        ("test_vit", (96, 64), (500, 500), None, (96, 64)),
    ],
)
def test_images_are_resized_and_normalised_as_timm_states(
    name, image_size, shape, max_pixels, expected
):
    network, size = build(name, None, image_size, [shape], max_pixels)
    assert size == expected
    config = timm.models.get_pretrained_cfg(name)
    assert np.allclose(network.mean.flatten(), config.mean)
    assert np.allclose(network.std.flatten(), config.std)
    assert network(torch.rand(2, 3, *size)).ndim == 2
    assert not network.training


@pytest.mark.parametrize(
    "name, side",
    [("vit_small_patch14_dinov2.lvd142m", 224), ("test_vit", 160), ("resnet10t", 256)],
)
def test_transformers_with_a_large_default_size_get_a_smaller_one(name, side):
    """DINOv2's default is 518 pixels. Default sizes of up to 256 pixels stay."""
    network, sizing = build_backbone(name, None, None, [(500, 500)], None, 0)
    assert sizing.size == (side, side)
    if network.layers is not None:
        _, patches = network.features_and_patches(torch.zeros(1, 3, side, side))
        assert patches.shape[1] == 16 or name != "vit_small_patch14_dinov2.lvd142m"
    assert build_backbone(name, None, 112, [(500, 500)], None, 0)[1].size == (112, 112)


def test_position_embeddings_are_resized_with_the_weights(tmp_path):
    with torch.random.fork_rng():
        source = timm.create_model("test_vit")
    save_file(source.state_dict(), tmp_path / "vit.safetensors")
    network, size = build("test_vit", tmp_path / "vit.safetensors", image_size=96)
    assert size == (96, 96)
    assert torch.equal(network.body.patch_embed.proj.weight, source.patch_embed.proj.weight)


def test_random_weights_depend_on_the_seed():
    first, repeated, other = (build("resnet10t", seed=s)[0].state_dict() for s in (0, 0, 1))
    assert all(torch.equal(first[k], repeated[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_wide_patches_are_projected_to_256_values():
    """The projection depends on the seed only and keeps lengths on average."""
    first, repeated, other = (build("resnet10t", image_size=64, seed=s)[0] for s in (0, 0, 1))
    assert first.projection.shape == (384, 256)
    assert torch.equal(first.projection, repeated.projection)
    assert not torch.equal(first.projection, other.projection)
    assert first.projection.square().sum(1).mean() == pytest.approx(1, abs=0.05)
    assert build("embedded", "pretrained", 64)[0].projection is None


def test_a_module_of_the_user_is_copied(tiny_net):
    before = {k: v.clone() for k, v in tiny_net.state_dict().items()}
    images = np.random.default_rng(0).random((4, 16, 16))
    embedder = COFTEmbedder(tiny_net, max_iter=3, learning_rate=0.01, random_state=0).fit(images)
    assert tiny_net.training
    assert all(p.requires_grad and p.grad is None for p in tiny_net.parameters())
    assert all(torch.equal(before[k], v) for k, v in tiny_net.state_dict().items())
    tuned = embedder.network_.body.state_dict()
    assert any(not torch.equal(before[k], tuned[k]) for k in before)


class Changed(TinyNet):
    """A module whose features are changed by a function."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, images):
        return self.change(super().forward(images))


@pytest.mark.parametrize(
    "module, options, names",
    [
        (nn.Flatten(1, 2), {}, r"\(1, 96, 32\)"),
        (nn.Flatten(0, 3), {}, r"\(n, d\)"),
        (nn.Conv2d(1, 4, 3), {}, "image_size"),
        (TinyNet(), {"image_size": None, "shapes": [(32, 32), (32, 31)]}, "image_size"),
        (Changed(lambda f: nn.functional.dropout(f, 0.5)), {}, "dropout"),
        (Changed(lambda f: f - f.mean(dim=0)), {}, "batch"),
        (Changed(lambda f: f + f.amax(0)), {}, "batch"),
    ],
    ids=[
        "three dimensions",
        "one dimension",
        "one channel",
        "images of several sizes",
        "random features",
        "mean of the batch",
        "maximum of the batch",
    ],
)
def test_a_module_that_does_not_map_each_image_to_features_is_refused(module, options, names):
    with pytest.raises(ValueError, match=names):
        build(module, **options)


@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet18"])
def test_real_weights_give_different_features_for_different_images(shared, name):
    network, size = build(
        name, shared / "weights" / f"{name}.safetensors", image_size=None, shapes=[(600, 600)]
    )
    assert size == (320, 320)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert network(images).std() > 0.01
