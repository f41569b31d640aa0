"""Does combining the components lose accuracy? AUROC of each component alone, and of all joined.

Each line is a task, with means over seeds and kinds of anomalies. The components are the image
density and the patch density, at each scale at which images are scored.

    python benchmarks/parts.py --data DATA --max-test 40
"""

import argparse
import ast
import warnings
from collections.abc import Iterable

import numpy as np
from fewshot import LABEL, Task, auroc, draw_shots, make_parser, read_tasks

from skcoft import COFTDetector


def component_scores(detector: COFTDetector, images: np.ndarray) -> dict[str, np.ndarray]:
    """Score images by every component of a fitted detector, and by all of them joined."""
    joint, summary = detector._model.joint, detector._model.summarize(detector._read(images))
    scores = {
        f"{name} x{joint.backbone_scores[i].scale:g}": component.score(summary[i, name])
        for (i, name), component in joint.components.items()
    }
    return {**scores, "joined": joint.score(summary)}


def component_aurocs(task: Task, args: argparse.Namespace, seed: int) -> dict[str, float]:
    """Return the AUROC of every component and of all joined, mean over kinds of anomalies."""
    detector = COFTDetector(random_state=seed, **ast.literal_eval(args.detector))
    detector.fit(draw_shots(task, args.shots, seed))
    normal = component_scores(detector, task.normal)
    kinds = [component_scores(detector, images) for images in task.anomalies.values()]
    return {
        name: float(np.mean([auroc(normal[name], kind[name]) for kind in kinds]))
        for name in normal
    }


def print_row(label: str, values: Iterable[float]) -> None:
    """Print a line of the table."""
    print(f"{label:{LABEL}s} " + " ".join(f"{value:12.1f}" for value in values), flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--detector", default="{}", help="parameters, a Python dict")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    tasks, rows = read_tasks(args), []
    for task in tasks:
        aurocs = [component_aurocs(task, args, seed) for seed in range(args.seeds)]
        rows.append({name: float(np.mean([row[name] for row in aurocs])) for name in aurocs[0]})
        if len(rows) == 1:
            print(f"{'':{LABEL}s} " + " ".join(f"{name:>12s}" for name in rows[0]))
        print_row(task.name, rows[-1].values())
    print_row("mean", [float(np.mean([row[name] for row in rows])) for name in rows[0]])


if __name__ == "__main__":
    main()
