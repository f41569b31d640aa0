import pickle
import warnings
from io import BytesIO

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn import config_context

from skcoft import COFTDetector, COFTEmbedder
from skcoft._input import chunks
from skcoft._input import images as images_module
from skcoft._input.chunks import iter_chunks
from skcoft._model import FittedModel

RNG = np.random.default_rng(0)
X = (RNG.random((14, 32, 32, 3)) * 255).astype(np.uint8)


def detector(**params):
    params = {"weights": None, "image_size": 32, "max_iter": 0, "random_state": 0, **params}
    return COFTDetector("resnet10t", **params)


@pytest.fixture(scope="module")
def fitted():
    return detector().fit(X[:8])


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of five images at most."""
    monkeypatch.setattr(chunks, "MAX_CHUNK_SIZE", 5)
    monkeypatch.setattr(images_module, "MAX_CHUNK_SIZE", 5)


class Lazy:
    """A sequence that makes its items, and notes which it was asked for."""

    def __init__(self, items):
        self.items, self.asked = items, []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.items[index]


def files(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(X))]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.mark.parametrize(
    "collection",
    [
        np.asarray,
        list,
        Lazy,
        iter,
        lambda x: torch.from_numpy(x).permute(0, 3, 1, 2),
        lambda x: [Image.fromarray(image) for image in x],
    ],
)
def test_scores_do_not_depend_on_pieces(fitted, collection, small_pieces):
    expected = fitted.score_samples(X[:3]), fitted.embed(X[:3])
    for method, first in zip((fitted.score_samples, fitted.embed), expected, strict=True):
        actual = method(collection(X))
        assert len(actual) == len(X)
        assert_array_equal(actual[:3], first)
    embedder = COFTEmbedder("resnet10t", weights=None, image_size=32, max_iter=0, random_state=0)
    assert_array_equal(embedder.fit(X[:8]).transform(collection(X))[:3], expected[1])


def test_a_lazy_sequence_is_asked_once_for_each_item_and_let_go(fitted, small_pieces):
    lazy = Lazy(X)
    fitted.score_samples(lazy)
    assert lazy.asked == list(range(len(X)))


def spy(monkeypatch, owner, name, note):
    """Let ``note`` see the arguments of a method's calls."""
    own = getattr(owner, name)

    def seen(self, *args):
        note(self, *args)
        return own(self, *args)

    monkeypatch.setattr(owner, name, seen)


def test_iterators_are_read_as_they_are_needed(fitted, small_pieces, monkeypatch):
    events = []
    spy(monkeypatch, FittedModel, "summarize", lambda *args: events.append("scored"))
    fitted.score_samples(events.append("read") or image for image in X)
    assert events == [*["read"] * 5, "scored", *["read"] * 5, "scored", *["read"] * 4, "scored"]


@pytest.mark.parametrize(
    ("make", "lengths"),
    [
        (np.asarray, [5, 5, 4]),
        (Lazy, [5, 5, 4]),
        (iter, [5, 5, 4]),
        (list, [14]),  # whole in memory, so judged as a whole
        (lambda x: x.reshape(14, -1), [14]),
        (lambda x: x[0], [32]),  # one image, which is an error later
        (lambda x: x[:0], [0]),
        (lambda x: iter(()), [0]),
    ],
)
def test_what_comes_in_pieces(make, lengths, small_pieces):
    actual = list(iter_chunks(make(X)))
    assert [len(piece) for _, piece in actual] == lengths
    assert [first for first, _ in actual] == np.cumsum([0, *lengths])[:-1].tolist()


def test_a_piece_takes_a_sixteenth_of_the_working_memory():
    large = np.zeros((40, 256, 256), np.uint8)
    with config_context(working_memory=16):  # a piece has 1 MiB
        assert [len(piece) for _, piece in iter_chunks(large)] == [16, 16, 8]
        assert [len(piece) for _, piece in iter_chunks(iter(large))] == [17, 17, 6]
        photos = [Image.fromarray(image) for image in large]
        assert [len(piece) for _, piece in iter_chunks(iter(photos))] == [17, 17, 6]
        pairs = Lazy([(torch.from_numpy(image), 0) for image in large])
        assert [len(piece) for _, piece in iter_chunks(pairs)] == [17, 17, 6]


def test_memory_maps_are_read_in_pieces(fitted, tmp_path, monkeypatch, small_pieces):
    np.save(tmp_path / "images.npy", X)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    seen = []
    spy(monkeypatch, images_module.Images, "load", lambda self, *args: seen.append(len(self)))
    assert_array_equal(fitted.score_samples(mapped), fitted.score_samples(X))
    assert max(seen) == 5


def test_errors_name_the_image_of_the_whole_collection(fitted, small_pieces):
    images = [*X[:13], np.full((32, 32, 3), 7.5)]
    for collection, name in (
        (images, r"X\[13\]"),
        (iter(images), r"X\[13\]"),
        (Lazy(images), r"X\[13\]"),
        (iter(()), "X is empty"),
    ):
        with pytest.raises(ValueError, match=name):
            fitted.score_samples(collection)


