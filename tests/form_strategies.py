"""Forms of the same images, and hypothesis strategies that draw them."""

import io
import tempfile
import zipfile
from collections import UserList
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import torch
from hypothesis import strategies as st
from PIL import Image

from skcoft import COFTDetector
from skcoft.datasets import make_plates

PLATES = make_plates(12, 0, size=32, random_state=0).images
SHOTS, TEST = PLATES[:6], PLATES[6:]


def fitted_detector(**options):
    """Accepts whole numbers of any type, with the scores of uint8."""
    options = {"max_iter": 0, "image_size": 32, "bit_depth": 8, "random_state": 0, **options}
    return COFTDetector("embedded", **options).fit(SHOTS)


class ArrayLike:
    """As an array of jax or zarr."""

    def __init__(self, values):
        self.values = np.asarray(values)
        self.shape, self.ndim = self.values.shape, self.values.ndim

    def __array__(self, dtype=None, copy=None):
        return self.values


class OneWay(io.RawIOBase):
    """A stream that cannot go back, as a pipe or a response."""

    def __init__(self, content):
        self.file = io.BytesIO(content)
        self.n_reads = 0

    def readable(self):
        return True

    def readinto(self, buffer):
        self.n_reads += 1
        return self.file.readinto(buffer)


class ReadOnce:
    """Has no other method than read."""

    def __init__(self, content):
        self.contents = [content]

    def read(self):
        return self.contents.pop() if self.contents else b""


