"""What people pass as X and is no collection of images: errors say what to pass instead."""

from io import BytesIO, RawIOBase, UnsupportedOperation

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
PICTURE = Image.new("L", (8, 8))

CASES = {
    "triples": ([(U8[0], 1, U8[0])], r"X\[0\] is a tuple of ndarray, int, ndarray.*item\[0\]"),
    "label first": ([(1, PICTURE)], r"a tuple of int, Image. Pass .* \[item\[1\] for item in X\]"),
    "image pairs": ([(U8[0], U8[0])], r"X\[0\] is a tuple of ndarray, ndarray"),
    "lists": ([["a.png", 1]], r"X\[0\] is a list of str, int"),
    "loader": (
        DataLoader(TENSORS),
        r"X is a DataLoader, which returns batches .* Pass .* X\.dataset",
    ),
    "lazy frame": (pl.LazyFrame({"x": ["a"]}), r"X is a LazyFrame, .* Pass X\.collect\(\)"),
    "frame with text": (
        pd.DataFrame({"path": ["a.png"], "label": [1]}),
        r"X has the columns \['path', 'label'\]",
    ),
    "batches": (
        [TENSORS],
        r"X\[0\] must have shape \(C, H, W\); got \(4, 1, 8, 8\)\. For batches",
    ),
    "sparse items": ([csr_matrix(U8[0])], r"X\[0\] is a csr_matrix. Pass arrays, item\.toarray"),
    "sparse item": ([U8[0], csr_matrix(U8[0])], r"X\[1\] must be a path, .* got csr_matrix"),
    "sparse tensor": (TENSORS.to_sparse(), r"torch.sparse_coo. Pass X.to_dense"),
    "sparse tensors": (
        [TENSORS[0].to_sparse()],
        r"X\[0\] is a tensor of layout .*X\[0\]\.to_dense",
    ),
    "meta": (TENSORS.to("meta"), "X is a tensor on the device 'meta', which has no values"),
    "view": (dict(enumerate(U8)).values(), r"got dict_values\. Pass list\(X\)"),
    "missing": ([None, None], r"X\[0\] must be a path, .* got NoneType"),
    "missing later": ([*U8, None], r"X\[4\] must be a path, .* got NoneType"),
    "flat": ([U8[0], U8[0, 0]], r"got ndarray of shape \(8,\)"),
    "no pixels": (
        np.zeros((3, 0, 5), np.uint8),
        r"X is empty \(shape \(3, 0, 5\)\): found 0 pixels",
    ),
    "no pixels in one": (
        [U8[0], U8[0, :0]],
        r"X\[1\] is empty \(shape \(0, 8\)\): found 0 pixels",
    ),
    "NaN": (HOLED, r"X\[2\] contains NaN"),
    "NaN of a tensor": (torch.from_numpy(HOLED)[:, None], r"X\[2\] contains NaN"),
    "NaN of a list": ([*HOLED], r"X\[2\] contains NaN"),
    "complex": (U8 * 1j, "must hold whole numbers or float values 0..1; got complex128"),
    "channels first": (np.zeros((2, 3, 8, 8), np.uint8), "channels last in arrays"),
    "gray tensor": (TENSORS[:, 0], r"got \(4, 8, 8\)\. For gray images pass X\[:, None\]"),
    "masked": (MASKED, r"X is an array with 32 masked values.*X\.filled"),
    "masked item": ([*MASKED], r"X\[0\] is an array with 8 masked"),
    "masked rows": (MASKED[0] * 1.0, "X is an array with 8 masked"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_collection_of_images(case):
    X, message = CASES[case]
    with pytest.raises(ValueError, match=message):
        COFTEmbedder(max_iter=0).fit(X)


class Stream(RawIOBase):
    """A file that cannot be gone back in."""

    def seek(self, *args):
        raise UnsupportedOperation("no")

    tell = seek


def test_files_that_give_nothing_are_named(tmp_path):
    closed = BytesIO(b"content")
    closed.close()
    ended = BytesIO(b"content")
    ended.read()
    with open(tmp_path / "new.png", "wb") as written:
        for file, message in (
            (closed, "cannot be read: I/O operation on closed file"),
            (written, "cannot be read: "),
            (Stream(), "cannot be read: no"),
            (ended, "without content"),
        ):
            with pytest.raises(ValueError, match=rf"X\[0\] is a file.* {message}"):
                COFTEmbedder().fit([file])
    with pytest.raises(ValueError, match=r"Cannot read X\[0\] as an image"):
        COFTEmbedder().fit([b"content"])


def test_groups_and_labels_are_named(tiny_net, photos):
    with pytest.raises(ValueError, match=r"groups must have the shape \(n,\); got \(12, 2\)"):
        COFTDetector(tiny_net, max_iter=0).fit(photos, groups=np.zeros((12, 2)))
    masked = np.ma.masked_array([1] * 6 + [-1] * 6, [0] * 11 + [1])
    for method in (COFTDetector(tiny_net, max_iter=0).fit, COFTEmbedder(tiny_net, max_iter=0).fit):
        with pytest.raises(ValueError, match="1 masked values"):
            method(photos, masked)


@pytest.mark.parametrize("link", ["https://a.org/b.png", "s3://bucket/b.png", "data:image/png,AA"])
def test_links_are_no_files(link):
    with pytest.raises(FileNotFoundError, match=f"{link}' does not exist. It is a link"):
        COFTEmbedder().fit([link])


def test_text_files_are_named(tmp_path):
    Image.fromarray(U8[0]).save(tmp_path / "0.png")
    with (
        open(tmp_path / "0.png") as file,
        pytest.raises(ValueError, match=r"X\[1\] is a file opened in text mode"),
    ):
        COFTEmbedder().fit([tmp_path / "0.png", file])


def test_the_number_of_an_image_counts_from_the_first_of_all(tiny_net, photos):
    """However large the pieces are in which a collection is read."""
    fitted = COFTDetector(tiny_net, max_iter=0, random_state=0).fit(photos[..., 0])
    many = np.zeros((1030, 24, 20))
    many[1027, 3] = np.nan
    for X in (many, iter(many)):
        with pytest.raises(ValueError, match=r"X\[1027\] contains NaN"):
            fitted.predict(X)


def test_masked_arrays_without_a_masked_value_are_arrays():
    assert len(read_input(np.ma.masked_array(U8), ReadOptions())) == 4
