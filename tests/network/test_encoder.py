import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal

from skcoft import COFTDetector, COFTEmbedder
from skcoft._input.images import CACHE_BYTES, Images
from skcoft._input.modalities import Modalities
from skcoft._input.table import Table
from skcoft._network.encoder import (
    EXPOSURES,
    MAX_CHANGED_SHOTS,
    N_CHANGES,
    embeddings_of,
    match_inputs,
)
from skcoft._network.support import MIRROR, SHOT, VIEW
from skcoft._network.views import make_views

ROUNDS = torch.arange(11).split(8)  # the batches of the images below
PATCHES = {"patches": lambda features: features.patches.numpy()}


@pytest.fixture
def images():
    """11 images of 16 x 16 pixels."""
    rng = np.random.default_rng(0)
    return Images(torch.from_numpy(rng.random((11, 3, 16, 16), dtype=np.float32)))


@pytest.fixture
def encoder(images):
    fitted = COFTEmbedder(TinyNet(), image_size=16, max_iter=0, random_state=0)
    return fitted.fit(images.items).encoders_[0]


def test_the_last_batch_is_padded_to_the_size_of_the_others(encoder, images):
    batches = []
    encoder.network.register_forward_pre_hook(lambda module, args: batches.append(args[0]))
    features = encoder.iter_features(encoder.load(images), [np.arange(11)])
    indices, embeddings = zip(*((rows, f.embeddings) for rows, f in features), strict=True)
    assert_array_equal(np.concatenate(indices), np.arange(11))
    assert [len(rows) for rows in embeddings] == [8, 3]
    assert [len(batch) for batch in batches] == [8, 8]
    assert (batches[1][3:] == 0).all()


def test_an_embedding_does_not_depend_on_the_batch(encoder, images):
    alone = encoder.embed(Images(images.items[9:10]))
    assert_array_equal(alone, encoder.embed(images)[9:10])


def test_batches_of_large_images_are_smaller(encoder):
    """The batch size depends on the size of the images only, so memory is bounded."""
    sizes = (100, 128**2, 176**2, 192**2, 352**2, 1536 * 2048)
    assert [encoder.batch_size(pixels) for pixels in sizes] == [8, 8, 4, 3, 1, 1]
    encoder.device = "cuda"
    assert [encoder.batch_size(pixels) for pixels in sizes] == [64, 64, 64, 64, 64, 5]


def test_summarize_returns_a_summary_of_every_image(encoder, images):
    summaries = {
        "sum": lambda features: features.patches.sum(axis=(1, 2, 3)).numpy(),
        "embeddings": embeddings_of,
    }
    items = encoder.summarize(images, summaries, with_patches=True)
    assert items["sum"].shape == (11,) and (items["sum"] != 0).all()
    assert_array_equal(items["embeddings"], encoder.embed(images))


def test_support_holds_shots_mirror_images_and_seeded_views(encoder, images):
    support = encoder.embed_shots(images, 3, mirror=True, with_patches=True, first=5)
    assert_array_equal(support.roles, np.repeat([SHOT, MIRROR, VIEW], [11, 11, 33]))
    assert_array_equal(support.shot_ids, np.tile(np.arange(5, 16), 5))
    assert support.embeddings.shape == (55, 16) and support.embeddings.dtype == np.float64
    assert np.shape(support.patches) == (55, 4, 4, 16)
    assert {row.dtype for row in support.patches} == {np.dtype(np.float32)}
    assert_array_equal(support.embeddings[:11], encoder.embed(images))
    assert_array_equal(support.embeddings[11:22], encoder.embed(Images(images.items.flip(3))))
    generator = torch.Generator().manual_seed(encoder.seed + 5)
    views = make_views(None, encoder.network)
    for start in (22, 33, 44):  # one round after another, batch by batch
        batch = torch.cat([views(part, generator) for part in images.items.split(8)])
        assert_array_equal(support.embeddings[start : start + 11], encoder.embed(Images(batch)))
    bare = encoder.embed_shots(images, 0, mirror=False, with_patches=False)
    assert_array_equal(bare.embeddings, support.embeddings[:11])
    assert bare.patches is None


def test_only_the_mean_patch_of_probes_is_stored(encoder, images):
    """Patches of many images need much memory, and probes have no kernels."""
    n, options = len(images), dict(mirror=True, with_patches=True)
    views = encoder.embed_shots(images, 2, **options)
    probes = encoder.embed_shots(images, 1, n_probes=1, **options)
    assert_array_equal(probes.embeddings, views.embeddings)
    for row in range(3 * n):
        assert_array_equal(probes.patches[row], views.patches[row])
    for row in range(3 * n, 4 * n):
        expected = views.patches[row].mean(axis=(0, 1), dtype=np.float64)
        assert_array_equal(probes.patches[row], expected[None, None])


