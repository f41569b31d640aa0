"""The model file: a fitted detector as one safetensors file, written whole or not at all."""

import json
import os
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as as_safetensors
from sklearn.utils.validation import check_is_fitted

from .._embedder import EMBEDDER_CONSTRAINTS, as_list
from .._network.backbone import ARCHITECTURE_NAME
from .._utils.device import resolve_device
from .._utils.files import atomic_write
from .._utils.params import check_parameters
from .._utils.torch_context import torch_defaults
from .._version import __version__
from .schema import FORMAT, Reader, Writer

VERSIONS = {"skcoft": __version__} | {name: version(name) for name in ("torch", "timm")}


class ModelFileMixin:
    """A fitted detector's way to a file and back."""

    def save(self, path):
        """Write the fitted detector to one file, from which ``load`` makes it again.

        A `safetensors <https://github.com/huggingface/safetensors>`_ file: arrays, and what else
        there is as JSON. It takes the place of an earlier file at once, when all of it is on the
        disk, and holds its own SHA-256. The shots are in it as embeddings and, to know copies of
        them, as pictures of 64 × 64 pixels; rows of features as they are. The cache of ``memory``
        belongs to the machine and is left out; a ``random_state`` that is a ``RandomState`` is
        stored as it stands.

        Parameters
        ----------
        path : str or path-like
            The file, with any suffix; an earlier one is replaced.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        TypeError
            If it has what no file without code can hold: an ``nn.Module``, a callable, a density
            that is not skcoft's. ``joblib.dump`` and ``skops.io.dump`` store these.
        ValueError
            If its backbone is a name that only a hub or a folder knows (``"hf-hub:..."``), or
            something was attached to it.
        OSError
            If the file cannot be written; FileNotFoundError if its folder does not exist.

        See Also
        --------
        load : Make the detector again.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from skcoft import COFTDetector
        >>> X = np.random.default_rng(0).normal(size=(20, 5))
        >>> detector = COFTDetector(max_iter=0, random_state=0).fit(X[:8])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "wall.skcoft")
        ...     detector.save(path)
        ...     again = COFTDetector.load(path)
        >>> bool((again.score_samples(X) == detector.score_samples(X)).all())
        True
        """
        check_is_fitted(self, "embedder_")
        path = _checked(path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"The folder of path={str(path)!r} does not exist.")
        fitted = dict(vars(self))  # as it is now, whatever other threads add to it
        parameters = {name: fitted.pop(name) for name in self.get_params(deep=False)}
        atomic_write(path, to_bytes({**parameters, "memory": None}, fitted))

    @classmethod
    def load(cls, path, device=None):
        """Make a detector of a file that ``save`` wrote; it scores as the one that was saved.

        No code of the file runs, whoever wrote it: it holds arrays and plain values, of which
        skcoft's own objects are made, and networks of timm by the names of their architectures.
        Nothing is fetched. Files of earlier versions are read as well.

        Parameters
        ----------
        path : str or path-like
            The file.
        device : str, torch.device or None, default=None
            Where the network runs; it becomes the parameter ``device`` too. None means where it
            ran when it was saved or, where that is not there, the first CUDA device, else the CPU.

        Returns
        -------
        COFTDetector
            The fitted detector, with ``memory=None``.

        Raises
        ------
        FileNotFoundError
            If the file does not exist.
        ValueError
            If it is not a model file, is damaged or cut off, was changed after it was saved or
            was written by a newer skcoft, or the device is not available.

        See Also
        --------
        save : Write the file.
        """
        put_on = None if device is None else str(resolve_device(device))
        path = _checked(path)
        if not path.exists():
            raise FileNotFoundError(f"There is no model file path={str(path)!r}.")
        metadata, arrays = read(path)
        try:
            model = json.loads(metadata["model"])
            with torch_defaults():
                format_version = int(metadata["format_version"])
                reader = Reader(model["objects"], arrays, put_on, format_version)
                parameters = {k: reader.decode(node) for k, node in model["parameters"].items()}
                detector = cls(**{**parameters, "memory": None})
                fitted = reader.decode_fitted(model["fitted"])
            if device is not None:
                detector.device = fitted["embedder_"].device = device
            check_parameters(detector, cls._constraints)
            check_fitted(detector.backbone, fitted)
        except MemoryError:
            raise
        except Exception as error:  # whatever a file may hold that somebody else wrote
            reason = str(error).rstrip(".") if isinstance(error, ValueError) else repr(error)
            raise ValueError(
                f"No detector can be made of {str(path)!r}, which {_written_by(metadata)} wrote: "
                f"{reason}. Here are {_listed(VERSIONS)}: update what is older, else save the "
                "detector anew."
            ) from error
        vars(detector).update(fitted)
        return detector


