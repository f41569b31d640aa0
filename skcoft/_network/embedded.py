"""The backbone that comes with the package, trained on procedurally generated images."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

ARCHITECTURE = "resnet18"
OPTIONS = {"layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256)}
LAYERS = [3, 4]  # of the embedding
PATCH_LAYERS = [2, 3]  # of local embeddings, as _local.choose_layers would have it
GRID = 4
WIDTH = 64  # numbers per depth and cell
MEAN_WEIGHT = 0.5
ROUNDING = 1e-3  # of the cells' length: deviations below it are brought to less than unit length
SIZE = (128, 128)
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
WEIGHTS = Path(__file__).with_name("embedded.safetensors")
SHA256 = "3a0319722bfd950d62361543fa8e09a15d7cf1793a693948e3b00b13e35744b8"


average_cells = nn.AdaptiveAvgPool2d(GRID)  # maps (n, c, h, w) to (n, c, 4, 4)


class Embedded(nn.Module):
    """Features of two layers on a coarse grid: (n, 3, H, W) to (n, 2176).

    The maps of the last two stages (strides of 16 and 32 pixels) are averaged over the cells of
    a 4 x 4 grid and whitened: projected to 64 numbers that have equal variance and no correlation
    over procedurally generated images. The mean of the cells and their deviations from it, what
    an image shows and where, are brought to the lengths 0.5 and 1 for each depth. Maps of the
    layers that local embeddings are made of are whitened position by position.
    """

    def __init__(self):
        super().__init__()
        import timm

        self.trunk = timm.create_model(ARCHITECTURE, num_classes=0, **OPTIONS)
        self.pretrained_cfg = self.trunk.pretrained_cfg
        self.average_cells = average_cells
        widths = [stage["num_chs"] for stage in self.trunk.feature_info]
        self.whiten = nn.ModuleList(nn.Conv2d(widths[d], WIDTH, 1) for d in LAYERS)
        self.whiten_local = nn.ModuleDict(
            {str(d): nn.Conv2d(widths[d], widths[d], 1) for d in PATCH_LAYERS}
        )

    def forward(self, images):
        return self.forward_intermediates(images, [])[0]

    def forward_intermediates(self, images, indices=None):
        """Features and the maps of some layers, as timm's networks offer them."""
        maps = self.trunk.forward_intermediates(images, intermediates_only=True)
        groups = []
        for depth, whiten in zip(LAYERS, self.whiten, strict=True):
            cells = whiten(self.average_cells(maps[depth])).flatten(2)
            mean = cells.mean(dim=2, keepdim=True)
            groups.append(unit_length((cells - mean).flatten(1), cells))
            groups.append(MEAN_WEIGHT * F.normalize(mean[:, :, 0], dim=1))
        chosen = range(len(maps)) if indices is None else indices
        return torch.cat(groups, dim=1), [self._whitened(depth, maps[depth]) for depth in chosen]

    def _whitened(self, depth, features):
        return self.whiten_local[str(depth)](features) if depth in PATCH_LAYERS else features

    def forward_head(self, features):
        """Features as they are: they are pooled already."""
        return features


def unit_length(deviations, cells):
    """Table at unit length, but what is zero except for rounding, as of a 1 x 1 map, stays so."""
    least = ROUNDING * cells.flatten(1).norm(dim=1, keepdim=True)
    length = torch.maximum(deviations.norm(dim=1, keepdim=True), least)
    return deviations / length.clamp_min(1e-12)
