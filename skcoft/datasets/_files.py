"""The image files in a folder, and what is passed over."""

import os
import re
from collections import Counter, deque
from pathlib import Path

from PIL import Image

HIDDEN = "hidden or system files"
UNREADABLE_FOLDER = "folders that cannot be read"
NO_FILE = "broken links or special files"
NO_SUFFIX = "files without suffix"
OTHER_SUFFIX = "files with another suffix"
SYSTEM_NAMES = {
    "#recycle", "$recycle.bin", "@eadir", "__macosx", "desktop.ini", "ehthumbs.db", "icon\r",
    "lost+found", "system volume information", "thumbs.db",
}  # fmt: skip
# Pillow recognises these, but needs another program, or cannot decode any: drawings (EPS, WMF),
# films, and containers of data.
UNDECODED_FORMATS = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
OTHER_IMAGE_SUFFIXES = {".mpo"}  # opened as JPEG


def image_suffixes() -> set[str]:
    """Return the suffixes of the files that Pillow decodes, those of its plugins included."""
    formats = Image.registered_extensions()  # also imports all plugins of Pillow
    decoded = set(Image.OPEN) - UNDECODED_FORMATS
    return OTHER_IMAGE_SUFFIXES | {suffix for suffix, name in formats.items() if name in decoded}


def list_image_files(root: Path) -> tuple[list[Path], Counter[str]]:
    """Return the image files below a folder, sorted, and the number passed over by reason."""
    files, skipped = _walk(root)
    suffixes = image_suffixes()
    images = [file for file in files if file.suffix.lower() in suffixes]
    skipped.update(_reason(file) for file in files if file.suffix.lower() not in suffixes)
    return sorted(images, key=lambda file: file.relative_to(root).as_posix()), skipped


def _walk(root: Path) -> tuple[list[Path], Counter[str]]:
    """Return all visible files below a folder, each real folder read once.

    Links to folders are followed after the folders themselves, so that a folder is listed by its
    own name. A link that leads above ``root`` is not followed.
    """
    files: list[Path] = []
    skipped: Counter[str] = Counter()
    folders, links, visited = deque([root]), deque[Path](), set[str]()
    real_root = Path(os.path.realpath(root))
    while folders or links:
        is_link = not folders
        folder = links.popleft() if is_link else folders.popleft()
        real = os.path.realpath(folder)
        if real in visited or (is_link and real_root.is_relative_to(real)):
            continue
        visited.add(real)
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            if folder == root:
                raise
            skipped[UNREADABLE_FOLDER] += 1
            continue
        for name in names:
            path = folder / name
            if name.startswith(".") or name.casefold() in SYSTEM_NAMES:
                skipped[HIDDEN] += 1
            elif os.path.isdir(path):
                (links if os.path.islink(path) else folders).append(path)
            elif os.path.isfile(path):
                files.append(path)
            else:
                skipped[NO_FILE] += 1
    return files, skipped


def _reason(file: Path) -> str:
    """Return why a file is passed over: by its suffix, if that is short and plain."""
    suffix = file.suffix.lower()
    if suffix in ("", "."):
        return NO_SUFFIX
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else OTHER_SUFFIX


def is_binary_image(file: Path) -> bool:
    """Whether an image has at most two colors, as a mask has; False if it cannot be read."""
    try:
        with Image.open(file) as image:
            return image.getcolors(2) is not None
    except Exception:  # any, depending on the file
        return False
