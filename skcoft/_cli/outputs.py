"""Decide, before anything is read, whether a command may write its outputs."""

import argparse
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from .._utils.files import (
    FileIndex,
    as_file_path,
    check_output_path,
    find_file,
    index_files,
    refuse_input,
)
from ..report._tables import map_files
from .parser import DEFAULT_WEIGHTS

INPUT_FILES = "model", "mask", "weights"
INPUT_FOLDERS = "normal_folder", "folder", "calibrate", "shots"
OPTIONS = {"mask", "weights", "calibrate", "shots"}  # the others are positional


def check_outputs(options: argparse.Namespace, names_of_maps: Sequence[str] = ()) -> None:
    """Raise an error unless all outputs of a command are new files, or may be replaced.

    No output is an input, no two outputs are one file, and existing files are replaced only with
    ``--overwrite``. Real paths count, so links lead to the same answer.
    """
    outputs = {name: getattr(options, name, None) for name in ("output", "regions")}
    files = [(f"--{name} ", path) for name, path in outputs.items() if path is not None]
    for name, path in files:
        check_output_path(path, name)
    if getattr(options, "maps", None) is not None:
        _check_maps_folder(options.maps, options.folder)
        maps = map_files(options.maps, names_of_maps)
        files += [("--maps ", as_file_path(path, "--maps ")) for path in maps]
    inputs = index_inputs_of(options)
    for name, path in files:
        refuse_input(name, path, inputs)
    _check_distinct(files)
    for name, path in files:
        if path.exists() and not options.overwrite:
            raise FileExistsError(
                f"{name}{str(path)!r} exists. Pass another path, or --overwrite to replace it."
            )


def _check_maps_folder(maps: Path, folder: Path) -> None:
    """Raise an error if maps cannot be written, or would count as images in the next run."""
    if maps.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"--maps {str(maps)!r} lies in the folder of images {str(folder)!r}. Its maps would "
            "count as images in the next run. Pass another folder."
        )
    if maps.exists() and not maps.is_dir():
        raise NotADirectoryError(f"--maps {str(maps)!r} is a file. Pass a folder.")


def _check_distinct(files: Sequence[tuple[str, Path]]) -> None:
    """Raise an error if two outputs are one file, or the folder of one is a file."""
    index: FileIndex = {}
    for name, path in files:
        other = find_file(path, index)
        if other is not None:
            raise ValueError(
                f"{name}{str(path)!r} and {other} are the same file. Pass different paths."
            )
        index |= index_files([(path, f"{name}{str(path)!r}")])
    folders = {folder: (name, path) for name, path in files for folder in _folders_of(path)}
    for folder, (name, path) in folders.items():
        in_the_way = index.get(os.path.normcase(folder))
        if in_the_way is None and os.path.exists(folder) and not os.path.isdir(folder):
            in_the_way = f"{folder!r}"
        if in_the_way is not None:
            raise NotADirectoryError(
                f"{name}{str(path)!r} needs a folder in the place of {in_the_way}, which is a "
                "file. Pass another path."
            )


def _folders_of(path: Path) -> list[str]:
    return [str(folder) for folder in Path(os.path.realpath(path)).parents]


def index_inputs_of(options: argparse.Namespace) -> FileIndex:
    """Return an index of all files that a command reads: models, masks, weights and images."""
    return index_files(_iter_inputs(options))


def _iter_inputs(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    for name in (*INPUT_FILES, *INPUT_FOLDERS):
        value = getattr(options, name, None)
        if value is None or value == DEFAULT_WEIGHTS:
            continue
        argument = f"--{name}" if name in OPTIONS else name
        for path in _image_files(value) if name in INPUT_FOLDERS else [str(value)]:
            yield path, f"an input of this command, {argument} {path!r}"


def _image_files(folder: Path) -> Iterable[str]:
    """Yield the files in a folder that may be images or masks, whether they are used or not.

    Links to folders are followed, as by ``load_folder``; each folder is read once.
    """
    suffixes = set(Image.registered_extensions())
    visited: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        for name in names:
            if os.path.splitext(name)[1].lower() in suffixes:
                yield os.path.join(parent, name)
