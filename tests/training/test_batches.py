from types import SimpleNamespace

import numpy as np
import pytest
import sklearn
import torch
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal

from skcoft import COFTEmbedder
from skcoft._input.images import Images
from skcoft._input.sizing import Sizing
from skcoft._network.encoder import Encoder
from skcoft._training import batches
from skcoft._training.batches import count_storable_items, draw_shots, make_batch_sampler

IMAGES = np.random.default_rng(0).random((6, 16, 16, 3)).astype(np.float32)


def embedder(**params):
    defaults = dict(backbone=TinyNet(), max_iter=4, learning_rate=0.01, random_state=0)
    return COFTEmbedder(**{**defaults, **params})


def as_images(array):
    return Images(torch.from_numpy(array).permute(0, 3, 1, 2))


class AddingNetwork:
    """A network whose views add 0.5 and whose synthesised anomalies add 10."""

    input_type, view_options = "images", {}

    def make_views(self):
        return lambda images, generator: images + 0.5

    def make_synthesizer(self, name):
        return lambda images, generator: images + 10


def sample_batch(anomalies=None, **params):
    """Sample a batch of 6 shots whose only value is their number."""
    numbers = torch.arange(6.0)[:, None, None, None]
    encoder = Encoder(AddingNetwork(), Sizing((1, 1)), "cpu", None, 0)
    settings, shot_ids = COFTEmbedder(**params), np.arange(6)
    sampler = make_batch_sampler(
        encoder, lambda index: numbers[index], shot_ids, anomalies, settings
    )
    return sampler(torch.Generator().manual_seed(0))


def test_a_batch_has_two_views_of_each_shot_and_an_anomaly_made_of_a_third():
    shots, (first, second, anomalies) = sample_batch(batch_size=8)
    assert len(shots) == 8
    for views in (first, second):
        assert_array_equal(views.flatten(), shots + 0.5)
    assert_array_equal(anomalies.flatten(), shots + 0.5 + 10)  # made of a view, not of the shot


def test_each_view_is_drawn_independently():
    encoder = embedder(max_iter=0).fit(IMAGES).encoders_[0]
    load = encoder.load(as_images(IMAGES))
    sampler = make_batch_sampler(encoder, load, np.arange(6), None, COFTEmbedder())
    _, batch = sampler(torch.Generator().manual_seed(0))
    assert len({views.numpy().tobytes() for views in batch}) == 3


def test_labelled_anomalies_of_a_batch_are_views():
    labelled = as_images(np.full((2, 1, 1, 3), 0.25, np.float32))
    _, (_, _, anomalies) = sample_batch(labelled, negatives="labelled")
    assert_array_equal(anomalies, np.full((8, 3, 1, 1), 0.75))


@pytest.mark.parametrize("params", [{"negatives": None}, {"negative_weight": 0}])
def test_a_batch_without_negatives_has_two_views(params):
    assert len(sample_batch(**params)[1]) == 2


def test_shots_are_drawn_equally_often():
    shots = draw_shots(np.arange(4), 32, torch.Generator().manual_seed(0))
    assert torch.bincount(shots).tolist() == [8] * 4
    assert len(set(draw_shots(np.arange(20), 8, torch.Generator().manual_seed(0)).tolist())) == 8


def count_recomputed_chunks(monkeypatch):
    """Return a list of the sizes of the chunks whose activations are recomputed."""
    sizes = []

    def spy(function, images, **options):
        sizes.append(len(images))
        return torch.utils.checkpoint.checkpoint(function, images, **options)

    monkeypatch.setattr(batches, "checkpoint", spy)
    return sizes


def test_recomputed_activations_give_the_same_fit(monkeypatch):
    stored = embedder(negative_weight=1).fit(IMAGES)
    sizes = count_recomputed_chunks(monkeypatch)
    with sklearn.config_context(working_memory=0):
        recomputed = embedder(negative_weight=1).fit(IMAGES)
    assert sizes and max(sizes) == 4
    assert_allclose(recomputed.history_["loss"], stored.history_["loss"], rtol=1e-5)
    assert_allclose(recomputed.transform(IMAGES), stored.transform(IMAGES), atol=1e-5)


def test_activations_are_recomputed_only_beyond_the_number_that_fits(monkeypatch):
    sizes = count_recomputed_chunks(monkeypatch)
    embedder(max_iter=1).fit(IMAGES)
    assert not sizes
    for max_stored, n_chunks in ((24, 0), (23, 1), (12, 3), (3, 6)):
        sizes.clear()
        monkeypatch.setattr(
            "skcoft._training.loop.count_storable_items", lambda *args, n=max_stored: n
        )
        embedder(max_iter=1).fit(IMAGES)
        assert sizes == [4] * n_chunks  # of 24 images


def count_draws(monkeypatch):
    """Return a list that grows with every batch that is drawn."""
    draws = []

    def spy(*args):
        draws.append(1)
        return draw_shots(*args)

    monkeypatch.setattr(batches, "draw_shots", spy)
    return draws


@pytest.mark.parametrize(("max_iter", "count"), [(3, 3), (20, 8)])
def test_last_stages_are_trained_on_a_few_batches_in_turn(monkeypatch, max_iter, count):
    draws, trained = count_draws(monkeypatch), []

    def spy_embed(encoder, network, batch, max_stored):
        trained.append(batch[0])
        return batches.embed_batch(encoder, network, batch, max_stored)

    monkeypatch.setattr("skcoft._training.loop.embed_batch", spy_embed)
    options = {"weights": None, "image_size": 64, "batch_size": 3, "max_iter": max_iter}
    COFTEmbedder("resnet10t", **options, learning_rate=0.01, random_state=0).fit(IMAGES)
    assert len(draws) == count and len(trained) == max_iter
    assert len({id(batch) for batch in trained}) == count
    assert all(batch is trained[i % count] for i, batch in enumerate(trained))
    assert trained[0].shape[:2] == (3, 256)  # activations before the last stage


def test_whole_networks_are_trained_on_new_batches(monkeypatch):
    draws = count_draws(monkeypatch)
    embedder(max_iter=11).fit(IMAGES)
    assert len(draws) == 11


def test_stored_activations_fill_the_working_memory():
    weight = torch.ones(3, 4, 4, requires_grad=True)
    encoder = SimpleNamespace(device="cpu")

    def network(images):
        return (images * weight).exp()

    image = torch.zeros(1, 3, 4, 4)
    image_bytes = 2 * 4 * image.numel()  # the image and its exponential
    for mebibytes in (0, 1, 1024):
        with sklearn.config_context(working_memory=mebibytes):
            assert (
                count_storable_items(encoder, network, image) == mebibytes * 2**20 // image_bytes
            )
    encoder.device = "cuda"
    assert count_storable_items(encoder, network, image) == np.inf
