import re
import warnings
from collections import UserList
from io import BytesIO

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from skcoft import COFTDetector, COFTEmbedder
from skcoft._input.images import BIT_DEPTHS, NOISE, Images
from skcoft._input.pixels import FLOAT_RANGE_TOL
from skcoft._input.reader import ReadOptions, read_input

EMBEDDER = COFTEmbedder()


def read(X, **params):
    return read_input(X, ReadOptions(**params))


def load(X, size=(24, 20), **params):
    images = read(X, **params)
    return images.load(torch.arange(len(images)), size, images.bit_depth)


@pytest.fixture
def folder(tmp_path, photos):
    paths = [tmp_path / f"{i:02d}.png" for i in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        Image.fromarray(photo).save(path)
    return paths


class Photos(torch.utils.data.Dataset):
    """A data set as torch's users write them, and as torchvision's ImageFolder is one."""

    def __init__(self, photos, labelled):
        self.photos, self.labelled = photos, labelled

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        image = Image.fromarray(self.photos[index])
        return (image, 0) if self.labelled else image


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
        "user's list": UserList([Image.fromarray(p).convert("RGBA") for p in photos]),
        "generator": (p for p in folder),
        "map": map(str, folder),
        "contents of files": [path.read_bytes() for path in folder],
        "files": [BytesIO(path.read_bytes()) for path in folder],
        "arrow": pa.array([str(p) for p in folder]),
        "column of an array": np.array([[str(p)] for p in folder]),
        "frame of pandas": pd.DataFrame({"path": [str(p) for p in folder]}),
        "frame of polars": pl.DataFrame({"path": [str(p) for p in folder]}),
        "table of Arrow": pa.table({"path": [str(p) for p in folder]}),
        "data set": Photos(photos, labelled=False),
        "labelled data set": torch.utils.data.Subset(Photos(photos, True), range(12)),
        "pairs": list(zip(folder, "ab" * 6, strict=True)),
        "tensors in a generator": (torch.from_numpy(p).movedim(-1, 0) for p in photos),
        "16 bits": photos.astype(np.uint16) * 257,
        "mixed": [*photos[:6], *folder[6:]],
        "opaque alpha": np.concatenate([photos, np.full_like(photos[..., :1], 255)], axis=-1),
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
    loaded = load([image], (4, 5), bit_depth=16 if mode.startswith("I") else None)
    assert loaded.shape == (1, 3, 4, 5) and loaded.dtype == torch.float32
    assert_allclose(loaded[0, :, 2, 2], np.array(expected) / 255, atol=1e-6)


@pytest.mark.parametrize("kind", ["numpy", "torch", "list"])
def test_the_ends_of_the_range_are_in_it(kind):
    images = np.zeros((2, 8, 8))
    images[1] = 1
    wrap = {"numpy": np.asarray, "list": list}.get(kind, lambda x: torch.from_numpy(x)[:, None])
    assert_array_equal(load(wrap(images), (8, 8))[:, 0], images)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_types_become_single(dtype):
    images = np.linspace(0, 1, 64).astype(dtype).reshape(1, 8, 8)
    loaded = load(images, (8, 8))
    assert loaded.dtype == torch.float32
    assert_array_equal(loaded[0, 2], images[0].astype(np.float32))


def test_a_hair_beyond_the_range_is_a_rounding_error():
    """As MinMaxScaler makes them; more is another scale."""
    assert FLOAT_RANGE_TOL == 1e-6
    images = np.zeros((2, 8, 8))
    images[0, 0, :2] = -9e-7, 1 + 9e-7
    assert_array_equal(load(images, (8, 8))[0, 0, 0, :2], [0, 1])
    for value in (-2e-6, 1 + 2e-6):
        images[0, 0, 0] = value
        with pytest.raises(ValueError):
            read(images)


def test_masks_are_black_and_white():
    assert_array_equal(load(np.eye(8, dtype=bool)[None], (8, 8))[0, 0], np.eye(8))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("container", ["array", "tensor", "list", "PIL", "files"])
def test_the_range_of_deep_images_is_found(bits, container, tmp_path):
    """From the greatest value of all, whatever holds them."""
    assert BIT_DEPTHS == (8, 10, 12, 14, 16)
    values = np.linspace(0, 2**bits - 1, 128).round().astype(np.uint16).reshape(2, 8, 8)
    for i, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    X = {
        "array": values,
        "tensor": torch.from_numpy(values.astype(np.int64))[:, None],
        "list": list(values),
        "PIL": [Image.fromarray(image) for image in values],
        "files": [tmp_path / "0.png", tmp_path / "1.png"],
    }[container]
    expected = values / (2**bits - 1)
    if bits < 16:
        with pytest.warns(UserWarning, match=f"bit_depth={bits}"):
            found = load(X, (8, 8))
    else:
        found = load(X, (8, 8))
    assert_allclose(found[:, 0], expected, atol=1e-6)
    assert_allclose(load(X, (8, 8), bit_depth=16)[:, 0], values / 65535, atol=1e-6)


def camera(n, seed, peak=4000):
    """Images of a 12-bit camera: bright discs on dark ground, uint16."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 1, 32)
    disc = np.hypot(x, x[:, None]) < rng.uniform(0.4, 0.7, (n, 1, 1))
    return (peak * (0.1 + 0.8 * disc + rng.uniform(0, 0.1, (n, 32, 32)))).astype(np.uint16)


def test_the_range_is_that_of_fit_ever_after():
    """Of a dark image too; one that is brighter than white says so."""
    X, params = camera(6, 0), dict(backbone=TinyNet(), max_iter=0, random_state=0)
    with pytest.warns(UserWarning):
        fitted = COFTDetector(**params).fit(X)
    expected = COFTDetector(**params).fit(X / 4095)
    queries = np.concatenate([camera(2, 1), camera(2, 2, peak=200)])
    assert_allclose(
        fitted.score_samples(queries), expected.score_samples(queries / 4095), rtol=1e-5
    )
    assert_array_equal(fitted.score_samples(queries[2:]), fitted.score_samples(queries)[2:])
    with pytest.warns(UserWarning):
        scores = fitted.score_samples(np.full((1, 32, 32), 5000, np.uint16))
    assert_allclose(scores, expected.score_samples(np.ones((1, 32, 32))), rtol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stated = COFTDetector(**params, bit_depth=12).fit(X)
    assert_array_equal(stated.score_samples(queries), fitted.score_samples(queries))


@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_deep_images_after_a_fit_on_others_are_refused(on_error, photos, tmp_path):
    """An array is refused as a whole. A deep file among others is one unreadable image."""
    fitted = COFTDetector(TinyNet(), max_iter=0, on_error=on_error).fit(photos)
    with pytest.raises(ValueError, match="bit_depth"):
        fitted.predict(camera(2, 0))
    files = [tmp_path / "0.png", tmp_path / "1.png"]
    for file, image in zip(files, (camera(1, 0)[0], photos[0]), strict=True):
        Image.fromarray(image).save(file)
    if on_error == "raise":
        with pytest.raises(ValueError, match="bit_depth"):
            fitted.score_samples(files)
    else:
        with pytest.warns(UserWarning, match="bit_depth"):
            scores = fitted.score_samples(files)
        assert_array_equal(np.isnan(scores), [True, False])


def test_one_image_in_place_of_many_is_refused(photos):
    """By every method, whatever the colour."""
    fitted = COFTDetector(TinyNet(), max_iter=0).fit(photos)
    for method in ("predict", "score_samples", "anomaly_map", "embed", "set_threshold"):
        for image in (photos[0], photos[0, ..., 0]):
            with pytest.raises(ValueError, match=r"X\[None\]"):
                getattr(fitted, method)(image)


def test_a_file_stands_where_it_stood(folder):
    file = BytesIO(b"head" + folder[0].read_bytes())
    file.seek(4)
    assert_array_equal(load([file]), load(folder[:1]))
    assert file.tell() == 4


def test_memory_layout_is_always_the_same(photos):
    for X in (photos, photos[..., 0], photos[:, :, ::-1], photos[::-1], list(photos)):
        assert load(X).is_contiguous() and load(X, (8, 8)).shape == (12, 3, 8, 8)
    assert_array_equal(load(photos[:, ::-1]), load(photos).flip(2))
    assert_array_equal(load(torch.from_numpy(photos).movedim(-1, 1)), load(photos))


def test_enlarging_is_bilinear():
    images = np.array([[0.0, 1.0]]).repeat(2, axis=0)[None, ..., None]
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


def test_noise_is_that_of_the_photograph():
    """It is drawn per pixel, so a smaller image has less. Gray images have gray noise."""
    assert NOISE == 4 / 255
    images = Images(torch.full((4, 3, 64, 64), 0.5))
    indices, generator = torch.arange(4), torch.Generator()

    def noise_of(images, side):
        batch = images.load(indices, (side, side))
        return (images.add_noise(batch, indices, generator.manual_seed(0)) - batch).numpy()

    assert noise_of(images, 64).std() == pytest.approx(NOISE, rel=0.02)
    assert noise_of(images, 16).std() < NOISE / 2.5
    assert_array_equal(noise_of(images, 64)[:, 0], noise_of(images, 64)[:, 1])
    coloured = Images(torch.tensor([0.4, 0.5, 0.6])[:, None, None].expand(4, 3, 64, 64).clone())
    red, green, _ = np.moveaxis(noise_of(coloured, 64), 1, 0)
    assert abs(np.corrcoef(red.ravel(), green.ravel())[0, 1]) < 0.05
    white = torch.ones(4, 3, 64, 64)
    assert Images(white).add_noise(white, indices, generator).max() == 1
    mask = np.zeros((64, 64), dtype=bool)
    mask[:32] = True
    filled = noise_of(images.masked(mask), 64)
    assert filled[:, :, :32].std() == pytest.approx(NOISE, rel=0.02)
    assert filled[:, :, 32:].std(axis=(2, 3)).max() < 1e-6


@pytest.mark.parametrize("as_list", [False, True])
def test_take(photos, as_list):
    X = list(photos) if as_list else photos
    mask = np.arange(len(photos)) % 3 == 0
    taken = read(X, n_jobs=2, bit_depth=16).take(mask)
    assert taken.n_jobs == 2 and taken.bit_depth == 16
    assert torch.equal(taken.load(torch.arange(4), (24, 20)), load(photos[mask]))


def test_input_is_not_changed_nor_written_through(photos):
    X = photos / 255
    X.setflags(write=False)
    before = X.copy()
    load(X).zero_()
    load(torch.from_numpy(before)[..., 0][:, None]).zero_()
    assert_array_equal(X, before)


@pytest.mark.parametrize(
    "case, name",
    [
        ("missing", "missing.png"),
        ("text", "text.png"),
        ("folder in a list", "folder"),
        ("folder", "folder"),
        ("no image", "X[1]"),
        ("no path", r"'a\x00b.png'"),
        ("closed image", "X[0]"),
        ("truncated file", "cut.png"),
        ("link", "https://a.org/b.png"),
        ("bucket", "s3://bucket/b.png"),
        ("data", "data:image/png,AA"),
        ("float below 0", "X[0]"),
        ("float above 1", "X[0]"),
    ],
)
def test_bad_files(case, name, tmp_path, folder):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "cut.png").write_bytes(folder[0].read_bytes()[:300])
    closed = Image.open(folder[0])
    closed.close()
    X = {
        "missing": [folder[0], tmp_path / "missing.png"],
        "text": [folder[0], tmp_path / "text.png"],
        "folder in a list": [tmp_path / "folder"],
        "folder": tmp_path / "folder",
        "no image": [folder[0], b"not an image"],
        "no path": ["a\0b.png"],
        "closed image": [closed],
        "truncated file": [tmp_path / "cut.png"],
        "float below 0": [Image.new("F", (4, 4), -0.01)],
        "float above 1": [Image.new("F", (4, 4), 1.01)],
    }.get(case, [name])
    is_missing = case in ("missing", "link", "bucket", "data")
    error = FileNotFoundError if is_missing else ValueError
    with pytest.raises(error, match=re.escape(name)):
        load(X)
