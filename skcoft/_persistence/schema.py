"""What a model file holds: plain values, arrays and objects of our own classes, nothing else.

:class:`Writer` turns them to JSON and named arrays, :class:`Reader` makes them again. What is made
is on the list ``CLASSES``, of the types and shapes that stand there, so a file from anywhere runs
no code. Objects are written by the state that pickles hold of them.
"""

import json
from numbers import Integral, Real
from os import PathLike, fspath

import numpy as np
import torch
from sklearn.base import BaseEstimator

from .._embedder import EMBEDDER_PARAMETERS, COFTEmbedder
from .._evidence.backbone_score import BackboneScore
from .._evidence.image_density import ImageDensity, MeanOfDensities
from .._evidence.joint_score import JointScore
from .._evidence.labelled import LabelledHead
from .._evidence.patch_density import PatchDensity
from .._evidence.patch_kde import PatchKDE
from .._input.shots import ShotRegistry
from .._input.sizing import Sizing, is_size
from .._network.backbone import Backbone, check_recipe
from .._network.encoder import Encoder
from .._network.support import Support
from .._network.tabular import HeldOutStandardizer, TabularNetwork
from .._utils.torch_context import COLUMNS
from ..density import GaussianDensity, KernelDensity

FORMAT = 3  # of what this version writes; it reads those before as well
TEXT = (str, None)
DENSITY = (KernelDensity, GaussianDensity)
HISTORY = {str: "f _"}
KNOWN_COLUMNS = {"n_features_in_": Integral, "feature_names_in_": np.ndarray}

# What the state of each class holds: see ``fits``. Sizes of arrays with a capital are the same in
# the whole file: N images, R rows of a support, K of them calibrating, F features.
CLASSES = {
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
        **KNOWN_COLUMNS,
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
        **KNOWN_COLUMNS,
    },
    KernelDensity: {
        "bandwidth": (Real, str),
        "covariance_type": str,
        "bandwidth_": Real,
        "_shape": (GaussianDensity, None),
        "_center": "f8 w",
        "_kernels": "f8 k v",
        **KNOWN_COLUMNS,
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
    ShotRegistry: {
        "thumbnails": "f N _",
        "jpeg_distances": ("f8 N", "f8 N m"),
        "groups": list,
        "ids": "i N",
    },
}
ADDED = {"Encoder": {"modality": None}}  # what the state of files of format 1 lacks
# Classes and fields of formats 1 and 2 that have other names today.
RENAMED = {
    "Backbone": ("Backbone", {"depths": "layers"}),
    "RowsNetwork": ("TabularNetwork", {}),
    "Encoder": ("Encoder", {"depth": "bit_depth"}),
    "Unseen": ("HeldOutStandardizer", {"standard": "is_reference"}),
    "Support": (
        "Support",
        {
            "shots": "shot_ids",
            "calibrating": "is_calibration",
            "positions": "patches",
            "unseen": "standardizer",
            "anomalies": "anomaly_embeddings",
        },
    ),
    "WholeImage": ("ImageDensity", {"held_out": "held_out_scores"}),
    "SeveralDensities": ("MeanOfDensities", {"held_out": "held_out_scores"}),
    "Kernels": ("PatchKDE", {}),
    "LocalDensity": (
        "PatchDensity",
        {
            "density": "kde",
            "held_out": "held_out_scores",
            "lows": "held_out_minima",
            "means": "patch_means",
        },
    ),
    "LabelledHead": ("LabelledHead", {"held_out": "held_out_scores"}),
    "Branch": ("BackboneScore", {"parts": "components"}),
    "JointScore": ("JointScore", {"branches": "backbone_scores"}),
    "Shots": (
        "ShotRegistry",
        {"pictures": "thumbnails", "limits": "jpeg_distances", "known": "groups"},
    ),
}
COMPONENT_NAMES = {"whole": "image", "local": "patch"}  # likewise
BY_NAME = {cls.__name__: cls for cls in CLASSES}

FITTED = {  # of the detector itself, beside its parameters
    "embedder_": COFTEmbedder,
    "_joint": JointScore,
    "density_": (*DENSITY, [(*DENSITY, [DENSITY])]),
    "embeddings_": "f8 N _",
    "classes_": "i 2",
    "offset_": Real,
    "_set_offset": Real,
    "map_threshold_": (Real, None),
    "calibration_scores_": "f8 c",
    "_promise": TEXT,
    "_seen": ShotRegistry,
    **KNOWN_COLUMNS,
}

NUMBERS = {  # NumPy's, by which a sum is rounded otherwise than by Python's
    name: np.dtype(name).type for name in ("bool", "int32", "int64", "float32", "float64")
}
DTYPES = (*NUMBERS, "int8", "int16", "uint8", "uint16", "uint32", "uint64", "float16")
HINTS = {
    "density": "; density='kde' or 'gaussian' and the classes of skcoft.density can be held",
    "backbone": "; the name of an architecture of timm's can be held",
    "augmentation": "; a dict of options can be held",
    "negatives": "; names can be held",
    "random_state": "; an integer can be held",
    "_seen": "; groups= of numbers or text can be held",
}


