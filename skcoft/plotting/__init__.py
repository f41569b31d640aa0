"""Plots of the results of a detector, in scikit-learn's display API; they need matplotlib."""

from ._maps import AnomalyMapDisplay
from ._scores import ScoreDisplay
from ._shots import NearestShotsDisplay
from ._training import TrainingDisplay

__all__ = ["AnomalyMapDisplay", "NearestShotsDisplay", "ScoreDisplay", "TrainingDisplay"]
