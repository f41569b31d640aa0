import numpy as np
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal

from skcoft import COFTEmbedder
from skcoft._training.contrastive import MeanShifted
from skcoft._training.objective import Objective
from skcoft.losses import mean_shifted_loss, negative_pair_loss, positive_pair_loss

IMAGES = np.random.default_rng(0).random((6, 16, 16, 3)).astype(np.float32)


def embedder(**params):
    defaults = dict(backbone=TinyNet(), max_iter=4, learning_rate=0.01, random_state=0)
    return COFTEmbedder(**{**defaults, **params})


def test_objective_is_the_weighted_sum_of_three_losses():
    generator = torch.Generator().manual_seed(0)
    h = torch.nn.functional.normalize(torch.randn(9, 4, generator=generator), dim=1)
    shots, center = torch.tensor([0, 1, 1]), torch.full((4,), 0.1)
    losses = Objective(MeanShifted(center, 0.25), 3.0, 0.7)(h, shots)
    assert set(losses) == {"loss", "contrastive", "positive", "negative"}
    contrastive = mean_shifted_loss(h[:3], h[3:6], shots, center, temperature=0.25)
    positive = positive_pair_loss(h[:6], torch.tensor([0, 1, 1, 0, 1, 1]))
    negative = negative_pair_loss(h[:6], h[6:])
    assert losses["contrastive"] == contrastive and losses["positive"] == positive
    assert losses["negative"] == negative
    total = (contrastive + 3 * positive + 0.7 * negative).item()
    assert losses["loss"].item() == pytest.approx(total)
    assert Objective(MeanShifted(center, 0.25), 3.0, 0.7)(h[:6], shots)["negative"] == 0


@pytest.mark.parametrize(("n_shots", "weight"), [(2, 0.25), (6, 0.75), (20, 2)])
def test_automatic_positive_weight_grows_with_the_number_of_shots(n_shots, weight):
    images = np.random.default_rng(1).random((20, 16, 16, 3))[:n_shots]
    history = embedder(negatives=None).fit(images).history_
    total = history["contrastive"] + weight * history["positive"]
    assert_allclose(history["loss"], total, rtol=1e-5, atol=1e-6)
    with_anomalies = embedder(negatives=None).fit(
        np.concatenate([images, IMAGES]), [1] * n_shots + [-1] * 6
    )
    assert_array_equal(with_anomalies.history_["loss"], history["loss"])


def test_center_is_the_mean_of_the_shots_frozen_embeddings(monkeypatch):
    calls = []
    init = MeanShifted.__init__

    def spy(self, center, temperature):
        calls.append((center, temperature))
        init(self, center, temperature)

    monkeypatch.setattr(MeanShifted, "__init__", spy)
    embedder(max_iter=1).fit(IMAGES)
    center, temperature = calls[0]
    frozen = embedder(max_iter=0).fit_transform(IMAGES)
    assert_allclose(center, frozen.mean(axis=0), atol=1e-6)
    assert temperature == 0.25
    embedder(max_iter=1).fit(IMAGES, groups=[0, 0, 0, 1, 2, 3])
    shots = np.concatenate([frozen[:3].mean(axis=0, keepdims=True), frozen[3:]])
    assert_allclose(calls[1][0], shots.mean(axis=0), atol=1e-6)  # shots count equally


def test_heads_are_seeded_and_the_global_random_state_is_unchanged():
    def first_loss(seed):
        fitted = embedder(contrastive="infonce", random_state=seed, augmentation=lambda x: x)
        return fitted.fit(IMAGES).history_["contrastive"][0]

    state = torch.get_rng_state()
    assert first_loss(0) == first_loss(0) != first_loss(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_positive_pairs_make_one_tight_cluster():
    def spread(weight):
        fitted = embedder(positive_weight=weight, negatives=None, max_iter=40)
        h = fitted.fit_transform(IMAGES)
        return 1 - (h @ h.T).mean()

    assert spread(10) < spread(0)


def test_negative_pairs_push_anomalies_away():
    def cosine(weight):
        fitted = embedder(negative_weight=weight, negatives="noise_texture", max_iter=40)
        return fitted.fit(IMAGES).history_["negative"][-5:].mean()

    assert cosine(10) < cosine(1e-6)
