"""The embedded backbone, which ships with the package. It was trained on procedural images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

TRUNK_ARCHITECTURE = "resnet18"
TRUNK_OPTIONS: dict[str, Any] = {"layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256)}
EMBEDDING_LAYERS = [3, 4]
PATCH_LAYERS = [2, 3]  # as patches.choose_layers would choose them
GRID_SIDE = 4
WHITENED_WIDTH = 64  # values per layer and cell
MEAN_WEIGHT = 0.5
MIN_RELATIVE_LENGTH = 1e-3  # shorter deviations, relative to the cells, are rounding errors
TRAINING_SIZE = (128, 128)
PIXEL_MEAN = (0.5, 0.5, 0.5)
PIXEL_STD = (0.25, 0.25, 0.25)
WEIGHTS_FILE = Path(__file__).with_name("embedded.safetensors")
WEIGHTS_SHA256 = "3a0319722bfd950d62361543fa8e09a15d7cf1793a693948e3b00b13e35744b8"


average_cells = nn.AdaptiveAvgPool2d(GRID_SIDE)  # maps (n, c, h, w) to (n, c, 4, 4)


class Embedded(nn.Module):
    """Features of two layers on a coarse grid: (n, 3, H, W) to (n, 2176).

    The maps of the last two stages (strides of 16 and 32 pixels) are averaged over the cells of
    a 4 x 4 grid. The cells are whitened: they are projected to 64 values that have equal variance
    and no correlation over procedural images. For each layer, the mean of the cells says what an
    image shows, and their deviations from the mean say where. The mean is scaled to length 0.5
    and the deviations to length 1. The maps for patch embeddings are whitened pixel by pixel.
    """

    trunk: Any

    def __init__(self) -> None:
        super().__init__()
        import timm

        self.trunk = timm.create_model(TRUNK_ARCHITECTURE, num_classes=0, **TRUNK_OPTIONS)
        self.pretrained_cfg = self.trunk.pretrained_cfg
        self.average_cells = average_cells
        widths = [stage["num_chs"] for stage in self.trunk.feature_info]
        self.whiten = nn.ModuleList(
            nn.Conv2d(widths[layer], WHITENED_WIDTH, 1) for layer in EMBEDDING_LAYERS
        )
        self.whiten_local = nn.ModuleDict(
            {str(layer): nn.Conv2d(widths[layer], widths[layer], 1) for layer in PATCH_LAYERS}
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_intermediates(images, [])[0]

    def forward_intermediates(
        self, images: torch.Tensor, indices: Sequence[int] | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the features and the maps of some layers, or of all, as timm's networks do."""
        maps = self.trunk.forward_intermediates(images, intermediates_only=True)
        groups = []
        for layer, whiten in zip(EMBEDDING_LAYERS, self.whiten, strict=True):
            cells = whiten(self.average_cells(maps[layer])).flatten(2)
            mean = cells.mean(dim=2, keepdim=True)
            groups.append(unit_length((cells - mean).flatten(1), cells))
            groups.append(MEAN_WEIGHT * F.normalize(mean[:, :, 0], dim=1))
        layers = range(len(maps)) if indices is None else indices
        return torch.cat(groups, dim=1), [self._whiten_map(i, maps[i]) for i in layers]

    def _whiten_map(self, layer: int, features: torch.Tensor) -> torch.Tensor:
        return self.whiten_local[str(layer)](features) if layer in PATCH_LAYERS else features

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features unchanged, because they are already pooled."""
        return features


def unit_length(deviations: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Scale rows to unit length. Rounding errors, as of a 1 x 1 map, stay close to zero."""
    min_length = MIN_RELATIVE_LENGTH * cells.flatten(1).norm(dim=1, keepdim=True)
    length = torch.maximum(deviations.norm(dim=1, keepdim=True), min_length)
    return deviations / length.clamp_min(1e-12)
