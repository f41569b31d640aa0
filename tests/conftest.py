"""Fixtures shared by the test files."""

import os
import sys

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # lets scikit-learn run its array API check
os.environ.setdefault("MPLBACKEND", "Agg")  # draws without a screen

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from skcoft import COFTDetector
from skcoft._cli import main
from skcoft.datasets import make_plates

ROOT = Path(__file__).resolve().parents[1]


class TinyNet(nn.Module):
    """A small convolutional network with batch normalisation and seeded random weights."""

    def __init__(self, width=16, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Conv2d(3, width, 3, stride=2, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, stride=2, padding=1),
                nn.ReLU(),
            )

    def forward(self, images):
        return self.layers(images)


@pytest.fixture
def tiny_net():
    return TinyNet()


@pytest.fixture(scope="session")
def digits():
    """Images of zeros and of ones, values 0 to 1."""
    data = load_digits()
    return tuple(data.images[data.target == t] / 16 for t in (0, 1))


@pytest.fixture(scope="session")
def photos():
    """12 random colour images, uint8 (12, 24, 20, 3)."""
    return np.random.default_rng(0).integers(0, 256, (12, 24, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def shared():
    """Folder with real weights and images for measurements; absent on most machines."""
    folder = Path(os.environ.get("SKCOFT_SHARED", ROOT.parent / "shared"))
    if not (folder / "weights").is_dir():
        pytest.skip("this machine has no measurement data")
    return folder


@pytest.fixture(scope="session")
def plates():
    """18 small photographs of a machined part: 6 shots, 6 normal images, 6 with a defect."""
    return make_plates(12, 6, size=64, random_state=0)


@pytest.fixture(scope="session")
def inspector(plates):
    """A detector of plates, fitted on the shots; tests must not change it."""
    return COFTDetector("embedded", max_iter=0, random_state=0).fit(plates.images[:6])


@pytest.fixture(scope="session")
def plate_folder(plates, tmp_path_factory):
    """The plates as files, in folders like those of MVTec AD; tests must not change them."""
    root = tmp_path_factory.mktemp("plates")
    for i, (image, kind) in enumerate(zip(plates.images, plates.kinds, strict=True)):
        file = root / ("train" if i < 6 else "test") / kind / f"{i:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return root


@pytest.fixture
def work(plates, inspector, tmp_path, monkeypatch):
    """An empty folder but for a model, its training images, and three new images."""
    monkeypatch.chdir(tmp_path)
    inspector.save("m.skcoft")
    for i, image in enumerate(plates.images[:9]):
        folder = tmp_path / ("normal" if i < 6 else "new")
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    return tmp_path


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a command in an empty folder; return its exit code, output and error output."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main([*map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture(autouse=True)
def no_figure_is_left():
    """Close all figures after a test, if it used pyplot."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
