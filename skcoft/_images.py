"""Any X to validated images, decoded lazily, batch by batch."""

from os import PathLike, fspath

import numpy as np
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data

from ._rows import Rows

CACHE_BYTES = 2**30
WANTED = (
    "images as a uint8 array (n, H, W[, C]) with values 0..255, a float array with values 0..1, "
    "a torch tensor (n, C, H, W), or a sequence of paths, PIL images or arrays"
)


class Images:
    """A validated collection of images.

    ``items`` is a uint8 or float array/tensor with channels first, or a list of paths, PIL
    images and channels-first tensors.
    """

    kind = "images"

    def __init__(self, items, n_jobs=None):
        self.items = items
        self.n_jobs = n_jobs

    def __len__(self):
        return len(self.items)

    @property
    def common_size(self):
        """(H, W) where all images agree on it, else None."""
        sizes = set(self.sizes)
        return sizes.pop() if len(sizes) == 1 else None

    @property
    def sizes(self):
        """(H, W) of every image."""
        if isinstance(self.items, torch.Tensor):
            return [tuple(self.items.shape[-2:])] * len(self)
        return [_size(item) for item in self.items]

    def size(self, index):
        """(H, W) of one image."""
        return _size(self.items[index])

    def take(self, mask):
        """Images where the boolean ``mask`` is true."""
        if isinstance(self.items, torch.Tensor):
            return Images(self.items[torch.from_numpy(mask)], self.n_jobs)
        items = [item for item, wanted in zip(self.items, mask, strict=True) if wanted]
        return Images(items, self.n_jobs)

    def groups(self, sizing):
        """Return the indices of images that are brought to one size, as a list of arrays."""
        if sizing.pixels is None or isinstance(self.items, torch.Tensor):
            return [np.arange(len(self))]
        found = {}
        for i, shape in enumerate(self.sizes):
            found.setdefault(sizing.of(shape), []).append(i)
        return [np.array(group) for group in found.values()]

    def loader(self, sizing, device, *, cache=False):
        """Return a function from indices to a batch of images of one size, on the device.

        ``sizing`` says which; the images that the indices name are all of one group. With
        ``cache``, images that fit into 1 GiB are decoded once and kept.
        """

        def load(index):
            one_for_all = sizing.pixels is None
            size = sizing.size if one_for_all else sizing.of(self.size(index[0]))
            return self.load(index.cpu(), size).to(device)

        if not cache or len(self) * 3 * np.prod(sizing.size) * 4 > CACHE_BYTES:
            return load
        images = [None] * len(self)
        for group in self.groups(sizing):
            for i, image in zip(group, load(torch.from_numpy(group)), strict=True):
                images[i] = image
        return lambda index: torch.stack([images[i] for i in index])

    def load(self, indices, size):
        """Decode images to a float32 tensor (n, 3, H, W), values 0 to 1, resized to ``size``."""
        if isinstance(self.items, torch.Tensor):
            return _resize(_to_rgb(self.items[indices]), size)
        jobs = (delayed(_decode)(self.items[i], size) for i in indices)
        return torch.cat(Parallel(n_jobs=self.n_jobs, prefer="threads")(jobs))


def read_input(estimator, X, *, reset):
    """Validate X and return ``Images``, or ``Rows`` of features.

    Uses the estimator's ``image_shape`` and ``n_jobs``; with ``reset``, records
    ``n_features_in_`` (and names) where X is two-dimensional.
    """
    image_shape, n_jobs = estimator.image_shape, estimator.n_jobs
    items = _as_sequence(X)
    if items is not None:
        return Images(_check_items(items), n_jobs)
    if isinstance(X, torch.Tensor):
        X = X.detach()
        if X.ndim != 2:
            return Images(_check_array(X.cpu(), channels_first=True))
        X = X.cpu().numpy()
    two_d = issparse(X) or hasattr(X, "columns")
    array = X if two_d else _as_array(X)
    if not two_d and array.ndim in (3, 4):
        return Images(_check_array(array))
    if not two_d and array.ndim > 4:
        raise ValueError(f"X must be {WANTED}; got an array of shape {array.shape}.")
    if image_shape is None:
        rows = validate_data(estimator, X if two_d else array, dtype=np.float64, reset=reset)
        return Rows(rows)
    flat = validate_data(estimator, X if two_d else array, dtype=None, reset=reset)
    if flat.shape[1] != np.prod(image_shape):
        raise ValueError(
            f"image_shape={tuple(image_shape)} needs {np.prod(image_shape)} columns; "
            f"X has {flat.shape[1]}."
        )
    return Images(_check_array(flat.reshape(len(flat), *image_shape)))


def _as_sequence(X):
    """Items of a sequence of paths, PIL images or arrays; None where X is something else."""
    if isinstance(X, (str, PathLike, Image.Image)):
        raise ValueError(
            f"X must be a collection of images; got a single {type(X).__name__}. Pass [X]."
        )
    if isinstance(X, np.ndarray):
        listed = X.ndim == 1 and X.dtype.kind in "OUT"
    elif isinstance(X, (list, tuple)):
        listed = len(X) > 0 and (_is_path(X[0]) or _is_image(X[0]))
    else:  # a column of a data frame
        listed = hasattr(X, "to_list") and getattr(X, "ndim", 1) == 1
    if not listed:
        return None
    items = list(X)
    if items and not (_is_path(items[0]) or _is_image(items[0])):
        return None
    return items


def _is_path(item):
    return isinstance(item, (str, PathLike))


