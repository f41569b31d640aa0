"""Displays of what a detector does, in scikit-learn's convention; they need matplotlib."""

from ._maps import AnomalyMapDisplay
from ._scores import ScoreDisplay
from ._shots import NearestShotsDisplay
from ._training import TrainingDisplay

__all__ = ["AnomalyMapDisplay", "NearestShotsDisplay", "ScoreDisplay", "TrainingDisplay"]
