"""Sizes that images are resized to: one size, or each image's own shape at a number of pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np

ImageSize = tuple[int, int]  # (H, W)

ENLARGED_PIXELS = 2 * 128**2  # smaller images are enlarged to it
DEFAULT_MULTIPLE = 32  # of the sides, because most convolutional networks have this stride


@dataclass(frozen=True)
class Sizing:
    """The size (H, W) that an image is resized to; nothing is cropped.

    Attributes
    ----------
    size : (H, W)
        Size of images with the shape of the training images; if these differ, of the middle one.
    pixels : float or None
        Number of pixels of every image, in its own shape, with both sides rounded to
        ``multiple``. None means that every image gets ``size``.
    multiple : int
        The sides are multiples of it.
    shape : (H, W) or None
        Shape of the training images before resizing; None if every image gets ``size``.
    """

    size: tuple[int, int]
    pixels: float | None = None
    multiple: int = 1
    shape: tuple[int, int] | None = None

    def of(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the size for an image of a shape (H, W)."""
        if self.pixels is None:
            return self.size
        return size_in_shape(shape, self.pixels, self.multiple)

    def at(self, scale: float) -> "Sizing":
        """Return the sizing whose images are ``scale`` times as high and as wide."""
        if scale == 1:
            return self
        assert self.pixels is not None and self.shape is not None
        pixels = self.pixels * scale**2
        return replace(self, size=size_in_shape(self.shape, pixels, self.multiple), pixels=pixels)

    @property
    def one_for_all(self) -> "Sizing":
        """The sizing that gives every image ``size``, because a training batch has one size."""
        return Sizing(self.size)


def native_sizing(
    shapes: Sequence[tuple[int, int]],
    max_pixels: float,
    multiple: int = DEFAULT_MULTIPLE,
    min_pixels: float = ENLARGED_PIXELS,
) -> Sizing:
    """Return the sizing in the images' own shapes for training images of ``shapes``.

    The training images determine the number of pixels, so that a later image of another
    resolution shows its parts at the same size.
    """
    counts = [height * width for height, width in shapes]
    pixels = float(min(max_pixels, max(min_pixels, np.median(counts))))
    aspects = [height / width for height, width in shapes]
    middle = shapes[np.argsort(aspects, kind="stable")[(len(shapes) - 1) // 2]]
    return Sizing(size_in_shape(middle, pixels, multiple), pixels, multiple, middle)


def size_in_shape(shape: tuple[int, int], pixels: float, multiple: int) -> tuple[int, int]:
    """Return a size of about ``pixels`` pixels in the shape of an image, its sides multiples."""
    scale = (pixels / (shape[0] * shape[1])) ** 0.5
    height, width = (max(1, round(side * scale / multiple)) * multiple for side in shape)
    return height, width


def is_size(value: Any) -> bool:
    """Whether a value is a pair of positive integers."""
    pair = isinstance(value, (tuple, list)) and len(value) == 2
    return pair and all(isinstance(side, Integral) and int(side) > 0 for side in value)
