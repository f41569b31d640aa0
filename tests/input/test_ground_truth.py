"""Masks, labels and paths beside images must not become evidence."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conftest import TinyNet
from numpy.testing import assert_array_equal
from PIL import Image

from skcoft import COFTDetector
from skcoft._input.ground_truth import is_ground_truth
from skcoft.datasets import make_plates

PLATES = make_plates(6, 0, size=32, random_state=0).images
MASKS = np.random.default_rng(0).integers(0, 255, (6, 32, 32), dtype=np.uint8)
FAST = {"max_iter": 0, "random_state": 0}
SUSPECT = ["mask", "Mask", "masks", "ground_truth", "GroundTruth", "groundtruth", "gt", "GT"]
SUSPECT += ["label", "labels", "labelmap", "segmentation", "seg", "annotation", "defect_mask"]
SUSPECT += ["mask_path", "maskPath", "truth.png", "anomaly-mask", "bitmask", "target"]
HARMLESS = ["depth", "colour", "image", "thermal", "left", "1", "mascara", "Egt", "light_2", 3]


@pytest.fixture(scope="module")
def detector():
    return COFTDetector(TinyNet(), **FAST).fit(PLATES)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plates")
    for i, (image, mask) in enumerate(zip(PLATES, MASKS, strict=True)):
        Image.fromarray(image).save(folder / f"{i}.png")
        Image.fromarray(mask).save(folder / f"{i}_mask.png")
    return [[str(folder / f"{i}{end}") for i in range(6)] for end in (".png", "_mask.png")]


@pytest.mark.parametrize("name", SUSPECT)
def test_names_of_ground_truth(name):
    assert is_ground_truth(name)


@pytest.mark.parametrize("name", HARMLESS)
def test_names_of_photographs(name):
    assert not is_ground_truth(name)


def samples(name):
    return [{"image": x, name: m} for x, m in zip(PLATES, MASKS, strict=True)]


FORMS = {
    "samples": lambda paths: samples("mask"),
    "samples later": lambda paths: [None, *samples("mask")[1:]],
    "objects": lambda paths: np.array(samples("gt"), dtype=object),
    "mapping": lambda paths: {"image": PLATES, "ground_truth": MASKS},
    "pandas": lambda paths: pd.DataFrame({"image": paths[0], "label": paths[1]}),
    "polars": lambda paths: pl.DataFrame({"image": paths[0], "mask_path": paths[1]}),
    "Arrow": lambda paths: pa.table({"image": paths[0], "segmentation": paths[1]}),
    "path": lambda paths: [{"image": x, "path": p} for x, p in zip(PLATES, paths[0], strict=True)],
    "path of a frame": lambda paths: pd.DataFrame({"image": list(PLATES), "file_name": paths[0]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_lines_of_the_message_work(form, detector, paths):
    """One selects the images; the other renames the modality."""
    X = FORMS[form](paths)
    for call in (COFTDetector(TinyNet(), **FAST).fit, detector.score_samples):
        with pytest.raises(ValueError) as caught:
            call(X)
    message = str(caught.value)
    select, rename = re.search(r"without it, (.*)\. If .* rename it, (.*)\.$", message).groups()
    X = X[1:] if form == "samples later" else X
    images = eval(select, {"X": X})
    scores = detector.score_samples(images)
    assert_array_equal(scores, detector.score_samples(PLATES)[-len(scores) :])
    renamed = eval(rename, {"X": X})
    if "path" not in form:  # the same images, which fit refuses
        fitted = COFTDetector(TinyNet(), **FAST).fit(renamed)
        assert list(fitted._read(renamed).by_modality) == ["image", "image_1"]


def test_three_images_of_which_one_is_ground_truth(paths):
    rows = [{"a": x, "b": m, "gt": m} for x, m in zip(PLATES, MASKS, strict=True)]
    frame = pd.DataFrame({"a": paths[0], "b": paths[1], "gt": paths[1]})
    expected = COFTDetector(TinyNet(), **FAST).fit({"a": PLATES, "b": MASKS})
    for X in (rows, frame):
        with pytest.raises(ValueError) as caught:
            expected.score_samples(X)
        line = re.search(r"without it, (.*)\. If ", str(caught.value)).group(1)
        actual = expected.score_samples(eval(line, {"X": X}))
        assert_array_equal(actual, expected.score_samples({"a": PLATES, "b": MASKS}))


def test_ground_truth_beside_labels_is_not_selected(detector):
    X = [{"image": x, "mask": m, "label": 1} for x, m in zip(PLATES, MASKS, strict=True)]
    with pytest.raises(ValueError) as caught:
        detector.score_samples(X)
    assert "example [item['image'] for item in X]." in str(caught.value)
