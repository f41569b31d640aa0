"""Compare colour alone, depth alone, both side by side in one image, and both as modalities.

The data are synthetic plates of ``make_plates`` with their depth images, of 256 x 256 pixels. A
bulge, which only the depth shows, is added to the four kinds of defects. The script prints the
AUROC of each kind of defect and its mean, and the share of normal plates that are flagged. There
are 40 normal plates and 10 of each kind.

    python benchmarks/modalities.py --seeds 2 --detector "{'max_iter': 0}"
"""

import argparse
import ast
from typing import Any

import numpy as np
from fewshot import auroc

from skcoft import COFTDetector
from skcoft.datasets import make_plates

SIZE, NORMAL, PER_KIND, SIGMA, MAX_HEIGHT = 256, 40, 10, 0.05, 0.08

Images = np.ndarray | dict[str, np.ndarray]


def add_bulges(depths: np.ndarray, rng: np.random.Generator) -> None:
    """Add a bulge to each depth image, in place."""
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE
    for depth in depths:
        distance = np.hypot(*(axis - rng.uniform(0.25, 0.75) for axis in (rows, columns)))
        depth += rng.uniform(0.5, 1) * MAX_HEIGHT * np.exp(-((distance / SIGMA) ** 2) / 2)


def make_images(shots: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return colours, depths and kinds of plates: first the shots, then normal, then anomalous."""
    plates = make_plates(shots + NORMAL + PER_KIND, 4 * PER_KIND, size=SIZE, random_state=seed)
    depths, kinds = plates.depths / 65535, plates.kinds.copy()
    bulging = slice(shots + NORMAL, shots + NORMAL + PER_KIND)
    add_bulges(depths[bulging], np.random.default_rng(seed))
    kinds[bulging] = "bulge"
    return plates.images, depths.clip(0, 1).astype(np.float32), kinds


def make_inputs(colour: np.ndarray, depth: np.ndarray) -> dict[str, Images]:
    """Return, by name, the inputs that can be made of both modalities."""
    gray = np.repeat((255 * depth).round().astype(np.uint8)[..., None], 3, axis=3)
    return {
        "colour": colour,
        "depth": depth,
        "side by side in one image": np.concatenate([colour, gray], axis=2),
        "both": {"colour": colour, "depth": depth},
    }


def select(X: Images, samples: slice) -> Images:
    """Return a slice of the samples."""
    return {k: x[samples] for k, x in X.items()} if isinstance(X, dict) else X[samples]


def measure(X: Images, kinds: np.ndarray, shots: int, options: dict[str, Any]) -> list[float]:
    """Return the AUROC of each kind of defect, sorted by name, and the share flagged."""
    detector = COFTDetector(**options).fit(select(X, slice(shots)))
    scores, test_kinds = detector.score_samples(select(X, slice(shots, None))), kinds[shots:]
    normal = scores[test_kinds == "good"]
    aurocs = [auroc(normal, scores[test_kinds == kind]) for kind in sorted({*kinds} - {"good"})]
    return [*aurocs, 100 * np.mean(normal < detector.offset_)]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--detector", default="{}", help="further parameters, a Python dict")
    args = parser.parse_args(argv)
    rows: dict[str, list[list[float]]] = {}
    for seed in range(args.seeds):
        colour, depth, kinds = make_images(args.shots, seed)
        for name, X in make_inputs(colour, depth).items():
            options = {**ast.literal_eval(args.detector), "random_state": seed}
            if name.startswith("side"):  # as many pixels per modality as the other inputs
                options["max_pixels"] = 2 * 2 * 260**2
            rows.setdefault(name, []).append(measure(X, kinds, args.shots, options))
    columns = [*sorted({*kinds} - {"good"}), "flagged"]
    print(f"{'':26s} {'mean':>5s} " + " ".join(f"{column:>12s}" for column in columns))
    for name, values_by_seed in rows.items():
        values = np.mean(values_by_seed, axis=0)
        cells = " ".join(f"{value:12.1f}" for value in values)
        print(f"{name:26s} {values[:-1].mean():5.1f} {cells}", flush=True)


if __name__ == "__main__":
    main()
