"""Does the threshold keep its word: unseen normal images that ``contamination="auto"`` flags.

It aims at 5 %. For several numbers of shots, frozen and fine-tuned, beside the AUROC on some 60
anomalies of a task, as many of each kind. With ``--doubled`` each shot comes twice, the second
time with noise of one grey level, which should change neither.

    python benchmarks/thresholds.py --data DATA --max-test 60 --seeds 2
"""

import ast
import warnings

import numpy as np
from fewshot import draw_shots, make_parser, print_head, print_line, read_tasks, score

from skcoft import COFTDetector

SHOTS = (4, 8, 16, 32)
ANOMALIES = 60


def doubled(images, seed):
    """Images and copies of them with noise."""
    noise = np.random.default_rng(seed).integers(-1, 2, images.shape)
    return np.concatenate([images, np.clip(images + noise, 0, 255).astype(np.uint8)])


def measure(task, n_shots, seed, settings, double):
    """Share of the unseen normal images below the threshold, and image AUROC, in percent."""
    shots = draw_shots(task, n_shots, seed)
    shots = doubled(shots, seed) if double else shots
    detector = COFTDetector(random_state=seed, **settings).fit(shots)
    each = max(4, ANOMALIES // len(task.kinds))
    some = {kind: images[:each] for kind, images in task.kinds.items()}
    normal, kinds = score(detector, task._replace(kinds=some))
    return 100 * np.mean(normal < detector.offset_), np.mean(list(kinds.values()))


def measure_seeds(task, n_shots, settings, double, seeds):
    """Means of ``measure`` over seeds."""
    return np.mean([measure(task, n_shots, seed, settings, double) for seed in range(seeds)], 0)


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--iterations", default="0,20", help="of fine-tuning; 0 is frozen")
    parser.add_argument("--numbers", default=",".join(map(str, SHOTS)), help="of shots")
    parser.add_argument("--detector", default="{}", help="other parameters, a Python dict")
    parser.add_argument("--doubled", action="store_true", help="each shot twice")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # of copies
    tasks = read_tasks(args)
    args.shots = args.numbers
    print_head(args, tasks)
    others = ast.literal_eval(args.detector)
    for max_iter in map(int, args.iterations.split(",")):
        settings = {**others, "max_iter": max_iter}
        for n_shots in map(int, args.numbers.split(",")):
            options = n_shots, settings, args.doubled
            rows = [measure_seeds(task, *options, args.seeds) for task in tasks]
            label = f"{n_shots} shots, {max_iter} iterations"
            for what, values in zip(("flagged", "AUROC"), np.transpose(rows), strict=True):
                print_line(f"{label}, {what}", values)


if __name__ == "__main__":
    main()
