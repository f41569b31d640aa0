"""Ideas on and off, per data set: terms of the objective, densities, local density, mirror images.

Uses the measuring script ``fewshot.py`` (its tasks, shots and AUROC) and weights named
``<backbone>.safetensors``; both folders are arguments. One training serves four rows, each the
score of a detector with these settings: both densities, without and with the local one.

    python benchmarks/ablation.py --eval EVAL --data DATA --weights WEIGHTS --seeds 3
"""

import tempfile
import time
import warnings
from functools import partial

import numpy as np
from tasks import draw_shots, load, make_parser

from skcoft import COFTDetector

ROWS = {  # the first one is the default
    f"{density}{' + local' if local else ''}": {"density": density, "local": local}
    for local in (True, False)
    for density in ("kde", "gaussian")
}
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
                build = partial(
                    COFTDetector,
                    args.backbone,
                    weights=weights,
                    random_state=seed,
                    **VARIANTS[name],
                )
                values, elapsed, share = measure_rows(build, shots, normal, kinds, auroc)
                seconds.append(elapsed)
                flagged.append(share)
                for row, value in values.items():
                    found[row].append(value)
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


def measure_rows(build, shots, normal, kinds, auroc):
    """AUROC of each row's detector; of the first, seconds to fit and share of normals flagged."""
    values, first = {}, None
    with tempfile.TemporaryDirectory() as memory:
        for row, options in ROWS.items():
            start = time.perf_counter()
            detector = build(memory=memory, **options).fit(shots)
            elapsed = time.perf_counter() - start
            scores = detector.score_samples(normal)
            first = first or (elapsed, np.mean(scores < detector.offset_))
            values[row] = np.mean(
                [auroc(scores, detector.score_samples(x)) for x in kinds.values()]
            )
    return values, *first


if __name__ == "__main__":
    main()
