"""Supported versions of Python, and types that an installed package gives."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSIONS = ["3.11", "3.12", "3.13", "3.14"]


def test_metadata_and_nox_name_the_same_versions_of_python():
    prefix = "Programming Language :: Python :: 3."
    named = [text for text in PROJECT["classifiers"] if text.startswith(prefix)]
    assert [text.rpartition(" ")[2] for text in named] == VERSIONS
    assert PROJECT["requires-python"] == f">={VERSIONS[0]}"
    command = [sys.executable, "-m", "nox", "-f", str(ROOT / "noxfile.py"), "--list", "--json"]
    sessions = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert [session["session"] for session in sessions] == [f"tests-{v}" for v in VERSIONS]


USER_CODE = """
from skcoft import COFTDetector, COFTEmbedder, datasets
from skcoft.density import KernelDensity

detector = COFTDetector("embedded", max_iter=3).fit([])
reveal_type(detector)
reveal_type(detector.score_samples([]))
reveal_type(COFTEmbedder().transform([]))
reveal_type(KernelDensity().fit([[0.0]]).bandwidth_)
datasets.make_plates(8, 4)
COFTDetector(max_iter="three")
"""


def test_type_checkers_know_the_types_of_an_installed_wheel(tmp_path):
    """In an environment with the wheel and NumPy alone, by mypy in a fresh process."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", tmp_path, ROOT], check=True)
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (site_packages,) = environment.glob("lib/*/site-packages")
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site_packages)
    (site_packages / "numpy").symlink_to(Path(numpy.__file__).parent)
    (tmp_path / "user.py").write_text(USER_CODE)
    options = ["--python-executable", environment / "bin" / "python", "--cache-dir", tmp_path]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    lines = run.stdout.splitlines()
    types = re.findall(r'Revealed type is "([\w.]+)', run.stdout)
    assert [name.rpartition(".")[2] for name in types] == [
        "COFTDetector",
        "ndarray",
        "ndarray",
        "float",
    ]
    errors = [line for line in lines if ": error:" in line]
    assert len(errors) == 1 and 'Argument "max_iter"' in errors[0], run.stdout + run.stderr
