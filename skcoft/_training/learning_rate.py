"""The automatic learning rate: how much fine-tuning the shots deserve."""

import numpy as np

from .._network.encoder import Encoder
from .._network.support import within_between_ratio
from .batches import StoredBatches

# Of last stages, for shots that differ no more than views of one shot do. It falls with the square
# of the within/between ratio: fine-tuning pulls all shots together, and for different objects of
# one kind that is the wrong lesson.
LAST_STAGES_RATE = 1e-4
MIN_RATIO = 0.5  # below, fine-tuning did not help in our measurements
ONE_SHOT_RATIO = 0.5  # one shot does not show how much shots differ


def automatic_rate(
    encoder: Encoder,
    frozen_shots: np.ndarray,
    shot_ids: np.ndarray,
    stored: StoredBatches | None,
    has_anomalies: bool,
) -> float:
    """Return the learning rate for ``learning_rate="auto"``; 0 means no fine-tuning.

    Whole networks have a constant rate. Labelled anomalies are learned from at any ratio.
    """
    if stored is None:
        return encoder.network.defaults.learning_rate
    ratio = ONE_SHOT_RATIO
    if len(frozen_shots) > 1:
        shot_of_view = np.searchsorted(np.unique(shot_ids), stored.view_shots)
        ratio = within_between_ratio(frozen_shots, stored.views, shot_of_view)
    if ratio < MIN_RATIO and not has_anomalies:
        return 0.0
    return LAST_STAGES_RATE * min(1.0, ratio) ** 2
