"""The network for images: the maps for its patches, and its recipe."""

import warnings

import pytest
import torch
from conftest import TinyNet

from skcoft import COFTDetector, COFTEmbedder
from skcoft._network.backbone import check_recipe
from skcoft._network.factory import build_backbone


class Pooled(TinyNet):
    """A module without maps."""

    def forward(self, images):
        return super().forward(images).mean(dim=(2, 3))


class Failing(Pooled):
    """A module whose ``forward_intermediates`` fails."""

    def forward_intermediates(self, images, indices=None):
        raise NotImplementedError("no maps today")


class OtherPooling(TinyNet):
    """A module whose maps do not lead to its output."""

    def forward(self, images):
        return super().forward(images).amax(dim=(2, 3))

    def forward_intermediates(self, images, indices=None):
        maps = super().forward(images)
        return maps, [maps]

    def forward_head(self, maps):
        return maps


@pytest.mark.parametrize(
    "module, reason",
    [(Failing(), "no maps today"), (OtherPooling(), "forward_head")],
    ids=["failing", "other pooling"],
)
def test_a_warning_says_why_there_is_no_patch_density(module, reason, photos):
    with pytest.warns(UserWarning, match=reason):
        fitted = COFTDetector(module, max_iter=0).fit(photos[:6])
    assert list(fitted._model.joint.components) == [(0, "image")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        COFTDetector(module, max_iter=0, local=False).fit(photos[:6])
        COFTEmbedder(module, max_iter=0).fit(photos[:6])


def test_a_module_that_offers_no_maps_needs_no_warning(photos):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        COFTDetector(Pooled(), max_iter=0).fit(photos[:6])


def test_the_output_of_a_module_is_its_only_map():
    network, _ = build_backbone(TinyNet(), None, 32, [(32, 32)], None, 0)
    images = torch.rand(2, 3, 32, 32)
    features, (output,) = network.features_and_maps(images, network.layers)
    assert network.layers == []
    assert torch.equal(output, network.body(images))
    assert torch.equal(features, output.mean(dim=(2, 3)))


def test_a_recipe_builds_the_same_architecture_again():
    network, _ = build_backbone("test_vit", None, (96, 64), [(32, 32)], None, 0)
    assert network.recipe == {
        "name": "test_vit",
        "options": {"num_classes": 0, "img_size": (96, 64)},
    }
    assert check_recipe(network.recipe)


@pytest.mark.parametrize(
    "recipe",
    [
        None,
        {"name": "resnet10t"},
        {"name": "hf-hub:timm/resnet18.a1_in1k", "options": {"num_classes": 0}},
        {"name": "no_such_network", "options": {"num_classes": 0}},
        {"name": "resnet10t", "options": {"num_classes": 0, "pretrained": True}},
        {"name": "test_vit", "options": {"num_classes": 0, "img_size": -1}},
    ],
    ids=str,
)
def test_a_recipe_of_another_origin_is_refused(recipe):
    with pytest.raises(ValueError):
        check_recipe(recipe)
