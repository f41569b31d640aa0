"""Write files: check the output before the work, and replace a file only when it is complete."""

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


def check_output_path(path):
    """Raise before the work, not after it, where the file cannot be written."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"The output {str(path)!r} is a folder; name a file.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write to.")


def atomic_write(path, content):
    """Write a file that takes the place of an earlier one once it is on the disk, as a whole."""
    path = Path(os.path.realpath(path))
    part = path.with_name(f".{uuid4().hex}.part")  # on the same disk
    try:
        with open(part, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
