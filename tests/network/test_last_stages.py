import numpy as np
import pytest
import torch
from conftest import TinyNet

from skcoft import COFTEmbedder
from skcoft._network.last_stages import LastStages

IMAGES = np.random.default_rng(0).random((2, 64, 64, 3))


def fitted_network(backbone, **params):
    return COFTEmbedder(backbone, max_iter=0, random_state=0, **params).fit(IMAGES).network_


def stages_of(backbone, size=64, **params):
    network = fitted_network(backbone, **params)
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    return LastStages.of(network, images), network, images


@pytest.mark.parametrize(
    ("backbone", "cut", "size"),
    [
        ("resnet10t", "layer4", 64),
        ("tf_efficientnet_lite0", "blocks.5", 96),
        ("vit_tiny_patch16_224", "blocks.9", 224),
        ("convnext_atto", "stages.3", 64),
    ],
)
def test_activations_at_the_cut_lead_to_the_features_of_the_network(backbone, cut, size):
    stages, network, images = stages_of(backbone, size, weights=None)
    assert stages.cut is network.body.get_submodule(cut)
    with torch.no_grad():
        activations, features = stages.run_from_images(images)
        assert torch.allclose(features, network(images))
        assert torch.allclose(stages(activations), features, rtol=1e-3, atol=1e-5)
        assert torch.allclose(stages(activations[:1]), features[:1], rtol=1e-3, atol=1e-5)
    assert activations.shape[0] == 3 and activations[0].numel() < 3 * size**2


def test_all_parameters_of_the_last_stages_have_gradients_and_no_others():
    stages, network, images = stages_of("resnet10t", weights=None)
    stages(stages.run_from_images(images)[0]).sum().backward()
    trained = {id(parameter) for parameter in stages.parameters()}
    for name, parameter in network.named_parameters():
        assert (id(parameter) in trained) == name.startswith("body.layer4")
        assert (parameter.grad is not None) == (id(parameter) in trained)


def test_fine_tuning_leaves_the_earlier_stages_and_the_maps_unchanged():
    frozen = fitted_network("resnet10t", weights=None)
    options = {"weights": None, "learning_rate": 0.01, "random_state": 0, "max_iter": 2}
    tuned = COFTEmbedder("resnet10t", **options).fit(IMAGES).network_
    states = frozen.state_dict(), tuned.state_dict()
    changed = {name for name in states[0] if not torch.equal(*(s[name] for s in states))}
    assert changed and all(name.startswith("body.layer4") for name in changed)
    image = torch.from_numpy(IMAGES[:1]).permute(0, 3, 1, 2).float()
    before, after = (network.features_and_patches(image) for network in (frozen, tuned))
    assert torch.equal(before[1], after[1]) and not torch.equal(before[0], after[0])


@pytest.mark.parametrize("backbone", [TinyNet(), "embedded"])
def test_networks_without_stages_named_by_timm_are_not_cut(backbone):
    assert stages_of(backbone)[0] is None


class Residual(torch.nn.Module):
    """A network in timm's form whose head sees the output of the first stage again."""

    feature_info = [{"module": "first"}]

    def __init__(self, skips):
        super().__init__()
        self.skips = skips
        self.first = torch.nn.Conv2d(3, 4, 3, stride=2)
        self.last = torch.nn.Conv2d(4, 4, 1)

    def forward(self, images):
        return self.forward_intermediates(images, [0])[0].mean(dim=(2, 3))

    def forward_intermediates(self, images, indices=None):
        maps = self.first(images)
        output = self.last(maps)
        if self.skips:
            output = output + maps.mean(dim=(2, 3), keepdim=True)
        return output, [maps]

    def forward_head(self, output):
        return output.mean(dim=(2, 3))


@pytest.mark.parametrize("skips", [False, True])
def test_a_network_is_cut_only_if_nothing_passes_beside_the_cut(skips):
    stages, network, _ = stages_of(Residual(skips), image_size=64)
    assert network.layers == [0]
    assert (stages is None) == skips


@pytest.mark.parametrize("info", [None, [], ["first"], [{"module": "other"}], [{"stage": 1}]])
def test_a_module_with_other_information_about_its_features_is_not_cut(info):
    network = Residual(False)
    network.feature_info = info
    assert stages_of(network, image_size=64)[0] is None
