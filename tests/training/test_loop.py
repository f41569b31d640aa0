import math

import numpy as np
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal

from skcoft import COFTDetector, COFTEmbedder
from skcoft._training.batches import draw_shots
from skcoft._training.contrastive import FAMILIES, SimSiam
from skcoft._training.loop import build_optimizer
from skcoft._training.objective import Objective

IMAGES = np.random.default_rng(0).random((6, 16, 16, 3)).astype(np.float32)


def embedder(**params):
    defaults = dict(backbone=TinyNet(), max_iter=4, learning_rate=0.01, random_state=0)
    return COFTEmbedder(**{**defaults, **params})


@pytest.mark.parametrize("contrastive", FAMILIES)
@pytest.mark.parametrize("n_shots", [1, 2, 6])
def test_history_holds_every_loss_of_every_iteration(contrastive, n_shots):
    fitted = embedder(contrastive=contrastive, positive_weight=2, negative_weight=0.5)
    fitted.fit(IMAGES[:n_shots])
    history = fitted.history_
    assert set(history) == {"loss", "contrastive", "positive", "negative"}
    assert fitted.n_iter_ == 4 and all(len(v) == 4 for v in history.values())
    total = history["contrastive"] + 2 * history["positive"] + 0.5 * history["negative"]
    assert_allclose(history["loss"], total, rtol=1e-5, atol=1e-6)
    assert (history["negative"] > 0).all()
    if n_shots == 1:
        assert (history["positive"] == 0).all()
        assert (contrastive == "simsiam") == (history["contrastive"] != 0).all()


@pytest.mark.parametrize(
    "contrastive, learning_rate", [("mean_shifted", 0.01), ("infonce", 0.001), ("simsiam", 0.01)]
)
def test_contrastive_loss_falls(contrastive, learning_rate):
    fitted = embedder(
        contrastive=contrastive,
        learning_rate=learning_rate,
        positive_weight=0,
        negatives=None,
        max_iter=60,
    )
    loss = fitted.fit(IMAGES).history_["contrastive"]
    assert loss[-10:].mean() < loss[:10].mean()


def test_no_iterations_leave_the_backbone_frozen():
    fitted = embedder(max_iter=0).fit(IMAGES)
    assert fitted.n_iter_ == 0 and fitted.history_ == {}
    trained, initial = fitted.network_.body.state_dict(), TinyNet().state_dict()
    assert all(torch.equal(trained[name], initial[name]) for name in initial)


def test_batch_norm_keeps_its_statistics_and_trains_its_affine_parameters():
    fitted = embedder(learning_rate=0.1).fit(IMAGES)
    trained, initial = fitted.network_.body.layers[1], TinyNet().layers[1]
    assert torch.equal(trained.running_mean, initial.running_mean)
    assert torch.equal(trained.running_var, initial.running_var)
    assert not torch.equal(trained.weight, initial.weight)
    assert not fitted.network_.training


def interrupt_at(iteration, monkeypatch):
    """Interrupt fine-tuning at an iteration; return a list that grows with every iteration."""
    iterations = []

    def interrupted(*args):
        iterations.append(1)
        if len(iterations) == iteration:
            raise KeyboardInterrupt
        return draw_shots(*args)

    monkeypatch.setattr("skcoft._training.batches.draw_shots", interrupted)
    return iterations


