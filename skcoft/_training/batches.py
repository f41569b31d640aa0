"""TODO."""

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from sklearn import get_config
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from .._network.views import draw_labelled, make_synthesizer, make_views
from .objective import uses_negatives


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
    images, at_once = torch.cat(batch), encoder.batch_size()
    pieces = images.split(at_once if len(images) <= kept else max(1, at_once // 2))
    again = partial(checkpoint, network, use_reentrant=False)
    half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    features, seen = [], 0
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        for piece in pieces:
            seen += len(piece)
            features.append((network if seen <= kept else again)(piece))
    return F.normalize(torch.cat(features).float(), dim=1)


def draw_shots(ids, batch_size, generator):
    """Draw the indices of a batch: random permutations of the shots, one after another.

    Of a shot with several images one is drawn at random.
    """
    shots, counts = np.unique(ids, return_counts=True)
    repeats = -(-batch_size // len(shots))
    device = generator.device
    orders = [
        torch.randperm(len(shots), generator=generator, device=device) for _ in range(repeats)
    ]
    drawn = torch.cat(orders)[:batch_size]
    if counts.max() == 1:
        return drawn
    members = [torch.from_numpy(np.flatnonzero(ids == shot)).to(device) for shot in shots]
    picks = torch.rand(len(drawn), generator=generator, device=device)
    return torch.stack(
        [members[s][int(p * len(members[s]))] for s, p in zip(drawn, picks, strict=True)]
    )
