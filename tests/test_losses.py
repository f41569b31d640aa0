import math

import pytest
import torch

from skcoft.losses import (
    info_nce_loss,
    mean_shifted_loss,
    negative_pair_loss,
    positive_pair_loss,
    simsiam_loss,
)

SHOTS = torch.tensor([0, 1, 2, 0, 1])  # two shots are in the batch twice


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(
        sum(x * x for x in a) * sum(y * y for y in b)
    )


def slow_info_nce(first, second, shots, temperature):
    """InfoNCE, computed view by view."""
    z = [*first.tolist(), *second.tolist()]
    n = len(shots)
    s = shots.tolist() * 2
    total = 0.0
    for i in range(2 * n):
        positive = math.exp(cosine(z[i], z[(i + n) % (2 * n)]) / temperature)
        negatives = sum(
            math.exp(cosine(z[i], z[j]) / temperature) for j in range(2 * n) if s[j] != s[i]
        )
        total -= math.log(positive / (positive + negatives))
    return total / (2 * n)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_info_nce_equation(temperature):
    a, b = normal(5, 4), normal(5, 4, seed=1)
    expected = slow_info_nce(a, b, SHOTS, temperature)
    assert info_nce_loss(a, b, SHOTS, temperature=temperature).item() == pytest.approx(expected)


def test_same_shot_is_never_a_negative():
    a, b = normal(5, 4), normal(5, 4, seed=1)
    moved = b.clone().requires_grad_()
    # views of a single shot do not repel each other
    loss = info_nce_loss(a, moved, torch.zeros(5, dtype=torch.long))
    assert loss.item() == 0
    loss.backward()
    assert moved.grad.abs().max() == 0


def test_mean_shifted_equation():
    a, b, center = normal(5, 4), normal(5, 4, seed=1), normal(4, seed=2)
    unit = [x / x.norm(dim=1, keepdim=True) - center for x in (a, b)]
    expected = slow_info_nce(*unit, SHOTS, 0.3)
    loss = mean_shifted_loss(a, b, SHOTS, center, temperature=0.3)
    assert loss.item() == pytest.approx(expected)


def test_simsiam_equation_and_stopped_gradient():
    z1, z2, p1, p2 = (normal(5, 4, seed=s).requires_grad_() for s in range(4))
    loss = simsiam_loss(z1, z2, p1, p2)
    pairs = [(p1, z2), (p2, z1)]
    expected = -sum(cosine(p[i].tolist(), z[i].tolist()) for p, z in pairs for i in range(5)) / 10
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert z1.grad is None and z2.grad is None
    assert p1.grad.abs().max() > 0 and p2.grad.abs().max() > 0


def test_positive_pair_equation():
    h = normal(5, 4)
    rows, s = h.tolist(), SHOTS.tolist()
    pairs = [(i, j) for i in range(5) for j in range(5) if s[i] != s[j]]
    expected = sum(1 - cosine(rows[i], rows[j]) for i, j in pairs) / len(pairs)
    assert positive_pair_loss(h, SHOTS).item() == pytest.approx(expected)
    assert positive_pair_loss(h, torch.zeros(5)).item() == 0


@pytest.mark.parametrize("margin", [0.0, 0.3, -1.0])
def test_negative_pair_equation(margin):
    h, a = normal(5, 4), normal(3, 4, seed=1)
    values = [max(0, cosine(x, y) - margin) for x in h.tolist() for y in a.tolist()]
    expected = sum(values) / len(values)
    assert negative_pair_loss(h, a, margin=margin).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "loss, n_inputs",
    [
        (lambda a, b: info_nce_loss(a, b, SHOTS), 2),
        (lambda a, b: mean_shifted_loss(a, b, SHOTS, normal(4, seed=9)), 2),
        # a numerical derivative does not stop the gradient, so only p is checked
        (lambda p, q: simsiam_loss(normal(5, 4, seed=7), normal(5, 4, seed=8), p, q), 2),
        (lambda h: positive_pair_loss(h, SHOTS), 1),
        (negative_pair_loss, 2),
    ],
)
def test_gradients(loss, n_inputs):
    inputs = [normal(5, 4, seed=s).requires_grad_() for s in range(n_inputs)]
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize(
    "loss, defaults",
    [
        (info_nce_loss, {"temperature": 0.25}),
        (mean_shifted_loss, {"temperature": 0.25}),
        (simsiam_loss, None),
        (positive_pair_loss, None),
        (negative_pair_loss, {"margin": 0.0}),
    ],
)
def test_defaults(loss, defaults):
    assert loss.__kwdefaults__ == defaults and loss.__defaults__ is None


@pytest.mark.parametrize(
    "loss, n_inputs",
    [
        (lambda a, b: info_nce_loss(a, b, SHOTS), 2),
        (lambda a, b: mean_shifted_loss(a, b, SHOTS, normal(4, seed=9)), 2),
        (simsiam_loss, 4),
        (lambda h: positive_pair_loss(h, SHOTS), 1),
        (negative_pair_loss, 2),
    ],
)
def test_losses_do_not_depend_on_the_lengths_of_embeddings(loss, n_inputs):
    inputs = [normal(5, 4, seed=s) for s in range(n_inputs)]
    lengths = torch.tensor([1e-3, 0.5, 1, 2, 1e3], dtype=torch.float64)[:, None]
    expected = loss(*inputs).item()
    assert expected != 0
    assert loss(*(lengths * x for x in inputs)).item() == pytest.approx(expected)


def test_center_of_the_mean_shift_is_not_normalised():
    a, b, center = normal(5, 4), normal(5, 4, seed=1), normal(4, seed=2)
    losses = [mean_shifted_loss(a, b, SHOTS, c).item() for c in (0 * center, center, 2 * center)]
    assert losses[0] == pytest.approx(info_nce_loss(a, b, SHOTS).item())
    assert len({round(loss, 6) for loss in losses}) == 3


def test_pair_losses_are_means_over_pairs():
    """Repeated embeddings do not change a mean."""
    h, a = normal(5, 4), normal(3, 4, seed=1)
    twice, shots = h.repeat(2, 1), SHOTS.repeat(2)
    assert positive_pair_loss(twice, shots) == pytest.approx(positive_pair_loss(h, SHOTS))
    expected = pytest.approx(negative_pair_loss(h, a))
    assert negative_pair_loss(twice, a) == expected == negative_pair_loss(h, a.repeat(4, 1))


def test_pairs_of_opposite_embeddings():
    """The maximum positive loss is 2; negatives beyond the margin have no influence."""
    h = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert positive_pair_loss(h, torch.tensor([0, 1])) == 2
    assert negative_pair_loss(h[:1], h) == 0.5
    assert negative_pair_loss(h[:1], h, margin=-1.0) == 1
