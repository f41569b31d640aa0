r"""Few-shot anomaly detection, measured on your own data: k normal images in, AUROC out.

A data set is one file, ``<name>.npz``, of uint8 images of shape (n, H, W) or (n, H, W, 3). It
contains either

* ``normal`` and an array ``anomaly_<kind>`` for each kind of defect. For pixel AUROC, add
  ``mask_<kind>`` of shape (n, H, W), which is not 0 on the defect; or
* an array ``class_<name>`` for each class. Each class in turn is the normal one, and the others
  are anomalies.

The first 64 normal images are the pool from which the shots (the normal training images) are
drawn. If there are fewer than 96 normal images, the pool is the first half. The other normal
images are test images. Of every class that is not the normal one, the 30 images after the first 64
are test images. All detectors get the same shots.

A detector is a Python expression. It may use any importable module, including those in this folder
and in the current one. It may also use ``seed``, the number of the run, and ``weights``, the
folder given by ``--weights``. Its value must have ``fit(images)`` and ``score_samples(images)``,
higher for more normal. For ``--pixels`` it must also have ``anomaly_map(images)``, higher for more
anomalous::

    python benchmarks/fewshot.py --data DATA --detector "skcoft.COFTDetector(random_state=seed)"
    python benchmarks/fewshot.py --data DATA --weights WEIGHTS --pixels \
        --detector "peers.PatchMemory('mobilenetv2_100', weights)"

The script prints these figures, in percent:

* image AUROC, mean over the kinds of defects and over the seeds, with its standard deviation over
  the seeds;
* pixel AUROC over all pixels of all anomalies that have masks;
* the share of normal test images that are flagged, if the detector has a threshold.

It also prints the seconds to fit and the milliseconds to score an image.
"""

import argparse
import ast
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

POOL = 64
OTHERS = 30  # test images of each class that is not the normal one
LABEL = 42  # width of the first column of a table

Detector = Any  # has fit and score_samples, see the docstring above
Row = dict[str, Any]  # the figures of one run, by name


class Task(NamedTuple):
    """The pool, the normal test images, and the anomalies and their masks by kind."""

    name: str
    pool: np.ndarray
    normal: np.ndarray
    anomalies: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]


