"""Validated tabular data."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .defaults import TABULAR_DEFAULTS
from .duplicates import find_equal_rows
from .types import EncoderLike, Modality


@dataclass(eq=False, repr=False)
class Table:
    """Rows of features.

    Attributes
    ----------
    values : ndarray of shape (n, d)
        The features, float64.
    table : array, data frame or None
        X as it was passed, for checks of its columns.
    """

    defaults = TABULAR_DEFAULTS
    bit_depth = mask = modality = None  # attributes of images

    values: np.ndarray
    table: Any = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def by_modality(self) -> dict[Modality, "Table"]:
        """The table itself."""
        return {None: self}

    def name_of(self, i: int) -> str:
        """Return how messages call a row."""
        return f"X[{i}]"

    def cache_key(self) -> list[np.ndarray]:
        """Return the values that results kept on disk depend on."""
        return [self.values]

    def take(self, mask: np.ndarray) -> "Table":
        """Return the rows for which the boolean ``mask`` is true."""
        return Table(self.values[mask])

    def masked(self, mask: npt.ArrayLike | None) -> "Table":
        """Return the table; ValueError if a mask is given."""
        if mask is not None:
            raise ValueError(
                "mask is for images, but X holds rows of features. If they are flattened images, "
                "set image_shape."
            )
        return self

    def iter_chunks(self, encoders: Sequence[EncoderLike]) -> Iterator["Table"]:
        """Yield the table as one chunk, because its embeddings are small."""
        yield self

    def groups(self, sizing: None) -> list[np.ndarray]:
        """Return the indices of rows that may share a batch: all of them."""
        return [np.arange(len(self))]

    def loader(
        self,
        sizing: None,
        device: str | torch.device,
        *,
        bit_depth: None = None,
        cache: bool = False,
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return a function from indices to a batch on the device."""
        rows = torch.from_numpy(self.values.copy()).to(device)
        return lambda index: rows[index]

    def empty_thumbnails(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and JPEG distances of no sample."""
        return np.empty((0, self.values.shape[1])), np.empty(0)

    def find_duplicates(
        self,
        thumbnails: np.ndarray,
        jpeg_distances: np.ndarray,
        bit_depths: Mapping[Any, int | None],
        mirrored: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compare rows with each other and with earlier ones, as ``InputData`` says.

        Rows are their own thumbnails, and their JPEG distances are 0.
        """
        rows = np.concatenate([thumbnails, self.values])
        distances = np.concatenate([jpeg_distances, np.zeros(len(self))])
        return rows, distances, find_equal_rows(rows, len(thumbnails))

    def plain_modalities(self, thumbnails: np.ndarray) -> list[Any]:
        """Return no modality: rows have no colour."""
        return []
