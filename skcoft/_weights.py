"""Where pre-trained weights come from, and how a file of them is loaded."""

import sys
from os import fspath
from pathlib import Path

from . import _embedded

HUB_FAILED = (
    "The pre-trained weights of backbone={name!r} could not be fetched from the hub ({error}). "
    "Without a network, pass a local file in timm's layout, weights='path/to/file.safetensors', "
    "or weights=None for random ones."
)


def packaged_file(name):
    """Return the file of the embedded backbone, which comes with this package."""
    return _embedded.WEIGHTS if name == "embedded" else None


# Where weights="pretrained" looks, in this order, before timm asks the hub: functions from a
# backbone's name to a file in timm's layout, or None.
SOURCES = {"package": packaged_file}


def find_weights(name, weights):
    """Return the file of weights to load, or None where there is none: random or from the hub."""
    if weights is None:
        return None
    if weights != "pretrained":
        if not Path(weights).is_file():
            raise FileNotFoundError(
                f"weights={fspath(weights)!r} is neither a file, 'pretrained' nor None."
            )
        return weights
    files = (source(name) for source in SOURCES.values())
    return next((file for file in files if file is not None), None)


def load_weights(body, path, name, architecture):
    """Load a file in timm's layout; keys of a classifier head may be there or not."""
    import timm

    try:
        state = timm.models.load_state_dict(fspath(path), device="cpu")
    except Exception as error:
        raise ValueError(
            f"weights={fspath(path)!r} could not be read as a .safetensors or .pth state dict: "
            f"{error}"
        ) from error
    module = sys.modules[timm.models.model_entrypoint(architecture).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)  # resizes a ViT's positions
    if convert is not None:
        state = convert(state, body)
    problems = _misfits(body, state)
    if problems:
        raise ValueError(
            f"weights={fspath(path)!r} do not fit backbone={name!r}. Keys {'; '.join(problems)}."
        )
    own = body.state_dict()
    body.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)


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
