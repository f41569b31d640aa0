"""What a sample may be: every form gives the scores of the array."""

import io
import os
import re
import threading
import zipfile

import dask.array
import dask.bag
import narwhals
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import xarray as xr
from form_strategies import (
    CONTAINERS,
    FILES,
    ITEMS,
    TEST,
    WHOLE,
    ArrayLike,
    OneWay,
    ReadOnce,
    fitted_detector,
)
from numpy.testing import assert_allclose, assert_array_equal

import skcoft
from skcoft import COFTDetector, COFTEmbedder
from skcoft.report import score_images

PATHS = [str(FILES.path(i)) for i in range(6)]
CONTENTS = [FILES.content(i) for i in range(6)]


@pytest.fixture(scope="module")
def detector():
    return fitted_detector()


@pytest.fixture(scope="module")
def tolerant():
    return fitted_detector(on_error="nan")


@pytest.fixture(scope="module")
def expected(detector):
    return detector.score_samples(TEST)


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("container", ["list", "generator", "data set", "object array"])
def test_items(item, container, detector, tolerant, expected):
    for estimator in (detector, tolerant):
        X = CONTAINERS[container][0]([ITEMS[item](i) for i in range(6)])
        assert_allclose(estimator.score_samples(X), expected, rtol=1e-6)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("item", ["stored", "stored with a name", "stored path", "text"])
def test_stored_images_and_paths_in_every_container(item, container, detector, expected):
    X = CONTAINERS[container][0]([ITEMS[item](i) for i in range(6)])
    assert_array_equal(detector.score_samples(X), expected)


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "array of bytes"])
def test_whole_collections(name, tolerant, expected):
    assert_allclose(tolerant.score_samples(WHOLE[name]()), expected, rtol=1e-4)


def pipes():
    """Return open ends of pipes, which threads fill."""
    ends = []
    for content in CONTENTS:
        end, other = os.pipe()
        threading.Thread(target=lambda o=other, c=content: (os.write(o, c), os.close(o))).start()
        ends.append(os.fdopen(end, "rb"))
    return ends


class HDF5:
    """As a data set of h5py: text is read as bytes unless it is asked for."""

    ndim, dtype = 1, np.dtype("O", metadata={"vlen": str})

    def __init__(self, values):
        self.values = np.array(values, dtype=object)

    def asstr(self):
        return self.values

    def __array__(self, dtype=None, copy=None):
        return np.array([value.encode() for value in self.values], dtype=object)


class Relation:
    """As a relation of DuckDB: a column is a relation, and columns are attributes."""

    def __init__(self, frame):
        self.frame = frame

    @property
    def columns(self):
        return list(self.frame.columns)

    def __getitem__(self, name):
        return Relation(self.frame[[name]])

    def __getattr__(self, name):
        raise AttributeError(f"This relation does not contain a column by the name of {name!r}")

    def to_arrow_table(self):
        raise ImportError("no Arrow")

    def to_df(self):
        return self.frame


def frame_of_dask(frame):
    return pytest.importorskip("dask.dataframe").from_pandas(frame, npartitions=2)


class Blocks:
    """As a data set of Ray: ``columns`` is a method, and rows can only be iterated over."""

    def columns(self):
        return ["image"]

    def __iter__(self):
        return ({"image": image} for image in TEST)


NAMES = ["compute", "collect", "dataset", "read", "columns", "asstr"]
FRAME = pd.DataFrame({"path": PATHS})
LISTS_OF_UINT8 = pa.list_(pa.list_(pa.list_(pa.uint8())))
OTHERS = {
    "pipes": pipes,
    "missing path": lambda: [{"bytes": c, "path": np.nan} for c in CONTENTS],
    "flattened stored images": lambda: pl.DataFrame({"bytes": CONTENTS, "path": [None] * 6}),
    "xarray": lambda: xr.DataArray(
        TEST, dims=("n", "y", "columns", "c"), coords={"columns": range(32)}
    ),
    "paths of xarray": lambda: xr.DataArray(PATHS),
    "list of paths of xarray": lambda: list(xr.DataArray(PATHS)),
    "list of xarray": lambda: [xr.DataArray(image) for image in TEST],
    "list of dask": lambda: [dask.array.from_array(image) for image in TEST],
    "bag of dask": lambda: dask.bag.from_sequence(PATHS),
    "frame of dask": lambda: frame_of_dask(FRAME),
    "column of dask": lambda: frame_of_dask(FRAME)["path"],
    "array of pandas": lambda: pd.array(PATHS),
    "list of an Arrow array": lambda: list(pa.array(PATHS)),
    "tensors in a table": lambda: pa.table({"x": WHOLE["tensors of Arrow"]()}),
    "chunks of tensors": lambda: pa.chunked_array([WHOLE["tensors of Arrow"]()]),
    "typed lists of Arrow": lambda: pa.array(
        TEST.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8())))
    ),
    "frame of narwhals": lambda: narwhals.from_native(FRAME),
    "column of narwhals": lambda: narwhals.from_native(FRAME, eager_only=True)["path"],
    "relation": lambda: Relation(FRAME),
    "column of a relation": lambda: Relation(FRAME)["path"],
    "text of HDF5": lambda: HDF5(PATHS),
    "frame with names of methods": lambda: FRAME.rename(columns={"path": "column_names"}),
    "rows with names of methods": lambda: pd.Series(PATHS, index=NAMES),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_libraries(name, detector, tolerant, expected):
    for estimator in (detector, tolerant):
        assert_allclose(estimator.score_samples(OTHERS[name]()), expected, rtol=1e-6)


