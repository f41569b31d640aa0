"""to_onnx: a file that says what the detector says, or no file."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neighbors import KernelDensity as OtherDensity
from torch import nn

from skcoft import COFTDetector
from skcoft._evidence import patch_density
from skcoft._evidence.torch_density import graph_of_density
from skcoft._export import graph as _graph
from skcoft._export import onnx as _onnx
from skcoft.density import GaussianDensity, KernelDensity

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
InvalidArgument = onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument

QUIET = {"max_iter": 0, "random_state": 0}


def pixels(images):
    """What the file takes of uint8 images (n, H, W, 3)."""
    return images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


def run(path, values):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {given.name: values}), strict=True))


def score_as_new(detector, X):
    """Return the scores of X without the recognition of training images, as the file does."""
    return detector._model.score_as_new(detector._read(X))


def assert_same(found, detector, X, atol=1e-5):
    """``atol`` is in standard deviations of held-out scores."""
    unit = detector.calibration_scores_.std()
    expected = score_as_new(detector, X)
    assert_allclose(found["score"], expected, atol=atol * unit, rtol=1e-6)
    assert_array_equal(found["decision"], found["score"] - detector.offset_)
    assert_array_equal(found["label"], np.where(expected < detector.offset_, -1, 1))
    assert found["score"].dtype == np.float64 and found["label"].dtype == np.int64


@pytest.fixture(scope="module")
def tiny(photos):
    return COFTDetector(TinyNet(), image_size=(32, 48), **QUIET).fit(photos[:8])


@pytest.fixture(scope="module")
def queries(photos):
    return np.concatenate([photos[8:], photos[:3] // 4])


@pytest.fixture(scope="module")
def tiny_file(tiny, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    return path, tiny.to_onnx(path, photos[:8])


def test_outputs_are_those_of_the_detector(tiny, tiny_file, queries):
    found = run(tiny_file[0], pixels(queries))
    assert list(found) == ["score", "decision", "label", "anomaly_map"]
    assert_same(found, tiny, queries)
    assert {-1, 1} == set(found["label"])
    assert found["anomaly_map"].dtype == np.float32
    assert_allclose(found["anomaly_map"], tiny.anomaly_map(queries), atol=1e-4)
    alone = run(tiny_file[0], pixels(queries[:1]))
    assert_allclose(alone["score"], found["score"][:1], rtol=1e-7)


def test_differences_and_versions_are_in_the_file(tiny_file):
    path, differences = tiny_file
    assert list(differences) == ["score", "anomaly_map"]
    assert 0 < differences["score"] < 0.1 and 0 < differences["anomaly_map"] < 1e-4
    model = onnx.load(path)
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found["torch"] == torch.__version__ and "skcoft" in found
    assert float(found["difference_score"]) == pytest.approx(differences["score"], rel=0.01)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
    assert [file.name for file in path.parent.iterdir()] == ["tiny.onnx"]


def test_values_that_no_detector_takes_are_not_normal(tiny_file, photos):
    images = pixels(photos[:4])
    images[0, 0, 0, 0], images[1], images[2, 2, 3, 3] = np.nan, images[1] * 255, -0.01
    found = run(tiny_file[0], images)
    assert np.isnan(found["score"]).tolist() == [True, True, True, False]
    assert found["label"][:3].tolist() == [-1, -1, -1]


def test_another_shape_is_an_error_of_the_runtime(tiny_file):
    with pytest.raises(InvalidArgument):
        run(tiny_file[0], np.zeros((1, 3, 20, 24), np.float32))


BACKBONES = {
    "embedded, two scales": {"backbone": "embedded"},
    "two backbones": {
        "backbone": ["test_vit", TinyNet()],
        "weights": None,
        "image_size": [32, 16],
        "density": "gaussian",
    },
    "round kernels, whole images": {
        "backbone": TinyNet(),
        "density": KernelDensity(),
        "local": False,
    },
}


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones(name, photos, queries, tmp_path):
    detector = COFTDetector(**BACKBONES[name], **QUIET).fit(photos[:8])
    differences = detector.to_onnx(tmp_path / "file.onnx", photos[:2])
    found = run(tmp_path / "file.onnx", pixels(queries))
    assert_same(found, detector, queries, atol=1e-4)
    assert ("anomaly_map" in differences) == ("anomaly_map" in found) == detector.local
    if detector.local:
        assert_allclose(found["anomaly_map"], detector.anomaly_map(queries), atol=1e-3)


LARGE = [
    {},
    {"backbone": "resnet18", "weights": None},
    {"backbone": "vit_tiny_patch16_224", "weights": None, "image_size": 32},
]


@pytest.mark.slow
@pytest.mark.parametrize("params", LARGE, ids=["default", "resnet", "transformer"])
def test_large_backbones(params, photos, queries, tmp_path):
    detector = COFTDetector(**params, **QUIET).fit(photos[:8])
    detector.to_onnx(tmp_path / "file.onnx", photos[:2])
    assert_same(run(tmp_path / "file.onnx", pixels(queries)), detector, queries, atol=1e-3)


@pytest.mark.parametrize(
    "density",
    [
        "kde",
        KernelDensity("loo", "full"),
        GaussianDensity(0.5),
        ["gaussian", KernelDensity(), "kde"],
    ],
)
def test_rows(density, tmp_path, capfd):
    X = np.random.default_rng(0).normal(size=(14, 5)) * [1, 2, 3, 4, 5]
    X[12] += 40
    detector = COFTDetector(density=density, **QUIET).fit(X[:8])
    differences = detector.to_onnx(tmp_path / "rows.onnx", X[:8])
    assert differences["score"] < 1e-4 and "".join(capfd.readouterr()) == ""
    X[13, 2] = np.inf
    found = run(tmp_path / "rows.onnx", X)
    assert list(found) == ["score", "decision", "label"]
    expected = score_as_new(detector, X[:13])
    assert_allclose(found["score"][:13], expected, rtol=1e-6)
    assert_array_equal(found["label"][:13], np.where(expected < detector.offset_, -1, 1))
    assert np.isnan(found["score"][13]) and found["label"][[12, 13]].tolist() == [-1, -1]


def test_many_bits_and_flattened_images(photos, tmp_path):
    deep = photos[..., 0].astype(np.uint16) * 16  # 12 bits
    params = {"image_shape": (24, 20), "bit_depth": 12, "image_size": 16, "local": False}
    detector = COFTDetector(TinyNet(), **params, **QUIET).fit(deep.reshape(12, -1))
    path = str(tmp_path / "deep.onnx")
    detector.to_onnx(path, deep.reshape(12, -1))
    gray = (deep / np.float32(4095)).astype(np.float32)
    found = run(path, np.repeat(gray[:, None], 3, axis=1))
    assert_same(found, detector, deep.reshape(12, -1))


def test_a_file_that_differs_is_not_written(tiny, photos, tmp_path, monkeypatch):
    path = tmp_path / "old.onnx"
    path.write_bytes(b"old")
    monkeypatch.setattr(patch_density, "mean_of_lowest", lambda maps: maps.mean(axis=(1, 2)))
    with pytest.raises(RuntimeError):
        tiny.to_onnx(path, photos[:8])
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def compare(score=0.0, label=1, drawn=0.0, expected=5.0):
    found = {"score": np.array([5 + score]), "label": np.array([label])}
    found["anomaly_map"] = np.array([[[drawn]]])
    truth = {"score": np.array([expected]), "anomaly_map": np.zeros((1, 1, 1))}
    return _onnx.compare(found, truth, offset=4.9999, std=2.0)


def test_differences_that_are_let_pass():
    assert compare(score=0.0019) == pytest.approx({"score": 0.0019, "anomaly_map": 0})
    assert compare(drawn=0.0009)["anomaly_map"] == 0.0009
    assert compare(label=-1)["score"] == 0  # the decision is 1e-4, within the tolerance of 2e-3


@pytest.mark.parametrize(
    "output, changes",
    [
        ("score", {"score": 0.0021}),
        ("score", {"score": np.nan}),
        ("anomaly_map", {"drawn": 0.0011}),
        ("label", {"label": -1, "score": 0.01, "expected": 5.01}),
    ],
)
def test_differences_that_are_too_large(output, changes):
    with pytest.raises(RuntimeError, match=f"The {output} of"):
        compare(**changes)


class Untraceable(TinyNet):
    """A module that leaves torch."""

    def forward(self, images):
        features = super().forward(images).mean((2, 3))
        return torch.tensor([[value.item() for value in row] for row in features])


class OneAtATime(TinyNet):
    """A module whose output depends on the batch size in a way that no graph holds."""

    def forward(self, images):
        return torch.cat([super(OneAtATime, self).forward(image[None]) for image in images])


@pytest.mark.parametrize("module", [Untraceable, OneAtATime])
def test_a_module_that_cannot_be_exported(module, photos, tmp_path):
    detector = COFTDetector(module(), image_size=16, local=False, **QUIET).fit(photos[:6])
    with pytest.raises(RuntimeError, match="torch"):
        detector.to_onnx(tmp_path / "file.onnx", photos[:3])
    assert not list(tmp_path.iterdir())


def test_densities_and_parts_of_others_are_refused(tiny, photos, tmp_path):
    params = {"image_size": 16, "local": False, **QUIET}
    detector = COFTDetector(TinyNet(), density=OtherDensity(), **params).fit(photos[:6])
    with pytest.raises(ValueError, match=r"density=KernelDensity\("):
        detector.to_onnx(tmp_path / "file.onnx", photos)
    branch = tiny._model.joint.backbone_scores[0]
    branch = branch.fit(branch.encoder, 1, branch.support, branch.components, branch.views)
    branch.components["brightness"] = SimpleNamespace(to_graph=lambda: None, needs_patches=False)
    with pytest.raises(ValueError, match="'brightness'"):
        _graph.BackboneGraph(branch, (24, 20))


def test_bad_input(tiny, photos, tmp_path, monkeypatch):
    two_sizes = [photos[0], photos[0].transpose(1, 0, 2)]
    for name, X, error, key in (
        ("nowhere/file.onnx", photos, FileNotFoundError, "path="),
        ("", photos, ValueError, "path="),
        ("file.onnx", two_sizes, ValueError, "20x24, 24x20"),
        ("file.onnx", np.zeros((3, 5)), ValueError, "images"),
    ):
        with pytest.raises(error, match=key):
            tiny.to_onnx(tmp_path / name, X)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError):
        tiny.to_onnx(tmp_path / "file.onnx", photos)
    assert not list(tmp_path.iterdir())


def test_an_old_file_is_replaced_and_verbose_prints(capsys, tmp_path):
    X, path = np.random.default_rng(0).normal(size=(8, 3)), tmp_path / "rows.onnx"
    path.write_bytes(b"old")
    differences = COFTDetector(verbose=1, **QUIET).fit(X).to_onnx(path, X)
    printed = capsys.readouterr().out
    assert printed == f"{path} differs from the detector by {differences} at most.\n"
    assert list(run(path, X)) == ["score", "decision", "label"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "function",
    [_graph.resize_maps, _graph.enlarge_maps, F.adaptive_avg_pool2d],
    ids=["antialiased", "plain", "pooling"],
)
@pytest.mark.parametrize("size", [(5, 7), (40, 33), (13, 20), (4, 20)])
def test_resizing_is_that_of_torch(function, size):
    maps = torch.rand(2, 3, 13, 20, generator=torch.manual_seed(0))
    resize = _graph.Resizing(function)
    for _ in range(2):  # finds the matrices, uses them
        assert_allclose(resize(maps, size), function(maps, size), atol=1e-6)


def test_pooling_to_a_grid_is_replaced_in_the_copy_alone():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Sequential(nn.AdaptiveAvgPool2d(1)))
    copied = _graph.copy_for_export(network)
    maps = torch.rand(2, 3, 8, 10, generator=torch.manual_seed(0))
    assert_allclose(copied(maps), network(maps), atol=1e-6)
    assert isinstance(copied[0], _graph.Resizing) and copied[0].size == (3, 3)
    assert isinstance(copied[1][0], nn.AdaptiveAvgPool2d)
    assert isinstance(network[0], nn.AdaptiveAvgPool2d)


@pytest.mark.parametrize(
    "density",
    [KernelDensity(), KernelDensity(0.3, "full"), GaussianDensity(), GaussianDensity(1.0)],
)
def test_densities_as_graphs(density):
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(9, 20)), [0, 0, 0, 1, 1, 2, 3, 4, 5]  # kernels of several weights
    known = {"groups": groups} if isinstance(density, KernelDensity) else {}
    density.fit(X, **known)
    rows = np.concatenate([X, rng.normal(size=(4, 20)) * 10])
    log_density = graph_of_density(density)(torch.from_numpy(rows))
    assert_allclose(log_density, density.score_samples(rows), rtol=1e-10)
