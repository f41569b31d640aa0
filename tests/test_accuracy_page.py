"""The command that measures the figures, their files, and the page that is drawn from them."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (0, 1, 2)  # of README
NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.])")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.fixture
def files():
    return importlib.import_module("figure_files")


@pytest.fixture
def page():
    return importlib.import_module("draw")


def line(detector="frozen", task="ksdd", seed=0, n_shots=8, auroc=75.0, **further):
    revision = importlib.import_module("figure_files").revision_of(detector)
    values = {"fit_seconds": 2.5, "ms_per_image": 31.5, "n_threads": 1, "date": "2026-01-02"}
    case = {"detector": detector, "task": task, "seed": seed, "n_shots": n_shots, "max_test": 25}
    return {**case, "auroc": auroc, **values, "revision": revision, **further}


def append(files, folder, figure, lines):
    for one in lines:
        files.append_line(folder, figure, one)


def test_lines_are_read_as_they_were_written(files, tmp_path):
    assert files.read_lines(tmp_path, "tasks") == []
    append(files, tmp_path, "tasks", [line(auroc=1.5), line(seed=1), line(auroc=2.5)])
    assert [x["auroc"] for x in files.read_lines(tmp_path, "tasks")] == [2.5, 75.0]
    assert {x["figure"] for x in files.read_lines(tmp_path, "tasks")} == {"tasks"}


def test_lines_of_another_revision_are_left_out(files, tmp_path):
    append(files, tmp_path, "tasks", [line(), line(seed=1, revision=-1)])
    assert [x["seed"] for x in files.read_lines(tmp_path, "tasks")] == [0]


def test_a_cut_line_is_left_out_and_does_not_spoil_the_next(files, tmp_path):
    append(files, tmp_path, "tasks", [line()])
    with files.figure_file(tmp_path, "tasks").open("a") as stream:
        stream.write('{"detector": "fro')
    append(files, tmp_path, "tasks", [line(seed=1)])
    assert [x["seed"] for x in files.read_lines(tmp_path, "tasks")] == [0, 1]


def test_means_are_those_of_all_tasks_or_none(files):
    lines = [line(auroc=60), line(auroc=70, seed=1), line(task="casting", auroc=95)]
    assert files.mean_of(lines, "auroc", ["ksdd", "casting"]) == 80
    assert files.mean_of(lines, "auroc", ["ksdd", "tile256"]) is None
    assert files.mean_of(lines, "flagged", ["ksdd"]) is None


def make_lines():
    """Lines of two tasks, with numbers that only these lines give."""
    rng = np.random.default_rng(0)
    for detector in ("frozen", "gaussian"):
        for task in ("ksdd", "cifar10/deer"):
            for n_shots in (1, 8):
                values = {k: float(v) for k, v in zip("abcd", rng.uniform(60, 90, 4), strict=True)}
                further = {"flagged": values["a"], "found": values["b"]}
                further = further if detector == "frozen" else {}
                if task == "ksdd":
                    further["pixel_auroc"] = values["c"]
                yield line(detector, task, 0, n_shots, values["d"], **further)


def figure_lines(figure):
    return [x for x in make_lines() if figure == "shots" or x["n_shots"] == 8]


def test_the_page_shows_the_figures_of_the_files(files, page, tmp_path):
    for figure in files.FIGURES:
        append(files, tmp_path, figure, figure_lines(figure))
    assert page.write_sections(tmp_path, tmp_path / "out") == [*page.SECTIONS]
    text = (tmp_path / "out" / "sections.inc").read_text()
    pictures = re.findall(r"image:: (\S+)", text)
    assert sorted(pictures) == sorted(p.name for p in (tmp_path / "out").glob("*.svg"))
    assert len(pictures) == 4 and "default settings" not in text
    keys = ("auroc", "pixel_auroc", "flagged", "found", "fit_seconds", "ms_per_image")
    lines, expected = list(make_lines()), set()
    for key in keys:
        expected |= {f"{x[key]:.1f}" for x in lines if key in x}  # of a task
        for a, b in zip(lines, lines[2:], strict=False):  # means over both tasks
            if key in a and key in b:
                expected.add(f"{(a[key] + b[key]) / 2:.1f}")
    numbers = NUMBER.findall(text)
    assert len(numbers) > 25 and set(numbers) <= expected


def test_missing_figures_have_no_section(files, page, tmp_path):
    assert page.write_sections(tmp_path, tmp_path / "out") == []
    assert (tmp_path / "out" / "sections.inc").read_text().strip() == ""
    append(files, tmp_path, "cost", [line()])
    assert page.write_sections(tmp_path, tmp_path / "out") == ["cost"]
    text = (tmp_path / "out" / "sections.inc").read_text()
    assert text.startswith("Accuracy and run time\n---") and "1 thread, 2026-01-02" in text


def test_an_incomplete_detector_has_no_point_among_means(page):
    lines = [line(), line(task="casting"), line("gaussian")]
    labels = [x.get_label() for x in page.draw_cost(lines).axes[0].lines]
    assert labels == ["frozen backbone (max_iter=0)"]


def test_pictures_are_legible_on_a_phone(page):
    """Letters are at least 11 pixels high in a picture that is 340 pixels wide."""
    for draw in (page.draw_tasks, page.draw_shots, page.draw_cost):
        width = 72 * draw(list(make_lines())).get_figwidth()  # in points
        assert 340 * page.STYLE["font.size"] / width >= 11


def test_the_page_itself_states_no_accuracy():
    """All numbers with a decimal come from the files."""
    assert not NUMBER.findall((ROOT / "docs" / "accuracy.rst").read_text())


def test_lines_of_the_repository_are_complete(files):
    for figure in files.FIGURES:
        for measured in files.read_lines(files.FOLDER, figure):
            assert {*files.CASE, "auroc", "fit_seconds", "ms_per_image", "n_threads"} < {*measured}
            assert measured["figure"] == figure and 0 <= measured["auroc"] <= 100


def readme_rows():
    """Yield the label and the cells of README's table of accuracy."""
    text = (ROOT / "README.rst").read_text().partition("\nAccuracy\n")[2]
    body = re.search(r"^detector .*?\n=.*?\n(.*?)\n=", text, re.M | re.S).group(1)
    for row in body.splitlines():
        label, *cells = re.split(r"\s{2,}", row.strip())
        yield label.strip("`"), cells


