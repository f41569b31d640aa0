"""Data to work with: load the images of a folder, or generate images for examples.

The names of the folders that an image lies in decide its label and split. The nearest folder comes
first; upper and lower case do not matter. Each class may have a folder (as for torchvision's
``ImageFolder``)::

    folder/good/1.png  folder/scratch/2.png

Training and test images may be separate, with or without masks of the defects (as in MVTec AD)::

    folder/train/good/1.png  folder/test/good/2.png  folder/test/scratch/3.png
    folder/ground_truth/scratch/3_mask.png

Images in a flat folder, or in folders whose names say nothing, have no labels::

    folder/1.png  folder/monday/2.png

The guide has a table of the names and of the files that are passed over.
"""

from ._folders import load_folder
from ._plates import make_plates

__all__ = ["load_folder", "make_plates"]
