"""The files of measured figures: one JSON line for each measured case.

``run.py`` writes them and ``draw.py`` reads them. A line says what was measured (figure, detector,
task, seed, n_shots, max_test), the results (auroc, kinds, and pixel_auroc, flagged and found if
the detector has maps or a threshold, all in percent; fit_seconds, ms_per_image), and how
(n_threads, date, version, revision).
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Line = dict[str, Any]

FOLDER = Path(__file__).resolve().parent / "figures"
FIGURES = ("tasks", "shots", "cost", "summary")
CASE = ("detector", "task", "seed", "n_shots", "max_test")  # what identifies a measured case

# The revision of each method. Raise it if a change moves scores or run times: older lines are then
# neither drawn nor skipped, but measured again.
REVISIONS = {"skcoft": 3, "gaussian": 1, "patch memory": 1}


class Measured(NamedTuple):
    """A detector: its name in legends and in wide tables, and the method of its revision."""

    label: str
    short: str
    method: str


DETECTORS = {
    "default": Measured("default settings", "default", "skcoft"),
    "frozen": Measured("frozen backbone (max_iter=0)", "frozen", "skcoft"),
    "patch_memory": Measured(
        "memory of frozen patches (PatchCore)", "patch memory", "patch memory"
    ),
    "gaussian": Measured("Gaussian on frozen embeddings", "Gaussian", "gaussian"),
    "embedded": Measured('COFTDetector("embedded")', "embedded", "skcoft"),
}

PHOTOGRAPHS = {  # tasks with images at or near their own resolution
    "casting": "castings",
    "ksdd": "commutators",
    "elpv_mono256": "solar cells, 256 px",
    "tile256": "tiles, 256 px",
}
THUMBNAILS = {
    "cifar10/airplane": "airplanes",
    "cifar10/bird": "birds",
    "cifar10/deer": "deer",
    "cifar10/frog": "frogs",
    "cifar10/ship": "ships",
    "elpv_mono": "solar cells",
    "magnetic_tile": "tiles",
    "mvtec_bottle": "bottles",
}
TASKS = {**THUMBNAILS, **PHOTOGRAPHS}  # their names on the page, in this order


def revision_of(detector: str) -> int:
    """Return the current revision of a detector's method."""
    return REVISIONS[DETECTORS[detector].method]


def figure_file(folder: Path, figure: str) -> Path:
    return folder / f"{figure}.jsonl"


def read_lines(folder: Path, figure: str) -> list[Line]:
    """Return the current lines of a figure, the last one of each case.

    Lines of other revisions are left out. So is a line that a killed process did not complete.
    """
    file, lines = figure_file(folder, figure), {}
    for text in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if line["detector"] in DETECTORS and line["revision"] == revision_of(line["detector"]):
            lines[case_of(line)] = line
    return list(lines.values())


def append_line(folder: Path, figure: str, line: Line) -> None:
    """Add a line to the file of a figure, below an incomplete line if there is one."""
    file = figure_file(folder, figure)
    folder.mkdir(parents=True, exist_ok=True)
    text = file.read_bytes() if file.exists() else b""
    is_cut = text and not text.endswith(b"\n")
    with file.open("a", encoding="utf-8") as stream:
        stream.write("\n" * bool(is_cut) + json.dumps({"figure": figure, **line}) + "\n")


def case_of(line: Line) -> tuple:
    """Return what identifies the case of a line."""
    return tuple(line[key] for key in CASE)


def find_line(folder: Path, case: tuple, n_threads: int) -> Line | None:
    """Return the current line of a case from the file of any figure, or None."""
    for figure in FIGURES:
        for line in read_lines(folder, figure):
            if case_of(line) == case and line["n_threads"] == n_threads:
                return line
    return None


def select(lines: Iterable[Line], **values: Any) -> list[Line]:
    """Return the lines that have all these values."""
    return [line for line in lines if all(line[key] == v for key, v in values.items())]


def in_order(names: Iterable[str], order: Iterable[str]) -> list[str]:
    """Return the names without repetition, in a given order; other names come last."""
    names = set(names)
    return [name for name in order if name in names] + sorted(names - set(order))


def detectors_of(lines: Iterable[Line]) -> list[str]:
    return in_order((line["detector"] for line in lines), DETECTORS)


def tasks_of(lines: Iterable[Line]) -> list[str]:
    return in_order((line["task"] for line in lines), TASKS)


def mean_of(lines: Sequence[Line], key: str, tasks: Iterable[str]) -> float | None:
    """Return the mean of a figure over tasks, of the means over seeds.

    Return None if one of the tasks lacks the figure: means over other tasks do not compare.
    """
    values = [[line[key] for line in select(lines, task=t) if key in line] for t in tasks]
    return float(np.mean([np.mean(v) for v in values])) if values and all(values) else None


def tasks_with(lines: Sequence[Line], key: str) -> list[str]:
    """Return the tasks for which any detector has a figure."""
    return tasks_of(line for line in lines if key in line)


def summary_rows(lines: Sequence[Line]) -> dict[str, list[float | None]]:
    """Return mean, thumbnails, photographs and pixels of each detector, as in README."""
    columns = [("auroc", TASKS), ("auroc", THUMBNAILS), ("auroc", PHOTOGRAPHS)]
    columns.append(("pixel_auroc", tasks_with(lines, "pixel_auroc")))
    return {
        detector: [mean_of(select(lines, detector=detector), key, tasks) for key, tasks in columns]
        for detector in detectors_of(lines)
    }