def check_fields(owner, fields, state, shared):
    """Raise ValueError where a state does not hold what it should, or something else.

    ``shared`` are the sizes of arrays that hold for the whole file, as far as they are known.
    """
    unknown = sorted(set(state) - set(fields))
    if unknown:
        raise ValueError(f"{owner} has {unknown[0]!r}, which a model file does not hold")
    missing = sorted(set(fields) - set(state) - set(COLUMNS))
    if missing:
        raise ValueError(f"{owner} lacks {', '.join(missing)}")
    own = {}
    for name, value in state.items():
        if not fits(value, fields[name], own, shared):
            raise ValueError(f"{owner} has {_described(value)} as {name!r}, which does not fit")


def check_state(cls, state, shared):
    """Check the fields of an object; an estimator has all that fits set, or parameters alone."""
    fields = CLASSES[cls]
    if issubclass(cls, BaseEstimator):
        parameters = cls().get_params(deep=False)
        alone = set(state) <= set(parameters)
        fields = {name: fields[name] for name in parameters} if alone else fields
        state = {**parameters, **state}
    check_fields(cls.__name__, fields, state, shared)


def fits(value, wanted, own, shared):
    """Whether a value is what is wanted.

    A class, None, a function that says so, a tuple of alternatives, a list or dict of such values
    (by the type of the keys, or by the keys), or text for an array: its type as NumPy abbreviates
    it, and the name of each of its sizes, or the size. Those of one name are the same.
    """
    if isinstance(wanted, str):
        return _fits_array(value, wanted, own, shared)
    if isinstance(wanted, tuple):
        return any(fits(value, option, own, shared) for option in wanted)
    if isinstance(wanted, list):
        return isinstance(value, list) and all(
            fits(item, wanted[0], own, shared) for item in value
        )
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            any(_is_key(key, keys) and fits(item, w, own, shared) for keys, w in wanted.items())
            for key, item in value.items()
        )
    if wanted is None or isinstance(wanted, type):
        return isinstance(value, wanted or type(None))
    return wanted(value)


def _is_key(key, wanted):
    return key in wanted if isinstance(wanted, tuple) else isinstance(key, wanted)


def _fits_array(value, wanted, own, shared):
    dtype, *names = wanted.split()
    if not isinstance(value, np.ndarray) or not value.dtype.str[1:].startswith(dtype):
        return False
    if value.ndim != len(names):
        return False
    for name, size in zip(names, value.shape, strict=True):
        known = shared if name.isupper() else own
        if name.isdigit() and size != int(name):
            return False
        if name != "_" and known.setdefault(name, size) != size:
            return False
    return True


def _described(value):
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}, shape {value.shape},"
    return f"a {type(value).__name__}"


def upgrade(name, state):
    """Return the name and state that an object of formats 1 and 2 has today."""
    new_name, fields = RENAMED.get(name, (name, {}))
    state = {**ADDED.get(name, {}), **state}
    state = {fields.get(field, field): value for field, value in state.items()}
    if "components" in state:
        components = state["components"].items()
        state["components"] = {COMPONENT_NAMES.get(key, key): part for key, part in components}
    return new_name, state


