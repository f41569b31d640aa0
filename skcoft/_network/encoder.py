"""The encoder: a network with the size, mask, device, views and seed of its inputs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from .._input.defaults import check_same_type
from .._input.images import Images, interpolate
from .._input.mask import nearest_inside, patches_inside
from .._input.modalities import Modalities
from .._input.sizing import Sizing
from .._input.table import Table
from .._utils.device import is_available, is_out_of_memory
from .._utils.settings import EmbedderSettings
from .._utils.warning import warn_user
from .backbone import Backbone
from .factory import build_backbone
from .support import MAX_CHANGED_SHOTS, PROBE, Support
from .tabular import TabularNetwork
from .views import Augmentation, Loader, make_views, mirrors_are_normal

# Maximum number of pixels of a batch. Batches of large images have fewer images.
MAX_CPU_BATCH_PIXELS = 2**17
MAX_ACCELERATOR_BATCH_PIXELS = 2**24

# Scales for networks that take images of any size: small defects show in the large image, large
# defects in the small one. 1 is the size of the images. Fine-tuning uses the last scale.
SCALES = (1, 1 / 2)
EXPOSURES = 0.9, 1.1  # brightness relative to a shot
N_CHANGES = len(EXPOSURES) + 2  # harmless changes: exposures, noise and half the resolution
MAX_TRAINING_PIXELS = 260**2 / 2  # per image in fine-tuning, if image_size is None

Inputs = Images | Modalities | Table
Network = Backbone | TabularNetwork


@dataclass(frozen=True)
class Features:
    """Output of the network for a batch. All images of a batch have the same size.

    Attributes
    ----------
    embeddings : ndarray of shape (n, d)
        L2-normalised embeddings, float64.
    patches : Tensor of shape (n, h, w, e) or None
        Patch embeddings, float32, on the device of the network. With a mask, only the k patches
        inside it, (n, 1, k, e).
    nearest : ndarray of shape (h, w) or None
        With a mask, the index of the nearest patch inside it, for each patch of the grid.
    """

    embeddings: np.ndarray
    patches: torch.Tensor | None = None
    nearest: np.ndarray | None = None


Summaries = Mapping[str, Callable[[Features], Iterable[Any]]]


@dataclass(eq=False, repr=False)
class Encoder:
    """Embeds inputs with a network.

    Parameters
    ----------
    network : Backbone or TabularNetwork
        Network in eval mode, on the device.
    sizing : Sizing or None
        Sizes that images are resized to. None for tabular data.
    device : str
        Device of the network.
    augmentation : dict, callable or None
        As in :class:`skcoft.COFTEmbedder`.
    seed : int
        Seed of the views that densities are fitted on.
    bit_depth : int or None
        Bits per value of images with more than 8 bits.
    mask : ndarray of bool, shape (h, w), or None
        Region of interest of every image.
    modality : str, int or None
        Modality that is embedded. None if a sample is one image.
    """

    network: Network
    sizing: Sizing | None
    device: str
    augmentation: Augmentation
    seed: int
    bit_depth: int | None = None
    mask: np.ndarray | None = None
    modality: str | int | None = None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Size (H, W) of training images after resizing. None for tabular data."""
        return None if self.sizing is None else self.sizing.size

    @property
    def scales(self) -> tuple[float, ...]:
        """Scales that images can be embedded at, relative to ``sizing``."""
        return SCALES if self.sizing is not None and self.sizing.pixels is not None else (1,)

    def at_scale(self, scale: float) -> "Encoder":
        """Return an encoder with the same network for images at another scale."""
        if scale == 1 or self.sizing is None:
            return self
        return replace(self, sizing=self.sizing.at(scale))

    def with_network(self, network: Network, device: str, sizing: Sizing | None) -> "Encoder":
        """Return an encoder with another network, device and sizing."""
        return replace(self, network=network, device=device, sizing=sizing)

    def select_modality(self, inputs: Inputs) -> Any:
        """Return the inputs of the encoder's modality."""
        return inputs.by_modality[self.modality]

    @property
    def has_patches(self) -> bool:
        """Whether the network has maps for patch embeddings."""
        return self.network.layers is not None

    @property
    def mirrors_are_normal(self) -> bool:
        """Whether views are mirrored, so that the mirror image of a normal image is normal."""
        return mirrors_are_normal(self.augmentation, self.network.view_options)

    def batch_size(self, pixels: float = 1) -> int:
        """Return how many inputs, of this many pixels, the network processes at once."""
        defaults = self.network.defaults
        if torch.device(self.device).type == "cpu":
            limits = defaults.cpu_batch_size, MAX_CPU_BATCH_PIXELS
        else:
            limits = defaults.accelerator_batch_size, MAX_ACCELERATOR_BATCH_PIXELS
        return max(1, min(limits[0], int(limits[1] / pixels)))

    def load(self, inputs: Inputs, *, cache: bool = False, sizing: Sizing | None = None) -> Loader:
        """Return a function from indices to a batch on the device, at ``sizing`` if passed."""
        return self.select_modality(inputs).loader(
            sizing or self.sizing, self.device, bit_depth=self.bit_depth, cache=cache
        )

    def load_for_training(self, inputs: Inputs) -> Loader:
        """Return a function as :meth:`load` does, but at the size of fine-tuning."""
        return self.load(inputs, cache=True, sizing=self.training_sizing)

    @property
    def training_sizing(self) -> Sizing | None:
        """Sizing of fine-tuning: one size for all images, because they are drawn into one batch.

        It is the smallest scale. In our measurements fine-tuning at that scale is no less
        accurate, and it is cheaper.
        """
        sizing = self.sizing
        if sizing is None:
            return None
        if sizing.pixels is not None:
            sizing = sizing.at(min(SCALES[-1], (MAX_TRAINING_PIXELS / sizing.pixels) ** 0.5))
        return sizing.one_for_all

    def embed(self, inputs: Inputs) -> np.ndarray:
        """Return L2-normalised embeddings of inputs, (n, d), float64."""
        return self.summarize(inputs, {"embeddings": embeddings_of})["embeddings"]

    def summarize(
        self, inputs: Inputs, summaries: Summaries, with_patches: bool = False
    ) -> dict[str, Any]:
        """Embed inputs batch by batch and return only summaries of the features.

        Parameters
        ----------
        inputs : Images, Modalities or Table
            The inputs.
        summaries : dict of str to function
            Each takes the :class:`Features` of a batch and returns an item for each input.
        with_patches : bool, default=False
            Whether patch embeddings are needed.

        Returns
        -------
        dict of str to ndarray of shape (n, ...) or list of n ndarrays
            The items of all inputs. A list if their shape depends on the size of an image and the
            images differ in size.
        """
        items: dict[str, list] = {name: [None] * len(inputs) for name in summaries}
        groups = self.select_modality(inputs).groups(self.sizing)
        for rows, features in self.iter_features(self.load(inputs), groups, with_patches):
            for name, summary in summaries.items():
                for row, item in zip(rows, summary(features), strict=True):
                    items[name][row] = item
        return {
            name: values if len(set(map(np.shape, values))) > 1 else np.stack(values)
            for name, values in items.items()
        }

    def embed_shots(
        self,
        shots: Inputs,
        n_views: int,
        *,
        mirror: bool,
        with_patches: bool,
        n_probes: int = 0,
        ids: npt.ArrayLike | None = None,
        first: int = 0,
        n_changed: int = MAX_CHANGED_SHOTS,
    ) -> Support:
        """Embed shots, their mirror images, views and probes for densities, and harmless changes.

        Parameters
        ----------
        shots : Images, Modalities or Table
            The shots.
        n_views, n_probes : int
            Number of views and probes of each shot.
        mirror : bool
            Whether mirror images are embedded.
        with_patches : bool
            Whether patch embeddings are needed.
        ids : array-like of shape (n,) or None
            The shot of each image. None means that each image is a shot, counted from ``first``.
        first : int, default=0
            Number of earlier images. The views depend on it.
        n_changed : int, default=16
            Number of images, from the first one on, that are also embedded with harmless changes.
        """
        n = len(shots)
        ids = np.arange(n) + first if ids is None else ids
        support = Support.allot(ids, n_views, mirror, n_probes)
        loaders = self._support_loaders(shots, mirror, n_views + n_probes, self.seed + first)
        prepared, standardizer = self.network.prepare_support(loaders, support.is_shot)
        groups = self.select_modality(shots).groups(self.sizing)
        embeddings = np.empty((len(support.roles), self.network.width))
        patches: list = [None] * len(support.roles)
        for i, load in enumerate(prepared):
            mirrored = mirror and i == 1
            for indices, features in self.iter_features(load, groups, with_patches, mirrored):
                rows = i * n + indices
                embeddings[rows] = features.embeddings
                if features.patches is not None:
                    for row, image in zip(rows, features.patches.cpu().numpy(), strict=True):
                        is_probe = support.roles[row] == PROBE
                        patches[row] = mean_patch(image) if is_probe else image
        support = replace(
            support,
            embeddings=embeddings,
            patches=patches if with_patches else None,
            standardizer=standardizer,
        )
        if not (self.network.defaults.has_harmless_changes and n_changed):
            return support
        groups = [group[group < n_changed] for group in groups]
        return self._embed_changes(shots, prepared[0], support, groups, self.seed + first)

    def _embed_changes(
        self, shots: Any, load: Loader, support: Support, groups: list[np.ndarray], seed: int
    ) -> Support:
        """Return the support with moves of the images in ``groups``."""
        noise = torch.Generator().manual_seed(seed)
        images = self.select_modality(shots)
        changed: list[Loader] = [
            lambda indices: images.add_noise(load(indices), indices, noise),
            *(partial(_expose, load, factor) for factor in EXPOSURES),
            lambda indices: _halve_resolution(load(indices)),
        ]
        with_patches, scale = support.patches is not None, len(changed) ** 0.5
        moves, move_ids, patch_moves = [], [], []
        for load_changed in changed:
            for indices, features in self.iter_features(load_changed, groups, with_patches):
                moves.append(scale * (features.embeddings - support.embeddings[indices]))
                move_ids.append(support.shot_ids[indices])
                if support.patches is not None and features.patches is not None:
                    before = np.stack([support.patches[i] for i in indices])
                    patch_moves += list(scale * (features.patches.cpu().numpy() - before))
        return replace(
            support,
            moves=np.concatenate(moves),
            move_ids=np.concatenate(move_ids),
            patch_moves=patch_moves if with_patches else None,
        )

    def _support_loaders(
        self, shots: Inputs, mirror: bool, n_drawn: int, seed: int
    ) -> list[Loader]:
        """Return the loader of each round: images, mirror images, views, probes."""
        changes = self.network.defaults.has_harmless_changes
        load = self.load(shots, cache=mirror or n_drawn > 0 or changes)
        views = make_views(self.augmentation, self.network)
        generator = torch.Generator(self.device).manual_seed(seed)

        def load_mirror(indices: torch.Tensor) -> torch.Tensor:
            return load(indices).flip(3)

        def load_view(indices: torch.Tensor) -> torch.Tensor:
            return views(load(indices), generator)

        return [load] + [load_mirror] * bool(mirror) + [load_view] * n_drawn

    def iter_features(
        self,
        load: Loader,
        groups: Sequence[np.ndarray],
        with_patches: bool = False,
        mirrored: bool = False,
    ) -> Iterator[tuple[np.ndarray, Features]]:
        """Yield (indices, Features) for each batch.

        ``load`` maps indices to a batch, of mirror images if ``mirrored``. ``groups`` are arrays
        of indices that may share a batch, see ``Images.groups``.
        """
        mask = self.mask
        if mask is not None and mirrored:
            mask = mask[:, ::-1].copy()
        batch_size = self.batch_size(int(np.prod(self.image_size or 1)))
        for group in groups:
            for start in range(0, len(group), batch_size):
                indices = group[start : start + batch_size]
                batch = load(torch.from_numpy(indices))
                yield indices, self._embed_batch(batch, batch_size, with_patches, mask)

    @torch.inference_mode()
    def _embed_batch(
        self, batch: torch.Tensor, batch_size: int, with_patches: bool, mask: np.ndarray | None
    ) -> Features:
        """Return the features of a batch of at most ``batch_size`` inputs."""
        n = len(batch)
        if n < batch_size:
            # All batches have one size, because torch may round differently at another size. So
            # an embedding does not depend, to the last bit, on what else is in its batch.
            padding = batch.new_zeros(batch_size - n, *batch.shape[1:])
            batch = torch.cat([batch, padding])
        features, patches = self._run(batch, with_patches)
        nearest = None
        if patches is not None:
            patches = patches[:n]
            if mask is not None:
                inside = patches_inside(mask, (patches.shape[1], patches.shape[2]))
                patches = patches[:, torch.from_numpy(inside)][:, None]
                nearest = nearest_inside(inside)
        embeddings = F.normalize(features.float(), dim=1)[:n].cpu().double().numpy()
        if not (np.isfinite(embeddings).all() and (patches is None or patches.isfinite().all())):
            raise ValueError(
                "The network gives NaN or infinite features for some samples of X, although their "
                "values are finite. Check the backbone's weights or, for tabular data, rescale "
                "the features."
            )
        return Features(embeddings, patches, nearest)

    def _run(
        self, batch: torch.Tensor, with_patches: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run the network; if the memory does not hold a batch, run it on the halves."""
        try:
            if with_patches:
                return cast(Backbone, self.network).features_and_patches(batch)
            return self.network(batch), None
        except RuntimeError as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
        warn_user(
            f"The memory of {self.device} does not hold a batch of {len(batch)} images. They are "
            "embedded in halves. Set max_pixels for smaller images."
        )
        halves = [self._run(half, with_patches) for half in batch.chunk(2)]
        features, patches = zip(*halves, strict=True)
        return torch.cat(features), torch.cat(patches) if with_patches else None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        device = torch.device(self.device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            self.device = "cuda:0" if torch.cuda.is_available() else "cpu"
        elif device.type not in ("cpu", "cuda") and not is_available(device):
            self.device = "cpu"
        self.network.to(self.device)


def _expose(load: Loader, factor: float, indices: torch.Tensor) -> torch.Tensor:
    """Return a batch that is brighter by a factor."""
    return (load(indices) * factor).clamp_(max=1)


def _halve_resolution(images: torch.Tensor) -> torch.Tensor:
    """Return a batch (n, c, H, W) without the details that half of its pixels cannot show."""
    height, width = images.shape[-2:]
    half = interpolate(images, (max(1, height // 2), max(1, width // 2)))
    return interpolate(half, (height, width))


def match_inputs(encoders: Sequence[Encoder], inputs: Inputs) -> Inputs:
    """Return inputs with the encoders' mask; raise ValueError if their type is not that of fit."""
    by_modality = {encoder.modality: encoder for encoder in encoders}
    first = encoders[0]
    check_same_type(first.network.defaults, inputs.defaults)
    if set(inputs.by_modality) != set(by_modality):
        raise ValueError(
            f"The estimator was fitted on {_describe_modalities(by_modality)}, but X holds "
            f"{_describe_modalities(inputs.by_modality)}. Pass the same modalities as in fit."
        )
    return inputs.masked(first.mask)


def _describe_modalities(names: Iterable[str | int | None]) -> str:
    """Return what a message calls samples with these modalities."""
    names = list(names)
    return "one image per sample" if names == [None] else f"samples of the modalities {names}"


def mean_patch(patches: np.ndarray) -> np.ndarray:
    """Return the mean of patch embeddings (h, w, e), (1, 1, e), float64."""
    return patches.mean(axis=(0, 1), dtype=np.float64, keepdims=True)


def embeddings_of(features: Features) -> np.ndarray:
    """Return the embeddings of a batch: a summary of it."""
    return features.embeddings


def concat_embeddings(embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate the embeddings (n, d) of several encoders, with unit length again."""
    n = len(embeddings)
    return embeddings[0] if n == 1 else np.hstack(embeddings) / n**0.5


def build_encoder(
    settings: EmbedderSettings,
    shots: Any,
    device: torch.device,
    network_seed: int,
    view_seed: int,
) -> Encoder:
    """Build the encoder that an estimator's parameters ask for, for the shots of one modality."""
    network, sizing = _build_network(settings, shots, network_seed)
    options = settings.augmentation, view_seed, shots.bit_depth, shots.mask, shots.modality
    encoder = Encoder(network.to(device), sizing, str(device), *options)
    if sizing is not None:
        # files are decoded once for fine-tuning and for all scales
        scaled = [encoder.at_scale(scale).sizing for scale in encoder.scales]
        shots.decode_once([encoder.training_sizing, *scaled])
    return encoder


def _build_network(settings: Any, shots: Any, seed: int) -> tuple[Network, Sizing | None]:
    if not shots.defaults.needs_backbone:
        return TabularNetwork(shots.values, seed).eval(), None
    options = settings.backbone, settings.weights, settings.image_size
    return build_backbone(*options, shots.sizes, settings.max_pixels, seed)
