"""The examples that no README command runs: what they print and draw."""

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
    """Run an example, which shows a figure and leaves no file; return what it printed."""

    def run(name):
        shown = []

        def show():
            plt.savefig(picture := BytesIO())
            shown.append(len(picture.getvalue()))

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(plt, "show", show)
        runpy.run_path(str(EXAMPLES / name))
        plt.close("all")
        assert len(shown) == 1 and shown[0] > 10_000
        assert not list(tmp_path.iterdir())
        return capsys.readouterr().out

    return run


def numbers_in(line):
    """All numbers of a line, as they stand: 5% is 5."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", line)]


@pytest.mark.slow
def test_materials(run):
    half, whole = run("plot_materials.py").splitlines()
    _, half_auroc, _, half_right, half_others = numbers_in(half)
    _, whole_auroc, whole_left, whole_right, whole_others = numbers_in(whole)
    assert min(half_auroc, whole_auroc) > 0.95 and half_others == whole_others == 100
    assert max(whole_left, whole_right) <= 15 < half_right  # 5 % on average of what shots show
    assert half_right >= whole_right + 10


@pytest.mark.slow
def test_folder(run):
    printed = run("plot_folder.py")
    flagged = dict(re.findall(r"^(\w+): (\d+) of \d+ flagged", printed, re.M))
    assert set(flagged) == {"good", "scratch", "stain", "dent", "missing_hole"}
    assert int(flagged.pop("good")) <= 1
    assert sum(map(int, flagged.values())) >= 9  # of 12
    assert "broken.png: -1, Cannot read" in printed
    assert "written: plates.skcoft, report.html, scores.csv" in printed


@pytest.mark.slow
def test_large(run):
    reduced, whole = (
        [float(number) for number in re.findall(r"-?\d+\.\d", line)]
        for line in run("plot_large.py").splitlines()
    )
    assert whole[0] > 4 > whole[1]  # the drop stands out from all that a sound plate shows
    assert reduced[0] < 0  # it is lost


@pytest.mark.slow
def test_labelled(run):
    counts, worn, others = zip(*map(numbers_in, run("plot_labelled.py").splitlines()), strict=True)
    assert counts == (0, 1, 5, 10) and worn == tuple(sorted(worn))
    assert worn[2] > worn[0] + 0.03 and min(others) > others[0] - 0.01


@pytest.mark.slow
def test_adversarial(run):
    sound, attacked, noisy = map(numbers_in, run("plot_adversarial.py").splitlines())
    assert min(sound) >= 10 and max(attacked) <= 1  # of 12 plates: classifier, detector
    assert noisy[0] >= 10 and attacked[1] < noisy[1] < sound[1]


@pytest.mark.slow
def test_modalities(run):
    told = dict(re.findall(r"^(\w+) is told by (.*)$", run("plot_modalities.py"), re.M))
    assert told["bulge"] == "depth; colour and depth"
    assert told["stain"] == "colour; colour and depth"
    assert told["dent"] == told["missing_hole"] == "colour; depth; colour and depth"


@pytest.mark.slow
def test_shots(run):
    lines = [numbers_in(line) for line in run("plot_shots.py").splitlines()]
    shots, auroc, worst, alarms, _ = zip(*lines, strict=True)
    assert shots == (3, 6, 12, 24)
    assert auroc[-1] > auroc[0] + 0.05 and worst[-1] > worst[0]  # more shots tell more
    assert alarms[-1] <= 5


@pytest.mark.slow
def test_threshold(run):
    automatic, five, one = (line.split() for line in run("plot_threshold.py").splitlines())
    good = [int(line[1].rstrip("%")) for line in (automatic, five, one)]
    assert good[0] <= 12 and good[1] <= 12 and good[2] <= 4  # of 100 plates that chance drew
    defective = [numbers_in(line[-4])[0] for line in (automatic, five, one)]
    assert defective[1] > defective[2] > 10 * good[2]  # the stricter promise lets more pass


@pytest.mark.slow
def test_drift(run):
    lines = run("plot_drift.py").splitlines()
    flagged = [numbers_in(line) for line in lines if "lamp:" in line]
    (old, new), (old_after, new_after) = flagged[:2], flagged[2:]
    assert old[0] <= 3 and old_after[0] <= 3
    assert new[0] >= 0.9 * new[1] and new_after[0] <= 3  # good plates under the new lamp
    assert new_after[2] >= 3  # and defects among them are still found


@pytest.mark.slow
def test_sky(run):
    printed = run("plot_sky.py")
    tiles, below = numbers_in(printed.splitlines()[0])
    assert tiles == 18 * 20 and 0 < below < 20
    correlations = re.findall(r"rank correlation with .*: (-?[\d.]+)", printed)
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
    printed = run("plot_densities.py")
    pattern = r"^(.+): (\d+)% normal, with (\d+)% of unseen normal points$"
    found = {
        name: (int(area), int(share)) for name, area, share in re.findall(pattern, printed, re.M)
    }
    assert len(found) == 6 and all(share >= 90 for _, share in found.values())
    assert found["isolation forest"][0] == 100  # the mean is as tight as its kernels, or nearly
    assert found["kernels and forest"][0] < found["kernel density"][0] + 10 < 60


@pytest.mark.slow
def test_model_selection(run):
    printed = run("plot_model_selection.py")
    assert float(re.search(r"best: .* AUROC ([\d.]+)", printed).group(1)) > 0.9
    assert "fitted on 32 threes" in printed  # without the 32 anomalies
    normal = re.search(r" normal +[\d.]+ +([\d.]+)", printed)
    assert float(normal.group(1)) > 0.85  # 5 % of unseen threes are flagged on average
