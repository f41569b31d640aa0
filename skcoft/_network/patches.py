"""Local embeddings: what a network says at every position of an image."""

import torch
import torch.nn.functional as F

MAX_PATCHES = 32**2  # most patches of an image; of a large one
AREA = 132  # as many as it has squares of so many pixels: 2 · 260² pixels have 32²
WIDTH = 128  # most numbers per position; wider ones are projected at random


def choose_layers(sizes):
    """Choose the two maps that local embeddings are made of, by the sizes (H, W) of all maps.

    Of a pyramid, the deepest map at each of the two resolutions next to the coarsest, which the
    whole-image embedding stands for; of a transformer, whose maps share one resolution, those
    after a half and three quarters of its blocks.
    """
    deepest = {size: i for i, size in enumerate(sizes)}
    if len(deepest) == 1:
        return sorted({(len(sizes) - 1) // 2, (3 * len(sizes) - 1) // 4})
    return sorted(deepest[size] for size in sorted(deepest)[1:3])


def resize_maps(maps, grid):
    """Resize maps (n, c, H, W) to a grid (h, w)."""
    return F.interpolate(maps, grid, mode="bilinear", antialias=True)


def patch_embeddings(maps, projection=None, pixels=0, resize=resize_maps):
    """Embeddings of patches, (n, h, w, d), from maps (n, c, H, W) of one or more layers.

    ``pixels`` is how many the images have. ``resize`` may do the same by other means.

    Maps are averaged over 3 x 3 neighbours, brought to the finest map's grid and to unit length
    at every position, so that each depth weighs the same.
    """
    sides = zip(*(features.shape[-2:] for features in maps), strict=True)
    grid = limited([int(max(side)) for side in sides], max(MAX_PATCHES, pixels // AREA))
    layers = []
    for features in maps:
        features = average_neighbours(features.float())
        if tuple(features.shape[-2:]) != grid:
            features = resize(features, grid)
        layers.append(F.normalize(features, dim=1))
    patches = torch.cat(layers, dim=1).permute(0, 2, 3, 1) / len(layers) ** 0.5
    return patches if projection is None else patches @ projection


def limited(grid, most):
    """Grid (h, w) of so many patches at most, in the shape of another."""
    scale = min(1.0, (most / (grid[0] * grid[1])) ** 0.5)
    return tuple(max(1, round(side * scale)) for side in grid)


def average_neighbours(features):
    """Average maps (n, c, h, w) over 3 x 3 neighbours, fewer at the border."""
    return F.avg_pool2d(features, 3, 1, 1, count_include_pad=False)
