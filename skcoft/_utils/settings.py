"""Parameters of the estimators, as types for the functions that read them."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Protocol

import numpy as np
import torch


class EmbedderSettings(Protocol):
    """Parameters of :class:`skcoft.COFTEmbedder`; they are documented there."""

    backbone: Any
    weights: str | PathLike[str] | Sequence[Any] | None
    image_size: int | tuple[int, int] | Sequence[Any] | None
    max_pixels: int | None
    image_shape: tuple[int, ...] | None
    bit_depth: int | None
    mask: Any
    max_iter: int
    batch_size: int
    learning_rate: float | str
    contrastive: str
    temperature: float
    positive_weight: float | str
    negative_weight: float
    negatives: Any
    augmentation: Mapping[str, float] | Callable[[torch.Tensor], torch.Tensor] | None
    device: str | torch.device | None
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    verbose: int


class DetectorSettings(EmbedderSettings, Protocol):
    """Parameters of :class:`skcoft.COFTDetector`; they are documented there."""

    n_views: int | str
    density: Any
    local: bool
    multiscale: bool
    prompts: Mapping[str, Sequence[str]] | None
    contamination: float | str
    on_error: str
    memory: Any
