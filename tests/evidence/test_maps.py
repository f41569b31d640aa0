"""Regions of maps, and the level of maps that unseen normal images seldom pass."""

import csv

import numpy as np
import pytest
from conftest import TinyNet
from golden import stripes
from numpy.testing import assert_allclose, assert_array_equal

from skcoft import COFTDetector
from skcoft._evidence.limits import lower_limit
from skcoft._evidence.maps import regions_from_map
from skcoft._evidence.threshold import conformal_offset
from skcoft._network.support import MIRROR, SHOT
from skcoft.report import write_regions


@pytest.fixture(scope="module")
def normal():
    """A detector of striped tiles, for reading only."""
    return COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(stripes(8, seed=0))


def test_regions_are_connected_pixels_above_the_threshold():
    drawn = np.zeros((6, 7))
    drawn[0, 0], drawn[1, 1], drawn[1, 2] = 3, 4, 2  # over a corner
    drawn[3:5, 4:7], drawn[4, 5] = 9, np.nan
    drawn[0, 5] = 1.5  # not above it
    first, second = regions_from_map(drawn, 1.5)
    assert (first.box, first.area, first.peak, first.mean) == ((3, 4, 5, 7), 5, 9.0, 9.0)
    assert first.mask.tolist() == [[True, True, True], [True, False, True]]
    assert (second.box, second.area, second.peak, second.mean) == ((0, 0, 2, 3), 3, 4.0, 3.0)
    assert second.mask.tolist() == [[True, False, False], [False, True, True]]
    assert set(first) == {"box", "area", "peak", "mean", "mask"}
    assert regions_from_map(drawn, 9) == []


def test_of_regions_that_interlock_each_has_its_own_pixels():
    drawn = np.array([[2, 2, 2, 2], [2, 0, 0, 0], [2, 0, 5, 0], [2, 0, 0, 0]], dtype=float)
    dot, frame = regions_from_map(drawn, 1)
    assert dot.box == (2, 2, 3, 3) and frame.box == (0, 0, 4, 4)
    assert (frame.area, frame.mask[2, 2]) == (7, False)


def test_defects_are_found_and_few_normal_images_have_any(inspector, plates):
    found = inspector.find_regions(plates.images[6:])
    assert sum(map(bool, found[:6])) <= 1
    hits = 0
    drawn = inspector.anomaly_map(plates.images[12:])
    for regions, mask, one in zip(found[6:], plates.masks[12:], drawn, strict=True):
        seen = np.zeros(mask.shape, dtype=bool)
        for region in regions:
            top, left, bottom, right = region.box
            seen[top:bottom, left:right] |= region.mask
        assert_array_equal(seen, one > inspector.map_threshold_)
        hits += (seen & mask.astype(bool)).any()
    assert hits >= 3


def test_a_threshold_of_one_s_own_and_images_of_any_sizes(normal):
    dark = stripes(2, seed=1)
    dark[:, 10:20, 20:30] = 20
    X = [dark[0], dark[1][:, 8:], stripes(1, seed=2)[0]]
    maps = normal.anomaly_map(X)
    for threshold in (1, np.float32(2.5)):
        found = normal.find_regions(iter(X), threshold=threshold)
        assert [sum(r.area for r in regions) for regions in found] == [
            (drawn > threshold).sum() for drawn in maps
        ]
    assert normal.find_regions(X[:1], threshold=99) == [[]]


def test_the_level_is_the_limit_of_held_out_peaks():
    """Of shots alone, each held out: the upper end of the interval that scores have as well."""
    X = stripes(8, seed=0)
    fitted = COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(X)
    part = fitted._model.joint.components[0, "patch"]
    support = fitted._model.joint.backbone_scores[0].support
    roles = support.roles[support.is_calibration]
    assert set(roles) == {SHOT, MIRROR} and len(part.held_out_minima) == 16
    peaks = (
        part.held_out_scores.mean() - part.held_out_minima[roles == SHOT]
    ) / part.held_out_scores.std()
    assert_allclose(fitted.map_threshold_, -lower_limit(-peaks, []))
    assert fitted.map_threshold_ > np.median(peaks)
    fitted.partial_fit(stripes(4, seed=3))
    again = (
        part.held_out_scores.mean(),
        len(fitted._model.joint.components[0, "patch"].held_out_minima),
    )
    assert again[1] == 24 and np.isfinite(fitted.map_threshold_)


def test_peaks_of_several_scales_are_no_less_than_those_of_the_map(inspector, plates):
    joint, inputs = inspector._model.joint, inspector._read(plates.images)
    peaks = joint.map_maxima(inspector._model.summarize(inputs))
    drawn = inspector.anomaly_map(plates.images).max(axis=(1, 2))
    assert (peaks >= drawn - 1e-9).all()
    assert_allclose(peaks, drawn, atol=5)
    scales = [joint.components[i, "patch"] for i in (0, 1)]
    full, half = (
        (p.held_out_scores.mean() - p.held_out_minima) / p.held_out_scores.std() for p in scales
    )
    assert_allclose(joint.held_out_map_maxima(), 0.8 * full + 0.2 * half)


