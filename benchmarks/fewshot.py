r"""Few-shot anomaly detection, measured on your own data: k normal images in, AUROC out.

A data set is one file, ``<name>.npz``, of uint8 images, (n, H, W) or (n, H, W, 3). It holds either

* ``normal`` and an array ``anomaly_<kind>`` for each kind of defect, for pixel AUROC with
  ``mask_<kind>`` of shape (n, H, W), not 0 on the defect; or
* an array ``class_<name>`` for each class: each in turn is the normal one, the others are
  anomalies.

The first 64 normal images (the first half where there are fewer than 96) are the pool that shots
are drawn from, the others are test images. Of every class that is not the normal one, 30 images
after its first 64 are tested. All detectors get the same shots.

A detector is a Python expression. It may name any module that can be imported (from this folder
and the current one as well), ``seed``, the number of the run, and ``weights``, the folder that
``--weights`` names. What it gives has ``fit(images)`` and ``score_samples(images)``, higher for
more normal, and for ``--pixels`` ``anomaly_map(images)``, higher for more anomalous::

    python benchmarks/fewshot.py --data DATA --detector "skcoft.COFTDetector(random_state=seed)"
    python benchmarks/fewshot.py --data DATA --weights WEIGHTS --pixels \
        --detector "peers.PatchMemory('mobilenetv2_100', weights)"

Printed, in percent: image AUROC, mean over the kinds of defects and over the seeds, with its
standard deviation over the seeds; pixel AUROC over all pixels of all anomalies with masks; and the
share of normal test images that a detector with a threshold flags. Also seconds to fit and
milliseconds to score an image.
"""

import argparse
import ast
import importlib
import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

POOL = 64
OTHERS = 30  # test images of each class that is not the normal one
LABEL = 42  # width of the first column of a table


class Task(NamedTuple):
    """One normal class, and the anomalies and masks of each kind."""

    name: str
    pool: np.ndarray
    normal: np.ndarray
    kinds: dict
    masks: dict


def load_tasks(path, max_test=None):
    """Yield the tasks of a data set, with ``max_test`` test images an array at most."""
    arrays = dict(np.load(path))

    def starting_with(prefix):
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    if "normal" in arrays:
        normal = arrays["normal"]
        pool = POOL if len(normal) >= 96 else len(normal) // 2
        kinds, masks = (
            {kind: x[:max_test] for kind, x in starting_with(prefix).items()}
            for prefix in ("anomaly_", "mask_")
        )
        yield Task(path.stem, normal[:pool], normal[pool:][:max_test], kinds, masks)
        return
    classes = starting_with("class_")
    for name, images in classes.items():
        others = [x[POOL:][:OTHERS] for other, x in classes.items() if other != name]
        kinds = {"others": np.concatenate(others)}
        yield Task(f"{path.stem}/{name}", images[:POOL], images[POOL:][:max_test], kinds, {})


def draw_shots(task, n_shots, seed):
    """Draw the shots of a run."""
    return task.pool[np.random.default_rng(seed).permutation(len(task.pool))[:n_shots]]


def auroc(normal_scores, anomaly_scores):
    """Area under the ROC curve in percent, of scores that are higher for normal images."""
    is_normal = np.repeat([1, 0], [len(normal_scores), len(anomaly_scores)])
    return 100 * roc_auc_score(is_normal, np.concatenate([normal_scores, anomaly_scores]))


def pixel_auroc(detector, task):
    """Area under the ROC curve in percent, over all pixels of the anomalies that have masks."""
    truth = [mask.ravel() > 0 for mask in task.masks.values()]
    maps = [detector.anomaly_map(task.kinds[kind]).ravel() for kind in task.masks]
    return 100 * roc_auc_score(np.concatenate(truth), np.concatenate(maps))


def score(detector, task):
    """Scores of the normal test images, and the AUROC of each kind of anomaly."""
    normal = detector.score_samples(task.normal)
    return normal, {k: auroc(normal, detector.score_samples(x)) for k, x in task.kinds.items()}


def measure(build, task, n_shots, seed, pixels=False):
    """Fit and test the detector that ``build(seed)`` returns; a row of figures as a dict."""
    shots, detector = draw_shots(task, n_shots, seed), build(seed)
    start = time.perf_counter()
    detector.fit(shots)
    fitted = time.perf_counter()
    normal, kinds = score(detector, task)
    scored = time.perf_counter()
    count = len(task.normal) + sum(map(len, task.kinds.values()))
    row = {
        "task": task.name,
        "seed": seed,
        "auroc": float(np.mean(list(kinds.values()))),
        "kinds": kinds,
        "fit_s": fitted - start,
        "score_ms": 1e3 * (scored - fitted) / count,
    }
    if hasattr(detector, "offset_"):
        row["flagged"] = 100 * float(np.mean(normal < detector.offset_))
    if pixels and task.masks:
        row["pixel_auroc"] = pixel_auroc(detector, task)
    return row


