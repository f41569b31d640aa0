"""Reference scores in ``golden.json``, so that no change of the method goes unnoticed.

They are seeded and computed on the CPU: synthetic images with four backbones, and tabular data.
``python tests/golden.py`` rewrites the file. A change of figures is then a diff to explain.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from conftest import TinyNet

from skcoft import COFTDetector
from skcoft.density import GaussianDensity, KernelDensity

FILE = Path(__file__).with_name("golden.json")


def stripes(n, seed):
    """Return striped tiles, uint8 (n, 32, 40), which differ slightly in phase and brightness."""
    rng = np.random.default_rng(seed)
    phase = np.arange(40) + rng.uniform(0, 8, (n, 1, 1))
    tiles = 128 + 60 * np.sin(phase * np.pi / 4) + rng.normal(0, 4, (n, 32, 40))
    return (tiles + rng.uniform(-10, 10, (n, 1, 1))).clip(0, 255).astype(np.uint8)


def make_queries():
    """Return three normal tiles, then the same tiles with a dark spot."""
    normal = stripes(3, seed=1)
    spotted = normal.copy()
    spotted[:, 10:20, 20:30] = 20
    return np.concatenate([normal, spotted])


SHOTS, QUERIES = stripes(8, seed=0), make_queries()
ROWS = np.random.default_rng(2).normal(size=(14, 5)) * [1, 2, 3, 4, 5]
EMBEDDED = {"backbone": "embedded", "image_size": 64, "max_iter": 2, "n_views": 2}
TINY = {"backbone": TinyNet(), "max_iter": 4, "learning_rate": 0.001, "n_views": 3}
TRANSFORMER = {"backbone": "test_vit", "weights": None, "image_size": 64, "max_iter": 2}

NATIVE = {
    "backbone": "resnet10t",
    "weights": None,
    "max_pixels": 4096,
    "n_views": 2,
    "max_iter": 1,
}

TWO_BACKBONES = [TinyNet(), TinyNet(width=8, seed=1)]

CASES = {  # name: parameters, shots, images added by partial_fit
    "default": ({"image_size": 64, "max_iter": 2, "n_views": 2}, 8, 0),
    "embedded": (EMBEDDED, 8, 0),
    "embedded, one shot": (EMBEDDED, 1, 0),
    "transformer": (TRANSFORMER, 4, 0),
    "tiny": (TINY, 8, 0),
    "tiny, default views and rate": ({"backbone": TinyNet(), "max_iter": 2}, 5, 0),
    "tiny, two shots": (TINY, 2, 0),
    "tiny, three shots": (TINY, 3, 0),
    "tiny, one shot and three more": (TINY, 1, 3),
    "tiny, four shots and four more": (TINY, 4, 4),
    "tiny, Gaussian": ({**TINY, "density": "gaussian"}, 8, 0),
    "tiny, fixed shrinkage": ({**TINY, "density": GaussianDensity(0.3)}, 8, 0),
    "tiny, likelihood bandwidth": ({**TINY, "density": KernelDensity("loo")}, 8, 0),
    "tiny, whole image": ({**TINY, "local": False}, 2, 0),
    "tiny, not mirrored": ({**TINY, "augmentation": {"flip": 0}}, 5, 0),
    "tiny, no views": ({**TINY, "n_views": 0}, 5, 0),
    "tiny, share of the shots": ({**TINY, "contamination": 0.25}, 4, 4),
    "tiny, infonce": ({**TINY, "contrastive": "infonce"}, 8, 0),
    "tiny, simsiam": ({**TINY, "contrastive": "simsiam"}, 8, 0),
    "tiny, labelled": ({**TINY, "negatives": "labelled", "negative_weight": 1}, 6, 0),
    "tiny, other negatives": ({**TINY, "negatives": ["crack", "smudge", "warp"]}, 8, 0),
    "two backbones": ({**TINY, "backbone": TWO_BACKBONES}, 4, 4),
    "native shapes": (NATIVE, 4, 4),
    "rows": ({"max_iter": 10}, 8, 0),
    "rows, four and four more": ({"max_iter": 10}, 4, 4),
    "rows, one": ({}, 1, 0),
}


def measure(name):
    """Return the detector's results for the queries: a dict of lists of numbers."""
    parameters, n_shots, n_added = CASES[name]
    shots, queries = (ROWS[:8], ROWS[8:]) if name.startswith("rows") else (SHOTS, QUERIES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about few shots
        detector = COFTDetector(**parameters, device="cpu", random_state=0)
        y = [-1, -1] + [1] * (n_shots - 2) if name == "tiny, labelled" else None
        detector.fit(shots[:n_shots], y)
        if n_added:
            detector.partial_fit(shots[n_shots : n_shots + n_added])
    histories = [detector.history_] if isinstance(detector.history_, dict) else detector.history_
    results = {
        "loss": np.concatenate([history.get("loss", []) for history in histories]),
        "scores": detector.score_samples(queries),
        "offset": [detector.offset_],
        "held out": detector.calibration_scores_,
        "p-values": detector.predict_pvalue(queries),
    }
    if shots is SHOTS and detector.local:
        maps = detector.anomaly_map(queries[2:4])
        results["maps"] = np.concatenate([maps.max(axis=(1, 2)), maps[:, ::16, ::16].ravel()])
    return {key: np.asarray(values, dtype=float).tolist() for key, values in results.items()}


def rounded(results):
    """Round to seven digits, the precision of float32; more digits would differ every time."""
    return {key: [float(f"{value:.7g}") for value in values] for key, values in results.items()}


if __name__ == "__main__":
    table = {name: rounded(measure(name)) for name in CASES}
    FILE.write_text(json.dumps(table, indent=None).replace('}, "', '},\n"') + "\n")