@pytest.mark.parametrize("n", [1, 2])
def test_of_too_few_shots_it_is_the_highest_peak(n):
    with pytest.warns(UserWarning) as caught:
        fitted = COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(stripes(n, seed=0))
    assert len(caught) == 1
    roles = fitted._model.joint.backbone_scores[0].support.roles
    peaks = fitted._model.joint.held_out_map_maxima()[roles != MIRROR]
    assert fitted.map_threshold_ == peaks.max()


def test_set_threshold_sets_that_of_maps_as_well(normal):
    X = stripes(25, seed=4)
    calibrated = COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(stripes(8, seed=0))
    calibrated.set_threshold(X, max_fpr=0.2)
    joint, drawing = normal._model.joint, normal._model.joint.map_components()
    methods = {key: part.log_maps for key, part in drawing.items()}
    grids = joint.maps(joint.summarize(normal._read(X), methods))
    peaks = np.array([drawn.max() for drawn in grids])
    assert_allclose(calibrated.map_threshold_, -conformal_offset(-peaks, 0.2))
    assert sum(peaks > calibrated.map_threshold_) == 4  # floor(0.2 * 26) - 1
    assert 1 <= sum(map(bool, calibrated.find_regions(X))) <= 4  # enlarging lowers peaks
    assert calibrated.map_threshold_ != normal.map_threshold_
    with pytest.warns(UserWarning):
        calibrated.partial_fit(stripes(1, seed=5))
    automatic = COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(stripes(8, seed=0))
    assert calibrated.map_threshold_ == automatic.partial_fit(stripes(1, seed=5)).map_threshold_


def test_a_share_of_the_shots_is_no_matter_of_maps(normal):
    other = COFTDetector(TinyNet(), max_iter=0, random_state=0, contamination=0.5)
    assert other.fit(stripes(8, seed=0)).map_threshold_ == normal.map_threshold_


def test_errors(normal):
    whole = COFTDetector(TinyNet(), local=False, max_iter=0, random_state=0)
    whole.fit(stripes(3, seed=0))
    assert whole.map_threshold_ is None
    wrong = [(normal, threshold, "threshold") for threshold in ("high", np.nan, True)]
    for detector, threshold, argument in [*wrong, (whole, None, "local")]:
        with pytest.raises(ValueError, match=argument):
            detector.find_regions(stripes(2, seed=0), threshold=threshold)
    rows = COFTDetector(max_iter=0, random_state=0).fit(np.random.default_rng(0).random((8, 3)))
    rows.set_threshold(np.random.default_rng(1).random((20, 3)))
    assert rows.map_threshold_ is None


def test_a_model_file_keeps_the_level(normal, tmp_path):
    small = COFTDetector("embedded", image_size=32, max_iter=0, random_state=0)
    small.fit(stripes(4, seed=0)).save(tmp_path / "m.skcoft")
    again = COFTDetector.load(tmp_path / "m.skcoft")
    assert again.map_threshold_ == small.map_threshold_
    assert again.partial_fit(stripes(2, seed=1)).map_threshold_ == (
        small.partial_fit(stripes(2, seed=1)).map_threshold_
    )


def test_a_table_of_regions(inspector, plates, tmp_path):
    path, X = tmp_path / "regions.csv", plates.images[[6, 12, 13]]
    write_regions(inspector, X, path, ["a.png", 'b "x".png', "c.png"], threshold=2)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "top", "left", "bottom", "right", "area", "peak", "mean"]
    expected = [
        [name, *r.box, r.area, r.peak, r.mean]
        for name, found in zip(
            ["a.png", 'b "x".png', "c.png"], inspector.find_regions(X, threshold=2), strict=True
        )
        for r in found
    ]
    assert [[row["path"], *(float(v) for v in [*row.values()][1:])] for row in rows] == expected
    with pytest.raises(ValueError, match="names"):
        write_regions(inspector, X, path, ["a"])
    assert len(path.read_text().splitlines()) == 1 + len(rows)


def test_a_display_draws_lines_around_regions(inspector, plates):
    pytest.importorskip("matplotlib").use("agg")
    from skcoft.plotting import AnomalyMapDisplay

    X = plates.images[[6, 12, 13, 14]]
    display = AnomalyMapDisplay.from_estimator(inspector, X, threshold="auto", vmax=99)
    (mark,) = display.colorbar_.ax.lines
    assert mark.get_ydata()[0] == inspector.map_threshold_
    drawn = [contour is not None for contour in display.contours_]
    assert drawn == [bool(found) for found in inspector.find_regions(X)]
    assert True in drawn and False in drawn
    with pytest.raises(ValueError, match="threshold"):
        display.plot(threshold="auto")
