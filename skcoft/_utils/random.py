"""Random numbers that leave torch's global generators unchanged."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

# torch's global generators belong to the process. Threads that seed them take turns. Otherwise a
# thread could draw from another thread's seed, or restore a state that a third thread had set.
_SEED_LOCK = RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore them after it."""
    with _SEED_LOCK, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def draw_seed(generator: torch.Generator) -> int:
    """Draw an integer seed from a generator."""
    device = generator.device
    return int(torch.randint(2**31 - 1, (), generator=generator, device=device))
