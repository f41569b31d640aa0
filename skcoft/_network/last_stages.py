"""The last stages of a network: what follows the maps that patch embeddings are made of.

Only these are fine-tuned. The earlier ones hold most of the multiplications, and their output for
an image never changes. It is computed once and stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .backbone import Backbone

PLACEHOLDER_SIDE = 64  # pixels; the least side that most networks with five strides accept


@dataclass(frozen=True, eq=False)
class LastStages:
    """The modules of a network from ``cut`` on.

    They are run by running the whole network on a placeholder, a small black image, with the
    input of ``cut`` replaced. So whatever a network does after the cut is done here as well.

    Attributes
    ----------
    network : Backbone
        The whole network.
    cut : nn.Module
        The first of the last stages.
    placeholder : Tensor of shape (1, 3, h, w)
        Image that the earlier stages see.
    trained : list of Parameter
        The parameters of the last stages.
    """

    network: Backbone
    cut: nn.Module
    placeholder: torch.Tensor
    trained: list[nn.Parameter]

    @classmethod
    @torch.no_grad()
    def of(cls, network: Any, images: torch.Tensor) -> "LastStages | None":
        """Return the last stages of a network, or None if it cannot be cut.

        A network can be cut if it has maps, if timm says which module makes each of them, and if
        the stages after that module need nothing but its output. ``images`` are used to try it.
        """
        name = _module_of_last_map(network)
        if name is None:
            return None
        called = _call_order(network, images)
        cut = _next_sibling(network.body, name, called)
        if cut is None:
            return None
        trained = _parameters_from(network, called, cut)
        side = PLACEHOLDER_SIDE
        for placeholder in (images[:1, :, :side, :side] * 0, images[:1] * 0):
            stages = cls(network, cut, placeholder, trained)
            if _agrees_with_network(stages, images):
                return stages
        return None

    def __call__(self, activations: torch.Tensor) -> torch.Tensor:
        """Return the features (n, d) of images from their activations at the cut."""

        def replace_input(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return activations, *args[1:]

        hook = self.cut.register_forward_pre_hook(replace_input)
        try:
            return self.network(self.placeholder)
        finally:
            hook.remove()

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the last stages."""
        return iter(self.trained)

    @torch.no_grad()
    def run_from_images(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the activations of images at the cut, and their features (n, d)."""
        inputs = []
        hook = self.cut.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
        try:
            features = self.network(images)
        finally:
            hook.remove()
        return inputs[0], features


TrainedNetwork = nn.Module | LastStages
"""What fine-tuning changes: a whole network, or its last stages."""


def _call_order(network: nn.Module, images: torch.Tensor) -> list[nn.Module]:
    """Return the modules of a network in the order in which a forward pass calls them."""
    called: list[nn.Module] = []

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        called.append(module)

    hooks = [module.register_forward_pre_hook(note) for module in network.modules()]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return called


def _module_of_last_map(network: Any) -> str | None:
    """Return the name of the module that makes the last map for patches, if timm tells it."""
    try:
        name = network.body.feature_info[network.layers[-1]]["module"]
        network.body.get_submodule(name)
    except (AttributeError, IndexError, KeyError, TypeError):  # not a network of timm, or no maps
        return None
    return name


def _next_sibling(body: nn.Module, name: str, called: list[nn.Module]) -> nn.Module | None:
    """Return the module that is called next after a named one, of those in the same container."""
    siblings = set(body.get_submodule(name.rpartition(".")[0]).children())
    module = body.get_submodule(name)
    later = called[called.index(module) + 1 :] if module in called else []
    return next((each for each in later if each in siblings), None)


def _agrees_with_network(stages: LastStages, images: torch.Tensor) -> bool:
    """Return whether activations at the cut lead to the features of the whole network."""
    try:
        activations, features = stages.run_from_images(images)
        from_cut = stages(activations)
    except Exception:  # a network may raise anything, for example at a placeholder's size
        return False
    if from_cut.shape != features.shape:
        return False
    return torch.allclose(from_cut, features, rtol=1e-3, atol=1e-4 * features.abs().max().item())


def _parameters_from(
    network: nn.Module, called: list[nn.Module], cut: nn.Module
) -> list[nn.Parameter]:
    """Return the parameters of a network, except those of modules that are called before ``cut``.

    A module that contains others is called before them, but holds few parameters itself.
    """
    earlier = called[: called.index(cut)]
    is_fixed = {id(p) for module in earlier for p in module.parameters(recurse=False)}
    return [p for p in network.parameters() if id(p) not in is_fixed]
