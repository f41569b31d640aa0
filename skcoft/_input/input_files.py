"""The files that images of X are read from, which no output may replace."""

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike, fspath
from typing import Any

from PIL import Image

from .._utils.files import FileIndex, index_files
from .items import is_labelled, is_open_file
from .recognize import as_items
from .types import ImagesLike


def index_inputs(**collections: ImagesLike | None) -> FileIndex:
    """Return an index of the image files in collections, given by the names of the arguments.

    A stream would be read; pass a list of its items. Pass collections as the user passed them,
    because contents of open files do not have names.
    """
    return index_files(
        (path, f"the image {path!r} of {name}")
        for name, X in collections.items()
        for item in _items_of(X)
        for path in _paths_of(item)
    )


def _items_of(X: ImagesLike | None) -> Iterable[Any]:
    """Return the items of a collection of images; none of an array or a table."""
    if X is None or isinstance(X, (list, tuple)):
        return X or ()
    return as_items(X) or ()


def _paths_of(item: Any) -> Iterator[str]:
    """Yield the paths of an item: of a path, an open file, a PIL image or a sample of these."""
    if is_labelled(item):
        item = item[0]
    if isinstance(item, Mapping):
        for image in item.values():
            yield from _paths_of(image)
        return
    if isinstance(item, Image.Image):
        item = getattr(item, "filename", None)
    elif is_open_file(item):
        item = getattr(item, "name", None)
    if isinstance(item, (str, PathLike)) and isinstance(fspath(item), str) and fspath(item):
        yield fspath(item)
