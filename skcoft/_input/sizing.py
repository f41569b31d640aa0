"""Sizes that images are resized to: one for all, or each image's own shape at so many pixels."""

from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np

ENLARGED = 2 * 128**2  # pixels that smaller images are enlarged to
MULTIPLE = 32  # of most convolutional networks: the stride of their last maps


@dataclass(frozen=True)
class Sizing:
    """Which size (H, W) an image is resized to; nothing is cropped.

    Attributes
    ----------
    size : (H, W)
        What images of the shots' shape are resized to; where they differ, of the middle one.
    pixels : float or None
        Number of pixels that every image has afterwards, in its own shape, both sides brought to
        the next ``multiple``. None means that every image gets ``size``.
    multiple : int
        What the sides are multiples of.
    shape : (H, W) or None
        The shots' shape, before they are resized; None where every image gets ``size``.
    """

    size: tuple
    pixels: float | None = None
    multiple: int = 1
    shape: tuple | None = None

    def of(self, shape):
        """Size for an image of a shape (H, W)."""
        return self.size if self.pixels is None else own_shape(shape, self.pixels, self.multiple)

    def at(self, scale):
        """Return the sizing by which images are ``scale`` times as high and as wide."""
        if scale == 1:
            return self
        pixels = self.pixels * scale**2
        return replace(self, size=own_shape(self.shape, pixels, self.multiple), pixels=pixels)

    @property
    def one_for_all(self):
        """The sizing that gives every image ``size``: of a training batch all are of one."""
        return Sizing(self.size)


def native_sizing(shapes, most, multiple=MULTIPLE, least=ENLARGED):
    """Sizing in the images' own shapes, for shots of ``shapes``, of ``most`` pixels at most.

    How many pixels there are is settled by the shots, so that a later image of another
    resolution shows its parts as large as the shots show theirs.
    """
    counts = [height * width for height, width in shapes]
    pixels = float(min(most, max(least, np.median(counts))))
    aspects = [height / width for height, width in shapes]
    middle = shapes[np.argsort(aspects, kind="stable")[(len(shapes) - 1) // 2]]
    return Sizing(own_shape(middle, pixels, multiple), pixels, multiple, middle)


def own_shape(shape, pixels, multiple):
    """Size of about so many pixels in the shape of an image, its sides multiples."""
    scale = (pixels / (shape[0] * shape[1])) ** 0.5
    return tuple(max(1, round(side * scale / multiple)) * multiple for side in shape)


def is_size(value):
    """Whether a value is a pair of positive integers."""
    pair = isinstance(value, (tuple, list)) and len(value) == 2
    return pair and all(isinstance(side, Integral) and side > 0 for side in value)
