"""What a few labelled anomalies are worth: 0, 1, 5 and 10 of one kind.

With ``negatives="labelled"`` normal images are pushed away from them in fine-tuning, and a head
that tells them from the shots counts in the score. AUROC of further anomalies of that kind, and of
all other kinds, which nobody has labelled; the mean over kinds, ``--kinds`` of each data set, and
seeds. Data sets that have no kind of 13 anomalies are left out.

    python benchmarks/labelled.py --data DATA --sets magnetic_tile,mvtec_bottle --seeds 2
"""

import ast
import warnings

import numpy as np
from fewshot import LABEL, auroc, draw_shots, make_parser, print_head, read_tasks

from skcoft import COFTDetector

NUMBERS = (0, 1, 5, 10)


def measure(task, kind, number, args, seed):
    """AUROC of unlabelled anomalies of a kind, and the mean of the other kinds (NaN of none)."""
    shots, anomalies = draw_shots(task, args.shots, seed), task.kinds[kind]
    order = np.random.default_rng(seed).permutation(len(anomalies))
    held_out = anomalies[order[max(NUMBERS) :]]  # the same ones for all numbers
    options = ast.literal_eval(args.detector)
    if number:
        options = {"negatives": "labelled", "negative_weight": args.weight, **options}
    X = np.concatenate([shots, anomalies[order[:number]]])
    y = np.repeat([1, -1], [len(shots), number])
    detector = COFTDetector(random_state=seed, **options).fit(X, y)
    normal = detector.score_samples(task.normal)
    others = [images for name, images in task.kinds.items() if name != kind]
    unseen = [auroc(normal, detector.score_samples(images)) for images in others]
    return auroc(normal, detector.score_samples(held_out)), np.mean(unseen or [np.nan])


def large_kinds(task, most):
    """Return the names of kinds of which some are left when the most have been labelled."""
    return [kind for kind, x in task.kinds.items() if len(x) > max(NUMBERS) + 2][:most]


def print_values(label, values):
    """Print a line of the table; tasks of one kind have no other."""
    cells = " ".join(f"{value:8.1f}" for value in values)
    print(f"{label:{LABEL}s} {np.nanmean(values):5.1f} {cells}", flush=True)


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--kinds", type=int, default=2, help="of each data set, at most")
    parser.add_argument("--weight", type=float, default=0.1, help="of the negative pairs")
    parser.add_argument("--numbers", default=",".join(map(str, NUMBERS)))
    parser.add_argument("--detector", default="{}", help="further parameters, a Python dict")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    tasks = [task for task in read_tasks(args) if large_kinds(task, args.kinds)]
    print_head(args, tasks, f"weight {args.weight:g}, ")
    for number in map(int, args.numbers.split(",")):
        found = []
        for task in tasks:
            kinds, seeds = large_kinds(task, args.kinds), range(args.seeds)
            runs = [(kind, seed) for kind in kinds for seed in seeds]
            rows = [measure(task, kind, number, args, seed) for kind, seed in runs]
            found.append(np.mean(rows, axis=0))
        same, unseen = np.transpose(found)
        print_values(f"{number} labelled, the same kind", same)
        print_values(f"{number} labelled, other kinds", unseen)


if __name__ == "__main__":
    main()
