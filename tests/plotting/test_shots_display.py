"""NearestShotsDisplay."""

import numpy as np
import pytest
from conftest import TinyNet
from numpy.testing import assert_array_equal

from skcoft import COFTDetector
from skcoft.plotting import NearestShotsDisplay

plt = pytest.importorskip("matplotlib.pyplot")

BLACK_IMAGES = np.zeros((2, 5, 5))


def pixels(axes):
    (image,) = axes.images
    return np.asarray(image.get_array())


@pytest.fixture(scope="module")
def detector(photos):
    return COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(photos[:5])


def test_shots_are_below_the_images_nearest_first(detector, photos):
    display = NearestShotsDisplay.from_estimator(
        detector, photos[5:8], photos[:5], captions=["a", "b", "c"], name="near"
    )
    distances, indices = detector.kneighbors(photos[5:8], 3)
    assert_array_equal(display.indices, indices)
    assert display.axes_.shape == (3, 4)
    for (above, *below), image, row, nearest in zip(
        display.axes_, photos[5:8], distances, indices, strict=True
    ):
        assert_array_equal(pixels(above), image)
        for axes, distance, index in zip(below, row, nearest, strict=True):
            assert_array_equal(pixels(axes), photos[index])
            number, text = axes.get_title().removeprefix("shot ").split(": ")
            assert int(number) == index and float(text) == pytest.approx(distance, rel=5e-3)
    assert [above.get_title() for above in display.axes_[:, 0]] == ["a", "b", "c"]
    rows = [axes.get_ylabel() for axes in display.axes_[0]]
    assert rows == ["image", "nearest\nshot", "next\nnearest", "next\nnearest"]
    assert display.figure_.get_suptitle() == "near"


def test_precomputed_neighbors(photos):
    display = NearestShotsDisplay.from_predictions(
        photos[:2], photos[2:5], [[0.5], [1]], [[2], [0]]
    )
    assert_array_equal(pixels(display.axes_[0, 1]), photos[4])
    assert_array_equal(pixels(display.axes_[1, 1]), photos[2])
    assert [axes.get_title() for axes in display.axes_[:, 1]] == ["shot 2: 0.500", "shot 0: 1.00"]


def test_shots_must_be_the_training_images_in_their_order(detector, photos):
    updated = COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(photos[:4])
    updated.partial_fit(photos[4:5])
    NearestShotsDisplay.from_estimator(updated, photos[5:6], photos[:5])
    for shots, name in ((photos[:4], "shots "), (photos[[0, 2, 1, 3, 4]], r"shots\[1\]")):
        with pytest.raises(ValueError, match=name):
            NearestShotsDisplay.from_estimator(detector, photos[5:6], shots)


@pytest.mark.parametrize(
    "distances, indices, captions, match",
    [
        ([[0]] * 2, [[0]] * 2, "ab", "captions"),
        ([[0]] * 2, [[0]], None, "n_neighbors"),
        ([[0]] * 2, [[0], [2]], None, "indices"),
    ],
)
def test_invalid_arguments_are_rejected_before_a_figure_is_created(
    distances, indices, captions, match
):
    with pytest.raises(ValueError, match=match):
        NearestShotsDisplay.from_predictions(
            BLACK_IMAGES, BLACK_IMAGES, distances, indices, captions=captions
        )
    assert plt.get_fignums() == []


def test_detectors_of_tabular_data_are_rejected():
    features = np.random.default_rng(0).normal(size=(8, 3))
    fitted = COFTDetector(max_iter=0, random_state=0).fit(features)
    with pytest.raises(ValueError):
        NearestShotsDisplay.from_estimator(fitted, features[:2], features)
