"""Text prompts: an image's nearness to what normal and anomalous ones are called."""

import json
import pickle

import numpy as np
import open_clip
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import save_file
from torch import nn

from skcoft import COFTDetector, COFTEmbedder
from skcoft.datasets import make_plates

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 64,
        "layers": 4,
        "width": 64,
        "patch_size": 16,
        "head_width": 32,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PROMPTS = {"normal": ["a plate"], "anomalous": ["a scratched plate", "a dirty plate"]}


class Colours(nn.Module):
    """A network whose text says colours."""

    words = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}

    def forward(self, images):
        return images.mean(dim=(2, 3))

    def encode_text(self, texts):
        return torch.tensor([self.words[text] for text in texts])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder in open_clip's layout: a tiny model of random weights."""
    folder = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(**CONFIG)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    config = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": mean, "std": std}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def plates():
    return make_plates(8, 4, size=64, random_state=0)


def options(clip, **others):
    name = f"open_clip:local-dir:{clip}"
    return {"backbone": name, "prompts": PROMPTS, "max_iter": 0, "random_state": 0, **others}


@pytest.fixture(scope="module")
def fitted(clip, plates):
    return COFTDetector(**options(clip)).fit(plates.images[:6])


def embeddings_by_open_clip(clip, images, texts):
    """As its users compute them."""
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{clip}")
    tokens = open_clip.get_tokenizer(f"local-dir:{clip}")(texts)
    pixels = torch.from_numpy(images).movedim(3, 1) / 255
    normalize = preprocess.transforms[-1]
    with torch.no_grad():
        found = model.encode_image(normalize(pixels), True), model.encode_text(tokens, True)
    return [value.double().numpy() for value in found]


def test_embeddings_are_those_of_open_clip(fitted, clip, plates):
    images, texts = embeddings_by_open_clip(
        clip, plates.images[6:], [*PROMPTS["normal"], *PROMPTS["anomalous"]]
    )
    assert_allclose(fitted.embed(plates.images[6:]), images, atol=1e-6)
    part = fitted._model.joint.components[0, "prompts"]
    assert_allclose(np.concatenate([*part.texts.values()]), texts, atol=1e-6)
    assert fitted.weights_ == f"local-dir:{clip}"
    assert fitted.embedder_.image_size_ == (64, 64)


def test_score_is_the_log_odds_of_the_prompts(fitted, plates):
    part, rows = fitted._model.joint.components[0, "prompts"], fitted.embed(plates.images)
    cosines = {side: np.exp(rows @ texts.T / 0.01) for side, texts in part.texts.items()}
    expected = np.log(cosines["normal"].sum(1)) - np.log(cosines["anomalous"].sum(1))
    assert_allclose(part.score(rows), expected, rtol=1e-9)
    assert part.score(part.texts["normal"]) > 0 > part.score(part.texts["anomalous"]).max()
    assert len(part.held_out_scores) == np.count_nonzero(
        fitted._model.joint.backbone_scores[0].support.is_calibration
    )


def test_it_counts_as_much_as_the_density(fitted, clip, plates):
    assert [name for _, name in fitted._model.joint.components] == ["image", "patch", "prompts"]
    first, *_, prompts = fitted._model.joint.components.values()
    weight = fitted._model.joint.weights[0, "prompts"]
    assert weight * prompts.held_out_scores.std() == pytest.approx(first.held_out_scores.std())
    without = COFTDetector(**options(clip, prompts=None)).fit(plates.images[:6])
    gain = fitted.score_samples(plates.images) - without.score_samples(plates.images)
    scores = prompts.score(fitted.embed(plates.images))
    assert_allclose(gain, weight * (scores - prompts.held_out_scores.mean()), rtol=1e-6)
    turned = dict(zip(PROMPTS, reversed(PROMPTS.values()), strict=True))
    other = COFTDetector(**options(clip, prompts=turned)).fit(plates.images[:6])
    assert_allclose(
        other._model.joint.components[0, "prompts"].held_out_scores, -prompts.held_out_scores
    )


def test_prompts_tell_what_they_name(plates):
    """A red prompt finds red images."""
    rng = np.random.default_rng(0)
    images = np.clip(
        rng.normal(0.5, 0.05, (14, 16, 16, 3)) + rng.normal(0, 0.01, (14, 1, 1, 3)), 0, 1
    )
    images[8:11, ..., 0] += 0.1
    images[11:, ..., 2] += 0.1
    prompts = {"normal": ["green"], "anomalous": ["red"]}
    detector = COFTDetector(Colours(), max_iter=0, prompts=prompts, random_state=0)
    part = detector.fit(images[:8])._model.joint.components[0, "prompts"]
    scores = part.score(detector.embed(images))
    assert scores[8:11].max() < min(scores[:8].min(), scores[11:].min())