def test_arrays_of_other_libraries_may_differ_in_size(detector):
    images = [TEST[0], TEST[1][:24], TEST[2][:, :20]]
    wrapped = [ArrayLike(image) for image in images]
    assert_array_equal(detector.score_samples(wrapped), detector.score_samples(images))


def test_rows_of_an_array_with_a_dimension_called_columns():
    rows = np.random.default_rng(0).normal(size=(20, 5))
    detector = COFTDetector(max_iter=0, random_state=0).fit(rows)
    named = xr.DataArray(rows, dims=("rows", "columns"), coords={"columns": list("abcde")})
    assert_array_equal(detector.score_samples(named), detector.score_samples(rows))


SPARSE = sp.csr_array, sp.coo_array, sp.csr_matrix, sp.dok_matrix
METHODS = "fit", "fit_predict", "predict", "embed", "partial_fit", "set_threshold", "kneighbors"


@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_rows_have_the_same_error_everywhere(kind):
    rows = np.random.default_rng(0).normal(size=(20, 5))
    detector = COFTDetector(max_iter=0, random_state=0).fit(rows)
    embedder = COFTEmbedder(max_iter=0).fit(rows)
    calls = [getattr(detector, method) for method in METHODS]
    calls += [embedder.transform, lambda X: detector.score(X, [1] * 15 + [-1] * 5)]
    calls += [lambda X: detector.tune_threshold(X, [1] * 15 + [-1] * 5)]
    calls += [lambda X: score_images(detector, X)]
    for call in calls:
        with pytest.raises(TypeError) as caught:
            call(kind(rows))
        assert ".toarray()" in str(caught.value)


# Files are read once


def test_a_stream_is_read_once_and_a_file_keeps_its_position(detector, tolerant, expected):
    for estimator in (detector, tolerant):
        streams = [OneWay(content) for content in CONTENTS]
        files = [io.BytesIO(b"before" + content) for content in CONTENTS]
        for file in files:
            file.seek(6)
        for X in (streams, files):
            assert_array_equal(estimator.score_samples(X), expected)
        assert [file.tell() for file in files] == [6] * 6


def test_methods_that_read_twice_keep_what_they_read():
    expected = fitted_detector().fit_predict(TEST)
    options = {"max_iter": 0, "image_size": 32, "bit_depth": 8, "random_state": 0}
    for make in (OneWay, ReadOnce, io.BytesIO):
        for container in (list, iter, lambda items: [(item, 0) for item in items]):
            X = container([make(content) for content in CONTENTS])
            assert_array_equal(fitted_detector().fit_predict(X), expected)
    embedder = COFTEmbedder("embedded", **options)
    streams = [OneWay(content) for content in CONTENTS]
    assert_array_equal(embedder.fit_transform(streams), embedder.transform(TEST))


def test_a_damaged_stream_is_nan_and_the_others_are_read_once(tolerant, expected):
    for make in (OneWay, ReadOnce):
        X = [make(content) for content in [*CONTENTS[:3], b"no image", *CONTENTS[4:]]]
        with pytest.warns(UserWarning):
            scores = tolerant.score_samples(X)
        assert_array_equal(scores, np.where(np.arange(6) == 3, np.nan, expected))


# Errors of single items