def test_readme_has_the_means_of_the_summary(files):
    lines = files.read_lines(files.FOLDER, "summary")
    by_label = {files.DETECTORS[name].label: name for name in files.DETECTORS}
    rows = {by_label[label]: cells for label, cells in readme_rows()}
    measured = {(x["detector"], x["task"], x["seed"]) for x in lines}
    if not {(d, t, s) for d in rows for t in files.TASKS for s in SEEDS} <= measured:
        pytest.skip("not all lines of the summary were measured")
    means = files.summary_rows(lines)
    draw_cell = importlib.import_module("draw").cell
    assert rows == {name: [draw_cell(v) for v in means[name]] for name in rows}


SMALL = {"backbone": "resnet10t", "weights": None, "image_size": 32, "max_iter": 0}


def run(*arguments):
    importlib.import_module("run").main(list(map(str, arguments)), options=SMALL)


def make_data(folder):
    rng = np.random.default_rng(0)
    normal, spots = (rng.integers(0, 90, (n, 16, 16), dtype=np.uint8) for n in (24, 4))
    mask = np.zeros(spots.shape, np.uint8)
    mask[:, 4:8, 4:8] = 255
    np.savez(folder / "parts.npz", normal=normal, anomaly_spot=spots | mask, mask_spot=mask)


def test_measure_stop_and_resume(files, page, tmp_path, capsys):
    make_data(tmp_path)
    out = tmp_path / "out"
    arguments = ["--data", tmp_path, "--sets", "parts", "--seeds", 0, "--max-test", 3]
    arguments += ["--detectors", "frozen", "--out", out]
    run(*arguments, "--minutes", 0)
    assert not out.exists() and "out of time" in capsys.readouterr().out
    run(*arguments)
    (first,) = files.read_lines(out, "tasks")
    keys = {"pixel_auroc", "flagged", "found", "fit_seconds", "ms_per_image", "date", "version"}
    assert keys < {*first} and first["task"] == "parts" and first["n_shots"] == 8
    run(*arguments)
    assert files.figure_file(out, "tasks").read_text().count("\n") == 1
    run(*arguments, "--figure", "shots")
    lines = files.read_lines(out, "shots")
    assert [x["n_shots"] for x in lines] == [1, 2, 4, 8, 16]
    assert {**lines[3], "figure": "tasks"} == first  # copied
    assert page.write_sections(out, tmp_path / "pictures") == ["tasks", "shots"]


def test_figures_are_those_of_the_other_benchmarks(tmp_path):
    """The measuring stick is that of fewshot.py."""
    import fewshot
    from run import Builder, measure

    make_data(tmp_path)
    (task,) = fewshot.load_tasks(tmp_path / "parts.npz", 3)
    builder = Builder(tmp_path, SMALL)
    expected = fewshot.measure(lambda seed: builder.build("frozen", seed), task, 4, 1, pixels=True)
    figures = measure(builder.build("frozen", 1), task, 4, 1)
    for key in ("auroc", "pixel_auroc", "flagged"):
        assert figures[key] == pytest.approx(expected[key], abs=1e-3)


def test_own_images(files, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    names = [f"good/{i}" for i in range(8)] + [f"scratch/{i}" for i in range(3)]
    for i, name in enumerate(names):
        file = tmp_path / "photos" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        size = (20, 30 + i % 2, 3)  # images differ in size
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(file)
    task = importlib.import_module("run").read_folder(tmp_path / "photos", max_test=2)
    assert [len(x) for x in (task.pool, task.normal, task.anomalies["scratch"])] == [4, 2, 2]
    monkeypatch.chdir(tmp_path)
    run("--folder", tmp_path / "photos", "--detectors", "frozen", "--seeds", 0)
    (measured,) = [json.loads(x) for x in Path("measured/tasks.jsonl").read_text().splitlines()]
    assert measured["task"] == "photos" and measured["kinds"].keys() == {"scratch"}
