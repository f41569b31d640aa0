"""Which images are copies of others: files saved anew, resized or moved by a pixel."""

from io import BytesIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

SIDE = 64  # of the pictures that are compared
MOST = 256  # pixels of a side, to which larger images are reduced before
ALIKE = 0.04  # root mean square difference, of pictures of deviation 1, up to which all are copies
LIGHT = 4 / 255  # difference of brightness that counts as much
QUALITY = 50  # of a JPEG file: how far it lies from an image says how far copies of that may lie
NEAR = 1.2  # times as far as that
APART = 0.5  # and no more than this share of the distance to most others
ROUNDING = 1e-6  # of equal rows, of what a column varies by
BLOCK = 32  # images that are looked at together
WIDTH = 3 * SIDE**2 + 1  # numbers of a picture


def look(images):
    """Return what tells copies of images (n, 3, h, w) of at most ``MOST`` pixels a side.

    Pictures (9, n, d) of each, as it is and moved by a pixel, and how far its JPEG file lies.
    """
    h, w = images.shape[-2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    places = [(1, 1), *((y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1))]
    moved = [picture(padded[..., y : y + h, x : x + w]) for y, x in places]
    saved = picture(torch.stack([_as_file(image) for image in images]))
    return np.stack(moved), np.linalg.norm(saved - moved[0], axis=1)


def _as_file(image):
    """Return an image (3, h, w) as a JPEG file would give it back."""
    content = BytesIO()
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(content, "JPEG", quality=QUALITY)
    with Image.open(content) as opened:
        return torch.from_numpy(np.array(opened)).permute(2, 0, 1) / 255


def picture(images):
    """Flatten images (n, 3, h, w), reduced, to rows by which copies are told in any light.

    Each at mean 0 and deviation 1, so that the distance of two rows is their root mean square
    difference; at last how bright it was.
    """
    small = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
    flat = small.flatten(1).double().numpy()
    mean, deviation = flat.mean(axis=1, keepdims=True), flat.std(axis=1, keepdims=True)
    shape = (flat - mean) / np.where(deviation > 1 / 255, deviation, 1)
    return np.c_[shape / flat.shape[1] ** 0.5, mean * ALIKE / LIGHT].astype(np.float32)


def are_plain(pictures):
    """Whether all pictures are of one colour all over."""
    shape = pictures[:, :-1].reshape(len(pictures), 3, -1)
    return bool(np.ptp(shape, axis=2).max() < 1e-6)


def mirrored(pictures):
    """Return the pictures (..., d) of mirror images."""
    shape, light = pictures[..., :-1], pictures[..., -1:]
    turned = shape.reshape(*shape.shape[:-1], 3, SIDE, SIDE)[..., ::-1]
    return np.concatenate([turned.reshape(shape.shape), light], axis=-1)


def compare_samples(parts, bit_depths, known, limits, mirror):
    """As :func:`compare_images`, for the images of every modality, a dict.

    A sample is a copy where each of its images is one. Of several modalities, pictures stand side
    by side and limits are (n, m).
    """
    pictures = np.split(known, len(parts), axis=1)
    columns = limits.reshape(len(known), len(parts)).T
    found = [
        compare_images(part, bit_depths[modality], *seen, mirror)
        for (modality, part), *seen in zip(parts.items(), pictures, columns, strict=True)
    ]
    pictures, limits, alike = zip(*found, strict=True)
    limits = limits[0] if len(parts) == 1 else np.stack(limits, axis=1)
    return np.concatenate(pictures, axis=1), limits, np.all(alike, axis=0)


def compare_images(inputs, depth, known, limits, mirror):
    """Look at images, block by block, and compare them with each other and with known pictures.

    Returns pictures and limits of all, and which of all each image is a copy of, (n, n_all). A
    copy lies as near as a file of low quality of either does, and much nearer than most others:
    of plain surfaces, that hardly differ, a file would lie farther away than another surface.
    """
    n, start = len(inputs), len(limits)
    pictures = np.concatenate([known, np.empty((n, known.shape[1]), known.dtype)])
    limits = np.concatenate([limits, np.empty(n)])
    apart, seen = np.full((n, start + n), np.inf), list(range(start))
    for rows, images in inputs.blocks(MOST, BLOCK, depth):
        moved, limits[start + rows] = look(images)
        pictures[start + rows] = moved[0]
        seen += [*start + rows]
        found = _nearest(moved, pictures[seen])
        if mirror:
            found = np.minimum(found, _nearest(mirrored(moved), pictures[seen]))
        apart[np.ix_(rows, seen)] = found
        others = np.array(seen[start:], dtype=int) - start
        apart[np.ix_(others, start + rows)] = found[:, start:].T
    np.fill_diagonal(apart[:, start:], np.nan)
    near = apart <= NEAR * np.maximum(limits[start:, None], limits)
    if start + n > 1:
        near &= apart <= APART * np.nanmedian(apart, axis=1, keepdims=True)
    return pictures, limits, near | (apart <= ALIKE)


def _nearest(moved, pictures):
    """Distances (n, m) of n images, moved as is best, from the pictures of m."""
    flat = moved.reshape(-1, moved.shape[-1])
    squares = np.square(flat).sum(1)[:, None] + np.square(pictures).sum(1)
    squares -= 2 * flat @ pictures.T
    return np.sqrt(squares.clip(0).reshape(*moved.shape[:2], -1).min(axis=0))


def compare_rows(rows, start):
    """Return which of all rows those from ``start`` on equal, (n, n_all)."""
    # beside the spread: a time stamp or a voltage may lie far from zero and vary little
    allowed = ROUNDING * rows.std(axis=0) + 4 * np.finfo(np.float64).eps * np.abs(rows[start:])
    same = np.ones((len(rows) - start, len(rows)), dtype=bool)
    for column, most in zip(rows.T, allowed.T, strict=True):
        same &= np.abs(column[start:, None] - column) <= most[:, None]
    return same
