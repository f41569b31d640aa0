"""Encoder: a network with its size, device, views and seed; from inputs to embeddings."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from .._input.defaults import check_same_type
from .._input.mask import nearest_inside, patches_inside
from .._utils.device import is_available, is_out_of_memory
from .factory import build_backbone
from .module_state import copy_module
from .support import Support
from .tabular import HeldOutStandardizer, TabularNetwork
from .views import make_views, mirrors_are_normal

# On a CPU small batches are as fast as large ones, and one fixed size makes every embedding
# independent, to the last bit, of what else is in its batch.
AT_ONCE = {"images": {"cpu": 8, "accelerator": 64}, "tabular": {"cpu": 256, "accelerator": 256}}
PIXELS = {"cpu": 2**17, "accelerator": 2**24}  # at once; of larger images there are fewer

# Of a network that takes images of any size: what is fine shows in the large, what is coarse in
# the small. The first is the size of the images; fine-tuning is done at the last.
SCALES = (1, 1 / 2)
TRAINED = 260**2 / 2  # most pixels of an image in fine-tuning, where its size is not given


@dataclass(frozen=True)
class Features:
    """What the network says of a batch: embeddings (n, d), local embeddings (n, h, w, e) or None.

    Embeddings are L2-normalised, float64; local embeddings are a float32 tensor, where the network
    is. All images of a batch are of one size. With a mask, the k patches inside are there alone,
    (n, 1, k, e), and ``nearest`` (h, w) says of every position which of these is the nearest.
    """

    embeddings: np.ndarray
    patches: torch.Tensor | None = None
    nearest: np.ndarray | None = None


class Encoder:
    """From inputs to embeddings, part by part.

    Parameters
    ----------
    network : Backbone or TabularNetwork
        In eval mode, on the device.
    sizing : Sizing or None
        Sizes that images are resized to; None for rows.
    device : str
        Where the network is.
    augmentation : dict, callable or None
        As in :class:`skcoft.COFTEmbedder`.
    seed : int
        Of the views that densities are fitted on.
    bit_depth : int or None
        Bits of whole numbers in images that hold more than 8.
    mask : ndarray of bool, shape (h, w), or None
        What of every image is looked at.
    modality : str, int or None
        Which image of every sample it looks at; None where a sample is one image.
    """

    modality = None  # of what was pickled before there was any

    def __init__(
        self, network, sizing, device, augmentation, seed, bit_depth=None, mask=None, modality=None
    ):
        self.modality = modality
        self.network = network
        self.sizing = sizing
        self.bit_depth = bit_depth
        self.mask = mask
        self.device = device
        self.augmentation = augmentation
        self.seed = seed

    @property
    def image_size(self):
        """Size (H, W) that images of the shots' shape are resized to; None for rows."""
        return self.sizing and self.sizing.size

    @property
    def scales(self):
        """Sizes that images may be seen at, relative to ``sizing``; one, where that is fixed."""
        return SCALES if self.sizing is not None and self.sizing.pixels is not None else (1,)

    def at(self, scale):
        """Return an encoder with the same network, for images of another size."""
        if scale == 1:
            return self
        return self.with_network(self.network, self.device, self.sizing.at(scale))

    def with_network(self, network, device, sizing):
        """Return an encoder with another network, or another size of the images."""
        options = self.augmentation, self.seed, self.bit_depth, self.mask, self.modality
        return Encoder(network, sizing, device, *options)

    def select_modality(self, inputs):
        """Return the images that it looks at: of several a sample, those of its modality."""
        return inputs.by_modality[self.modality]

    @property
    def has_patches(self):
        """Whether the network offers maps that local embeddings can be made of."""
        return self.network.layers is not None

    @property
    def mirrors(self):
        """Whether views are mirrored, so that a mirror image is as normal as an image."""
        return mirrors_are_normal(self.augmentation, self.network.view_options)

    def at_once(self, pixels=1):
        """How many inputs the network sees at once, of so many pixels."""
        on = "cpu" if torch.device(self.device).type == "cpu" else "accelerator"
        return max(1, min(AT_ONCE[self.network.input_type][on], int(PIXELS[on] / pixels)))

    def load(self, inputs, *, cache=False):
        """Return a function from indices to a batch on the device, each image in its own shape."""
        return self._loader(inputs, self.sizing, cache)

    @property
    def training_sizing(self):
        """The sizing of fine-tuning: one size for all, as a batch mixes what has been drawn.

        That of the smallest scale: in our measurements fine-tuning there is no worse, and cheaper.
        """
        sizing = self.sizing
        if len(self.scales) > 1:
            sizing = sizing.at(min(self.scales[-1], (TRAINED / sizing.pixels) ** 0.5))
        return sizing and sizing.one_for_all

    def load_for_training(self, inputs):
        """As :meth:`load`, but all images of the size of fine-tuning."""
        return self._loader(inputs, self.training_sizing, True)

    def _loader(self, inputs, sizing, cache):
        device = torch.device(self.device)
        return self.select_modality(inputs).loader(
            sizing, device, bit_depth=self.bit_depth, cache=cache
        )

    def embed(self, inputs):
        """L2-normalised embeddings of inputs, (n, d), float64."""
        return self.summarize(inputs, {"embeddings": embeddings_of})["embeddings"]

    def summarize(self, inputs, keep, with_patches=False):
        """Run over inputs and keep something of every batch.

        Parameters
        ----------
        inputs : Images or Table
            What to run over.
        keep : dict of str to function
            From :class:`Features` of a batch to an array with a row for each input.
        with_patches : bool, default=False
            Whether local embeddings are needed.

        Returns
        -------
        dict of str to ndarray of shape (n, ...) or list of n ndarrays
            What was kept; a list where that depends on the size of an image and not all are of
            one.
        """
        kept = {name: [None] * len(inputs) for name in keep}
        groups = self.select_modality(inputs).groups(self.sizing)
        for rows, features in self.stream(self.load(inputs), groups, with_patches):
            for name, function in keep.items():
                for row, value in zip(rows, function(features), strict=True):
                    kept[name][row] = value
        return {name: _stack(values) for name, values in kept.items()}

    def embed_shots(self, shots, n_views, *, mirror, with_patches, n_probes=0, ids=None, first=0):
        """Embed shots, their mirror images, views and probes: the support of densities.

        ``ids`` says which shot each image belongs to; None means that each is its own, counted
        from ``first``, the number of images before, which decides their views. With
        ``with_patches`` their local embeddings come along.
        """
        n, seed = len(shots), self.seed + first
        ids = np.arange(n) + first if ids is None else ids
        load = self.load(shots, cache=mirror or n_views + n_probes > 0)
        views = make_views(self.augmentation, self.network)
        generator = torch.Generator(self.device).manual_seed(seed)

        def load_mirror(index):
            return load(index).flip(3)

        def load_view(index):
            return views(load(index), generator)

        support = Support.allot(ids, n_views, mirror, n_probes)
        mirrored = None if self.mask is None else self.mask[:, ::-1].copy()
        passes = [(load, self.mask)] + [(load_mirror, mirrored)] * bool(mirror)
        passes += [(load_view, self.mask)] * (n_views + n_probes)
        embeddings, patches = ([None] * len(support.roles) for _ in range(2))
        groups = self.select_modality(shots).groups(self.sizing)
        inputs = []  # of rows, as the network got them
        for i, (images, mask) in enumerate(passes):
            if self.network.input_type == "tabular":
                inputs.append(images(torch.arange(n)).cpu().numpy())
                images = self._again(inputs[-1])
            for rows, features in self._stream(images, groups, with_patches, mask):
                local = features.patches.cpu().numpy() if with_patches else None
                for at, row in enumerate(i * n + rows):
                    embeddings[row] = features.embeddings[at]
                    patches[row] = local[at] if with_patches else None
        return replace(
            support,
            embeddings=np.stack(embeddings),
            patches=patches if with_patches else None,
            standardizer=self._standardizer(inputs, support) if inputs else None,
        )

    def _again(self, rows):
        """Return a function from indices to a batch of rows that have been drawn."""
        drawn = torch.from_numpy(rows).to(self.device)
        return lambda index: drawn[index]

    def _standardizer(self, inputs, support):
        return HeldOutStandardizer(
            copy_module(self.network).cpu(), np.concatenate(inputs), support.is_shot
        )

    def stream(self, load, groups, with_patches=False):
        """Yield (indices, Features) batch by batch.

        ``load`` maps indices to a batch, ``groups`` are arrays of indices that may share one, see
        ``Images.groups``.
        """
        return self._stream(load, groups, with_patches, self.mask)

    def _stream(self, load, groups, with_patches, mask):
        at_once = self.at_once(np.prod(self.image_size or 1))
        for group in groups:
            for start in range(0, len(group), at_once):
                rows = group[start : start + at_once]
                batch = load(torch.from_numpy(rows))
                yield rows, self._encode(batch, at_once, with_patches, mask)

    @torch.inference_mode()
    def _encode(self, batch, at_once, with_patches, mask):
        count = len(batch)
        if count < at_once:
            padding = batch.new_zeros(at_once - count, *batch.shape[1:])
            batch = torch.cat([batch, padding])
        features, patches = self._run(batch, with_patches)
        nearest = None
        if with_patches:
            patches = patches[:count]
            if mask is not None:
                inside = patches_inside(mask, patches.shape[1:3])
                patches = patches[:, torch.from_numpy(inside)][:, None]
                nearest = nearest_inside(inside)
        embeddings = F.normalize(features.float(), dim=1)[:count].cpu().double().numpy()
        if not (np.isfinite(embeddings).all() and (patches is None or patches.isfinite().all())):
            raise ValueError(
                "The network gives NaN or infinite features of some images of X, though their "
                "values are finite: look at its weights, of rows at the size of values."
            )
        return Features(embeddings, patches, nearest)

    def _run(self, batch, with_patches):
        """Run the network, on half of a batch where memory does not hold all of it."""
        try:
            if with_patches:
                return self.network.features_and_patches(batch)
            return self.network(batch), None
        except RuntimeError as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
        warnings.warn(
            f"{len(batch)} images at once are more than the memory of {self.device} holds: they "
            "are embedded in halves. max_pixels bounds their size.",
            stacklevel=2,
        )
        halves = [self._run(half, with_patches) for half in batch.chunk(2)]
        features, patches = zip(*halves, strict=True)
        return torch.cat(features), torch.cat(patches) if with_patches else None

    def __setstate__(self, state):
        self.__dict__.update(state)
        device = torch.device(self.device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            self.device = "cuda:0" if torch.cuda.is_available() else "cpu"
        elif device.type not in ("cpu", "cuda") and not is_available(device):
            self.device = "cpu"
        self.network.to(self.device)


def match_inputs(encoders, inputs):
    """Return inputs with the encoders' mask; ValueError where they are of another kind."""
    fitted = {encoder.modality: encoder for encoder in encoders}
    first = encoders[0]
    check_same_type(first.network.defaults, inputs.defaults)
    if set(inputs.by_modality) != set(fitted):
        raise ValueError(
            f"The estimator was fitted on {_modalities(fitted)}, X holds "
            f"{_modalities(inputs.by_modality)}."
        )
    return inputs.masked(first.mask)


def _modalities(names):
    """Text of the modalities of a sample."""
    names = list(names)
    return "one image a sample" if names == [None] else f"samples of the modalities {names}"


def embeddings_of(features):
    """Embeddings of a batch, as something to keep of it."""
    return features.embeddings


def concat_embeddings(found):
    """Embeddings (n, d) of one encoder, or those of several side by side, at unit length again."""
    return found[0] if len(found) == 1 else np.hstack(found) / len(found) ** 0.5


def _stack(values):
    """Stack arrays of one shape; others stay a list."""
    return values if len({np.shape(value) for value in values}) > 1 else np.stack(values)


def build_encoder(settings, shots, device, network_seed, view_seed):
    """Build the network that ``settings``, an estimator's parameters, ask for, for some shots."""
    if shots.input_type == "tabular":
        network, sizing = TabularNetwork(shots.values, network_seed).eval(), None
    else:
        network, sizing = build_backbone(
            settings.backbone,
            settings.weights,
            settings.image_size,
            shots.sizes,
            settings.max_pixels,
            network_seed,
        )
    network = network.to(device)
    options = settings.augmentation, view_seed, shots.bit_depth, shots.mask, shots.modality
    encoder = Encoder(network, sizing, str(device), *options)
    if shots.input_type == "images":
        scaled = [encoder.at(scale).sizing for scale in encoder.scales]
        shots.decode_once([encoder.training_sizing, *scaled])
    return encoder
