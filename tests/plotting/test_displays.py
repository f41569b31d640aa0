"""What holds for all displays."""

import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TinyNet
from numpy.testing import assert_array_equal
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skcoft import COFTDetector, plotting
from skcoft.plotting import AnomalyMapDisplay, NearestShotsDisplay, ScoreDisplay, TrainingDisplay

matplotlib = pytest.importorskip("matplotlib")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.colors import same_color, to_hex  # noqa: E402

LABELS = np.repeat([1, -1], [4, 3])
OKABE_ITO = "#E69F00 #56B4E9 #009E73 #F0E442 #0072B2 #D55E00 #CC79A7 #000000 #767676".lower()


@pytest.fixture(scope="module")
def detector(photos):
    return COFTDetector(TinyNet(), max_iter=2, random_state=0).fit(photos[:5])


def draw_all(detector, images):
    return [
        AnomalyMapDisplay.from_estimator(detector, images[5:]),
        NearestShotsDisplay.from_estimator(detector, images[5:], images[:5]),
        ScoreDisplay.from_estimator(detector, images[5:], LABELS),
        TrainingDisplay.from_estimator(detector),
    ]


def test_colours_are_colour_blind_safe(detector, photos):
    display = ScoreDisplay.from_estimator(detector, photos[5:], LABELS)
    styles = [(points.get_color(), points.get_marker()) for points in display.points_.values()]
    assert len(set(styles)) == len({marker for _, marker in styles}) == 3
    assert all(to_hex(color) in OKABE_ITO for color, _ in styles)
    assert same_color(display.pvalue_line_.get_color(), display.pvalue_ax_.yaxis.label.get_color())
    map_image = AnomalyMapDisplay.from_estimator(detector, photos[5:]).map_images_[0]
    lightness = map_image.get_cmap()(np.linspace(0, 1, 64))[:, :3] @ [0.299, 0.587, 0.114]
    assert np.all(np.diff(lightness) > 0)  # readable in grayscale


def test_inputs_and_settings_of_matplotlib_are_unchanged(detector, photos):
    images, settings = photos.copy(), dict(matplotlib.rcParams)
    draw_all(detector, photos)
    assert_array_equal(photos, images)
    assert dict(matplotlib.rcParams) == settings


def test_displays_can_be_pickled_with_their_plots(detector, photos):
    for display in draw_all(detector, photos):
        content = pickle.dumps(display)
        plt.close("all")
        loaded = pickle.loads(content)
        assert loaded.figure_ is not display.figure_
        assert len(loaded.figure_.axes) == len(display.figure_.axes)
        loaded.figure_.draw_without_rendering()
        plt.close("all")
        assert len(loaded.plot().figure_.axes) == len(display.figure_.axes)
        plt.close("all")


def test_matplotlib_is_imported_on_use(monkeypatch, detector):
    for path in Path(plotting.__file__).parent.glob("*.py"):
        assert not re.search(r"^(import|from) matplotlib", path.read_text(), re.M), path
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for draw in (
        lambda: AnomalyMapDisplay.from_estimator(detector, "not read"),
        lambda: NearestShotsDisplay.from_predictions("not read", "not read", 0, 0),
        lambda: ScoreDisplay.from_predictions([1.0]),
        lambda: TrainingDisplay(histories=[{"loss": [1.0]}]).plot(),
    ):
        with pytest.raises(ImportError, match=r"skcoft\[plot\]"):
            draw()


@pytest.mark.parametrize(
    "display", [AnomalyMapDisplay, NearestShotsDisplay, ScoreDisplay, TrainingDisplay]
)
def test_unfitted_and_other_estimators_are_rejected(display, photos):
    images = {TrainingDisplay: [], NearestShotsDisplay: [photos, photos]}.get(display, [photos])
    for unfitted in (COFTDetector(), make_pipeline(COFTDetector())):
        with pytest.raises(NotFittedError):
            display.from_estimator(unfitted, *images)
    with pytest.raises(TypeError):
        display.from_estimator(KMeans(), *images)
