"""The model file: a fitted detector as one safetensors file, written whole or not at all."""

import json
import os
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save as as_safetensors
from torch.nn.functional import normalize

from .._evidence.backbone_score import BackboneScore
from .._evidence.joint_score import JointScore
from .._network.backbone import ARCHITECTURE_NAME, Backbone
from .._network.encoder import Features
from .._parameters import DETECTOR_CONSTRAINTS, EMBEDDER_CONSTRAINTS
from .._utils.device import resolve_device
from .._utils.files import as_file_path, atomic_write, check_output_path, index_files, refuse_input
from .._utils.params import as_list, check_parameters
from .._utils.torch_context import torch_defaults
from .._version import __version__
from .codec import FORMAT, Reader, Writer
from .fields import check_fields
from .legacy import upgrade_detector_state
from .schema import FITTED

MAX_PROBED_PIXELS = 2**28  # of an image on which a network is tried on loading
VERSIONS = {"skcoft": __version__} | {name: version(name) for name in ("torch", "timm")}


def save_detector(
    path: str | os.PathLike[str], parameters: dict[str, Any], fitted: dict[str, Any]
) -> None:
    """Write the parameters and fitted attributes of a detector to a model file."""
    path = check_output_path(path)
    weights = [w for w in as_list(parameters["weights"]) if isinstance(w, (str, os.PathLike))]
    files = [(file, f"weights={str(file)!r}") for file in weights if file != "pretrained"]
    refuse_input("path=", path, index_files(files))
    check_names(parameters["backbone"], fitted["embedder_"].backbone)
    writer = Writer()
    model = {
        "parameters": {name: writer.encode(value, name) for name, value in parameters.items()},
        "fitted": {name: writer.encode(value, name) for name, value in fitted.items()},
        "objects": writer.objects,
    }
    check_fields("the detector", FITTED, fitted, writer.file_sizes)
    metadata = {
        "format": "skcoft",
        "format_version": str(FORMAT),
        "versions": json.dumps(VERSIONS),
        "model": json.dumps(model),
    }
    metadata["sha256"] = checksum(metadata, writer.arrays)
    atomic_write(path, as_safetensors(writer.arrays, metadata))


def load_detector(
    cls: Callable[..., Any],
    path: str | os.PathLike[str],
    device: str | torch.device | None = None,
) -> Any:
    """Make a detector of class ``cls`` from a model file."""
    target = None if device is None else str(resolve_device(device))
    path = as_file_path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no model file path={str(path)!r}.")
    metadata, arrays = read(path)
    try:
        model = json.loads(metadata["model"])
        with torch_defaults():
            reader = Reader(model["objects"], arrays, target, int(metadata["format_version"]))
            parameters = {name: reader.decode(node) for name, node in model["parameters"].items()}
            detector = cls(**{**parameters, "memory": None})
            fitted = {name: reader.decode(node) for name, node in model["fitted"].items()}
            fitted = upgrade_detector_state(fitted)
            check_fields("the detector", FITTED, fitted, reader.file_sizes)
        if device is not None:
            detector.device = fitted["embedder_"].device = device
        check_parameters(detector, DETECTOR_CONSTRAINTS)
        check_fitted(detector.backbone, fitted)
    except MemoryError:
        raise
    except Exception as error:  # a file may hold anything
        reason = str(error).rstrip(".") if isinstance(error, ValueError) else repr(error)
        raise ValueError(
            f"No detector can be made of {str(path)!r}, which {_written_by(metadata)} wrote: "
            f"{reason}. Installed are {_version_text(VERSIONS)}. Update what is older, else save "
            "the detector again."
        ) from error
    vars(detector).update(fitted)
    return detector


def check_names(*backbones: Any) -> None:
    """Raise ValueError if a backbone has a name that only a hub or a folder knows."""
    for name in (name for backbone in backbones for name in as_list(backbone)):
        if isinstance(name, str) and not ARCHITECTURE_NAME.fullmatch(name):
            raise ValueError(
                f"backbone={name!r} is not in timm's registry, so a model file cannot hold it. "
                "Store the detector with joblib.dump or skops.io.dump, or fit with the name of "
                "the architecture and a local file as weights."
            )