class Writer:
    """From values to what JSON holds, the arrays put aside.

    None, booleans, whole numbers, floats, text and lists stand for themselves; everything else is
    a dict with the one key that says how to make it again.

    Attributes
    ----------
    arrays : dict of str to ndarray
        The arrays, by where they were met.
    objects : list of dict
        Class and state of every object, once, after the objects that it holds.
    """

    def __init__(self):
        self.arrays = {}
        self.objects = []
        self._met = {}
        self._shared = {}

    def encode(self, value, where):
        """Encode a value; TypeError, which says ``where``, for what a model file cannot hold."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, list):
            return self._encode_items(value, where)
        if isinstance(value, tuple):
            return {"tuple": self._encode_items(value, where)}
        if isinstance(value, dict):
            items = [[k, self.encode(v, f"{where}.{k}")] for k, v in value.items()]
            return {"dict": [[self.encode(k, where), v] for k, v in items]}
        if type(value) in CLASSES:
            return {"object": self._encode_object(value, where)}
        return self._encode_array(value, where)

    def encode_fitted(self, state):
        """Encode the detector's own fitted attributes."""
        encoded = {name: self.encode(value, name) for name, value in state.items()}
        check_fields("the detector", FITTED, state, self._shared)
        return encoded

    def _encode_items(self, values, where):
        return [self.encode(value, f"{where}.{i}") for i, value in enumerate(values)]

    def _encode_object(self, value, where):
        if id(value) not in self._met:
            if isinstance(value, Backbone) and value.recipe is None:
                raise refusal(where, value.body)
            state = value.__getstate__()
            encoded = {name: self.encode(v, f"{where}.{name}") for name, v in state.items()}
            check_state(type(value), state, self._shared)
            self.objects.append({"class": type(value).__name__, "state": encoded})
            self._met[id(value)] = len(self.objects) - 1
        return self._met[id(value)]

    def _encode_array(self, value, where):
        if not isinstance(value, np.ndarray):
            return self._encode_other(value, where)
        if value.dtype.name in DTYPES:
            # the layout counts: matrix products of another one add up in another order
            turned = value.flags.f_contiguous and not value.flags.c_contiguous
            while where in self.arrays:
                where += "_"
            self.arrays[where] = np.ascontiguousarray(value.T if turned else value)
            return {"transposed" if turned else "array": where}
        if all(isinstance(text, str) for text in value.flat):
            return {"names": [str(text) for text in value.flat]}
        raise refusal(where, value)

    def _encode_other(self, value, where):
        """Encode what parameters may be of NumPy's, torch's and Python's classes."""
        if isinstance(value, np.generic) and value.dtype.name in NUMBERS:
            return {"number": [value.dtype.name, value.item()]}
        if isinstance(value, (np.str_, PathLike)):
            return str(fspath(value))
        if isinstance(value, torch.device):
            return {"device": str(value)}
        if isinstance(value, np.random.RandomState):
            state = value.get_state(legacy=False)
            if state["bit_generator"] == "MT19937":
                return {"random_state": self.encode(state, where)}
        raise refusal(where, value)


def refusal(where, value):
    """Return the TypeError for what a model file cannot hold."""
    kind = type(value)
    if hasattr(value, "__qualname__"):  # a function or class
        seen = f"{value.__module__}.{value.__qualname__}"
    else:
        seen = f"an object of {kind.__module__}.{kind.__qualname__}"
    # skops stores modules of torch and cannot load them
    tools = "joblib.dump" if isinstance(value, torch.nn.Module) else "joblib.dump or skops.io.dump"
    return TypeError(
        f"A model file holds plain values, arrays and skcoft's own objects, no code of others: "
        f"{where} is {seen}. Store such a detector with {tools}"
        f"{HINTS.get(where.partition('.')[0], '')}."
    )


class Reader:
    """From what JSON holds, and arrays, to the values that were written.

    Parameters
    ----------
    objects : list of dict
        As of :class:`Writer`.
    arrays : dict of str to ndarray
        Likewise.
    device : str or None
        Where networks are put, instead of the device in the file.
    format_version : int
        Format of the file.
    """

    def __init__(self, objects, arrays, device=None, format_version=FORMAT):
        self.arrays = arrays
        self.device = device
        self.format_version = format_version
        self._shared = {}
        self._made = []
        for node in objects:
            self._made.append(self._make(node["class"], node["state"]))

    def decode(self, node):
        """Return the value that a node stands for; an error of any kind where it is none."""
        if isinstance(node, list):
            return [self.decode(item) for item in node]
        if not isinstance(node, dict):
            return node
        ((kind, content),) = node.items()
        if kind == "tuple":
            return tuple(self.decode(content))
        if kind == "dict":
            return {self.decode(key): self.decode(value) for key, value in content}
        if kind == "object":
            return self._made[content]
        if kind == "array":
            return self.arrays[content]
        if kind == "transposed":
            return self.arrays[content].T
        if kind == "names":
            return np.array([str(text) for text in content], dtype=object)
        if kind == "number":
            return NUMBERS[content[0]](content[1])
        if kind == "random_state":
            state = np.random.RandomState(0)
            state.set_state(self.decode(content))
            return state
        if kind == "device":
            return torch.device(str(content))
        raise ValueError(f"it holds a {json.dumps(kind)}, which is unknown")

    def decode_fitted(self, nodes):
        """Return the detector's own fitted attributes."""
        state = {name: self.decode(node) for name, node in nodes.items()}
        check_fields("the detector", FITTED, state, self._shared)
        return state

    def _make(self, name, nodes):
        state = {field: self.decode(node) for field, node in nodes.items()}
        if self.format_version < 3:
            name, state = upgrade(name, state)
        if name not in BY_NAME:
            raise ValueError(f"it names the class {name!r}, which a model file does not hold")
        cls = BY_NAME[name]
        check_state(cls, state, self._shared)
        if cls is Encoder and self.device is not None:
            state["device"] = self.device
        # an estimator of an earlier version may lack parameters, which then have their defaults
        made = cls() if issubclass(cls, BaseEstimator) else cls.__new__(cls)
        if hasattr(made, "__setstate__"):
            made.__setstate__(state)
        else:
            vars(made).update(state)
        return made
