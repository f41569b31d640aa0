"""What CONTRIBUTING says of adding a part, a contrastive family, a source of weights: it works."""

import numpy as np
import pytest
import timm
import torch
from conftest import TinyNet
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import save_file

from skcoft import COFTDetector, COFTEmbedder
from skcoft._evidence.component import COMPONENTS
from skcoft._network.weights import SOURCES, Weights
from skcoft._training.contrastive import FAMILIES, MeanShifted
from skcoft.datasets import make_plates


class Brightness:
    """A component in one file: the mean of each patch embedding, as score, map and ONNX graph."""

    needs_patches = True
    state_fields = {
        "held_out_scores": "f8 K",
        "held_out_minima": "f8 K",
    }
    weight = 2.0

    def __init__(self):
        self.held_out_scores = self.held_out_minima = np.empty(0)

    @classmethod
    def build(cls, settings, encoder):
        return cls() if encoder.has_patches else None

    def add_patches(self, support, earlier=None):
        maps = [row.mean(axis=2, dtype=np.float64) for row in support.patches]
        scores = np.array([log_map.mean() for log_map in maps])
        minima = np.array([log_map.min() for log_map in maps])
        self.held_out_scores = np.append(self.held_out_scores, scores[support.is_calibration])
        self.held_out_minima = np.append(self.held_out_minima, minima[support.is_calibration])

    def keep_rows(self, support, is_kept):
        is_kept = is_kept[support.is_calibration]
        self.held_out_scores = self.held_out_scores[is_kept]
        self.held_out_minima = self.held_out_minima[is_kept]

    def fit(self, support):
        return self

    def summarize(self, features):
        log_map = features.patches.double().mean(3).flatten(1)
        return torch.stack([log_map.mean(1), log_map.amin(1)], 1).cpu().numpy()

    def score(self, summary):
        return summary[:, 0]

    def minima(self, summary):
        return summary[:, 1]

    def log_maps(self, features):
        maps = features.patches.double().mean(3).cpu().numpy()
        return maps if features.nearest is None else maps[:, 0][:, features.nearest]

    def to_graph(self):
        return BrightnessGraph()


class BrightnessGraph(torch.nn.Module):
    def forward(self, patches):
        log_maps = patches.double().mean(3)
        return log_maps.flatten(1).mean(1), log_maps


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(COMPONENTS, "brightness", Brightness)


@pytest.mark.parametrize("contamination", ["auto", 0.25])
def test_another_component_is_fitted_and_added(contamination, photos, registered, tmp_path):
    params = dict(max_iter=0, random_state=0, contamination=contamination)
    fitted = COFTDetector(TinyNet(), **params).fit(photos[:8])
    keys = [(0, "image"), (0, "patch"), (0, "brightness")]
    assert list(fitted._model.joint.components) == keys
    image, patch, brightness = (fitted._model.joint.components[key] for key in keys)
    summaries = fitted._model.summarize(fitted._read(photos))
    std, weight = image.held_out_scores.std(), patch.weight / patch.held_out_scores.std()
    expected = image.score(summaries[keys[0]])
    expected += std * weight * (patch.score(summaries[keys[1]]) - patch.held_out_scores.mean())
    own = brightness.score(summaries[keys[2]]) - brightness.held_out_scores.mean()
    expected += 2 * std / brightness.held_out_scores.std() * own
    assert_allclose(fitted.score_samples(photos)[8:], expected[8:])
    assert_allclose(fitted.score_samples(photos)[:8], fitted.held_out_scores_)
    for memory in (None, tmp_path, tmp_path):
        extended = COFTDetector(TinyNet(), memory=memory, **params).fit(photos[:6])
        extended.partial_fit(photos[6:8])
        assert list(extended._model.joint.components) == keys
        assert np.isfinite(extended.offset_) and len(extended.calibration_scores_) == 8
        assert len(extended._model.joint.components[0, "brightness"].held_out_scores) == 16


def test_another_component_is_built_only_if_it_says_so(registered):
    table = COFTDetector(max_iter=0, random_state=0).fit(np.random.default_rng(0).random((8, 3)))
    assert list(table._model.joint.components) == [(0, "image")]


@pytest.mark.parametrize("masked", [False, True])
def test_another_component_has_maps_model_files_and_onnx_files(
    masked, registered, monkeypatch, tmp_path
):
    images = make_plates(10, 2, size=64, random_state=0).images
    mask = np.ones((64, 64), dtype=bool)
    mask[:, :24] = not masked
    params = dict(backbone="embedded", max_iter=0, mask=mask, random_state=0)
    fitted = COFTDetector(**params).fit(images[:6]).partial_fit(images[6:8])
    components = fitted._model.joint.map_components()
    assert [name for _, name in components] == ["patch", "brightness"] * 2  # scales
    maps = fitted.anomaly_map(images)
    with monkeypatch.context() as patch:
        patch.delitem(COMPONENTS, "brightness")
        without = COFTDetector(**params).fit(images[:6]).partial_fit(images[6:8])
    assert np.nanmax(np.abs(maps - without.anomaly_map(images))) > 0.1
    fitted.set_threshold(images[8:], max_fpr=0.4)
    fitted.save(tmp_path / "model.skcoft")
    loaded = COFTDetector.load(tmp_path / "model.skcoft")
    assert_array_equal(loaded.score_samples(images), fitted.score_samples(images))
    assert_array_equal(loaded.anomaly_map(images), maps)
    assert loaded.map_threshold_ == fitted.map_threshold_
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    loaded.to_onnx(tmp_path / "model.onnx", images)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    values = np.float32(images.transpose(0, 3, 1, 2) / 255)
    score, anomaly_map = session.run(["score", "anomaly_map"], {"images": values})
    unit = fitted.calibration_scores_.std()
    expected = fitted._model.score_as_new(fitted._read(images))
    assert_allclose(score, expected, atol=1e-3 * unit, rtol=1e-5)
    assert_allclose(anomaly_map, maps, atol=1e-3)


class Still(MeanShifted):
    """A contrastive family that wants nothing."""

    def forward(self, first, second, shots):
        return 0.0 * (first - second).sum()


def test_another_contrastive_family(photos, monkeypatch):
    with pytest.raises(ValueError):
        COFTEmbedder(TinyNet(), contrastive="still").fit(photos)
    monkeypatch.setitem(FAMILIES, "still", Still)
    params = dict(negatives=None, positive_weight=0, max_iter=3, random_state=0)
    fitted = COFTEmbedder(TinyNet(), contrastive="still", **params).fit(photos)
    assert fitted.history_["loss"].tolist() == [0, 0, 0]
    frozen = COFTEmbedder(TinyNet(), max_iter=0, random_state=0).fit(photos)
    assert_allclose(fitted.transform(photos), frozen.transform(photos), atol=1e-5)


def test_another_source_of_weights(photos, monkeypatch, tmp_path):
    """It is asked before the hub, of every backbone, and may know of none."""
    with torch.random.fork_rng():
        state = timm.create_model("resnet10t").state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    known = {"resnet10t": Weights(tmp_path / "weights.safetensors", "a toy's file")}
    monkeypatch.setitem(SOURCES, "toy", known.get)
    fitted = COFTEmbedder("resnet10t", image_size=32, max_iter=0).fit(photos)
    own = fitted.network_.body.state_dict()
    assert all(torch.equal(own[key], state[key]) for key in own)
    assert fitted.weights_ == "a toy's file"
    embedded = COFTEmbedder("embedded", image_size=64, max_iter=0).fit(photos)
    assert embedded.transform(photos).shape == (12, 2176)
