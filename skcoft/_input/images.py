"""Validated images, decoded lazily in batches to tensors of one range and size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from .._utils.warning import warn_user
from .chunks import MAX_CHUNK_SIZE, files_per_chunk, prefetch
from .decode import ImageItem, max_value, size_of, values_of
from .defaults import IMAGE_DEFAULTS
from .duplicates import empty_thumbnails, find_duplicates, plain_modalities
from .errors import UnreadableImageError
from .mask import as_mask, check_fit, fill_outside, pixels_inside
from .pixels import BIT_DEPTHS, FLOAT_RANGE_TOL, colors_of
from .sizing import ImageSize, Sizing
from .types import EncoderLike, Modality

CACHE_BYTES = 2**30
NOISE = 4 / 255  # standard deviation of harmless noise
MAX_BLACK = 1 / 255  # images without a greater value are black, and probably masks of 0 and 1


@dataclass(eq=False, repr=False)
class Images:
    """A validated collection of images.

    Parameters
    ----------
    items : Tensor of shape (n, C, H, W) or list
        The images: a tensor, or a list of paths, contents of files, PIL images and tensors
        (C, H, W). Values are uint8, float32 from 0 to 1, or int32 for whole numbers of more than
        8 bits.
    n_jobs : int or None
        Number of threads that decode files.
    stated_bit_depth : int or None
        Bit depth of whole numbers of more than 8 bits; None finds it, see ``bit_depth``.
    first : int
        Position of the first image, if these are a chunk of a larger X.
    mask : boolean ndarray (h, w) or None
        Region that is loaded; outside, images are filled.
    modality : str, int or None
        Name of the modality, if a sample has several images.
    table : array, data frame or None
        The two-dimensional X that the images were flattened to.
    """

    defaults = IMAGE_DEFAULTS
    empty_thumbnails = empty_thumbnails
    find_duplicates = find_duplicates
    plain_modalities = plain_modalities

    items: torch.Tensor | list[ImageItem]
    n_jobs: int | None = None
    stated_bit_depth: int | None = None
    first: int = 0
    mask: np.ndarray | None = None
    modality: Modality = None
    table: Any = None

    def __post_init__(self) -> None:
        self._cached_sizings: Sequence[Sizing] = ()  # files are decoded for all of them at once
        self._resized: dict[tuple[int, ImageSize], torch.Tensor] = {}  # by index and size
        # the inside of the mask, by the sizes before and after resizing
        self._insides: dict[tuple[ImageSize, ImageSize], torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def name_of(self, i: int) -> str:
        """Return how messages call an image: by its path, or by its position in X."""
        item = self.items[i]
        return repr(item) if isinstance(item, str) else item_name(self.modality, self.first + i)

    @property
    def by_modality(self) -> dict[Modality, "Images"]:
        """These images, by modality."""
        return {self.modality: self}

    @property
    def common_size(self) -> ImageSize | None:
        """(H, W) if all images have the same size, else None."""
        sizes = set(self.sizes)
        return sizes.pop() if len(sizes) == 1 else None

    @cached_property
    def sizes(self) -> list[ImageSize]:
        """(H, W) of every image; each file is opened once."""
        if isinstance(self.items, torch.Tensor):
            height, width = self.items.shape[-2:]
            return [(height, width)] * len(self)
        return [size_of(item, self.name_of(i)) for i, item in enumerate(self.items)]

    def cache_key(self) -> list[Any]:
        """Return the values that results kept on disk depend on."""
        whole = isinstance(self.items, torch.Tensor)
        return [self.modality, *([self.items] if whole else self.items)]

    def take(self, mask: np.ndarray) -> "Images":
        """Return the images for which the boolean ``mask`` is true."""
        if isinstance(self.items, torch.Tensor):
            return replace(self, items=self.items[torch.from_numpy(mask)], first=0)
        return replace(self, items=list(compress(self.items, mask)), first=0)

    def masked(self, mask: npt.ArrayLike | None) -> "Images":
        """Return images of which only the inside of a mask (h, w) is loaded; None loads all."""
        inside = None if mask is None else as_mask(mask)
        return replace(self, mask=None if inside is None or inside.all() else inside)

    def iter_chunks(self, encoders: Sequence[EncoderLike]) -> Iterator["Images"]:
        """Yield chunks that fit into memory at all sizes at which ``encoders`` see them."""
        size = self.chunk_size(encoders)
        for start in range(0, len(self), size):
            yield self.chunk(start, size, encoders)

    def chunk_size(self, encoders: Sequence[EncoderLike]) -> int:
        """Return the number of images in a chunk."""
        if not self._needs_decoding:
            return MAX_CHUNK_SIZE
        return min(MAX_CHUNK_SIZE, files_per_chunk(_resized_bytes(self._sizings(encoders))))

    def chunk(self, start: int, size: int, encoders: Sequence[EncoderLike]) -> "Images":
        """Return ``size`` images whose files are decoded once for all ``encoders``."""
        chunk = replace(self, items=self.items[start : start + size], first=self.first + start)
        chunk.decode_once(self._sizings(encoders))
        return chunk

    def _sizings(self, encoders: Sequence[EncoderLike]) -> list[Sizing]:
        mine = [encoder.sizing for encoder in encoders if encoder.modality == self.modality]
        return [sizing for sizing in mine if sizing is not None]

    @property
    def _needs_decoding(self) -> bool:
        """Whether there are files or PIL images; decoding takes longer than resizing."""
        whole = isinstance(self.items, torch.Tensor)
        return not (whole or all(isinstance(item, torch.Tensor) for item in self.items))

    def decode_once(self, sizings: Sequence[Sizing]) -> None:
        """Decode files once for all sizings, when an image is first loaded at one of them.

        The resized images are kept if they fit into 1 GiB.
        """
        if self._needs_decoding and len(self) * _resized_bytes(sizings) <= CACHE_BYTES:
            self._cached_sizings = sizings

    def groups(self, sizing: Sizing) -> list[np.ndarray]:
        """Return the indices of images that are resized to one size, as a list of arrays."""
        if sizing.pixels is None or isinstance(self.items, torch.Tensor):
            return [np.arange(len(self))]
        return [np.array(group) for group in _indices_by_size(map(sizing.of, self.sizes)).values()]

    @cached_property
    def bit_depth(self) -> int | None:
        """Bit depth of whole numbers of more than 8 bits; None if no image holds any.

        It is found from the greatest value, with a warning, unless the user stated it.
        """
        if self.stated_bit_depth is not None:
            return self.stated_bit_depth
        peaks = [max_value(item, self.name_of(i)) for i, item in enumerate(self)]
        peak = max((peak for peak in peaks if peak is not None), default=None)
        if peak is None:
            return None
        bit_depth = next((bits for bits in BIT_DEPTHS if peak < 2**bits), None)
        if bit_depth is None:
            raise ValueError(f"X holds values up to {peak}; at most 16 bits, 65535, are accepted.")
        if bit_depth < 16:
            warn_user(
                f"X holds whole numbers up to {peak} in a type of more than 8 bits. They are read "
                f"as {bit_depth} bits, so that {2**bit_depth - 1} is white, now and in every "
                f"later call. Pass bit_depth={bit_depth} to confirm it, or another number."
            )
        return bit_depth

    def blocks(
        self, max_side: int, count: int, bit_depth: int | None
    ) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield (indices, images (n, 3, h, w)) of one size, at most ``count`` at once.

        Sides longer than ``max_side`` pixels are reduced to it.
        """
        reduced = [(min(height, max_side), min(width, max_side)) for height, width in self.sizes]
        for size, same_size in _indices_by_size(reduced).items():
            for indices in torch.tensor(same_size).split(count):
                yield indices.numpy(), self.load(indices, size, bit_depth)

    def loader(
        self,
        sizing: Sizing,
        device: str | torch.device,
        *,
        bit_depth: int | None = None,
        cache: bool = False,
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return a function from indices to a batch on the device.

        The images of a batch must belong to one of the ``groups`` of ``sizing``. With ``cache``,
        images that fit into 1 GiB are decoded once and kept.
        """

        def load(index: torch.Tensor) -> torch.Tensor:
            one_size = sizing.pixels is None
            size = sizing.size if one_size else sizing.of(self.sizes[index[0]])
            return self.load(index.cpu(), size, bit_depth).to(device)

        if not cache or len(self) * 3 * np.prod(sizing.size) * 4 > CACHE_BYTES:
            return load
        images: dict[int, torch.Tensor] = {}
        for group in self.groups(sizing):
            images.update(zip(group.tolist(), load(torch.from_numpy(group)), strict=True))
        return lambda index: torch.stack([images[int(i)] for i in index])

    def load(
        self, indices: torch.Tensor, size: ImageSize, bit_depth: int | None = None
    ) -> torch.Tensor:
        """Return images as a float32 tensor (n, 3, H, W), values 0 to 1, resized to ``size``.

        Outside the mask they are filled.
        """
        if isinstance(self.items, torch.Tensor):
            images = resize(_to_rgb(self.items[indices], bit_depth), size)
        else:
            images = torch.cat(self._load_items([int(i) for i in indices], size, bit_depth))
        if 0 < images.max() <= MAX_BLACK + FLOAT_RANGE_TOL:
            warn_user(
                "Images in X hold no value above 1 of 255, which is black. If they are masks of 0 "
                "and 1, pass X.astype(bool). If they are whole numbers of another range, divide X "
                "by the greatest possible value."
            )
        return self._fill_outside(images, indices, size)

    def _load_items(
        self, indices: list[int], size: ImageSize, bit_depth: int | None
    ) -> list[torch.Tensor]:
        """Return tensors (1, 3, H, W) of a size, from the cache if they are there."""
        is_cacheable = size in [
            sizing.of(self.sizes[indices[0]]) for sizing in self._cached_sizings
        ]
        if is_cacheable and (indices[0], size) not in self._resized:
            for i, image in self._decode(range(len(self)), bit_depth):
                for sizing in self._cached_sizings:
                    cached_size = sizing.of(self.sizes[i])
                    self._resized[i, cached_size] = resize(image, cached_size)
        if all((i, size) in self._resized for i in indices):
            return [self._resized[i, size] for i in indices]
        return [resize(image, size) for _, image in self._decode(indices, bit_depth)]

    def _decode(
        self, indices: Sequence[int], bit_depth: int | None
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (index, RGB values (1, 3, H, W)); ``n_jobs`` threads decode ahead."""

        def decode(i: int) -> tuple[int, torch.Tensor]:
            return i, values_of(self.items[i], self.name_of(i))

        for i, values in prefetch(decode, indices, self.n_jobs):
            yield i, _to_rgb(values, bit_depth)

    def add_noise(
        self, images: torch.Tensor, indices: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Return loaded images as if they had been photographed with noise.

        The noise is drawn for every pixel of the image before resizing. Gray images get gray
        noise.
        """
        size = images.shape[-2], images.shape[-1]
        noisy = []
        for i, image in zip(map(int, indices), images.cpu(), strict=True):
            channels = 1 if (image == image[:1]).all() else 3
            noise = torch.randn((1, channels, *self.sizes[i]), generator=generator)
            noisy.append((image + NOISE * interpolate(noise, size)[0]).clamp_(0, 1))
        return self._fill_outside(torch.stack(noisy), indices, size).to(images.device)

    def _fill_outside(
        self, images: torch.Tensor, indices: torch.Tensor, size: ImageSize
    ) -> torch.Tensor:
        if self.mask is None:
            return images
        filled = []
        for i, image in zip(map(int, indices), images, strict=True):
            shape = self.sizes[i]
            if (shape, size) not in self._insides:
                check_fit(self.mask, shape, self.name_of(i))
                self._insides[shape, size] = pixels_inside(self.mask, shape, size, resize)
            filled.append(fill_outside(image, self._insides[shape, size]))
        return torch.stack(filled)


def item_name(modality: Modality = None, i: int | None = None) -> str:
    """Return how messages call X, its image ``i``, a modality, or an image of a modality."""
    item = "" if i is None else f"[{i}]"
    return f"X{item}" if modality is None else f"X{item}[{modality!r}]"


def _indices_by_size(sizes: Iterable[ImageSize]) -> dict[ImageSize, list[int]]:
    """Return the indices of equal sizes."""
    indices: dict[ImageSize, list[int]] = {}
    for i, size in enumerate(sizes):
        indices.setdefault(size, []).append(i)
    return indices


def _resized_bytes(sizings: Sequence[Sizing]) -> int:
    """Return the bytes of a float32 RGB image at all of its sizes."""
    return 12 * sum(int(np.prod(sizing.size)) for sizing in sizings)


def _to_rgb(images: torch.Tensor, bit_depth: int | None) -> torch.Tensor:
    """Return float RGB images in 0..1: gray is repeated, transparent pixels are white.

    The memory layout is always the same, because another one would round differently later.
    """
    colors = colors_of(images)
    rgb = colors.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    if images.dtype == torch.uint8:
        rgb.div_(255)
    elif images.dtype == torch.int32:
        rgb.div_(_white(colors, bit_depth)).clamp_(max=1)
    if images.shape[1] in (2, 4):
        rgb = _on_white(rgb, images[:, -1:].to(torch.float32))
    return rgb.expand(-1, 3, -1, -1).contiguous()


def _on_white(colors: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Return images (n, C, H, W) on white ground.

    The greatest value of alpha in an image is opaque, also if it is 0, which some programs write
    without a meaning. So the same alpha everywhere has no effect.
    """
    greatest = alpha.amax(dim=(-2, -1), keepdim=True)
    opacity = torch.where(greatest > 0, alpha / greatest, 1)
    return colors * opacity + (1 - opacity)


def _white(colors: torch.Tensor, bit_depth: int | None) -> int:
    """Return the value of white at a bit depth; warn of greater ones, which count as white.

    After a fit on images of 8 bits or floats, whole numbers of any type are read as 8 bits.
    """
    greatest = int(colors.max())
    if bit_depth is None and greatest <= 255:
        return 255
    if bit_depth is None:
        error = UnreadableImageError if len(colors) == 1 else ValueError
        raise error(
            f"X holds whole numbers up to {greatest}, but the estimator was fitted on images of 8 "
            "bits or floats. Their whole numbers lie in 0..255. Scale X to 0..1 in the same way "
            "as the training images, or fit with bit_depth=16 (or another number) on images with "
            "the values of X."
        )
    white = 2**bit_depth - 1
    if greatest > white:
        warn_user(
            f"X holds values up to {greatest}, but images of {bit_depth} bits, as in fit, hold at "
            f"most {white}. Larger values count as {white}. Pass another bit_depth to fit if this "
            "is wrong."
        )
    return white


def resize(images: torch.Tensor, size: ImageSize) -> torch.Tensor:
    """Resize images (n, c, H, W) with values 0..1 to a size."""
    same = tuple(images.shape[-2:]) == tuple(size)
    return images if same else interpolate(images, size).clamp_(0, 1)


def interpolate(values: torch.Tensor, size: ImageSize) -> torch.Tensor:
    """Resize values (n, c, H, W) of any range to a size."""
    return F.interpolate(values, size, mode="bilinear", antialias=True)
