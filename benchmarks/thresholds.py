"""False positive rate of the automatic threshold, ``contamination="auto"``: does it meet 5 %?

The script prints the share of normal test images that are flagged, for several numbers of shots,
frozen and fine-tuned. It also prints the AUROC on about 60 anomalies of a task, the same number of
each kind. With ``--doubled`` each shot is used twice, the second time with noise of one gray
level. This should change neither figure.

    python benchmarks/thresholds.py --data DATA --max-test 60 --seeds 2
"""

import ast
import warnings
from typing import Any

import numpy as np
from fewshot import (
    Task,
    draw_shots,
    make_parser,
    print_header,
    print_line,
    read_tasks,
    score_task,
)

from skcoft import COFTDetector

SHOTS = (4, 8, 16, 32)
ANOMALIES = 60


def add_noisy_duplicates(images: np.ndarray, seed: int) -> np.ndarray:
    """Return the images followed by duplicates of them with noise."""
    noise = np.random.default_rng(seed).integers(-1, 2, images.shape)
    return np.concatenate([images, np.clip(images + noise, 0, 255).astype(np.uint8)])


def measure(
    task: Task, n_shots: int, seed: int, options: dict[str, Any], doubled: bool
) -> tuple[float, float]:
    """Return the share of normal test images below the threshold, and image AUROC, in percent."""
    shots = draw_shots(task, n_shots, seed)
    shots = add_noisy_duplicates(shots, seed) if doubled else shots
    detector = COFTDetector(random_state=seed, **options).fit(shots)
    per_kind = max(4, ANOMALIES // len(task.anomalies))
    anomalies = {kind: images[:per_kind] for kind, images in task.anomalies.items()}
    normal, aurocs = score_task(detector, task._replace(anomalies=anomalies))
    flagged = 100 * np.mean(normal < detector.offset_)
    return float(flagged), float(np.mean(list(aurocs.values())))


def measure_seeds(
    task: Task, n_shots: int, options: dict[str, Any], doubled: bool, seeds: int
) -> np.ndarray:
    """Return the means of ``measure`` over seeds."""
    return np.mean([measure(task, n_shots, seed, options, doubled) for seed in range(seeds)], 0)


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--iterations", default="0,20", help="numbers of fine-tuning iterations; 0 is frozen"
    )
    parser.add_argument("--numbers", default=",".join(map(str, SHOTS)), help="numbers of shots")
    parser.add_argument("--detector", default="{}", help="further parameters, a Python dict")
    parser.add_argument("--doubled", action="store_true", help="use each shot twice")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # about duplicates
    tasks = read_tasks(args)
    args.shots = args.numbers
    print_header(args, tasks)
    further_options = ast.literal_eval(args.detector)
    for max_iter in map(int, args.iterations.split(",")):
        options = {**further_options, "max_iter": max_iter}
        for n_shots in map(int, args.numbers.split(",")):
            settings = n_shots, options, args.doubled
            rows = [measure_seeds(task, *settings, args.seeds) for task in tasks]
            label = f"{n_shots} shots, {max_iter} iterations"
            for figure, values in zip(("flagged", "AUROC"), np.transpose(rows), strict=True):
                print_line(f"{label}, {figure}", values)


if __name__ == "__main__":
    main()
