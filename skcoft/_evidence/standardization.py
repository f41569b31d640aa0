"""Standardisation: scores of different components on one scale, by their held-out scores."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class Standardization:
    """Mean and standard deviation of held-out scores.

    The methods take numbers, arrays and tensors.

    Attributes
    ----------
    mean : float or tensor
        Mean of the held-out scores.
    std : float or tensor
        Their standard deviation. It is 1 if all of them are equal.
    """

    mean: Any
    std: Any

    @classmethod
    def from_held_out(cls, scores: np.ndarray) -> Self:
        """Compute mean and standard deviation of held-out scores."""
        return cls(float(scores.mean()), float(scores.std()) or 1.0)

    def apply(self, scores: Any) -> Any:
        """Return standardised scores: held-out ones have mean 0 and standard deviation 1."""
        return (scores - self.mean) / self.std

    def invert(self, scores: Any) -> Any:
        """Return the scores that :meth:`apply` standardised."""
        return self.mean + self.std * scores
