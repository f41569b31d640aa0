"""Patch embeddings: what the maps of a network say about each patch of an image."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

MAX_PATCHES = 32**2  # maximum number of patches of an image of up to 2 · 260² pixels
PIXELS_PER_PATCH = 132  # a larger image may have one patch per this many pixels
MAX_PATCH_WIDTH = 256  # maximum number of values per patch; wider patches are projected at random


def choose_layers(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Return the indices of the two layers for patch embeddings, from the sizes of all maps.

    A pyramid has maps of several sizes. The coarsest is represented by the image embedding, so
    the deepest map of each of the next two sizes is taken. A transformer has maps of one size. The
    maps after half and after three quarters of its blocks are taken.
    """
    deepest = {size: i for i, size in enumerate(sizes)}
    if len(deepest) == 1:
        return sorted({(len(sizes) - 1) // 2, (3 * len(sizes) - 1) // 4})
    return sorted(deepest[size] for size in sorted(deepest)[1:3])


def resize_maps(maps: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Resize maps (n, c, H, W) to a grid (h, w)."""
    return F.interpolate(maps, grid, mode="bilinear", antialias=True)


def patch_embeddings(
    maps: Sequence[torch.Tensor],
    projection: torch.Tensor | None = None,
    pixels: int = 0,
    resize: Callable[[torch.Tensor, tuple[int, int]], torch.Tensor] = resize_maps,
) -> torch.Tensor:
    """Return patch embeddings (n, h, w, d) from the maps (n, c, H, W) of one or more layers.

    Maps are averaged over 3 x 3 neighbours and resized to the grid of the finest map. Each layer
    is brought to unit length at every patch, so that all layers have the same weight.

    ``pixels`` is the number of pixels per image. ``resize`` replaces :func:`resize_maps`, for
    example in an exported graph.
    """
    heights, widths = zip(*(features.shape[-2:] for features in maps), strict=True)
    finest = int(max(heights)), int(max(widths))
    grid = limit_grid(finest, max(MAX_PATCHES, pixels // PIXELS_PER_PATCH))
    layers = []
    for features in maps:
        features = average_neighbours(features.float())
        if tuple(features.shape[-2:]) != grid:
            features = resize(features, grid)
        layers.append(F.normalize(features, dim=1))
    patches = torch.cat(layers, dim=1).permute(0, 2, 3, 1) / len(layers) ** 0.5
    return patches if projection is None else patches @ projection


def limit_grid(grid: tuple[int, int], max_patches: int) -> tuple[int, int]:
    """Return a grid (h, w) of at most ``max_patches`` patches with the same aspect ratio."""
    scale = min(1.0, (max_patches / (grid[0] * grid[1])) ** 0.5)
    return max(1, round(grid[0] * scale)), max(1, round(grid[1] * scale))


def average_neighbours(features: torch.Tensor) -> torch.Tensor:
    """Average maps (n, c, h, w) over 3 x 3 neighbours; at the border there are fewer."""
    return F.avg_pool2d(features, 3, 1, 1, count_include_pad=False)
