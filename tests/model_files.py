"""Model files in ``tests/data``, which every later version must load, and their expected results.

``python tests/model_files.py`` writes the files of the current version. They must not change after
its release.
"""

import gzip
import json
import warnings
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import timm
import torch
from golden import ROWS, rounded
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from skcoft import COFTDetector, __version__
from skcoft._detector import fitted_model
from skcoft._evidence.threshold import conformal_pvalues
from skcoft._persistence import model_file

DATA = Path(__file__).with_name("data")
RELEASE = __version__.split(".dev")[0]
ARCHITECTURE = "test_efficientnet"  # the smallest of timm's


def tiles(shift):
    """Return gray images with few values, uint8 (4, 32, 32): squares at different positions."""
    images = np.full((4, 32, 32), 200, dtype=np.uint8)
    for i, image in enumerate(images):
        image[4 + shift + 2 * i : 20 + shift, 8 + i : 24] = 60 + 20 * i
    return images


def save_coarse_weights(path):
    """Save weights with three values per layer, so that files with them compress well."""
    rng = np.random.default_rng(0)
    state = timm.create_model(ARCHITECTURE, num_classes=0).state_dict()
    for name, value in state.items():
        if value.ndim > 1:
            fan_in = value[0].numel()
            signs = torch.from_numpy(rng.integers(-1, 2, tuple(value.shape)))
            state[name] = signs.to(value) * (1.5 / fan_in**0.5)
    save_file(state, path)


def fit_tabular():
    """Return a detector of tabular data after ``partial_fit`` and ``set_threshold``."""
    detector = COFTDetector(max_iter=5, random_state=0, device="cpu", density="gaussian")
    detector.fit(ROWS[:6], groups=list("aabcde")).partial_fit(ROWS[6:8], groups=["c", "f"])
    return detector.set_threshold(ROWS[8:], max_fpr=0.2)


def fit_images():
    """Return a detector of images at two scales, with a patch density."""
    with TemporaryDirectory() as folder, chdir(folder):
        save_coarse_weights("coarse.safetensors")
        detector = COFTDetector(
            ARCHITECTURE,
            weights="coarse.safetensors",
            max_pixels=32 * 32,
            augmentation={"flip": 0},
            max_iter=0,
            random_state=0,
            device="cpu",
        )
        return detector.fit(tiles(shift=0))


CASES = {"rows": (fit_tabular, ROWS), "images": (fit_images, tiles(shift=5))}


def score_as_new(detector, X):
    """Return the scores of X; 0.1.0 did not recognise training images."""
    return fitted_model(detector).score_as_new(detector._read(X))


def measure(name, detector):
    """Return the detector's results for the queries of a case: a dict of lists of numbers."""
    X = CASES[name][1]
    scores = score_as_new(detector, X)
    results = {
        "scores": scores,
        "offset": [detector.offset_],
        "p-values": conformal_pvalues(detector.calibration_scores_, scores),
        "distances": detector.kneighbors(X)[0][:, 0],
    }
    if name == "images":
        results["maps"] = detector.anomaly_map(X)[:, ::8, ::8].ravel()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # partial_fit replaces the threshold that was set
        results["scores after more shots"] = score_as_new(detector.partial_fit(X[:2]), X)
    return {key: np.asarray(values, dtype=float).tolist() for key, values in results.items()}


def forge(content, path, change=lambda model: None, arrays=None, metadata=None):
    """Write a model file with other contents and a checksum that is right.

    ``change`` changes the JSON in place or returns another text; an array of None is removed.
    """
    path.write_bytes(content)
    original, stored = model_file.read(path)
    model = json.loads(original["model"])
    text = change(model)
    text = text if isinstance(text, str) else json.dumps(model)
    arrays = {**stored, **(arrays or {})}
    arrays = {k: np.ascontiguousarray(v) for k, v in arrays.items() if v is not None}
    forged = {**original, "model": text, **(metadata or {})}
    save_arrays(arrays, path, {**forged, "sha256": model_file.checksum(forged, arrays)})


if __name__ == "__main__":
    table = {}
    for name, (fit, _) in CASES.items():
        detector = fit()
        with TemporaryDirectory() as folder:
            detector.save(Path(folder, name))
            content = Path(folder, name).read_bytes()
        (DATA / f"{name}-{RELEASE}.skcoft.gz").write_bytes(gzip.compress(content))
        table[name] = rounded(measure(name, detector))
    (DATA / f"{RELEASE}.json").write_text(json.dumps(table).replace("], ", "],\n") + "\n")