def test_fine_tuned_searched_and_stored(clip, plates, tmp_path):
    detector = COFTDetector(**options(clip, max_iter=2)).fit(plates.images[:6])
    moved = [
        (p, q)
        for p, q in zip(
            detector.embedder_.network_.body.model.state_dict().values(),
            open_clip.create_model(f"local-dir:{clip}").state_dict().values(),
            strict=True,
        )
        if not torch.equal(p, q)
    ]
    assert moved
    expected = detector.score_samples(plates.images)
    again = pickle.loads(pickle.dumps(detector))
    assert_array_equal(again.score_samples(plates.images), expected)
    for _ in range(2):
        kept = COFTDetector(**options(clip, max_iter=2, memory=tmp_path)).fit(plates.images[:6])
        assert_array_equal(kept.score_samples(plates.images), expected)
    detector.partial_fit(plates.images[6:8])
    assert detector._model.joint.components[0, "prompts"].held_out_scores.size > len(
        detector.embeddings_
    )
    with pytest.raises(ValueError):
        detector.set_params(prompts=None).partial_fit(plates.images[6:8])
    with pytest.raises(ValueError):
        kept.save(tmp_path / "clip.skcoft")
    assert not (tmp_path / "clip.skcoft").exists()


def test_beside_another_backbone(clip, plates):
    both = options(clip, backbone=["embedded", options(clip)["backbone"]])
    detector = COFTDetector(**both).fit(plates.images[:6])
    named = [
        (branch, name) for branch, name in detector._model.joint.components if name == "prompts"
    ]
    assert (
        len(named) == 1
        and detector._model.joint.backbone_scores[named[0][0]].encoder.network.embeds_text
    )


def test_onnx(plates, tmp_path):
    prompts = {"normal": ["green", "blue"], "anomalous": ["red"]}
    detector = COFTDetector(Colours(), max_iter=0, prompts=prompts, random_state=0)
    detector.fit(plates.images[:6])
    assert detector.to_onnx(tmp_path / "colours.onnx", plates.images[6:])["score"] < 0.01


def test_weights_of_a_file_random_ones_and_sizes(clip, plates):
    name = "open_clip:ViT-S-32-alt"
    random = [COFTEmbedder(name, weights=None, max_iter=0, random_state=s) for s in (0, 0, 1)]
    found = [embedder.fit_transform(plates.images[:2]) for embedder in random]
    assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])
    assert random[0].image_size_ == (224, 224) and random[0].weights_ is None
    local = options(clip, weights=clip / "open_clip_model.safetensors", image_size=96)
    local.pop("prompts")
    sized = COFTEmbedder(**local).fit(plates.images[:6])
    assert sized.image_size_ == (96, 96) and sized.weights_.endswith("open_clip_model.safetensors")


REFUSED = {
    "backbone without texts": ({"backbone": "embedded"}, ValueError, "backbone='embedded'"),
    "one side": ({"prompts": {"normal": ["a"]}}, ValueError, "'prompts' parameter"),
    "no list": ({"prompts": {**PROMPTS, "normal": "a"}}, ValueError, "'prompts' parameter"),
    "empty": ({"prompts": {**PROMPTS, "normal": []}}, ValueError, "'prompts' parameter"),
    "empty text": ({"prompts": {**PROMPTS, "normal": [""]}}, ValueError, "'prompts' parameter"),
    "no folder": ({"backbone": "open_clip:local-dir:nowhere"}, FileNotFoundError, "local-dir"),
    "no file": ({"weights": "no.pt"}, FileNotFoundError, "weights='no.pt'"),
    "tabular data": ({"X": np.random.default_rng(0).random((6, 3))}, ValueError, "prompts"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(clip, plates, name):
    wrong, error, argument = REFUSED[name]
    params = options(clip, **wrong)
    X = params.pop("X", plates.images[:6])
    with pytest.raises(error, match=argument):
        COFTDetector(**params).fit(X)


class Broken(nn.Module):
    def __init__(self, found):
        super().__init__()
        self.found = found

    def forward(self, images):
        return images.mean(dim=(2, 3))

    def encode_text(self, texts):
        return self.found


@pytest.mark.parametrize(
    "output", [torch.ones(1, 5), [[1.0] * 3], torch.full((1, 3), float("nan"))]
)
def test_embeddings_of_texts_are_checked(plates, output):
    prompts = {"normal": ["a"], "anomalous": ["b"]}
    with pytest.raises(ValueError, match="encode_text"):
        COFTDetector(Broken(output), max_iter=0, prompts=prompts).fit(plates.images[:6])
