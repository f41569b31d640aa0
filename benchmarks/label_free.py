"""Does the label-free score rank candidates as labels do?

Candidates fitted on the same shots are scored twice: by ``LabelFreeScorer`` on normal images of
the pool that are not shots, and by the area under the ROC curve on labelled test images. Printed
is Spearman's rank correlation of the two, over all candidates and over those of each backbone
alone (does it choose settings, or only backbones?); as a control, that with the labelled areas of
another task; and the labelled area in percent of the candidate with the best label-free score,
beside the mean and the best of the candidates and one fixed candidate. Data sets and weights are
those of ``fewshot.py``.

    python benchmarks/label_free.py --data DATA --weights WEIGHTS --seeds 1 --max-test 30
"""

import tempfile
import warnings
from itertools import product

import numpy as np
from fewshot import draw_shots, make_parser, read_tasks, score
from scipy.stats import spearmanr

from skcoft import COFTDetector
from skcoft.density import KernelDensity
from skcoft.model_selection import LabelFreeScorer

FROZEN = {"max_iter": 0}
BRISK = {"learning_rate": 3e-5, "positive_weight": 10, "negative_weight": 1}
TRAININGS = {
    "embedded": [FROZEN, {}, BRISK],
    "random": [FROZEN],
    "mobilenetv2_100": [FROZEN, {}, BRISK],
    "resnet18": [FROZEN],
}
SETTINGS = {
    name: list(product(trainings, ["kde", KernelDensity("loo"), "gaussian"], [False, True]))
    for name, trainings in TRAININGS.items()
}
FIXED = SETTINGS["mobilenetv2_100"].index(({}, "kde", True))  # its defaults


def make_candidates(name, folder, **common):
    network = {"backbone": name, "weights": folder / f"{name}.safetensors"}
    if name in ("embedded", "random"):
        network = {"backbone": "embedded", "weights": "pretrained" if name == "embedded" else None}
    return [
        COFTDetector(**network, **training, density=density, local=local, **common)
        for training, density, local in SETTINGS[name]
    ]


def measure(task, scorer, args, seed):
    """Label-free and labelled score of each candidate, (n_candidates, 2)."""
    drawn = draw_shots(task, args.shots + args.held_out, seed)
    found = []
    for name in TRAININGS:
        with tempfile.TemporaryDirectory() as memory:
            for detector in make_candidates(name, args.weights, memory=memory, random_state=seed):
                detector.fit(drawn[: args.shots])
                _, kinds = score(detector, task)
                found.append(
                    (scorer(detector, drawn[args.shots :]), np.mean(list(kinds.values())))
                )
    return found


def correlation(score, labelled):
    """Spearman's; 0 where all scores are the same and rank nothing."""
    return spearmanr(score, labelled)[0] if np.ptp(score) else 0.0


def report(runs, found):
    """Print the agreement of both scores; ``found`` is (n_runs, n_candidates, 2)."""
    free, labelled = np.moveaxis(found, 2, 0)
    ends = np.cumsum([len(settings) for settings in SETTINGS.values()])
    groups = {"all": slice(None)}
    for name, end in zip(SETTINGS, ends, strict=True):
        groups[name] = slice(end - len(SETTINGS[name]), end)
    tasks = [run.split("/")[0] for run in runs]
    others = [(i, j) for i, j in product(range(len(runs)), repeat=2) if tasks[i] != tasks[j]]
    print(f"{'rank correlation':16s} {'same task':>9s} {'another':>8s}   " + " ".join(runs))
    for name, group in groups.items():
        a, b = free[:, group], labelled[:, group]
        same = [correlation(*pair) for pair in zip(a, b, strict=True)]
        another = [correlation(a[i], b[j]) for i, j in others]
        cells = " ".join(f"{value:{len(run)}.2f}" for run, value in zip(runs, same, strict=True))
        print(f"{name:16s} {np.mean(same):9.2f} {np.mean(another):8.2f}   {cells}")
    print("labelled AUROC   picked   mean   best")
    for name, group in groups.items():
        picked = np.take_along_axis(
            labelled[:, group], free[:, group].argmax(axis=1)[:, None], axis=1
        )
        b = labelled[:, group]
        cells = picked.mean(), b.mean(), b.max(axis=1).mean()
        print(f"{name:16s} " + " ".join(f"{value:6.1f}" for value in cells))
    fixed = labelled[:, groups["mobilenetv2_100"]][:, FIXED].mean()
    print(f"mobilenetv2_100 with its defaults, whatever the scores: {fixed:.1f}")


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--held-out", type=int, default=10, help="normal images to score with")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    scorer = LabelFreeScorer(n_draws=2)
    print(
        f"{scorer}, {args.shots} shots, {args.held_out} held-out normals, {args.seeds} seeds, "
        f"max_test={args.max_test}; {sum(map(len, SETTINGS.values()))} candidates"
    )
    runs, found = [], []
    for task, seed in product(read_tasks(args), range(args.seeds)):
        found.append(measure(task, scorer, args, seed))
        runs.append(f"{task.name.split('/')[-1]}/{seed}")
        print(f"{runs[-1]}: {correlation(*np.transpose(found[-1])):.2f}", flush=True)
    report(runs, np.array(found))


if __name__ == "__main__":
    main()
