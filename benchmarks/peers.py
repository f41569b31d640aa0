"""Baselines with the same weights and shots: frozen features and a simple scorer.

These are detectors for ``fewshot.py``. ``backbone`` is the name of a timm network and ``weights``
is the folder that contains ``<backbone>.safetensors``.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from sklearn.covariance import ShrunkCovariance
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

BATCH = 32
MIN_SIZE = 128  # smaller images are upscaled, as in skcoft
LAYERS = (2, 3, 4)  # indices of the feature maps, of five layers of a convolutional network
MAX_PATCHES = 30_000  # a random subset is kept if there are more


class FrozenNetwork:
    """A pre-trained network and its normalisation of images."""

    def __init__(self, backbone: str, weights: str | Path, **options: Any) -> None:
        self.network: Any = timm.create_model(backbone, pretrained=False, **options).eval()
        state = load_file(Path(weights) / f"{backbone}.safetensors")
        missing, _ = self.network.load_state_dict(state, strict=False)
        missing = [key for key in missing if not key.endswith("num_batches_tracked")]
        if missing:
            raise ValueError(f"The weights of {backbone!r} lack {', '.join(missing[:3])}.")
        config = timm.data.resolve_data_config(model=self.network)
        self.mean, self.std = (torch.tensor(config[k]).view(3, 1, 1) for k in ("mean", "std"))
        fixed = self.network.pretrained_cfg.get("fixed_input_size")
        self.size = config["input_size"][1:] if fixed else None

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> list[Any]:
        """Return the network's output for each batch of uint8 images (n, H, W[, 3])."""
        return [
            self.network(self._prepare(images[start : start + BATCH]))
            for start in range(0, len(images), BATCH)
        ]

    def _prepare(self, images: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(images.reshape(*images.shape[:3], -1).copy())
        x = x.movedim(3, 1).expand(-1, 3, -1, -1) / 255
        if x.shape[-1] < MIN_SIZE:
            x = F.interpolate(x, (MIN_SIZE, MIN_SIZE), mode="bilinear")
        x = (x - self.mean) / self.std
        if self.size:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        return x


class FrozenGaussian(FrozenNetwork):
    """Mahalanobis distance of pooled features from those of the shots and their mirror images."""

    def __init__(self, backbone: str, weights: str | Path) -> None:
        super().__init__(backbone, weights, num_classes=0)

    def embed(self, images: np.ndarray) -> np.ndarray:
        return normalize(torch.cat(self.run(images)).double().numpy())

    def fit(self, images: np.ndarray) -> Self:
        # a tenth of the mean variance is added to every variance; the scale does not matter
        self.gaussian = ShrunkCovariance(shrinkage=1 / 11).fit(self.embed(with_mirrors(images)))
        return self

    def score_samples(self, images: np.ndarray) -> np.ndarray:
        return -self.gaussian.mahalanobis(self.embed(images))


class FrozenNearest(FrozenGaussian):
    """Distance of pooled features to the nearest of the shots and their mirror images."""

    def fit(self, images: np.ndarray) -> Self:
        self.index = NearestNeighbors(n_neighbors=1).fit(self.embed(with_mirrors(images)))
        return self

    def score_samples(self, images: np.ndarray) -> np.ndarray:
        return -self.index.kneighbors(self.embed(images))[0][:, 0]


class PatchMemory(FrozenNetwork):
    """Distance of the worst patch to the nearest patch of the shots, as in PatchCore."""

    def __init__(self, backbone: str, weights: str | Path) -> None:
        super().__init__(backbone, weights, features_only=True)

    def embed(self, images: np.ndarray) -> torch.Tensor:
        """Return patch embeddings (n, h, w, d): maps of three layers, averaged over neighbours."""
        embeddings = []
        for maps in self.run(images):
            size = maps[LAYERS[0]].shape[-2:]
            averages = [F.avg_pool2d(maps[layer], 3, 1, 1) for layer in LAYERS]
            stack = torch.cat([F.interpolate(m, size, mode="bilinear") for m in averages], 1)
            embeddings.append(F.normalize(stack, dim=1).movedim(1, 3))
        return torch.cat(embeddings)

    def fit(self, images: np.ndarray) -> Self:
        mirrored = with_mirrors(images)
        patches = self.embed(np.concatenate([mirrored, mirrored[:, ::-1]])).flatten(0, 2)
        subset = np.random.default_rng(0).permutation(len(patches))[:MAX_PATCHES]
        self.memory = patches[np.sort(subset)]
        return self

    def distances(self, images: np.ndarray) -> torch.Tensor:
        """Return the distances (n, h, w) of patches to the nearest patch in the memory.

        Computed one image at a time, because the table of all distances is large.
        """
        patches = self.embed(images)
        nearest = [torch.cdist(p.flatten(0, 1), self.memory).amin(1) for p in patches]
        return torch.stack(nearest).view(patches.shape[:3])

    def score_samples(self, images: np.ndarray) -> np.ndarray:
        return -self.distances(images).amax((1, 2)).numpy()

    def anomaly_map(self, images: np.ndarray) -> np.ndarray:
        distances = self.distances(images)[:, None]
        return F.interpolate(distances, images.shape[1:3], mode="bilinear")[:, 0].numpy()


def with_mirrors(images: np.ndarray) -> np.ndarray:
    """Return images followed by their mirror images."""
    return np.concatenate([images, images[:, :, ::-1]])
