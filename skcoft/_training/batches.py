"""Batches of fine-tuning: draw shots, views and anomalies, and embed them within the memory."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from sklearn import get_config
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from .._network.encoder import Encoder
from .._network.views import draw_labelled, make_synthesizer, make_views
from .._utils.settings import EmbedderSettings
from .objective import LoadFunction, uses_negatives

BatchSampler: TypeAlias = Callable[[torch.Generator], tuple[torch.Tensor, list[torch.Tensor]]]
"""From a generator to (shots, [first views, second views, anomalies if there are any])."""


def make_batch_sampler(
    encoder: Encoder,
    load: LoadFunction,
    shot_ids: np.ndarray,
    anomalies: Any,
    settings: EmbedderSettings,
) -> BatchSampler:
    """Return a function that draws the batch of one iteration; ``anomalies`` are labelled ones."""
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
        if function is not None:  # a callable that fails should fail before training starts
            function(load(torch.arange(1)), torch.Generator(encoder.device).manual_seed(0))

    def sample_batch(generator: torch.Generator) -> tuple[torch.Tensor, list[torch.Tensor]]:
        indices = draw_shots(shot_ids, settings.batch_size, generator)
        images = load(indices)
        batch = [views(images, generator), views(images, generator)]
        if synthesize is not None:  # made of views, or the augmentation would tell them apart
            batch.append(synthesize(views(images, generator), generator))
        return torch.from_numpy(shot_ids).to(indices)[indices], batch

    return sample_batch


def draw_shots(shot_ids: np.ndarray, batch_size: int, generator: torch.Generator) -> torch.Tensor:
    """Return the indices of a batch of images, every shot as often as the others.

    The order of the shots is a random permutation, followed by another one if the batch is larger.
    If a shot has several images, one of them is chosen at random.
    """
    shots, counts = np.unique(shot_ids, return_counts=True)
    repeats = -(-batch_size // len(shots))
    device = generator.device
    orders = [
        torch.randperm(len(shots), generator=generator, device=device) for _ in range(repeats)
    ]
    numbers = torch.cat(orders)[:batch_size]
    if counts.max() == 1:
        return numbers
    members = [torch.from_numpy(np.flatnonzero(shot_ids == shot)).to(device) for shot in shots]
    picks = torch.rand(len(numbers), generator=generator, device=device)
    return torch.stack(
        [members[s][int(p * len(members[s]))] for s, p in zip(numbers, picks, strict=True)]
    )


def embed_batch(
    encoder: Encoder, batch: Sequence[torch.Tensor], max_stored: float
) -> torch.Tensor:
    """Return L2-normalised embeddings, with gradients, of the images of a list of tensors.

    The images go through the network in chunks. Activations of the first ``max_stored`` images
    are stored. Those of the other images are recomputed in the backward pass, in smaller chunks,
    to bound memory.
    """
    network, device = encoder.network, torch.device(encoder.device)
    images, batch_size = torch.cat(list(batch)), encoder.batch_size()
    chunks = images.split(batch_size if len(images) <= max_stored else max(1, batch_size // 2))
    recomputed = partial(checkpoint, network, use_reentrant=False)
    bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    features, n_images = [], 0
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        for chunk in chunks:
            n_images += len(chunk)
            features.append((network if n_images <= max_stored else recomputed)(chunk))
    return F.normalize(torch.cat(features).float(), dim=1)


def count_storable_images(encoder: Encoder, image: torch.Tensor) -> float:
    """Return how many images' activations fit into scikit-learn's ``working_memory``.

    It is 1 GiB by default and only bounds the memory of a CPU. On an accelerator all activations
    are stored: lower ``batch_size`` if its memory does not suffice.
    """
    if torch.device(encoder.device).type != "cpu":
        return math.inf
    pair = torch.cat([image, image])
    per_image = activation_bytes(encoder.network, pair) - activation_bytes(encoder.network, image)
    return get_config()["working_memory"] * 2**20 // max(1, per_image)


def activation_bytes(network: nn.Module, images: torch.Tensor) -> int:
    """Return the bytes that a forward pass stores for the backward pass, weights included."""
    sizes = {}

    def record(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(record, lambda tensor: tensor):
        network(images)
    return sum(sizes.values())
