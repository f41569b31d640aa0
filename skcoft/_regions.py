"""From a map to regions: connected spots above a threshold."""

import numpy as np
from scipy import ndimage
from sklearn.utils import Bunch


def regions_of(drawn, threshold):
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
