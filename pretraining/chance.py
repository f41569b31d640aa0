"""Random numbers for image generation, a row per image."""

import torch
from torch import Generator, Tensor

# numbers of a formula, each of shape (n, 1, 1)
Params = tuple[Tensor, ...] | list[Tensor]


def uniform(n: int, count: int, generator: Generator) -> Tensor:
    """Draw uniform numbers (n, count) on the generator's device."""
    return torch.rand(n, count, generator=generator, device=generator.device)


def uniform_per_image(n: int, count: int, generator: Generator) -> tuple[Tensor, ...]:
    """Draw ``count`` uniform numbers per image, each as a tensor (n, 1, 1)."""
    return uniform(n, count, generator)[:, :, None, None].unbind(1)
