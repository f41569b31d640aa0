"""Find duplicates: an image saved again, resized or shifted by a pixel, or an equal row."""

from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import combinations
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

THUMBNAIL_SIDE = 64  # pixels
THUMBNAIL_WIDTH = 3 * THUMBNAIL_SIDE**2 + 1  # numbers of a flattened thumbnail
MAX_COMPARED_SIDE = 256  # pixels to which longer sides are reduced first
COMPARISON_BLOCK_SIZE = 32  # images that are compared at once
DUPLICATE_RMS = 0.04  # root mean square difference of standardised thumbnails; duplicates below
DUPLICATE_BRIGHTNESS = 4 / 255  # difference of mean brightness that counts as much
JPEG_QUALITY = 50  # of the JPEG file whose distance from an image says how far duplicates lie
JPEG_DISTANCE_RATIO = 1.2  # a duplicate lies at most this many JPEG distances away ...
MEDIAN_DISTANCE_RATIO = 0.5  # ... and within this share of the median distance to the others
EQUAL_ROWS_TOL = 1e-6  # of the standard deviation of a column
PLAIN_TOL = 1e-6  # range of a standardised thumbnail of one colour
EQUAL_MODALITIES_RMS = 1e-3  # difference of thumbnails of the same image in two modalities


class ImageBlocks(Protocol):
    """What is needed of ``Images``."""

    def __len__(self) -> int: ...

    def blocks(
        self, max_side: int, count: int, bit_depth: int | None
    ) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield (indices, images (n, 3, h, w)) of one size."""


class Samples(Protocol):
    """What is needed of ``Images`` and ``Modalities``, whose methods three functions here are."""

    @property
    def by_modality(self) -> Mapping[Any, ImageBlocks]: ...


def thumbnails_of(images: torch.Tensor) -> np.ndarray:
    """Return flattened thumbnails (n, d) of images (n, 3, h, w).

    They have mean 0, standard deviation 1 and are divided by the root of their length, so that
    the distance of two thumbnails is their root mean square difference in any light. The last
    number is the brightness.
    """
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    small = F.interpolate(images, size, mode="bilinear", antialias=True)
    flat = small.flatten(1).double().numpy()
    mean, deviation = flat.mean(axis=1, keepdims=True), flat.std(axis=1, keepdims=True)
    standardized = (flat - mean) / np.where(deviation > 1 / 255, deviation, 1)
    brightness = mean * DUPLICATE_RMS / DUPLICATE_BRIGHTNESS
    return np.c_[standardized / flat.shape[1] ** 0.5, brightness].astype(np.float32)


def shifted_thumbnails(images: torch.Tensor) -> np.ndarray:
    """Return thumbnails (9, n, d) of images as they are and shifted by one pixel."""
    h, w = images.shape[-2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    offsets = [(1, 1), *((y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1))]
    return np.stack([thumbnails_of(padded[..., y : y + h, x : x + w]) for y, x in offsets])


def _as_jpeg(image: torch.Tensor) -> torch.Tensor:
    """Return an image (3, h, w) after saving it as a JPEG file."""
    content = BytesIO()
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(content, "JPEG", quality=JPEG_QUALITY)
    with Image.open(content) as opened:
        return torch.from_numpy(np.array(opened)).permute(2, 0, 1) / 255


def mirrored_thumbnails(thumbnails: np.ndarray) -> np.ndarray:
    """Return the thumbnails (..., d) of the mirror images."""
    pixels, brightness = thumbnails[..., :-1], thumbnails[..., -1:]
    images = pixels.reshape(*pixels.shape[:-1], 3, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.concatenate([images[..., ::-1].reshape(pixels.shape), brightness], axis=-1)


def empty_thumbnails(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Return thumbnails and JPEG distances of no sample, to which others are appended."""
    n_modalities = len(samples.by_modality)
    distances = np.empty(0 if n_modalities == 1 else (0, n_modalities))
    return np.empty((0, n_modalities * THUMBNAIL_WIDTH), np.float32), distances


def plain_modalities(samples: Samples, thumbnails: np.ndarray) -> list[Any]:
    """Return the modalities whose images are all of one colour all over."""
    names = list(samples.by_modality)
    return [
        name
        for name, part in zip(names, np.split(thumbnails, len(names), axis=1), strict=True)
        if np.ptp(part[:, :-1].reshape(len(part), 3, -1), axis=2).max() < PLAIN_TOL
    ]


def equal_modalities(samples: Samples, thumbnails: np.ndarray) -> tuple[Any, Any] | None:
    """Return the first two modalities whose images are the same in every sample, or None."""
    names = list(samples.by_modality)
    parts = np.split(thumbnails, len(names), axis=1)
    for (first, one), (second, other) in combinations(zip(names, parts, strict=True), 2):
        if np.linalg.norm(one - other, axis=1).max() < EQUAL_MODALITIES_RMS:
            return first, second
    return None


