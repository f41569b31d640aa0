"""Contrastive fine-tuning of a network on a handful of normal images."""

import math
import warnings
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from tqdm.auto import tqdm

from .losses import (
    info_nce_loss,
    mean_shifted_loss,
    negative_pair_loss,
    positive_pair_loss,
    simsiam_loss,
)

PROJECTED = 128
HEAD_LEARNING_RATE = 10  # times the network's: heads start from random weights
RECOMPUTED = 2**21  # pixel values of a batch on a CPU, beyond which activations are not kept
TERMS = ("loss", "contrastive", "positive", "negative")


class Contrast(nn.Module):
    """L_Con of one family, with the heads that it needs (trained, then thrown away)."""

    def __init__(self, family, width, center, temperature):
        super().__init__()
        self.family, self.center, self.temperature = family, center, temperature
        if family != "mean_shifted":
            self.projector = _perceptron(width, width, PROJECTED)
        if family == "simsiam":
            self.predictor = _perceptron(PROJECTED, PROJECTED // 2, PROJECTED)

    def forward(self, first, second, shots):
        if self.family == "mean_shifted":
            return mean_shifted_loss(
                first, second, shots, self.center, temperature=self.temperature
            )
        first, second = self.projector(first), self.projector(second)
        if self.family == "infonce":
            return info_nce_loss(first, second, shots, temperature=self.temperature)
        return simsiam_loss(first, second, self.predictor(first), self.predictor(second))


def fine_tune(
    network,
    contrast,
    load,
    n_shots,
    *,
    views,
    synthesize,
    positive_weight,
    negative_weight,
    max_iter,
    batch_size,
    learning_rate,
    generator,
    piece,
    verbose=0,
):
    """Train ``network`` in place and return the history: a dict of one array per loss term.

    Every iteration draws ``batch_size`` shots (each as often as the others), two views of each
    and, where ``synthesize`` is given, as many anomalies made from further views. The network
    stays in eval mode: batch normalisation keeps the source statistics, which a handful of
    images could only spoil, and trains its affine parameters. It also makes images independent
    of each other, so the forward pass may run in pieces of ``piece`` images. Of large batches on a
    CPU only one piece's activations are held at a time: they are computed again for its gradient.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            "No parameter of the backbone requires a gradient; pass max_iter=0 to use it frozen."
        )
    device = generator.device
    groups = [
        {"params": parameters, "lr": learning_rate},
        {"params": list(contrast.parameters()), "lr": HEAD_LEARNING_RATE * learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / max_iter))
    )
    half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    history = []
    steps = tqdm(range(max_iter), desc="fine-tuning", disable=not verbose)
    try:
        for step in steps:
            shots = draw_shots(n_shots, batch_size, generator)
            images = load(shots)
            batch = [views(images, generator), views(images, generator)]
            if synthesize is not None:
                batch.append(synthesize(views(images, generator), generator))
            large = device.type == "cpu" and sum(map(torch.numel, batch)) > RECOMPUTED
            run = partial(checkpoint, network, use_reentrant=False) if large else network
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                parts = torch.cat(batch).split(max(1, piece // 2) if large else piece)
                features = torch.cat([run(part) for part in parts])
            h = F.normalize(features.float(), dim=1)
            n = len(shots)
            terms = {
                "contrastive": contrast(h[:n], h[n : 2 * n], shots),
                "positive": positive_pair_loss(h[: 2 * n], torch.cat([shots, shots])),
                "negative": negative_pair_loss(h[: 2 * n], h[2 * n :])
                if synthesize is not None
                else h.new_zeros(()),
            }
            loss = (
                terms["contrastive"]
                + positive_weight * terms["positive"]
                + negative_weight * terms["negative"]
            )
            values = [loss.item(), *(terms[name].item() for name in TERMS[1:])]
            if not math.isfinite(values[0]):
                raise FloatingPointError(
                    f"The loss became {values[0]} at iteration {step + 1} of {max_iter}. Lower "
                    f"learning_rate (now {learning_rate:g}) or raise temperature (now "
                    f"{contrast.temperature:g})."
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            history.append(values)
            steps.set_postfix(loss=f"{values[0]:.3f}", refresh=False)
    except KeyboardInterrupt:
        warnings.warn(
            f"Fine-tuning interrupted after {len(history)} of {max_iter} iterations; the network "
            "is used as it is.",
            stacklevel=2,
        )
    finally:
        steps.close()
        for parameter in parameters:
            parameter.grad = None
    columns = np.asarray(history, dtype=np.float64).reshape(-1, len(TERMS)).T
    return dict(zip(TERMS, columns, strict=True))


def draw_shots(n_shots, batch_size, generator):
    """Draw the indices of a batch: random permutations of the shots, one after another."""
    repeats = -(-batch_size // n_shots)
    device = generator.device
    orders = [torch.randperm(n_shots, generator=generator, device=device) for _ in range(repeats)]
    return torch.cat(orders)[:batch_size]


def _perceptron(n_in, n_hidden, n_out):
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_out))
