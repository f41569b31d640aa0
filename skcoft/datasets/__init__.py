"""Images to work on: those of a folder, and generated ones to try things on.

Folders may have one of three layouts. A folder for each kind of image (torchvision's
``ImageFolder``)::

    folder/good/1.png  folder/scratch/2.png

The same for training and testing apart, with or without masks of the defects (MVTec AD)::

    folder/train/good/1.png  folder/test/good/2.png  folder/test/scratch/3.png
    folder/ground_truth/scratch/3_mask.png

And a flat folder, of which nothing is known but the images. Kinds may have folders inside. Images
are what ends in bmp, jp2, jpeg, jpg, pgm, png, ppm, tif, tiff or webp, in capitals or not. Hidden
files and folders (whose names start with a dot) are left out, and so are masks: ``3_mask.png``
beside ``3.png``, and whatever is under ``ground_truth``, where ``3.png`` is one as well.
"""

from ._folders import load_folder
from ._plates import make_plates

__all__ = ["load_folder", "make_plates"]
