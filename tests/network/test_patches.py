import pytest
import torch
from numpy.testing import assert_allclose

from skcoft._network.factory import build_backbone
from skcoft._network.patches import (
    average_neighbours,
    choose_layers,
    patch_embeddings,
)


def test_layers_of_a_pyramid_and_of_a_transformer():
    assert choose_layers([(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]) == [2, 3]
    assert choose_layers([(32, 48), (32, 48), (16, 24), (8, 12), (8, 12)]) == [1, 2]
    assert choose_layers([(16, 16)] * 12) == [5, 8]
    assert choose_layers([(4, 4)]) == [0]


@pytest.mark.parametrize(
    ("name", "size", "layers", "shape"),
    [
        ("embedded", (96, 64), [2, 3], (12, 8, 192)),
        ("mobilenetv2_050", (64, 64), [2, 3], (8, 8, 64)),
        ("convnext_atto", (64, 96), None, (8, 12, 240)),  # layers depend on the version of timm
        ("vit_tiny_patch16_224", (64, 64), [5, 8], (4, 4, 256)),
    ],
)
def test_features_and_patches_come_from_one_forward_pass(name, size, layers, shape):
    network, _ = build_backbone(name, None, size, [size], None, 0)
    images = torch.rand(2, 3, *size)
    with torch.inference_mode():
        features, patches = network.features_and_patches(images)
        assert_allclose(features, network(images), rtol=1e-4, atol=1e-5)
    assert layers is None or network.layers == layers
    assert patches.shape == (2, *shape)


def test_all_layers_have_the_same_weight():
    gen = torch.Generator().manual_seed(0)
    fine, coarse = torch.rand(2, 5, 8, 8, generator=gen), torch.rand(2, 7, 4, 4, generator=gen)
    patches = patch_embeddings([fine, 1000 * coarse])
    assert patches.shape == (2, 8, 8, 12)
    assert_allclose(patches[..., :5].square().sum(-1), 0.5, rtol=1e-5)
    assert_allclose(patches, patch_embeddings([fine, coarse]), rtol=1e-4, atol=1e-6)


def test_large_maps_are_reduced_to_1024_patches():
    """The aspect ratio is kept, and smaller maps are unchanged."""
    assert patch_embeddings([torch.rand(1, 2, 100, 20)]).shape == (1, 72, 14, 2)
    assert patch_embeddings([torch.rand(1, 2, 64, 16)]).shape == (1, 64, 16, 2)
    assert patch_embeddings([torch.rand(1, 2, 33, 33)]).shape == (1, 32, 32, 2)
    assert patch_embeddings([torch.rand(1, 2, 9000, 1)]).shape == (1, 3036, 1, 2)


def test_large_images_have_more_patches():
    """One per 132 pixels, so that a defect covers as many patches as in a small image."""
    maps = [torch.rand(1, 2, 192, 256)]
    assert patch_embeddings(maps, pixels=1536 * 2048).shape == (1, 134, 178, 2)
    assert patch_embeddings(maps, pixels=2 * 260**2).shape == (1, 28, 37, 2)
    network, _ = build_backbone("mobilenetv2_050", None, None, [(704, 704)], 704**2, 0)
    with torch.inference_mode():
        assert network.features_and_patches(torch.rand(1, 3, 704, 704))[1].shape[1:3] == (61, 61)


def test_maps_are_averaged_over_neighbours():
    maps = torch.zeros(1, 1, 5, 5)
    maps[0, 0, 0, 0] = 36
    averages = average_neighbours(maps)[0, 0]
    assert averages[0, 0] == 9  # four neighbours in a corner
    assert averages[0, 1] == averages[1, 0] == 6
    assert averages[1, 1] == 4 and averages[2].sum() == 0
    with_neighbours = patch_embeddings([torch.cat([maps, torch.ones_like(maps)], 1)])
    assert_allclose(with_neighbours[0, 1, 1], torch.tensor([4.0, 1]) / 17**0.5, rtol=1e-6)
