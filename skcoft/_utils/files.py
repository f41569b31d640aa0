"""Write files: check the output before the work, and replace a file only when it is complete."""

import os
import re
import socket
import time
from collections.abc import Hashable, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from stat import S_ISDIR
from typing import Any
from uuid import uuid4

# A temporary file is named after the machine and the process that write it, and a random part.
TEMPORARY_NAME = re.compile(r"\.skcoft-(\w+)-(\d+)-\w+\.part")
MAX_SECONDS_OF_WRITING = 24 * 3600  # an older temporary file is left over, whoever wrote it

FileIndex = dict[Hashable, str]
"""Descriptions of files by their keys, see ``index_files``."""


def as_file_path(path: Any, name: str = "path=") -> Path:
    """Return a path as Path; raise an error unless it is that of a file or of nothing yet.

    ``name`` is what the user calls the path.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"path must be a str or a path-like object; got {path!r}.")
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{name}{str(path)!r} is a folder. Pass the path of a file.")
    if path.exists() and not path.is_file():
        raise ValueError(f"{name}{str(path)!r} is a device or a pipe. Pass the path of a file.")
    return path


def check_output_path(path: Any, name: str = "path=") -> Path:
    """Return the path of a file to write; raise an error if it cannot be written there."""
    path = as_file_path(path, name)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder of {name}{str(path)!r} does not exist. Create it.")
    return path


def file_keys(path: str | os.PathLike[str]) -> list[Hashable]:
    """Return what identifies a file: its real path and, if it exists, its device and number.

    So a file and all symbolic and hard links to it have a key in common.
    """
    real = os.path.realpath(path)
    keys: list[Hashable] = [os.path.normcase(real)]
    with suppress(OSError, ValueError):
        status = os.stat(real)
        if status.st_ino and not S_ISDIR(status.st_mode):
            keys.append((status.st_dev, status.st_ino))
    return keys


def index_files(files: Iterable[tuple[str | os.PathLike[str], str]]) -> FileIndex:
    """Return an index of files, given as (path, description), in which links are found too."""
    return {key: description for path, description in files for key in file_keys(path)}


def find_file(path: str | os.PathLike[str], index: Mapping[Hashable, str]) -> str | None:
    """Return the description of a file in an index; None if the file is not in it."""
    return next((index[key] for key in file_keys(path) if key in index), None)


def refuse_input(name: str, path: str | os.PathLike[str], inputs: FileIndex) -> None:
    """Raise ValueError if the path of a file to write, which users call ``name``, is an input."""
    description = find_file(path, inputs)
    if description is not None:
        raise ValueError(
            f"{name}{os.fspath(path)!r} is {description}, which would be replaced. Pass another "
            "path."
        )


def atomic_write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file as ``replace_file`` does, and remove what killed processes left beside it."""
    remove_stale(os.path.dirname(os.path.realpath(path)))
    replace_file(path, content)


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that readers see either its earlier content or the new one, complete.

    The content is first written to a temporary file in the same folder. That file is removed if
    writing fails or is interrupted, and by ``remove_stale`` if the process was killed.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".skcoft-{_machine()}-{os.getpid()}-{uuid4().hex[:8]}.part")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None:  # name the file that was meant
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def remove_stale(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files in a folder that processes left when they were killed."""
    with suppress(OSError):
        for name in os.listdir(folder):
            match = TEMPORARY_NAME.fullmatch(name)
            if match and _is_stale(Path(folder, name), match[1], int(match[2])):
                Path(folder, name).unlink()


def _is_stale(temporary: Path, machine: str, process: int) -> bool:
    """Return whether the process that writes a temporary file has ended."""
    if time.time() - temporary.stat().st_mtime > MAX_SECONDS_OF_WRITING:
        return True
    if machine != _machine() or os.name == "nt":  # where os.kill would end the process
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # a process of another user
        return False
    return False


def _machine() -> str:
    """Return an identifier of this machine for the names of files."""
    return sha256(socket.gethostname().encode()).hexdigest()[:8]
