"""Batches of fine-tuning: draw shots, views and anomalies, and embed them within the memory."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from sklearn import get_config
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from .._network.encoder import Encoder
from .._network.last_stages import LastStages, TrainedNetwork
from .._network.views import draw_labelled, make_synthesizer, make_views
from .._utils.settings import EmbedderSettings
from .objective import LoadFunction, uses_negatives

STORED_BATCHES = 8  # for the last stages; fresh batches in each iteration gain little more

Batch: TypeAlias = tuple[torch.Tensor, list[torch.Tensor]]
"""(shots, [first views, second views, anomalies if there are any])."""

BatchSampler: TypeAlias = Callable[[torch.Generator], Batch]


@dataclass(frozen=True)
class StoredBatches:
    """Batches whose images have passed the earlier stages of a network.

    Attributes
    ----------
    batches : list of Batch
        Activations at the cut instead of images.
    views : ndarray of shape (n_views, d)
        L2-normalised embeddings of all views by the network before fine-tuning.
    view_shots : ndarray of shape (n_views,)
        The shot of each view.
    """

    batches: list[Batch]
    views: np.ndarray
    view_shots: np.ndarray

    @classmethod
    def draw(
        cls,
        encoder: Encoder,
        stages: LastStages,
        sample_batch: BatchSampler,
        count: int,
        generator: torch.Generator,
    ) -> "StoredBatches":
        """Draw ``count`` batches and run the earlier stages on them."""
        batches, views, view_shots = [], [], []
        for _ in range(count):
            shots, images = sample_batch(generator)
            chunks = torch.cat(images).split(encoder.batch_size())
            with autocast(encoder):
                outputs = [stages.run_from_images(chunk) for chunk in chunks]
            activations, features = (torch.cat(each) for each in zip(*outputs, strict=True))
            batches.append((shots, list(activations.split(len(shots)))))
            views.append(F.normalize(features[: 2 * len(shots)].float(), dim=1))
            view_shots += [shots, shots]
        return cls(batches, torch.cat(views).cpu().numpy(), torch.cat(view_shots).cpu().numpy())


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


def autocast(encoder: Encoder) -> torch.autocast:
    """Return a context that computes in bfloat16 on CUDA devices that support it."""
    device = torch.device(encoder.device)
    bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)


def embed_batch(
    encoder: Encoder, trained: TrainedNetwork, batch: Sequence[torch.Tensor], max_stored: float
) -> torch.Tensor:
    """Return L2-normalised embeddings, with gradients, of the items of a list of tensors.

    The items are images, or their activations if only last stages are trained. They go through
    ``trained`` in chunks. Activations of the first ``max_stored`` items are stored. Those of the
    other items are recomputed in the backward pass, in smaller chunks, to bound memory.
    """
    items, batch_size = torch.cat(list(batch)), encoder.batch_size()
    chunks = items.split(batch_size if len(items) <= max_stored else max(1, batch_size // 2))
    recomputed = partial(checkpoint, trained, use_reentrant=False)
    features, n_items = [], 0
    with autocast(encoder):
        for chunk in chunks:
            n_items += len(chunk)
            features.append((trained if n_items <= max_stored else recomputed)(chunk))
    return F.normalize(torch.cat(features).float(), dim=1)


def count_storable_items(encoder: Encoder, trained: TrainedNetwork, item: torch.Tensor) -> float:
    """Return how many items' activations fit into scikit-learn's ``working_memory``.

    It is 1 GiB by default and only bounds the memory of a CPU. On an accelerator all activations
    are stored: lower ``batch_size`` if its memory does not suffice.
    """
    if torch.device(encoder.device).type != "cpu":
        return math.inf
    pair = torch.cat([item, item])
    per_item = activation_bytes(trained, pair) - activation_bytes(trained, item)
    return get_config()["working_memory"] * 2**20 // max(1, per_item)


def activation_bytes(trained: TrainedNetwork, items: torch.Tensor) -> int:
    """Return the bytes that a forward pass stores for the backward pass, weights included."""
    sizes = {}

    def record(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(record, lambda tensor: tensor):
        trained(items)
    return sum(sizes.values())
