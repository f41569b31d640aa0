"""Running a network over inputs: which device, which batches, exact scores."""

from multiprocessing import current_process

import numpy as np
import torch
import torch.nn.functional as F

from ._images import Images

# On a CPU small batches are as fast as large ones, and one fixed size makes every embedding
# independent, to the last bit, of what else is in its batch.
BATCH = {"cpu": 8, "rows": 256, "accelerator": 64}
CACHE_BYTES = 2**30


def resolve_device(device):
    """Return the torch device to use; None means CUDA where there is one, else the CPU.

    CUDA without a number is shared out: worker processes take turns.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", take_turns(range(torch.cuda.device_count())))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, IndexError) as error:
        raise ValueError(f"device={str(device)!r} is not available here: {error}") from error
    return device


def take_turns(devices):
    """Choose the device of this process: its number as a worker decides, else the first.

    joblib's workers are numbered from 1 in their process names, ``LokyProcess-1``.
    """
    number = current_process().name.rpartition("-")[2]
    return devices[(int(number) - 1) % len(devices) if number.isdigit() else 0]


def make_loader(inputs, size, device, *, cache=False):
    """Return a function from indices to a batch of ``inputs`` on the device.

    With ``cache``, inputs that fit into 1 GiB are decoded once and kept.
    """
    if not isinstance(inputs, Images):
        rows = torch.tensor(inputs, device=device)
        return lambda index: rows[index]
    if cache and len(inputs) * 3 * size[0] * size[1] * 4 <= CACHE_BYTES:
        images = inputs.load(torch.arange(len(inputs)), size).to(device)
        return lambda index: images[index]
    return lambda index: inputs.load(index.cpu(), size).to(device)


@torch.inference_mode()
def embed(network, load, n, size, local=None, mirror=False):
    """L2-normalised embeddings (n, d), a float64 array, of items 0 to n - 1.

    ``load`` maps indices to a batch; every batch is padded to ``size`` rows. Also returns what
    the function ``local`` makes of the local embeddings (batch, h, w, e) of every batch, or None.
    With ``mirror`` those of the n images' mirror images follow.
    """
    out, made = ([], []), ([], [])
    for start in range(0, n, size):
        batch = load(torch.arange(start, min(start + size, n)))
        count = len(batch)
        if count < size:
            padding = batch.new_zeros(size - count, *batch.shape[1:])
            batch = torch.cat([batch, padding])
        for side in range(1 + mirror):
            shown = batch.flip(3) if side else batch
            if local is None:
                features = network(shown)
            else:
                features, positions = network.features_and_positions(shown)
                made[side].append(local(positions[:count].cpu().numpy()))
            out[side].append(F.normalize(features.float(), dim=1)[:count].cpu())
    embeddings = torch.cat(out[0] + out[1]).double().numpy()
    return embeddings, None if local is None else np.concatenate(made[0] + made[1])


def batch_size(device, rows):
    """Size of the batches that inference runs in."""
    return BATCH["rows" if rows else "cpu" if device.type == "cpu" else "accelerator"]
