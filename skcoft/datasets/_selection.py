"""The images of a folder that a command uses, and a note on what it does not use."""

import os
from dataclasses import dataclass

import numpy as np
from sklearn.utils import Bunch

from ._folders import describe_skipped, load_folder


@dataclass(frozen=True)
class Selection:
    """Images of a folder that a command uses.

    Attributes
    ----------
    paths : ndarray of str
        Paths of the images.
    labels : ndarray of int or None
        +1 and -1. None unless the label of every image is certain.
    note : str
        What the user would not expect from the command alone; "" if there is nothing to say.
    """

    paths: np.ndarray
    labels: np.ndarray | None
    note: str


def select_normal(
    folder: str | os.PathLike[str], normal: str | None, split: str = "train"
) -> Selection:
    """Return the normal images of one split of a data set, or of a folder without splits.

    Images without a label are used if none is labelled normal. If ``split`` is ``"validation"``
    and there is no such split, the training images are used.
    """
    data = load_folder(folder, normal=normal or "auto")
    names = ["validation", "val", "train"] if split == "validation" else [split]
    in_split = _in_split(data, next((name for name in names if name in data.split), ""))
    labels = np.zeros(len(data.paths), int) if data.labels is None else data.labels
    label = 1 if (in_split & (labels == 1)).any() else 0
    selected = in_split & (labels == label)
    if not selected.any():
        raise ValueError(
            f"{str(folder)!r} holds no normal image to train on. Pass another folder, or the name "
            "of its subfolder with normal images as --normal."
        )
    if label == 1:
        unused = {"images without a label": int((in_split & (labels == 0)).sum())}
    else:
        unused = {"images labelled anomalous": int((in_split & (labels == -1)).sum())}
    return _selection(folder, data, selected, unused)


def select_to_score(folder: str | os.PathLike[str], normal: str | None) -> Selection:
    """Return the test images of a data set, or all images of a folder without a test split."""
    try:
        data = load_folder(folder, normal=normal or "auto")
    except ValueError:
        if normal is not None:
            raise
        data = load_folder(folder, normal=None)  # several data sets
    return _selection(folder, data, _in_split(data, "test"))


def _in_split(data: Bunch, split: str) -> np.ndarray:
    """Return which images belong to a split; all of them if there is no such split."""
    return data.split == split if split in data.split else np.full(len(data.paths), True)


def _selection(
    folder: str | os.PathLike[str],
    data: Bunch,
    selected: np.ndarray,
    unused: dict[str, int] | None = None,
) -> Selection:
    """Return the selected images with a note on folders, labels and files that are not used."""
    paths = data.paths[selected]
    labels = None if data.labels is None else data.labels[selected]
    n_folders = len(set(map(os.path.dirname, paths)))
    parts = []
    if n_folders > 1 and (labels is None or not labels.all()):
        parts.append(f"{len(paths)} images in {n_folders} folders. ")
    if labels is not None and labels.any() and not labels.all():
        parts.append(
            f"The folders of {(labels == 0).sum()} images do not say whether they are normal, so "
            "no accuracy is given. "
        )
    counts = data.skipped | {reason: n for reason, n in (unused or {}).items() if n}
    parts.append(describe_skipped(counts))
    note = "".join(parts).strip()
    certain = labels if labels is not None and labels.all() else None
    return Selection(paths, certain, f"{os.fspath(folder)!r}: {note}" if note else "")
