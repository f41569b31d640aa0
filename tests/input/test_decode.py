"""Files are decoded once for all sizes that they are seen at, prefetch of who takes them."""

import threading
import time

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image

from skcoft import COFTDetector, COFTEmbedder
from skcoft._input import chunks
from skcoft._input import decode as _files
from skcoft._input import images as _images
from skcoft._input.chunks import prefetch
from skcoft._input.images import Images
from skcoft._input.sizing import native_sizing
from skcoft.datasets import make_plates

SHAPES = [(160, 200), (200, 160), (160, 200), (170, 170), (200, 160)]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Paths of photographs of several shapes, eight of the first one."""
    folder = tmp_path_factory.mktemp("photographs")
    plates = make_plates(12, 0, size=200, random_state=0).images
    paths = [str(folder / f"{i}.png") for i in range(12)]
    for i, (path, plate) in enumerate(zip(paths, plates, strict=True)):
        height, width = SHAPES[0] if i < 8 else SHAPES[i % len(SHAPES)]
        Image.fromarray(plate[:height, :width]).save(path)
    return paths


@pytest.fixture
def decoded(monkeypatch):
    """Names of what has been decoded so far."""
    names, decode = [], _files.values_of

    def noted(item, name, **options):
        names.append(item)
        return decode(item, name, **options)

    monkeypatch.setattr(_images, "values_of", noted)
    return names


@pytest.fixture(scope="module")
def detector(photographs):
    options = {"max_iter": 0, "random_state": 0, "max_pixels": 96 * 96}
    return COFTDetector("embedded", **options).fit(photographs[:8])


def test_a_score_at_two_sizes_decodes_once(detector, photographs, decoded):
    assert len(detector._model.joint.backbone_scores) == 2
    detector.score_samples(photographs)
    assert decoded == photographs


def test_a_fit_decodes_twice_and_once_more_for_each_backbone(photographs, decoded):
    options = {"max_iter": 1, "random_state": 0, "max_pixels": 96 * 96}
    COFTDetector("embedded", **options).fit(photographs[:8])
    assert decoded == 2 * photographs[:8]  # to find copies, and to train and embed
    decoded.clear()
    COFTEmbedder(["embedded", "embedded"], image_size=[64, 96], max_iter=0).fit(photographs[:8])
    assert decoded == 3 * photographs[:8]


def test_embedders_decode_once(photographs, decoded):
    fitted = COFTEmbedder(["embedded"] * 2, image_size=[64, 96], max_iter=0).fit(photographs[:4])
    decoded.clear()
    fitted.transform(photographs)
    assert decoded == photographs


@pytest.mark.parametrize("n_jobs", [None, 2, -1])
def test_what_is_kept_is_what_would_be_loaded(photographs, n_jobs):
    sizing = native_sizing([(160, 200)], 96 * 96, min_pixels=0)
    sizings = [sizing, sizing.at(1 / 2), sizing.one_for_all]
    kept, direct = Images(photographs, n_jobs), Images(photographs)
    kept.decode_once(sizings)
    for one in sizings:
        loads = [images.loader(one, "cpu") for images in (kept, direct)]
        for group in kept.groups(one):
            assert torch.equal(*[load(torch.from_numpy(group)) for load in loads])


def test_scores_do_not_depend_on_threads_or_pieces(detector, photographs, decoded, monkeypatch):
    expected = detector.score_samples(photographs)
    for threads in (2, -1):
        assert_array_equal(
            detector.set_params(n_jobs=threads).score_samples(photographs), expected
        )
    detector.set_params(n_jobs=None)
    monkeypatch.setattr(chunks, "MIN_CHUNK_FILES", 2)
    monkeypatch.setattr(chunks, "DECODED_MEMORY_SHARE", 0)
    decoded.clear()
    assert_array_equal(detector.score_samples(photographs), expected)
    assert decoded == photographs


def test_a_mask_fills_what_is_kept(photographs):
    mask = np.zeros((16, 20), dtype=bool)
    mask[:, 5:] = True
    options = {"max_iter": 0, "random_state": 0, "max_pixels": 96 * 96, "mask": mask}
    fitted = COFTDetector("embedded", **options).fit(photographs[:8])
    arrays = [np.asarray(Image.open(path)) for path in photographs[:8]]
    assert_array_equal(fitted.score_samples(photographs[:8]), fitted.score_samples(arrays))


def test_what_does_not_fit_is_decoded_again(detector, photographs, decoded, monkeypatch):
    expected = detector.score_samples(photographs)
    decoded.clear()
    monkeypatch.setattr(_images, "CACHE_BYTES", 0)
    assert_array_equal(detector.score_samples(photographs), expected)
    assert len(decoded) == 2 * len(photographs)


def test_arrays_are_not_kept(detector, photographs):
    arrays = [np.asarray(Image.open(path)) for path in photographs]
    images = detector._read(arrays)
    (piece,) = images.iter_chunks(
        [branch.scaled for branch in detector._model.joint.backbone_scores]
    )
    assert piece._cached_sizings == ()


def test_threads_are_no_more_than_an_item_each_ahead():
    started, lock = [], threading.Lock()

    def note(item):
        with lock:
            started.append(item)
        return item

    found = prefetch(note, range(50), 3)
    assert next(found) == 0
    time.sleep(0.05)
    assert len(started) <= 4
    assert list(found) == list(range(1, 50))


@pytest.mark.parametrize("n_jobs", [None, 1, 3, -1, -100])
def test_threads_keep_the_order_and_raise_what_they_meet(n_jobs):
    def fail_at_five(item):
        time.sleep(0.002 * (item % 3))
        if item == 5:
            raise ValueError("five")
        return 2 * item

    assert list(prefetch(fail_at_five, range(5), n_jobs)) == [0, 2, 4, 6, 8]
    found = prefetch(fail_at_five, range(9), n_jobs)
    assert [next(found) for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(ValueError):
        next(found)


@pytest.mark.parametrize("orientation", [None, 0, 1, 3, 6])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "RGB", "RGBA", "CMYK"])
def test_images_of_pil_are_shown_as_pillow_shows_them_and_stay(mode, orientation):
    photo = Image.fromarray(make_plates(1, 0, size=32, random_state=0).images[0, :20])
    photo = photo.convert("LA").convert("La") if mode == "La" else photo.convert(mode)
    if orientation is not None:
        photo.getexif()[0x0112] = orientation
    before = photo.tobytes()
    gray = mode in ("1", "L", "LA", "La")
    shown = photo.transpose(Image.Transpose.ROTATE_180) if orientation == 3 else photo
    shown = photo.transpose(Image.Transpose.ROTATE_270) if orientation == 6 else shown
    shown = (shown.convert("LA") if mode == "La" else shown).convert("L" if gray else "RGB")
    expected = np.asarray(shown).reshape(*shown.size[::-1], -1).transpose(2, 0, 1)
    assert_array_equal(_files.values_of(photo, "X[0]")[0].numpy(), expected)
    assert photo.tobytes() == before