def measure_seeds(build, task, args, pixels=False):
    """Return a row of figures for each seed of the command line."""
    return [measure(build, task, args.shots, seed, pixels) for seed in range(args.seeds)]


def mean(rows, key):
    """Return the mean of a figure over rows of ``measure``."""
    return np.mean([row[key] for row in rows])


def pixel_text(rows):
    """Text of the mean pixel AUROC of those rows that have one, with a comma after it."""
    mapped = [row for row in rows if "pixel_auroc" in row]
    return f"pixel {mean(mapped, 'pixel_auroc'):.1f}, " if mapped else ""


def make_parser(doc):
    """Return a parser with the arguments that all accuracy benchmarks share."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of .npz files")
    parser.add_argument(
        "--weights",
        type=Path,
        default=Path("weights"),
        help="folder of <timm name>.safetensors files, without a classifier; ./weights by default",
    )
    parser.add_argument("--sets", help="names of data sets, comma-separated; all by default")
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-test", type=int, help="test images an array at most")
    return parser


def read_tasks(args):
    """Return the tasks of the data sets that the command line names."""
    names = args.sets.split(",") if args.sets else [f.stem for f in args.data.glob("*.npz")]
    files = [args.data / f"{name}.npz" for name in sorted(names)]
    if not files:
        raise FileNotFoundError(f"There is no .npz file in the folder {args.data}.")
    return [task for file in files for task in load_tasks(file, args.max_test)]


def print_head(args, tasks, what=""):
    """Print the settings of a run and the heads of a table's columns, one for each task."""
    print(f"{what}{args.shots} shots, {args.seeds} seeds, max_test={args.max_test}")
    columns = " ".join(f"{task.name.split('/')[-1][:8]:>8s}" for task in tasks)
    print(f"{'':{LABEL}s} {'mean':>5s} {columns}")


def print_line(label, values, note=""):
    """Print a line of a table: the mean of the tasks' values, the values, a note."""
    cells = " ".join(f"{value:8.1f}" for value in values)
    print(f"{label:{LABEL}s} {np.mean(values):5.1f} {cells}  {note}".rstrip(), flush=True)


def evaluate(expression, **names):
    """Evaluate a Python expression that may use modules as well as the names given."""
    bases = [
        node.value
        for node in ast.walk(ast.parse(expression, mode="eval"))
        if isinstance(node, ast.Attribute)
    ]
    for base in bases:
        if isinstance(base, ast.Name) and base.id not in names and find_spec(base.id):
            names[base.id] = importlib.import_module(base.id)
    return eval(expression, names)  # the user's own command line


def describe(rows):
    """Text of the figures of one task over the seeds."""
    kinds = {kind: np.mean([row["kinds"][kind] for row in rows]) for kind in rows[0]["kinds"]}
    text = (
        f"{mean(rows, 'auroc'):6.1f} {np.std([row['auroc'] for row in rows]):4.1f} "
        f"{mean(rows, 'fit_s'):7.1f} {mean(rows, 'score_ms'):7.1f}  "
    )
    text += " ".join(f"{kind}:{value:.0f}" for kind, value in kinds.items())
    for key, unit in (("pixel_auroc", ""), ("flagged", " %")):
        if key in rows[0]:
            text += f"  | {key.split('_')[0]} {mean(rows, key):.1f}{unit}"
    return text


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--detector", required=True, help="Python expression")
    parser.add_argument("--pixels", action="store_true", help="measure anomaly maps, too")
    parser.add_argument("--json", type=Path, help="file to write the figures of every run to")
    args = parser.parse_args(argv)
    sys.path.append(".")

    def build(seed):
        return evaluate(args.detector, seed=seed, weights=args.weights)

    rows, means = [], []
    print(f"{'task':34s} {'AUROC':>6s} {'±':>4s} {'fit s':>7s} {'ms/img':>7s}  kinds")
    for task in read_tasks(args):
        found = measure_seeds(build, task, args, args.pixels)
        print(f"{task.name:34s} {describe(found)}", flush=True)
        rows += found
        means.append(mean(found, "auroc"))
    flagged = f"  | flagged {mean(rows, 'flagged'):.1f} %" if "flagged" in rows[0] else ""
    print(f"{f'mean of {len(means)} tasks':34s} {np.mean(means):6.1f}{flagged}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
