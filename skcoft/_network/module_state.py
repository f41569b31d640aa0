"""Copies of torch modules, and their state as arrays for pickles and model files."""

from collections.abc import Mapping
from copy import deepcopy
from typing import TypeVar

import numpy as np
import torch

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)


def copy_module(module: ModuleT) -> ModuleT:
    """Return a deep copy of a module.

    Tensors that the module computes from its parameters, as ``weight_norm`` does, are copied by
    value, because torch cannot copy tensors that are part of a graph.
    """
    computed = {
        id(value): value.detach().clone()
        for submodule in module.modules()
        for value in vars(submodule).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    return deepcopy(module, computed)


def module_arrays(module: torch.nn.Module, prefix: str | None = None) -> dict[str, np.ndarray]:
    """Return the state of a module as arrays, without the names that begin with ``prefix``."""
    state = module.state_dict().items()
    return {k: v.cpu().numpy() for k, v in state if not (prefix and k.startswith(prefix))}


def arrays_to_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return arrays as tensors. They are copied, because loaded arrays may be read-only."""
    return {name: torch.tensor(array) for name, array in arrays.items()}
