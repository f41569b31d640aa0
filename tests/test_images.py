import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from skcoft import COFTEmbedder
from skcoft._images import Images, read_input

EMBEDDER = COFTEmbedder()


def read(X, **params):
    return read_input(COFTEmbedder(**params), X, reset=True)


def load(X, size=(24, 20), **params):
    images = read(X, **params)
    return images.load(torch.arange(len(images)), size)


@pytest.fixture
def folder(tmp_path, photos):
    paths = [tmp_path / f"{i:02d}.png" for i in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        Image.fromarray(photo).save(path)
    return paths


def test_every_kind_of_input_gives_the_same_images(photos, folder):
    expected = photos.transpose(0, 3, 1, 2) / np.float32(255)
    objects = np.empty(len(photos), dtype=object)
    objects[:] = list(photos)
    kinds = {
        "uint8": photos,
        "float64": photos / 255,
        "float32": photos.astype(np.float32) / 255,
        "tensor": torch.from_numpy(photos).permute(0, 3, 1, 2),
        "float tensor": torch.from_numpy(photos).permute(0, 3, 1, 2) / 255,
        "list": list(photos),
        "tuple of tensors": tuple(torch.from_numpy(photos).permute(0, 3, 1, 2)),
        "object array": objects,
        "PIL": [Image.fromarray(p) for p in photos],
        "paths": folder,
        "strings": [str(p) for p in folder],
        "array of strings": np.array([str(p) for p in folder]),
        "pandas": pd.Series([str(p) for p in folder]),
        "polars": pl.Series([str(p) for p in folder]),
        "mixed": [*photos[:6], *folder[6:]],
        "four channels": np.concatenate([photos, photos[..., :1]], axis=-1),
    }
    for kind, X in kinds.items():
        assert_array_equal(load(X).numpy(), expected, err_msg=kind)
    flat = photos.reshape(len(photos), -1)
    assert_array_equal(load(flat, image_shape=(24, 20, 3)).numpy(), expected)
    assert_array_equal(load(pd.DataFrame(flat), image_shape=(24, 20, 3)).numpy(), expected)


def test_resized_images_do_not_depend_on_the_container(photos, folder):
    expected = load(photos, (32, 32))
    assert expected.min() >= 0 and expected.max() <= 1
    for X in (list(photos), folder, photos / 255):
        assert torch.equal(load(X, (32, 32)), expected)
    assert torch.equal(load(photos[3:4], (32, 32))[0], expected[3])


def test_gray_images(photos, tmp_path):
    gray = photos[..., 0]
    path = tmp_path / "gray.png"
    Image.fromarray(gray[0]).save(path)
    expected = load(gray)
    assert expected.shape == (12, 3, 24, 20)
    assert torch.equal(expected[:, 0], expected[:, 2])
    assert torch.equal(load(gray[..., None]), expected)
    assert torch.equal(load([path]), expected[:1])


def test_sixteen_bit_files(tmp_path):
    values = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    path = tmp_path / "deep.png"
    Image.fromarray(values).save(path)
    assert_allclose(load([path], (8, 8))[0, 0], values / 65535, atol=1e-6)


MODES = {
    "1": ((255, 255, 255), 255),
    "L": ((100, 100, 100), 100),
    "LA": ((100, 100, 100), (100, 50)),
    "RGB": ((100, 150, 200), (100, 150, 200)),
    "RGBA": ((100, 150, 200), (100, 150, 200, 50)),
    "P": ((100, 150, 200), 3),
    "I;16": ((51, 51, 51), 51 * 257),
    "I": ((51, 51, 51), 51 * 257),
    "F": ((51, 51, 51), 0.2),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes_of_pil_images(mode):
    """Gray is repeated, a palette looked up, transparency dropped, 16 bits are scaled to 0..1."""
    expected, colour = MODES[mode]
    image = Image.new(mode, (5, 4))
    if mode == "P":
        image.putpalette([0, 0, 0] * 3 + [100, 150, 200])
    image.paste(colour, (0, 0, 5, 4))
    loaded = load([image], (4, 5))
    assert loaded.shape == (1, 3, 4, 5) and loaded.dtype == torch.float32
    assert_allclose(loaded[0, :, 2, 2], np.array(expected) / 255, atol=1e-6)


@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_float_images_of_pil_must_lie_in_range(value):
    with pytest.raises(ValueError, match="a PIL image in X holds float values"):
        load([Image.new("F", (4, 4), value)])


@pytest.mark.parametrize("kind", ["numpy", "torch", "list"])
def test_the_ends_of_the_range_are_in_it(kind):
    images = np.zeros((2, 8, 8))
    images[1] = 1
    wrap = {"numpy": np.asarray, "list": list}.get(kind, lambda x: torch.from_numpy(x)[:, None])
    assert_array_equal(load(wrap(images), (8, 8))[:, 0], images)
    for value in (np.nextafter(0, -1), np.nextafter(1, 2)):
        images[0, 0, 0] = value
        with pytest.raises(ValueError, match="float images must lie in 0..1"):
            read(wrap(images))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_types_become_single(dtype):
    images = np.linspace(0, 1, 64).astype(dtype).reshape(1, 8, 8)
    loaded = load(images, (8, 8))
    assert loaded.dtype == torch.float32
    assert_array_equal(loaded[0, 2], images[0].astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, bool])
def test_other_types_are_refused(dtype):
    with pytest.raises(ValueError, match="must hold uint8 values 0..255 or float values 0..1"):
        read(np.zeros((2, 8, 8), dtype))


def test_memory_layout_is_always_the_same(photos):
    for X in (photos, photos[..., 0], photos[:, :, ::-1], photos[::-1], list(photos)):
        assert load(X).is_contiguous() and load(X, (8, 8)).shape == (12, 3, 8, 8)
    assert_array_equal(load(photos[:, ::-1]), load(photos).flip(2))
    assert_array_equal(load(torch.from_numpy(photos).movedim(-1, 1)), load(photos))


def test_enlarging_is_bilinear():
    images = np.array([[0.0, 1.0]]).repeat(2, axis=0)[None]
    expected = [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]  # nothing beyond, corners not aligned
    assert_allclose(load(images, (2, 8))[0, 0], [expected] * 2, atol=1e-6)


def test_rounding_errors_of_resizing_stay_in_range():
    assert load(np.ones((1, 14, 14)), (13, 13)).max() == 1


def test_shrinking_averages():
    """A fine grating becomes gray, where a bilinear look-up would see its bright lines alone."""
    images = np.zeros((1, 30, 30))
    images[..., 1::3] = 1
    expected = np.full((6, 10), 1 / 3)
    shrunk = load(images, (6, 10))[0, 0]
    assert_allclose(shrunk[:, 1:-1], expected[:, 1:-1], atol=0.08)
    step = np.zeros((1, 1, 40))
    step[..., 20:] = 1
    weights = np.diff(load(step, (1, 10))[0, 0, 0])
    assert_allclose(weights[3:6], [1 / 8, 3 / 4, 1 / 8], atol=1e-6)  # of a triangle


def test_sizes_may_differ_and_nothing_is_cropped():
    half = np.zeros((10, 40), np.uint8)
    half[:, 20:] = 255
    images = load([half, half[:, ::2], half.repeat(2, 0)], (8, 8))
    assert_allclose(images[:, 0, 0, [0, -1]], [[0, 1]] * 3, atol=0.01)  # both ends are there
    assert read([half, half[:, ::2]]).common_size is None
    assert read([half, half]).common_size == (10, 40)


def test_orientation_of_photos_is_respected(tmp_path):
    photo = Image.fromarray(np.tile(np.arange(0, 200, 10, dtype=np.uint8), (8, 1)))
    exif = photo.getexif()
    exif[0x0112] = 6  # taken with the camera on its side
    photo.save(tmp_path / "side.jpg", exif=exif, quality=95)
    images = read([tmp_path / "side.jpg"])
    down = images.load(torch.arange(1), (20, 8))[0, 0]
    assert down[-1].mean() > down[0].mean() + 0.5


ORIENTATIONS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


def test_photos_that_do_not_say_how_they_are_shown_are_upright(photos, folder):
    for X in ([Image.fromarray(photos[0])], folder, list(photos)):
        assert read(X).common_size == (24, 20)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("as_file", [False, True])
def test_photos_are_turned_as_they_are_shown(orientation, as_file, tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    photo = Image.fromarray(pixels)
    exif = photo.getexif()
    exif[0x0112] = orientation
    if as_file:
        photo.save(tmp_path / "photo.png", exif=exif)
        photo = tmp_path / "photo.png"
    expected = ORIENTATIONS[orientation](pixels)
    assert read([photo]).common_size == expected.shape
    assert_allclose(load([photo], expected.shape)[0, 0] * 255, expected, atol=1e-4)


def test_common_size_of_a_photo_on_its_side(tmp_path):
    photo = Image.new("L", (20, 8))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "side.jpg", exif=exif)
    assert read([tmp_path / "side.jpg"]).common_size == (20, 8)


def test_decoding_is_lazy_and_threads_change_nothing(folder):
    images = read(folder)
    assert all(isinstance(item, str) for item in images.items)
    both = [read(folder, n_jobs=n).load(torch.arange(12), (16, 16)) for n in (None, 2)]
    assert torch.equal(*both)


def test_rows_become_double():
    rows = read(np.arange(6).reshape(3, 2))
    assert rows.values.dtype == np.float64
    assert_array_equal(rows.values, [[0, 1], [2, 3], [4, 5]])


def test_rows_stay_rows():
    X = np.arange(6.0).reshape(3, 2)
    for kind in (X, X.tolist(), pd.DataFrame(X), pl.DataFrame(X), torch.from_numpy(X)):
        rows = read(kind)
        assert not isinstance(rows, Images)
        assert_array_equal(rows.values, X)


@pytest.mark.parametrize("as_list", [False, True])
def test_take(photos, as_list):
    X = list(photos) if as_list else photos
    mask = np.arange(len(photos)) % 3 == 0
    taken = read(X, n_jobs=2).take(mask)
    assert taken.n_jobs == (2 if as_list else None)  # arrays need no decoding
    assert torch.equal(taken.load(torch.arange(4), (24, 20)), load(photos[mask]))


def test_input_is_not_changed_nor_written_through(photos):
    X = photos / 255
    X.setflags(write=False)
    before = X.copy()
    load(X).zero_()
    load(torch.from_numpy(before)[..., 0][:, None]).zero_()
    assert_array_equal(X, before)


U8 = np.zeros((4, 8, 8), np.uint8)
BAD = {
    "empty list": ([], "X is empty"),
    "empty array": (U8[:0], r"X is empty \(shape \(0, 8, 8\)\)"),
    "NaN": (np.full((2, 8, 8), np.nan), "X contains NaN or infinity"),
    "infinity": (np.full((2, 8, 8), np.inf), "X contains NaN or infinity"),
    "above 1": (np.full((2, 8, 8), 200.0), r"float values from 200 to 200; float images must lie"),
    "below 0": (np.full((2, 8, 8), -0.5), r"from -0.5 to -0.5"),
    "int64": (U8.astype(int), r"uint8 values 0..255 or float values 0..1; got int64"),
    "channels": (np.zeros((4, 8, 8, 2), np.uint8), r"1, 3 or 4 channels in \(n, H, W, C\); got 2"),
    "tensor": (torch.zeros(4, 8, 8, 3), r"channels in \(n, C, H, W\); got 8"),
    "3-D tensor": (torch.zeros(4, 8, 8), r"must have shape \(n, C, H, W\); got \(4, 8, 8\)"),
    "1-D": (np.zeros(4), "Expected 2D array, got 1D array instead"),
    "5-D": (np.zeros((1, 1, 1, 1, 1)), r"got an array of shape \(1, 1, 1, 1, 1\)"),
    "ragged": ([[1, 2], [3]], "nested sequences of unequal lengths"),
    "mixed channels": ([U8[0], np.zeros((8, 8, 3), np.uint8)], r"1 \(X\[0\]\) and 3 \(X\[1\]\)"),
    "not an image": ([U8[0], 7], r"X\[1\] must be a path, a PIL image or an array .* got int"),
    "bad value inside a list": ([U8[0], np.full((8, 8), 2.0)], r"X\[1\] holds float values"),
    "one path": ("image.png", r"got a single str. Pass \[X\]"),
    "one image": (Image.new("L", (8, 8)), r"got a single Image. Pass \[X\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    X, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        read(X)


def test_bad_files(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"missing.png' does not exist"):
        read([folder[0], tmp_path / "missing.png"])
    text = tmp_path / "text.png"
    text.write_text("not an image")
    with pytest.raises(ValueError, match=r"Cannot read .*text.png' as an image"):
        read([folder[0], text])
    with pytest.raises(ValueError, match="Cannot read"):
        read([tmp_path])
    cut = tmp_path / "cut.png"
    cut.write_bytes(folder[0].read_bytes()[:300])
    with pytest.raises(ValueError, match=r"Cannot decode .*cut.png'"):
        load([cut])


def test_image_shape_that_does_not_fit():
    with pytest.raises(ValueError, match=r"image_shape=\(8, 8\) needs 64 columns; X has 60"):
        read(np.zeros((3, 60)), image_shape=(8, 8))
    with pytest.raises(ValueError, match="float values from 16 to 16"):
        read(np.full((3, 64), 16.0), image_shape=(8, 8))
