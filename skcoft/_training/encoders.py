"""From parameters and training data to fine-tuned encoders, one per modality and backbone."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from sklearn.utils import check_random_state

from .._input.sizing import is_size
from .._network.encoder import Encoder, build_encoder
from .._utils.cache import cached
from .._utils.device import resolve_device
from .._utils.params import as_list
from .._utils.random import draw_seed
from .._utils.settings import EmbedderSettings
from .data import TrainingData
from .loop import fine_tune, needs_training

History = dict[str, np.ndarray]
PER_BACKBONE = ("weights", "image_size")  # parameters that may be lists, one entry per backbone


def fit_encoders(
    parameters: dict[str, Any], data: TrainingData, memory: Any = None
) -> tuple[list[Encoder], list[History]]:
    """Fine-tune an encoder for each modality and backbone; return them with their histories.

    ``parameters`` are those of :class:`skcoft.COFTEmbedder`. Encoders that are in the cache
    ``memory`` are taken from there.
    """
    seed = int(check_random_state(parameters["random_state"]).randint(2**31 - 1))
    fits = []
    for modality, images in data.images.by_modality.items():
        anomalies = data.anomalies and data.anomalies.by_modality[modality]
        for settings in split_by_backbone(parameters, images.defaults.needs_backbone):
            arguments = settings, images, data.shot_ids, anomalies, seed
            fits.append(cached(memory, fit_encoder, *arguments, files=[settings.weights]))
    encoders, histories = zip(*fits, strict=True)
    return list(encoders), list(histories)


def split_by_backbone(parameters: dict[str, Any], needs_backbone: bool) -> list[EmbedderSettings]:
    """Return the settings of each backbone, without the random state.

    Tabular data needs no backbone and is embedded once.
    """
    parameters = {**parameters, "random_state": None}
    variants: list[dict[str, Any]] = [{}]
    if needs_backbone:
        backbones = as_list(parameters["backbone"])
        is_list, n = isinstance(parameters["backbone"], (list, tuple)), len(backbones)
        columns = {name: spread(name, parameters[name], n, is_list) for name in PER_BACKBONE}
        columns["backbone"] = backbones
        rows = zip(*columns.values(), strict=True)
        variants = [dict(zip(columns, values, strict=True)) for values in rows]
    return [cast(EmbedderSettings, SimpleNamespace(**parameters | v)) for v in variants]


def spread(name: str, value: Any, n_backbones: int, backbone_is_list: bool) -> list[Any]:
    """Return a parameter's value for each backbone; raise ValueError if the lengths differ."""
    # with several backbones, a list of two sizes has one for each, and a tuple is (H, W)
    is_pair = is_size(value) and not (backbone_is_list and isinstance(value, list))
    is_pair = is_pair and name == "image_size"
    if is_pair or not isinstance(value, (list, tuple)):
        return [value] * n_backbones
    if len(value) != n_backbones or not backbone_is_list:
        backbones = f"a list of {n_backbones}" if backbone_is_list else "no list"
        raise ValueError(
            f"{name}={value!r} is a list of {len(value)}, but backbone is {backbones}. Pass one "
            f"value, or one for each backbone of a list."
        )
    return list(value)


def fit_encoder(
    settings: EmbedderSettings,
    images: Any,
    shot_ids: np.ndarray,
    anomalies: Any,
    seed: int,
) -> tuple[Encoder, History]:
    """Build and fine-tune one encoder; return it with its history.

    Encoders with the same seed are trained on the same batches and views.
    """
    is_trained = needs_training(settings, images, shot_ids, anomalies)
    device = resolve_device(settings.device)
    generator = torch.Generator(device).manual_seed(seed)
    network_seed, head_seed, view_seed = (draw_seed(generator) for _ in range(3))
    encoder = build_encoder(settings, images, device, network_seed, view_seed)
    load = encoder.load_for_training(images)  # a file that cannot be decoded fails here
    if not is_trained:
        return encoder, {}
    arguments = encoder, load, shot_ids, anomalies, settings
    history = fine_tune(*arguments, head_seed=head_seed, generator=generator)
    return encoder, history
