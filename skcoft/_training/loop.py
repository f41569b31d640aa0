"""Contrastive fine-tuning of an encoder on a handful of normal images."""

import math
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .._network.encoder import Encoder
from .._utils.settings import EmbedderSettings
from .batches import count_storable_images, embed_batch, make_batch_sampler
from .contrastive import FAMILIES
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

    Each iteration draws ``batch_size`` shots, each as often as the others. Two views are made of
    each shot and, if there are negative pairs, one anomaly of a third view.

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
    objective = build_objective(encoder, load, shot_ids, settings, head_seed)
    optimizer, schedule = build_optimizer(encoder.network, objective, settings)
    max_stored = count_storable_images(encoder, load(torch.arange(1)))
    history = []
    bar = progress_bar(settings.max_iter) if settings.verbose else None
    try:
        for step in range(settings.max_iter):
            shots, batch = sample_batch(generator)
            losses = objective(embed_batch(encoder, batch, max_stored), shots)
            values = [losses[name].item() for name in LOSS_NAMES]
            check_finite_loss(values[0], step, settings, optimizer)
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
    check_finite_features(encoder.network, load(torch.arange(1)), settings, optimizer)
    columns = np.asarray(history, dtype=np.float64).reshape(-1, len(LOSS_NAMES)).T
    return dict(zip(LOSS_NAMES, columns, strict=True))


def build_optimizer(
    network: Any, objective: Objective, settings: EmbedderSettings
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """Build AdamW and the schedule of its learning rates, a half cosine down to 0."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            "No parameter of the backbone requires a gradient. Pass max_iter=0 to use it frozen."
        )
    rate: Any = settings.learning_rate
    if rate == "auto":
        rate = network.defaults.learning_rate
    groups = [
        {"params": parameters, "lr": rate},
        {"params": list(objective.parameters()), "lr": HEAD_RATE_FACTOR * rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / settings.max_iter))
    )
    return optimizer, schedule


def progress_bar(total: int) -> Any:
    """Return a progress bar; tqdm is imported here because its import may warn in a notebook."""
    from tqdm.auto import tqdm

    return tqdm(total=total, desc="fine-tuning")


def check_finite_loss(
    loss: float, step: int, settings: EmbedderSettings, optimizer: torch.optim.Optimizer
) -> None:
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
    _raise_diverged(failure, settings, optimizer)


@torch.no_grad()
def check_finite_features(
    network: nn.Module,
    batch: torch.Tensor,
    settings: EmbedderSettings,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Raise FloatingPointError if the last step ruined the network."""
    if not torch.isfinite(F.normalize(network(batch).float(), dim=1)).all():
        failure = f"Features became infinite or NaN in the last of {settings.max_iter} iterations."
        _raise_diverged(failure, settings, optimizer)


def _raise_diverged(
    failure: str, settings: EmbedderSettings, optimizer: torch.optim.Optimizer
) -> NoReturn:
    rate = optimizer.param_groups[0]["initial_lr"]
    raise FloatingPointError(
        f"{failure} Lower learning_rate (now {rate:g}) or raise temperature (now "
        f"{settings.temperature:g})."
    )
