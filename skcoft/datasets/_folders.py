"""Load the paths, labels and masks of the images in a folder."""

from collections.abc import Iterable, Sequence
from os import PathLike, fspath
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

IMAGE_SUFFIXES = {
    ".bmp", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"
}  # fmt: skip
SPLIT_FOLDERS = "train", "val", "validation", "test"
NORMAL_FOLDERS = "good", "normal", "ok"
MASK_FOLDER = "ground_truth"


def load_folder(path: str | PathLike[str], *, normal: str | None = "auto") -> Bunch:
    """List the images of a folder with the labels that its subfolders give; no image is read.

    The supported layouts are described in :mod:`skcoft.datasets`.

    Parameters
    ----------
    path : str or path
        The folder.
    normal : str or None, default="auto"
        Name of the subfolder with the normal images. Images in other subfolders are anomalies.
        ``"auto"`` means the subfolder called good, normal or ok; upper and lower case do not
        matter. With None, there are no labels, and all images are listed, whatever their folder.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        Arrays of shape (n_images,), sorted by path:

        paths : ndarray of str
            Paths, to be passed as X to ``fit`` and ``score_samples``.
        labels : ndarray of int or None
            +1 for normal images, -1 for anomalies. None for a flat folder, and with
            ``normal=None``.
        kinds : ndarray of str
            Class of each image, which is the name of its folder; ``""`` without one.
        masks : ndarray of str or None
            Path of the mask that shows the defect; None for images without one.
        split : ndarray of str
            ``"train"``, ``"val"``, ``"validation"``, ``"test"`` or ``""``.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    NotADirectoryError
        If ``path`` is a file.
    ValueError
        If the folder holds no images or several data sets, ``normal`` does not identify the normal
        images (the message lists the choices), or there are images beside folders of images.

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
    masks = _find_masks(files, root)
    images = [file for file in files if masks.get(file.with_suffix("")) != file]
    if not images:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(
            f"{str(root)!r} holds no image. Pass a folder with files that end in {suffixes}."
        )
    parts = [_split_off(file.relative_to(root).parts) for file in images]
    places = [(split, rest[0] if len(rest) > 1 else "") for split, rest in parts]
    labels = None
    if normal is not None and (normal != "auto" or set(places) != {("", "")}):
        _check_layout(root, images, places)
        name = _normal_kind(root, normal, sorted({kind for _, kind in places}))
        labels = np.array([1 if kind == name else -1 for _, kind in places])
    splits, kinds = zip(*places, strict=True)
    return Bunch(
        paths=np.array([str(file) for file in images], dtype=object),
        labels=labels,
        kinds=np.array(kinds, dtype=object),
        masks=np.array([_mask_of(file, root, masks) for file in images], dtype=object),
        split=np.array(splits, dtype=object),
    )


def _checked_root(path: str | PathLike[str], normal: str | None) -> Path:
    """Return the folder as a path; raise an error for invalid parameters."""
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
        raise NotADirectoryError(f"{str(root)!r} is a file. Pass a folder of images.")
    return root


def _visible_files(root: Path) -> list[Path]:
    """Return the image files of a folder that are not hidden, sorted by path."""
    files = (
        file
        for file in root.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
        and file.is_file()
    )
    return sorted(files, key=lambda file: file.relative_to(root).as_posix())


def _find_masks(files: Iterable[Path], root: Path) -> dict[Path, Path]:
    """Return the masks among image files, by their path without suffix."""
    stems = {file.with_suffix("") for file in files}
    return {
        file.with_suffix(""): file
        for file in files
        if file.is_relative_to(root / MASK_FOLDER)
        or (file.stem.endswith("_mask") and file.with_name(file.stem[: -len("_mask")]) in stems)
    }


def _mask_of(file: Path, root: Path, masks: dict[Path, Path]) -> str | None:
    """Return the mask of an image: beside it or, except for training images, in MASK_FOLDER."""
    stem = file.with_suffix("")
    split, rest = _split_off(stem.relative_to(root).parts)
    places = [stem] if split == "train" else [stem, root.joinpath(MASK_FOLDER, *rest)]
    candidates = [place.with_name(place.name + "_mask") for place in places] + places[1:]
    return next((str(masks[name]) for name in candidates if name in masks), None)


def _split_off(parts: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the split of an image, or "", and the rest of its path in the folder."""
    return (parts[0], parts[1:]) if len(parts) > 1 and parts[0] in SPLIT_FOLDERS else ("", parts)


def _check_layout(root: Path, images: Sequence[Path], places: Sequence[tuple[str, str]]) -> None:
    """Raise ValueError if the folder holds several data sets, or images without a class."""
    paths = [file.relative_to(root).parts for file in images]
    # data sets with splits, in subfolders
    sets = {path[0] for path in paths if not _split_off(path)[0] and _split_off(path[1:])[0]}
    if sets:
        raise ValueError(
            f"{str(root)!r} holds several data sets, which have the folders {SPLIT_FOLDERS[0]} "
            f"and {SPLIT_FOLDERS[-1]}: {_list_names(sorted(sets))}. Pass one of them, or "
            "normal=None for all images."
        )
    loose = [file for file, (_, kind) in zip(images, places, strict=True) if not kind]
    if loose:
        raise ValueError(
            f"{len(loose)} of {len(images)} images in {str(root)!r} are not in the folder of a "
            f"class; the first is {loose[0].name!r}. Pass a folder with images only, a folder "
            "with a subfolder for each class, or normal=None to ignore labels."
        )


def _normal_kind(root: Path, normal: str, kinds: Sequence[str]) -> str:
    """Return the name of the folder of normal images."""
    if normal != "auto":
        if normal not in kinds:
            raise ValueError(
                f"normal={normal!r} is not a folder with images in {str(root)!r}. Pass one of "
                f"{_list_names(kinds)}."
            )
        return normal
    matches = [kind for kind in kinds if kind.casefold() in NORMAL_FOLDERS]
    if len(matches) != 1:
        how_many = "several" if matches else "none"
        raise ValueError(
            f"normal='auto' needs one folder called {', '.join(NORMAL_FOLDERS[:-1])} or "
            f"{NORMAL_FOLDERS[-1]}; {how_many} of the folders {_list_names(kinds)} in "
            f"{str(root)!r} are. Pass the name of the folder of normal images as normal."
        )
    return matches[0]


def _list_names(names: Sequence[str], limit: int = 10) -> str:
    return ", ".join(map(repr, names[:limit])) + (", ..." if len(names) > limit else "")
