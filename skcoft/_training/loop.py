"""Contrastive fine-tuning of an encoder, or of its last stages, on a few normal images."""

import math
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .._input.shots import mean_per_shot
from .._network.encoder import Encoder
from .._network.last_stages import LastStages, TrainedNetwork
from .._utils.settings import EmbedderSettings
from .batches import (
    STORED_BATCHES,
    Batch,
    StoredBatches,
    count_storable_items,
    embed_batch,
    make_batch_sampler,
)
from .contrastive import FAMILIES
from .learning_rate import automatic_rate
from .objective import LOSS_NAMES, LoadFunction, Objective, build_objective, uses_negatives

HEAD_RATE_FACTOR = 10  # heads start from random weights and learn faster than the network
WEIGHT_DECAY = 1e-4


def needs_training(
    settings: EmbedderSettings, images: Any, shot_ids: np.ndarray, anomalies: Any
) -> bool:
    """Return whether an encoder is to be fine-tuned.

    With the automatic learning rate, some inputs are not fine-tuned on one shot without labelled
    anomalies, see ``InputDefaults.trains_on_one_shot``. Raise ValueError if the objective has
    nothing to learn from one shot.
    """
    if settings.max_iter == 0:
        return False
    if len(np.unique(shot_ids)) > 1:
        return True
    is_automatic = settings.learning_rate == "auto" and anomalies is None
    if is_automatic and not images.defaults.trains_on_one_shot:
        return False
    if not FAMILIES[settings.contrastive].learns_from_one_shot and not uses_negatives(settings):
        raise ValueError(
            "X holds one shot (n_samples=1), which cannot be contrasted with anything: "
            f"negatives={settings.negatives!r}, negative_weight={settings.negative_weight}. Pass "
            "at least 2 images, negatives='cutpaste' with negative_weight > 0, or max_iter=0."
        )
    return True


def fine_tune(
    encoder: Encoder,
    load: LoadFunction,
    shot_ids: np.ndarray,
    anomalies: Any,
    settings: EmbedderSettings,
    *,
    head_seed: int,
    generator: torch.Generator,
) -> dict[str, np.ndarray]:
    """Train the encoder's network in place; return the history, an array for each loss.

    Only the last stages are trained, if the network can be cut: on ``STORED_BATCHES`` batches, in
    turn, whose images pass the earlier stages once. A network that cannot be cut is trained as a
    whole, on a new batch in each iteration. If the automatic learning rate is 0, the network is
    left as it is and the history is empty.

    A batch has ``batch_size`` shots, each as often as the others. Two views are made of each shot
    and, if there are negative pairs, one anomaly of a third view.

    The network stays in eval mode. So batch normalisation keeps the statistics of pre-training,
    which a handful of images could only spoil, and trains its affine parameters. Images are then
    independent of each other, and the forward pass may run in chunks.

    Parameters
    ----------
    encoder : Encoder
        Encoder with the initial network.
    load : function
        From indices to a batch of the training images.
    shot_ids : ndarray of shape (n_images,)
        Shot of each image.
    anomalies : Images, Table or None
        Labelled anomalies for ``negatives="labelled"``.
    settings : estimator or namespace
        Parameters of the objective and of the training.
    head_seed : int
        Seed of the heads' random weights.
    generator : torch.Generator
        Source of batches, views and negatives.

    Returns
    -------
    dict of str to ndarray of shape (n_iter,)
        The losses of ``LOSS_NAMES``.
    """
    sample_batch = make_batch_sampler(encoder, load, shot_ids, anomalies, settings)
    frozen_shots = embed_frozen_shots(encoder, load, shot_ids)
    stages, stored = LastStages.of(encoder.network, load(torch.arange(1))), None
    if stages is not None:
        count = min(STORED_BATCHES, settings.max_iter)
        stored = StoredBatches.draw(encoder, stages, sample_batch, count, generator)
    rate: Any = settings.learning_rate
    if rate == "auto":
        rate = automatic_rate(encoder, frozen_shots, shot_ids, stored, anomalies is not None)
    if rate == 0:
        return {}

    def next_batch(step: int) -> Batch:
        return sample_batch(generator) if stored is None else stored.batches[step % count]

    objective = build_objective(frozen_shots, settings, head_seed, encoder.device)
    trained = encoder.network if stages is None else stages
    values = minimize(encoder, trained, objective, next_batch, settings, rate)
    check_finite_features(encoder.network, load(torch.arange(1)), settings, rate)
    columns = np.asarray(values, dtype=np.float64).reshape(-1, len(LOSS_NAMES)).T
    return dict(zip(LOSS_NAMES, columns, strict=True))


