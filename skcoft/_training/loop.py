"""Contrastive fine-tuning of an encoder on a handful of normal images."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from .batches import count_kept, embed_batch, make_batches
from .contrastive import FAMILIES
from .objective import build_objective, uses_negatives

LEARNING_RATE = {"images": 2e-5, "tabular": 1e-3}  # of "auto"
HEAD_LEARNING_RATE = 10  # times the network's: heads start from random weights
WEIGHT_DECAY = 1e-4
TERMS = ("loss", "contrastive", "positive", "negative")


def needs_training(settings, shots, ids, anomalies):
    """Whether an encoder is to be fine-tuned; ValueError where one shot has nothing to learn from.

    With the automatic rate a single image is left to the frozen backbone, unless there are
    labelled anomalies: against synthesised ones alone it lost accuracy in our measurements.
    """
    if settings.max_iter == 0:
        return False
    if len(np.unique(ids)) > 1:
        return True
    if settings.learning_rate == "auto" and shots.input_type == "images" and anomalies is None:
        return False
    if not FAMILIES[settings.contrastive].contrasts_one and not uses_negatives(settings):
        raise ValueError(
            "X holds one shot (n_samples=1) and there is nothing to contrast it with: "
            f"negatives={settings.negatives!r}, negative_weight={settings.negative_weight}. Pass "
            "at least 2 images, negatives='cutpaste' with negative_weight > 0, or max_iter=0."
        )
    return True


def fine_tune(encoder, load, ids, anomalies, settings, *, head_seed, generator):
    """Train the encoder's network in place; return the history, an array for each loss term.

    Every iteration draws ``batch_size`` shots (each as often as the others), two views of each
    and, where there are negative pairs, as many anomalies made from further views. The network
    stays in eval mode: batch normalisation keeps the source statistics, which a handful of
    images could only spoil, and trains its affine parameters. It also makes images independent
    of each other, so the forward pass may run in pieces.

    Parameters
    ----------
    encoder : Encoder
        With the network as it comes.
    load : function
        From indices to a batch of the images.
    ids : ndarray of shape (n_images,)
        The shot that each image belongs to.
    anomalies : Images, Table or None
        Labelled anomalies, for ``negatives="labelled"``.
    settings : estimator
        Its parameters of the objective and of the training.
    head_seed : int
        Seed of the heads' random weights.
    generator : torch.Generator
        Source of batches, views and negatives.
    """
    draw_batch = make_batches(encoder, load, ids, anomalies, settings)
    objective = build_objective(encoder, load, ids, settings, head_seed)
    optimizer, schedule = build_optimizer(encoder.network, objective, settings)
    kept = count_kept(encoder, load(torch.arange(1)))
    history = []
    bar = progress_bar(settings.max_iter) if settings.verbose else None
    try:
        for step in range(settings.max_iter):
            shots, batch = draw_batch(generator)
            terms = objective(embed_batch(encoder, batch, kept), shots)
            values = [terms[name].item() for name in TERMS]
            check_finite(values[0], step, settings, optimizer)
            optimizer.zero_grad(set_to_none=True)
            terms["loss"].backward()
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
    check_trained(encoder.network, load(torch.arange(1)), settings, optimizer)
    columns = np.asarray(history, dtype=np.float64).reshape(-1, len(TERMS)).T
    return dict(zip(TERMS, columns, strict=True))


def progress_bar(total):
    """Return a progress bar; imported here because in a notebook the import may warn."""
    from tqdm.auto import tqdm

    return tqdm(total=total, desc="fine-tuning")


def build_optimizer(network, objective, settings):
    """Build AdamW, whose rates follow a half cosine down to 0, and its schedule."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            "No parameter of the backbone requires a gradient; pass max_iter=0 to use it frozen."
        )
    rate = settings.learning_rate
    if rate == "auto":
        rate = LEARNING_RATE[network.input_type]
    groups = [
        {"params": parameters, "lr": rate},
        {"params": list(objective.parameters()), "lr": HEAD_LEARNING_RATE * rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / settings.max_iter))
    )
    return optimizer, schedule


def check_finite(loss, step, settings, optimizer):
    """Raise FloatingPointError where the loss is infinite or NaN."""
    if math.isfinite(loss):
        return
    where = f"The loss became {loss} at iteration {step + 1} of {settings.max_iter}."
    if step == 0:  # nothing has been learned yet, and embeddings of the shots are finite
        raise FloatingPointError(
            f"{where} That is before the first step: raise temperature (now "
            f"{settings.temperature:g}), or look at what augmentation and negatives return."
        )
    raise FloatingPointError(f"{where} {_slower(settings, optimizer)}")


@torch.no_grad()
def check_trained(network, batch, settings, optimizer):
    """Raise FloatingPointError where the last step ruined the network."""
    if not torch.isfinite(F.normalize(network(batch).float(), dim=1)).all():
        raise FloatingPointError(
            f"The features became infinite or NaN in the last of {settings.max_iter} iterations. "
            f"{_slower(settings, optimizer)}"
        )


def _slower(settings, optimizer):
    rate = optimizer.param_groups[0]["initial_lr"]
    return (
        f"Lower learning_rate (now {rate:g}) or raise temperature (now {settings.temperature:g})."
    )