class Failing:
    """A data set that fails to return an item."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 6

    def __getitem__(self, i):
        if i == 2:
            raise self.error
        return TEST[i]


@pytest.mark.parametrize("error", [OSError("lost"), KeyError("x"), RuntimeError("gone")])
def test_an_item_that_a_data_set_cannot_return(error, detector, tolerant, expected):
    with pytest.raises(ValueError) as caught:
        detector.predict(Failing(error))
    assert "X[2]" in str(caught.value) and caught.value.__cause__ is error
    with pytest.warns(UserWarning):
        scores = tolerant.score_samples(Failing(error))
    assert_array_equal(scores, np.where(np.arange(6) == 2, np.nan, expected))


@pytest.mark.parametrize("gap", [None, np.nan, pd.NA, pd.NaT])
def test_gaps_of_columns(gap, tolerant, expected):
    for X in (
        [gap, *PATHS[1:]],
        pd.Series([gap, *PATHS[1:]], dtype=object),
        pd.DataFrame({"x": pd.Series([gap, *PATHS[1:]], dtype="string")}),
    ):
        with pytest.warns(UserWarning):
            assert tolerant.predict(X)[0] == -1
            assert_array_equal(tolerant.score_samples(X)[1:], expected[1:])
    with pytest.warns(UserWarning):
        assert np.isnan(tolerant.score_samples([gap, gap])).all()


def test_grayscale_among_colour_arrays_is_scored(detector, tolerant, expected):
    X = [*TEST[:5], TEST[5, ..., 0]]
    scores = tolerant.score_samples(X)
    assert_allclose(scores[:5], expected[:5], rtol=1e-6)
    assert_allclose(scores[5], detector.score_samples([TEST[5, ..., 0]])[0], rtol=1e-6)


def test_odd_items_of_later_chunks(tolerant, expected, monkeypatch):
    monkeypatch.setattr("skcoft._input.chunks.MAX_CHUNK_SIZE", 3)
    for X in ([*TEST, 7, None, {1}], (item for item in [*TEST, 7, None, {1}])):
        with pytest.warns(UserWarning):
            assert_allclose(tolerant.score_samples(X)[:6], expected, rtol=1e-6)


# Advice


LISTS = [image.tolist() for image in (TEST[0], TEST[1][:20])]
STORED = [ITEMS["stored"](i) for i in range(6)]
ARCHIVE = zipfile.Path(FILES.folder / "all.zip")
LISTED = f"skcoft.datasets.load_folder({str(FILES.folder)!r}).paths"
COLUMN = "[item['image'] for item in X]"
DECODED = "[os.fsdecode(path) for path in X]"
ADVICE = {  # X, the line that the message shows, and the images that the line gives
    "rows of a data set": ([{"image": x, "label": 1} for x in TEST], COLUMN, TEST),
    "one key": ([{"image": x} for x in TEST], COLUMN, TEST),
    "stored images": ([{"image": x, "id": 1} for x in STORED], COLUMN, TEST),
    "bytes as paths": ([path.encode() for path in PATHS], DECODED, TEST),
    "array of bytes": (np.array(PATHS, dtype="S"), DECODED, TEST),
    "two sizes": (LISTS, "[np.asarray(item) for item in X]", [TEST[0], TEST[1][:20]]),
    "triples": ([(x, 1, 2) for x in TEST], "[item[0] for item in X]", TEST),
    "frame": (FRAME.assign(weight=1), "X['path']", TEST),
    "stored in a frame": (pd.DataFrame({"im": STORED, "w": 1}), "X['im']", TEST),
    "stored in polars": (pl.DataFrame({"im": STORED, "w": 1}), "X['im']", TEST),
    "frame of Arrow": (pa.table({"path": PATHS, "w": range(6)}), "X['path']", TEST),
    "blocks": (Blocks(), COLUMN, TEST),
    "flattened columns": (
        pd.DataFrame({"im.bytes": CONTENTS, "im.path": None}),
        "X['im.bytes']",
        TEST,
    ),
    "lazy frame": (pl.LazyFrame({"path": PATHS}), "X.collect()", TEST),
    "path": (PATHS[0], "[X]", TEST[:1]),
    "folder": (str(FILES.folder), LISTED, TEST),
    "member of an archive": (FILES.member(0), "[X]", TEST[:1]),
    "archive": (ARCHIVE, "[path for path in X.iterdir() if path.is_file()]", TEST),
    "stored image": (STORED[0], "[X]", TEST[:1]),
    "sparse images": (
        [sp.csr_array(image[..., 0]) for image in TEST],
        "[item.toarray() for item in X]",
        TEST[..., 0],
    ),
}


@pytest.mark.parametrize("name", ADVICE)
def test_the_advised_line_works(name, detector):
    X, line, images = ADVICE[name]
    with pytest.raises(ValueError) as caught:
        detector.score_samples(X)
    assert line in str(caught.value)
    advised = eval(line, {"X": X, "os": os, "np": np, "skcoft": skcoft})
    assert_allclose(detector.score_samples(advised), detector.score_samples(images), rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: pd.Series(list(TEST.reshape(6, -1))),
        lambda: pd.DataFrame({"x": list(TEST.reshape(6, -1))}),
        lambda: pl.Series(TEST.reshape(6, -1).tolist()),
        lambda: pa.table({"x": pa.array(TEST.reshape(6, -1).tolist())}),
    ],
)
def test_a_column_of_flat_lists_is_told_apart_from_images(make, detector, expected):
    """Without the shape they would be rows of 3,072 features."""
    X = make()
    with pytest.raises(ValueError) as caught:
        COFTDetector(max_iter=0).fit(X)
    line = re.search(r"as (np\.array\(.*\))\. If", str(caught.value)).group(1)
    images = eval(line, {"X": X, "np": np}).reshape(-1, 32, 32, 3)
    assert_allclose(detector.score_samples(images), expected, rtol=1e-6)
