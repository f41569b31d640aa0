import pytest
import torch
from torch import nn

from skcoft._training.contrastive import FAMILIES, InfoNCE, MeanShifted, SimSiam
from skcoft.losses import info_nce_loss, mean_shifted_loss, simsiam_loss

WIDTH, SHOTS = 6, torch.tensor([0, 1, 2, 0])


def views():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, WIDTH, generator=generator).unbind()


def build(family):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FAMILIES[family](torch.linspace(-1, 1, WIDTH), 0.3)


def layers(perceptron):
    assert [type(layer) for layer in perceptron] == [nn.Linear, nn.ReLU, nn.Linear]
    return perceptron[0].in_features, perceptron[0].out_features, perceptron[2].out_features


def test_registry():
    assert FAMILIES == {"mean_shifted": MeanShifted, "infonce": InfoNCE, "simsiam": SimSiam}


def test_mean_shifted_has_no_head_and_sees_embeddings_from_their_center():
    family, (first, second) = build("mean_shifted"), views()
    assert not list(family.parameters())
    center = torch.linspace(-1, 1, WIDTH)
    expected = mean_shifted_loss(first, second, SHOTS, center, temperature=0.3)
    assert torch.equal(family(first, second, SHOTS), expected)


def test_infonce_sees_projections_to_128_numbers():
    family, (first, second) = build("infonce"), views()
    assert layers(family.projector) == (WIDTH, WIDTH, 128)
    projected = family.projector(first), family.projector(second)
    expected = info_nce_loss(*projected, SHOTS, temperature=0.3)
    assert torch.equal(family(first, second, SHOTS), expected)


def test_simsiam_predicts_projections_through_a_bottleneck():
    family, (first, second) = build("simsiam"), views()
    assert layers(family.projector) == (WIDTH, WIDTH, 128)
    assert layers(family.predictor) == (128, 64, 128)
    first, second = family.projector(first), family.projector(second)
    expected = simsiam_loss(first, second, family.predictor(first), family.predictor(second))
    assert torch.equal(family(*views(), SHOTS), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_shot_is_something_to_learn_from_where_the_family_says_so(family):
    family, (first, second) = build(family), [v.requires_grad_() for v in views()]
    loss = family(first, second, torch.zeros(4, dtype=torch.long))
    loss.backward()
    moved = first.grad is not None and first.grad.abs().max() > 0
    assert moved == family.contrasts_one
