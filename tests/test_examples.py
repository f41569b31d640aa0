"""The examples that no README command runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, folder):
    """Run an example in a folder and return what it printed."""
    finished = subprocess.run(
        [sys.executable, EXAMPLES / name],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "Agg"},
        check=True,
        capture_output=True,
        text=True,
    )
    return finished.stdout


def test_materials(tmp_path):
    printed = run("plot_materials.py", tmp_path)
    figures = re.findall(r"AUROC of the (?:detector|pipeline): ([\d.]+)", printed)
    assert len(figures) == 2 and all(float(value) > 0.95 for value in figures)
    assert (tmp_path / "materials.png").stat().st_size > 10_000


def test_model_selection(tmp_path):
    printed = run("plot_model_selection.py", tmp_path)
    assert float(re.search(r"best: .* AUROC ([\d.]+)", printed).group(1)) > 0.9
    assert "fitted on 40 threes" in printed  # without the 40 anomalies
    normal = re.search(r" normal +[\d.]+ +([\d.]+)", printed)
    assert float(normal.group(1)) > 0.85  # 5 % of unseen threes are flagged on average
    assert (tmp_path / "model_selection.png").stat().st_size > 10_000
