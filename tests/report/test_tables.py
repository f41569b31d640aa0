"""Scores of many images, some of them unreadable, and the CSV files and maps of them."""

import csv
import json
import warnings
from copy import copy
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.exceptions import NotFittedError

from skcoft import COFTDetector
from skcoft.report import _tables, score_images, write_maps, write_scores
from skcoft.report._training_images import check_shots


@pytest.fixture
def mixed(plate_folder, tmp_path):
    """Paths: a normal image, a missing file, a truncated one, a text file, an anomaly."""
    normal = plate_folder / "test/good/06.png"
    truncated, text = tmp_path / "cut.png", tmp_path / "text.png"
    truncated.write_bytes(normal.read_bytes()[:2000])
    text.write_text("no image")
    anomaly = plate_folder / "test/missing_hole/15.png"
    return [str(path) for path in (normal, tmp_path / "none.png", truncated, text, anomaly)]


def test_results_equal_those_of_the_detector(inspector, plates):
    X = plates.images[6:]
    results = score_images(inspector, X)
    assert_array_equal(results.scores, inspector.score_samples(X))
    assert_array_equal(results.decisions, inspector.decision_function(X))
    assert_array_equal(results.pvalues, inspector.predict_pvalue(X))
    assert_array_equal(results.labels, inspector.predict(X))
    assert results.errors.tolist() == [""] * 12
    assert set(results.labels) == {-1, 1}


def test_unreadable_images_do_not_stop_the_others(inspector, mixed):
    results = score_images(inspector, mixed)
    readable = [0, 4]
    assert_array_equal(results.scores[readable], inspector.score_samples([mixed[0], mixed[4]]))
    assert_array_equal(np.isnan(results.scores), [False, True, True, True, False])
    assert_array_equal(np.isnan(results.decisions), np.isnan(results.scores))
    assert_array_equal(np.isnan(results.pvalues), np.isnan(results.scores))
    assert results.labels.tolist() == [1, -1, -1, -1, -1]
    assert results.errors[0] == results.errors[4] == ""
    for i, file in ((1, "none.png"), (2, "cut.png"), (3, "text.png")):
        assert file in results.errors[i]


def test_chunks_of_a_collection_are_concatenated(inspector, plates, monkeypatch):
    whole = score_images(inspector, list(plates.images[6:11]))
    monkeypatch.setattr(_tables, "SCORING_CHUNK_SIZE", 2)
    chunked = score_images(inspector, iter([*plates.images[6:11], b"no image"]))
    assert_array_equal(chunked.scores[:5], whole.scores)
    assert "X[5]" in chunked.errors[5]  # its index in X, not in its chunk


def test_error_if_no_image_can_be_scored(inspector):
    for X, name in ((["a.png", "b.png"], "'a.png'"), ([], "^X ")):
        with pytest.raises(ValueError, match=name):
            score_images(inspector, X)
    with pytest.raises(NotFittedError):
        score_images(COFTDetector(), ["a.png"])


def read_name(cell):
    return json.loads(cell) if cell.startswith('"') else cell


