"""Masks as image files: which pixels are inside, and which files can be read in two ways."""

from io import BytesIO

import numpy as np
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_array_equal
from PIL import Image, ImageFilter

from skcoft import COFTDetector
from skcoft._input.mask import read_mask

INSIDE = np.zeros((48, 60), dtype=bool)
INSIDE[8:, 5:] = True
SHOW = INSIDE[..., None]


def image(inside, outside=0):
    """An image of one colour inside, and one outside."""
    values = np.where(SHOW, inside, outside).astype(np.uint8)
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)


def palette(*colors):
    picture = Image.fromarray(INSIDE.astype(np.uint8), "P")
    picture.putpalette(np.ravel(colors).tolist())
    return picture


def turned():
    picture = image(255).transpose(Image.Transpose.ROTATE_90)
    exif = picture.getexif()
    exif[0x0112] = 6
    return picture, {"exif": exif.tobytes()}


def as_jpeg(picture):
    content = BytesIO()
    picture.save(content, "JPEG", quality=60)
    return Image.open(content)


MASKS = {
    "white": image(255),
    "booleans": Image.fromarray(INSIDE),
    "1": image(1),
    "red": image((255, 0, 0)),
    "dark blue": image((0, 0, 90)),
    "16 bits": Image.fromarray(INSIDE.astype(np.uint16) * 65535),
    "1 in 16 bits": Image.fromarray(INSIDE.astype(np.uint16)),
    "range of video": image(235, 16),
    "two bright colours": Image.fromarray(
        np.where(SHOW, np.where(np.arange(60)[:, None] > 30, (255, 0, 0), (0, 200, 0)), 0).astype(
            np.uint8
        )
    ),
    "palette": palette((0, 0, 0), (128, 0, 0)),
    "gray palette": palette((0, 0, 0), (1, 1, 1)),
    "transparent, white everywhere": image((255, 255, 255, 255), (255, 255, 255, 0)),
    "transparent black outside": image((255, 255, 255, 255), (0, 0, 0, 0)),
    "opaque red inside": image((255, 0, 0, 255), (20, 90, 20, 0)),
    "JPEG": as_jpeg(image(255)),
    "turned": turned(),
}


def read(picture, folder, **options):
    if isinstance(picture, tuple):
        picture, options = picture
    path = folder / "mask.png"
    picture.save(path, **options)
    return read_mask(path)


@pytest.mark.parametrize("kind", MASKS)
def test_bright_or_opaque_pixels_are_inside(kind, tmp_path):
    assert_array_equal(read(MASKS[kind], tmp_path), INSIDE)


def test_a_mask_of_one_bright_colour_is_the_whole_image(tmp_path):
    assert read(image((255, 0, 0), (255, 0, 0)), tmp_path).all()


def test_smooth_edges_are_cut_in_the_middle(tmp_path):
    for radius in (1, 4):
        smooth = image(255).filter(ImageFilter.GaussianBlur(radius))
        assert (read(smooth, tmp_path) == INSIDE).mean() > 0.98


def stripe(values, color):
    values[20:30, 20:40] = color
    return Image.fromarray(values)


AMBIGUOUS = {
    "black": (image(0), "black"),
    "no black": (image((255, 0, 0), (255, 255, 255)), "black"),
    "gray and white": (image(255, 120), "black"),
    "three shades": (stripe(np.array(image(255)), 60), "neither"),
    "numbers of classes": (stripe(np.array(image(20)), 1), "neither"),
    "a hole in black": (image((255, 255, 255, 0), (0, 0, 0, 255)), "two ways"),
    "a black shape on nothing": (image((0, 0, 0, 255), (0, 0, 0, 0)), "two ways"),
    "black drawing on white ground": (
        stripe(np.array(image((255, 255, 255, 255), (255, 255, 255, 0))), (0, 0, 0, 255)),
        "two ways",
    ),
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_masks_that_can_be_read_in_two_ways_are_refused(kind, tmp_path):
    picture, reason = AMBIGUOUS[kind]
    with pytest.raises(ValueError) as caught:
        read(picture, tmp_path)
    assert reason in str(caught.value) and "mask.png" in str(caught.value)


@pytest.mark.parametrize(
    "wrap",
    [torch.from_numpy, Image.fromarray, list, np.float32],
    ids=["tensor", "PIL", "list", "float32"],
)
def test_masks_of_any_array_type_are_those_of_the_array(wrap, photos):
    mask = np.zeros((24, 20), dtype=bool)
    mask[4:, 3:] = True
    detectors = [
        COFTDetector(TinyNet(), max_iter=0, random_state=0, mask=m).fit(photos[:6])
        for m in (mask, wrap(mask))
    ]
    scores = [detector.score_samples(photos) for detector in detectors]
    assert_array_equal(*scores)


def test_a_mask_of_0_and_255_says_how_to_make_booleans(photos):
    with pytest.raises(ValueError, match="> 127"):
        COFTDetector(TinyNet(), max_iter=0, mask=INSIDE * np.uint8(255)).fit(photos)
