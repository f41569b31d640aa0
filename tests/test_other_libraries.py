"""Doors for guests: torch's loaders, columns of Hugging Face, MLflow, mixed tables."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TinyNet
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.compose import ColumnTransformer
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset, IterableDataset

from skcoft import COFTDetector, COFTEmbedder


@pytest.fixture(scope="module")
def detector(photos):
    return COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(photos[:6])


class Folder(Dataset):
    """A data set of images with labels."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return torch.from_numpy(self.images[i]).permute(2, 0, 1), i % 2


class Stream(IterableDataset):
    """A data set that can be read in order alone."""

    def __init__(self, images):
        self.images = images

    def __iter__(self):
        return iter(self.images)


@pytest.mark.parametrize("kind", [Folder, Stream])
def test_loaders_are_refused_and_their_data_sets_are_taken(kind, detector, photos):
    loader = DataLoader(kind(photos), batch_size=4)
    for method in (detector.score_samples, detector.fit_predict, detector.anomaly_map):
        with pytest.raises(ValueError, match="X.dataset"):
            method(loader)
    expected = detector.score_samples(photos)
    assert_array_equal(detector.score_samples(loader.dataset), expected)


def test_streams_are_read_in_pieces(detector, photos, monkeypatch):
    monkeypatch.setattr("skcoft._input.chunks.MAX_CHUNK_SIZE", 5)
    assert_array_equal(detector.score_samples(Stream(photos)), detector.score_samples(photos))
    again = COFTDetector(TinyNet(), max_iter=0, random_state=0)
    assert_array_equal(again.fit_predict(Stream(photos[:6])), detector.predict(photos[:6]))


class Column:
    """As ``dataset["image"]`` of Hugging Face's ``datasets``: items are made when asked for."""

    def __init__(self, make, n):
        self.make, self.n = make, n

    def __len__(self):
        return self.n

    def __iter__(self):
        return map(self.make, range(self.n))

    def __getitem__(self, key):
        if isinstance(key, slice):
            return [self.make(i) for i in range(*key.indices(self.n))]
        if key >= self.n:
            raise IndexError(key)
        return self.make(key)


class IterableColumn:
    """That of a data set that is streamed."""

    def __init__(self, make, n):
        self.make, self.n = make, n

    def __iter__(self):
        return map(self.make, range(self.n))

    def __getitem__(self, name):
        raise KeyError(name)


@pytest.mark.parametrize("column", [Column, IterableColumn])
@pytest.mark.parametrize("format", ["none", "numpy", "torch"])
def test_columns_of_hugging_face(column, format, detector, photos):
    """Of PIL images, and as ``with_format`` gives them: torch's are (C, H, W)."""
    make = {
        "none": lambda i: Image.fromarray(photos[i]),
        "numpy": lambda i: photos[i],
        "torch": lambda i: torch.from_numpy(photos[i]).permute(2, 0, 1),
    }[format]
    expected = detector.score_samples(photos)
    assert_array_equal(detector.score_samples(column(make, 12)), expected)
    again = COFTDetector(TinyNet(), max_iter=0, random_state=0).fit(column(make, 6))
    assert_array_equal(again.score_samples(photos), expected)


def test_rows_of_hugging_face_name_the_column_of_images(detector, photos):
    rows = Column(lambda i: {"label": 0, "photo": photos[i]}, 12)
    with pytest.raises(ValueError) as caught:
        detector.score_samples(rows)
    (line,) = re.findall(r"for example (.*)\.$", str(caught.value))
    images = eval(line, {"X": rows})
    assert_array_equal(detector.score_samples(images), detector.score_samples(photos))


@pytest.fixture
def table(plates, plate_folder):
    """A frame of paths and two numbers, 12 normal plates and 6 with a defect."""
    paths = sorted(plate_folder.rglob("*.png"), key=lambda path: path.name)
    numbers = np.random.default_rng(0).normal(size=(18, 2)) * [1, 50]
    return pd.DataFrame(
        {"path": [str(path) for path in paths], "weight": numbers[:, 0], "speed": numbers[:, 1]}
    )


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")  # of the factor's own
@pytest.mark.parametrize("columns", ["path", ["path"]])
def test_an_image_column_beside_numbers(columns, table, plates):
    """Whether it is handed on as a column or as a frame of one."""
    embedder = COFTEmbedder("embedded", max_iter=0, random_state=0)
    both = ColumnTransformer(
        [("image", embedder, columns), ("numbers", StandardScaler(), ["weight", "speed"])]
    ).set_output(transform="pandas")
    shots = table[:6]
    actual = both.fit(shots).transform(table)
    names = both.get_feature_names_out()
    d = actual.shape[1] - 2
    assert list(names) == list(actual.columns) and len(set(names)) == d + 2
    assert list(names[:2]) == ["image__coftembedder0", "image__coftembedder1"]
    assert list(names[-2:]) == ["numbers__weight", "numbers__speed"]
    assert_array_equal(actual.index, table.index)
    alone = COFTEmbedder("embedded", max_iter=0, random_state=0).fit(plates.images[:6])
    assert_array_equal(actual.to_numpy()[:, :d], alone.transform(plates.images))
    assert_array_equal(actual["numbers__speed"][:6].mean().round(12), 0)

    pipeline = make_pipeline(both, LocalOutlierFactor(3, novelty=True)).fit(shots)
    scores = pipeline.score_samples(table)
    heavy = table.assign(weight=table["weight"] + 100)
    assert scores.shape == (18,) and (pipeline.score_samples(heavy) < scores).all()
    assert pipeline.predict(heavy).tolist() == [-1] * 18


@pytest.mark.slow
def test_mlflow(table, tmp_path):
    """The recipe of the user guide, in MLflow's default format, which trusts no class unasked."""
    mlflow = pytest.importorskip("mlflow")
    sio = pytest.importorskip("skops.io")
    paths = table["path"].tolist()
    detector = COFTDetector("embedded", max_iter=0, random_state=0).fit(paths[:6])
    types = sio.get_untrusted_types(data=sio.dumps(detector))
    assert all(name.startswith("skcoft.") for name in types)
    folder = str(Path(tmp_path, "model"))
    mlflow.sklearn.save_model(
        detector, folder, skops_trusted_types=types, pip_requirements=["skcoft"]
    )
    frame = table[["path"]]
    assert_array_equal(mlflow.pyfunc.load_model(folder).predict(frame), detector.predict(paths))
    again = mlflow.sklearn.load_model(folder)
    assert_array_equal(again.score_samples(paths), detector.score_samples(paths))
