"""Scores of many images, some of which cannot be read; tables and maps of them."""

import csv
import warnings
from copy import copy

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.exceptions import NotFittedError

from skcoft import COFTDetector
from skcoft.report import _tables as _scoring
from skcoft.report import score_images, write_maps, write_scores
from skcoft.report._training_images import check_shots


@pytest.fixture
def mixed(plate_folder, tmp_path):
    """Paths: a normal image, a missing one, one that is cut off, a text, an anomaly."""
    good = plate_folder / "test/good/06.png"
    cut, text = tmp_path / "cut.png", tmp_path / "text.png"
    cut.write_bytes(good.read_bytes()[:2000])
    text.write_text("no image")
    bad = plate_folder / "test/missing_hole/15.png"
    return [str(path) for path in (good, tmp_path / "none.png", cut, text, bad)]


def test_numbers_are_the_detectors_own(inspector, plates):
    X = plates.images[6:]
    found = score_images(inspector, X)
    assert_array_equal(found.scores, inspector.score_samples(X))
    assert_array_equal(found.decisions, inspector.decision_function(X))
    assert_array_equal(found.pvalues, inspector.predict_pvalue(X))
    assert_array_equal(found.labels, inspector.predict(X))
    assert found.errors.tolist() == [""] * 12
    assert set(found.labels) == {-1, 1}


def test_what_cannot_be_read_does_not_stop_the_others(inspector, mixed):
    found = score_images(inspector, mixed)
    read = [0, 4]
    assert_array_equal(found.scores[read], inspector.score_samples([mixed[0], mixed[4]]))
    assert_array_equal(np.isnan(found.scores), [False, True, True, True, False])
    assert_array_equal(np.isnan(found.decisions), np.isnan(found.scores))
    assert_array_equal(np.isnan(found.pvalues), np.isnan(found.scores))
    assert found.labels.tolist() == [1, -1, -1, -1, -1]
    assert found.errors[0] == found.errors[4] == ""
    assert "none.png' does not exist" in found.errors[1]
    assert "Cannot decode" in found.errors[2] and "cut.png" in found.errors[2]
    assert "Cannot read" in found.errors[3] and "text.png" in found.errors[3]


def test_pieces_of_a_collection_are_put_together(inspector, plates, monkeypatch):
    whole = score_images(inspector, list(plates.images[6:11]))
    monkeypatch.setattr(_scoring, "AT_ONCE", 2)
    pieces = score_images(inspector, iter([*plates.images[6:11], b"no image"]))
    assert_array_equal(pieces.scores[:5], whole.scores)
    assert pieces.errors[5].startswith("Cannot read X[5] as an image")  # by its own number


def test_when_nothing_can_be_scored_the_reason_is_told(inspector):
    with pytest.raises(ValueError, match="None of the 2 images can be scored. Image file 'a.png'"):
        score_images(inspector, ["a.png", "b.png"])
    with pytest.raises(ValueError, match="X is empty"):
        score_images(inspector, [])
    with pytest.raises(NotFittedError):
        score_images(COFTDetector(), ["a.png"])


def test_a_table_loses_nothing(inspector, mixed, tmp_path):
    found = score_images(inspector, mixed)
    names = ["a.png", 'with "quotes", comma', "zeilen\numbruch", "\udcff.png", "ä.png"]
    write_scores(found, tmp_path / "scores.csv", names)
    with open(
        tmp_path / "scores.csv", encoding="utf-8", errors="surrogateescape", newline=""
    ) as f:
        rows = list(csv.DictReader(f))
    assert list(rows[0]) == ["path", "score", "decision", "p_value", "label", "error"]
    assert [row["path"] for row in rows] == names
    for i in (0, 4):
        assert float(rows[i]["score"]) == found.scores[i]
        assert float(rows[i]["decision"]) == found.decisions[i]
        assert float(rows[i]["p_value"]) == found.pvalues[i]
    for i in (1, 2, 3):
        assert rows[i]["score"] == rows[i]["decision"] == rows[i]["p_value"] == ""
        assert rows[i]["error"] == found.errors[i]
    assert [row["label"] for row in rows] == ["1", "-1", "-1", "-1", "-1"]


