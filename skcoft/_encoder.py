"""Encoder: a network with its size, device, views and seed; from inputs to embeddings."""

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from ._backbone import build_backbone
from ._rows import RowsNetwork
from ._support import Support
from ._views import make_views

# On a CPU small batches are as fast as large ones, and one fixed size makes every embedding
# independent, to the last bit, of what else is in its batch.
AT_ONCE = {"images": {"cpu": 8, "accelerator": 64}, "rows": {"cpu": 256, "accelerator": 256}}


@dataclass(frozen=True)
class Features:
    """What the network says of a batch: embeddings (n, d), local embeddings (n, h, w, e) or None.

    Embeddings are L2-normalised, float64; local embeddings are float32.
    """

    embeddings: np.ndarray
    positions: np.ndarray | None = None


class Encoder:
    """From inputs to embeddings, part by part.

    Parameters
    ----------
    network : Backbone or RowsNetwork
        In eval mode, on the device.
    image_size : (H, W) or None
        Size that images are resized to; None for rows.
    device : str
        Where the network is.
    augmentation : dict, callable or None
        As in :class:`skcoft.COFTEmbedder`.
    seed : int
        Of the views that densities are fitted on.
    """

    def __init__(self, network, image_size, device, augmentation, seed):
        self.network = network
        self.image_size = image_size
        self.device = device
        self.augmentation = augmentation
        self.seed = seed

    @property
    def has_positions(self):
        """Whether the network offers maps that local embeddings can be made of."""
        return self.network.depths is not None

    @property
    def mirrors(self):
        """Whether views are mirrored, so that a mirror image is as normal as an image."""
        if callable(self.augmentation):
            return False
        return {**self.network.view_options, **(self.augmentation or {})}.get("flip", 0) > 0

    @property
    def at_once(self):
        """How many inputs the network sees at once."""
        on = "cpu" if torch.device(self.device).type == "cpu" else "accelerator"
        return AT_ONCE[self.network.kind][on]

    def check_kind(self, inputs):
        """Return the inputs; raise ValueError where they are of another kind than in fit."""
        if inputs.kind != self.network.kind:
            kinds = {"images": "images", "rows": "rows of features"}
            hint = " For flattened images set image_shape." if inputs.kind == "rows" else ""
            raise ValueError(
                f"The estimator was fitted on {kinds[self.network.kind]}, X holds "
                f"{kinds[inputs.kind]}.{hint}"
            )
        return inputs

    def load(self, inputs, *, cache=False):
        """Return a function from indices to a batch on the device, see ``Images.loader``."""
        return inputs.loader(self.image_size, torch.device(self.device), cache=cache)

    def embed(self, inputs):
        """L2-normalised embeddings of inputs, (n, d), float64."""
        return self.measure(inputs, {"embeddings": embeddings_of})["embeddings"][0]

    def measure(self, inputs, keep, mirror=False, with_positions=False):
        """Run over inputs and keep something of every batch.

        Parameters
        ----------
        inputs : Images or Rows
            What to run over.
        keep : dict of str to function
            From :class:`Features` of a batch to an array with a row for each input.
        mirror : bool, default=False
            Whether mirror images are measured too.
        with_positions : bool, default=False
            Whether local embeddings are needed.

        Returns
        -------
        dict of str to ndarray of shape (1 or 2, n, ...)
            What was kept of the inputs and, with ``mirror``, of their mirror images.
        """
        kept = {name: ([], []) for name in keep}
        for side, features in self.stream(self.load(inputs), len(inputs), mirror, with_positions):
            for name, function in keep.items():
                kept[name][side].append(function(features))
        sides = range(1 + bool(mirror))
        return {
            name: np.stack([np.concatenate(found[side]) for side in sides])
            for name, found in kept.items()
        }

    def embed_shots(self, shots, n_views, *, mirror, with_positions, first=0):
        """Embed shots, their mirror images and views of them: the support of densities.

        Shots are counted from ``first``, which also decides their views. With
        ``with_positions`` their local embeddings come along.
        """
        n, seed = len(shots), self.seed + first
        load = self.load(shots, cache=n_views > 0)
        views = make_views(self.augmentation, self.network)
        generator = torch.Generator(self.device).manual_seed(seed)

        def load_view(index):
            return views(load(index), generator)

        support = Support.allot(n, n_views, mirror, first)
        passes = [(0, load, mirror)]
        passes += [((1 + bool(mirror) + i) * n, load_view, False) for i in range(n_views)]
        embeddings = positions = None
        # filled batch by batch: of many shots, positions take most of the memory
        for start, images, sides in passes:
            filled = [start, start + n]  # next row of an image and of a mirror image
            for side, features in self.stream(images, n, sides, with_positions):
                rows = slice(filled[side], filled[side] + len(features.embeddings))
                embeddings = _fill(embeddings, rows, features.embeddings, len(support.roles))
                if with_positions:
                    positions = _fill(positions, rows, features.positions, len(support.roles))
                filled[side] = rows.stop
        return replace(support, embeddings=embeddings, positions=positions)

    def stream(self, load, n, mirror=False, with_positions=False):
        """Yield (side, Features) batch by batch: 0 of items, then, with ``mirror``, 1 of theirs.

        ``load`` maps indices to a batch of the n items.
        """
        for start in range(0, n, self.at_once):
            batch = load(torch.arange(start, min(start + self.at_once, n)))
            yield 0, self._encode(batch, with_positions)
            if mirror:
                yield 1, self._encode(batch.flip(3), with_positions)

    @torch.inference_mode()
    def _encode(self, batch, with_positions):
        count, positions = len(batch), None
        if count < self.at_once:
            padding = batch.new_zeros(self.at_once - count, *batch.shape[1:])
            batch = torch.cat([batch, padding])
        if with_positions:
            features, positions = self.network.features_and_positions(batch)
            positions = positions[:count].cpu().numpy()
        else:
            features = self.network(batch)
        embeddings = F.normalize(features.float(), dim=1)[:count].cpu().double().numpy()
        return Features(embeddings, positions)

    def __getstate__(self):
        return {**self.__dict__, "network": deepcopy(self.network).cpu()}

    def __setstate__(self, state):
        self.__dict__.update(state)
        device = torch.device(self.device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            self.device = "cuda:0" if torch.cuda.is_available() else "cpu"
        self.network.to(self.device)


def embeddings_of(features):
    """Embeddings of a batch, as something to keep of it."""
    return features.embeddings


def join_embeddings(found):
    """Embeddings (n, d) of one encoder, or those of several side by side, at unit length again."""
    return found[0] if len(found) == 1 else np.hstack(found) / len(found) ** 0.5


def _fill(array, rows, values, length):
    """Put values into some rows of an array of ``length`` rows, made where it is None."""
    if array is None:
        array = np.empty((length, *values.shape[1:]), values.dtype)
    array[rows] = values
    return array


def build_encoder(settings, shots, device, network_seed, view_seed):
    """Build the network that ``settings``, an estimator's parameters, ask for, for some shots."""
    if shots.kind == "rows":
        network, size = RowsNetwork(shots.values, network_seed).eval(), None
    else:
        network, size = build_backbone(
            settings.backbone,
            settings.weights,
            settings.image_size,
            shots.common_size,
            network_seed,
        )
    return Encoder(network.to(device), size, str(device), settings.augmentation, view_seed)
