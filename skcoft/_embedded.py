"""The backbone that comes with the package, trained on procedurally generated images."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

ARCHITECTURE = "resnet18"
OPTIONS = {"layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256)}
DEPTHS = [3, 4]
GRID = 4
WIDTH = 64  # numbers per depth and cell
MEAN_WEIGHT = 0.5
SIZE = (128, 128)
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
WEIGHTS = Path(__file__).with_name("embedded.safetensors")
SHA256 = "7c845f61ab5a843d5570be9ba1b7242a3ecc56d5e9ab625d8986ccf4965dc839"


class Embedded(nn.Module):
    """Features of two depths on a coarse grid: (n, 3, H, W) to (n, 2176).

    The maps of the last two stages (strides of 16 and 32 pixels) are averaged over the cells of
    a 4 x 4 grid and whitened: projected to 64 numbers that have equal variance and no correlation
    over procedurally generated images. The mean of the cells and their deviations from it, what
    an image shows and where, are brought to the lengths 0.5 and 1 for each depth.
    """

    def __init__(self):
        super().__init__()
        import timm

        self.trunk = timm.create_model(ARCHITECTURE, num_classes=0, **OPTIONS)
        self.pretrained_cfg = self.trunk.pretrained_cfg
        widths = [self.trunk.feature_info[depth]["num_chs"] for depth in DEPTHS]
        self.whiten = nn.ModuleList(nn.Conv2d(width, WIDTH, 1) for width in widths)

    def forward(self, images):
        return self.forward_intermediates(images, DEPTHS)[0]

    def forward_intermediates(self, images, indices=None):
        """Features and the maps of some depths, as timm's networks offer them."""
        maps = self.trunk.forward_intermediates(images, intermediates_only=True)
        groups = []
        for depth, whiten in zip(DEPTHS, self.whiten, strict=True):
            cells = whiten(average_cells(maps[depth])).flatten(2)
            mean = cells.mean(dim=2, keepdim=True)
            groups.append(F.normalize((cells - mean).flatten(1), dim=1))
            groups.append(MEAN_WEIGHT * F.normalize(mean[:, :, 0], dim=1))
        return torch.cat(groups, dim=1), [maps[depth] for depth in indices or range(len(maps))]

    def forward_head(self, features):
        """Features as they are: they are pooled already."""
        return features


def average_cells(maps):
    """Average maps (n, c, h, w) over the cells of the grid: (n, c, 4, 4)."""
    return F.adaptive_avg_pool2d(maps, GRID)
