"""How displays read images."""

import numpy as np
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from skcoft import COFTDetector
from skcoft.plotting import AnomalyMapDisplay, NearestShotsDisplay

pytest.importorskip("matplotlib")


def pixels(axes):
    (image,) = axes.images
    return np.asarray(image.get_array())


@pytest.mark.parametrize(
    "form", ["paths", "pil", "generator", "floats", "tensor", "gray", "flattened"]
)
def test_images_are_plotted_as_the_detector_reads_them(form, photos, tmp_path):
    X, expected, image_shape = photos, photos, None
    if form == "paths":
        X = [tmp_path / f"{i}.png" for i in range(12)]
        for path, image in zip(X, photos, strict=True):
            Image.fromarray(image).save(path)
    elif form == "pil":
        X = [Image.fromarray(image) for image in photos]
    elif form == "tensor":
        X = torch.from_numpy(photos).permute(0, 3, 1, 2)
    elif form == "flattened":
        X, image_shape = photos.reshape(12, -1), (24, 20, 3)
    elif form == "floats":
        X = photos / 255
    elif form == "gray":
        X = photos[..., 0]
        expected = np.repeat(X[..., None], 3, axis=-1)
    detector = COFTDetector(TinyNet(), max_iter=0, image_shape=image_shape, random_state=0)
    detector.fit(X[:5])
    test_images = iter(X[5:]) if form == "generator" else X[5:]
    display = AnomalyMapDisplay.from_estimator(detector, test_images)
    assert_array_equal([pixels(axes) for axes in display.axes_[:, 0]], expected[5:])
    maps = detector.anomaly_map(X[5:])
    assert_array_equal([pixels(axes) for axes in display.axes_[:, 1]], maps)


def test_images_of_different_sizes(photos):
    maps = [np.ones((24, 20)), np.zeros((16, 20))]
    display = AnomalyMapDisplay.from_predictions([photos[0], photos[1, :16]], maps)
    assert [pixels(axes).shape for axes in display.axes_[:, 0]] == [(24, 20, 3), (16, 20, 3)]


def test_images_of_more_than_8_bits(photos):
    images = photos[..., 0].astype(np.uint16) * 16  # 12 bits
    display = AnomalyMapDisplay.from_predictions(images[:1], [np.ones((24, 20))], bit_depth=12)
    assert_allclose(pixels(display.axes_[0, 0])[..., 0], images[0] / 4095 * 255, atol=0.51)
    fitted = COFTDetector(TinyNet(), max_iter=0, bit_depth=13, random_state=0).fit(images[:5])
    display = AnomalyMapDisplay.from_estimator(fitted, images[5:6])
    assert_allclose(pixels(display.axes_[0, 0])[..., 0], images[5] / 8191 * 255, atol=0.51)


def test_errors_name_the_argument_that_cannot_be_read():
    images = np.zeros((2, 5, 5))
    for display, arguments, name in (
        (AnomalyMapDisplay, (images[0, :2], images), "images"),
        (NearestShotsDisplay, (images, images + 2, [[0]], [[0]]), "shots"),
    ):
        with pytest.raises(ValueError, match=f"Cannot read {name} "):
            display.from_predictions(*arguments)