def test_a_table_replaces_another_as_a_whole(inspector, plates, tmp_path):
    found, path = score_images(inspector, plates.images[6:8]), tmp_path / "scores.csv"
    path.write_text("before")
    with pytest.raises(ValueError, match="names must have one name for each image: 2; got 1"):
        write_scores(found, path, ["a"])
    assert path.read_text() == "before"
    write_scores(found, path, ["a", "b"])
    assert len(path.read_text().splitlines()) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["scores.csv"]


def test_maps_are_gray_images_on_one_scale(inspector, plates, tmp_path, monkeypatch):
    monkeypatch.setattr(_scoring, "MAPS_AT_ONCE", 2)
    X = plates.images[[6, 15, 12]]
    write_maps(inspector, X, tmp_path / "maps", ["good/6.png", "bad/15.jpg", "12.PNG"])
    files = [tmp_path / "maps" / name for name in ("good/6.png", "bad/15.jpg.png", "12.PNG")]
    for file, drawn in zip(files, inspector.anomaly_map(X), strict=True):
        with Image.open(file) as image:
            assert image.mode == "L" and image.format == "PNG"
            gray = np.asarray(image).astype(float)
        assert_array_equal(gray, np.round(np.clip(drawn, 0, 6) * 255 / 6))
        assert drawn.max() < 6 or gray.max() == 255
    assert max(np.max(drawn) for drawn in inspector.anomaly_map(X)) > 6


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "b/../../a.png"])
def test_maps_stay_in_their_folder(inspector, plates, tmp_path, name):
    with pytest.raises(ValueError, match="names must be relative paths in the folder"):
        write_maps(inspector, plates.images[:1], tmp_path / "maps", [name])
    assert not list(tmp_path.iterdir())


def test_a_detector_that_tolerates_says_what_is_wrong_too(inspector, mixed):
    tolerant = copy(inspector).set_params(on_error="nan")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score_images(tolerant, mixed)
    assert tolerant.on_error == "nan"
    assert_array_equal(found.errors, score_images(inspector, mixed).errors)


def test_what_is_wrong_with_a_collection_is_an_error_in_either_way(inspector, plates):
    """Its channels, or all of its values; not what is wrong with some of its images."""
    tolerant, images = copy(inspector).set_params(on_error="nan"), [*plates.images[:3]]
    for X, message in (
        ([*images, images[0][..., 0]], "must have the same number of channels"),
        ([image * 2.0 for image in images], r"X\[0\] holds float values"),
    ):
        for score in (tolerant.score_samples, lambda X: score_images(inspector, X)):
            with pytest.raises(ValueError, match=message):
                score(X)


@pytest.mark.parametrize("far, fine", [(0.04, True), (0.06, False)])
def test_images_are_the_shots_where_their_embeddings_are_near(inspector, plates, far, fine):
    """In a report as in a picture: devices, and files saved anew, differ by a little."""
    moved, shots = copy(inspector), plates.images[:6]
    moved.embeddings_ = inspector.embeddings_.copy()
    moved.embeddings_[2, 0] += far
    if fine:
        check_shots(moved, shots)
    else:
        with pytest.raises(ValueError, match=r"in their order; 1 of 6 .*shots\[2\] first"):
            check_shots(moved, shots)


@pytest.mark.parametrize(
    "names, message",
    [
        (["a", "b", "a"], "names must differ, each map is a file; several give .*a.png'"),
        (["a", "b.png", "b"], "several give .*b.png'"),
        (["", "a", "b"], "names must be relative paths in the folder; got ''"),
    ],
)
def test_no_map_takes_the_place_of_another(inspector, plates, names, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_maps(inspector, plates.images[6:9], tmp_path / "maps", names)
    assert not list(tmp_path.iterdir())
