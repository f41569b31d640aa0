"""AnomalyMapDisplay."""

import numpy as np
import pytest
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal

from skcoft import COFTDetector
from skcoft.plotting import AnomalyMapDisplay

plt = pytest.importorskip("matplotlib.pyplot")

BLACK_IMAGES = np.zeros((2, 5, 5))


def pixels(axes):
    (image,) = axes.images
    return np.asarray(image.get_array())


@pytest.fixture(scope="module")
def detector(photos):
    return COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(photos[:5])


def test_maps_are_below_their_images_on_one_scale(detector, photos):
    captions = [f"number {i}" for i in range(7)]
    display = AnomalyMapDisplay.from_estimator(detector, photos[5:], captions=captions, name="all")
    maps = detector.anomaly_map(photos[5:])
    assert display.axes_.shape == (7, 2)
    for (above, below), image, anomaly_map, caption in zip(
        display.axes_, photos[5:], maps, captions, strict=True
    ):
        assert_array_equal(pixels(above), image)
        assert_array_equal(pixels(below), anomaly_map)
        assert below.images[0].get_clim() == (0, max(6, maps.max()))
        assert above.get_title() == caption and below.get_title() == ""
        assert not len(above.get_xticks()) and not len(below.get_yticks())
    assert [axes.images[0] for axes in display.axes_[:, 1]] == display.map_images_
    assert display.colorbar_.mappable is display.map_images_[0]
    assert display.colorbar_.ax.get_ylabel() == "anomaly map"
    assert display.contours_ == [None] * 7
    assert display.figure_.get_suptitle() == "all"
    assert display.figure_ is plt.gcf()


def test_scale_includes_high_values_and_is_pointed_at_ends_with_values_outside():
    image = np.zeros((1, 5, 5))
    anomaly_map = np.linspace(0, 9, 25).reshape(1, 5, 5)
    display = AnomalyMapDisplay.from_predictions(image, anomaly_map)
    assert display.map_images_[0].get_clim() == (0, 9) and display.colorbar_.extend == "neither"
    display.plot(vmin=-1, vmax=5)
    assert display.map_images_[0].get_clim() == (-1, 5) and display.colorbar_.extend == "max"
    assert display.plot(vmin=1, vmax=5).colorbar_.extend == "both"
    assert display.plot(vmin=1).colorbar_.extend == "min"
    low = AnomalyMapDisplay.from_predictions(image, anomaly_map / 9)
    assert low.map_images_[0].get_clim() == (0, 6)


def test_contours_enclose_values_above_the_threshold():
    maps = np.zeros((2, 8, 8))
    maps[0, 2:5, 3:7] = 4
    display = AnomalyMapDisplay.from_predictions(np.zeros((2, 8, 8)), maps, threshold=2)
    assert display.contours_[1] is None
    for axes, contour in zip(display.axes_[0], display.contours_[0], strict=True):
        assert contour.axes is axes and contour.levels.tolist() == [2]
        (path,) = contour.get_paths()
        # halfway between the pixels of 0 and of 4
        assert_allclose(path.vertices.min(axis=0), [2.5, 1.5])
        assert_allclose(path.vertices.max(axis=0), [6.5, 4.5])
    marks = [line.get_ydata()[0] for line in display.colorbar_.ax.lines]
    assert marks == [2]
    assert AnomalyMapDisplay.from_predictions(maps / 4, maps, threshold=9).contours_ == [None] * 2


def test_threshold_auto_is_that_of_the_detector(detector, photos):
    auto = AnomalyMapDisplay.from_estimator(detector, photos[5:], threshold="auto", vmax=100)
    (mark,) = auto.colorbar_.ax.lines
    assert mark.get_ydata()[0] == detector.map_threshold_
    with pytest.raises(ValueError):
        AnomalyMapDisplay.from_estimator(detector, photos[5:], threshold="best")


@pytest.mark.parametrize(
    "maps, options, match",
    [
        (BLACK_IMAGES[:1], {}, "^maps "),
        (BLACK_IMAGES[:, :3], {}, r"^maps\[0\]"),
        ([BLACK_IMAGES[0], BLACK_IMAGES[0] + np.nan], {}, r"^maps\[1\]"),
        (BLACK_IMAGES, {"captions": ["a"]}, "captions"),
        (BLACK_IMAGES, {"vmin": 3, "vmax": 2}, "vmin"),
        (BLACK_IMAGES, {"threshold": np.nan}, "threshold"),
        (BLACK_IMAGES, {"n_cols": 0}, "n_cols"),
    ],
)
def test_invalid_arguments_are_rejected_before_a_figure_is_created(maps, options, match):
    with pytest.raises(ValueError, match=match):
        AnomalyMapDisplay.from_predictions(BLACK_IMAGES, maps, **options)
    assert plt.get_fignums() == []


def test_detectors_without_maps_are_rejected(photos):
    features = np.random.default_rng(0).normal(size=(8, 3))
    for X in (photos, features):
        fitted = COFTDetector(TinyNet(), local=False, max_iter=0, random_state=0).fit(X[:5])
        with pytest.raises(ValueError, match="anomaly_map"):
            AnomalyMapDisplay.from_estimator(fitted, X[5:])
