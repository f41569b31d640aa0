"""Validated images, decoded lazily, batch by batch, to tensors of one range and size."""

import warnings
from functools import cached_property
from io import BytesIO

import numpy as np
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ._mask import check_fit, fill_outside, pixels_inside
from ._pieces import MOST, is_one_image

CACHE_BYTES = 2**30
BIT_DEPTHS = 8, 10, 12, 14, 16  # of cameras
TOLERANCE = 1e-6  # beyond 0..1, of floats that were scaled
BLACK = 1 / 255  # of white: what is no brighter is black


class Images:
    """A validated collection of images.

    ``items`` is a tensor with channels first, or a list of paths, contents of files, PIL images
    and channels-first tensors. Values are uint8, float32 from 0 to 1, or int32 for whole numbers
    in what holds more than 8 bits. How many bits these have is ``bit_depth``; None: to be found.
    ``first`` is the number of images of X before these, of which X holds more. ``mask``, a boolean
    array (h, w) or None, says what of the images is loaded.
    """

    kind = "images"

    def __init__(self, items, n_jobs=None, bit_depth=None, first=0, mask=None):
        self.items = items
        self.n_jobs = n_jobs
        self.bit_depth = bit_depth
        self.first = first
        self.mask = mask

    def __len__(self):
        return len(self.items)

    def name_of(self, i):
        """Return what messages call an image."""
        return f"X[{self.first + i}]"

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
        return [_size(item) for item in self.items]

    def take(self, mask):
        """Images where the boolean ``mask`` is true."""
        if isinstance(self.items, torch.Tensor):
            return self._with(self.items[torch.from_numpy(mask)])
        return self._with([item for item, wanted in zip(self.items, mask, strict=True) if wanted])

    def masked(self, mask):
        """Images of which only what a mask, an array (h, w) or None for all, says is loaded."""
        mask = None if mask is None or np.all(mask) else np.asarray(mask).astype(bool)
        return Images(self.items, self.n_jobs, self.bit_depth, self.first, mask)

    def _with(self, items, first=0):
        return Images(items, self.n_jobs, self.bit_depth, first, self.mask)

    def pieces(self):
        """Yield the images in pieces, of which what the parts of a score need is kept at once."""
        for start in range(0, len(self), MOST):
            yield self._with(self.items[start : start + MOST], self.first + start)

    def groups(self, sizing):
        """Return the indices of images that are brought to one size, as a list of arrays."""
        if sizing.pixels is None or isinstance(self.items, torch.Tensor):
            return [np.arange(len(self))]
        found = {}
        for i, shape in enumerate(self.sizes):
            found.setdefault(sizing.of(shape), []).append(i)
        return [np.array(group) for group in found.values()]

    @cached_property
    def depth(self):
        """The bits of whole numbers in what holds more than 8; None without such images.

        Found from the greatest value, with a warning, unless ``bit_depth`` states it.
        """
        if self.bit_depth is not None:
            return self.bit_depth
        found = [_peak(self.name_of(i), item) for i, item in enumerate(self)]
        peaks = [peak for peak in found if peak is not None]
        if not peaks:
            return None
        depth = next((bits for bits in BIT_DEPTHS if max(peaks) < 2**bits), None)
        if depth is None:
            raise ValueError(f"X holds values up to {max(peaks)}; 16 bits, 65535, are the most.")
        if depth < 16:
            warnings.warn(
                f"The images hold whole numbers up to {max(peaks)} in a type of more than 8 bits: "
                f"they are taken for {depth} bits, {2**depth - 1} for white, now and in every "
                f"later call. bit_depth={depth} (or another) states it.",
                stacklevel=2,
            )
        return depth

    def blocks(self, most, count, depth):
        """Yield (indices, images (n, 3, h, w)), at most ``count``, of ``most`` pixels a side.

        Those of one size come together.
        """
        rows = {}
        for i, (height, width) in enumerate(self.sizes):
            rows.setdefault((min(height, most), min(width, most)), []).append(i)
        for size, alike in rows.items():
            for indices in torch.tensor(alike).split(count):
                yield indices.numpy(), self.load(indices, size, depth)

    def __iter__(self):
        return iter(self.items)

    def loader(self, sizing, device, *, depth=None, cache=False):
        """Return a function from indices to a batch of images of one size, on the device.

        ``sizing`` says which; the images that the indices name are all of one group. ``depth`` are
        the bits of whole numbers. With ``cache``, images that fit into 1 GiB are decoded once and
        kept.
        """

        def load(index):
            one_for_all = sizing.pixels is None
            size = sizing.size if one_for_all else sizing.of(self.sizes[index[0]])
            return self.load(index.cpu(), size, depth).to(device)

        if not cache or len(self) * 3 * np.prod(sizing.size) * 4 > CACHE_BYTES:
            return load
        images = [None] * len(self)
        for group in self.groups(sizing):
            for i, image in zip(group, load(torch.from_numpy(group)), strict=True):
                images[i] = image
        return lambda index: torch.stack([images[i] for i in index])

    def load(self, indices, size, depth=None):
        """Decode images to a float32 tensor (n, 3, H, W), values 0 to 1, resized to ``size``.

        What is outside of the mask is filled.
        """
        if isinstance(self.items, torch.Tensor):
            images = resize(_to_rgb(self.items[indices], depth), size)
        else:
            jobs = (delayed(_decode)(self.items[i], self.name_of(i), size, depth) for i in indices)
            images = torch.cat(Parallel(n_jobs=self.n_jobs, prefer="threads")(jobs))
        if 0 < images.max() <= BLACK + TOLERANCE:
            warnings.warn(
                "Images in X hold no value above 1 of 255, which is black. Of masks of 0 and 1 "
                "pass X.astype(bool); of whole numbers of another range, X / the greatest value.",
                stacklevel=2,
            )
        return images if self.mask is None else self._fill(images, indices, size)

    def _fill(self, images, indices, size):
        insides, filled = {}, []
        for i, image in zip(map(int, indices), images, strict=True):
            shape = self.sizes[i]
            if shape not in insides:
                check_fit(self.mask, shape, self.name_of(i))
                insides[shape] = pixels_inside(self.mask, shape, size, resize)
            filled.append(fill_outside(image, insides[shape]))
        return torch.stack(filled)


