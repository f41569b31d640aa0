"""Switch ideas on and off: terms of the objective, densities, patch density, mirror images.

Each fine-tuning serves four lines of the table: both densities, with and without the patch density
(``local``). ``fewshot.py`` documents the data sets and weights.

    python benchmarks/ablation.py --data DATA --weights WEIGHTS
"""

import tempfile
import warnings
from functools import partial
from typing import Any

from fewshot import Row, Task, make_parser, mean, measure, print_header, print_line, read_tasks

from skcoft import COFTDetector

LINES = {  # the first one is the default
    f"{density}{' + local' if local else ''}": {"density": density, "local": local}
    for local in (True, False)
    for density in ("kde", "gaussian")
}
FAMILIES = ("mean_shifted", "infonce", "simsiam")
CONTRASTIVE_ONLY = {"positive_weight": 0, "negative_weight": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "frozen": {"max_iter": 0},
    **{f"{f} alone": {"contrastive": f, **CONTRASTIVE_ONLY} for f in FAMILIES},
    "mean_shifted + positives": {"negative_weight": 0},
    "default": {},
    "without mirror images": {"augmentation": {"flip": 0}},
}


def measure_lines(options: dict[str, Any], task: Task, n_shots: int, seed: int) -> dict[str, Row]:
    """Return the figures of the detector of each line; all share one fine-tuning."""
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


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--variants", help="comma-separated; default: all")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    tasks = read_tasks(args)
    network = {"backbone": args.backbone, "weights": args.weights / f"{args.backbone}.safetensors"}
    print_header(args, tasks, f"{args.backbone}, ")
    for name in args.variants.split(",") if args.variants else VARIANTS:
        run = partial(measure_lines, network | VARIANTS[name])
        task_rows = [[run(task, args.shots, s) for s in range(args.seeds)] for task in tasks]
        for line in LINES:
            values = [mean([row[line] for row in rows], "auroc") for rows in task_rows]
            print_line(f"{name:25s} {line}", values)
        default_rows = [row[next(iter(LINES))] for rows in task_rows for row in rows]
        print(
            f"{'':25s} fit {mean(default_rows, 'fit_s'):.1f} s; normal test images flagged by "
            f"contamination='auto': {mean(default_rows, 'flagged'):.1f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
