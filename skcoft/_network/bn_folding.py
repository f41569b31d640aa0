"""Fold batch normalisation into the convolution before it, which saves time and memory."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

State = list[tuple[int, int | None]]  # identities and versions of tensors
Parameters = tuple[torch.Tensor, torch.Tensor]  # weight and bias


class FoldedPair:
    """A convolution and the batch normalisation after it, computed as one convolution.

    Both modules and their parameters stay in place. Only their ``forward`` is replaced, and the
    result is the same except for rounding. In training mode the modules run unfolded, because
    the statistics of the batch are needed.
    """

    def __init__(self, convolution: Any, norm: Any) -> None:
        self.convolution = convolution
        self.norm = norm
        # one tuple, so that threads never read a state with the parameters of another
        self.cache: tuple[State | None, Parameters | None] = (None, None)

    def convolve(self, images: torch.Tensor) -> torch.Tensor:
        """Convolve and normalise."""
        conv = self.convolution
        if self.norm.training:
            return type(conv).forward(conv, images)
        weight, bias = self.parameters()
        options = conv.stride, conv.padding, conv.dilation, conv.groups
        if type(conv) is nn.Conv2d:
            return F.conv2d(images, weight, bias, *options)
        from timm.layers import conv2d_same

        return conv2d_same(images, weight, bias, *options)

    def activate(self, maps: torch.Tensor) -> torch.Tensor:
        """Apply the dropout and activation that timm's batch normalisations include."""
        norm = self.norm
        if norm.training:
            return type(norm).forward(norm, maps)
        return norm.act(norm.drop(maps)) if hasattr(norm, "act") else maps

    def parameters(self) -> Parameters:
        """Return the folded weight and bias; they are cached until a parameter changes."""
        conv, norm = self.convolution, self.norm
        if torch.is_grad_enabled():
            self.cache = None, None
            return self._fold()
        sources = conv.weight, conv.bias, norm.weight, norm.bias, norm.running_mean
        state = [_tensor_version(source) for source in sources if source is not None]
        cached_state, parameters = self.cache
        if parameters is None or cached_state != state:
            parameters = self._fold()
            self.cache = state, parameters
        return parameters

    def _fold(self) -> Parameters:
        conv, norm = self.convolution, self.norm
        scale = torch.rsqrt(norm.running_var + norm.eps)
        scale = scale if norm.weight is None else scale * norm.weight
        shift = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
        bias = shift * scale if norm.bias is None else shift * scale + norm.bias
        return conv.weight * scale[:, None, None, None], bias


def _tensor_version(tensor: torch.Tensor) -> tuple[int, int | None]:
    """Return what changes when a tensor does. Inference tensors have no version counter."""
    return tensor.data_ptr(), None if tensor.is_inference() else tensor._version


def find_pairs(body: nn.Module, images: torch.Tensor) -> dict[str, str]:
    """Fold a body and return its pairs: names of convolutions to names of batch normalisations.

    The pairs are found by running the body. If its output for some images changes, something else
    uses the output of a convolution as well. Then nothing is folded and the dict is empty.
    """
    names = {module: name for name, module in body.named_modules()}
    candidates, unfolded = _trace_pairs(body, images)
    pairs = {names[conv]: names[norm] for conv, norm in candidates}
    fold(body, pairs)
    if torch.allclose(unfolded, body(images), rtol=1e-3, atol=1e-4):
        return pairs
    unfold(body, pairs)
    return {}


def fold(body: nn.Module, pairs: Mapping[str, str]) -> None:
    """Compute each pair of named modules as one."""
    for names in pairs.items():
        conv, norm = map(body.get_submodule, names)
        folded = FoldedPair(conv, norm)
        conv.forward, norm.forward = folded.convolve, folded.activate


def unfold(body: nn.Module, pairs: Mapping[str, str]) -> None:
    """Undo :func:`fold`."""
    for names in pairs.items():
        for module in map(body.get_submodule, names):
            del module.forward


def _trace_pairs(
    body: nn.Module, images: torch.Tensor
) -> tuple[list[tuple[nn.Module, nn.Module]], torch.Tensor]:
    """Run a body; return pairs in which a norm takes a convolution's output, and the output."""
    calls: list[nn.Module] = []
    producers: dict[int, tuple[torch.Tensor, nn.Module]] = {}
    pairs: list[tuple[nn.Module, nn.Module]] = []

    def note_output(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        calls.append(module)
        # a reference is held, so that no other tensor gets the same id
        producers[id(output)] = output, module

    def note_input(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        calls.append(module)
        if id(args[0]) in producers:
            output, conv = producers[id(args[0])]
            if output.shape[1] == module.num_features:
                pairs.append((conv, module))

    hooks = [
        module.register_forward_hook(note_output)
        if _is_convolution(module)
        else module.register_forward_pre_hook(note_input)
        for module in body.modules()
        if _is_convolution(module) or _is_norm(module)
    ]
    try:
        output = body(images)
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if all(calls.count(module) == 1 for module in pair)], output


def _is_convolution(module: nn.Module) -> bool:
    """Whether a module is a convolution that can be folded."""
    if type(module) is nn.Conv2d:
        return module.padding_mode == "zeros"
    from timm.layers import Conv2dSame

    return type(module) is Conv2dSame


def _is_norm(module: nn.Module) -> bool:
    """Whether a module is a batch normalisation with running statistics, of a supported class."""
    from timm.layers import BatchNormAct2d

    supported = type(module) in (nn.BatchNorm2d, BatchNormAct2d)
    return supported and module.running_mean is not None
