"""Errors of single images, and of arrays that lack some of their values."""

from typing import Any

import numpy as np
import torch

from .._utils.text import printable


class UnreadableImageError(ValueError):
    """One image of X cannot be read; the others may be fine. The message names the image.

    It may quote the header of a file, so it is made safe for a terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def require_all_values(array: Any, name: str, error: type[ValueError] = ValueError) -> None:
    """Raise an error if an array is masked, or a tensor is not an ordinary dense one."""
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise error(
            f"{name} is an array with {np.count_nonzero(array.mask)} masked values. Fill them "
            f"with {name}.filled(value)."
        )
    if not isinstance(array, torch.Tensor):
        return
    if array.is_meta:
        raise error(f"{name} is a tensor on the device 'meta', which has no values.")
    if array.is_quantized:
        raise error(f"{name} is a quantized tensor. Pass {name}.dequantize().")
    if array.layout != torch.strided:
        raise error(f"{name} is a tensor of layout {array.layout}. Pass {name}.to_dense().")
