"""Validated images, decoded lazily, batch by batch, to tensors of one range and size."""

import warnings
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F

from .chunks import MOST, files_per_chunk, prefetch
from .decode import max_value, size_of, values_of
from .defaults import IMAGE_DEFAULTS
from .mask import check_fit, fill_outside, pixels_inside
from .pixels import TOLERANCE

CACHE_BYTES = 2**30
BIT_DEPTHS = 8, 10, 12, 14, 16  # of cameras
BLACK = 1 / 255  # of white: what is no brighter is black


class Images:
    """A validated collection of images.

    ``items`` is a tensor with channels first, or a list of paths, contents of files, PIL images
    and channels-first tensors. Values are uint8, float32 from 0 to 1, or int32 for whole numbers
    in what holds more than 8 bits. How many bits these have is ``bit_depth``; None: to be found.
    ``first`` is the number of images of X before these, of which X holds more. ``mask``, a boolean
    array (h, w) or None, says what of the images is loaded. ``modality`` is the name of what they
    show, where a sample has several images.
    """

    input_type = "images"
    defaults = IMAGE_DEFAULTS

    def __init__(
        self, items, n_jobs=None, stated_bit_depth=None, first=0, mask=None, modality=None
    ):
        self.items = items
        self.n_jobs = n_jobs
        self.stated_bit_depth = stated_bit_depth
        self.first = first
        self.mask = mask
        self.modality = modality
        self._wanted = ()  # sizings that files are decoded for, all at once
        self._resized = {}  # what came of it, by number and size
        self._insides = {}  # of the mask, by shape and size

    def __len__(self):
        return len(self.items)

    def name_of(self, i):
        """Return what messages call an image."""
        return item_name(self.modality, self.first + i)

    @property
    def by_modality(self):
        """These, by modality: see ``Modalities``."""
        return {self.modality: self}

    @property
    def common_size(self):
        """(H, W) where all images agree on it, else None."""
        sizes = set(self.sizes)
        return sizes.pop() if len(sizes) == 1 else None

    @cached_property
    def sizes(self):
        """(H, W) of every image, each file looked at once."""
        if isinstance(self.items, torch.Tensor):
            return [tuple(self.items.shape[-2:])] * len(self)
        return [size_of(item) for item in self.items]

    def cache_key(self):
        """Return what results that are kept on disk depend on."""
        whole = isinstance(self.items, torch.Tensor)
        return [self.modality, *([self.items] if whole else self.items)]

    def take(self, mask):
        """Images where the boolean ``mask`` is true."""
        if isinstance(self.items, torch.Tensor):
            return self._with(self.items[torch.from_numpy(mask)], 0, self.mask)
        items = [item for item, wanted in zip(self.items, mask, strict=True) if wanted]
        return self._with(items, 0, self.mask)

    def masked(self, mask):
        """Images of which only what a mask, an array (h, w) or None for all, says is loaded."""
        mask = None if mask is None or np.all(mask) else np.asarray(mask).astype(bool)
        return self._with(self.items, self.first, mask)

    def _with(self, items, first, mask):
        return Images(items, self.n_jobs, self.stated_bit_depth, first, mask, self.modality)

    def iter_chunks(self, encoders):
        """Yield the images in pieces, of which what ``encoders`` look at is kept at once."""
        most = self.chunk_size(encoders)
        for start in range(0, len(self), most):
            yield self.chunk(start, most, encoders)

    def chunk_size(self, encoders):
        """How many images make a piece."""
        sizings = self._sizings(encoders)
        return min(MOST, files_per_chunk(_bytes_of(sizings))) if self._are_decoded else MOST

    def chunk(self, start, count, encoders):
        """Return ``count`` images, of which files are decoded once for all of ``encoders``."""
        piece = self._with(self.items[start : start + count], self.first + start, self.mask)
        piece.decode_once(self._sizings(encoders))
        return piece

    def _sizings(self, encoders):
        return [encoder.sizing for encoder in encoders if encoder.modality == self.modality]

    @property
    def _are_decoded(self):
        """Whether there are files or PIL images, which take more time to decode than to resize."""
        whole = isinstance(self.items, torch.Tensor)
        return not (whole or all(isinstance(item, torch.Tensor) for item in self.items))

    def decode_once(self, sizings):
        """Decode files once for all sizings, the first time that one of them is asked for.

        What they are resized to is kept, where it fits into 1 GiB.
        """
        if self._are_decoded and len(self) * _bytes_of(sizings) <= CACHE_BYTES:
            self._wanted = sizings

    def groups(self, sizing):
        """Return the indices of images that are brought to one size, as a list of arrays."""
        if sizing.pixels is None or isinstance(self.items, torch.Tensor):
            return [np.arange(len(self))]
        found = {}
        for i, shape in enumerate(self.sizes):
            found.setdefault(sizing.of(shape), []).append(i)
        return [np.array(group) for group in found.values()]

    @cached_property
    def bit_depth(self):
        """The bits of whole numbers in what holds more than 8; None without such images.

        Found from the greatest value, with a warning, unless ``bit_depth`` states it.
        """
        if self.stated_bit_depth is not None:
            return self.stated_bit_depth
        found = [max_value(self.name_of(i), item) for i, item in enumerate(self)]
        peaks = [peak for peak in found if peak is not None]
        if not peaks:
            return None
        bit_depth = next((bits for bits in BIT_DEPTHS if max(peaks) < 2**bits), None)
        if bit_depth is None:
            raise ValueError(f"X holds values up to {max(peaks)}; 16 bits, 65535, are the most.")
        if bit_depth < 16:
            warnings.warn(
                f"The images hold whole numbers up to {max(peaks)} in a type of more than 8 bits: "
                f"they are taken for {bit_depth} bits, {2**bit_depth - 1} for white, now and in "
                f"every later call. bit_depth={bit_depth} (or another) states it.",
                stacklevel=2,
            )
        return bit_depth

    def blocks(self, most, count, bit_depth):
        """Yield (indices, images (n, 3, h, w)), at most ``count``, of ``most`` pixels a side.

        Those of one size come together.
        """
        rows = {}
        for i, (height, width) in enumerate(self.sizes):
            rows.setdefault((min(height, most), min(width, most)), []).append(i)
        for size, alike in rows.items():
            for indices in torch.tensor(alike).split(count):
                yield indices.numpy(), self.load(indices, size, bit_depth)

    def __iter__(self):
        return iter(self.items)

    def loader(self, sizing, device, *, bit_depth=None, cache=False):
        """Return a function from indices to a batch of images of one size, on the device.

        ``sizing`` says which; the images that the indices name are all of one group. ``bit_depth``
        are the bits of whole numbers. With ``cache``, images that fit into 1 GiB are decoded
        once and
        kept.
        """

        def load(index):
            one_for_all = sizing.pixels is None
            size = sizing.size if one_for_all else sizing.of(self.sizes[index[0]])
            return self.load(index.cpu(), size, bit_depth).to(device)

        if not cache or len(self) * 3 * np.prod(sizing.size) * 4 > CACHE_BYTES:
            return load
        images = [None] * len(self)
        for group in self.groups(sizing):
            for i, image in zip(group, load(torch.from_numpy(group)), strict=True):
                images[i] = image
        return lambda index: torch.stack([images[i] for i in index])

    def load(self, indices, size, bit_depth=None):
        """Decode images to a float32 tensor (n, 3, H, W), values 0 to 1, resized to ``size``.

        What is outside of the mask is filled.
        """
        if isinstance(self.items, torch.Tensor):
            images = resize(_to_rgb(self.items[indices], bit_depth), size)
        else:
            images = torch.cat(self._load_items([int(i) for i in indices], size, bit_depth))
        if 0 < images.max() <= BLACK + TOLERANCE:
            warnings.warn(
                "Images in X hold no value above 1 of 255, which is black. Of masks of 0 and 1 "
                "pass X.astype(bool); of whole numbers of another range, X / the greatest value.",
                stacklevel=2,
            )
        return images if self.mask is None else self._fill(images, indices, size)

    def _load_items(self, indices, size, bit_depth):
        """Return tensors (1, 3, H, W) of a size, from what has been decoded where it is kept."""
        if self._is_wanted(indices[0], size) and not self._is_kept(indices[0], size):
            for i, image in self._decode(range(len(self)), bit_depth):
                for sizing in self._wanted:
                    wanted = sizing.of(self.sizes[i])
                    self._resized[i, wanted] = resize(image, wanted)
        if all(self._is_kept(i, size) for i in indices):
            return [self._resized[i, size] for i in indices]
        return [resize(image, size) for _, image in self._decode(indices, bit_depth)]

    def _is_kept(self, i, size):
        return (i, tuple(size)) in self._resized

    def _is_wanted(self, i, size):
        return tuple(size) in [sizing.of(self.sizes[i]) for sizing in self._wanted]

    def _decode(self, indices, bit_depth):
        """Yield (index, RGB values (1, 3, H, W)); ``n_jobs`` threads decode, a few prefetch."""

        def values(i):
            return i, values_of(self.items[i], self.name_of(i))

        for i, found in prefetch(values, indices, self.n_jobs):
            yield i, _to_rgb(found, bit_depth)

    def _fill(self, images, indices, size):
        filled = []
        for i, image in zip(map(int, indices), images, strict=True):
            shape = self.sizes[i]
            if (shape, size) not in self._insides:
                check_fit(self.mask, shape, self.name_of(i))
                self._insides[shape, size] = pixels_inside(self.mask, shape, size, resize)
            filled.append(fill_outside(image, self._insides[shape, size]))
        return torch.stack(filled)


