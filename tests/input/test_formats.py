"""One image has the same size, values, score and map in every format, orientation and depth."""

import struct
import zlib
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageOps

from skcoft import COFTDetector
from skcoft._input import full_depth
from skcoft._input.errors import UnreadableImageError
from skcoft._input.reader import ReadOptions, read_input
from skcoft.datasets import make_plates

STORED = {  # what a file holds, so that the image is upright after turning by the orientation
    1: lambda values: values,
    2: np.fliplr,
    3: lambda values: np.rot90(values, 2),
    4: np.flipud,
    5: lambda values: values.swapaxes(0, 1),
    6: np.rot90,
    7: lambda values: np.rot90(values, 2).swapaxes(0, 1),
    8: lambda values: np.rot90(values, -1),
}


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def pil_file(values, kind, **options):
    content = BytesIO()
    Image.fromarray(values).save(content, kind, **options)
    return content.getvalue()


def png(values, orientation=1, is_late=False):
    """Of 8 or 16 bits, with the orientation in a chunk before or after the pixels."""
    content = imagecodecs.png_encode(values)
    place = content.index(b"IEND" if is_late else b"IDAT") - 4
    data = b"eXIf" + exif(orientation).removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return content[:place] + chunk + content[place:]


def tiff(values, orientation=1, **options):
    content = BytesIO()
    color = {"photometric": "rgb"} if values.ndim == 3 else {"photometric": "minisblack"}
    tags = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(content, values, extratags=tags, **{**color, **options})
    return content.getvalue()


def planar_tiff(values, orientation=1):
    if values.ndim == 2:
        return tiff(values, orientation)
    return tiff(np.moveaxis(values, -1, 0).copy(), orientation, planarconfig="separate")


def netpbm(values, max_value, is_text=False):
    kind = (2 if is_text else 5) + (values.ndim == 3)
    header = b"P%d\n# a camera\n%d %d\n%d\n" % (kind, *values.shape[1::-1], max_value)
    if is_text:
        return header + b" ".join(b"%d" % value for value in values.ravel())
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


TURNED = {
    "PNG": png,
    "PNG, late": lambda values, o: png(values, o, is_late=True),
    "TIFF": tiff,
    "TIFF of Motorola": lambda values, o: tiff(values, o, byteorder=">"),
    "TIFF, LZW": lambda values, o: tiff(values, o, compression="lzw"),
    "TIFF, planar": planar_tiff,
    "TIFF, tiles": lambda values, o: tiff(values, o, tile=(16, 16)),
    "WebP": lambda values, o: pil_file(values, "WEBP", lossless=True, exif=exif(o)),
    "JPEG": lambda values, o: pil_file(values, "JPEG", quality=95, subsampling=0, exif=exif(o)),
}
CASES = [
    (kind, bits, orientation, channels)
    for kind in TURNED
    for bits in (8, 10, 12, 16)
    for orientation in STORED
    for channels in (1, 3)
    if bits == 8 or kind not in ("WebP", "JPEG")
]


def picture(bits, channels, shape=(24, 36), seed=0):
    """A smooth image without symmetry, which uses all bits."""
    y, x = np.mgrid[: shape[0], : shape[1]] / np.array(shape).reshape(2, 1, 1)
    rng = np.random.default_rng(seed)
    layers = [np.sin(9 * x * (1 + c) + rng.uniform(0, 6)) * y + x / 2 for c in range(channels)]
    values = np.stack(layers, axis=-1) + rng.uniform(0, 0.02, (*shape, channels))
    values = (values - values.min()) / np.ptp(values) * (2**bits - 1)
    values = values.round().astype(np.uint8 if bits == 8 else np.uint16)
    return values[..., 0] if channels == 1 else values


def read(X, **params):
    return read_input(X, ReadOptions(**params))


def load(item, bits=8):
    images = read([item], bit_depth=bits)
    assert images.name_of(0)
    return images.load(torch.tensor([0]), images.sizes[0], images.bit_depth)[0].numpy()


@pytest.mark.parametrize("kind, bits, orientation, channels", CASES)
def test_a_file_is_read_as_its_array_is(kind, bits, orientation, channels):
    values = picture(bits, channels)
    content = TURNED[kind](np.ascontiguousarray(STORED[orientation](values)), orientation)
    assert read([content]).sizes == [(24, 36)]
    loss = {"JPEG": 0.1, "WebP": 0 if channels == 3 else 0.01}.get(kind, 0)
    assert_allclose(load(content, bits), load(values, bits), atol=loss)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_formats_without_orientation_are_read_as_the_array_is(bits, channels):
    values = picture(bits, channels)
    tensor = torch.from_numpy(values.astype(np.uint8 if bits == 8 else np.int32))
    same = [
        netpbm(values, 2**bits - 1),
        netpbm(values, 2**bits - 1, is_text=True),
        netpbm(values, 65535) if bits > 8 else netpbm(values, 255),
        imagecodecs.jpeg2k_encode(values, level=0, bitspersample=bits),
        tensor.movedim(-1, 0) if channels == 3 else tensor,
        values.astype(np.int64),
        values.astype(">u2"),
    ]
    for item in same:
        assert_array_equal(load(item, bits), load(values, bits))


def test_bitmaps_are_black_and_white():
    """Files of one bit, as text and packed; 1 is black."""
    expected = np.array([[0, 1, 0], [1, 1, 0]], dtype=bool)
    for content in (b"P1\n3 2\n1 0 1\n0 0 1\n", b"P4\n3 2\n\xa0\x20"):
        assert_array_equal(load(content), load(expected[..., None]))


@pytest.mark.parametrize("orientation", STORED)
def test_the_orientations_are_those_of_pillow(orientation):
    values = picture(8, 3)
    content = png(np.ascontiguousarray(STORED[orientation](values)), orientation)
    with Image.open(BytesIO(content)) as image:
        assert_array_equal(ImageOps.exif_transpose(image), values)


