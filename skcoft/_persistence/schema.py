"""Which classes a model file may hold, and the fields of each.

A file from anywhere runs no code, because only the classes of ``storable_classes`` are made from
it, with fields of the types that stand there.
"""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from .._embedder import EMBEDDER_PARAMETERS, COFTEmbedder
from .._evidence.backbone_score import BackboneScore
from .._evidence.component import component_state_fields, is_component
from .._evidence.joint_score import JointScore
from .._evidence.threshold import Threshold
from .._input.shots import ShotRegistry
from .._input.sizing import Sizing, is_size
from .._model import FittedModel
from .._network.backbone import Backbone, check_recipe
from .._network.encoder import Encoder
from .._network.support import Support
from .._network.tabular import HeldOutStandardizer, TabularNetwork
from .._utils.params import number
from .fields import FieldType, Sizes, check_fields

TEXT = (str, None)


def is_pixel_count(value: Any) -> bool:
    """Return whether a value is a number of pixels that an image may have."""
    return number(low=0, high=2**31, open_low=True).test(value)


HISTORY = {str: "f _"}
COLUMN_FIELDS = {"n_features_in_": Integral, "feature_names_in_": np.ndarray}

# What the state of each class holds, in the language of ``fields.matches``. Components of the
# score are not in it, because they have ``state_fields``. Array sizes named by a capital letter
# are equal in the whole file: N images, R rows of a support, K calibration rows, F features.
CLASSES: dict[type, dict[str, FieldType]] = {
    Backbone: {
        "version": Integral,
        "recipe": check_recipe,
        "body": {str: np.ndarray},
        "buffers": {("mean", "std"): "f4 3 1 1", ("projection",): "f4 m l"},
        "layers": ([Integral], None),
        "no_maps": TEXT,
        "pairs": {str: str},
        "width": Integral,
        "origin": TEXT,
    },
    TabularNetwork: {
        "mean": "f8 F",
        "scale": "f8 F",
        "body.0.weight": "f4 h F",
        "body.0.bias": "f4 h",
        "body.2.weight": "f4 F h",
        "body.2.bias": "f4 F",
    },
    Sizing: {
        "size": is_size,
        "pixels": (is_pixel_count, None),
        "multiple": Integral,
        "shape": (is_size, None),
    },
    Encoder: {
        "network": (Backbone, TabularNetwork),
        "sizing": (Sizing, None),
        "bit_depth": (Integral, None),
        "mask": ("b _ _", None),
        "device": str,
        "augmentation": ({str: Real}, None),
        "seed": Integral,
        "modality": (Integral, *TEXT),
    },
    COFTEmbedder: {
        **dict.fromkeys(EMBEDDER_PARAMETERS, object),
        "encoders_": [Encoder],
        "history_": (HISTORY, [HISTORY]),
        **COLUMN_FIELDS,
    },
    HeldOutStandardizer: {"network": TabularNetwork, "rows": "f8 R F", "is_reference": "b R"},
    Support: {
        "embeddings": "f8 R d",
        "shot_ids": "i R",
        "roles": "i R",
        "is_calibration": "b R",
        "patches": None,
        "standardizer": (HeldOutStandardizer, None),
        "anomaly_embeddings": ("f8 m d", None),
        "moves": ("f8 q d", None),
        "move_ids": ("i q", None),
        "patch_moves": None,
    },
    BackboneScore: {
        "encoder": Encoder,
        "scale": Real,
        "support": Support,
        "components": {str: is_component},
        "views": {("n_views", "n_probes", "mirror"): Integral},
    },
    JointScore: {"backbone_scores": [BackboneScore], "cluster_labels": ("i N", None)},
    FittedModel: {
        "joint": JointScore,
        "registry": ShotRegistry,
        "calibration_scores": "f8 c",
        "threshold": Threshold,
        "map_threshold": (Real, None),
    },
    Threshold: {"value": Real, "source": TEXT},
    ShotRegistry: {
        "thumbnails": "f N _",
        "jpeg_distances": ("f8 N", "f8 N m"),
        "groups": list,
        "ids": "i N",
        "n_seen": (Integral, None),
    },
}
# Fitted attributes of the detector; its parameters may hold any of the values above.
FITTED: dict[str, FieldType] = {
    "embedder_": COFTEmbedder,
    "_model": FittedModel,
    **COLUMN_FIELDS,
}


def storable_classes() -> dict[type, dict[str, FieldType]]:
    """Return the classes that a model file may hold, with their fields."""
    return {**CLASSES, **component_state_fields()}


def check_state(cls: type, state: Mapping[str, Any], file_sizes: Sizes) -> None:
    """Raise ValueError unless a state holds the fields of its class.

    An estimator may be fitted, or have parameters only.
    """
    fields = storable_classes()[cls]
    if issubclass(cls, BaseEstimator):
        parameters = cls().get_params(deep=False)
        if set(state) <= set(parameters):
            fields = {name: fields[name] for name in parameters}
        state = {**parameters, **state}
    check_fields(cls.__name__, fields, state, file_sizes)
