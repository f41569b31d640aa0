"""Write files: check the output before the work, and replace a file only when it is complete."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4


def as_file_path(path: Any) -> Path:
    """Return a path as Path; raise an error if it is not a path, or is the path of a folder."""
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"path must be a str or a path-like object; got {path!r}.")
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder. Pass the path of a file.")
    return path


def check_output_path(path: Any) -> Path:
    """Return the path of a file to write; raise an error if it cannot be written there."""
    path = as_file_path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder of path={str(path)!r} does not exist. Create it.")
    return path


def atomic_write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that readers see either its earlier content or the new one, complete.

    The content is first written to a temporary file in the same folder.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{uuid4().hex}.part")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
