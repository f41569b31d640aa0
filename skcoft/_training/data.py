"""The validated input of a fit: training images, their shots, and labelled anomalies."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._input.labels import split_for_training
from .._input.shots import ShotRegistry, parse_groups
from .._network.views import mirrors_are_normal
from .._utils.settings import EmbedderSettings


@dataclass(frozen=True)
class TrainingData:
    """What an estimator is fitted on.

    Attributes
    ----------
    images : InputData
        Normal training images, or rows of tabular data.
    registry : ShotRegistry
        The shot of each of them, and what later duplicates are recognised by.
    anomalies : InputData or None
        Labelled anomalies; None unless ``negatives`` asks for them.
    """

    images: Any
    registry: ShotRegistry
    anomalies: Any

    @classmethod
    def of(
        cls,
        settings: EmbedderSettings,
        inputs: Any,
        y: Any,
        groups: Any,
        *,
        allow_class_labels: bool,
    ) -> "TrainingData":
        """Split validated input by its labels and group the normal images into shots."""
        images, anomalies = split_for_training(
            inputs, y, settings.negatives, allow_class_labels=allow_class_labels
        )
        mirrored = mirrors_are_normal(settings.augmentation)
        registry = ShotRegistry.of(images, parse_groups(inputs, y, groups), mirrored)
        return cls(images, registry, anomalies)

    @property
    def shot_ids(self) -> np.ndarray:
        """Shot of each training image, of shape (n_images,)."""
        return self.registry.ids
