"""Fixtures that the test files share."""

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
from skcoft.datasets import make_plates

ROOT = Path(__file__).resolve().parents[1]


class TinyNet(nn.Module):
    """A small convolutional network with batch normalisation, random but always the same."""

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
    """Images 0..1 of zeros and ones."""
    data = load_digits()
    return tuple(data.images[data.target == t] / 16 for t in (0, 1))


@pytest.fixture(scope="session")
def photos():
    """12 random colour images, uint8 (12, 24, 20, 3)."""
    return np.random.default_rng(0).integers(0, 256, (12, 24, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def shared():
    """Folder with real weights and images for measuring; absent on most machines."""
    folder = Path(os.environ.get("SKCOFT_SHARED", ROOT.parent / "shared"))
    if not (folder / "weights").is_dir():
        pytest.skip("the measuring data are not on this machine")
    return folder


@pytest.fixture(scope="session")
def plates():
    """18 small photographs of a machined part: 6 shots, 6 normal ones, 6 with a defect."""
    return make_plates(12, 6, size=64, random_state=0)


@pytest.fixture(scope="session")
def inspector(plates):
    """A detector of plates, fitted on the shots; for reading only."""
    return COFTDetector("embedded", max_iter=0, random_state=0).fit(plates.images[:6])


@pytest.fixture(scope="session")
def plate_folder(plates, tmp_path_factory):
    """The plates as files, in folders as MVTec AD has them; for reading only."""
    root = tmp_path_factory.mktemp("plates")
    for i, (image, kind) in enumerate(zip(plates.images, plates.kinds, strict=True)):
        file = root / ("train" if i < 6 else "test") / kind / f"{i:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return root


@pytest.fixture(autouse=True)
def no_figure_is_left():
    """What a test draws is closed, where anything drew."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
