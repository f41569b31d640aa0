"""What else one may do with the same weights and shots: frozen features and a simple scorer.

Detectors for ``fewshot.py``. ``backbone`` is the name of a timm network, ``weights`` the folder
that holds ``<backbone>.safetensors``.
"""

from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from sklearn.covariance import ShrunkCovariance
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

BATCH = 32
LEAST_SIZE = 128  # smaller images are enlarged, as they are by skcoft
MAPS = (2, 3, 4)  # of the five depths of a convolutional network
MOST_PATCHES = 30_000  # of larger images and of many shots, a random part is kept


class Frozen:
    """A pre-trained network and its normalisation of images."""

    def __init__(self, backbone, weights, **options):
        self.network = timm.create_model(backbone, pretrained=False, **options).eval()
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
    def run(self, images):
        """What the network makes of each batch of uint8 images (n, H, W[, 3])."""
        return [
            self.network(self._prepare(images[start : start + BATCH]))
            for start in range(0, len(images), BATCH)
        ]

    def _prepare(self, images):
        x = torch.from_numpy(images.reshape(*images.shape[:3], -1).copy())
        x = x.movedim(3, 1).expand(-1, 3, -1, -1) / 255
        if x.shape[-1] < LEAST_SIZE:
            x = F.interpolate(x, (LEAST_SIZE, LEAST_SIZE), mode="bilinear")
        x = (x - self.mean) / self.std
        if self.size:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        return x


class FrozenGaussian(Frozen):
    """Mahalanobis distance of pooled features from those of the shots and their mirror images."""

    def __init__(self, backbone, weights):
        super().__init__(backbone, weights, num_classes=0)

    def embed(self, images):
        return normalize(torch.cat(self.run(images)).double().numpy())

    def fit(self, images):
        # a tenth of the mean variance is added to every variance; the scale does not matter
        self.gaussian = ShrunkCovariance(shrinkage=1 / 11).fit(self.embed(mirrored(images)))
        return self

    def score_samples(self, images):
        return -self.gaussian.mahalanobis(self.embed(images))


class FrozenNearest(FrozenGaussian):
    """Distance of pooled features to the nearest of the shots and their mirror images."""

    def fit(self, images):
        self.index = NearestNeighbors(n_neighbors=1).fit(self.embed(mirrored(images)))
        return self

    def score_samples(self, images):
        return -self.index.kneighbors(self.embed(images))[0][:, 0]


class PatchMemory(Frozen):
    """Distance of the worst patch to the nearest patch of the shots, as in PatchCore."""

    def __init__(self, backbone, weights):
        super().__init__(backbone, weights, features_only=True)

    def embed(self, images):
        """Embeddings of patches (n, h, w, d): maps of three depths, averaged over neighbours."""
        found = []
        for maps in self.run(images):
            size = maps[MAPS[0]].shape[-2:]
            averages = [F.avg_pool2d(maps[depth], 3, 1, 1) for depth in MAPS]
            stack = torch.cat([F.interpolate(m, size, mode="bilinear") for m in averages], 1)
            found.append(F.normalize(stack, dim=1).movedim(1, 3))
        return torch.cat(found)

    def fit(self, images):
        both = mirrored(images)
        patches = self.embed(np.concatenate([both, both[:, ::-1]])).flatten(0, 2)
        kept = np.random.default_rng(0).permutation(len(patches))[:MOST_PATCHES]
        self.memory = patches[np.sort(kept)]
        return self

    def distances(self, images):
        """Distances (n, h, w); one image at a time, for their table with the memory is large."""
        patches = self.embed(images)
        nearest = [torch.cdist(p.flatten(0, 1), self.memory).amin(1) for p in patches]
        return torch.stack(nearest).view(patches.shape[:3])

    def score_samples(self, images):
        return -self.distances(images).amax((1, 2)).numpy()

    def anomaly_map(self, images):
        distances = self.distances(images)[:, None]
        return F.interpolate(distances, images.shape[1:3], mode="bilinear")[:, 0].numpy()


def mirrored(images):
    """Images and their mirror images."""
    return np.concatenate([images, images[:, :, ::-1]])
