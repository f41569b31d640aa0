"""Does the label-free score rank candidates in the same order as labels do?

All candidates are fitted on the same shots and scored twice: by ``LabelFreeScorer`` on normal
images of the pool that are not shots, and by the area under the ROC curve (AUROC) on labelled test
images. The script prints

* Spearman's rank correlation of both scores, over all candidates and over the candidates of each
  backbone. The latter shows whether the score selects settings or only backbones;
* as a control, the rank correlation with the labelled AUROC of another task;
* the labelled AUROC, in percent, of the candidate with the best label-free score, beside the mean
  and the best of the candidates and one fixed candidate.

``fewshot.py`` documents the data sets and weights.

    python benchmarks/label_free.py --data DATA --weights WEIGHTS --seeds 1 --max-test 30
"""

import argparse
import tempfile
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from fewshot import Task, draw_shots, make_parser, read_tasks, score_task
from scipy.stats import spearmanr

from skcoft import COFTDetector
from skcoft.density import KernelDensity
from skcoft.model_selection import LabelFreeScorer

FROZEN: dict[str, Any] = {"max_iter": 0}
STRONG: dict[str, Any] = {"learning_rate": 3e-5, "positive_weight": 10, "negative_weight": 1}
TRAININGS: dict[str, list[dict[str, Any]]] = {
    "embedded": [FROZEN, {}, STRONG],
    "random": [FROZEN],
    "mobilenetv2_100": [FROZEN, {}, STRONG],
    "resnet18": [FROZEN],
}
SETTINGS = {
    name: list(product(trainings, ["kde", KernelDensity("loo"), "gaussian"], [False, True]))
    for name, trainings in TRAININGS.items()
}
DEFAULT = SETTINGS["mobilenetv2_100"].index(({}, "kde", True))


def make_candidates(name: str, folder: Path, **common: Any) -> list[COFTDetector]:
    network = {"backbone": name, "weights": folder / f"{name}.safetensors"}
    if name in ("embedded", "random"):
        network = {"backbone": "embedded", "weights": "pretrained" if name == "embedded" else None}
    return [
        COFTDetector(**network, **training, density=density, local=local, **common)
        for training, density, local in SETTINGS[name]
    ]


def measure(
    task: Task, scorer: LabelFreeScorer, args: argparse.Namespace, seed: int
) -> list[tuple[float, float]]:
    """Return the label-free and labelled score of each candidate, (n_candidates, 2)."""
    images = draw_shots(task, args.shots + args.held_out, seed)
    scores = []
    for name in TRAININGS:
        with tempfile.TemporaryDirectory() as memory:
            for detector in make_candidates(name, args.weights, memory=memory, random_state=seed):
                detector.fit(images[: args.shots])
                _, aurocs = score_task(detector, task)
                label_free = scorer(detector, images[args.shots :])
                scores.append((label_free, float(np.mean(list(aurocs.values())))))
    return scores


def correlation(label_free: np.ndarray, labelled: np.ndarray) -> float:
    """Return Spearman's rank correlation; 0 if all label-free scores are equal."""
    return spearmanr(label_free, labelled)[0] if np.ptp(label_free) else 0.0


def report(runs: list[str], scores: np.ndarray) -> None:
    """Print how well both scores agree; ``scores`` has the shape (n_runs, n_candidates, 2)."""
    label_free, labelled = np.moveaxis(scores, 2, 0)
    ends = np.cumsum([len(settings) for settings in SETTINGS.values()])
    groups = {"all": slice(None)}
    for name, end in zip(SETTINGS, ends, strict=True):
        groups[name] = slice(end - len(SETTINGS[name]), end)
    tasks = [run.split("/")[0] for run in runs]
    other_pairs = [(i, j) for i, j in product(range(len(runs)), repeat=2) if tasks[i] != tasks[j]]
    print(f"{'rank correlation':16s} {'same task':>9s} {'another':>8s}   " + " ".join(runs))
    for name, group in groups.items():
        a, b = label_free[:, group], labelled[:, group]
        same = [correlation(*pair) for pair in zip(a, b, strict=True)]
        another = [correlation(a[i], b[j]) for i, j in other_pairs]
        cells = " ".join(f"{value:{len(run)}.2f}" for run, value in zip(runs, same, strict=True))
        print(f"{name:16s} {np.mean(same):9.2f} {np.mean(another):8.2f}   {cells}")
    print("labelled AUROC   picked   mean   best")
    for name, group in groups.items():
        picked = np.take_along_axis(
            labelled[:, group], label_free[:, group].argmax(axis=1)[:, None], axis=1
        )
        b = labelled[:, group]
        values = picked.mean(), b.mean(), b.max(axis=1).mean()
        print(f"{name:16s} " + " ".join(f"{value:6.1f}" for value in values))
    default = labelled[:, groups["mobilenetv2_100"]][:, DEFAULT].mean()
    print(f"mobilenetv2_100 with its defaults, for every task: {default:.1f}")


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--held-out", type=int, default=10, help="number of normal images to score with"
    )
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    scorer = LabelFreeScorer(n_draws=2)
    print(
        f"{scorer}, {args.shots} shots, {args.held_out} held-out normal images, "
        f"{args.seeds} seeds, max_test={args.max_test}; "
        f"{sum(map(len, SETTINGS.values()))} candidates"
    )
    runs, scores = [], []
    for task, seed in product(read_tasks(args), range(args.seeds)):
        scores.append(measure(task, scorer, args, seed))
        runs.append(f"{task.name.split('/')[-1]}/{seed}")
        print(f"{runs[-1]}: {correlation(*np.transpose(scores[-1])):.2f}", flush=True)
    report(runs, np.array(scores))


if __name__ == "__main__":
    main()
