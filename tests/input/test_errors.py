"""What people pass as X and is no collection of images: errors say what to pass instead."""

import re
from io import BufferedWriter, BytesIO, RawIOBase, StringIO, UnsupportedOperation

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from scipy.sparse import csr_matrix
from torch.utils.data import DataLoader

from skcoft import COFTDetector, COFTEmbedder
from skcoft._input.reader import ReadOptions, read_input

U8 = np.zeros((4, 8, 8), np.uint8)
TENSORS = torch.zeros(4, 1, 8, 8)
HOLED = np.where(np.arange(4)[:, None, None] == 2, np.nan, U8)
MASKED = np.ma.masked_array(U8, np.eye(8)[None].repeat(4, 0))
STORED = {"bytes": b"", "path": "a"}
PICTURE = Image.new("L", (8, 8))


class Stream(RawIOBase):
    """A file that cannot be gone back in."""

    def seek(self, *args):
        raise UnsupportedOperation("no")

    tell = seek


CLOSED, ENDED = BytesIO(b"content"), BytesIO(b"content")
CLOSED.close()
ENDED.read()

CASES = {  # what is passed, and what the message names
    "triples": ([(U8[0], 1, U8[0])], "X[0]", "item[0]"),
    "label first": ([(1, PICTURE)], "X[0]", "item[1]"),
    "image pairs": ([(U8[0], U8[0])], "X[0]", "ndarray, ndarray"),
    "lists": ([["a.png", 1]], "X[0]", "str, int"),
    "loader": (DataLoader(TENSORS), "DataLoader", "X.dataset"),
    "lazy frame": (pl.LazyFrame({"x": ["a"]}), "LazyFrame", "X.collect()"),
    "frame with text": (pd.DataFrame({"path": ["a.png"], "label": [1]}), "['path', 'label']"),
    "frame of stored images": (
        pd.DataFrame({"im": [{"bytes": b"", "path": "a"}], "w": 1}),
        "X['im']",
    ),
    "one stored image": (STORED, "dict", "[X]"),
    "vector of a file": ([U8[0], U8[0, 0]], "X[1]", "bytes(X[1])"),
    "batches": ([TENSORS], "X[0]", "(4, 1, 8, 8)"),
    "sparse items": ([csr_matrix(U8[0])], "X[0]", "toarray()"),
    "sparse item": ([U8[0], csr_matrix(U8[0])], "X[1]", "csr_matrix"),
    "sparse tensor": (TENSORS.to_sparse(), "X.to_dense()"),
    "sparse tensors": ([TENSORS[0].to_sparse()], "X[0].to_dense()"),
    "meta": (TENSORS.to("meta"), "X", "'meta'"),
    "view": (dict(enumerate(U8)).values(), "dict_values", "list(X)"),
    "missing": ([None, None], "X[0]", "NoneType"),
    "missing later": ([*U8, None], "X[4]", "NoneType"),
    "flat": ([U8[0], U8[0, 0]], "X[1]", "(8,)"),
    "no pixels": (np.zeros((3, 0, 5), np.uint8), "X", "(3, 0, 5)"),
    "no pixels in one": ([U8[0], U8[0, :0]], "X[1]", "(0, 8)"),
    "NaN": (HOLED, "X[2]"),
    "NaN of a tensor": (torch.from_numpy(HOLED)[:, None], "X[2]"),
    "NaN of a list": ([*HOLED], "X[2]"),
    "channels first": (np.zeros((2, 3, 8, 8), np.uint8), "X", "(n, H, W, C)"),
    "gray tensor": (TENSORS[:, 0], "(4, 8, 8)", "X[:, None]"),
    "masked": (MASKED, "32 masked", "X.filled"),
    "masked item": ([*MASKED], "X[0]", "8 masked"),
    "masked rows": (MASKED[0] * 1.0, "X", "8 masked"),
    "closed file": ([U8[0], CLOSED], "X[1]"),
    "file that is written": ([U8[0], BufferedWriter(BytesIO())], "X[1]"),
    "file at its end": ([U8[0], ENDED], "X[1]"),
    "stream": ([U8[0], Stream()], "X[1]"),
    "content of no image": ([U8[0], b"content"], "X[1]"),
    "empty list": ([], "X"),
    "empty array": (U8[:0], "(0, 8, 8)"),
    "NaN in the first": (np.full((2, 8, 8), np.nan), "X[0]"),
    "infinity": (np.full((2, 8, 8), np.inf), "X[0]"),
    "above 1": (np.full((2, 8, 8), 200.0), "200"),
    "below 0": (np.full((2, 8, 8), -0.5), "-0.5"),
    "negative": (U8.astype(int) - 1, "-1"),
    "17 bits": (U8.astype(int) + 2**16, "65536"),
    "complex": (U8 * 1j, "complex128"),
    "dates": (U8.astype("datetime64[s]"), "datetime64[s]"),
    "bytes": (U8.astype("V4"), "V4"),
    "normalised": (np.eye(8)[None] * 4.2 - 2.1, "Normalize"),
    "one colour image": (np.zeros((8, 9, 3), np.uint8), "X[None]"),
    "rows of one": ([*np.zeros((8, 9, 3), np.uint8)], "X[0]"),
    "set": ({"a.png"}, "set"),
    "records": ([{"image": U8[0], "label": 1}], "[item['image'] for item in X]"),
    "number": (5, "int"),
    "one file": (BytesIO(b""), "[X]"),
    "contents of one": (b"", "[X]"),
    "text file": ([StringIO("text")], "X[0]"),
    "missing in a column": (pd.Series([None, "a.png"]), "X[0]"),
    "flat item": ([U8[0], U8[0, 0]], "X[1]"),
    "5-D item": ([np.zeros((1, 1, 8, 8))], "X[0]"),
    "no columns of pixels": ([np.zeros((8, 0))], "X[0]"),
    "channels": (np.zeros((4, 8, 8, 2), np.uint8), "(n, H, W, C)"),
    "tensor": (torch.zeros(4, 8, 8, 3), "(n, C, H, W)"),
    "3-D tensor": (torch.zeros(4, 8, 8), "(n, C, H, W)"),
    "1-D": (np.zeros(4), "1D array"),
    "5-D": (np.zeros((1, 1, 1, 1, 1)), "(1, 1, 1, 1, 1)"),
    "ragged": ([[1, 2], [3]], "X"),
    "mixed channels": ([U8[0], np.zeros((8, 8, 3), np.uint8)], "1 (X[0]) and 3 (X[1])"),
    "number first": ([7, U8[0]], "X[0]"),
    "number later": ([U8[0], 7], "X[1]"),
    "bad value inside a list": ([U8[0], np.full((8, 8), 2.0)], "X[1]"),
    "one path": ("image.png", "[X]"),
    "one image": (Image.new("L", (8, 8)), "[X]"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_collection_of_images(case):
    X, *names = CASES[case]
    with pytest.raises(ValueError, match=".*".join(map(re.escape, names))):
        COFTEmbedder(max_iter=0).fit(X)


ROWS = np.zeros((3, 60))
IMAGES = np.random.default_rng(0).random((12, 24, 20))
LABELS = np.ma.masked_array([1] * 6 + [-1] * 6, [0] * 11 + [1])
ARGUMENTS = {  # parameters, arguments of fit, and what the message names
    "bit depth of 0": ({"bit_depth": 0}, (IMAGES,), "'bit_depth'"),
    "bit depth of 17": ({"bit_depth": 17}, (IMAGES,), "'bit_depth'"),
    "bit depth as a float": ({"bit_depth": 12.0}, (IMAGES,), "'bit_depth'"),
    "bit depth as text": ({"bit_depth": "12"}, (IMAGES,), "'bit_depth'"),
    "no pixels": ({"max_pixels": 0}, (IMAGES,), "'max_pixels'"),
    "a part of a pixel": ({"max_pixels": 1.5}, (IMAGES,), "'max_pixels'"),
    "all pixels": ({"max_pixels": "all"}, (IMAGES,), "'max_pixels'"),
    "pixels by side": ({"max_pixels": (64, 64)}, (IMAGES,), "'max_pixels'"),
    "mask for rows": ({"mask": np.ones((8, 8))}, (ROWS,), "mask"),
    "shape of other rows": ({"image_shape": (8, 8)}, (ROWS,), r"image_shape=\(8, 8\)"),
    "values of rows": ({"image_shape": (6, 10)}, (ROWS + 16,), r"^X\b"),
    "two groups": ({}, (IMAGES, None, np.zeros((12, 2))), "groups"),
    "masked label": ({}, (IMAGES, LABELS), r"^y\b"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_bad_arguments_are_named(case, tiny_net):
    params, arguments, name = ARGUMENTS[case]
    estimators = [COFTDetector] if len(arguments) > 2 else [COFTDetector, COFTEmbedder]
    for estimator in estimators:
        with pytest.raises(ValueError, match=name):
            estimator(tiny_net, max_iter=0, **params).fit(*arguments)


def test_the_number_of_an_image_counts_from_the_first_of_all(tiny_net, photos):
    """However large the pieces are in which a collection is read."""
    fitted = COFTDetector(tiny_net, max_iter=0, random_state=0).fit(photos[..., 0])
    many = np.zeros((1030, 24, 20))
    many[1027, 3] = np.nan
    for X in (many, iter(many)):
        with pytest.raises(ValueError, match=r"X\[1027\]"):
            fitted.predict(X)


def test_masked_arrays_without_a_masked_value_are_arrays():
    assert len(read_input(np.ma.masked_array(U8), ReadOptions())) == 4


def test_objects_that_are_no_numbers():
    with pytest.raises(TypeError) as caught:
        COFTEmbedder(max_iter=0).fit([object(), object()])
    assert str(caught.value).startswith("X must be")
