import pytest
import torch
from torch import nn

from skcoft._training.contrastive import FAMILIES
from skcoft.losses import info_nce_loss, mean_shifted_loss, simsiam_loss

EMBEDDING_SIZE, SHOTS = 6, torch.tensor([0, 1, 2, 0])


def make_views():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, EMBEDDING_SIZE, generator=generator).unbind()


def build(family):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FAMILIES[family](torch.linspace(-1, 1, EMBEDDING_SIZE), 0.3)


def layer_sizes(perceptron):
    assert [type(layer) for layer in perceptron] == [nn.Linear, nn.ReLU, nn.Linear]
    return perceptron[0].in_features, perceptron[0].out_features, perceptron[2].out_features


def test_mean_shifted_contrasts_embeddings_from_their_center_without_a_head():
    family, (first, second) = build("mean_shifted"), make_views()
    assert not list(family.parameters())
    center = torch.linspace(-1, 1, EMBEDDING_SIZE)
    expected = mean_shifted_loss(first, second, SHOTS, center, temperature=0.3)
    assert torch.equal(family(first, second, SHOTS), expected)


def test_infonce_contrasts_projections_to_128_numbers():
    family, (first, second) = build("infonce"), make_views()
    assert layer_sizes(family.projector) == (EMBEDDING_SIZE, EMBEDDING_SIZE, 128)
    projected = family.projector(first), family.projector(second)
    expected = info_nce_loss(*projected, SHOTS, temperature=0.3)
    assert torch.equal(family(first, second, SHOTS), expected)


def test_simsiam_predicts_projections_through_a_bottleneck():
    family, (first, second) = build("simsiam"), make_views()
    assert layer_sizes(family.projector) == (EMBEDDING_SIZE, EMBEDDING_SIZE, 128)
    assert layer_sizes(family.predictor) == (128, 64, 128)
    first, second = family.projector(first), family.projector(second)
    expected = simsiam_loss(first, second, family.predictor(first), family.predictor(second))
    assert torch.equal(family(*make_views(), SHOTS), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_a_gradient_on_one_shot_if_it_learns_from_one_shot(family):
    family, (first, second) = build(family), [views.requires_grad_() for views in make_views()]
    loss = family(first, second, torch.zeros(4, dtype=torch.long))
    loss.backward()
    has_gradient = first.grad is not None and first.grad.abs().max() > 0
    assert has_gradient == family.learns_from_one_shot