def item_name(modality=None, i=None):
    """Return what messages call the images of a modality, or one of them; None: of X."""
    item = "" if i is None else f"[{i}]"
    return f"X{item}" if modality is None else f"X{item}[{modality!r}]"


def _bytes_of(sizings):
    """Bytes of an image at all of its sizes, of float32 RGB."""
    return 12 * sum(int(np.prod(sizing.size)) for sizing in sizings)


def _to_rgb(images, bit_depth):
    """Float RGB in 0..1: gray is repeated, an alpha channel is dropped.

    The memory layout is always the same: another one would round differently further on.
    """
    rgb = images[:, :3]
    if rgb.dtype == torch.int32:
        check_depth(rgb, bit_depth)
    rgb = rgb.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    if images.dtype == torch.uint8:
        rgb.div_(255)
    elif images.dtype == torch.int32:
        rgb.div_(2**bit_depth - 1).clamp_(max=1)
    return rgb.expand(-1, 3, -1, -1).contiguous()


def check_depth(images, bit_depth):
    """Warn of whole numbers above what ``bit_depth`` bits hold, which count as white."""
    if bit_depth is None:
        raise ValueError(
            "X holds whole numbers of more than 8 bits, but the estimator was fitted on images of "
            "8 bits or floats; convert X to 0..1 likewise, or fit with bit_depth=16 (or another)."
        )
    white = 2**bit_depth - 1
    if images.max() > white:
        warnings.warn(
            f"X holds values up to {int(images.max())}, but images of {bit_depth} bits, as in "
            f"fit, hold at most {white}. Larger values count as {white}. bit_depth states another "
            "number.",
            stacklevel=2,
        )


def resize(images, size):
    """Resize images (n, c, H, W) to a size, in 0..1."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True).clamp_(0, 1)
