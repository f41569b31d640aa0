"""Samples of several images, such as colour and depth: what X may be, and what follows."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score

from skcoft import COFTDetector, COFTEmbedder
from skcoft._evidence.joint_score import JointScore
from skcoft._input import images as images
from skcoft._input.decode import values_of
from skcoft.datasets import make_plates
from skcoft.model_selection import LabelFreeScorer, OneClassShuffleSplit
from skcoft.plotting import (
    AnomalyMapDisplay,
    NearestShotsDisplay,
    ScoreDisplay,
    TrainingDisplay,
)
from skcoft.report import score_images, write_report

FAST = {"backbone": TinyNet(), "image_size": 64, "max_iter": 0, "random_state": 0}
SHOTS, TEST = slice(0, 6), slice(6, 12)


@pytest.fixture(scope="module")
def plates():
    return make_plates(9, 3, size=64, random_state=0)


@pytest.fixture(scope="module")
def depths(plates):
    """Of 8 bits, so that every container can hold them."""
    return (plates.depths // 257).astype(np.uint8)


def both(plates, depths, which):
    return {"colour": plates.images[which], "depth": depths[which]}


@pytest.fixture(scope="module")
def fitted(plates, depths):
    return COFTDetector(**FAST).fit(both(plates, depths, SHOTS))


@pytest.fixture(scope="module")
def files(plates, depths, tmp_path_factory):
    """Paths of both pictures of every plate."""
    folder = tmp_path_factory.mktemp("plates")
    rows = []
    for i, pictures in enumerate(zip(plates.images, depths, strict=True)):
        rows.append([folder / f"{i}_{name}.png" for name in ("colour", "depth")])
        for picture, path in zip(pictures, rows[-1], strict=True):
            Image.fromarray(picture).save(path)
    return [[str(path) for path in row] for row in rows]


class Samples(torch.utils.data.Dataset):
    """A torch data set of samples with labels."""

    def __init__(self, records):
        self.records = records

    def __len__(self):
        return len(self.records)

    def __getitem__(self, i):
        return self.records[range(len(self))[i]], 0


def forms(X, files):
    """The same samples in every form."""
    colour, depth = X.values()
    records = [dict(zip(X, pair, strict=True)) for pair in zip(colour, depth, strict=True)]
    paths = dict(zip(X, map(list, zip(*files, strict=True)), strict=True))
    yield "records", records
    yield "other order", {"depth": depth, "colour": colour}
    yield "tensors", {"colour": torch.from_numpy(colour).movedim(3, 1), "depth": depth}
    yield "lists", {"colour": list(colour), "depth": list(depth)}
    yield "floats", {"colour": colour / 255, "depth": depth / 255}
    yield "generator", (record for record in records)
    yield "streams", {"colour": iter(colour), "depth": iter(depth)}
    yield "data set", Samples(records)
    yield "objects", np.array(records, dtype=object)
    yield "paths", paths
    yield "pandas", pd.DataFrame(paths)
    yield "polars", pl.DataFrame(paths)
    yield "arrow", pa.table(paths)
    yield "pathlib", [{"colour": Path(c), "depth": Path(d)} for c, d in files]


NAMES = [
    name
    for name, _ in forms(
        {"colour": np.zeros((1, 8, 8, 3)), "depth": np.zeros((1, 8, 8))}, [("a", "b")]
    )
]


@pytest.mark.parametrize("name", NAMES)
def test_every_form_gives_the_same_scores(fitted, plates, depths, files, name):
    X = both(plates, depths, TEST)
    expected = fitted.score_samples(X)
    found = dict(forms(X, files[TEST]))[name]
    tolerance = 1e-3 if name == "floats" else 0  # of the mean colour
    assert_allclose(fitted.score_samples(found), expected, rtol=tolerance)
    shots = dict(forms(both(plates, depths, SHOTS), files[SHOTS]))[name]
    again = COFTDetector(**FAST).fit(shots)
    if name == "other order":  # the first modality sets the scale
        assert_array_equal(again.embed(X)[:, :16], fitted.embed(X)[:, 16:])
        return
    assert_allclose(again.score_samples(X), expected, rtol=100 * tolerance)


def test_arrays_of_five_dimensions(plates, depths):
    """Of modalities that have a number each."""
    X = np.stack([plates.images, np.repeat(depths[..., None], 3, axis=3)], axis=1)
    named = COFTDetector(**FAST).fit({0: X[SHOTS, 0], 1: X[SHOTS, 1]})
    detector = COFTDetector(**FAST).fit(X[SHOTS])
    expected = named.score_samples({0: X[TEST, 0], 1: X[TEST, 1]})
    assert_array_equal(detector.score_samples(X[TEST]), expected)
    tensor = torch.from_numpy(X).movedim(4, 2)
    assert_array_equal(detector.score_samples(tensor[TEST]), expected)
    assert [encoder.modality for encoder in detector.embedder_.encoders_] == [0, 1]


def test_each_modality_is_learned_as_it_would_be_alone(plates, depths):
    options = {**FAST, "max_iter": 2}
    X = both(plates, depths, SHOTS)
    detector = COFTDetector(**options).fit(X)
    alone = [COFTDetector(**options).fit(images) for images in X.values()]
    for encoder, other in zip(detector.embedder_.encoders_, alone, strict=True):
        assert_array_equal(encoder.embed(detector._read(X)), other.embeddings_)
    joint = JointScore(
        [branch for other in alone for branch in other._model.joint.backbone_scores]
    )
    assert_array_equal(detector._model.joint.held_out_scores(), joint.held_out_scores())
    assert len(detector.history_) == len(detector.weights_) == 2
    side_by_side = np.hstack([other.embeddings_ for other in alone]) / 2**0.5
    assert_allclose(detector.embeddings_, side_by_side, rtol=1e-12)
    assert_allclose(detector.embed(X), side_by_side, rtol=1e-12)


def test_a_defect_of_either_modality_is_told():
    """A stain has a colour and no depth; a bulge the other way round."""
    plates = make_plates(16, 0, size=96, random_state=0)
    X = {"colour": plates.images.copy(), "depth": plates.depths.copy()}
    X["colour"][12:14, 60:72, 60:72] = [120, 80, 40]
    X["depth"][14:, 20:36, 60:76] += 4000
    options = {"backbone": "embedded", "max_iter": 0, "random_state": 0, "bit_depth": 16}
    y = [1] * 4 + [-1] * 4
    areas = {}
    for name, columns in {"colour": ["colour"], "depth": ["depth"], "both": [*X]}.items():
        shots, rest = ({n: X[n][part] for n in columns} for part in (slice(8), slice(8, 16)))
        if len(columns) == 1:
            shots, rest = shots[name], rest[name]
        areas[name] = roc_auc_score(y, COFTDetector(**options).fit(shots).score_samples(rest))
    assert areas["both"] == 1 and max(areas["colour"], areas["depth"]) < 1


def test_maps_are_of_the_first_modality_and_of_all(plates, depths):
    small = depths[:, ::2, ::2]
    X = {"colour": plates.images, "depth": small}
    detector = COFTDetector(**FAST).fit({name: images[SHOTS] for name, images in X.items()})
    maps = detector.anomaly_map({name: images[TEST] for name, images in X.items()})
    assert maps.shape == (6, 64, 64)
    alone = [
        COFTDetector(**FAST).fit(images[SHOTS]).anomaly_map(images[TEST]) for images in X.values()
    ]
    spread = [np.corrcoef(maps.ravel(), np.resize(one, maps.shape).ravel())[0, 1] for one in alone]
    assert spread[0] > 0.3  # both count alike
    assert len(detector.find_regions({name: images[TEST] for name, images in X.items()})) == 6
    other = COFTDetector(**FAST).fit({"depth": small[SHOTS], "colour": plates.images[SHOTS]})
    assert other.anomaly_map({name: images[TEST] for name, images in X.items()}).shape[1:] == (
        32,
        32,
    )


def test_bits_are_found_for_each_modality(plates):
    deep = plates.depths // 16  # 12 bits
    X = {"colour": plates.images, "depth": deep}
    with pytest.warns(UserWarning):
        detector = COFTDetector(**FAST).fit({name: images[SHOTS] for name, images in X.items()})
    assert [encoder.bit_depth for encoder in detector.embedder_.encoders_] == [None, 12]
    scaled = {"colour": plates.images[TEST], "depth": deep[TEST] / np.float32(4095)}
    rest = {name: images[TEST] for name, images in X.items()}
    assert_allclose(detector.score_samples(rest), detector.score_samples(scaled), rtol=1e-4)
    detector.partial_fit(rest)
    assert len(detector.embeddings_) == 12


def test_a_copy_is_one_in_every_modality(plates, depths):
    colour, depth = plates.images[:6].copy(), depths[:6].copy()
    colour[1] = colour[0]
    detector = COFTDetector(**FAST).fit({"colour": colour, "depth": depth})
    assert detector.shot_ids_.tolist() == [0, 1, 2, 3, 4, 5]
    depth[1] = depth[0]
    with pytest.warns(UserWarning):
        detector = COFTDetector(**FAST).fit({"colour": colour, "depth": depth})
    assert detector.shot_ids_.tolist() == [0, 0, 2, 3, 4, 5]
    with pytest.warns(UserWarning):
        detector.partial_fit({"colour": colour[:1], "depth": depth[:1]})
    assert detector.shot_ids_.tolist() == [0, 0, 2, 3, 4, 5, 0]


@pytest.mark.parametrize("estimator", [COFTDetector, COFTEmbedder])
def test_a_modality_of_one_colour_is_refused(estimator, plates, depths):
    """Masks of normal images are black."""
    X = {"colour": plates.images[SHOTS], "depth": np.full_like(depths[SHOTS], 90)}
    with pytest.raises(ValueError, match=r"X\['depth'\].*pass \['colour'\] alone"):
        estimator(**FAST).fit(X)
    with pytest.warns(UserWarning):
        estimator(**FAST).fit(X["depth"])


def test_two_modalities_of_the_same_images_are_refused(plates, depths, files):
    """As a path beside the image, however it is called."""
    X = {"colour": plates.images[SHOTS], "where": [row[0] for row in files[SHOTS]]}
    with pytest.raises(ValueError) as caught:
        COFTDetector(**FAST).fit(X)
    assert "X['colour'] and X['where']" in str(caught.value)
    assert len(COFTDetector(**FAST).fit({**X, "where": depths[SHOTS]}).embeddings_) == 6


def test_a_mask_holds_for_every_modality(plates, depths):
    mask = np.zeros((32, 32), dtype=bool)
    mask[8:24, 8:24] = True
    detector = COFTDetector(**FAST, mask=mask).fit(both(plates, depths, SHOTS))
    X = both(plates, depths, TEST)
    expected, maps = detector.score_samples(X), detector.anomaly_map(X)
    assert np.isnan(maps[:, :16]).all() and np.isfinite(maps[:, 20:44, 20:44]).all()
    for name in X:
        changed = {**X, name: X[name].copy()}
        changed[name][:, :16] = 255
        assert_array_equal(detector.score_samples(changed), expected)
        changed[name][:, 20:40, 20:40] = 255
        assert (detector.score_samples(changed) != expected).all()


def test_labels_and_groups(plates, depths):
    X = both(plates, depths, slice(0, 12))
    y = plates.labels
    detector = COFTDetector(**{**FAST, "negatives": "labelled", "max_iter": 1})
    detector.fit(X, y, groups=np.arange(12) // 2)
    assert detector.shot_ids_.tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8]
    assert {"image", "labelled"} <= {name for _, name in detector._model.joint.components}
    assert 0 <= detector.score(X, y) <= 1
    detector.tune_threshold(X, y)
    assert detector.fit_predict({"colour": iter(X["colour"]), "depth": depths}, y).shape == (12,)


def test_what_cannot_be_read_is_nan(fitted, plates, depths, files):
    records = [dict(zip(("colour", "depth"), row, strict=True)) for row in files[TEST]]
    expected = fitted.score_samples(records)
    records[2]["depth"] = "missing.png"
    columns = pd.DataFrame(records)
    tolerant = pickle.loads(pickle.dumps(fitted)).set_params(on_error="nan")
    for X in (records, columns, {name: columns[name] for name in columns}):
        with pytest.warns(UserWarning):
            scores = tolerant.score_samples(X)
        assert_array_equal(np.isnan(scores), np.arange(6) == 2)
        assert_array_equal(np.delete(scores, 2), np.delete(expected, 2))
        found = score_images(fitted, X)
        assert "missing.png" in found.errors[2] and not any(np.delete(found.errors, 2))
        with pytest.raises(FileNotFoundError):
            fitted.score_samples(X)


def test_files_are_decoded_once_for_the_sizes_of_their_modality(files, tmp_path, monkeypatch):
    """Of small files and of larger ones, which are seen at other sizes."""
    rng, large = np.random.default_rng(0), []
    for i in range(12):
        squares = rng.integers(0, 255, (8, 4)).astype(np.uint8)
        large.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(np.kron(squares, np.ones((40, 90), np.uint8))).save(large[-1])
    frame = pd.DataFrame({"large": large, "small": [path for _, path in files]})
    detector = COFTDetector("embedded", max_iter=0, random_state=0).fit(frame[:6])
    decoded = []

    def noted(item, name):
        decoded.append(name)
        return values_of(item, name)

    monkeypatch.setattr(images, "values_of", noted)
    detector.score_samples(frame[6:])
    assert sorted(decoded) == sorted(map(repr, frame[6:].to_numpy().ravel()))
    encoders = [branch.scaled for branch in detector._model.joint.backbone_scores]
    (piece,) = detector._read(frame[6:]).iter_chunks(encoders)
    sizes = {
        name: [sizing.of(part.sizes[0]) for sizing in part._cached_sizings]
        for name, part in piece.by_modality.items()
    }
    assert sizes == {"large": [(160, 192), (96, 96)], "small": [(192, 192), (96, 96)]}


def test_stored_and_loaded(fitted, plates, depths, tmp_path):
    X = both(plates, depths, TEST)
    expected = fitted.score_samples(X)
    assert_array_equal(pickle.loads(pickle.dumps(fitted)).score_samples(X), expected)
    options = {**FAST, "backbone": "embedded"}
    detector = COFTDetector(**options).fit(both(plates, depths, SHOTS))
    detector.save(tmp_path / "both.skcoft")
    again = COFTDetector.load(tmp_path / "both.skcoft")
    assert_array_equal(again.score_samples(X), detector.score_samples(X))
    again.partial_fit(X)
    assert_array_equal(again.score_samples(X), detector.partial_fit(X).score_samples(X))


def test_what_is_kept_on_disk_knows_the_modalities(plates, depths, tmp_path):
    X = both(plates, depths, SHOTS)
    rest = both(plates, depths, TEST)
    expected = COFTDetector(**FAST).fit(X).score_samples(rest)
    for _ in range(2):
        detector = COFTDetector(**FAST, memory=tmp_path).fit(X)
        assert_array_equal(detector.score_samples(rest), expected)
    turned = {"colour": rest["depth"], "depth": rest["colour"]}
    assert (detector.score_samples(turned) != expected).all()


def test_searches_and_folds(plates, depths):
    records = [
        dict(zip(("colour", "depth"), p, strict=True))
        for p in zip(plates.images, depths, strict=True)
    ]
    y, folds = plates.labels, OneClassShuffleSplit(2, shots=4, random_state=0)
    frame = pd.DataFrame({"colour": list(plates.images), "depth": list(depths)})
    areas = [cross_val_score(COFTDetector(**FAST), X, y, cv=folds) for X in (records, frame)]
    assert_array_equal(*areas)
    search = GridSearchCV(COFTDetector(**FAST), {"density": ["kde", "gaussian"]}, cv=folds)
    assert search.fit(records, y).best_params_["density"] in ("kde", "gaussian")
    assert clone(search.best_estimator_).get_params()["image_size"] == 64


def test_embedder(plates, depths):
    X = both(plates, depths, SHOTS)
    embedder = COFTEmbedder(**FAST).fit(X)
    assert embedder.transform(X).shape == (6, 32)
    assert len(embedder.get_feature_names_out()) == 32
    assert_allclose(np.linalg.norm(embedder.transform(X), axis=1), 1)


def test_several_backbones_see_every_modality(plates, depths):
    options = {**FAST, "backbone": [TinyNet(), TinyNet(seed=1)]}
    detector = COFTDetector(**options).fit(both(plates, depths, SHOTS))
    seen = [encoder.modality for encoder in detector.embedder_.encoders_]
    assert seen == ["colour", "colour", "depth", "depth"]
    assert detector.embeddings_.shape == (6, 64)


def test_pages_and_plots_show_the_first_modality(plates, depths, tmp_path):
    options = {**FAST, "local": True}
    shots, X = both(plates, depths, SHOTS), both(plates, depths, TEST)
    detector = COFTDetector(**options).fit(shots)
    page = tmp_path / "page.html"
    write_report(detector, X, page, shots=shots)
    assert "The most similar" in page.read_text()
    write_report(detector, pd.DataFrame({name: list(v) for name, v in X.items()}), page)
    ScoreDisplay.from_estimator(detector, X)
    AnomalyMapDisplay.from_estimator(detector, X)
    NearestShotsDisplay.from_estimator(detector, X, shots)
    assert "colour, depth" in page.read_text()


def test_histories_are_drawn_by_modality(plates, depths):
    X = both(plates, depths, SHOTS)
    detector = COFTDetector(**{**FAST, "max_iter": 1}).fit(X)
    assert TrainingDisplay.from_estimator(detector).labels == ["colour", "depth"]
    options = {**FAST, "max_iter": 1, "backbone": [TinyNet(), TinyNet(seed=1)]}
    labels = TrainingDisplay.from_estimator(COFTEmbedder(**options).fit(X)).labels
    assert labels[0] == "colour, TinyNet (1)" and labels[3] == "depth, TinyNet (4)"


REFUSED = {  # what is passed, and what the message names
    "one missing": (
        lambda c, d: [{"colour": c[0], "depth": d[0]}, {"colour": c[1]}],
        r"X\[1\].*\['colour', 'depth'\].*\['colour'\]",
    ),
    "no sample": (lambda c, d: [{"colour": c[0], "depth": d[0]}, c[1]], r"X\[1\].*ndarray"),
    "counts": (lambda c, d: {"colour": c, "depth": d[:2]}, r"\{'colour': 12, 'depth': 2\}"),
    "one sample": (lambda c, d: {"colour": c[0], "depth": d[0]}, "'depth'"),
    "one colour image": (lambda c, d: {"a": c[0], "b": c[0]}, r"X\['a'\]"),
    "paths": (lambda c, d: {"a": "a.png", "b": "b.png"}, r"'a'.*\[X\]"),
    "one name": (lambda c, d: {"colour": c}, r"\['colour'\]"),
    "no name": (lambda c, d: {1.5: c, 2.5: d}, r"\[1.5, 2.5\]"),
    "none": (lambda c, d: {}, r"\[\]"),
    "nested": (lambda c, d: {"a": c, "b": [{"c": c[0], "d": d[0]}] * 12}, r"X\['b'\]"),
    "rows": (lambda c, d: {"a": c, "b": d[:, 0].tolist()}, r"X\['b'\].*\(12, 64\)"),
    "labels": (lambda c, d: {"a": c, "b": np.ones(12)}, r"X\['b'\].*\(12,\)"),
    "range": (lambda c, d: {"a": c, "b": d * 1.0}, r"X\['b'\]"),
    "file": (
        lambda c, d: [{"a": c[0], "b": d[0]}, {"a": c[0], "b": b"no image"}],
        r"X\[1\]\['b'\]",
    ),
    "more": (lambda c, d: {"colour": c, "depth": d, "heat": d}, r"\['colour', 'depth', 'heat'\]"),
    "other names": (lambda c, d: {"colour": c, "heat": d}, r"\['colour', 'heat'\]"),
    "images": (lambda c, d: c, r"\['colour', 'depth'\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(fitted, plates, depths, name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        fitted.predict(make(plates.images, depths))


def test_a_column_of_text_that_names_no_file_is_named(fitted, files):
    frame = pd.DataFrame({"colour": [row[0] for row in files], "depth": "cat"})
    with pytest.raises(FileNotFoundError, match=r"'cat' of X\[0\]\['depth'\]"):
        fitted.predict(frame)


def test_samples_where_images_were_fitted(plates, depths):
    detector = COFTDetector(**FAST).fit(plates.images[SHOTS])
    with pytest.raises(ValueError, match=r"\['colour', 'depth'\]"):
        detector.predict(both(plates, depths, TEST))


def test_what_takes_one_image_a_sample_says_so(fitted, plates, depths, tmp_path):
    X = both(plates, depths, TEST)
    for call in (
        lambda: fitted.to_onnx(tmp_path / "both.onnx", X),
        lambda: LabelFreeScorer()(fitted, X),
    ):
        with pytest.raises(ValueError, match="'depth'"):
            call()
