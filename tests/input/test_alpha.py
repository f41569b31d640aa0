"""Alpha channels and other fourth bands."""

from io import BytesIO

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from skcoft import COFTDetector
from skcoft._input.reader import ReadOptions, read_input

SHAPE = 24, 20


def load(X, **params):
    images = read_input(X, ReadOptions(**params))
    return images.load(torch.arange(len(images)), SHAPE, images.bit_depth).numpy()


def with_fourth(photos, fourth):
    fourth = np.broadcast_to(fourth, photos.shape[:3])
    return np.concatenate([photos, fourth[..., None].astype(photos.dtype)], axis=-1)


def tiff(values):
    content = BytesIO()
    tifffile.imwrite(content, values, photometric="rgb")
    return content.getvalue()


def pil_file(image, kind="PNG", **options):
    content = BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


FORMS = {
    "array": lambda X: X,
    "list": list,
    "tensor": lambda X: torch.from_numpy(X).movedim(-1, 1),
    "floats": lambda X: X / 255,
    "16 bits": lambda X: X.astype(np.uint16) * 257,
    "torch int64": lambda X: torch.from_numpy(X.astype(np.int64) * 257).movedim(-1, 1),
    "TIFF": lambda X: [tiff(image) for image in X],
    "TIFF of 16 bits": lambda X: [tiff(image.astype(np.uint16) * 257) for image in X],
    "rows": lambda X: X.reshape(len(X), -1),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", ["infrared", "constant", "two values"])
def test_a_fourth_band_that_is_no_alpha_is_refused(form, what, photos):
    """In every method, with the advice to pass it as a modality."""
    infrared = {
        "infrared": photos[..., 1],
        "constant": 128,
        "two values": np.where(photos[..., 0] > 99, 200, 30),
    }[what]
    X = FORMS[form](with_fourth(photos, infrared))
    options = {"image_shape": (*SHAPE, 4)} if form == "rows" else {}
    with pytest.raises(ValueError) as caught:
        load(X, **options)
    assert "modality" in str(caught.value) and "X" in str(caught.value)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alpha", [0, 255])
def test_an_alpha_channel_that_is_the_same_everywhere_has_no_effect(form, alpha, photos):
    options = {"image_shape": (*SHAPE, 4)} if form == "rows" else {}
    X = FORMS[form](with_fourth(photos, alpha))
    assert_allclose(load(X, **options), load(photos), atol=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_transparent_pixels_are_white_whatever_they_hide(form, photos):
    is_shown = np.broadcast_to(np.arange(20) < 13, photos.shape[:3])
    expected = load(np.where(is_shown[..., None], photos, 255).astype(np.uint8))
    options = {"image_shape": (*SHAPE, 4)} if form == "rows" else {}
    for hidden in (0, 77):
        X = np.where(is_shown[..., None], photos, hidden).astype(np.uint8)
        X = FORMS[form](with_fourth(X, 255 * is_shown))
        assert_allclose(load(X, **options), expected, atol=1e-7)


def files_with_transparency():
    """Files that show the same, with their hidden colours: gray, colours and a palette."""
    rgba = np.zeros((*SHAPE, 4), np.uint8)
    rgba[:, 5:] = 90, 90, 90, 255
    palette = Image.fromarray((rgba[..., 3] > 0).astype(np.uint8), "P")
    palette.putpalette([250, 3, 9, 90, 90, 90])
    image = Image.fromarray(rgba)
    return {
        "RGBA": pil_file(image),
        "LA": pil_file(image.convert("LA")),
        "palette": pil_file(palette, transparency=0),
        "GIF": pil_file(palette, "GIF", transparency=0),
        "colour that is transparent": pil_file(image.convert("RGB"), transparency=(0, 0, 0)),
        "gray that is transparent": pil_file(image.convert("L"), transparency=0),
        "WebP": pil_file(image, "WEBP", lossless=True, exact=True),
        "16 bits": imagecodecs.png_encode(rgba.astype(np.uint16) * 257),
        "TIFF": pil_file(image, "TIFF"),
    }


@pytest.mark.parametrize("kind", files_with_transparency())
def test_every_format_shows_white_in_place_of_transparent_pixels(kind):
    expected = np.full(SHAPE, 255, np.uint8)
    expected[:, 5:] = 90
    content = files_with_transparency()[kind]
    bit_depth = 16 if kind == "16 bits" else None
    assert_allclose(load([content], bit_depth=bit_depth), load(expected[None]), atol=1e-7)
    with Image.open(BytesIO(content)) as image:
        if kind != "16 bits":
            assert_allclose(load([image]), load(expected[None]), atol=1e-7)


def test_half_transparent_pixels_of_files_are_mixed_with_white(photos):
    alpha = np.linspace(0, 255, 24 * 20).round().reshape(1, *SHAPE)
    expected = (photos[:1] / 255) * alpha[..., None] / 255 + 1 - alpha[..., None] / 255
    file = pil_file(Image.fromarray(with_fourth(photos[:1], alpha)[0]))
    assert_allclose(load([file])[0], expected[0].transpose(2, 0, 1), atol=1e-6)


def test_a_defect_of_the_alpha_channel_alone_changes_the_score(photos):
    X = with_fourth(photos, 255 * (np.arange(20) < 13))
    detector = COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(X[:8])
    changed = X[8:].copy()
    changed[:, 4:9, 4:9, 3] = 0
    assert (detector.score_samples(changed) != detector.score_samples(X[8:])).all()
    assert_array_equal(X[..., :3], photos)


def test_a_band_that_is_no_alpha_is_one_unreadable_image_among_files(photos):
    detector = COFTDetector(TinyNet(), max_iter=0, random_state=0, on_error="nan").fit(photos[:8])
    files = [tiff(with_fourth(photos, photos[..., 0])[8]), tiff(photos[9])]
    with pytest.warns(UserWarning, match="alpha"):
        assert_array_equal(np.isnan(detector.score_samples(files)), [True, False])


def test_files_of_further_bands_are_refused(photos):
    bands = np.concatenate([photos[0], photos[1][..., :2]], axis=-1)
    content = BytesIO()
    tifffile.imwrite(content, bands, photometric="rgb", extrasamples=[0, 0])
    with pytest.raises(ValueError, match="5 bands"):
        load([content.getvalue()])
