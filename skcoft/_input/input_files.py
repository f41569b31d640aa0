"""The files that images of X are read from, which no output may replace."""

from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from typing import Any

from PIL import Image

from .._utils.files import FileIndex, index_files
from .items import is_open_file
from .recognize import as_items
from .types import ImagesLike


def index_inputs(**collections: ImagesLike | None) -> FileIndex:
    """Return an index of the image files in collections, given by the names of the arguments.

    A stream would be read; pass a list of its items.
    """
    return index_files(
        (path, f"the image {path!r} of {name}")
        for name, X in collections.items()
        for item in (None if X is None else as_items(X)) or ()
        for path in _paths_of(item)
    )


def _paths_of(item: Any) -> Iterator[str]:
    """Yield the paths of an item: of a path, an open file, a PIL image or a sample of these."""
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