def checked_batch(array, *, channels_first=False, name="X", stated=False, alone=False, first=0):
    """Return a batch of images as a channels-first tensor, or raise.

    ``alone``: the batch is one item of a list. ``stated``: its shape was given by the user.
    ``first``: how many images came before it.
    """
    shape = tuple(array.shape)
    seen = shape[1:] if alone else shape  # what the user passed
    n = "" if alone else "n, "
    if 0 in seen:
        found = "images" if shape[0] == 0 else "pixels"
        raise ValueError(f"{name} is empty (shape {seen}): found 0 {found}, at least 1 is needed.")
    if len(shape) not in ((4,) if channels_first else (3, 4)):
        layout = f"({n}C, H, W)" if channels_first else f"({n}H, W) or ({n}H, W, C)"
        hint = " Of gray images pass X[:, None]." if len(shape) == 3 else ""
        hint = " Of batches pass the images of all." if alone else hint
        raise ValueError(f"{name} must have shape {layout}; got {seen}.{hint}")
    if not (channels_first or stated) and is_one_image(shape):
        raise ValueError(_one_image(name, seen, alone))
    channels = 1 if len(shape) == 3 else shape[1 if channels_first else -1]
    if channels not in (1, 3, 4):
        order = f"({n}C, H, W)" if channels_first else f"({n}H, W, C)"
        raise ValueError(
            f"{name} must have 1, 3 or 4 channels in {order}; got {channels} (shape {seen}). "
            "Channels come last in arrays and first in tensors."
        )
    array = _checked_values(array, name, None if alone else first)
    if array.ndim == 3:
        return array[:, None]
    return array if channels_first else array.permute(0, 3, 1, 2)


def _one_image(name, shape, alone):
    """Text for an array that has the look of one colour image, or of a row of one."""
    if alone:
        return (
            f"{name} has shape {shape}, a row of pixels of a colour image: is X one image? A gray "
            f"image that is {shape[-1]} pixels wide may be passed as (H, W, 1)."
        )
    return (
        f"{name} has shape {shape}, which is one image; pass {name}[None]. Where they are "
        f"gray images that are {shape[-1]} pixels wide, pass {name}[..., None]."
    )


def _checked_values(array, name, first=None):
    """Check type and range; return a tensor (memory of the user's is only read).

    ``first``: the number that the first of several images has; None: the array is one image.
    """
    if isinstance(array, torch.Tensor):
        array = (array.float() if array.is_floating_point() else array).numpy()
    kind = array.dtype.kind
    if kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    elif kind in "iu" and array.dtype != np.uint8:
        low, high = array.min(), array.max()
        if low < 0 or high > 65535:
            raise ValueError(
                f"{name} holds whole numbers from {low} to {high}; in images they lie in 0..65535."
            )
        array = array.astype(np.int32)
    elif kind == "f":
        array = _checked_floats(array, name, first)
    elif array.dtype != np.uint8:
        raise ValueError(
            f"{name} must hold whole numbers or float values 0..1; got {array.dtype}."
        )
    if not array.flags.writeable or any(s < 0 for s in array.strides):
        array = array.copy()
    return torch.from_numpy(array)


