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
from .._evidence.standardization import Standardization
from .._evidence.threshold import labels_from_decision
from .._model import FittedModel
from .._network.module_state import copy_module
from .._utils.files import atomic_write, check_output_path
from .._utils.torch_context import torch_defaults
from .._version import __version__
from .graph import DetectorGraph, MapSize

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
    if Path(path).is_dir():
        raise ValueError(f"path={str(path)!r} is a folder. Name a file in it.")
    path = check_output_path(path)
    for name in ONNX_PACKAGES:
        import_package(name)
    return path


def import_package(name: str) -> ModuleType:
    """Import an optional package; the ImportError says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"to_onnx needs {name}: pip install 'skcoft[onnx]'.") from error


def export_onnx(path: Path, model: FittedModel, inputs: Any) -> dict[str, float]:
    """Write the ONNX file of a fitted model; return its differences from the model on inputs."""
    if len(inputs.by_modality) > 1:
        raise ValueError(
            f"An ONNX file takes one image per sample, but the detector was fitted on samples of "
            f"{list(inputs.by_modality)}. Store it with COFTDetector.save."
        )
    with torch_defaults():
        model, offset = on_cpu(model), model.threshold.value
        values, shape = read_values(inputs, model.encoders[0].bit_depth)
        onnx_model = export_model(DetectorGraph(model.joint, offset, shape), values[:1])
        outputs = run_model(onnx_model.SerializeToString(), values)
        expected = {"score": model.score_as_new(inputs)}
        if model.has_maps:
            expected["anomaly_map"] = np.stack(list(model.maps(inputs)))
    std = Standardization.from_held_out(model.joint.held_out_scores()).std
    differences = compare(outputs, expected, offset, std)
    texts = {f"difference_{name}": f"{value:.3g}" for name, value in differences.items()}
    versions = {"skcoft": __version__, "torch": torch.__version__}
    import_package("onnx").helper.set_model_props(onnx_model, versions | texts)
    atomic_write(path, onnx_model.SerializeToString())
    return differences


def on_cpu(model: FittedModel) -> FittedModel:
    """Return a fitted model with copies of the networks on the CPU."""
    copies = {
        id(encoder): encoder.with_network(
            copy_module(encoder.network).cpu(), "cpu", encoder.sizing
        )
        for encoder in model.encoders
    }
    scores = [replace(s, encoder=copies[id(s.encoder)]) for s in model.joint.backbone_scores]
    return replace(model, joint=JointScore(scores, model.joint.cluster_labels))


def read_values(inputs: Any, bit_depth: int | None) -> tuple[torch.Tensor, MapSize | None]:
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
    with TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        file = os.path.join(folder, "detector.onnx")
        try:
            torch.onnx.export(
                graph,
                (example,),
                file,
                input_names=[name],
                output_names=graph.output_names,
                opset_version=OPSET,
                dynamic_axes={each: {0: "n"} for each in (name, *graph.output_names)},
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # the exporter or a user's module may raise anything
            raise RuntimeError(
                f"torch {torch.__version__} cannot export the backbone to ONNX for batches of "
                f"any size: {first_lines(error)}"
            ) from error
        return import_package("onnx").load(file)


def first_lines(error: Exception) -> str:
    """Return the beginning of the message of an error or its cause."""
    return " ".join(str(error.__cause__ or error).split())[:300] or repr(error)


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