def test_shots_are_decoded_once(encoder, images, monkeypatch):
    """Shots that do not fit into the cache are decoded batch by batch in every round."""
    assert CACHE_BYTES >= 11 * 3 * 16 * 16 * 4
    calls = []
    load = Images.load
    monkeypatch.setattr(Images, "load", lambda *args: calls.append(1) or load(*args))
    cached = encoder.embed_shots(images, 2, mirror=False, with_patches=False)
    assert len(calls) == 1
    monkeypatch.setattr("skcoft._input.images.CACHE_BYTES", 11 * 3 * 16 * 16 * 4 - 1)
    uncached = encoder.embed_shots(images, 2, mirror=False, with_patches=False)
    assert len(calls) == 1 + (3 + 4) * 2  # images, two views and four changes
    assert_array_equal(uncached.embeddings, cached.embeddings)


def test_moves_are_those_of_noise_exposure_and_resolution(encoder, images):
    assert EXPOSURES == (0.9, 1.1) and N_CHANGES == 4
    support = encoder.embed_shots(images, 1, mirror=True, with_patches=True, first=5)
    assert_array_equal(support.move_ids, np.tile(np.arange(5, 16), 4))
    generator = torch.Generator().manual_seed(encoder.seed + 5)
    noisy = [images.add_noise(images.items[rows], rows, generator) for rows in ROUNDS]
    exposed = [(images.items * factor).clamp(max=1) for factor in EXPOSURES]
    half = F.interpolate(images.items, (8, 8), mode="bilinear", antialias=True)
    soft = F.interpolate(half, (16, 16), mode="bilinear")
    changed = [encoder.embed(Images(items)) for items in (torch.cat(noisy), *exposed, soft)]
    moves = np.concatenate([2 * (rows - support.embeddings[:11]) for rows in changed])
    assert_allclose(support.moves, moves, atol=1e-6)
    patches = encoder.summarize(Images(exposed[1]), PATCHES, with_patches=True)["patches"]
    expected = 2 * (patches - np.stack(support.patches[:11]))
    assert_allclose(support.patch_moves[22:33], expected, atol=1e-6)
    whole = encoder.embed_shots(images, 1, mirror=True, with_patches=False, first=5)
    assert whole.patch_moves is None
    assert_array_equal(whole.moves, support.moves)


def test_only_the_first_shots_are_changed(encoder):
    assert MAX_CHANGED_SHOTS == 16
    images = Images(torch.rand(18, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    support = encoder.embed_shots(images, 0, mirror=False, with_patches=False)
    assert_array_equal(support.move_ids, np.tile(np.arange(16), 4))


@pytest.mark.parametrize(
    "augmentation, mirrors",
    [(None, True), ({}, True), ({"degrees": 9}, True), ({"flip": 0}, False), (abs, False)],
    ids=str,
)
def test_mirror_images_are_normal_if_views_are_mirrored(encoder, augmentation, mirrors):
    encoder.augmentation = augmentation
    assert encoder.mirrors_are_normal == mirrors


def test_tabular_data_has_no_mirror_images_and_no_patches():
    fitted = COFTEmbedder(max_iter=0, random_state=0).fit(np.eye(4))
    assert not fitted.encoders_[0].mirrors_are_normal and not fitted.encoders_[0].has_patches


@pytest.mark.parametrize("count, wanted", [(0, "cpu"), (1, "cuda:0"), (4, "cuda:3")])
def test_a_pickle_is_loaded_on_an_available_device(count, wanted, photos, monkeypatch):
    """It was fitted on the fourth GPU."""
    fitted = COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(photos[:4])
    fitted.embedder_.encoders_[0].device = "cuda:3"
    data = pickle.dumps(fitted)
    moved = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: moved.append(device))
    loaded = pickle.loads(data)
    assert loaded.device_ == wanted
    assert moved == [wanted]
    assert loaded.offset_ == fitted.offset_


def test_inputs_of_another_format_than_in_fit_are_refused(encoder, images):
    tabular = COFTEmbedder(max_iter=0, random_state=0).fit(np.eye(4)).encoders_
    modalities = Modalities({"colour": images, "depth": images})
    for encoders, inputs, names in (
        ([encoder], Table(np.eye(3)), "tabular data.*images"),
        (tabular, images, "images.*tabular data"),
        ([encoder], modalities, r"\['colour', 'depth'\]"),
    ):
        with pytest.raises(ValueError, match=names):
            match_inputs(encoders, inputs)
