"""Data to work with: load the images of a folder, or generate images for examples.

Three layouts of folders are supported. In the first, each class has a folder (as for torchvision's
``ImageFolder``)::

    folder/good/1.png  folder/scratch/2.png

In the second, training and test images are separate, with or without masks of the defects (as in
MVTec AD)::

    folder/train/good/1.png  folder/test/good/2.png  folder/test/scratch/3.png
    folder/ground_truth/scratch/3_mask.png

The third is a flat folder of images without labels. The folders of classes may have subfolders.
Image files end in bmp, jp2, jpeg, jpg, pgm, png, ppm, tif, tiff or webp; upper and lower case do
not matter. Hidden files and folders, whose names start with a dot, are ignored. Masks are not
listed as images: ``3_mask.png`` if ``3.png`` exists, and all files in ``ground_truth``. There, a
mask may also be called ``3.png``.
"""

from ._folders import load_folder
from ._plates import make_plates

__all__ = ["load_folder", "make_plates"]