def _checked_floats(array, name, first):
    low, high = array.min(), array.max()
    if not np.isfinite(low + high):
        if first is not None:
            bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
            name = f"{name}[{first + bad.argmax()}]"
        raise ValueError(f"{name} contains NaN or infinity.")
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        normalised = -5 < low < 0 and high < 5
        remedy = (
            "Leave out what normalises them, such as torchvision's Normalize."
            if normalised
            else "Divide by their greatest possible value, or pass uint8."
        )
        raise ValueError(
            f"{name} holds float values from {low:.4g} to {high:.4g}; float images must lie "
            f"in 0..1. {remedy}"
        )
    if low < 0 or high > 1:  # rounding errors
        array = array.clip(0, 1)
    return array.astype(np.float32, copy=False)


def check_file(source, name):
    """Return a path or the content of a file; raise where it is not an image."""
    _open(source, name).close()
    return source


def _open(source, name):
    try:
        return Image.open(BytesIO(source) if isinstance(source, bytes) else source)
    except FileNotFoundError as error:
        link = isinstance(source, str) and ("://" in source or source.startswith("data:"))
        hint = (
            " It is a link: fetch what it names, and pass that file or its bytes." if link else ""
        )
        raise FileNotFoundError(f"Image file {name} does not exist.{hint}") from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"Cannot read {name} as an image: Pillow knows no such format."
        ) from error
    except Exception as error:  # whatever a file may hold: too many pixels, a NUL in its path
        raise ValueError(f"Cannot read {name} as an image: {error}") from error


def _size(item):
    """(H, W), as the image is shown."""
    if isinstance(item, torch.Tensor):
        return tuple(item.shape[-2:])
    if not isinstance(item, Image.Image):
        with _open(item, _name_of(item)) as image:
            return _size_as_shown(image, _name_of(item))
    return _size_as_shown(item, "an image in X")


def _size_as_shown(image, name):
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    except Exception as error:  # of a PNG that is cut off
        raise ValueError(f"Cannot decode {name}: {error}") from error
    return image.size if turned else image.size[::-1]


def _name_of(item, name="a file in X"):
    return repr(item) if isinstance(item, str) else name


def _peak(name, item):
    """Greatest value of an image of whole numbers of more than 8 bits; None for others."""
    if isinstance(item, torch.Tensor):
        return int(item.max()) if item.dtype == torch.int32 else None
    values = _values(item, name, only_deep=True)
    return None if values is None else int(values.max())


def _decode(item, name, size, depth):
    return resize(_to_rgb(_values(item, name), depth), size)


def _values(item, name, only_deep=False):
    """Values (1, C, H, W) of an item as they are; None of 8 bits with ``only_deep``."""
    if isinstance(item, torch.Tensor):
        return item[None]
    name = _name_of(item, name)
    if isinstance(item, Image.Image):
        return _pil_to_tensor(item, name, only_deep)
    with _open(item, name) as image:
        return _pil_to_tensor(image, name, only_deep)


def _pil_to_tensor(image, name, only_deep):
    deep = image.mode.startswith("I")
    if only_deep and not deep:
        return None
    try:
        image = ImageOps.exif_transpose(image)
        if deep or image.mode == "F":
            array = np.array(image)
        else:
            gray = image.mode in ("1", "L", "LA", "La")
            if image.mode == "La":  # Pillow converts it to nothing else
                image = image.convert("LA")
            array = np.array(image.convert("L" if gray else "RGB"))
    except Exception as error:  # cut off, damaged, closed
        raise ValueError(f"Cannot decode {name}: {error}") from error
    values = _checked_values(array, name)
    return values[None, None] if values.ndim == 2 else values.permute(2, 0, 1)[None]


def _to_rgb(images, depth):
    """Float RGB in 0..1: gray is repeated, an alpha channel is dropped.

    The memory layout is always the same: another one would round differently further on.
    """
    rgb = images[:, :3].contiguous()
    if rgb.dtype == torch.uint8:
        rgb = rgb.float().div_(255)
    elif rgb.dtype == torch.int32:
        rgb = _scaled(rgb, depth)
    else:
        rgb = rgb.float()
    return rgb.expand(-1, 3, -1, -1).contiguous()


def _scaled(images, depth):
    """Whole numbers of ``depth`` bits in 0..1; what is above white is white, with a warning."""
    if depth is None:
        raise ValueError(
            "X holds whole numbers of more than 8 bits, but the estimator was fitted on images of "
            "8 bits or floats; convert X to 0..1 likewise, or fit with bit_depth=16 (or another)."
        )
    white = 2**depth - 1
    if images.max() > white:
        warnings.warn(
            f"X holds values up to {int(images.max())}; of {depth} bits, as in fit, the greatest "
            f"is {white}, and those above count as that. bit_depth states another number.",
            stacklevel=2,
        )
    return images.float().div_(white).clamp_(max=1)


def resize(images, size):
    """Resize images (n, c, H, W) to a size, in 0..1."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True).clamp_(0, 1)
