"""Load the paths, labels and masks of the images in a folder."""

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ._files import list_image_files
from ._layout import FolderFile, Labels, data_sets, separate_masks

MAX_NAMED_REASONS = 6  # in a message


def load_folder(path: str | PathLike[str], *, normal: str | None = "auto") -> Bunch:
    """List the images below a folder with the labels that the names of subfolders give.

    The supported layouts are described in :mod:`skcoft.datasets`. No image is read, except where
    ``3.png`` lies beside ``3.jpg`` and may be its mask.

    Parameters
    ----------
    path : str or path
        The folder. All images below it are listed. Links to folders are followed.
    normal : str or None, default="auto"
        Name of the subfolder with the normal images; upper and lower case do not matter. Images
        in the folders beside it are anomalies. ``"auto"`` means the subfolders called good, normal
        or ok. With None, there are no labels.

    Returns
    -------
    :class:`~sklearn.utils.Bunch`
        Arrays of shape (n_images,), sorted by path, and ``skipped``:

        paths : ndarray of str
            Paths, to be passed as X to ``fit`` and ``score_samples``.
        labels : ndarray of int or None
            +1 for normal images, -1 for anomalies, 0 if the names of the folders do not say it.
            None if they say it of no image, and with ``normal=None``.
        kinds : ndarray of str
            Class of each image: the name of the folder that decides its label or, without a label,
            of its first folder; ``""`` without one.
        masks : ndarray of str or None
            Path of the mask that shows the defect, the first one if there are several; None for
            images without a mask.
        split : ndarray of str
            ``"train"``, ``"val"``, ``"validation"``, ``"test"`` or ``""``, by the nearest folder
            with such a name.
        skipped : dict
            Number of files that are not listed, by reason: ``"masks"``, ``"hidden or system
            files"`` and others, or the suffix of files that Pillow cannot decode, such as
            ``".txt"``.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    NotADirectoryError
        If ``path`` is a file.
    ValueError
        If the folder holds no images or, unless ``normal=None``, several data sets, or no
        subfolder has the name ``normal``.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skcoft.datasets import load_folder
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("good/1.png", "good/2.png", "scratch/3.png", "scratch/notes.txt"):
    ...         Path(folder, name).parent.mkdir(exist_ok=True)
    ...         Path(folder, name).touch()
    ...     data = load_folder(folder)
    >>> data.kinds.tolist(), data.labels.tolist(), data.skipped
    (['good', 'good', 'scratch'], [1, 1, -1], {'.txt': 1})
    """
    root = _checked_root(path, normal)
    paths, skipped = list_image_files(root)
    files = [FolderFile(file, file.relative_to(root).parts[:-1]) for file in paths]
    images, masks, no_images = separate_masks(files)
    skipped += no_images
    if not images:
        raise ValueError(
            f"{str(root)!r} holds no image that Pillow can open. {describe_skipped(skipped)}"
            "Pass a folder with image files, such as .png, .jpg or .tif."
        )
    folders = [image.folders for image in images]
    if normal is not None:
        _check_layout(root, images, normal)
    labels_of = Labels(folders, normal or "auto")
    by_folder = {path: labels_of.of(path) for path in set(folders)}
    labels = np.array([by_folder[path][0] for path in folders])
    return Bunch(
        paths=np.array([str(image.path) for image in images], dtype=object),
        labels=labels if normal is not None and labels.any() else None,
        kinds=np.array([by_folder[path][1] for path in folders], dtype=object),
        masks=np.array([masks.path_for(image) for image in images], dtype=object),
        split=np.array([image.split for image in images], dtype=object),
        skipped=dict(sorted(skipped.items())),
    )


def _checked_root(path: str | PathLike[str], normal: str | None) -> Path:
    """Return the folder as a path; raise an error for invalid parameters."""
    if not isinstance(path, (str, PathLike)) or not isinstance(fspath(path), str):
        raise ValueError(f"path must be the name of a folder; got {type(path).__name__}.")
    if normal is not None and not isinstance(normal, str):
        raise ValueError(
            f"normal must be the name of a folder, 'auto' or None; got {type(normal).__name__}."
        )
    root = Path(path)
    if not fspath(path) or not root.exists():
        raise FileNotFoundError(f"There is no folder {fspath(path)!r}.")
    if not root.is_dir():
        raise NotADirectoryError(f"{str(root)!r} is a file. Pass a folder of images.")
    return root


def _check_layout(root: Path, images: Sequence[FolderFile], normal: str) -> None:
    """Raise ValueError if there are several data sets, or no folder has the name ``normal``."""
    sets = data_sets(images)
    if len(sets) > 1:
        raise ValueError(
            f"{str(root)!r} holds several data sets, which have folders such as train and test: "
            f"{_list_names(sorted(name or str(root) for name in sets))}. Pass one of them, or "
            "normal=None for all images."
        )
    names = {name for image in images for name in image.folders}
    if normal != "auto" and normal.casefold() not in map(str.casefold, names):
        choice = f"Pass one of {_list_names(sorted(names))}." if names else "It has no subfolder."
        raise ValueError(
            f"normal={normal!r} is not a folder with images in {str(root)!r}. {choice}"
        )


def describe_skipped(skipped: dict[str, int]) -> str:
    """Return a sentence on what was passed over, the most frequent reasons first, or ""."""
    if not skipped:
        return ""
    reasons = sorted(skipped, key=lambda reason: (-skipped[reason], reason))
    parts = [f"{reason} ({skipped[reason]})" for reason in reasons[:MAX_NAMED_REASONS]]
    if rest := reasons[MAX_NAMED_REASONS:]:
        parts.append(f"others ({sum(skipped[reason] for reason in rest)})")
    return f"Not used: {', '.join(parts)}. "


def _list_names(names: Sequence[str], limit: int = 10) -> str:
    return ", ".join(map(repr, names[:limit])) + (", ..." if len(names) > limit else "")
