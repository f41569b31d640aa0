"""Modules of torch as copies and as arrays, which is what pickles hold of them."""

from copy import deepcopy

import torch


def copy_module(module):
    """Copy a module; what it computed of its parameters, as ``weight_norm`` does, as values."""
    computed = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    return deepcopy(module, computed)


def module_arrays(module, prefix=None):
    """Return the state of a module as arrays, all but what begins with ``prefix``."""
    state = module.state_dict().items()
    return {k: v.cpu().numpy() for k, v in state if not (prefix and k.startswith(prefix))}


def arrays_to_tensors(arrays):
    """Return arrays as tensors: copies, as those that are loaded may be read-only."""
    return {name: torch.tensor(array) for name, array in arrays.items()}