def test_thresholds_of_several_pieces(fitted, small_pieces):
    model = pickle.loads(pickle.dumps(fitted))
    unseen = (RNG.random((20, 32, 32, 3)) * 255).astype(np.uint8)
    assert_array_equal(
        model.set_threshold(iter(unseen)).calibration_scores_, model.score_samples(unseen)
    )
    with pytest.warns(UserWarning, match="2 of the 20 images of X"):
        model.set_threshold([*unseen[:18], X[1], X[7]])


def test_one_bad_file_neither_stops_nor_shifts_a_run(fitted, tmp_path, small_pieces):
    paths = files(tmp_path)
    paths[3].write_bytes(b"no image")
    paths[12].write_bytes(paths[12].read_bytes()[:200])  # its head is that of an image
    paths[13].unlink()
    model = pickle.loads(pickle.dumps(fitted)).set_params(on_error="nan")
    for collection in (paths, iter(paths), Lazy(paths), np.array(paths, dtype=object)):
        with pytest.warns(UserWarning) as caught:
            scores = model.score_samples(collection)
        text = str(caught[0].message)
        assert "3 of 14 images" in text
        for i in (3, 12, 13):
            assert f"X[{i}]" in text and f"{i}.png" in text
        bad = np.isin(np.arange(14), [3, 12, 13])
        assert_array_equal(np.isnan(scores), bad)
        assert_array_equal(scores[~bad], fitted.score_samples(X)[~bad])
    with pytest.warns(UserWarning):
        assert_array_equal(model.predict(paths)[bad], -1)
    with pytest.warns(UserWarning):
        assert (model.predict_pvalue(paths)[bad] == 1 / 9).all()
    for path in (paths[3], paths[12]):
        with pytest.raises(ValueError):
            fitted.score_samples([paths[0], path])


def test_bad_images_of_other_kinds(fitted):
    model = pickle.loads(pickle.dumps(fitted)).set_params(on_error="nan")
    buffer = BytesIO()
    Image.fromarray(X[0]).save(buffer, "PNG")
    with pytest.warns(UserWarning):
        scores = model.score_samples([buffer.getvalue(), None, b"", BytesIO(buffer.getvalue())])
    assert np.isnan(scores).tolist() == [False, True, True, False]
    assert scores[0] == scores[3] == fitted.score_samples(X[:1])[0]
    floats = X / 255
    floats[2, 0, 0] = np.nan
    with pytest.warns(UserWarning):
        assert np.isnan(model.score_samples(floats)).tolist() == [i == 2 for i in range(14)]
    with pytest.warns(UserWarning):
        assert np.isnan(model.score_samples(["missing.png"])).all()


@pytest.mark.parametrize("wrong", [X[0], np.zeros((3, 5)), [], "missing", X * 2.0])
def test_a_wrong_collection_is_an_error_whatever_on_error_says(fitted, wrong):
    model = pickle.loads(pickle.dumps(fitted)).set_params(on_error="nan")
    with pytest.raises(ValueError):
        model.score_samples(wrong)


def test_fits_and_thresholds_need_every_image(tmp_path):
    paths = files(tmp_path)
    paths[3].write_bytes(b"no image")
    fine = detector(on_error="nan").fit(paths[:3])
    for method in (detector(on_error="nan").fit, fine.partial_fit, fine.set_threshold):
        with pytest.raises(ValueError, match=r"3\.png"):
            method(paths)


def test_rows_are_scored_as_ever():
    rows = RNG.normal(size=(20, 4))
    model = COFTDetector(max_iter=0, on_error="nan", random_state=0).fit(rows)
    assert_array_equal(
        model.score_samples(rows),
        COFTDetector(max_iter=0, random_state=0).fit(rows).score_samples(rows),
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_a_batch_that_memory_does_not_hold_is_halved(fitted, error, monkeypatch):
    network = fitted.embedder_.network_
    own, sizes = network.features_and_patches, []

    def starved(images):
        sizes.append(len(images))
        if len(images) > 2:
            raise error
        return own(images)

    expected = fitted.score_samples(X)
    monkeypatch.setattr(network, "features_and_patches", starved)
    with pytest.warns(UserWarning, match="max_pixels"):
        actual = fitted.score_samples(X)
    assert sizes == [8, 4, 2, 2, 4, 2, 2] * 2
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_other_errors_of_a_network_and_single_images_that_do_not_fit(fitted, monkeypatch):
    network = fitted.embedder_.network_
    for message, count in (("shapes", 1), ("out of memory", 4)):
        calls = []

        def broken(images, message=message, calls=calls):
            calls.append(len(images))
            raise RuntimeError(message)

        monkeypatch.setattr(network, "features_and_patches", broken)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(RuntimeError):
                fitted.score_samples(X)
        assert len(calls) == count  # 8, 4, 2, 1
