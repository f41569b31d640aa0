"""What the examples print and plot, except for the example that README runs."""

import re
import runpy
from io import BytesIO
from pathlib import Path

import matplotlib
import pytest
from matplotlib import pyplot as plt

matplotlib.use("Agg")
EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run an example and return what it printed; it must show its figures and leave no file."""

    def run(name, n_figures=1):
        figure_sizes = []  # in bytes

        def show():
            plt.savefig(buffer := BytesIO())
            figure_sizes.append(len(buffer.getvalue()))

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(plt, "show", show)
        runpy.run_path(str(EXAMPLES / name))
        plt.close("all")
        assert len(figure_sizes) == n_figures and min(figure_sizes) > 10_000
        assert not list(tmp_path.iterdir())
        return capsys.readouterr().out

    return run


def numbers_in(line):
    """Return all numbers of a line as printed: 5% is 5."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", line)]


@pytest.mark.slow
def test_materials(run):
    half, whole = run("plot_materials.py").splitlines()
    _, half_auroc, _, half_right, half_others = numbers_in(half)
    _, whole_auroc, whole_left, whole_right, whole_others = numbers_in(whole)
    assert min(half_auroc, whole_auroc) > 0.95 and half_others == whole_others == 100
    assert max(whole_left, whole_right) <= 10  # the target is 5 % if shots cover the wall
    assert half_right >= whole_right + 10


@pytest.mark.slow
def test_dirty(run):
    warning, with_wrong, without, *views = run("plot_dirty.py", n_figures=2).splitlines()
    assert "far less normal than the others: X[5]." in warning
    for line in (with_wrong, without):
        detected, flagged = numbers_in(line)
        assert detected > 60 and flagged <= 10
    counts = [int(numbers_in(line)[0]) for line in views]  # of 24 each: normal, defective
    assert max(counts[::2]) <= 4 and min(counts[1::2]) >= 14


@pytest.mark.slow
def test_folder(run):
    output = run("plot_folder.py")
    flagged = dict(re.findall(r"^(\w+): (\d+) of \d+ flagged", output, re.M))
    assert set(flagged) == {"good", "scratch", "stain", "dent", "missing_hole"}
    assert int(flagged.pop("good")) <= 1
    assert sum(map(int, flagged.values())) >= 9  # of 12
    assert "broken.png: -1, Cannot read" in output
    assert "written: plates.skcoft, report.html, scores.csv" in output


@pytest.mark.slow
def test_large(run):
    downscaled, full = (
        [float(number) for number in re.findall(r"-?\d+\.\d", line)]
        for line in run("plot_large.py").splitlines()
    )
    assert full[0] > 4 > full[1]  # the drop exceeds the maximum of the good plate
    assert downscaled[0] < 0  # the drop is lost


@pytest.mark.slow
def test_labelled(run):
    counts, worn, others = zip(*map(numbers_in, run("plot_labelled.py").splitlines()), strict=True)
    assert counts == (0, 1, 5, 10) and worn == tuple(sorted(worn))
    assert worn[2] > worn[0] + 0.03 and min(others) > others[0] - 0.02


@pytest.mark.slow
def test_adversarial(run):
    good, attacked, noisy = map(numbers_in, run("plot_adversarial.py").splitlines())
    assert min(good) >= 10 and max(attacked) <= 1  # of 12 plates: classifier, detector
    assert noisy[0] >= 10 and attacked[1] < noisy[1] < good[1]


@pytest.mark.slow
def test_modalities(run):
    output = run("plot_modalities.py")
    detected_by = dict(re.findall(r"^(\w+) is detected by (.*)$", output, re.M))
    assert detected_by["bulge"] == "depth; colour and depth"
    assert detected_by["stain"] == "colour; colour and depth"
    assert detected_by["dent"] == "colour; depth; colour and depth"
    assert detected_by["missing_hole"] == "colour; depth; colour and depth"


@pytest.mark.slow
def test_shots(run):
    lines = [numbers_in(line) for line in run("plot_shots.py").splitlines()]
    shots, auroc, worst_auroc, fpr, _ = zip(*lines, strict=True)
    assert shots == (3, 6, 12, 24)
    assert auroc[-1] > auroc[0] + 0.05 and worst_auroc[-1] > worst_auroc[0]
    assert fpr[-1] <= 5


@pytest.mark.slow
def test_threshold(run):
    automatic, five, one = (line.split() for line in run("plot_threshold.py").splitlines())
    good = [int(line[1].rstrip("%")) for line in (automatic, five, one)]
    assert good[0] <= 12 and good[1] <= 12 and good[2] <= 4  # of 100 random plates
    defective = [numbers_in(line[-4])[0] for line in (automatic, five, one)]
    assert defective[1] > defective[2] > 10 * good[2]  # a stricter max_fpr misses more defects


@pytest.mark.slow
def test_drift(run):
    lines = run("plot_drift.py").splitlines()
    flagged = [numbers_in(line) for line in lines if "lamp:" in line]
    (old, new), (old_after, new_after) = flagged[:2], flagged[2:]
    assert old[0] <= 3 and old_after[0] <= 3
    assert new[0] >= 0.9 * new[1] and new_after[0] <= 3  # good plates under the new lamp
    assert new_after[2] >= 3  # defects under the new lamp are still detected


@pytest.mark.slow
def test_sky(run):
    output = run("plot_sky.py")
    n_tiles, below = numbers_in(output.splitlines()[0])
    assert n_tiles == 18 * 20 and 0 < below < 20
    correlations = re.findall(r"rank correlation with .*: (-?[\d.]+)", output)
    assert len(correlations) == 2 and all(0 < float(value) < 0.8 for value in correlations)


@pytest.mark.slow
def test_columns(run):
    photo, numbers, both = (numbers_in(line) for line in run("plot_columns.py").splitlines())
    assert photo[1] > 60 and photo[2] < 20  # shares of defects and of hollow parts
    assert numbers[1] < 20 and numbers[2] > 90
    assert both[0] <= 15 and both[1] > 50 and both[2] > 90


@pytest.mark.slow
def test_displays(run):
    run("plot_displays.py")


@pytest.mark.slow
def test_densities(run):
    output = run("plot_densities.py")
    pattern = r"^(.+): (\d+)% normal, with (\d+)% of normal test points$"
    shares = {
        name: (int(area), int(accepted))
        for name, area, accepted in re.findall(pattern, output, re.M)
    }
    assert len(shares) == 6 and all(accepted >= 90 for _, accepted in shares.values())
    assert shares["isolation forest"][0] == 100  # combined with kernels, it hardly widens these
    assert shares["kernel density"][0] < shares["kernels and forest"][0] < 60


@pytest.mark.slow
def test_model_selection(run):
    output = run("plot_model_selection.py")
    assert float(re.search(r"best: .* AUROC ([\d.]+)", output).group(1)) > 0.9
    assert "fitted on 32 threes" in output  # without the 32 anomalies
    normal = re.search(r" normal +[\d.]+ +([\d.]+)", output)
    assert float(normal.group(1)) > 0.85  # on average, 5 % of new threes are flagged
