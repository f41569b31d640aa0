"""Labels and masks of the images in a folder, from the names of folders and files."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from ._files import is_binary_image
from ._names import (
    MASK_WORDS,
    image_stem,
    is_structural_name,
    is_unlabelled_name,
    label_of_name,
    memoized,
    role_of_name,
    split_of_name,
    words_in,
)

MASK, OTHER_MODALITY = "masks", "images of another modality"
MASK_SUFFIXES = {".bmp", ".gif", ".png", ".tif", ".tiff"}  # formats that keep the values
Key: TypeAlias = tuple[str, tuple[str, ...], str]
"""Where an image and its mask meet: their split, folders, and stem of the name."""


@dataclass(frozen=True)
class FolderFile:
    """An image file: its path and the names of the folders that it lies in, below the root."""

    path: Path
    folders: tuple[str, ...]

    @cached_property
    def split(self) -> str:
        """The split that the nearest folder stands for, or ""."""
        return next(filter(None, map(split_of_name, reversed(self.folders))), "")

    @cached_property
    def place(self) -> tuple[str, ...]:
        """The folders that an image and its mask share."""
        folders = [folder for folder in self.folders if not is_structural_name(folder)]
        return tuple(filter(None, map(_shared_name, folders)))

    @property
    def stem(self) -> str:
        return self.path.stem.casefold()


@memoized
def _shared_name(folder: str) -> str:
    """Return the name of a folder without what says that it holds masks or another modality."""
    if role_of_name(folder) == "image":
        return folder.casefold()
    role_words = {*MASK_WORDS, folder.casefold()}
    return " ".join(word for word in words_in(folder) if word not in role_words)


class Masks:
    """The masks among image files, by the image that they belong to."""

    def __init__(self) -> None:
        self._beside: dict[tuple[tuple[str, ...], str], Path] = {}
        self._by_key: dict[Key, Path] = {}

    def add_beside(self, mask: FolderFile) -> None:
        """Add a mask in the folder of its image."""
        self._beside.setdefault((mask.folders, image_stem(mask.stem)), mask.path)

    def add(self, mask: FolderFile) -> None:
        """Add a mask in a folder of masks."""
        for key in _keys_of_mask(mask):
            self._by_key.setdefault(key, mask.path)

    def path_for(self, image: FolderFile) -> str | None:
        """Return the path of the mask of an image."""
        splits = [image.split] if image.split == "train" else [image.split, ""]
        keys = [(split, image.place, image.stem) for split in splits]
        paths = [self._beside.get((image.folders, image.stem)), *map(self._by_key.get, keys)]
        return next((str(path) for path in paths if path is not None), None)


def _keys_of_mask(mask: FolderFile) -> list[Key]:
    """Return the images that a mask may belong to: "000" for "000_mask.png" and "000/1.png"."""
    stems = dict.fromkeys([mask.stem, image_stem(mask.stem)])
    keys = [(mask.split, mask.place, stem) for stem in stems]
    if mask.place:
        keys.append((mask.split, mask.place[:-1], mask.place[-1]))
    return keys


def separate_masks(files: Sequence[FolderFile]) -> tuple[list[FolderFile], Masks, Counter[str]]:
    """Return the images, their masks, and the number of files that are no images by reason."""
    masks, skipped = Masks(), Counter[str]()
    beside = _masks_beside(files)
    for mask in beside:
        masks.add_beside(mask)
    skipped[MASK] += len(beside)
    images: list[FolderFile] = []
    groups: dict[tuple[str, ...], list[FolderFile]] = defaultdict(list)
    for file in files:
        if file not in beside:
            folder = _role_folder(file.folders)
            (groups[folder] if folder else images).append(file)
    keys = {(split, image.place, image.stem) for image in images for split in (image.split, "")}
    for folder, group in groups.items():
        role = _role_of_group(folder, group, keys)
        if role == MASK:
            for mask in group:
                masks.add(mask)
        if role:
            skipped[role] += len(group)
        else:
            images += group
    order = {file: i for i, file in enumerate(files)}
    return sorted(images, key=order.__getitem__), masks, +skipped


def _masks_beside(files: Sequence[FolderFile]) -> set[FolderFile]:
    """Return the masks that lie in the folder of their image.

    The mask of "3.png" is called "3_mask.png". The mask of "3.jpg" may be called "3.png". Both of
    these may be images, so they are opened: a mask has two colors.
    """
    by_stem = defaultdict(list)
    for file in files:
        by_stem[file.folders, file.stem].append(file)
    masks = set()
    for file in files:
        stem = image_stem(file.stem)
        if stem != file.stem and (file.folders, stem) in by_stem:
            masks.add(file)
    for group in by_stem.values():
        if len({file.path.suffix.lower() for file in group}) > 1:
            masks.update(_binary_files(group))
    return masks


def _binary_files(group: list[FolderFile]) -> list[FolderFile]:
    """Return the files of two colors, if another file of the same name has more."""
    candidates = [file for file in group if file.path.suffix.lower() in MASK_SUFFIXES]
    binary = [file for file in candidates if is_binary_image(file.path)]
    return binary if len(binary) < len(group) else []


def _role_folder(folders: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path of the first folder that may hold masks or another modality, or ()."""
    for i, folder in enumerate(folders, 1):
        if role_of_name(folder) != "image":
            return folders[:i]
    return ()


