"""Types of what users pass as X, and of what reading X returns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, BinaryIO, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from .defaults import InputDefaults
from .sizing import Sizing

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

Modality: TypeAlias = str | int | None
"""Name of the images of one modality; None if a sample has one image."""


class EncoderLike(Protocol):
    """What reading needs to know of an encoder: the images that it sees, and their sizes."""

    modality: Modality
    sizing: Sizing | None


class InputData(Protocol):
    """Validated X: ``Images``, ``Table`` or ``Modalities``.

    Attributes
    ----------
    defaults : InputDefaults
        What parameters at their defaults mean for this type of input.
    table : array, data frame or None
        The two-dimensional X that was read, for checks of its columns; None for other X.
    """

    defaults: InputDefaults
    table: Any

    @property
    def by_modality(self) -> Mapping[Any, Any]:
        """The images of each modality; the key is None if a sample has one image."""

    def __len__(self) -> int: ...

    def name_of(self, i: int) -> str:
        """Return how messages call a sample: by its path, or by its position in X."""

    def take(self, mask: np.ndarray) -> Self:
        """Return the samples for which the boolean ``mask`` is true."""

    def masked(self, mask: npt.ArrayLike | None) -> Self:
        """Return images of which only the inside of a mask is loaded."""

    def iter_chunks(self, encoders: Sequence[EncoderLike]) -> Iterator[Self]:
        """Yield chunks that fit into memory at all sizes at which ``encoders`` see them."""

    def cache_key(self) -> list[Any]:
        """Return the values that results kept on disk depend on."""

    def empty_thumbnails(self) -> tuple[np.ndarray, np.ndarray]:
        """Return thumbnails and JPEG distances of no sample, to which others are appended."""

    def find_duplicates(
        self,
        thumbnails: np.ndarray,
        jpeg_distances: np.ndarray,
        bit_depths: Mapping[Any, int | None],
        mirrored: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compare the samples with each other and with earlier ones.

        Returns the thumbnails and JPEG distances of all, and a boolean array (n, n_all) that says
        which of all each sample duplicates.
        """

    def plain_modalities(self, thumbnails: np.ndarray) -> list[Any]:
        """Return the modalities whose images are all of one colour all over."""