def find_duplicates(
    samples: Samples,
    thumbnails: np.ndarray,
    jpeg_distances: np.ndarray,
    bit_depths: Mapping[Any, int | None],
    mirrored: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`find_duplicate_images`, for samples of one image or several.

    A sample is a duplicate if each of its images is one. Thumbnails of several modalities stand
    side by side, and JPEG distances have the shape (n, n_modalities).
    """
    n_modalities = len(samples.by_modality)
    earlier = zip(
        np.split(thumbnails, n_modalities, axis=1),
        jpeg_distances.reshape(len(thumbnails), n_modalities).T,
        strict=True,
    )
    results = [
        find_duplicate_images(images, *arrays, bit_depths[modality], mirrored)
        for (modality, images), arrays in zip(samples.by_modality.items(), earlier, strict=True)
    ]
    all_thumbnails, distances, is_duplicate = zip(*results, strict=True)
    return (
        np.concatenate(all_thumbnails, axis=1),
        distances[0] if n_modalities == 1 else np.stack(distances, axis=1),
        np.all(is_duplicate, axis=0),
    )


def find_duplicate_images(
    images: ImageBlocks,
    thumbnails: np.ndarray,
    jpeg_distances: np.ndarray,
    bit_depth: int | None,
    mirrored: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare images with each other and with earlier thumbnails.

    Returns the thumbnails and JPEG distances of all, and a boolean array (n, n_all). An image
    duplicates another if they are as close as a JPEG file of low quality is to either, and much
    closer than most others: plain surfaces hardly differ, so a JPEG file of one may lie farther
    from it than another surface does. With ``mirrored``, mirror images are duplicates as well.
    """
    n, n_earlier = len(images), len(jpeg_distances)
    thumbnails = np.concatenate([thumbnails, np.empty((n, thumbnails.shape[1]), thumbnails.dtype)])
    jpeg_distances = np.concatenate([jpeg_distances, np.empty(n)])
    distances, done = np.full((n, n_earlier + n), np.inf), np.arange(n_earlier)
    for rows, block in images.blocks(MAX_COMPARED_SIDE, COMPARISON_BLOCK_SIZE, bit_depth):
        shifted = shifted_thumbnails(block)
        saved = thumbnails_of(torch.stack([_as_jpeg(image) for image in block]))
        jpeg_distances[n_earlier + rows] = np.linalg.norm(saved - shifted[0], axis=1)
        thumbnails[n_earlier + rows] = shifted[0]
        done = np.append(done, n_earlier + rows)
        block_distances = _distances(shifted, thumbnails[done])
        if mirrored:
            mirror_distances = _distances(mirrored_thumbnails(shifted), thumbnails[done])
            block_distances = np.minimum(block_distances, mirror_distances)
        distances[np.ix_(rows, done)] = block_distances
        others = done[n_earlier:] - n_earlier
        distances[np.ix_(others, n_earlier + rows)] = block_distances[:, n_earlier:].T
    np.fill_diagonal(distances[:, n_earlier:], np.nan)
    farther = np.maximum(jpeg_distances[n_earlier:, None], jpeg_distances)
    is_close = distances <= JPEG_DISTANCE_RATIO * farther
    if n_earlier + n > 1:
        median = np.nanmedian(distances, axis=1, keepdims=True)
        is_close &= distances <= MEDIAN_DISTANCE_RATIO * median
    return thumbnails, jpeg_distances, is_close | (distances <= DUPLICATE_RMS)


def _distances(shifted: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Return distances (n, m) of n images, each shifted to fit best, from m thumbnails."""
    flat = shifted.reshape(-1, shifted.shape[-1])
    squares = np.square(flat).sum(1)[:, None] + np.square(thumbnails).sum(1)
    squares -= 2 * flat @ thumbnails.T
    return np.sqrt(squares.clip(0).reshape(*shifted.shape[:2], -1).min(axis=0))


def find_equal_rows(rows: np.ndarray, start: int) -> np.ndarray:
    """Return which of all rows each row from ``start`` on equals, as booleans (n, n_all)."""
    # relative to the spread: a time stamp or a voltage may lie far from zero and vary little
    allowed = EQUAL_ROWS_TOL * rows.std(axis=0)
    allowed = allowed + 4 * np.finfo(np.float64).eps * np.abs(rows[start:])
    is_equal = np.ones((len(rows) - start, len(rows)), dtype=bool)
    for column, limits in zip(rows.T, allowed.T, strict=True):
        is_equal &= np.abs(column[start:, None] - column) <= limits[:, None]
    return is_equal
