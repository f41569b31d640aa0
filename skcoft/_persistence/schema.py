"""Which classes a model file may hold, and the fields of each.

A file from anywhere runs no code, because only the classes in ``CLASSES`` are made from it, with
fields of the types that stand there.
"""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from .._embedder import EMBEDDER_PARAMETERS, COFTEmbedder
from .._evidence.backbone_score import BackboneScore
from .._evidence.image_density import ImageDensity, MeanOfDensities
from .._evidence.joint_score import JointScore
from .._evidence.labelled import LabelledHead
from .._evidence.patch_density import PatchDensity
from .._evidence.patch_kde import PatchKDE
from .._evidence.threshold import Threshold
from .._input.shots import ShotRegistry
from .._input.sizing import Sizing, is_size
from .._model import FittedModel
from .._network.backbone import Backbone, check_recipe
from .._network.encoder import Encoder
from .._network.support import Support
from .._network.tabular import HeldOutStandardizer, TabularNetwork
from ..density import GaussianDensity, KernelDensity
from .fields import FieldType, Sizes, check_fields

TEXT = (str, None)
DENSITY = (KernelDensity, GaussianDensity)
HISTORY = {str: "f _"}
COLUMN_FIELDS = {"n_features_in_": Integral, "feature_names_in_": np.ndarray}

# What the state of each class holds, in the language of ``fields.matches``. Array sizes named by a
# capital letter are equal in the whole file: N images, R rows of a support, K calibration rows, F
# features.
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
        "pixels": (Real, None),
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
    },
    GaussianDensity: {
        "shrinkage": (Real, str),
        "location_": "f8 d",
        "shrinkage_": Real,
        "log_determinant_": Real,
        "_directions": "f8 d r",
        "_spanned": "f8 r",
        "_excess_precision": "f8 r",
        "_ridge": Real,
        **COLUMN_FIELDS,
    },
    KernelDensity: {
        "bandwidth": (Real, str),
        "covariance_type": str,
        "bandwidth_": Real,
        "_shape": (GaussianDensity, None),
        "_center": "f8 w",
        "_kernels": "f8 k v",
        **COLUMN_FIELDS,
    },
    ImageDensity: {"density": DENSITY, "fitted": DENSITY, "held_out_scores": "f8 K"},
    MeanOfDensities: {"members": [ImageDensity], "held_out_scores": "f8 K"},
    PatchKDE: {
        "bandwidth": Real,
        "center": "f4 e",
        "scaled": "f4 k e",
        "exponents": "f4 k",
        "constant": Real,
    },
    PatchDensity: {
        "seed": Integral,
        "coresets": {Integral: "f4 _ e"},
        "bandwidth": Real,
        "kde": PatchKDE,
        "held_out_scores": "f8 K",
        "held_out_minima": "f8 K",
        "in_sample_scores": "f8 N",
        "patch_means": "f8 R e",
        "weight": Real,
    },
    LabelledHead: {
        "coefficients": "f8 d",
        "intercept": Real,
        "held_out_scores": "f8 K",
        "weight": Real,
    },
    BackboneScore: {
        "encoder": Encoder,
        "scale": Real,
        "support": Support,
        "components": {str: (ImageDensity, MeanOfDensities, PatchDensity, LabelledHead)},
        "views": {("n_views", "n_probes", "mirror"): Integral},
    },
    JointScore: {"backbone_scores": [BackboneScore]},
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
    },
}
BY_NAME = {cls.__name__: cls for cls in CLASSES}

# Fitted attributes of the detector; its parameters may hold any of the values above.
FITTED: dict[str, FieldType] = {
    "embedder_": COFTEmbedder,
    "_model": FittedModel,
    **COLUMN_FIELDS,
}


def check_state(cls: type, state: Mapping[str, Any], file_sizes: Sizes) -> None:
    """Raise ValueError unless a state holds the fields of its class.

    An estimator may be fitted, or have parameters only.
    """
    fields = CLASSES[cls]
    if issubclass(cls, BaseEstimator):
        parameters = cls().get_params(deep=False)
        if set(state) <= set(parameters):
            fields = {name: fields[name] for name in parameters}
        state = {**parameters, **state}
    check_fields(cls.__name__, fields, state, file_sizes)