def test_an_interrupt_stops_a_fit_and_leaves_the_earlier_one(monkeypatch):
    fitted = embedder(max_iter=9).fit(IMAGES)
    embeddings, history = fitted.transform(IMAGES), fitted.history_
    iterations = interrupt_at(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(IMAGES[:4])
    assert len(iterations) == 3 and fitted.history_ is history
    assert_array_equal(fitted.transform(IMAGES), embeddings)


def test_an_interrupted_fit_is_not_cached(monkeypatch, tmp_path):
    """The next fit starts from the beginning and has the result of an uninterrupted one."""
    detector = COFTDetector(TinyNet(), max_iter=4, random_state=0, memory=tmp_path)
    iterations = interrupt_at(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(IMAGES)
    detector.fit(IMAGES)
    assert detector.n_iter_ == 4 and len(iterations) == 2 + 4
    expected = COFTDetector(TinyNet(), max_iter=4, random_state=0).fit(IMAGES)
    assert_array_equal(detector.score_samples(IMAGES), expected.score_samples(IMAGES))


@pytest.mark.parametrize(
    "params, name",
    [
        ({"learning_rate": 1e30, "max_iter": 20}, "learning_rate"),
        # the loss before the only step is finite, the weights after it are not
        ({"learning_rate": 1e30, "max_iter": 1}, "learning_rate"),
        ({"augmentation": lambda image: image * torch.nan}, "temperature"),
    ],
)
def test_a_fit_that_diverges_fails(params, name):
    unfitted = embedder(**params)
    with pytest.raises(FloatingPointError, match=name):
        unfitted.fit(IMAGES)
    assert not hasattr(unfitted, "network_")


class Weights(torch.nn.Module):
    """A network of two weights."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))


def test_heads_learn_ten_times_as_fast_and_rates_follow_a_half_cosine():
    network, objective = Weights(), Objective(SimSiam(torch.zeros(2), 1.0), 1.0, 1.0)
    optimizer, schedule = build_optimizer(network, objective, 8, 0.5)
    assert type(optimizer) is torch.optim.AdamW
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-4, 1e-4]
    assert optimizer.param_groups[0]["params"] == list(network.parameters())
    assert len(optimizer.param_groups[1]["params"]) == len(list(objective.parameters())) == 8
    for step in range(8):
        factor = 0.5 * (1 + math.cos(math.pi * step / 8))
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([0.5 * factor, 5 * factor])
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


def test_each_iteration_takes_one_step_at_the_scheduled_rate(monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def spy(self, *args):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    embedder(max_iter=4, learning_rate=0.01).fit(IMAGES)
    assert rates == pytest.approx([0.01 * f for f in (1, 0.8535534, 0.5, 0.1464466)])


def test_a_progress_bar_is_shown_only_if_verbose(capsys):
    embedder(verbose=0).fit(IMAGES)
    silent = capsys.readouterr()
    assert silent.out == silent.err == ""
    embedder(verbose=1).fit(IMAGES)
    assert "fine-tuning: 100%" in capsys.readouterr().err


def test_a_network_without_gradients_can_only_be_used_frozen():
    frozen = TinyNet().requires_grad_(False)
    with pytest.raises(ValueError):
        embedder(backbone=frozen).fit(IMAGES)
    assert np.isfinite(embedder(backbone=frozen, max_iter=0).fit_transform(IMAGES)).all()


@pytest.mark.parametrize("params", [{"negatives": None}, {"negative_weight": 0}])
def test_one_image_without_negatives_is_an_error_if_the_family_needs_contrast(params):
    with pytest.raises(ValueError):
        embedder(**params).fit(IMAGES[:1])
    embedder(**params, max_iter=0).fit(IMAGES[:1])
    embedder(**params, contrastive="simsiam").fit(IMAGES[:1])


def test_one_image_is_not_fine_tuned_unless_a_rate_or_labelled_anomalies_are_given():
    one = IMAGES[:1]
    fitted = embedder(learning_rate="auto").fit(one)
    assert fitted.n_iter_ == 0 and fitted.history_ == {}
    assert_array_equal(fitted.transform(IMAGES), embedder(max_iter=0).fit(one).transform(IMAGES))
    assert embedder(learning_rate="auto", negatives=None).fit(one).n_iter_ == 0
    assert embedder(learning_rate="auto").fit(IMAGES[:2]).n_iter_ == 4
    assert embedder(learning_rate=2e-5).fit(one).n_iter_ == 4
    labelled = embedder(learning_rate="auto", negatives="labelled")
    assert labelled.fit(IMAGES[:3], [1, -1, -1]).n_iter_ == 4