@pytest.mark.parametrize("is_loaded", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF, LZW", "JPEG"])
def test_pil_images_of_turned_files_are_upright(kind, is_loaded):
    """Some versions of Pillow turn TIFF files when they are loaded, or say so in their size."""
    content = TURNED[kind](np.ascontiguousarray(np.rot90(picture(8, 3))), 6)
    image = Image.open(BytesIO(content))
    if is_loaded:
        image.load()
    assert read([image]).sizes == [(24, 36)]
    assert_array_equal(load(image), load(content))
    assert read([image]).sizes == [(24, 36)]  # after loading, too


def test_the_size_of_a_png_file_is_known_without_decoding():
    content = pil_file(picture(8, 3), "PNG")
    place = content.index(b"IDAT") + 4
    damaged = content[:place] + bytes(50) + content[place + 50 :]
    assert read([damaged]).sizes == [(24, 36)]
    with pytest.raises(UnreadableImageError):
        load(damaged)


@pytest.mark.filterwarnings("ignore:Image was not the expected size")
def test_the_size_is_that_of_the_pixels_if_the_header_of_an_icon_differs():
    content = bytearray(pil_file(picture(8, 3), "ICO", sizes=[(36, 24)]))
    content[6:8] = 32, 20  # the width and the height
    (size,) = read([bytes(content)]).sizes
    assert size == (24, 36) and load(bytes(content)).shape == (3, 24, 36)


# what needs other libraries

DEEP = {
    "PNG": (png, "imagecodecs"),
    "TIFF": (tiff, "tifffile"),
    "JPEG2000": (lambda values: imagecodecs.jpeg2k_encode(values, level=0), "imagecodecs"),
}


@pytest.mark.parametrize("kind", DEEP)
def test_without_the_library_a_deep_file_is_refused_before_the_training(kind, monkeypatch):
    write, package = DEEP[kind]
    content = write(picture(12, 3))
    monkeypatch.setattr(full_depth, "find_spec", lambda name: None if name == package else name)
    with pytest.raises(UnreadableImageError) as caught:
        read([picture(8, 3), content])
    assert "X[1]" in str(caught.value) and "skcoft[camera]" in str(caught.value)
    read([png(picture(16, 1)), tiff(picture(16, 1)), png(picture(8, 3))])  # Pillow reads these


def test_deep_files_that_nothing_reads_are_refused():
    content = pil_file(picture(8, 3), "SGI", bpc=2)
    with pytest.raises(UnreadableImageError, match="pass the array"):
        read([content])
    read([pil_file(picture(8, 3), "SGI")])


@pytest.mark.parametrize("kind", DEEP)
def test_pil_images_of_deep_files_are_refused(kind):
    """Pillow holds no colours of more than 8 bits."""
    with pytest.raises(UnreadableImageError, match="Pass the path"):
        read([Image.open(BytesIO(DEEP[kind][0](picture(12, 3))))])


def test_unknown_tiffs_say_what_to_do():
    content = tiff(picture(8, 3).astype(np.float32) / 255)
    with pytest.raises(UnreadableImageError, match="pass the array"):
        read([content])


def test_damaged_deep_files_are_unreadable():
    for content in (png(picture(12, 3))[:300], netpbm(picture(12, 3), 4095)[:300]):
        with pytest.raises(UnreadableImageError, match=r"X\[0\]"):
            load(content, 12)


def test_gray_pixels_with_alpha_keep_16_bits():
    values = picture(12, 1)
    both = np.dstack([values, np.full_like(values, 65535)])
    assert_array_equal(load(png(both), 12), load(values, 12))


# scores, maps and regions


@pytest.fixture(scope="module")
def cameras():
    """Colour images of a camera of 12 bits, and a detector of the first eight."""
    photos = make_plates(9, 1, size=96, random_state=0).images[:, :72].astype(np.uint16) * 16
    params = {"max_iter": 0, "random_state": 0, "bit_depth": 12}
    return photos, COFTDetector("embedded", **params).fit(photos[:8])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF, planar", "PPM"])
@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_scores_maps_and_regions_are_those_of_the_array(kind, orientation, cameras, tmp_path):
    photos, fitted = cameras
    write = TURNED.get(kind, lambda values, _: netpbm(values, 4095))
    orientation = 1 if kind == "PPM" else orientation
    paths = [tmp_path / f"{i}" for i in range(2)]
    for path, photo in zip(paths, photos[8:], strict=True):
        path.write_bytes(write(np.ascontiguousarray(STORED[orientation](photo)), orientation))
    assert_allclose(fitted.score_samples(paths), fitted.score_samples(photos[8:]), rtol=1e-6)
    expected = fitted.anomaly_map(photos[8:])
    for anomaly_map, same in zip(fitted.anomaly_map(paths), expected, strict=True):
        assert anomaly_map.shape == (72, 96)
        assert_allclose(anomaly_map, same, atol=1e-4)
    boxes = [[region.box for region in regions] for regions in fitted.find_regions(paths)]
    assert boxes == [[r.box for r in regions] for regions in fitted.find_regions(photos[8:])]
    assert boxes[1]


def test_a_fit_on_turned_tiffs_is_that_on_upright_arrays(cameras, tmp_path):
    photos, fitted = cameras
    files = [tiff(np.ascontiguousarray(np.rot90(photo)), 6) for photo in photos]
    same = COFTDetector(**fitted.get_params()).fit(files[:8])
    assert_allclose(same.score_samples(photos), fitted.score_samples(photos), rtol=1e-6)
    assert same.embedder_.encoders_[0].sizing == fitted.embedder_.encoders_[0].sizing
