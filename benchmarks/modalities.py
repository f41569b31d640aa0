"""Colour and depth of one part: each alone, side by side in one image, and both together.

Drawn plates of ``make_plates`` with their depths, of 256 x 256 pixels; to its four defects comes a
bulge, which the depth alone shows. AUROC for each kind of defect and its mean, 40 normal plates
and 10 of each kind, and the share of normal plates that is flagged.

    python benchmarks/modalities.py --seeds 2 --detector "{'max_iter': 0}"
"""

import argparse
import ast

import numpy as np
from fewshot import auroc

from skcoft import COFTDetector
from skcoft.datasets import make_plates

SIZE, NORMAL, EACH, SIGMA, HIGHEST = 256, 40, 10, 0.05, 0.08


def bulge(depths, rng):
    """Let plates bulge, in place, at a spot each."""
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE
    for depth in depths:
        away = np.hypot(*(axis - rng.uniform(0.25, 0.75) for axis in (rows, columns)))
        depth += rng.uniform(0.5, 1) * HIGHEST * np.exp(-((away / SIGMA) ** 2) / 2)


def draw(shots, seed):
    """Return colours and depths, of shots, then normal and anomalous plates, and their kinds."""
    plates = make_plates(shots + NORMAL + EACH, 4 * EACH, size=SIZE, random_state=seed)
    depths, kinds = plates.depths / 65535, plates.kinds.copy()
    bulging = slice(shots + NORMAL, shots + NORMAL + EACH)
    bulge(depths[bulging], np.random.default_rng(seed))
    kinds[bulging] = "bulge"
    return plates.images, depths.clip(0, 1).astype(np.float32), kinds


def forms(colour, depth):
    """What a detector may be given of both."""
    gray = np.repeat((255 * depth).round().astype(np.uint8)[..., None], 3, axis=3)
    return {
        "colour": colour,
        "depth": depth,
        "side by side in one image": np.concatenate([colour, gray], axis=2),
        "both": {"colour": colour, "depth": depth},
    }


def part_of(X, part):
    """Return a slice of the samples."""
    return {k: x[part] for k, x in X.items()} if isinstance(X, dict) else X[part]


def measure(X, kinds, shots, options):
    """Return the AUROC of each kind of defect, in the order of names, and the share flagged."""
    detector = COFTDetector(**options).fit(part_of(X, slice(shots)))
    scores, rest = detector.score_samples(part_of(X, slice(shots, None))), kinds[shots:]
    normal = scores[rest == "good"]
    areas = [auroc(normal, scores[rest == kind]) for kind in sorted({*kinds} - {"good"})]
    return [*areas, 100 * np.mean(normal < detector.offset_)]


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--detector", default="{}", help="further parameters, a Python dict")
    args = parser.parse_args(argv)
    found = {}
    for seed in range(args.seeds):
        colour, depth, kinds = draw(args.shots, seed)
        for name, X in forms(colour, depth).items():
            options = {**ast.literal_eval(args.detector), "random_state": seed}
            if name.startswith("side"):  # as many pixels of each picture
                options["max_pixels"] = 2 * 2 * 260**2
            found.setdefault(name, []).append(measure(X, kinds, args.shots, options))
    columns = [*sorted({*kinds} - {"good"}), "flagged"]
    print(f"{'':26s} {'mean':>5s} " + " ".join(f"{column:>12s}" for column in columns))
    for name, rows in found.items():
        values = np.mean(rows, axis=0)
        cells = " ".join(f"{value:12.1f}" for value in values)
        print(f"{name:26s} {values[:-1].mean():5.1f} {cells}", flush=True)


if __name__ == "__main__":
    main()