def embed_frozen_shots(encoder: Encoder, load: LoadFunction, shot_ids: np.ndarray) -> np.ndarray:
    """Return the embedding (n_shots, d) of each shot, at the size of training images."""
    batches = encoder.iter_features(load, [np.arange(len(shot_ids))])
    return mean_per_shot(
        np.concatenate([features.embeddings for _, features in batches]), shot_ids
    )


def minimize(
    encoder: Encoder,
    trained: TrainedNetwork,
    objective: Objective,
    next_batch: Callable[[int], Batch],
    settings: EmbedderSettings,
    rate: float,
) -> list[list[float]]:
    """Train a network, or its last stages, in place; return the losses of each iteration."""
    optimizer, schedule = build_optimizer(trained, objective, settings.max_iter, rate)
    history, max_stored = [], None
    bar = progress_bar(settings.max_iter) if settings.verbose else None
    try:
        for step in range(settings.max_iter):
            shots, batch = next_batch(step)
            if max_stored is None:
                max_stored = count_storable_items(encoder, trained, batch[0][:1])
            losses = objective(embed_batch(encoder, trained, batch, max_stored), shots)
            values = [losses[name].item() for name in LOSS_NAMES]
            check_finite_loss(values[0], step, settings, rate)
            optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            optimizer.step()
            schedule.step()
            history.append(values)
            if bar is not None:
                bar.set_postfix(loss=f"{values[0]:.3f}", refresh=False)
                bar.update()
    finally:
        if bar is not None:
            bar.close()
        optimizer.zero_grad(set_to_none=True)
    return history


def build_optimizer(
    trained: TrainedNetwork, objective: Objective, max_iter: int, rate: float
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """Build AdamW and the schedule of its learning rates, a half cosine down to 0."""
    parameters = [p for p in trained.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            "No parameter of the backbone requires a gradient. Pass max_iter=0 to use it frozen."
        )
    groups = [
        {"params": parameters, "lr": rate},
        {"params": list(objective.parameters()), "lr": HEAD_RATE_FACTOR * rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / max_iter))
    )
    return optimizer, schedule


def progress_bar(total: int) -> Any:
    """Return a progress bar; tqdm is imported here because its import may warn in a notebook."""
    from tqdm.auto import tqdm

    return tqdm(total=total, desc="fine-tuning")


def check_finite_loss(loss: float, step: int, settings: EmbedderSettings, rate: float) -> None:
    """Raise FloatingPointError if the loss is infinite or NaN."""
    if math.isfinite(loss):
        return
    failure = f"The loss became {loss} at iteration {step + 1} of {settings.max_iter}."
    if step == 0:  # no step has been taken yet, and embeddings of the shots are finite
        raise FloatingPointError(
            f"{failure} This is before the first step, so learning_rate is not the cause. Raise "
            f"temperature (now {settings.temperature:g}), or check the output of augmentation and "
            "negatives."
        )
    _raise_diverged(failure, settings, rate)


@torch.no_grad()
def check_finite_features(
    network: nn.Module,
    batch: torch.Tensor,
    settings: EmbedderSettings,
    rate: float,
) -> None:
    """Raise FloatingPointError if the last step ruined the network."""
    if not torch.isfinite(F.normalize(network(batch).float(), dim=1)).all():
        failure = f"Features became infinite or NaN in the last of {settings.max_iter} iterations."
        _raise_diverged(failure, settings, rate)


def _raise_diverged(failure: str, settings: EmbedderSettings, rate: float) -> NoReturn:
    raise FloatingPointError(
        f"{failure} Lower learning_rate (now {rate:g}) or raise temperature (now "
        f"{settings.temperature:g})."
    )
