"""How much do a few labelled anomalies help: 0, 1, 5 and 10 of one kind?

With ``negatives="labelled"``, fine-tuning pushes normal images away from the labelled anomalies,
and the score includes a head that separates these from the shots. The script prints the AUROC of
further anomalies of the labelled kind, and of all other kinds, which have no labels. It is the
mean over seeds and over ``--kinds`` kinds of each data set. Data sets without a kind that has 13
anomalies are skipped.

    python benchmarks/labelled.py --data DATA --sets magnetic_tile,mvtec_bottle --seeds 2
"""

import argparse
import ast
import warnings

import numpy as np
from fewshot import LABEL, Task, auroc, draw_shots, make_parser, print_header, read_tasks

from skcoft import COFTDetector

NUMBERS = (0, 1, 5, 10)


def measure(
    task: Task, kind: str, number: int, args: argparse.Namespace, seed: int
) -> tuple[float, float]:
    """Return the AUROC of unlabelled anomalies of a kind, and the mean AUROC of other kinds.

    The latter is NaN if there is no other kind.
    """
    shots, anomalies = draw_shots(task, args.shots, seed), task.anomalies[kind]
    order = np.random.default_rng(seed).permutation(len(anomalies))
    held_out = anomalies[order[max(NUMBERS) :]]  # the same ones for all numbers
    options = ast.literal_eval(args.detector)
    if number:
        options = {"negatives": "labelled", "negative_weight": args.weight, **options}
    X = np.concatenate([shots, anomalies[order[:number]]])
    y = np.repeat([1, -1], [len(shots), number])
    detector = COFTDetector(random_state=seed, **options).fit(X, y)
    normal = detector.score_samples(task.normal)
    other_kinds = [images for name, images in task.anomalies.items() if name != kind]
    other_aurocs = [auroc(normal, detector.score_samples(images)) for images in other_kinds]
    same_auroc = auroc(normal, detector.score_samples(held_out))
    return same_auroc, float(np.mean(other_aurocs or [np.nan]))


def large_kinds(task: Task, max_kinds: int) -> list[str]:
    """Return the names of kinds that still have anomalies after the most have been labelled."""
    return [kind for kind, x in task.anomalies.items() if len(x) > max(NUMBERS) + 2][:max_kinds]


def print_values(label: str, values: np.ndarray) -> None:
    """Print a line of the table; tasks with a single kind have no value for other kinds."""
    cells = " ".join(f"{value:8.1f}" for value in values)
    print(f"{label:{LABEL}s} {np.nanmean(values):5.1f} {cells}", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--kinds", type=int, default=2, help="maximum number per data set")
    parser.add_argument("--weight", type=float, default=0.1, help="weight of the negative pairs")
    parser.add_argument(
        "--numbers", default=",".join(map(str, NUMBERS)), help="numbers of labelled anomalies"
    )
    parser.add_argument("--detector", default="{}", help="further parameters, a Python dict")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    tasks = [task for task in read_tasks(args) if large_kinds(task, args.kinds)]
    print_header(args, tasks, f"weight {args.weight:g}, ")
    for number in map(int, args.numbers.split(",")):
        means = []
        for task in tasks:
            kinds, seeds = large_kinds(task, args.kinds), range(args.seeds)
            runs = [(kind, seed) for kind in kinds for seed in seeds]
            rows = [measure(task, kind, number, args, seed) for kind, seed in runs]
            means.append(np.mean(rows, axis=0))
        same_kind, other_kinds = np.transpose(means)
        print_values(f"{number} labelled, the same kind", same_kind)
        print_values(f"{number} labelled, other kinds", other_kinds)


if __name__ == "__main__":
    main()
