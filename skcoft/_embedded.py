"""The backbone that comes with the package, trained on procedurally generated images."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

ARCHITECTURE = "resnet18"
OPTIONS = {"layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256)}
DEPTHS = [3, 4]
GRID = 4
SIZE = (128, 128)
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
WEIGHTS = Path(__file__).with_name("embedded.safetensors")
SHA256 = "74aafceb3bd861ae8da2fdf2159a285b70d3bc600cd2a4aeb8f7683ca99bb8cd"


class Embedded(nn.Module):
    """Features of two depths on a coarse grid: (n, 3, H, W) to (n, 6144).

    The maps of the last two stages (strides of 16 and 32 pixels) are averaged over the cells of
    a 4 x 4 grid, so that the embedding knows roughly where something is, and each depth is
    brought to unit length, so that both weigh the same.
    """

    def __init__(self):
        super().__init__()
        import timm

        self.trunk = timm.create_model(ARCHITECTURE, num_classes=0, **OPTIONS)

    def forward(self, images):
        return self.forward_intermediates(images, DEPTHS)[0]

    def forward_intermediates(self, images, indices=None):
        """Features and the maps of some depths, as timm's networks offer them."""
        maps = self.trunk.forward_intermediates(images, intermediates_only=True)
        cells = [F.adaptive_avg_pool2d(maps[depth], GRID).flatten(1) for depth in DEPTHS]
        features = torch.cat([F.normalize(group, dim=1) for group in cells], dim=1)
        return features, [maps[depth] for depth in indices or range(len(maps))]

    def forward_head(self, features):
        """Features as they are: they are pooled already."""
        return features
