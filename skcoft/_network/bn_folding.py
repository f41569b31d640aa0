"""Batch normalisation folded into the convolution before it: a pass and a map less to keep."""

import torch
import torch.nn.functional as F
from torch import nn


class Folded:
    """A convolution and the batch normalisation that follows it, computed as one convolution.

    Both modules stay what and where they are; only their ``forward`` is another one, which says
    the same but for rounding. In training mode, where batch statistics count, it is their own.
    """

    def __init__(self, convolution, norm):
        self.convolution = convolution
        self.norm = norm
        self.kept = None, None

    def convolve(self, images):
        """Convolve and normalise."""
        conv = self.convolution
        if self.norm.training:
            return type(conv).forward(conv, images)
        weight, bias = self.parameters()
        if type(conv) is nn.Conv2d:
            convolve = F.conv2d
        else:
            from timm.layers import conv2d_same as convolve
        return convolve(
            images, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )

    def activate(self, maps):
        """Do what timm's batch normalisations do besides: drop out and activate."""
        norm = self.norm
        if norm.training:
            return type(norm).forward(norm, maps)
        return norm.act(norm.drop(maps)) if hasattr(norm, "act") else maps

    def parameters(self):
        """Weight and bias of both as one; kept while nothing is learned."""
        conv, norm = self.convolution, self.norm
        if torch.is_grad_enabled():
            self.kept = None, None
            return self._fold()
        sources = conv.weight, conv.bias, norm.weight, norm.bias, norm.running_mean
        state = [_state_of(source) for source in sources if source is not None]
        known, found = self.kept
        if known != state:
            found = self._fold()
            self.kept = state, found
        return found

    def _fold(self):
        conv, norm = self.convolution, self.norm
        scale = torch.rsqrt(norm.running_var + norm.eps)
        scale = scale if norm.weight is None else scale * norm.weight
        shift = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
        bias = shift * scale if norm.bias is None else shift * scale + norm.bias
        return conv.weight * scale[:, None, None, None], bias


def _state_of(tensor):
    """Return what changes when a tensor does; one of inference mode keeps no count."""
    return tensor.data_ptr(), None if tensor.is_inference() else tensor._version


def find_pairs(body, images):
    """Return the name of the batch normalisation of its output alone, by each convolution's.

    Found by running the body. What it makes of some images must be the same when they are folded,
    which tells where something else uses a convolution's output, too; else there are none.
    """
    names = {module: name for name, module in body.named_modules()}
    found, before = _watch(body, images)
    pairs = {names[conv]: names[norm] for conv, norm in found}
    fold(body, pairs)
    if torch.allclose(before, body(images), rtol=1e-3, atol=1e-4):
        return pairs
    unfold(body, pairs)
    return {}


def fold(body, pairs):
    """Compute pairs of modules, by their names, as one each."""
    for names in pairs.items():
        conv, norm = map(body.get_submodule, names)
        folded = Folded(conv, norm)
        conv.forward, norm.forward = folded.convolve, folded.activate


def unfold(body, pairs):
    """Undo :func:`fold`."""
    for names in pairs.items():
        for module in map(body.get_submodule, names):
            del module.forward


def _watch(body, images):
    """Run it; return the pairs in which a norm takes what a convolution gives, and the output."""
    calls, made, pairs = [], {}, []

    def note_output(module, _, output):
        calls.append(module)
        made[id(output)] = output, module  # held, so that no other gets its id

    def note_input(module, args):
        calls.append(module)
        output, conv = made.get(id(args[0]), (None, None))
        if output is not None and output.shape[1] == module.num_features:
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


def _is_convolution(module):
    if type(module) is nn.Conv2d:
        return module.padding_mode == "zeros"
    from timm.layers import Conv2dSame

    return type(module) is Conv2dSame


def _is_norm(module):
    """Whether it normalises by statistics of its source, and does nothing that we leave out."""
    from timm.layers import BatchNormAct2d

    known = type(module) in (nn.BatchNorm2d, BatchNormAct2d)
    return known and module.running_mean is not None
