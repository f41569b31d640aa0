"""Large collections in pieces: what is read as it is needed is never whole in memory."""

from collections import deque
from collections.abc import Iterable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from joblib import cpu_count
from PIL import Image
from sklearn import get_config

from .errors import is_mapping

MOST = 1024  # images at once: so many embeddings are kept
SHARE = 1 / 16  # of scikit-learn's working memory, for the images of a piece
DECODED = 1 / 4  # of it, for what files are resized to
LEAST = 8  # images of which that is kept, however large they are


def as_rereadable(X):
    """Return X, which will be read more than once: of a stream, a list."""
    if is_mapping(X):
        return {name: as_rereadable(column) for name, column in X.items()}
    return list(X) if is_stream(X) else X


def iter_chunks(X):
    """Yield (how many came before, piece) of a collection.

    Pieces of arrays are slices, those of iterators and of sequences that make their items are
    lists. A list is whole in memory already and is judged as a whole, as anything else is.
    """
    if is_stream(X):
        yield from _lists(X)
    elif _is_lazy(X):
        yield from _lists(X[i] for i in range(len(X)))
    elif getattr(X, "ndim", 0) >= 3 and hasattr(X, "__getitem__") and not is_one_image(X.shape):
        yield from _slices(X)
    else:
        yield 0, X


def is_stream(X):
    """Whether X can only be iterated over, as iterators and torch's IterableDataset can."""
    known = "__len__", "__array__", "shape", "columns", "compute"
    return isinstance(X, Iterable) and not any(hasattr(X, name) for name in known)


def _is_lazy(X):
    """Whether X is a sequence that makes its items when they are asked for."""
    known = isinstance(X, (list, tuple, str, bytes, bytearray, memoryview, Mapping, Set))
    converts = ("__array__", "columns", "to_list", "to_pylist", "compute")
    sequence = hasattr(X, "__len__") and hasattr(X, "__getitem__")
    return sequence and not known and not any(hasattr(X, name) for name in converts)


def is_one_image(shape):
    """Whether an array has the shape of one image (H, W, C) instead of many (n, H, W)."""
    return len(shape) == 3 and shape[2] in (1, 2, 3, 4)


def _lists(items):
    piece, used, first = [], 0, 0
    for item in items:
        piece.append(item)
        used += _bytes_of(item)
        if len(piece) == MOST or used > _budget():
            yield first, piece
            first += len(piece)
            piece, used = [], 0
    if piece or not first:
        yield first, piece


def _slices(X):
    shape = tuple(map(int, X.shape))
    itemsize = getattr(getattr(X, "dtype", None), "itemsize", 8)
    fitting = int(_budget() / max(1, np.prod(shape[1:]) * itemsize))
    step = min(MOST, max(fitting, 1))
    for first in range(0, max(shape[0], 1), step):
        yield first, X[first : first + step]


def files_per_chunk(size):
    """How many files make a piece, of which so many bytes each are kept when they are decoded."""
    return max(LEAST, int(get_config()["working_memory"] * 2**20 * DECODED / max(size, 1)))


def prefetch(function, items, n_jobs):
    """Yield ``function(item)`` in order, by ``n_jobs`` threads that are prefetch of who takes it.

    By no more than an item each, so that few results wait. None means no threads; -1 as many as
    there are cores, -2 all but one, as in joblib.
    """
    if n_jobs is None or n_jobs == 1:
        yield from map(function, items)
        return
    if n_jobs < 0:
        n_jobs = max(1, cpu_count() + 1 + n_jobs)
    with ThreadPoolExecutor(n_jobs) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > n_jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _budget():
    return get_config()["working_memory"] * 2**20 * SHARE


def _bytes_of(item):
    """Bytes that an item of a sequence takes; of an image with a label, those of the image."""
    item = item[0] if isinstance(item, tuple) and item else item
    if isinstance(item, Mapping):
        return sum(map(_bytes_of, item.values()))
    if isinstance(item, Image.Image):
        return item.width * item.height * len(item.getbands())
    return getattr(item, "nbytes", 0)
