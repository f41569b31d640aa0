"""Anomaly maps of images: their mean, their size and the regions in them."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from sklearn.utils import Bunch


def mean_map(maps: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Return the weighted mean of maps (h, w) of one image, on the finest of their grids."""
    height, width = max(maps, key=np.size).shape
    resized = [resize_map(anomaly_map, (height, width)) for anomaly_map in maps]
    return np.average(resized, axis=0, weights=weights)


def resize_map(anomaly_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map (h, w) to a size (H, W) by linear interpolation between the cells' centers."""
    if anomaly_map.shape == tuple(size):
        return anomaly_map
    return enlarge_maps(torch.from_numpy(anomaly_map)[None, None], size)[0, 0].numpy()


def enlarge_maps(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize maps (n, 1, h, w) by linear interpolation between the cells' centers."""
    return F.interpolate(maps, tuple(size), mode="bilinear")


def regions_from_map(anomaly_map: np.ndarray, threshold: float) -> list[Bunch]:
    """Return the regions of a map (H, W) above a threshold, sorted by maximum, highest first.

    Pixels that touch at a corner are connected.
    """
    labels, _ = ndimage.label(anomaly_map > threshold, np.ones((3, 3)))
    boxes = enumerate(ndimage.find_objects(labels), 1)
    regions = [_region(anomaly_map[box], labels[box] == label, box) for label, box in boxes]
    return sorted(regions, key=lambda region: -region.peak)


def _region(values: np.ndarray, mask: np.ndarray, box: tuple[slice, slice]) -> Bunch:
    rows, columns = box
    return Bunch(
        box=(rows.start, columns.start, rows.stop, columns.stop),
        area=int(mask.sum()),
        peak=float(values[mask].max()),
        mean=float(values[mask].mean()),
        mask=mask,
    )
