"""Validated samples of several aligned images, such as a colour and a depth image."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .defaults import IMAGE_DEFAULTS
from .duplicates import empty_thumbnails, find_duplicates, plain_modalities
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

    defaults = IMAGE_DEFAULTS
    table = None
    empty_thumbnails = empty_thumbnails
    find_duplicates = find_duplicates
    plain_modalities = plain_modalities

    def __init__(self, by_modality: Mapping[Any, Images]) -> None:
        self.by_modality = dict(by_modality)
        check_counts(self.by_modality)

    def __len__(self) -> int:
        return len(next(iter(self.by_modality.values())))

    def name_of(self, i: int) -> str:
        """Return how messages call a sample: as its first image."""
        return next(iter(self.by_modality.values())).name_of(i)

    def cache_key(self) -> list[Images]:
        """Return the values that results kept on disk depend on."""
        return list(self.by_modality.values())

    def take(self, mask: np.ndarray) -> "Modalities":
        """Return the samples for which the boolean ``mask`` is true."""
        return Modalities({name: images.take(mask) for name, images in self.by_modality.items()})

    def masked(self, mask: npt.ArrayLike | None) -> "Modalities":
        """Return samples of which only the inside of a mask is loaded."""
        return Modalities({name: images.masked(mask) for name, images in self.by_modality.items()})

    def iter_chunks(self, encoders: Sequence[EncoderLike]) -> Iterator["Modalities"]:
        """Yield chunks that fit into memory, as ``Images.iter_chunks``."""
        size = min(images.chunk_size(encoders) for images in self.by_modality.values())
        for start in range(0, len(self), size):
            yield Modalities(
                {k: images.chunk(start, size, encoders) for k, images in self.by_modality.items()}
            )
