"""The weights that come with the package: what they are, and that they work without a network."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from pretraining.images import draw_formulas, photograph, render
from skcoft import COFTEmbedder, _embedded
from skcoft._backbone import build_backbone

ROOT = Path(__file__).parent.parent


def test_file_agrees_with_the_code():
    assert hashlib.sha256(_embedded.WEIGHTS.read_bytes()).hexdigest() == _embedded.SHA256
    assert _embedded.WEIGHTS.stat().st_size < 6_000_000
    own = _embedded.Embedded().state_dict()
    with safe_open(_embedded.WEIGHTS, framework="pt") as file:
        assert set(file.keys()) == {k for k in own if "num_batches" not in k}
        for key in file.keys():
            tensor = file.get_tensor(key)
            assert tensor.dtype == torch.float16 and tensor.shape == own[key].shape
            assert torch.isfinite(tensor).all()
        noted = file.metadata()
    assert noted["architecture"] == _embedded.ARCHITECTURE
    assert json.loads(noted["options"]) == {k: list(v) for k, v in _embedded.OPTIONS.items()}
    assert json.loads(noted["mean"]) == list(_embedded.MEAN)
    assert json.loads(noted["std"]) == list(_embedded.STD)


@pytest.mark.parametrize(
    ("common", "size"), [((32, 32), (128, 128)), ((300, 200), (128, 128)), (None, (128, 128))]
)
def test_size(common, size):
    network, got = build_backbone("embedded", "pretrained", None, common, 0)
    assert got == size
    assert network(torch.zeros(2, 3, *size)).shape == (2, 2176)


@pytest.mark.parametrize("size", [(48, 48), (64, 160), 33])
def test_other_sizes(size):
    images = np.random.default_rng(0).random((3, 40, 50))
    embedder = COFTEmbedder(image_size=size, max_iter=0).fit(images)
    assert embedder.transform(images).shape == (3, 2176)


def test_features_are_what_and_where_of_whitened_cells():
    network = build_backbone("embedded", "pretrained", None, (128, 128), 0)[0]
    generator = torch.Generator().manual_seed(5)
    images = photograph(render(draw_formulas(200, generator), 128, generator), 128, generator)
    with torch.inference_mode():
        images = (images - 0.5) / 0.25
        features = network.body(images)
        maps = network.body.trunk.forward_intermediates(images, intermediates_only=True)[3:]
    for group, found, whiten in zip(
        features.split(17 * 64, 1), maps, network.body.whiten, strict=True
    ):
        cells = whiten(_embedded.average_cells(found)).flatten(2).detach()
        covariance = cells.movedim(1, 2).flatten(0, 1).T.cov()
        assert (covariance.diag() > 0.4).all() and (covariance.diag() < 1.5).all()
        assert (covariance - torch.diag(covariance.diag())).abs().mean() < 0.1
        where, what = group[:, : 16 * 64].unflatten(1, (64, 16)), group[:, 16 * 64 :]
        torch.testing.assert_close(where.flatten(1).norm(dim=1), torch.ones(200))
        torch.testing.assert_close(where.sum(dim=2), torch.zeros(200, 64), atol=1e-4, rtol=0)
        mean = cells.mean(dim=2)
        torch.testing.assert_close(what, 0.5 * mean / mean.norm(dim=1, keepdim=True))


def test_pretrained_tells_kinds_apart_better_than_random_weights():
    generator = torch.Generator().manual_seed(123)
    formulas = draw_formulas(60, generator)
    first, second = (
        photograph(render(formulas, 128, generator), 128, generator) for _ in range(2)
    )
    rates = {}
    for weights in ("pretrained", None):
        embedder = COFTEmbedder(weights=weights, max_iter=0, random_state=0).fit(first[:4])
        a, b = embedder.transform(first), embedder.transform(second)
        rates[weights] = ((a @ b.T).argmax(axis=1) == np.arange(60)).mean()
    assert rates["pretrained"] > rates[None] + 0.1


def test_works_without_network_and_with_an_empty_cache(tmp_path):
    code = (
        "import socket, numpy as np\n"
        "def refuse(*args, **kwargs): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "from skcoft import COFTDetector\n"
        "images = np.random.default_rng(0).random((12, 64, 64))\n"
        "fitted = COFTDetector(max_iter=1, random_state=0).fit(images[:8])\n"
        "assert fitted.score_samples(images).shape == (12,)\n"
    )
    env = {"HF_HOME": str(tmp_path), "HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    path = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=env | path, cwd=tmp_path, check=True)


def test_wheel_holds_the_weights_and_is_small(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "skcoft", source / "skcoft")
    for name in ("pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-q", "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 10_000_000
    with zipfile.ZipFile(wheel) as archive:
        assert "skcoft/embedded.safetensors" in archive.namelist()
        assert not [n for n in archive.namelist() if n.startswith("pretraining")]
