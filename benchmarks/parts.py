"""Does the join lose anything: AUROC of every part of the score alone, and of all joined.

A line a task, the means over seeds and kinds. Parts: the densities of whole images and of
positions, at each of the scales that images are seen at.

    python benchmarks/parts.py --data DATA --max-test 40
"""

import ast
import warnings

import numpy as np
from fewshot import LABEL, auroc, draw_shots, make_parser, read_tasks

from skcoft import COFTDetector


def alone_and_joined(detector, images):
    """Scores of images by every part of a fitted detector, and by all of them."""
    joint, kept = detector._model.joint, detector._model.summarize(detector._read(images))
    scores = {
        f"{name} x{joint.backbone_scores[i].scale:g}": part.score(kept[i, name])
        for (i, name), part in joint.components.items()
    }
    return {**scores, "joined": joint.score(kept)}


def aurocs(task, args, seed):
    """AUROC of every part and of all joined, the mean over kinds of anomalies."""
    detector = COFTDetector(random_state=seed, **ast.literal_eval(args.detector))
    detector.fit(draw_shots(task, args.shots, seed))
    normal = alone_and_joined(detector, task.normal)
    kinds = [alone_and_joined(detector, images) for images in task.kinds.values()]
    return {name: np.mean([auroc(normal[name], kind[name]) for kind in kinds]) for name in normal}


def print_row(label, values):
    """Print a line of the table."""
    print(f"{label:{LABEL}s} " + " ".join(f"{value:12.1f}" for value in values), flush=True)


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--detector", default="{}", help="parameters, a Python dict")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    tasks, rows = read_tasks(args), []
    for task in tasks:
        found = [aurocs(task, args, seed) for seed in range(args.seeds)]
        rows.append({name: np.mean([row[name] for row in found]) for name in found[0]})
        if len(rows) == 1:
            print(f"{'':{LABEL}s} " + " ".join(f"{name:>12s}" for name in rows[0]))
        print_row(task.name, rows[-1].values())
    print_row("mean", [np.mean([row[name] for row in rows]) for name in rows[0]])


if __name__ == "__main__":
    main()
