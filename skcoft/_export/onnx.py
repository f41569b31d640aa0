"""ONNX files: write a fitted detector to one file after comparing it with the detector."""

import os
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import torch

from .._evidence.joint_score import JointScore
from .._evidence.maps import resize_map
from .._evidence.standardization import Standardization
from .._evidence.threshold import labels_from_decision
from .._input.mask import hide_outside
from .._network.encoder import Encoder
from .._network.module_state import copy_module
from .._utils.files import atomic_write
from .._utils.torch_context import torch_defaults
from .._version import __version__
from .graph import DetectorGraph

Outputs = dict[str, np.ndarray]

ONNX_PACKAGES = "onnx", "onnxruntime", "onnxscript"
OPSET = 18  # of 2022, which all current runtimes support
CHECK_BATCH_SIZE = 8  # of the comparison with the detector
# Largest differences: relative to the standard deviation of held-out scores, which is the unit of
# maps, and relative to the value. Networks have single precision and runtimes round differently,
# but this causes only about a hundredth of the tolerance.
STD_TOL, VALUE_TOL = 1e-3, 1e-5


def check_export(path: str | os.PathLike[str]) -> Path:
    """Return the path of an ONNX file; raise if it cannot be written or a package is missing."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder of path={str(path)!r} does not exist.")
    if path.is_dir():
        raise ValueError(f"path={str(path)!r} is a folder. Name a file in it.")
    for name in ONNX_PACKAGES:
        import_package(name)
    return path


def import_package(name: str) -> ModuleType:
    """Import an optional package; the ImportError says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"to_onnx needs {name}: pip install 'skcoft[onnx]'.") from error


def export_onnx(path: Path, joint: JointScore, offset: float, inputs: Any) -> dict[str, float]:
    """Write the ONNX file of a score and a threshold; return its differences on inputs."""
    with torch_defaults():
        model, differences = export_and_compare(on_cpu(joint), offset, inputs)
    atomic_write(path, model.SerializeToString())
    return differences


def export_and_compare(
    joint: JointScore, offset: float, inputs: Any
) -> tuple[Any, dict[str, float]]:
    """Return the ONNX model of a score, and its largest differences from the score on inputs."""
    if len(inputs.by_modality) > 1:
        raise ValueError(
            f"An ONNX file takes one image per sample, but the detector was fitted on samples of "
            f"{list(inputs.by_modality)}. Store it with COFTDetector.save."
        )
    values, shape = read_values(inputs, joint.backbone_scores[0].encoder.bit_depth)
    model = export_model(DetectorGraph(joint, offset, shape), values[:1])
    outputs = run_model(model.SerializeToString(), values)
    std = Standardization.from_held_out(joint.held_out_scores()).std
    differences = compare(outputs, detector_outputs(joint, inputs, shape), offset, std)
    import_package("onnx").helper.set_model_props(model, metadata(differences))
    return model, differences


def on_cpu(joint: JointScore) -> JointScore:
    """Return a joint score with copies of the networks on the CPU."""
    copies: dict[int, Encoder] = {}
    for encoder in (score.encoder for score in joint.backbone_scores):
        if id(encoder) not in copies:
            network = copy_module(encoder.network).cpu()
            copies[id(encoder)] = encoder.with_network(network, "cpu", encoder.sizing)
    return JointScore([replace(b, encoder=copies[id(b.encoder)]) for b in joint.backbone_scores])


def read_values(inputs: Any, bit_depth: int | None) -> tuple[torch.Tensor, tuple[int, int] | None]:
    """Return the input of the file as a tensor, and the shape (H, W) of images or None."""
    if not inputs.defaults.needs_backbone:
        return torch.from_numpy(inputs.values), None
    shape = inputs.common_size
    if shape is None:
        sizes = ", ".join(f"{height}x{width}" for height, width in sorted(set(inputs.sizes)))
        raise ValueError(
            f"An ONNX file takes images of one size, but the images of X have the sizes {sizes}. "
            "Pass images of one size, and write a file for each size."
        )
    return inputs.masked(None).load(torch.arange(len(inputs)), shape, bit_depth), shape


