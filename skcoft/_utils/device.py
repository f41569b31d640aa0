"""The device that a network runs on."""

from collections.abc import Sequence
from multiprocessing import current_process
from typing import TypeVar

import torch

Device = TypeVar("Device")


def resolve_device(device: str | torch.device | None) -> torch.device:
    """Return the torch device; None means CUDA if it is available, else the CPU.

    If CUDA is meant without an index, worker processes share out the devices.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
        if resolved.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("torch finds no CUDA device")
        if resolved.type == "cuda" and resolved.index is None:
            index = device_of_process(range(torch.cuda.device_count()))
            resolved = torch.device("cuda", index)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError, IndexError) as error:
        raise ValueError(
            f"device={str(device)!r} is not available here: {error}. Pass device=None for the "
            "available one."
        ) from error
    return resolved


def is_available(device: str | torch.device) -> bool:
    """Return whether tensors can be allocated on a device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        return False
    return True


def device_of_process(devices: Sequence[Device]) -> Device:
    """Return the device of this process: worker processes take turns, others get the first.

    joblib numbers its workers from 1 in their process names, ``LokyProcess-1``.
    """
    number = current_process().name.rpartition("-")[2]
    return devices[(int(number) - 1) % len(devices) if number.isdigit() else 0]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of a device or the computer is exhausted."""
    phrases = "out of memory", "can't allocate memory", "not enough memory"
    return isinstance(error, torch.OutOfMemoryError) or any(p in str(error) for p in phrases)
