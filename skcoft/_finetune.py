"""Contrastive fine-tuning of an encoder on a handful of normal images."""

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from sklearn import get_config
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from ._contrast import FAMILIES
from ._groups import draw_shots, mean_of_shots
from ._random import seeded
from ._views import draw_labelled, make_synthesizer, make_views
from .losses import negative_pair_loss, positive_pair_loss

LEARNING_RATE = {"images": 2e-5, "rows": 1e-3}  # of "auto"
HEAD_LEARNING_RATE = 10  # times the network's: heads start from random weights
WEIGHT_DECAY = 1e-4
POSITIVE_WEIGHT = 1 / 8, 2.0  # of "auto": per shot, and at most
TERMS = ("loss", "contrastive", "positive", "negative")


def uses_negatives(settings):
    """Whether the negative pairs are a term of the objective."""
    return settings.negatives is not None and settings.negative_weight > 0


def is_trained(settings, shots, ids, anomalies):
    """Whether an encoder is to be fine-tuned; ValueError where one shot has nothing to learn from.

    With the automatic rate a single image is left to the frozen backbone, unless there are
    labelled anomalies: against synthesised ones alone it lost accuracy in our measurements.
    """
    if settings.max_iter == 0:
        return False
    if len(np.unique(ids)) > 1:
        return True
    if settings.learning_rate == "auto" and shots.kind == "images" and anomalies is None:
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
    anomalies : Images, Rows or None
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


def make_batches(encoder, load, ids, anomalies, settings):
    """Return a function generator -> (shots, [views, other views, anomalies of further views])."""
    views = make_views(settings.augmentation, encoder.network)
    synthesize = None
    if uses_negatives(settings):
        labelled = None
        if anomalies is not None:
            labelled = draw_labelled(encoder.load_for_training(anomalies), len(anomalies), views)
        synthesize = make_synthesizer(
            settings.negatives, encoder.network.make_synthesizer, labelled
        )
    for function in (views, synthesize):
        if function is not None:  # a callable that fails does so before any training
            function(load(torch.arange(1)), torch.Generator(encoder.device).manual_seed(0))

    def draw_batch(generator):
        drawn = draw_shots(ids, settings.batch_size, generator)
        images = load(drawn)
        batch = [views(images, generator), views(images, generator)]
        if synthesize is not None:  # of views, so that the augmentation is never the tell-tale
            batch.append(synthesize(views(images, generator), generator))
        return torch.from_numpy(ids).to(drawn)[drawn], batch

    return draw_batch


class Objective(nn.Module):
    """The terms of L = L_Con + λ_PP L_PP + λ_NP L_NP, from embeddings of a batch."""

    def __init__(self, contrast, positive_weight, negative_weight):
        super().__init__()
        self.contrast = contrast
        self.positive_weight = positive_weight
        self.negative_weight = negative_weight

    def forward(self, h, shots):
        """Return the terms and their sum; ``h`` holds two views of each shot, then anomalies."""
        n = len(shots)
        terms = {
            "contrastive": self.contrast(h[:n], h[n : 2 * n], shots),
            "positive": positive_pair_loss(h[: 2 * n], torch.cat([shots, shots])),
            "negative": negative_pair_loss(h[: 2 * n], h[2 * n :])
            if len(h) > 2 * n
            else h.new_zeros(()),
        }
        terms["loss"] = (
            terms["contrastive"]
            + self.positive_weight * terms["positive"]
            + self.negative_weight * terms["negative"]
        )
        return terms


def build_objective(encoder, load, ids, settings, head_seed):
    """Build the objective, its center that of the shots' embeddings before fine-tuning."""
    batches = encoder.stream(load, [np.arange(len(ids))])
    frozen = np.concatenate([features.embeddings for _, features in batches])
    center = torch.from_numpy(mean_of_shots(frozen, ids).mean(axis=0)).float()
    with seeded(head_seed):
        contrast = FAMILIES[settings.contrastive](center, settings.temperature)
    positive_weight = settings.positive_weight
    if positive_weight == "auto":
        per_shot, most = POSITIVE_WEIGHT
        positive_weight = min(per_shot * len(np.unique(ids)), most)
    return Objective(contrast, positive_weight, settings.negative_weight).to(encoder.device)


def build_optimizer(network, objective, settings):
    """Build AdamW, whose rates follow a half cosine down to 0, and its schedule."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            "No parameter of the backbone requires a gradient; pass max_iter=0 to use it frozen."
        )
    rate = settings.learning_rate
    if rate == "auto":
        rate = LEARNING_RATE[network.kind]
    groups = [
        {"params": parameters, "lr": rate},
        {"params": list(objective.parameters()), "lr": HEAD_LEARNING_RATE * rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / settings.max_iter))
    )
    return optimizer, schedule


def count_kept(encoder, image):
    """How many images' activations fit into scikit-learn's ``working_memory``: 1 GiB by default.

    On a CPU; accelerators are asked for fewer images at once.
    """
    if torch.device(encoder.device).type != "cpu":
        return math.inf
    pair = torch.cat([image, image])
    each = activation_bytes(encoder.network, pair) - activation_bytes(encoder.network, image)
    return get_config()["working_memory"] * 2**20 // max(1, each)


def activation_bytes(network, images):
    """Bytes that a forward pass holds for the backward pass, weights included."""
    held = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        network(images)
    return sum(held.values())


def embed_batch(encoder, batch, kept):
    """L2-normalised embeddings of a list of batches, one after another, with gradients.

    The activations of the first ``kept`` images are kept, those of the others are computed again
    for their gradients, in smaller pieces, which bounds memory.
    """
    network, device = encoder.network, torch.device(encoder.device)
    images, at_once = torch.cat(batch), encoder.at_once()
    pieces = images.split(at_once if len(images) <= kept else max(1, at_once // 2))
    again = partial(checkpoint, network, use_reentrant=False)
    half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    features, seen = [], 0
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        for piece in pieces:
            seen += len(piece)
            features.append((network if seen <= kept else again)(piece))
    return F.normalize(torch.cat(features).float(), dim=1)


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