def test_csv_file_keeps_names_and_numbers_exactly(inspector, mixed, tmp_path):
    results = score_images(inspector, mixed)
    names = ["a.png", 'with "quotes", comma', "zeilen\numbruch", "\udcff.png", "ä.png"]
    write_scores(results, tmp_path / "scores.csv", names)
    with open(tmp_path / "scores.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    assert list(rows[0]) == ["path", "score", "decision", "p_value", "label", "error"]
    assert [read_name(row["path"]) for row in rows] == names
    for i in (0, 4):
        assert float(rows[i]["score"]) == results.scores[i]
        assert float(rows[i]["decision"]) == results.decisions[i]
        assert float(rows[i]["p_value"]) == results.pvalues[i]
    for i in (1, 2, 3):
        assert rows[i]["score"] == rows[i]["decision"] == rows[i]["p_value"] == ""
        assert rows[i]["error"] == results.errors[i]
    assert [row["label"] for row in rows] == ["1", "-1", "-1", "-1", "-1"]


def test_csv_file_is_replaced_only_when_complete(inspector, plates, tmp_path):
    results, path = score_images(inspector, plates.images[6:8]), tmp_path / "scores.csv"
    path.write_text("before")
    with pytest.raises(ValueError):
        write_scores(results, path, ["a"])
    assert path.read_text() == "before"
    write_scores(results, path, ["a", "b"])
    assert len(path.read_text().splitlines()) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["scores.csv"]


def test_maps_are_grayscale_images_on_one_scale(inspector, plates, tmp_path, monkeypatch):
    monkeypatch.setattr(_tables, "MAPS_CHUNK_SIZE", 2)
    X = plates.images[[6, 15, 12]]
    write_maps(inspector, X, tmp_path / "maps", ["good/6.png", "bad/15.jpg", "12.PNG"])
    files = [tmp_path / "maps" / name for name in ("good/6.png", "bad/15.jpg.png", "12.PNG")]
    maps = inspector.anomaly_map(X)
    for file, anomaly_map in zip(files, maps, strict=True):
        with Image.open(file) as image:
            assert image.mode == "L" and image.format == "PNG"
            gray = np.asarray(image).astype(float)
        assert_array_equal(gray, np.round(np.clip(anomaly_map, 0, 6) * 255 / 6))
        assert anomaly_map.max() < 6 or gray.max() == 255
    assert maps.max() > 6


def test_errors_do_not_depend_on_the_on_error_parameter(inspector, mixed):
    tolerant = copy(inspector).set_params(on_error="nan")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = score_images(tolerant, mixed)
    assert tolerant.on_error == "nan"
    assert_array_equal(results.errors, score_images(inspector, mixed).errors)


def test_a_collection_that_is_invalid_as_a_whole_raises_an_error(inspector, plates):
    """If the range of all values is wrong, no image is skipped."""
    tolerant, X = copy(inspector).set_params(on_error="nan"), [*plates.images[:3] * 2.0]
    for score in (tolerant.score_samples, lambda X: score_images(inspector, X)):
        with pytest.raises(ValueError, match=r"X\[0\]"):
            score(X)


def test_images_that_cannot_be_read_together_are_scored_alone(inspector, plates):
    tolerant, X = copy(inspector).set_params(on_error="nan"), [*plates.images[6:8]]
    X.append(X[0][..., 0])  # grayscale
    expected = [inspector.score_samples([image])[0] for image in X]
    for scores in (tolerant.score_samples(X), score_images(inspector, X).scores):
        assert_allclose(scores, expected, rtol=1e-6)
    with pytest.raises(ValueError):
        inspector.score_samples(X)


@pytest.mark.parametrize("distance, accepted", [(0.04, True), (0.06, False)])
def test_shots_are_recognised_by_their_embeddings(inspector, plates, distance, accepted):
    """Small differences are accepted, because devices and re-encoded files cause them."""
    shots, embeddings = plates.images[:6], inspector.embeddings_.copy()
    embeddings[2, 0] += distance
    moved = SimpleNamespace(embeddings_=embeddings, embed=inspector.embed)
    if accepted:
        check_shots(moved, shots)
    else:
        with pytest.raises(ValueError, match=r"shots\[2\]"):
            check_shots(moved, shots)


@pytest.mark.parametrize(
    "names",
    [
        ["a", "b", "a"],
        ["a", "b.png", "b"],
        ["", "a", "b"],
        ["../a.png"],
        ["/a.png"],
        ["b/../../a.png"],
    ],
)
def test_names_of_maps_must_be_unique_and_lie_in_the_folder(inspector, plates, names, tmp_path):
    with pytest.raises(ValueError, match="names"):
        write_maps(inspector, plates.images[6 : 6 + len(names)], tmp_path / "maps", names)
    assert not list(tmp_path.iterdir())
