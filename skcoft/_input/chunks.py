"""Split X into chunks, so that a large collection is never in memory as a whole."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from joblib import cpu_count
from PIL import Image
from sklearn import get_config

from .pixels import is_one_image
from .recognize import Source, iter_items, recognize, recognize_chunk
from .types import ImagesLike

MAX_CHUNK_SIZE = 1024  # images; embeddings of this many are in memory at once
MIN_CHUNK_FILES = 8  # files per chunk, however large the images are
CHUNK_MEMORY_SHARE = 1 / 16  # of scikit-learn's working_memory, for the images of a chunk
DECODED_MEMORY_SHARE = 1 / 4  # of working_memory, for the decoded and resized files of a chunk

Item = TypeVar("Item")
Result = TypeVar("Result")


def iter_chunks(X: ImagesLike | Source) -> Iterator[tuple[int, Source]]:
    """Yield (position of the first image in X, recognised chunk).

    Arrays are sliced. Streams and lazy sequences are read chunk by chunk. Lists are in memory
    anyway and are one chunk, so that an error about a list takes all of its items into account.
    """
    source = recognize(X)
    if source.form in ("stream", "lazy"):
        chunk = None
        for first, items in _batches(iter_items(source)):
            chunk = recognize_chunk(items, chunk)
            yield first, chunk
    elif source.form in ("array", "tensor") and _is_sliceable(source.values):
        step = _images_per_chunk(source.values)
        for first in range(0, max(len(source), 1), step):
            yield first, source.take(slice(first, first + step))
    else:
        yield 0, source


def iter_parts(source: Source) -> Iterator[tuple[int, Source]]:
    """Yield (position of the first item, part) of a recognised chunk, lists included."""
    if not isinstance(source.values, list):
        yield 0, source
        return
    for first, items in _batches(iter(source.values)):
        yield first, Source(source.form, items, source.names)


def files_per_chunk(n_bytes: int) -> int:
    """Return how many files make a chunk if each takes ``n_bytes`` when decoded and resized."""
    return max(MIN_CHUNK_FILES, int(_memory(DECODED_MEMORY_SHARE) / max(n_bytes, 1)))


def prefetch(
    function: Callable[[Item], Result], items: Iterable[Item], n_jobs: int | None
) -> Iterator[Result]:
    """Yield ``function(item)`` in order, computed in ``n_jobs`` threads ahead of the consumer.

    At most ``n_jobs`` results wait. ``joblib.Parallel(return_as="generator")`` does not bound
    them: it computes all results however slowly they are consumed. None means no threads, -1 one
    per core, -2 one fewer, as in joblib.
    """
    if n_jobs is None or n_jobs == 1:
        yield from map(function, items)
        return
    if n_jobs < 0:
        n_jobs = max(1, cpu_count() + 1 + n_jobs)
    with ThreadPoolExecutor(n_jobs) as pool:
        waiting: deque[Future[Result]] = deque()
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


def _batches(items: Iterator[Any]) -> Iterator[tuple[int, list[Any]]]:
    """Yield (position of the first item, items) within the memory of a chunk; [] if none."""
    batch: list[Any] = []
    n_bytes, first = 0, 0
    for item in items:
        batch.append(item)
        n_bytes += _item_bytes(item)
        if len(batch) == MAX_CHUNK_SIZE or n_bytes > _memory(CHUNK_MEMORY_SHARE):
            yield first, batch
            first += len(batch)
            batch, n_bytes = [], 0
    if batch or not first:
        yield first, batch


def _is_sliceable(X: Any) -> bool:
    is_array = getattr(X, "ndim", 0) >= 3 and hasattr(X, "__getitem__")
    return is_array and not is_one_image(X.shape)


def _images_per_chunk(X: Any) -> int:
    itemsize = getattr(getattr(X, "dtype", None), "itemsize", 8)
    n_bytes = max(1, np.prod([int(size) for size in X.shape[1:]]) * itemsize)
    return min(MAX_CHUNK_SIZE, max(int(_memory(CHUNK_MEMORY_SHARE) / n_bytes), 1))


def _memory(share: float) -> float:
    """Return a share of scikit-learn's ``working_memory`` in bytes."""
    return get_config()["working_memory"] * 2**20 * share


def _item_bytes(item: Any) -> int:
    """Return how many bytes an item takes, without its label."""
    item = item[0] if isinstance(item, tuple) and item else item
    if isinstance(item, Mapping):
        return sum(map(_item_bytes, item.values()))
    if isinstance(item, Image.Image):
        return item.width * item.height * len(item.getbands())
    if isinstance(item, (bytes, bytearray)):
        return len(item)
    if isinstance(item, torch.Tensor):  # sparse ones have no nbytes
        return item.numel() * item.element_size()
    n_bytes = getattr(item, "nbytes", 0)
    return n_bytes if isinstance(n_bytes, int) else 0
