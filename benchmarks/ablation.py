"""Ideas on and off, per data set: terms of the objective, densities, local density, mirror images.

Uses the measuring script ``fewshot.py`` (its tasks, shots and AUROC) and weights named
``<backbone>.safetensors``; both folders are arguments. One training serves four rows, each the
score of a detector with these settings: both densities, without and with the local one.

    python benchmarks/ablation.py --eval EVAL --data DATA --weights WEIGHTS --seeds 3
"""

import time
import warnings
from copy import copy

import numpy as np
from tasks import draw_shots, load, make_parser

from skcoft import COFTDetector

DENSITIES = "kde", "gaussian"
ROWS = [f"{density}{local}" for local in ("", " + local") for density in DENSITIES]
FAMILIES = ("mean_shifted", "infonce", "simsiam")
ALONE = {"positive_weight": 0, "negative_weight": 0}
VARIANTS = {
    "frozen": {"max_iter": 0},
    **{f"{f} alone": {"contrastive": f, **ALONE} for f in FAMILIES},
    "mean_shifted + positives": {"negative_weight": 0},
    "default": {},
    "without mirror images": {"augmentation": {"flip": 0}},
}


def main():
    parser = make_parser(__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--variants", help="comma-separated; all by default")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    auroc, tasks, columns = load(args)
    names = args.variants.split(",") if args.variants else list(VARIANTS)
    weights = args.weights / f"{args.backbone}.safetensors"
    print(f"{args.backbone}, {args.shots} shots, {args.seeds} seeds, max_test={args.max_test}")
    print(f"{'':43s} {'mean':>5s} {columns}")
    for name in names:
        rows = {row: [] for row in ROWS}
        flagged, seconds = [], []
        for _, pool, normal, kinds, _ in tasks:
            found = {row: [] for row in ROWS}
            for seed in range(args.seeds):
                shots = draw_shots(pool, args, seed)
                detector = COFTDetector(
                    args.backbone, weights=weights, random_state=seed, **VARIANTS[name]
                )
                start = time.perf_counter()
                detector.fit(shots)
                seconds.append(time.perf_counter() - start)
                scores = by_row(detector, [normal, *kinds.values()])
                flagged.append(np.mean(scores["kde + local"][0] < detector.offset_))
                for row, (of_normal, *of_kinds) in scores.items():
                    found[row].append(np.mean([auroc(of_normal, s) for s in of_kinds]))
            for row in ROWS:
                rows[row].append(np.mean(found[row]))
        for label, row in rows.items():
            cells = " ".join(f"{value:8.1f}" for value in row)
            print(f"{name:26s} {label:16s} {np.mean(row):5.1f} {cells}", flush=True)
        print(
            f"{'':26s} fit {np.mean(seconds):.1f} s; unseen normals flagged by "
            f"contamination='auto': {np.mean(flagged):.1%}",
            flush=True,
        )


def by_row(detector, sets):
    """Scores of each set of images by each row's detector, all of one training."""
    measured = [detector._measure(images, detector._local, detector._mirror) for images in sets]
    scores = {}
    for density in DENSITIES:
        other = copy(detector).set_params(density=density)
        other._fit_density(
            detector.embedder_,
            detector._support,
            detector._shots,
            detector._own,
            detector._mirrored,
            detector._local,
        )
        for local in (0, other._local_weight):
            parts = [
                other.density_.score_samples(h) + local * (own - other._local.location)
                for h, own in measured
            ]
            parts = [p.reshape(1 + other._mirror, -1).mean(axis=0) for p in parts]
            scores[density + (" + local" if local else "")] = parts
    return {row: scores[row] for row in ROWS}


if __name__ == "__main__":
    main()
