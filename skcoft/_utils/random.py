"""Randomness that leaves the global state as it was."""

from contextlib import contextmanager
from threading import RLock

import torch

# torch's generators belong to the whole process: threads that seed them take turns, or one would
# draw from another's seed and restore what a third had set
_TURN = RLock()


@contextmanager
def seeded(seed):
    """Seed torch's global generators inside the block and restore them after it."""
    with _TURN, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def draw_seed(generator):
    """Draw an integer seed from a ``torch.Generator``."""
    device = generator.device
    return int(torch.randint(2**31 - 1, (), generator=generator, device=device))
