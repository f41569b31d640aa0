"""Ideas on and off, per data set: terms of the objective, densities, local density, mirror images.

One training serves four lines, each the detector with these settings: both densities, without and
with the local one. Data sets and weights are those of ``fewshot.py``.

    python benchmarks/ablation.py --data DATA --weights WEIGHTS
"""

import tempfile
import warnings
from functools import partial

from fewshot import make_parser, mean, measure, print_head, print_line, read_tasks

from skcoft import COFTDetector

LINES = {  # the first one is the default
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


def measure_lines(options, task, n_shots, seed):
    """Return the figures of each line's detector; they share one training."""
    with tempfile.TemporaryDirectory() as memory:
        return {
            line: measure(
                lambda seed, line=line: COFTDetector(
                    random_state=seed, memory=memory, **options, **LINES[line]
                ),
                task,
                n_shots,
                seed,
            )
            for line in LINES
        }


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--variants", help="comma-separated; all by default")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    tasks = read_tasks(args)
    network = {"backbone": args.backbone, "weights": args.weights / f"{args.backbone}.safetensors"}
    print_head(args, tasks, f"{args.backbone}, ")
    for name in args.variants.split(",") if args.variants else VARIANTS:
        run = partial(measure_lines, network | VARIANTS[name])
        found = [[run(task, args.shots, s) for s in range(args.seeds)] for task in tasks]
        for line in LINES:
            values = [mean([row[line] for row in rows], "auroc") for rows in found]
            print_line(f"{name:25s} {line}", values)
        first = [row[next(iter(LINES))] for rows in found for row in rows]
        print(
            f"{'':25s} fit {mean(first, 'fit_s'):.1f} s; unseen normals flagged by "
            f"contamination='auto': {mean(first, 'flagged'):.1f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