def check_fitted(backbone: Any, fitted: dict[str, Any]) -> None:
    """Raise ValueError if the contents of a file do not belong together."""
    embedder, model = fitted["embedder_"], fitted["_model"]
    check_parameters(embedder, EMBEDDER_CONSTRAINTS)
    check_names(backbone, embedder.backbone)
    total = sum(encoder.network.width for encoder in embedder.encoders_)
    widths = [{model.embeddings.shape[1], total}]
    for score in model.joint.backbone_scores:
        widths.append({score.encoder.network.width, score.support.embeddings.shape[1]})
        widths[-1] |= {density.n_features_in_ for density in as_list(score.fitted_density)}
    if any(len(values) > 1 for values in widths):
        raise ValueError("networks, embeddings and densities are of different widths")
    check_scores(model.joint)


@torch_defaults()
def check_scores(joint: JointScore) -> None:
    """Raise an error of any type if networks and densities give no finite scores.

    Values may be finite and make no sense, such as a negative variance. Images are scored by a
    black one, tabular data by a training sample.
    """
    summaries = {}
    for i, score in enumerate(joint.backbone_scores):
        if score.encoder.device == "meta":  # tensors without values
            return
        features = probe(score)
        for name, component in score.components.items():
            summaries[i, name] = component.summarize(features)
    with np.errstate(all="ignore"):
        values = [joint.score(summaries), joint.held_out_scores(), joint.held_out_image_scores()]
        if joint.map_components():
            values += [joint.map_maxima(summaries), joint.held_out_map_maxima()]
    if not all(np.isfinite(value).all() for value in values):
        raise ValueError("its densities give scores that are NaN or infinite")


@torch.inference_mode()
def probe(score: BackboneScore) -> Features:
    """Return the features of one image or row."""
    encoder, sizing = score.encoder, score.encoder.sizing
    if sizing is None:
        return Features(score.support.embeddings[:1], None, None)
    # a network for images in their own shapes takes a small one as well, in less time
    side = 2 * sizing.multiple
    height, width = sizing.size if sizing.pixels is None else (side, side)
    if height * width > MAX_PROBED_PIXELS:
        raise ValueError(f"it resizes images to {height} x {width} pixels")
    batch = torch.zeros(1, 3, height, width, device=encoder.device)
    network = cast(Backbone, encoder.network)
    if any(component.needs_patches for component in score.components.values()):
        features, patches = network.features_and_patches(batch)
    else:
        features, patches = network(batch), None
    embeddings = normalize(features.float(), dim=1).cpu().double().numpy()
    if not np.isfinite(embeddings).all():
        raise ValueError("its network gives features that are NaN or infinite")
    return Features(embeddings, patches, None)


def checksum(metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of the contents of a file, without the stored SHA-256."""
    digest = sha256()
    for name, text in sorted(metadata.items()):
        if name != "sha256":
            digest.update(json.dumps([name, text]).encode())
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Return metadata and arrays of a model file; raise ValueError if it is not an intact one."""
    name = str(path)
    try:
        with safe_open(name, framework="np") as file:
            metadata = file.metadata() or {}
            is_ours = metadata.get("format") == "skcoft"
            format_version = int(metadata.get("format_version", 0)) if is_ours else FORMAT + 1
            keys = file.keys() if format_version <= FORMAT else []
            # copies, so that the arrays do not depend on the file's memory
            arrays = {key: np.array(file.get_tensor(key)) for key in keys}
    except (MemoryError, OSError):
        raise
    except Exception as error:  # a file may hold any bytes
        raise ValueError(
            f"{name!r} is no model file, or is damaged or incomplete ({error}). Copy it again or "
            "save the detector again. Read files of joblib, pickle and skops with these."
        ) from error
    if not is_ours:
        raise ValueError(
            f"{name!r} is a safetensors file, but COFTDetector.save did not write it. Pass the "
            "weights of a backbone as weights=."
        )
    if format_version > FORMAT:
        raise ValueError(
            f"{name!r} is of format {format_version}, which {_written_by(metadata)} wrote; skcoft "
            f"{__version__} reads formats up to {FORMAT}. Update skcoft."
        )
    computed, stored = checksum(metadata, arrays), metadata.get("sha256")
    if computed != stored:
        raise ValueError(
            f"{name!r} is damaged or was changed after it was saved: the SHA-256 of its contents "
            f"is {computed}, not {stored}. Copy it again or save the detector again."
        )
    return metadata, arrays


def _written_by(metadata: dict[str, str]) -> str:
    """Return the versions that wrote a file, as text."""
    try:
        return _version_text(json.loads(metadata["versions"]))
    except (KeyError, TypeError, ValueError):
        return "an unknown version of skcoft"


def _version_text(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in VERSIONS)
