"""Data that are not clean: a wrong shot, a wrong calibration image, and what a user is told."""

import warnings

import numpy as np
import pytest
from PIL import Image

from skcoft import COFTDetector
from skcoft._cli import main
from skcoft.datasets import make_plates
from skcoft.report import write_report

PLATES = make_plates(40, 6, size=64, random_state=0).images
BLACK = np.zeros_like(PLATES[:1])


def frozen(**options):
    return COFTDetector("embedded", max_iter=0, random_state=0, **options)


@pytest.fixture(scope="module")
def with_black():
    """A detector that was fitted on seven plates and a black image."""
    with pytest.warns(UserWarning, match=r"far less normal than the others: X\[3\]\. If it shows"):
        return frozen().fit(np.concatenate([PLATES[:3], BLACK, PLATES[3:7]]))


def test_a_wrong_shot_is_named_and_does_not_move_the_threshold(with_black):
    assert with_black.suspect_shots_.tolist() == [3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clean = frozen().fit(PLATES[:8])
    assert clean.suspect_shots_.tolist() == []
    for detector in (clean, with_black):
        assert (detector.predict(PLATES[8:40]) == 1).mean() > 0.75
        assert (detector.predict(PLATES[40:]) == -1).mean() >= 0.5


def test_rows_are_named_and_those_labelled_anomalous_are_passed_over():
    rows = np.random.default_rng(0).normal(size=(20, 4))
    rows[[2, 15]] += 50
    y = np.ones(20)
    y[2] = -1
    with pytest.warns(UserWarning, match=r"the others: .*X\[15\]\."):
        detector = COFTDetector(max_iter=0, random_state=0).fit(rows, y)
    assert detector.suspect_shots_[-1] == 14  # of the 19 training rows
    assert (detector.predict(rows[[2, 15]]) == -1).all()  # neither hides the other


def test_images_of_partial_fit_are_named_by_their_position_in_it():
    detector = frozen().fit(PLATES[:7])
    with pytest.warns(UserWarning, match=r"the others: X\[1\]\."):
        detector.partial_fit(np.concatenate([PLATES[7:8], BLACK]))
    assert detector.suspect_shots_.tolist() == [8]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.partial_fit(PLATES[8:10])  # the user was told before


def test_a_stated_contamination_needs_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = frozen(contamination=0.2).fit(np.concatenate([PLATES[:7], BLACK]))
    assert detector.suspect_shots_.tolist() == [7]


def test_many_names_are_cut():
    rows = np.random.default_rng(0).normal(size=(60, 4))
    rows[50:57] += np.arange(50, 400, 50)[:, None]
    with pytest.warns(UserWarning, match=r"X\[50\], .*X\[54\] and 2 more\. Leave out"):
        COFTDetector(max_iter=0, random_state=0).fit(rows)


def test_a_wrong_calibration_image_is_named():
    detector = frozen().fit(PLATES[:8])
    with pytest.warns(UserWarning, match=r"1 of the 30 images of X .* down to .*: X\[29\]\."):
        detector.set_threshold(np.concatenate([PLATES[8:37], BLACK]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.set_threshold(np.concatenate([PLATES[8:37], BLACK]), max_fpr=0.1)
        detector.set_threshold(PLATES[8:40])


@pytest.fixture
def folder(tmp_path):
    """Seven plates and a black image, as files."""
    for i, image in enumerate(np.concatenate([PLATES[:7], BLACK])):
        Image.fromarray(image).save(tmp_path / f"part{i}.png")
    return tmp_path


def test_the_command_line_names_the_file(folder, tmp_path_factory, capsys):
    model = tmp_path_factory.mktemp("model") / "part.skcoft"
    options = "--backbone", "embedded", "--iterations", "0", "-o", str(model)
    assert main(["fit", str(folder), *options]) == 0
    error = capsys.readouterr().err
    assert "far less normal than the others" in error and "part7.png" in error


def test_the_report_shows_wrong_shots(with_black, tmp_path):
    shots = np.concatenate([PLATES[:3], BLACK, PLATES[3:7]])
    heading = "Training images that may not be normal"
    write_report(with_black, PLATES[8:10], tmp_path / "a.html")
    assert "training image 3" in (tmp_path / "a.html").read_text()
    write_report(with_black, PLATES[8:10], tmp_path / "b.html", shots=shots)
    page = (tmp_path / "b.html").read_text()
    assert f"<h2>{heading}</h2>" in page and 'alt="image 3"' in page
    write_report(frozen().fit(PLATES[:8]), PLATES[8:10], tmp_path / "c.html")
    assert heading not in (tmp_path / "c.html").read_text()


def test_the_report_says_what_other_thresholds_would_detect(tmp_path):
    detector = frozen().fit(PLATES[:8])
    X, y = PLATES[8:], np.r_[np.ones(32), -np.ones(6)]
    scores = detector.score_samples(X)
    write_report(detector, X, tmp_path / "a.html", y=y)
    page = (tmp_path / "a.html").read_text()
    threshold = np.sort(scores[:32])[3]  # of 32 normal images, 3 are 10 %
    n_detected = (scores[32:] < threshold).sum()
    assert "3 of 32 (10%)" in page and f"{n_detected} of 6" in page
    assert "although the scores separate" not in page
    detector.offset_ = scores.min()  # detects nothing
    write_report(detector, X, tmp_path / "b.html", y=y)
    page = (tmp_path / "b.html").read_text()
    assert "detects 0% of the anomalies, although the scores separate" in page
    write_report(detector, X[:30], tmp_path / "c.html", y=y[:30])
    assert "other thresholds" not in (tmp_path / "c.html").read_text()


def test_the_display_of_nearest_shots_marks_them(with_black):
    pytest.importorskip("matplotlib")
    from skcoft.plotting import NearestShotsDisplay

    shots = np.concatenate([PLATES[:3], BLACK, PLATES[3:7]])
    display = NearestShotsDisplay.from_estimator(
        with_black, np.concatenate([BLACK, PLATES[8:9]]), shots, n_neighbors=1
    )
    titles = [axes.get_title() for axes in display.axes_[:, 1]]
    assert titles[0].startswith("shot 3") and titles[0].endswith("\nsuspect")
    assert "suspect" not in titles[1]
