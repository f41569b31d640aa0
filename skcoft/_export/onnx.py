"""A fitted detector as one ONNX file, which is checked against the detector before it is there."""

import os
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from .._evidence.joint_score import JointScore
from .._evidence.maps import resize_map
from .._evidence.threshold import labels_from_decision
from .._input.mask import hide_outside
from .._network.module_state import copy_module
from .._persistence.model_file import atomic_write
from .._utils.torch_context import torch_defaults
from .._version import __version__
from .graph import Scorer

NEEDED = "onnx", "onnxruntime", "onnxscript"
OPSET = 18  # of 2022, which every runtime of today knows
AT_ONCE = 8  # images or rows that a file is checked with
# Greatest differences: a part of the standard deviation of held-out scores, which maps are in
# units of, and a part of the value. Single precision of the networks, which runtimes round each
# in their own way, leaves a hundredth of it.
ABSOLUTE, RELATIVE = 1e-3, 1e-5


def check_export(path: str | os.PathLike[str]) -> Path:
    """Return the path of an ONNX file; raise if it or a package is missing, before the work."""
    path = checked_path(path)
    for name in NEEDED:
        imported(name)
    return path


def export_onnx(path: Path, joint: JointScore, offset: float, inputs: Any) -> dict[str, float]:
    """Write the ONNX file of a joint score and a threshold; return its differences on inputs."""
    with torch_defaults():
        model, differences = checked_model(on_cpu(joint), offset, inputs)
    atomic_write(path, model.SerializeToString())
    return differences


def checked_path(path):
    """Return a path that a file can be written to; raise where it cannot."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder of path={str(path)!r} does not exist.")
    if path.is_dir():
        raise ValueError(f"path={str(path)!r} is a folder; name a file in it.")
    return path


def imported(name):
    """Import an optional package; ImportError that says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"to_onnx needs {name}: pip install 'skcoft[onnx]'.") from error


def checked_model(joint, offset, inputs):
    """Return the ONNX model of a detector, and how far it differs on inputs."""
    if len(inputs.by_modality) > 1:
        raise ValueError(
            f"An ONNX file takes one image a sample; the detector was fitted on samples of "
            f"{list(inputs.by_modality)}. COFTDetector.save stores such a detector."
        )
    values, shape = values_of(inputs, joint.backbone_scores[0].encoder.bit_depth)
    model = exported(Scorer(joint, offset, shape), values[:1])
    found, expected = run(model.SerializeToString(), values), computed(joint, inputs, shape)
    unit = float(np.std(joint.held_out_scores())) or 1.0
    differences = compare(found, expected, offset, unit)
    imported("onnx").helper.set_model_props(model, properties(differences))
    return model, differences


def on_cpu(joint):
    """Return a joint score with copies of the networks on the CPU."""
    encoders = {}
    for encoder in (branch.encoder for branch in joint.backbone_scores):
        if id(encoder) not in encoders:
            network = copy_module(encoder.network).cpu()
            encoders[id(encoder)] = encoder.with_network(network, "cpu", encoder.sizing)
    return JointScore([replace(b, encoder=encoders[id(b.encoder)]) for b in joint.backbone_scores])


def values_of(inputs, depth):
    """Return what the file gets for inputs, a tensor, and the shape (H, W) of images or None."""
    if inputs.input_type == "tabular":
        return torch.from_numpy(inputs.values), None
    shape = inputs.common_size
    if shape is None:
        shapes = ", ".join(f"{height}x{width}" for height, width in sorted(set(inputs.sizes)))
        raise ValueError(
            "An ONNX file takes images of one shape, that of the images of X; these are of "
            f"{shapes}. Pass those of one shape, or write a file for each."
        )
    return inputs.masked(None).load(torch.arange(len(inputs)), shape, depth), shape


def exported(scorer, example):
    """Return the ONNX model of a scorer, by the exporter that is torch's default.

    Before torch 2.9 that is TorchScript's; those of 2.5 and 2.6 that are newer fail on matrix
    products of batches of any size.
    """
    name = "rows" if scorer.shape is None else "images"
    example = example.expand(2, *example.shape[1:]).contiguous()  # 1 would stay 1
    options = {
        "input_names": [name],
        "output_names": scorer.output_names,
        "opset_version": OPSET,
        "dynamic_axes": {each: {0: "n"} for each in (name, *scorer.output_names)},
        "external_data": False,
        "verbose": False,
    }
    with TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        file = os.path.join(folder, "detector.onnx")
        try:
            torch.onnx.export(scorer, (example,), file, **options)
        except Exception as error:  # whatever the exporter or a module of the user's may raise
            raise RuntimeError(
                f"torch {torch.__version__} cannot export the backbone to ONNX for batches of "
                f"any size: {reason_of(error)}"
            ) from error
        return imported("onnx").load(file)


def reason_of(error):
    """Beginning of what an error says, or of what caused it."""
    return " ".join(str(error.__cause__ or error).split())[:300] or repr(error)


def computed(joint, inputs, shape):
    """Return what a detector says of inputs: scores, and maps where it draws them."""
    parts = {key: part.summarize for key, part in joint.components.items()}
    found = {"score": joint.score(joint.summarize(inputs, parts))}
    drawing = {key: part.log_maps for key, part in joint.map_components().items()}
    if drawing:
        maps = joint.maps(joint.summarize(inputs, drawing))
        enlarged = [hide_outside(resize_map(drawn, shape), inputs.mask) for drawn in maps]
        found["anomaly_map"] = np.stack(enlarged)
    return found


def run(content, values):
    """Return the outputs of a file's content, by name: of the first image, then in batches."""
    runtime = imported("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    batches = [values[:1], *(values[1:].split(AT_ONCE) if len(values) > 1 else ())]
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        found = [session.run(None, {name: batch.numpy()}) for batch in batches]
        if any(len(out[0]) != len(batch) for out, batch in zip(found, batches, strict=True)):
            raise ValueError("the backbone gives batches of one size alone.")
    except Exception as error:  # of the runtime's own kinds
        raise RuntimeError(
            f"onnxruntime cannot run what torch {torch.__version__} exported: {reason_of(error)}"
        ) from error
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(np.concatenate, zip(*found, strict=True)), strict=True))


def compare(found, expected, offset, unit):
    """Return the greatest difference of each output; RuntimeError where one is too great.

    ``unit`` is the standard deviation of held-out scores, which maps are in units of already.
    """
    decision = expected["score"] - offset
    limits = {"score": ABSOLUTE * unit + RELATIVE * np.abs(decision)}
    if "anomaly_map" in expected:
        limits["anomaly_map"] = ABSOLUTE + RELATIVE * np.abs(expected["anomaly_map"])
    differences = {}
    for name, limit in limits.items():
        same = np.isnan(found[name]) & np.isnan(expected[name])  # of maps, outside of a mask
        difference = np.where(same, 0, np.abs(found[name] - expected[name]))
        differences[name] = float(difference.max())
        if not ((difference <= limit) | same).all():
            raise RuntimeError(
                f"The ONNX file's {name} differs from the detector's by up to "
                f"{differences[name]:.3g}; no file is written."
            )
    sure = np.abs(decision) > limits["score"]
    wrong = sure & (found["label"] != labels_from_decision(decision))
    if wrong.any():
        raise RuntimeError("The ONNX file's labels differ from predict; no file is written.")
    return differences


def properties(differences):
    """Metadata of the file, texts by name."""
    found = {f"difference_{name}": f"{value:.3g}" for name, value in differences.items()}
    return {"skcoft": __version__, "torch": torch.__version__, **found}
