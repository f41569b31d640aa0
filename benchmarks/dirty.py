"""Wrong images among the shots, and several products in one detector: what do they cost?

The first table replaces 0, 1 or 2 of the shots by anomalies. For each data set it prints

* image AUROC, mean over the kinds of defects;
* the share of anomalies below the automatic threshold, and of normal images;
* the share of fits that warn of any suspect shot;
* the share of fits in which the wrong shots differ at all: their p-value among the clean shots,
  held out, is below 0.05;
* the share of those fits in which all wrong shots are named as suspect.

With ``--mixtures`` it fits one detector on the shots of several data sets instead, and prints the
shares of each beside those of a detector of its own. Both tables are for frozen backbones unless
``--detector`` says otherwise::

    python benchmarks/dirty.py --data DATA --max-test 40 --seeds 2
    python benchmarks/dirty.py --data DATA --max-test 40 --seeds 2 \
        --mixtures mvtec_bottle+magnetic_tile,casting+elpv_mono
"""

import ast
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from fewshot import Task, auroc, draw_shots, make_parser, print_header, print_line, read_tasks
from scipy import stats

from skcoft import COFTDetector

BAD_SHOTS = (0, 1, 2)
P_DIFFERENT = 0.05


class Figures(NamedTuple):
    """Figures of one fit, in percent."""

    auroc: float
    detected: float
    flagged: float
    warned: float
    differ: float
    named: float


def split_anomalies(
    task: Task, seed: int, n_bad: int, n_test: int
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Return anomalies to mix with the shots, and others to test on, of each kind."""
    rng = np.random.default_rng([seed, n_bad])
    shuffled = {kind: rng.permutation(images) for kind, images in task.anomalies.items()}
    kinds = rng.permutation(list(shuffled))
    bad = [shuffled[kinds[i % len(kinds)]][i // len(kinds)] for i in range(n_bad)]
    per_kind = max(4, n_test // len(kinds))
    n_reserved = max(BAD_SHOTS)
    return bad, {kind: x[n_reserved : n_reserved + per_kind] for kind, x in shuffled.items()}


def fit(shots: Sequence[np.ndarray], seed: int, options: dict[str, Any]) -> COFTDetector:
    """Return a detector that is fitted on images, whose shapes may differ."""
    return COFTDetector(random_state=seed, **options).fit([as_rgb(image) for image in shots])


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Return an image with three channels."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def score(detector: COFTDetector, images: np.ndarray) -> np.ndarray:
    """Return the distances of images from the threshold."""
    return detector.decision_function([as_rgb(image) for image in images])


def measure(
    task: Task, n_shots: int, n_bad: int, seed: int, n_test: int, options: dict[str, Any]
) -> Figures:
    """Fit with wrong images among the shots and return the figures."""
    bad, anomalies = split_anomalies(task, seed, n_bad, n_test)
    shots = [*draw_shots(task, n_shots - n_bad, seed), *bad]
    detector = fit(shots, seed, options)
    normal = score(detector, task.normal[:n_test])
    by_kind = [score(detector, images) for images in anomalies.values()]
    held_out = detector.calibration_scores_
    clean, wrong = held_out[: n_shots - n_bad], held_out[n_shots - n_bad :]
    suspects = set(detector.suspect_shots_.tolist())
    differ = n_bad > 0 and all(is_different(clean, value) for value in wrong)
    named = set(range(n_shots - n_bad, n_shots)) <= suspects
    return Figures(
        float(np.mean([auroc(normal, scores) for scores in by_kind])),
        100 * float(np.mean([np.mean(scores < 0) for scores in by_kind])),
        100 * float(np.mean(normal < 0)),
        100 * (len(suspects) > 0),
        100 * differ if n_bad else float("nan"),
        100 * named if differ else float("nan"),
    )


def is_different(clean: np.ndarray, score: float) -> bool:
    """Return whether a score lies below those of clean shots, by a t test at ``P_DIFFERENT``."""
    n = len(clean)
    t = (clean.mean() - score) / (clean.std(ddof=1) * np.sqrt(1 + 1 / n))
    return float(stats.t.sf(t, n - 1)) < P_DIFFERENT


def measure_mixture(
    tasks: Sequence[Task], n_shots: int, seed: int, n_test: int, options: dict[str, Any]
) -> list[tuple[float, float]]:
    """Return the shares of anomalies and normal images below the threshold, for each product."""
    shots = [image for task in tasks for image in draw_shots(task, n_shots, seed)]
    detector = fit(shots, seed, options)
    shares = []
    for task in tasks:
        _, anomalies = split_anomalies(task, seed, 0, n_test)
        below = [np.mean(score(detector, images) < 0) for images in anomalies.values()]
        normal = np.mean(score(detector, task.normal[:n_test]) < 0)
        shares.append((100 * float(np.mean(below)), 100 * float(normal)))
    return shares


def print_bad_shots(tasks: list[Task], args: Any, options: dict[str, Any]) -> None:
    """Print the table of wrong images among the shots."""
    for n_shots in map(int, args.numbers.split(",")):
        for n_bad in BAD_SHOTS:
            rows = [
                np.nanmean(
                    [
                        measure(task, n_shots, n_bad, seed, args.max_test, options)
                        for seed in range(args.seeds)
                    ],
                    axis=0,
                )
                for task in tasks
            ]
            label = f"{n_shots} shots, {n_bad} wrong"
            for name, values in zip(Figures._fields, np.transpose(rows), strict=True):
                if not np.isnan(values).all():
                    print_line(f"{label}, {name}", values)


def print_mixtures(tasks: list[Task], args: Any, options: dict[str, Any]) -> None:
    """Print the shares of each product, in a detector of its own and in one for all."""
    by_name = {task.name: task for task in tasks}
    print(f"{'product':42s}   found: own  mixed   flagged: own  mixed")
    for mixture in args.mixtures.split(","):
        products = [by_name[name] for name in mixture.split("+")]
        settings = args.shots, args.max_test, options
        own, mixed = [], []
        for seed in range(args.seeds):
            n_shots, n_test, options = settings
            own.append([measure_mixture([p], n_shots, seed, n_test, options)[0] for p in products])
            mixed.append(measure_mixture(products, n_shots, seed, n_test, options))
        for i, product in enumerate(products):
            cells = np.mean(own, axis=0)[i], np.mean(mixed, axis=0)[i]
            print(
                f"{product.name} in {mixture:30s} {cells[0][0]:12.1f} {cells[1][0]:6.1f} "
                f"{cells[0][1]:14.1f} {cells[1][1]:6.1f}",
                flush=True,
            )


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--numbers", default="8", help="numbers of shots")
    parser.add_argument("--mixtures", help="names joined by +, comma-separated")
    parser.add_argument("--detector", default="{'max_iter': 0}", help="parameters, a Python dict")
    args = parser.parse_args(argv)
    args.max_test = args.max_test or 40
    warnings.simplefilter("ignore")  # about suspect shots
    if args.mixtures and not args.sets:
        args.sets = ",".join(sorted(set(args.mixtures.replace("+", ",").split(","))))
    n_test, args.max_test = args.max_test, None  # anomalies are also drawn for the shots
    tasks = read_tasks(args)
    args.max_test = n_test
    options = ast.literal_eval(args.detector)
    if args.mixtures:
        print_mixtures(tasks, args, options)
        return
    args_shots, args.shots = args.shots, args.numbers
    print_header(args, tasks)
    args.shots = args_shots
    print_bad_shots(tasks, args, options)


if __name__ == "__main__":
    main()
