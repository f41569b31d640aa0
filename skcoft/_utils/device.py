"""Which device a network runs on."""

from multiprocessing import current_process

import torch


def resolve_device(device):
    """Return the torch device to use; None means CUDA where there is one, else the CPU.

    CUDA without a number is shared out: worker processes take turns.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("torch finds no CUDA device")
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", take_turns(range(torch.cuda.device_count())))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, IndexError) as error:
        raise ValueError(f"device={str(device)!r} is not available here: {error}") from error
    return device


def is_available(device):
    """Whether anything can be put on a device here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        return False
    return True


def take_turns(devices):
    """Choose the device of this process: its number as a worker decides, else the first.

    joblib's workers are numbered from 1 in their process names, ``LokyProcess-1``.
    """
    number = current_process().name.rpartition("-")[2]
    return devices[(int(number) - 1) % len(devices) if number.isdigit() else 0]


def is_out_of_memory(error):
    """Whether an error says that a device's memory, or the computer's, does not hold a tensor."""
    text = str(error)
    known = "out of memory", "can't allocate memory", "not enough memory"
    return isinstance(error, torch.OutOfMemoryError) or any(words in text for words in known)
