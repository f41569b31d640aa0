"""TODO."""

import numpy as np
import torch

from .defaults import TABULAR_DEFAULTS


class Table:
    """Validated rows of features: ``values``, a float64 array (n, d)."""

    input_type = "tabular"
    defaults = TABULAR_DEFAULTS
    bit_depth = mask = modality = None  # no bits to be found, nothing to be left out

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def take(self, mask):
        """Table where the boolean ``mask`` is true."""
        return Table(self.values[mask])

    def masked(self, mask):
        """Table as they are; ValueError where there is a mask, which images have."""
        if mask is not None:
            raise ValueError(
                "mask is for images; X holds rows of features. If they are flattened images, set "
                "image_shape."
            )
        return self

    @property
    def by_modality(self):
        """These, as ``Images.by_modality``."""
        return {None: self}

    def iter_chunks(self, encoders):
        """Yield these: their embeddings are small."""
        yield self

    def groups(self, sizing):
        """Return the indices of rows that may share a batch: all of them."""
        return [np.arange(len(self))]

    def loader(self, sizing, device, *, bit_depth=None, cache=False):
        """Return a function from indices to a batch on the device."""
        rows = torch.from_numpy(self.values.copy()).to(device)
        return lambda index: rows[index]
