import pickle

import numpy as np
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_array_equal

from skcoft import COFTDetector, COFTEmbedder
from skcoft._input.images import CACHE_BYTES, Images
from skcoft._network.encoder import AT_ONCE, PIXELS, embeddings_of
from skcoft._network.support import MIRROR, SHOT, VIEW
from skcoft._network.views import make_views


@pytest.fixture
def images():
    """11 images of 16 x 16 pixels, as fit hands them on."""
    rng = np.random.default_rng(0)
    return Images(torch.from_numpy(rng.random((11, 3, 16, 16), dtype=np.float32)))


@pytest.fixture
def encoder(images):
    fitted = COFTEmbedder(TinyNet(), image_size=16, max_iter=0, random_state=0)
    return fitted.fit(images.items).encoders_[0]


def test_batches_have_one_size_and_are_padded(encoder, images):
    assert AT_ONCE == {
        "images": {"cpu": 8, "accelerator": 64},
        "tabular": {"cpu": 256, "accelerator": 256},
    }
    seen = []
    network = encoder.network
    encoder.network = lambda batch: seen.append(batch) or network(batch)
    encoder.network.input_type = "images"
    stream = encoder.stream(encoder.load(images), [np.arange(11)])
    rows, parts = zip(*((rows, f.embeddings) for rows, f in stream), strict=True)
    assert_array_equal(np.concatenate(rows), np.arange(11))
    assert [len(part) for part in parts] == [8, 3]
    assert [len(batch) for batch in seen] == [8, 8]
    assert (seen[1][3:] == 0).all()


def test_large_images_are_fewer_at_once(encoder):
    """So that memory stays within bounds; how many depends on nothing but their size."""
    assert PIXELS == {"cpu": 2**17, "accelerator": 2**24}
    sizes = (100, 128**2, 176**2, 192**2, 352**2, 1536 * 2048)
    assert [encoder.at_once(pixels) for pixels in sizes] == [8, 8, 4, 3, 1, 1]
    encoder.device = "cuda"
    assert [encoder.at_once(pixels) for pixels in sizes] == [64, 64, 64, 64, 64, 5]


def test_measure_keeps_of_every_batch_what_it_is_asked_for(encoder, images):
    keep = {
        "sum": lambda features: features.patches.sum(axis=(1, 2, 3)).numpy(),
        "embeddings": embeddings_of,
    }
    kept = encoder.summarize(images, keep, with_patches=True)
    assert kept["sum"].shape == (11,) and (kept["sum"] != 0).all()
    assert_array_equal(kept["embeddings"], encoder.embed(images))


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
    for start in (22, 33, 44):  # round after round, batch after batch
        drawn = torch.cat([views(part, generator) for part in images.items.split(8)])
        assert_array_equal(support.embeddings[start : start + 11], encoder.embed(Images(drawn)))
    bare = encoder.embed_shots(images, 0, mirror=False, with_patches=False)
    assert_array_equal(bare.embeddings, support.embeddings[:11])
    assert bare.patches is None


def test_shots_are_decoded_once(encoder, images, monkeypatch):
    """Those that fit into the cache; others batch by batch, each time anew, to the same end."""
    assert CACHE_BYTES == 2**30
    calls = []
    load = Images.load
    monkeypatch.setattr(Images, "load", lambda *args: calls.append(1) or load(*args))
    cached = encoder.embed_shots(images, 2, mirror=False, with_patches=False)
    assert len(calls) == 1
    monkeypatch.setattr("skcoft._input.images.CACHE_BYTES", 11 * 3 * 16 * 16 * 4 - 1)
    again = encoder.embed_shots(images, 2, mirror=False, with_patches=False)
    assert len(calls) == 1 + 3 * 2
    assert_array_equal(again.embeddings, cached.embeddings)


@pytest.mark.parametrize(
    "augmentation, mirrors",
    [(None, True), ({}, True), ({"degrees": 9}, True), ({"flip": 0}, False), (abs, False)],
    ids=str,
)
def test_mirror_images_count_where_views_are_mirrored(encoder, augmentation, mirrors):
    encoder.augmentation = augmentation
    assert encoder.mirrors == mirrors


def test_rows_have_no_mirror_images():
    fitted = COFTEmbedder(max_iter=0, random_state=0).fit(np.eye(4))
    assert not fitted.encoders_[0].mirrors and not fitted.encoders_[0].has_patches


@pytest.mark.parametrize("count, wanted", [(0, "cpu"), (1, "cuda:0"), (4, "cuda:3")])
def test_a_pickle_from_another_machine_finds_a_device(count, wanted, photos, monkeypatch):
    """One that was fitted on the fourth of its GPUs."""
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
