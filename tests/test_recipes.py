"""What CONTRIBUTING says of adding a part, a contrastive family, a source of weights: it works."""

import numpy as np
import pytest
import timm
import torch
from conftest import TinyNet
from numpy.testing import assert_allclose
from safetensors.torch import save_file

from skcoft import COFTDetector, COFTEmbedder
from skcoft._evidence.backbone_score import COMPONENTS
from skcoft._network.weights import SOURCES, Weights
from skcoft._training.contrastive import FAMILIES, MeanShifted


class Brightness:
    """A part of evidence, complete: how bright the positions of an image are for the network."""

    needs_patches = True
    weight = 2.0

    def __init__(self):
        self.learned = []

    @classmethod
    def build(cls, settings, encoder):
        return cls() if encoder.has_patches else None

    def add_patches(self, added):
        means = np.array([row.mean() for row in added.patches])
        self.learned += [means[added.is_calibration], means[added.is_shot]]

    def fit(self, support):
        self.held_out_scores = np.concatenate(self.learned[::2])
        return self

    def summarize(self, features):
        return features.patches.mean(axis=(1, 2, 3)).cpu().numpy()

    def score(self, kept):
        return kept

    def score_training(self, support):
        return np.concatenate(self.learned[1::2])


@pytest.mark.parametrize("contamination", ["auto", 0.25])
def test_a_third_part(contamination, photos, monkeypatch, tmp_path):
    params = dict(max_iter=0, random_state=0, contamination=contamination)
    two = COFTDetector(TinyNet(), **params).fit(photos[:8])
    monkeypatch.setitem(COMPONENTS, "brightness", Brightness.build)
    for memory in (None, tmp_path, tmp_path):
        three = COFTDetector(TinyNet(), memory=memory, **params).fit(photos[:6])
        three.partial_fit(photos[6:8])
        assert list(three._model.joint.components) == [
            (0, "image"),
            (0, "patch"),
            (0, "brightness"),
        ]
        assert np.isfinite(three.offset_) and len(three.calibration_scores_) == 8
        assert not np.allclose(three.score_samples(photos), two.score_samples(photos))
    three = COFTDetector(TinyNet(), **params).fit(photos[:8])
    gain = three.score_samples(photos) - two.score_samples(photos)
    encoder, keep = three.embedder_.encoders_[0], {"b": Brightness().summarize}
    kept = encoder.summarize(three._read(photos), keep, with_patches=True)["b"]
    assert np.corrcoef(gain, kept)[0, 1] == pytest.approx(1)
    rows = COFTDetector(max_iter=0, random_state=0).fit(np.random.default_rng(0).random((8, 3)))
    assert list(rows._model.joint.components) == [(0, "image")]


class Still(MeanShifted):
    """A contrastive family that wants nothing."""

    def forward(self, first, second, shots):
        return 0.0 * (first - second).sum()


def test_another_contrastive_family(photos, monkeypatch):
    with pytest.raises(ValueError, match="'mean_shifted' or 'infonce' or 'simsiam'; got 'still'"):
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
