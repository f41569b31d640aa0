"""Images to work on: those of a folder, and generated ones to try things on."""

from ._folders import load_folder
from ._plates import make_plates

__all__ = ["load_folder", "make_plates"]
