"""Types of what users pass as X and y."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, BinaryIO, TypeAlias

import numpy.typing as npt
import torch
from PIL import Image

ImageLike: TypeAlias = (
    str | PathLike[str] | bytes | BinaryIO | Image.Image | npt.NDArray[Any] | torch.Tensor
)
"""One image: a path, the content of a file, an open file, a PIL image, an array or a tensor."""

ImagesLike: TypeAlias = (
    npt.NDArray[Any]
    | torch.Tensor
    | Sequence[ImageLike]
    | Sequence[Mapping[str, ImageLike]]
    | Mapping[str, Any]
    | Iterable[Any]
    | Any  # columns and frames of other libraries
)
"""What ``fit`` and ``predict`` accept as X; see the user guide."""