def check_names(backbone):
    """Raise ValueError where a backbone's name would be looked up on a hub or in a folder."""
    for name in as_list(backbone):
        if isinstance(name, str) and not ARCHITECTURE_NAME.fullmatch(name):
            raise ValueError(
                f"A model file holds the architectures of timm's registry; backbone={name!r} is "
                "what a hub or a folder says it is. Store such a detector with joblib.dump or "
                "skops.io.dump, or fit with the name of its architecture and a local file as "
                "weights."
            )


def check_fitted(backbone, fitted):
    """Raise ValueError where the fitted attributes of a file do not belong together."""
    embedder, branches = fitted["embedder_"], fitted["_joint"].backbone_scores
    check_parameters(embedder, EMBEDDER_CONSTRAINTS)
    check_names(backbone)
    check_names(embedder.backbone)
    total = sum(encoder.network.width for encoder in embedder.encoders_)
    widths = [{fitted["embeddings_"].shape[1], total}]
    for branch in branches:
        known = branch.components["image"].fitted
        densities = known if isinstance(known, list) else [known]
        found = branch.encoder.network.width, branch.support.embeddings.shape[1]
        widths.append({*found, *(density.n_features_in_ for density in densities)})
    if any(len(found) > 1 for found in widths):
        raise ValueError("networks, embeddings and densities are of different widths")


def to_bytes(parameters, fitted):
    """Return a detector as the contents of a safetensors file."""
    for backbone in (parameters["backbone"], fitted["embedder_"].backbone):
        check_names(backbone)
    writer = Writer()
    model = {
        "parameters": {name: writer.encode(value, name) for name, value in parameters.items()},
        "fitted": writer.encode_fitted(fitted),
        "objects": writer.objects,
    }
    metadata = {
        "format": "skcoft",
        "format_version": str(FORMAT),
        "versions": json.dumps(VERSIONS),
        "model": json.dumps(model),
    }
    digest = checksum(metadata, writer.arrays)
    return as_safetensors(writer.arrays, {**metadata, "sha256": digest})


def checksum(metadata, arrays):
    """SHA-256 of all that a file says, but for this itself."""
    digest = sha256()
    for name, text in sorted(metadata.items()):
        if name != "sha256":
            digest.update(json.dumps([name, text]).encode())
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def read(path):
    """Return metadata and arrays of a model file; ValueError where it is none, or is damaged."""
    name = str(path)
    try:
        with safe_open(name, framework="np") as file:
            metadata = file.metadata() or {}
            is_ours = metadata.get("format") == "skcoft"
            newest = int(metadata.get("format_version", 0)) if is_ours else 0
            known = is_ours and newest <= FORMAT
            # copies: in memory of their own, whatever safetensors does with the file's
            arrays = {key: np.array(file.get_tensor(key)) for key in file.keys()} if known else {}
    except (MemoryError, OSError):
        raise
    except Exception as error:  # whatever bytes may be in a file
        raise ValueError(
            f"{name!r} is no model file, or is cut off or damaged ({error}). Copy it again or "
            "save the detector anew; what joblib, pickle or skops wrote, these read."
        ) from error
    if not is_ours:
        raise ValueError(
            f"{name!r} is a safetensors file, but none that COFTDetector.save wrote. A backbone's "
            "weights are passed as weights=."
        )
    if not known:
        raise ValueError(
            f"{name!r} is of format {newest}, which {_written_by(metadata)} wrote; skcoft "
            f"{__version__} reads formats up to {FORMAT}. Update skcoft."
        )
    found, stored = checksum(metadata, arrays), metadata.get("sha256")
    if found != stored:
        raise ValueError(
            f"{name!r} is damaged or was changed after it was saved: the SHA-256 of its contents "
            f"is {found}, not {stored}. Copy it again or save the detector anew."
        )
    return metadata, arrays


def _written_by(metadata):
    """Return the versions that wrote a file, as text."""
    try:
        return _listed(json.loads(metadata["versions"]))
    except (KeyError, TypeError, ValueError):
        return "an unknown version of skcoft"


def _listed(versions):
    return ", ".join(f"{name} {versions[name]}" for name in VERSIONS)


def _checked(path):
    """Return a path as Path; raise where it is none, or names a folder."""
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"path must be a str or a path-like object; got {path!r}.")
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder; a model is one file.")
    return path
