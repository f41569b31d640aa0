"""Draw the page of accuracy: pictures and tables from the files that ``run.py`` writes.

The script writes an SVG file for each picture, and ``sections.inc``, the text that
``docs/accuracy.rst`` includes. A figure without a file has no section, and a detector without
lines is left out. ``docs/conf.py`` calls it when the documentation is built. It can also draw your
own figures::

    python benchmarks/draw.py --figures measured --to pictures
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from figure_files import (
    DETECTORS,
    FOLDER,
    TASKS,
    Line,
    detectors_of,
    mean_of,
    read_lines,
    select,
    summary_rows,
    tasks_of,
    tasks_with,
)
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = {
    "default": "#0072B2",
    "frozen": "#56B4E9",
    "patch_memory": "#E69F00",
    "gaussian": "#999999",
    "embedded": "#009E73",
}
MARKERS = dict(zip(COLORS, "oDs^v", strict=True))
WIDTH = 4.7  # inches; the page shows them on 340 (phone) to 544 pixels
STYLE = {
    "font.size": 11.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "svg.hashsalt": "skcoft",  # the same lines give the same file
}
BAR = 0.095  # height of a bar in inches
AUROC = "image AUROC in %"


def add_legend(figure: Figure, axes: Axes) -> None:
    """Add a legend above the axes, one detector a line."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside upper left", handlelength=1.2)


def draw_tasks(lines: Sequence[Line]) -> Figure:
    """Draw a bar for each detector and task, and for the means over the tasks."""
    tasks, detectors = tasks_of(lines), detectors_of(lines)
    groups = [[task] for task in tasks] + [tasks] * (len(tasks) > 1)
    names = [TASKS.get(task, task) for task in tasks] + ["mean"]
    step = len(detectors) + 1.5  # between groups, in bars
    figure = Figure((WIDTH, 0.8 + 0.23 * len(detectors) + BAR * step * len(groups)))
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    lowest = 100.0
    for i, detector in enumerate(detectors):
        own = select(lines, detector=detector)
        means = {g: mean_of(own, "auroc", group) for g, group in enumerate(groups)}
        bars = {g * step + i: mean for g, mean in means.items() if mean is not None}
        lowest = min(lowest, *bars.values())
        axes.barh(
            [*bars], [*bars.values()], 1, color=COLORS[detector], label=DETECTORS[detector].label
        )
    middle = (len(detectors) - 1) / 2
    axes.set_yticks([g * step + middle for g in range(len(groups))], names[: len(groups)])
    axes.tick_params("y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(step * len(groups) - 1, -1)
    axes.set_xlim(min(50, lowest), 100)  # 50 % is chance
    axes.set_xlabel(AUROC)
    add_legend(figure, axes)
    return figure


def draw_against_shots(lines: Sequence[Line], key: str, label: str) -> Figure:
    """Draw the mean of a figure against the number of shots."""
    figure = Figure((WIDTH, 3.9))
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    numbers = sorted({line["n_shots"] for line in lines})
    for detector in detectors_of(lines):
        own = select(lines, detector=detector)
        means = {n: mean_of(select(own, n_shots=n), key, tasks_of(lines)) for n in numbers}
        means = {n: mean for n, mean in means.items() if mean is not None}
        if means:
            axes.plot([*means], [*means.values()], **style_of(detector))
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, map(str, numbers))
    axes.set_xlabel("training images (shots)")
    axes.set_ylabel(label)
    add_legend(figure, axes)
    return figure


def draw_shots(lines: Sequence[Line]) -> Figure:
    return draw_against_shots(lines, "auroc", AUROC)


def draw_flagged(lines: Sequence[Line]) -> Figure:
    """Draw the share of normal test images below the automatic threshold, which aims at 5 %."""
    several = [line for line in lines if line["n_shots"] > 1 and "flagged" in line]
    figure = draw_against_shots(several, "flagged", "flagged normal images in %")
    axes = figure.axes[0]
    axes.set_ylim(0, max(10, axes.get_ylim()[1]))
    axes.axhline(5, color="black", linestyle=":", linewidth=1)
    return figure


