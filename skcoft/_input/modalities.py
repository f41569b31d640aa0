"""Validated samples of several aligned images, such as a colour and a depth image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .defaults import IMAGE_DEFAULTS
from .duplicates import empty_thumbnails, find_duplicate_samples, plain_modalities
from .images import Images
from .recognize import check_counts
from .types import EncoderLike


class Modalities:
    """Samples of several images.

    An encoder sees the images of one modality, see ``Encoder.select_modality``.

    Attributes
    ----------
    by_modality : dict
        The ``Images`` of each modality.
    """

    input_type: Literal["images"] = "images"
    defaults = IMAGE_DEFAULTS
    table = None

    def __init__(self, by_modality: Mapping[Any, Images]) -> None:
        self.by_modality = dict(by_modality)
        check_counts(self.by_modality)

    def __len__(self) -> int:
        return len(next(iter(self.by_modality.values())))

    def cache_key(self) -> list[Images]:
        """Return the values that results kept on disk depend on."""
        return list(self.by_modality.values())

    def take(self, mask: np.ndarray) -> "Modalities":
        """Return the samples for which the boolean ``mask`` is true."""
        return self._map(lambda images: images.take(mask))

    def masked(self, mask: npt.ArrayLike | None) -> "Modalities":
        """Return samples of which only the inside of a mask is loaded."""
        return self._map(lambda images: images.masked(mask))

    def iter_chunks(self, encoders: Sequence[EncoderLike]) -> Iterator["Modalities"]:
        """Yield chunks that fit into memory, as ``Images.iter_chunks``."""
        size = min(images.chunk_size(encoders) for images in self.by_modality.values())
        for start in range(0, len(self), size):
            yield self._map(lambda images, start=start: images.chunk(start, size, encoders))

    def _map(self, function: Callable[[Images], Images]) -> "Modalities":
        return Modalities({name: function(images) for name, images in self.by_modality.items()})

    def empty_thumbnails(self) -> tuple[np.ndarray, np.ndarray]:
        """Return thumbnails and JPEG distances of no sample."""
        return empty_thumbnails(len(self.by_modality))

    def find_duplicates(
        self,
        thumbnails: np.ndarray,
        jpeg_distances: np.ndarray,
        bit_depths: Mapping[Any, int | None],
        mirrored: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compare samples with each other and with earlier ones, as ``InputData`` says."""
        return find_duplicate_samples(
            self.by_modality, thumbnails, jpeg_distances, bit_depths, mirrored
        )

    def plain_modalities(self, thumbnails: np.ndarray) -> list[Any]:
        """Return the modalities whose images are all of one colour all over."""
        return plain_modalities(list(self.by_modality), thumbnails)
