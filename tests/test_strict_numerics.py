"""Every public method with NumPy's errors raised and with warnings as errors."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from golden import ROWS, stripes

from skcoft import COFTDetector, COFTEmbedder
from skcoft.datasets import make_plates
from skcoft.density import GaussianDensity, KernelDensity
from skcoft.plotting import AnomalyMapDisplay, NearestShotsDisplay, ScoreDisplay, TrainingDisplay
from skcoft.report import write_report

DENSITIES = ["kde", "gaussian", KernelDensity("loo"), KernelDensity(0.01)]
TILES = stripes(12, seed=0)
FAR_TILES = np.concatenate([TILES[8:], np.zeros_like(TILES[:1]), np.full_like(TILES[:1], 255)])
FAR_ROWS = np.r_[ROWS[8:], 1e6 * ROWS[:1], np.zeros((1, 5))]


@pytest.fixture(autouse=True)
def strict():
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*far less normal than the others")  # on purpose
        yield
    plt.close("all")


@pytest.mark.parametrize("density", DENSITIES, ids=str)
@pytest.mark.parametrize("kind", ["images", "rows"])
def test_all_methods(kind, density, tmp_path):
    images = {"backbone": "test_efficientnet", "weights": None, "max_pixels": 1024}
    X, far, params = (TILES, FAR_TILES, images) if kind == "images" else (ROWS, FAR_ROWS, {})
    params |= {"max_iter": 2, "random_state": 0, "density": ["kde", density]}
    detector = COFTDetector(**params).fit(X[:7])
    scores = detector.score_samples(far)
    assert np.isfinite(scores).all()
    assert detector.predict(far)[-2] == -1
    y = [1] * 4 + [-1] * (len(far) - 4)
    assert 0 <= detector.score(far, y) <= 1
    for method in ("predict_pvalue", "embed", "kneighbors"):
        getattr(detector, method)(far)
    detector.tune_threshold(far, y).set_threshold(X[8:12], max_fpr=0.3)
    COFTDetector(**params).fit_predict(X[:8])
    COFTDetector(**params).fit(X[:7]).partial_fit(X[7:8])
    detector.save(tmp_path / "wall.skcoft")
    again = COFTDetector.load(tmp_path / "wall.skcoft").score_samples(far)
    np.testing.assert_array_equal(again, scores)
    if kind == "images":
        assert np.isfinite(detector.anomaly_map(far)).all()
        detector.find_regions(far)


def test_reports_and_displays(tmp_path):
    plates = make_plates(8, 4, size=64, random_state=0)
    detector = COFTDetector("embedded", max_iter=1, image_size=64, random_state=0)
    detector.fit(plates.images[:6])
    X = plates.images[6:]
    write_report(detector, X, tmp_path / "report.html")
    AnomalyMapDisplay.from_estimator(detector, X)
    NearestShotsDisplay.from_estimator(detector, X, shots=plates.images[:6])
    ScoreDisplay.from_estimator(detector, X)
    TrainingDisplay.from_estimator(detector)


@pytest.mark.parametrize("density", [GaussianDensity(), *DENSITIES[2:]], ids=str)
def test_densities_of_far_and_of_equal_rows(density):
    density.fit(ROWS[:8])
    assert np.isfinite(density.score_samples(FAR_ROWS)).all()
    assert np.isfinite(density.score(FAR_ROWS))
    equal = np.ones((4, 3))
    assert np.isfinite(density.fit(equal).score_samples(np.r_[equal, 9 * equal])).all()


def test_the_embedder():
    assert np.isfinite(COFTEmbedder(max_iter=2).fit(ROWS[:8]).transform(FAR_ROWS)).all()