def _is_image(item):
    return isinstance(item, Image.Image) or (
        isinstance(item, (np.ndarray, torch.Tensor)) and item.ndim >= 2
    )


def _as_array(X):
    try:
        array = np.asarray(X)
    except ValueError as error:
        raise ValueError(
            f"X must be {WANTED}; got nested sequences of unequal lengths. Images of different "
            "sizes go in a list of arrays."
        ) from error
    if array.size == 0 and array.ndim != 2:
        raise ValueError(
            f"X is empty (shape {array.shape}): found 0 images, at least 1 is needed."
        )
    return array


def _check_array(array, *, channels_first=False, name="X"):
    """Return a batch of images as a channels-first tensor, or raise."""
    shape = tuple(array.shape)
    if 0 in shape:
        raise ValueError(f"{name} is empty (shape {shape}): found 0 images, at least 1 is needed.")
    if len(shape) not in ((4,) if channels_first else (3, 4)):
        layout = "(n, C, H, W)" if channels_first else "(n, H, W) or (n, H, W, C)"
        raise ValueError(f"{name} must have shape {layout}; got {shape}.")
    channels = 1 if len(shape) == 3 else shape[1 if channels_first else -1]
    if channels not in (1, 3, 4):
        order = "(n, C, H, W)" if channels_first else "(n, H, W, C)"
        raise ValueError(
            f"{name} must have 1, 3 or 4 channels in {order}; got {channels} (shape {shape})."
        )
    if not isinstance(array, torch.Tensor):
        array = torch.from_numpy(_checked_values(array, name))
    else:
        _checked_values(array.numpy(), name)
    if array.ndim == 3:
        return array[:, None]
    return array if channels_first else array.permute(0, 3, 1, 2)


def _checked_values(array, name):
    """Check dtype and range; return an array that torch can wrap (its memory is only read)."""
    if array.dtype != np.uint8:
        if array.dtype.kind != "f":
            raise ValueError(
                f"{name} must hold uint8 values 0..255 or float values 0..1; got {array.dtype}. "
                "Convert with X.astype('uint8') where the values are 0..255."
            )
        low, high = array.min(), array.max()
        if not np.isfinite(low + high):
            raise ValueError(f"{name} contains NaN or infinity.")
        if low < 0 or high > 1:
            raise ValueError(
                f"{name} holds float values from {low:.4g} to {high:.4g}; float images must lie "
                "in 0..1. Divide by their greatest possible value, or pass uint8."
            )
        if array.dtype != np.float32:
            array = array.astype(np.float32)
    if not array.flags.writeable or any(s < 0 for s in array.strides):
        array = array.copy()
    return array


def _check_items(items):
    if not items:
        raise ValueError("X is empty: found 0 images, at least 1 is needed.")
    checked, channels = [], {}
    for i, item in enumerate(items):
        if _is_path(item):
            _open(item).close()
            checked.append(fspath(item))
        elif isinstance(item, Image.Image):
            checked.append(item)
        elif _is_image(item):
            tensor = isinstance(item, torch.Tensor)
            batch = item.detach().cpu()[None] if tensor else item[None]
            image = _check_array(batch, channels_first=tensor, name=f"X[{i}]")[0]
            channels.setdefault(len(image), i)
            checked.append(image)
        else:
            raise ValueError(
                f"X[{i}] must be a path, a PIL image or an array (H, W[, C]); "
                f"got {type(item).__name__}."
            )
    if len(channels) > 1:
        seen = " and ".join(f"{c} (X[{i}])" for c, i in channels.items())
        raise ValueError(
            f"Arrays in X must have the same number of channels (sizes may differ); got {seen}."
        )
    return checked


def _open(path):
    try:
        return Image.open(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Image file {fspath(path)!r} does not exist.") from error
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"Cannot read {fspath(path)!r} as an image: {error}") from error


def _size(item):
    """(H, W), as the image is shown."""
    if isinstance(item, torch.Tensor):
        return tuple(item.shape[-2:])
    if isinstance(item, str):
        with _open(item) as image:
            return _size(image)
    turned = item.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return item.size if turned else item.size[::-1]


def _decode(item, size):
    if isinstance(item, torch.Tensor):
        return _resize(_to_rgb(item[None]), size)
    if isinstance(item, Image.Image):
        return _resize(_to_rgb(_pil_to_tensor(item, "a PIL image in X")), size)
    with _open(item) as image:
        try:
            return _resize(_to_rgb(_pil_to_tensor(image, repr(item))), size)
        except (OSError, SyntaxError) as error:
            raise ValueError(f"Cannot decode {item!r}: {error}") from error


def _pil_to_tensor(image, name):
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        array = np.asarray(image, dtype=np.float32)
        array = array / 65535 if image.mode.startswith("I") else array
        return torch.from_numpy(_checked_values(array, name))[None, None]
    gray = image.mode in ("1", "L", "LA", "La")
    array = np.array(image.convert("L" if gray else "RGB"))
    image = torch.from_numpy(array)
    return image[None, None] if gray else image.permute(2, 0, 1)[None]


def _to_rgb(images):
    """Float RGB in 0..1: gray is repeated, an alpha channel is dropped.

    The memory layout is always the same: another one would round differently further on.
    """
    rgb = images[:, :3].contiguous()
    rgb = rgb.float().div_(255) if rgb.dtype == torch.uint8 else rgb.float()
    return rgb.expand(-1, 3, -1, -1).contiguous()


def _resize(images, size):
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True).clamp_(0, 1)
