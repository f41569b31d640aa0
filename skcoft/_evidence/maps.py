"""Anomaly maps: resized, averaged, and cut into regions above a threshold."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from sklearn.utils import Bunch


def _mean_map(drawn, weights):
    """Weighted mean of maps (h, w) of one image, on the finest of their grids."""
    finest = max(drawn, key=np.size).shape
    return np.average([resize_map(drawing, finest) for drawing in drawn], axis=0, weights=weights)


def resize_map(drawing, size):
    """Resize a map (h, w) to a size (H, W), linearly between the middles of its cells."""
    if drawing.shape == tuple(size):
        return drawing
    array = torch.from_numpy(drawing)[None, None]
    return F.interpolate(array, tuple(size), mode="bilinear")[0, 0].numpy()


def regions_from_map(drawn, threshold):
    """Return the regions of a map (H, W) above a threshold, that of the highest peak first.

    Pixels that touch at a corner are connected.
    """
    labels, _ = ndimage.label(drawn > threshold, np.ones((3, 3)))
    boxes = enumerate(ndimage.find_objects(labels), 1)
    regions = [_region(drawn[box], labels[box] == label, box) for label, box in boxes]
    return sorted(regions, key=lambda region: -region.peak)


def _region(drawn, mask, box):
    values, (rows, columns) = drawn[mask], box
    return Bunch(
        box=(rows.start, columns.start, rows.stop, columns.stop),
        area=values.size,
        peak=float(values.max()),
        mean=float(values.mean()),
        mask=mask,
    )
