"""Terms of the objective on and off, per data set, for both densities.

Uses the measuring script ``fewshot.py`` (its tasks, shots and AUROC) and weights named
``<backbone>.safetensors``; both folders are arguments. Both densities are fitted on the same
fine-tuned embeddings, exactly as ``COFTDetector`` does, so one training serves these two rows and
a third, the detector's own score, in which the local density joins the kernel density.

    python benchmarks/ablation.py --eval EVAL --data DATA --weights WEIGHTS --seeds 3
"""

import time
import warnings

import numpy as np
from tasks import draw_shots, load, make_parser

from skcoft import COFTDetector
from skcoft._threshold import fit_density
from skcoft.density import GaussianDensity, KernelDensity

DENSITIES = {"kde": KernelDensity(), "gaussian": GaussianDensity()}
ROWS = [*DENSITIES, "+ local"]
FAMILIES = ("mean_shifted", "infonce", "simsiam")
ALONE = {"positive_weight": 0, "negative_weight": 0}
VARIANTS = {
    "frozen": {"max_iter": 0},
    **{f"{f} alone": {"contrastive": f, **ALONE} for f in FAMILIES},
    "mean_shifted + positives": {"negative_weight": 0},
    "default": {},
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
    print(f"{'':36s} {'mean':>5s} {columns}")
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
                h_normal = detector.embed(normal)
                h_kinds = [detector.embed(images) for images in kinds.values()]
                scores = detector.score_samples(normal)
                flagged.append(np.mean(scores < detector.offset_))
                found["+ local"].append(
                    np.mean([auroc(scores, detector.score_samples(x)) for x in kinds.values()])
                )
                for density, estimator in DENSITIES.items():
                    fitted = fit_density(estimator, detector._support, detector._shots)
                    scores = fitted.score_samples(h_normal)
                    found[density].append(
                        np.mean([auroc(scores, fitted.score_samples(h)) for h in h_kinds])
                    )
            for row in ROWS:
                rows[row].append(np.mean(found[row]))
        for density, row in rows.items():
            cells = " ".join(f"{value:8.1f}" for value in row)
            print(f"{name:27s} {density:8s} {np.mean(row):5.1f} {cells}", flush=True)
        print(
            f"{'':27s} fit {np.mean(seconds):.1f} s; unseen normals flagged by "
            f"contamination='auto': {np.mean(flagged):.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