def draw_cost(lines: Sequence[Line]) -> Figure:
    """Draw mean AUROC against milliseconds per image and against seconds to fit."""
    figure = Figure((WIDTH, 6.4))
    figure.set_layout_engine("constrained")
    labels = {"ms_per_image": "milliseconds per image", "fit_seconds": "seconds to fit"}
    for axes, (key, label) in zip(figure.subplots(2), labels.items(), strict=True):
        for detector in detectors_of(lines):
            own, tasks = select(lines, detector=detector), tasks_of(lines)
            x, y = mean_of(own, key, tasks), mean_of(own, "auroc", tasks)
            if x is not None and y is not None:
                axes.plot([x], [y], **{**style_of(detector), "markersize": 9})
        axes.set_xlim(0, 1.15 * axes.get_xlim()[1])
        axes.margins(y=0.2)
        axes.set_xlabel(label)
        axes.set_ylabel(AUROC)
    add_legend(figure, axes)
    return figure


def style_of(detector: str) -> dict[str, Any]:
    return {
        "color": COLORS[detector],
        "marker": MARKERS[detector],
        "label": DETECTORS[detector].label,
    }


def cell(value: float | None) -> str:
    return ".." if value is None else f"{value:.1f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in reStructuredText."""
    rows = [header, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    rule = "  ".join("=" * width for width in widths)
    text = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    return "\n".join([rule, text[0], rule, *text[1:], rule])


def tasks_table(lines: Sequence[Line]) -> str:
    """Return a table of image AUROC and, if there are masks, one of pixel AUROC."""
    texts = []
    for key, title in (("auroc", "task"), ("pixel_auroc", "pixel AUROC")):
        tasks = tasks_with(lines, key)
        detectors = detectors_of(line for line in lines if key in line)
        groups = {TASKS.get(task, task): [task] for task in tasks} | {"mean": tasks}
        rows = [
            [name, *(cell(mean_of(select(lines, detector=d), key, group)) for d in detectors)]
            for name, group in groups.items()
        ]
        if tasks:
            texts.append(table([title, *(DETECTORS[d].short for d in detectors)], rows))
    return "\n\n".join(texts)


def shots_table(lines: Sequence[Line]) -> str:
    """Return mean AUROC, flagged and found shares for each number of shots."""
    keys = {"auroc": "AUROC", "flagged": "flagged", "found": "found"}
    rows = []
    for detector in detectors_of(lines):
        for n in sorted({line["n_shots"] for line in select(lines, detector=detector)}):
            own = select(lines, detector=detector, n_shots=n)
            cells = [cell(mean_of(own, key, tasks_of(lines))) for key in keys]
            rows.append([DETECTORS[detector].short, str(n), *cells])
    return table(["detector", "shots", *keys.values()], rows)


def cost_table(lines: Sequence[Line]) -> str:
    keys = {"auroc": "AUROC", "fit_seconds": "fit, s", "ms_per_image": "per image, ms"}
    rows = [
        [
            DETECTORS[detector].short,
            *(cell(mean_of(select(lines, detector=detector), k, tasks_of(lines))) for k in keys),
        ]
        for detector in detectors_of(lines)
    ]
    return table(["detector", *keys.values()], rows)


def summary_table(lines: Sequence[Line]) -> str:
    """Return the table of README, with shorter names."""
    rows = [[DETECTORS[d].short, *map(cell, v)] for d, v in summary_rows(lines).items()]
    return table(["detector", "mean", "thumbnails", "photographs", "pixels"], rows)


class Section:
    """A section of the page: its pictures, and the table that is folded below them."""

    def __init__(
        self,
        title: str,
        text: str,
        pictures: dict[str, tuple[str, Callable[[Sequence[Line]], Figure]]],
        tabulate: Callable[[Sequence[Line]], str],
    ) -> None:
        self.title, self.text, self.pictures = title, text, pictures
        self.tabulate = tabulate

    def write(self, lines: Sequence[Line], folder: Path, prefix: str) -> str:
        """Write the pictures; return the text of the section."""
        blocks = [f"{self.title}\n{'-' * len(self.title)}", f"{self.text} {describe(lines)}"]
        for name, (alt, draw) in self.pictures.items():
            with rc_context(STYLE):
                metadata = {"Date": None}
                draw(lines).savefig(folder / f"{name}.svg", metadata=metadata)
            options = f"   :class: figure-of-accuracy\n   :alt: {alt}"
            blocks.append(f".. image:: {prefix}{name}.svg\n{options}")
        rows = self.tabulate(lines)
        if self.pictures:
            indented = "\n".join(f"   {row}".rstrip() for row in rows.splitlines())
            blocks.append(f".. dropdown:: The figures as a table\n\n{indented}")
        else:
            blocks.append(rows)
        return "\n\n".join(blocks)


SECTIONS = {
    "summary": Section(
        "Summary",
        "Mean image AUROC, and mean pixel AUROC of the anomaly maps, in percent.",
        {},
        summary_table,
    ),
    "tasks": Section(
        "By task",
        "Image AUROC of each task. All detectors get the same training images.",
        {"tasks": ("Bars: image AUROC of each detector on each task", draw_tasks)},
        tasks_table,
    ),
    "shots": Section(
        "By number of training images",
        "Mean image AUROC, and the share of unseen normal images that the automatic threshold "
        "flags. It aims at 5 % (dotted).",
        {
            "shots": ("Lines: mean image AUROC against the number of shots", draw_shots),
            "flagged": ("Lines: flagged normal images against the number of shots", draw_flagged),
        },
        shots_table,
    ),
    "cost": Section(
        "Accuracy and run time",
        "Mean image AUROC against the time to score an image and the time to fit, on a CPU.",
        {"cost": ("Points: mean image AUROC against run time", draw_cost)},
        cost_table,
    ),
}


def span(values: Iterable[Any]) -> str:
    """Return a value, or the smallest and the largest value."""
    values = sorted(set(values))
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def counted(values: str, noun: str) -> str:
    return f"{values} {noun}" if values == "1" else f"{values} {noun}s"


def describe(lines: Sequence[Line]) -> str:
    """Say how the lines were measured."""
    draws = [
        len({line["seed"] for line in select(lines, detector=detector, task=task)})
        for detector in detectors_of(lines)
        for task in tasks_of(select(lines, detector=detector))
    ]
    limits = {line["max_test"] for line in lines} - {None}
    limit = f", at most {span(limits)} test images per array" if limits else ""
    shots = counted(span(line["n_shots"] for line in lines), "shot")
    threads = counted(span(line["n_threads"] for line in lines), "thread")
    return (
        f"{shots}, {counted(span(draws), 'draw')} of the shots{limit}, {threads}, "
        f"{span(line['date'] for line in lines)}."
    )


def write_sections(figures: Path, folder: Path, prefix: str = "") -> list[str]:
    """Write pictures and ``sections.inc`` into a folder; return the figures that have lines.

    ``prefix`` goes before the names of pictures, if another folder's page includes the text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figure_lines = {name: read_lines(figures, name) for name in SECTIONS}
    figure_lines = {name: lines for name, lines in figure_lines.items() if lines}
    texts = [SECTIONS[n].write(lines, folder, prefix) for n, lines in figure_lines.items()]
    (folder / "sections.inc").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return [*figure_lines]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figures", type=Path, default=FOLDER, help="folder of .jsonl files")
    parser.add_argument("--to", type=Path, default=Path("pictures"), help="folder to write to")
    args = parser.parse_args(argv)
    names = write_sections(args.figures, args.to)
    print(f"{args.to}: {', '.join(names) or 'no figure has lines'}")


if __name__ == "__main__":
    main()
