"""The examples that no README command runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_materials(tmp_path):
    script = EXAMPLES / "plot_materials.py"
    run = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg"},
        check=True,
        capture_output=True,
        text=True,
    )
    figures = re.findall(r"AUROC of the (?:detector|pipeline): ([\d.]+)", run.stdout)
    assert len(figures) == 2 and all(float(value) > 0.95 for value in figures)
    assert (tmp_path / "materials.png").stat().st_size > 10_000