def export_model(graph: DetectorGraph, example: torch.Tensor) -> Any:
    """Return the ONNX model of a graph, by the default exporter of the installed torch.

    Before torch 2.9, this is the TorchScript exporter. The new exporters of torch 2.5 and 2.6
    fail on matrix products with a dynamic batch size.
    """
    name = "rows" if graph.shape is None else "images"
    example = example.expand(2, *example.shape[1:]).contiguous()  # a size of 1 would be constant
    options = {
        "input_names": [name],
        "output_names": graph.output_names,
        "opset_version": OPSET,
        "dynamic_axes": {each: {0: "n"} for each in (name, *graph.output_names)},
        "external_data": False,
        "verbose": False,
    }
    with TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        file = os.path.join(folder, "detector.onnx")
        try:
            torch.onnx.export(graph, (example,), file, **options)
        except Exception as error:  # the exporter or a user's module may raise anything
            raise RuntimeError(
                f"torch {torch.__version__} cannot export the backbone to ONNX for batches of "
                f"any size: {first_lines(error)}"
            ) from error
        return import_package("onnx").load(file)


def first_lines(error: Exception) -> str:
    """Return the beginning of the message of an error or its cause."""
    return " ".join(str(error.__cause__ or error).split())[:300] or repr(error)


def detector_outputs(joint: JointScore, inputs: Any, shape: tuple[int, int] | None) -> Outputs:
    """Return the scores of a detector, and its maps if it has any."""
    summarize = {key: component.summarize for key, component in joint.components.items()}
    outputs = {"score": joint.score(joint.summarize(inputs, summarize))}
    log_maps = {key: component.log_maps for key, component in joint.map_components().items()}
    if log_maps:
        maps = joint.maps(joint.summarize(inputs, log_maps))
        resized = [
            hide_outside(resize_map(anomaly_map, shape), inputs.mask) for anomaly_map in maps
        ]
        outputs["anomaly_map"] = np.stack(resized)
    return outputs


def run_model(content: bytes, values: torch.Tensor) -> Outputs:
    """Return the outputs of an ONNX model: of the first input alone, of the others in batches."""
    runtime = import_package("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    batches = [values[:1], *(values[1:].split(CHECK_BATCH_SIZE) if len(values) > 1 else ())]
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        outputs = [session.run(None, {name: batch.numpy()}) for batch in batches]
        if any(len(out[0]) != len(batch) for out, batch in zip(outputs, batches, strict=True)):
            raise ValueError("the backbone works for one batch size only.")
    except Exception as error:  # onnxruntime has its own classes of errors
        raise RuntimeError(
            f"onnxruntime cannot run what torch {torch.__version__} exported: {first_lines(error)}"
        ) from error
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(np.concatenate, zip(*outputs, strict=True)), strict=True))


def compare(outputs: Outputs, expected: Outputs, offset: float, std: float) -> dict[str, float]:
    """Return the largest difference of each output; raise RuntimeError if one is too large.

    ``std`` is the standard deviation of held-out scores, which is the unit of maps.
    """
    decision = expected["score"] - offset
    limits = {"score": STD_TOL * std + VALUE_TOL * np.abs(decision)}
    if "anomaly_map" in expected:
        limits["anomaly_map"] = STD_TOL + VALUE_TOL * np.abs(expected["anomaly_map"])
    differences = {}
    for name, limit in limits.items():
        both_nan = np.isnan(outputs[name]) & np.isnan(expected[name])  # maps outside of a mask
        difference = np.where(both_nan, 0, np.abs(outputs[name] - expected[name]))
        differences[name] = float(difference.max())
        if not ((difference <= limit) | both_nan).all():
            raise RuntimeError(
                f"The {name} of the ONNX file differs from that of the detector by up to "
                f"{differences[name]:.3g}, so no file is written."
            )
    is_certain = np.abs(decision) > limits["score"]
    if (is_certain & (outputs["label"] != labels_from_decision(decision))).any():
        raise RuntimeError(
            "The label of the ONNX file differs from that of predict, so no file is written."
        )
    return differences


def metadata(differences: dict[str, float]) -> dict[str, str]:
    """Return the metadata of the file."""
    texts = {f"difference_{name}": f"{value:.3g}" for name, value in differences.items()}
    return {"skcoft": __version__, "torch": torch.__version__, **texts}
