"""Random numbers of the generator, one row per image."""

import torch


def uniform(n, count, generator):
    """Draw uniform numbers (n, count) on the generator's device."""
    return torch.rand(n, count, generator=generator, device=generator.device)


def chance(x, generator, count):
    """Draw ``count`` numbers for each field of ``x`` (n, H, W): a tuple of (n, 1, 1)."""
    return uniform(len(x), count, generator)[:, :, None, None].unbind(1)