def _role_of_group(folder: tuple[str, ...], group: list[FolderFile], images: set[Key]) -> str:
    """Return why the files of a folder are no images; "" if they are.

    A folder called mask is a data set of masks for the face if it has folders such as train or
    good, and its files belong to no other images.
    """
    role = role_of_name(folder[-1])
    belongs = any(key in images for file in group for key in _keys_of_mask(file))
    if role == "other modality":
        return OTHER_MODALITY if belongs else ""
    if role == "maybe mask":
        return MASK if belongs else ""
    deeper = {name for file in group for name in file.folders[len(folder) :]}
    is_product = folder[-1].casefold() == "mask" and any(
        split_of_name(name) or label_of_name(name) for name in deeper
    )
    return "" if is_product and not belongs else MASK


class Labels:
    """Labels of images by the nearest folder whose name says one.

    A folder beside one with normal images holds anomalies, unless its name says otherwise, or says
    nothing, as "new" and "2024" do.

    Parameters
    ----------
    folders : iterable of tuples of str
        The folders of every image.
    normal : str
        Name of the folder with normal images; ``"auto"`` means that only the names decide.
    """

    def __init__(self, folders: Iterable[tuple[str, ...]], normal: str) -> None:
        self.normal = normal.casefold() if normal != "auto" else None
        self.normal_parents, self.named_parents = set(), set()
        for path in set(folders):
            for i, name in enumerate(path):
                if self.normal == name.casefold() and not is_structural_name(name):
                    self.named_parents.add(_parent(path, i))
                if label_of_name(name) == 1:
                    self.normal_parents.add(_parent(path, i))

    def of(self, folders: tuple[str, ...]) -> tuple[int, str]:
        """Return the label of the images in a folder, 0 if unknown, and the name of their kind."""
        for i, name in reversed(list(enumerate(folders))):
            label = self._of_name(name, _parent(folders, i))
            if label is not None:
                return label, name
        return 0, next((name for name in folders if not is_structural_name(name)), "")

    def _of_name(self, name: str, parent: tuple[str, ...]) -> int | None:
        """Return the label that one folder gives; None if a folder above it decides."""
        if name.casefold() == self.normal:
            return 1
        is_structural = is_structural_name(name)
        if parent in self.named_parents and not is_structural:
            return -1
        if label := label_of_name(name):
            return label
        if parent in self.normal_parents and not is_structural:
            return 0 if is_unlabelled_name(name) else -1
        return None


def _parent(folders: tuple[str, ...], i: int) -> tuple[str, ...]:
    """Return the folders above one, without those of splits: "train/good" lies beside "test/x"."""
    return tuple(name.casefold() for name in folders[:i] if not is_structural_name(name))


def data_sets(files: Iterable[FolderFile]) -> set[str]:
    """Return the folders that hold data sets of their own; at most one if there is one data set.

    A data set has folders of splits, or a folder of images with one of normal images in it.
    """
    homes = set()
    for folders in {file.folders for file in files}:
        has_label = any(map(label_of_name, folders))
        for i, name in enumerate(folders):
            if split_of_name(name) or (has_label and is_structural_name(name)):
                homes.add("/".join(name for name in folders[:i] if not label_of_name(name)))
                break
    return homes
