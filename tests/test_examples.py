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


@pytest.mark.slow
def test_materials(run):
    printed = run("plot_materials.py")
    figures = re.findall(r"AUROC of the (?:detector|pipeline): ([\d.]+)", printed)
    assert len(figures) == 2 and all(float(value) > 0.95 for value in figures)
    assert float(re.search(r"wall flagged: (\d+)%", printed).group(1)) <= 15  # 5 % on average


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
