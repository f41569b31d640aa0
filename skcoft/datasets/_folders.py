"""Folders of images: what lies where, and what that says of each image."""

from os import PathLike, fspath
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

SUFFIXES = {".bmp", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
SPLITS = "train", "val", "validation", "test"
NORMAL = "good", "normal", "ok"
MASKS = "ground_truth"


def load_folder(path, *, normal="auto"):
    """Find the images of a folder, and what its subfolders say of them; none is read.

    The layouts that are known stand at the head of :mod:`skcoft.datasets`.

    Parameters
    ----------
    path : str or path
        The folder.
    normal : str or None, default="auto"
        Name of the folder whose images are normal; all others are anomalies. ``"auto"`` is the
        one called good, normal or ok, in capitals or not. None knows of no labels: every image
        counts, in whatever folders.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        Columns, in the order of the images' paths in the folder: ``paths`` are what ``fit`` and
        ``score_samples`` take as X. ``labels`` are +1 for normal and -1 for anomalies, or
        None for a flat folder and with ``normal=None``. ``kinds`` are the names of the folders
        that say what an image shows, ``""`` where there is none, ``masks`` the files that show
        where the defect is, or None, and ``split`` is ``"train"``, ``"val"``,
        ``"validation"``, ``"test"`` or ``""``.

    Raises
    ------
    FileNotFoundError
        If there is no such folder; NotADirectoryError if it is a file.
    ValueError
        If it holds no image, its normal images cannot be told by ``normal`` (the choices are
        named), it holds several data sets, or there are images beside folders with images.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skcoft.datasets import load_folder
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("good/1.png", "good/2.png", "scratch/3.png"):
    ...         Path(folder, name).parent.mkdir(exist_ok=True)
    ...         Path(folder, name).touch()
    ...     data = load_folder(folder)
    >>> data.kinds.tolist(), data.labels.tolist()
    (['good', 'good', 'scratch'], [1, 1, -1])
    """
    root = _checked_root(path, normal)
    files = _visible_files(root)
    masks = _masks_among(files, root)
    images = [file for file in files if masks.get(file.with_suffix("")) != file]
    if not images:
        suffixes = ", ".join(sorted(SUFFIXES))
        raise ValueError(f"{str(root)!r} holds no image: no name ends in {suffixes}.")
    return _described(root, images, masks, normal)


def _described(root, images, masks, normal):
    """Return the columns of a folder's images."""
    places = [_place(file.relative_to(root).parts) for file in images]
    labels = None
    if normal is not None and (normal != "auto" or set(places) != {("", "")}):
        _check_layout(root, images, places)
        name = _normal_kind(root, normal, sorted({kind for _, kind in places}))
        labels = np.array([1 if kind == name else -1 for _, kind in places])
    return Bunch(
        paths=_column(map(str, images)),
        labels=labels,
        kinds=_column(kind for _, kind in places),
        masks=_column(_mask_of(file, root, masks) for file in images),
        split=_column(split for split, _ in places),
    )


def _checked_root(path, normal):
    if not isinstance(path, (str, PathLike)):
        raise ValueError(f"path must be the name of a folder; got {type(path).__name__}.")
    if normal is not None and not isinstance(normal, str):
        raise ValueError(
            f"normal must be the name of a folder, 'auto' or None; got {type(normal).__name__}."
        )
    root = Path(fspath(path))
    if not root.exists():
        raise FileNotFoundError(f"There is no folder {str(root)!r}.")
    if not root.is_dir():
        raise NotADirectoryError(f"{str(root)!r} is a file; a folder of images is wanted.")
    return root


def _visible_files(root):
    """Image files under a folder by name, less what is hidden."""
    found = (
        file
        for file in root.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
        and file.is_file()
    )
    return sorted(found, key=lambda file: file.relative_to(root).as_posix())


def _masks_among(files, root):
    """Masks among image files, by their path without suffix."""
    stems = {file.with_suffix("") for file in files}
    return {
        file.with_suffix(""): file
        for file in files
        if file.is_relative_to(root / MASKS)
        or (file.stem.endswith("_mask") and _without_mask(file) in stems)
    }


def _without_mask(file):
    return file.with_name(file.stem.removesuffix("_mask"))


def _mask_of(file, root, masks):
    """Mask of an image: beside it, or in the tree of masks; those are not of training images."""
    stem = file.with_suffix("")
    split, inside = _split_off(stem.relative_to(root).parts)
    places = [stem] if split == "train" else [stem, root.joinpath(MASKS, *inside)]
    named = [place.with_name(place.name + "_mask") for place in places] + places[1:]
    return next((str(masks[name]) for name in named if name in masks), None)


def _split_off(parts):
    """Split, or "", and what follows, of the parts of an image's path in the folder."""
    return (parts[0], parts[1:]) if len(parts) > 1 and parts[0] in SPLITS else ("", parts)


def _place(parts):
    """(split, kind) of the image at a path."""
    split, inside = _split_off(parts)
    return split, inside[0] if len(inside) > 1 else ""


def _check_layout(root, images, places):
    """Raise ValueError for images whose kind no folder says, and for several data sets at once."""
    sets = {file.relative_to(root).parts[0] for file in images if _is_in_set(file, root)}
    if sets:
        raise ValueError(
            f"{str(root)!r} holds several folders with {SPLITS[0]} and {SPLITS[-1]} in them: "
            f"{_listed(sorted(sets))}. Pass one of these, or normal=None for all images."
        )
    loose = [file for file, (_, kind) in zip(images, places, strict=True) if not kind]
    if loose:
        raise ValueError(
            f"{len(loose)} of {len(images)} images of {str(root)!r}, {loose[0].name!r} first, lie "
            "in no folder that says what they show. Pass a folder of images alone, one with a "
            "folder for each kind, or normal=None for images without labels."
        )


def _is_in_set(file, root):
    parts = file.relative_to(root).parts
    return len(parts) > 2 and parts[0] not in SPLITS and parts[1] in SPLITS


def _normal_kind(root, normal, kinds):
    """Name of the folder of normal images."""
    if normal != "auto":
        if normal not in kinds:
            raise ValueError(
                f"normal={normal!r} is no folder with images in {str(root)!r}; there are "
                f"{_listed(kinds)}."
            )
        return normal
    found = [kind for kind in kinds if kind.casefold() in NORMAL]
    if len(found) != 1:
        several = "several" if found else "none"
        raise ValueError(
            f"Which images of {str(root)!r} are normal? Of its folders {_listed(kinds)}, "
            f"{several} are called {', '.join(NORMAL[:-1])} or {NORMAL[-1]}. Name one by normal."
        )
    return found[0]


def _listed(names, most=10):
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")


def _column(values):
    return np.array([*values], dtype=object)