class Rows:
    """A torch data set of images and labels."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i], 0


class Files:
    """The files of some images, made once per process."""

    def __init__(self):
        self.temporary = tempfile.TemporaryDirectory()  # removed when the process ends
        self.folder = Path(self.temporary.name)
        with zipfile.ZipFile(self.folder / "all.zip", "w") as archive:
            for i, image in enumerate(TEST):
                Image.fromarray(image).save(self.folder / f"{i}.png")
                archive.write(self.folder / f"{i}.png", f"{i}.png")

    def path(self, i):
        return self.folder / f"{i}.png"

    def content(self, i):
        return self.path(i).read_bytes()

    def member(self, i):
        return zipfile.Path(self.folder / "all.zip", f"{i}.png")


FILES = Files()
ITEMS = {  # one image in every form, by its number among the test images
    "array": lambda i: TEST[i],
    "wide array": lambda i: TEST[i].astype(np.int64),
    "big-endian array": lambda i: TEST[i].astype(">u2"),
    "view": lambda i: TEST[i][:, ::-1][:, ::-1],
    "tensor": lambda i: torch.from_numpy(TEST[i]).movedim(2, 0),
    "array of another library": lambda i: ArrayLike(TEST[i]),
    "PIL": lambda i: Image.fromarray(TEST[i]),
    "text": lambda i: str(FILES.path(i)),
    "path": lambda i: FILES.path(i),
    "text of NumPy": lambda i: np.str_(FILES.path(i)),
    "scalar of Arrow": lambda i: pa.scalar(str(FILES.path(i))),
    "bytes": lambda i: FILES.content(i),
    "bytearray": lambda i: bytearray(FILES.content(i)),
    "memoryview": lambda i: memoryview(FILES.content(i)),
    "file in memory": lambda i: io.BytesIO(FILES.content(i)),
    "stream": lambda i: OneWay(FILES.content(i)),
    "only read": lambda i: ReadOnce(FILES.content(i)),
    "zip": lambda i: FILES.member(i),
    "stored": lambda i: {"bytes": FILES.content(i), "path": None},
    "stored with a name": lambda i: {"bytes": FILES.content(i), "path": "gone.png"},
    "stored path": lambda i: {"bytes": None, "path": str(FILES.path(i))},
}
FILE_ITEMS = "text", "bytes", "stored", "stored with a name", "stored path"  # in any column
OBJECTS = [name for name in ITEMS if name != "scalar of Arrow"]  # in columns of objects


def object_array(items):
    return np.fromiter(items, dtype=object, count=len(items))


CONTAINERS = {  # a collection of items, and which items it can hold
    "list": (list, tuple(ITEMS)),
    "tuple": (tuple, tuple(ITEMS)),
    "generator": (iter, tuple(ITEMS)),
    "object array": (object_array, tuple(ITEMS)),
    "list of another class": (UserList, tuple(ITEMS)),
    "data set": (Rows, tuple(ITEMS)),
    "labelled list": (lambda items: [(item, 1) for item in items], tuple(ITEMS)),
    "pandas": (lambda items: pd.Series(items, dtype=object), OBJECTS),
    "pandas, other index": (lambda items: pd.Series(items, range(9, 15), dtype=object), OBJECTS),
    "frame of pandas": (lambda items: pd.DataFrame({"columns": pd.Series(items)}), OBJECTS),
    "polars": (pl.Series, FILE_ITEMS),
    "frame of polars": (lambda items: pl.DataFrame({"x": items}), FILE_ITEMS),
    "Arrow": (pa.array, FILE_ITEMS),
    "chunks of Arrow": (lambda items: pa.chunked_array([items[:2], items[2:]]), FILE_ITEMS),
    "table of Arrow": (lambda items: pa.table({"x": items}), FILE_ITEMS),
}
WHOLE = {  # forms of all test images together
    "array": lambda: TEST,
    "Fortran order": lambda: np.asfortranarray(TEST),
    "floats": lambda: TEST / 255,
    "nested lists": lambda: TEST.tolist(),
    "array of another library": lambda: ArrayLike(TEST),
    "tensor": lambda: torch.from_numpy(TEST).movedim(3, 1),
    "array of bytes": lambda: np.array([str(FILES.path(i)) for i in range(6)], dtype="S"),
    "column of lists": lambda: pd.Series(TEST.tolist()),
    "tensors of Arrow": lambda: pa.FixedShapeTensorArray.from_numpy_ndarray(TEST.copy()),
    "lists of Arrow": lambda: pa.table({"x": pa.array(TEST.tolist())}),
    "lists of polars": lambda: pl.DataFrame({"x": TEST.tolist()}),
    "arrays of polars": lambda: pl.Series(TEST),
    "bytes and path": lambda: {"bytes": list(map(FILES.content, range(6))), "path": [None] * 6},
}


def draw_form(rng):
    """Return a name and X: the test images in some form, maybe of several kinds of items.

    ``rng`` is a ``random.Random``.
    """
    if rng.random() < 0.2:
        name = rng.choice(sorted(WHOLE))
        return name, WHOLE[name]()
    container = rng.choice(sorted(CONTAINERS))
    make, allowed = CONTAINERS[container]
    kinds = [rng.choice(sorted(allowed))] * 6
    if rng.random() < 0.5 and allowed is not FILE_ITEMS:  # these columns have one type
        kinds = [rng.choice(sorted(allowed)) for _ in range(6)]
    return f"{container} of {kinds}", make([ITEMS[kind](i) for i, kind in enumerate(kinds)])


forms = st.builds(draw_form, st.randoms(use_true_random=False))


ODD = {  # items that are no image
    "None": lambda: None,
    "NaN": lambda: float("nan"),
    "NA": lambda: pd.NA,
    "NaT": lambda: pd.NaT,
    "number": lambda: 7,
    "object": object,
    "set": lambda: {1, 2},
    "mapping": lambda: {"a": 1},
    "list": lambda: [1, 2],
    "type": lambda: int,
    "damaged": lambda: FILES.content(0)[:200],
    "no image": lambda: b"no image",
    "nothing": lambda: b"",
    "missing": lambda: "missing.png",
    "NUL": lambda: "a\0.png",
    "surrogate": lambda: "a\udc80.png",
    "folder": lambda: str(FILES.folder),
    "bytes of a path": lambda: str(FILES.path(0)).encode(),
    "text file": lambda: io.StringIO("text"),
    "scalar": lambda: np.array(5),
    "vector": lambda: np.arange(5),
    "batch": lambda: TEST[:2],
    "floats of 255": lambda: TEST[0] * 1.0,
    "complex": lambda: TEST[0] * 1j,
    "negative": lambda: TEST[0].astype(int) - 500,
    "no pixels": lambda: TEST[0][:0],
    "masked": lambda: np.ma.masked_equal(TEST[0], TEST[0, 0, 0, 0]),
    "meta": lambda: torch.zeros(3, 8, 8, device="meta"),
    "sparse": lambda: torch.zeros(3, 8, 8).to_sparse(),
    "stored nothing": lambda: {"bytes": None, "path": None},
}