def load_tasks(path: Path, max_test: int | None = None) -> Iterator[Task]:
    """Yield the tasks of a data set, with at most ``max_test`` test images per array."""
    arrays = dict(np.load(path))

    def by_suffix(prefix: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    if "normal" in arrays:
        normal = arrays["normal"]
        pool = POOL if len(normal) >= 96 else len(normal) // 2
        anomalies, masks = (
            {kind: x[:max_test] for kind, x in by_suffix(prefix).items()}
            for prefix in ("anomaly_", "mask_")
        )
        yield Task(path.stem, normal[:pool], normal[pool:][:max_test], anomalies, masks)
        return
    classes = by_suffix("class_")
    for name, images in classes.items():
        others = [x[POOL:][:OTHERS] for other, x in classes.items() if other != name]
        anomalies = {"others": np.concatenate(others)}
        yield Task(f"{path.stem}/{name}", images[:POOL], images[POOL:][:max_test], anomalies, {})


def draw_shots(task: Task, n_shots: int, seed: int) -> np.ndarray:
    """Draw the shots of a run."""
    return task.pool[np.random.default_rng(seed).permutation(len(task.pool))[:n_shots]]


def auroc(normal_scores: np.ndarray, anomaly_scores: np.ndarray) -> float:
    """Return the area under the ROC curve in percent; scores are higher for normal images."""
    is_normal = np.repeat([1, 0], [len(normal_scores), len(anomaly_scores)])
    return 100 * roc_auc_score(is_normal, np.concatenate([normal_scores, anomaly_scores]))


def pixel_auroc(detector: Detector, task: Task) -> float:
    """Return the area under the ROC curve in percent, over all pixels of anomalies with masks."""
    is_defect = [mask.ravel() > 0 for mask in task.masks.values()]
    maps = [detector.anomaly_map(task.anomalies[kind]).ravel() for kind in task.masks]
    return 100 * roc_auc_score(np.concatenate(is_defect), np.concatenate(maps))


def score_images(detector: Detector, task: Task) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the scores of the normal test images, and of each kind of anomaly."""
    normal = detector.score_samples(task.normal)
    return normal, {kind: detector.score_samples(x) for kind, x in task.anomalies.items()}


def score_task(detector: Detector, task: Task) -> tuple[np.ndarray, dict[str, float]]:
    """Return the scores of the normal test images, and the AUROC of each kind of anomaly."""
    normal, anomalies = score_images(detector, task)
    return normal, {kind: auroc(normal, scores) for kind, scores in anomalies.items()}


def measure(
    build: Callable[[int], Detector], task: Task, n_shots: int, seed: int, pixels: bool = False
) -> Row:
    """Fit and test the detector that ``build(seed)`` returns; return its figures."""
    shots, detector = draw_shots(task, n_shots, seed), build(seed)
    start = time.perf_counter()
    detector.fit(shots)
    fit_end = time.perf_counter()
    normal, anomalies = score_images(detector, task)
    score_end = time.perf_counter()
    aurocs = {kind: auroc(normal, scores) for kind, scores in anomalies.items()}
    all_anomalies = np.concatenate(list(anomalies.values()))
    n_images = len(normal) + len(all_anomalies)
    row = {
        "task": task.name,
        "seed": seed,
        "auroc": float(np.mean(list(aurocs.values()))),
        "kinds": aurocs,
        "fit_s": fit_end - start,
        "score_ms": 1e3 * (score_end - fit_end) / n_images,
    }
    if hasattr(detector, "offset_"):
        row["flagged"] = 100 * float(np.mean(normal < detector.offset_))
        row["found"] = 100 * float(np.mean(all_anomalies < detector.offset_))
    if pixels and task.masks:
        row["pixel_auroc"] = pixel_auroc(detector, task)
    return row


def measure_seeds(
    build: Callable[[int], Detector], task: Task, args: argparse.Namespace, pixels: bool = False
) -> list[Row]:
    """Return a row of figures for each seed of the command line."""
    return [measure(build, task, args.shots, seed, pixels) for seed in range(args.seeds)]


def mean(rows: list[Row], key: str) -> float:
    """Return the mean of a figure over rows of ``measure``."""
    return float(np.mean([row[key] for row in rows]))


def pixel_text(rows: list[Row]) -> str:
    """Return the mean pixel AUROC of the rows that have one, as text that ends with a comma."""
    rows_with_maps = [row for row in rows if "pixel_auroc" in row]
    return f"pixel {mean(rows_with_maps, 'pixel_auroc'):.1f}, " if rows_with_maps else ""


def make_parser(doc: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that all accuracy benchmarks share."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of .npz files")
    parser.add_argument(
        "--weights",
        type=Path,
        default=Path("weights"),
        help="folder of <timm name>.safetensors files without a classifier; default: ./weights",
    )
    parser.add_argument("--sets", help="names of data sets, comma-separated; default: all")
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-test", type=int, help="maximum number of test images per array")
    return parser


def read_tasks(args: argparse.Namespace) -> list[Task]:
    """Return the tasks of the data sets that the command line names."""
    names = args.sets.split(",") if args.sets else [f.stem for f in args.data.glob("*.npz")]
    files = [args.data / f"{name}.npz" for name in sorted(names)]
    if not files:
        raise FileNotFoundError(f"There is no .npz file in the folder {args.data}.")
    return [task for file in files for task in load_tasks(file, args.max_test)]


def print_header(args: argparse.Namespace, tasks: list[Task], prefix: str = "") -> None:
    """Print the settings of a run and the column headers of a table, one for each task."""
    print(f"{prefix}{args.shots} shots, {args.seeds} seeds, max_test={args.max_test}")
    columns = " ".join(f"{task.name.split('/')[-1][:8]:>8s}" for task in tasks)
    print(f"{'':{LABEL}s} {'mean':>5s} {columns}")


def print_line(label: str, values: Sequence[float], note: str = "") -> None:
    """Print a line of a table: label, mean over the tasks, value of each task, note.

    A value that is NaN does not count in the mean.
    """
    cells = " ".join(f"{value:8.1f}" for value in values)
    print(f"{label:{LABEL}s} {np.nanmean(values):5.1f} {cells}  {note}".rstrip(), flush=True)


def evaluate(expression: str, **names: Any) -> Any:
    """Evaluate a Python expression that may use modules and the names passed."""
    bases = [
        node.value
        for node in ast.walk(ast.parse(expression, mode="eval"))
        if isinstance(node, ast.Attribute)
    ]
    for base in bases:
        if isinstance(base, ast.Name) and base.id not in names and find_spec(base.id):
            names[base.id] = importlib.import_module(base.id)
    return eval(expression, names)  # the user's own command line


def describe(rows: list[Row]) -> str:
    """Return the figures of one task over the seeds, as text."""
    aurocs = {kind: np.mean([row["kinds"][kind] for row in rows]) for kind in rows[0]["kinds"]}
    text = (
        f"{mean(rows, 'auroc'):6.1f} {np.std([row['auroc'] for row in rows]):4.1f} "
        f"{mean(rows, 'fit_s'):7.1f} {mean(rows, 'score_ms'):7.1f}  "
    )
    text += " ".join(f"{kind}:{value:.0f}" for kind, value in aurocs.items())
    for key, unit in (("pixel_auroc", ""), ("flagged", " %")):
        if key in rows[0]:
            text += f"  | {key.split('_')[0]} {mean(rows, key):.1f}{unit}"
    return text


def main(argv: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--detector", required=True, help="Python expression")
    parser.add_argument("--pixels", action="store_true", help="also measure anomaly maps")
    parser.add_argument("--json", type=Path, help="file to write the figures of every run to")
    args = parser.parse_args(argv)
    sys.path.append(".")

    def build(seed: int) -> Detector:
        return evaluate(args.detector, seed=seed, weights=args.weights)

    rows, means = [], []
    print(f"{'task':34s} {'AUROC':>6s} {'±':>4s} {'fit s':>7s} {'ms/img':>7s}  kinds")
    for task in read_tasks(args):
        task_rows = measure_seeds(build, task, args, args.pixels)
        print(f"{task.name:34s} {describe(task_rows)}", flush=True)
        rows += task_rows
        means.append(mean(task_rows, "auroc"))
    flagged = f"  | flagged {mean(rows, 'flagged'):.1f} %" if "flagged" in rows[0] else ""
    print(f"{f'mean of {len(means)} tasks':34s} {np.mean(means):6.1f}{flagged}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
