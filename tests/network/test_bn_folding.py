import copy
import pickle

import pytest
import torch
from torch import nn

from skcoft import COFTEmbedder
from skcoft._network import backbone as backbone_module
from skcoft._network.bn_folding import find_pairs, fold, unfold
from skcoft._network.factory import build_backbone

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def build(name):
    """A network whose batch normalisations are not the identity that they are at random."""
    network, _ = build_backbone(name, None, 32, [(32, 32)], None, 0)
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                with torch.no_grad():
                    values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    return network


@torch.no_grad()
def run(network):
    return network(IMAGES)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("tf_efficientnet_lite0", 49),  # padded as TensorFlow does, activation in the norm
        ("resnet10t", 14),
        ("embedded", 13),
        ("resnetv2_50", 32),  # the others normalise sums
        ("densenet121", 59),  # and what is used elsewhere too
    ],
)
def test_folded_pairs_say_the_same(name, count):
    network = build(name)
    assert len(network.pairs) == count
    folded = run(network)
    unfold(network.body, network.pairs)
    assert not any("forward" in vars(module) for module in network.modules())
    plain = run(network)
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=3e-4 * float(plain.abs().max()))


def test_a_batch_normalisation_is_left_out_of_the_pass(monkeypatch):
    network = build("resnet10t")
    monkeypatch.setattr(nn.functional, "batch_norm", lambda *args: pytest.fail("normalised"))
    run(network)


def test_gradients_are_those_of_both_modules():
    gradients = []
    for folded in (True, False):
        network = build("resnet10t").double()
        if not folded:
            unfold(network.body, network.pairs)
        network(IMAGES.double()).square().sum().backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    assert all(name in gradients[0] for name in ("body.bn1.weight", "body.bn1.bias"))
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-6, atol=1e-9)


def test_what_is_kept_follows_the_parameters():
    network = build("resnet10t")
    before = run(network)
    for name in ("body.conv1.0.weight", "body.bn1.weight", "body.bn1.bias"):
        with torch.no_grad():
            network.get_parameter(name).mul_(0.5)
        after = run(network)
        assert not torch.allclose(before, after)
        before = after
    state = {name: value * 0.5 for name, value in network.body.state_dict().items()}
    network.body.load_state_dict(state)
    loaded = run(network)
    assert not torch.allclose(before, loaded)
    unfold(network.body, network.pairs)
    torch.testing.assert_close(loaded, run(network), rtol=1e-4, atol=1e-5)


def test_copies_and_pickles_are_folded_and_their_own():
    network = build("resnet10t")
    before = run(network)
    body = copy.deepcopy(network.body)
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert other.pairs == network.pairs
        assert "forward" in vars(other.body.bn1)
        assert torch.equal(run(other), before)
        with torch.no_grad():
            other.body.bn1.weight.mul_(0)
        assert torch.equal(run(network), before)
        assert not torch.equal(run(other), before)
    with torch.no_grad():
        network.body.bn1.weight.mul_(0)
        images = (IMAGES - network.mean) / network.std
        torch.testing.assert_close(body(images), before, rtol=1e-4, atol=1e-5)


def test_pickles_made_in_inference_mode_work():
    network = build("resnet10t")
    stored = pickle.dumps(network)
    with torch.inference_mode():
        loaded = pickle.loads(stored)
        assert torch.equal(loaded(IMAGES), network(IMAGES))


def test_training_mode_uses_statistics_of_the_batch():
    network = build("resnet10t")
    in_eval = run(network)
    network.train()
    in_training = run(network)
    assert not torch.allclose(in_eval, in_training, rtol=1e-2)
    unfold(network.body, network.pairs)
    network.body.load_state_dict(build("resnet10t").body.state_dict())
    torch.testing.assert_close(in_training, run(network))


class Shared(nn.Module):
    """The output of a convolution, normalised and, beside that, as it is."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.norm.running_mean.fill_(3)

    def forward(self, images):
        maps = self.conv(images)
        return self.norm(maps) + maps


def test_a_convolution_that_is_used_elsewhere_too_is_left_alone():
    body = Shared().eval()
    assert find_pairs(body, IMAGES) == {}
    assert "forward" not in vars(body.conv)


def test_a_convolution_that_runs_twice_is_left_alone():
    conv, norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
    assert find_pairs(nn.Sequential(conv, norm, conv).eval(), IMAGES) == {}
    assert find_pairs(nn.Sequential(conv, norm).eval(), IMAGES) == {"0": "1"}


@pytest.mark.parametrize(
    ("options", "norm"),
    [
        ({"padding_mode": "reflect", "padding": 1}, {}),
        ({}, {"track_running_stats": False}),
    ],
)
def test_kinds_that_cannot_be_folded(options, norm):
    body = nn.Sequential(nn.Conv2d(3, 3, 3, **options), nn.BatchNorm2d(3, **norm)).eval()
    assert find_pairs(body, IMAGES) == {}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_convolutions_with_a_bias_and_norms_without_weights(bias, affine):
    conv, norm = nn.Conv2d(3, 6, 3, bias=bias, groups=3), nn.BatchNorm2d(6, affine=affine)
    norm.running_mean.fill_(0.3)
    norm.running_var.fill_(0.2)
    body = nn.Sequential(conv, norm).eval()
    plain = body(IMAGES)
    fold(body, {"0": "1"})
    torch.testing.assert_close(body(IMAGES), plain)


def test_modules_of_users_are_run_as_they_are(monkeypatch):
    monkeypatch.setattr(backbone_module, "find_pairs", lambda *args: pytest.fail("folded"))
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    embedder = COFTEmbedder(module, max_iter=0).fit(IMAGES)
    assert embedder.network_.pairs == {}
