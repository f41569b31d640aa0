"""What earlier versions called the classes and attributes that files and pickles hold.

Model files of earlier formats name classes and their fields. Pickles of 0.1.0 also name modules.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from .._evidence.threshold import Threshold
from .._model import FittedModel

# Fields that earlier formats lack, by the name of the class in them.
ADDED: dict[str, dict[str, None]] = {
    "Encoder": {"modality": None},
    "Support": {"moves": None, "move_ids": None, "patch_moves": None},
    "Kernels": {"metric": None},
    "PatchKDE": {"metric": None},
    "LocalDensity": {"metric": None},
    "PatchDensity": {"metric": None},
    "JointScore": {"cluster_labels": None},
    "Shots": {"n_seen": None},
    "ShotRegistry": {"n_seen": None},
}
# Fields that are of no use today.
REMOVED = {name: {"in_sample_scores"} for name in ("LocalDensity", "PatchDensity")}
# Class -> its module, its name and its fields today; only what has another name.
RENAMED: dict[str, tuple[str, str, dict[str, str]]] = {
    "Backbone": ("_network.backbone", "Backbone", {"depths": "layers"}),
    "Embedded": ("_network.embedded", "Embedded", {}),
    "OpenClip": ("_network.open_clip", "OpenClip", {}),
    "RowsNetwork": ("_network.tabular", "TabularNetwork", {}),
    "Unseen": ("_network.tabular", "HeldOutStandardizer", {"standard": "is_reference"}),
    "Sizing": ("_input.sizing", "Sizing", {}),
    "Encoder": ("_network.encoder", "Encoder", {"depth": "bit_depth"}),
    "Support": (
        "_network.support",
        "Support",
        {
            "shots": "shot_ids",
            "calibrating": "is_calibration",
            "positions": "patches",
            "unseen": "standardizer",
            "anomalies": "anomaly_embeddings",
        },
    ),
    "WholeImage": (
        "_evidence.image_density",
        "ImageDensity",
        {"held_out": "held_out_scores"},
    ),
    "SeveralDensities": (
        "_evidence.image_density",
        "MeanOfDensities",
        {"held_out": "held_out_scores"},
    ),
    "Kernels": ("_evidence.patch_kde", "PatchKDE", {}),
    "LocalDensity": (
        "_evidence.patch_density",
        "PatchDensity",
        {
            "density": "kde",
            "held_out": "held_out_scores",
            "lows": "held_out_minima",
            "means": "patch_means",
        },
    ),
    "LabelledHead": ("_evidence.labelled", "LabelledHead", {"held_out": "held_out_scores"}),
    "TextPrompts": ("_evidence.prompts", "TextPrompts", {"held_out": "held_out_scores"}),
    "Branch": ("_evidence.backbone_score", "BackboneScore", {"parts": "components"}),
    "JointScore": ("_evidence.joint_score", "JointScore", {"branches": "backbone_scores"}),
    "Shots": (
        "_input.shots",
        "ShotRegistry",
        {"pictures": "thumbnails", "limits": "jpeg_distances", "known": "groups"},
    ),
}
COMPONENT_NAMES = {"whole": "image", "local": "patch"}
# Modules of 0.1.0 -> the classes in them that its pickles name.
MODULES = {
    "_backbone": ["Backbone"],
    "_embedded": ["Embedded"],
    "_rows": ["RowsNetwork", "Unseen"],
    "_sizes": ["Sizing"],
    "_encoder": ["Encoder"],
    "_support": ["Support"],
    "_whole": ["WholeImage", "SeveralDensities"],
    "_kernels": ["Kernels"],
    "_local": ["LocalDensity"],
    "_labelled": ["LabelledHead"],
    "_parts": ["Branch"],
    "_join": ["JointScore"],
    "_groups": ["Shots"],
}


def upgrade(name: str, state: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the class name and the state that an object of earlier formats has today."""
    _, new_name, fields = RENAMED.get(name, ("", name, {}))
    state = {**ADDED.get(name, {}), **state}
    removed = REMOVED.get(name, set())
    state = {fields.get(f, f): value for f, value in state.items() if f not in removed}
    if "components" in state:
        components = state["components"].items()
        state["components"] = {COMPONENT_NAMES.get(key, key): part for key, part in components}
    return new_name, state


def upgrade_detector_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a detector as they are today."""
    if "_joint" not in state:
        return state
    state = dict(state)
    offset, source = state.pop("offset_"), state.pop("_promise")
    if offset != state.pop("_set_offset"):
        source = f"offset_={offset:.6g}"
    model = FittedModel(
        joint=state.pop("_joint"),
        registry=state.pop("_seen"),
        calibration_scores=state.pop("calibration_scores_"),
        threshold=Threshold(offset, source),
        map_threshold=state.pop("map_threshold_"),
    )
    for derived in ("density_", "embeddings_", "classes_"):
        state.pop(derived)
    return {**state, "_model": model}


def install_aliases() -> None:
    """Let pickles of 0.1.0 find the classes of its modules."""
    for module_name, class_names in MODULES.items():
        alias = ModuleType(f"skcoft.{module_name}", "Classes of a module of skcoft 0.1.0.")
        vars(alias).update({name: _reading_old_state(name) for name in class_names})
        sys.modules[alias.__name__] = alias


def _reading_old_state(name: str) -> type:
    """Return a class whose instances take a state of 0.1.0 and become instances of today's."""
    module, new_name, _ = RENAMED[name]
    cls = getattr(import_module(f"skcoft.{module}"), new_name)

    def set_state(self: Any, state: dict[str, Any]) -> None:
        self.__class__ = cls
        getattr(self, "__setstate__", vars(self).update)(upgrade(name, state)[1])

    return type(name, (cls,), {"__setstate__": set_state, "__module__": __name__})
