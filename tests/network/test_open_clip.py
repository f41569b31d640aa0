"""Models of open_clip by name; their scores are tested with text prompts."""

import sys

import open_clip
import pytest
import torch

from skcoft._network.open_clip import create_open_clip

NAME = "open_clip:ViT-S-32-alt"


def test_random_weights_depend_on_the_seed_only():
    first, repeated, other = (create_open_clip(NAME, None, None, seed)[0] for seed in (0, 0, 1))
    images = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        features = [body(images) for body in (first, repeated, other)]
    assert torch.equal(features[0], features[1]) and not torch.equal(features[0], features[2])


def test_size_and_normalisation_are_those_of_the_model():
    body, mean, std, size, origin = create_open_clip(NAME, None, None, 0)
    assert (size, origin) == ((224, 224), None)
    assert len(mean) == len(std) == 3
    tokens = body.encode_text(["a plate", "a scratched plate"])
    assert tokens.shape == (2, body(torch.zeros(1, 3, *size)).shape[1])
    assert create_open_clip(NAME, None, (96, 64), 0)[3] == (96, 64)


@pytest.mark.parametrize(
    "name, key",
    [
        ("open_clip:ViT-B-33", "ViT-B-32"),
        ("open_clip:ViT-B-32", "open_clip:ViT-B-32:TAG"),
        ("open_clip:ViT-B-32:mine", "one of openai"),
    ],
)
def test_an_unknown_model_or_tag_is_refused_with_the_known_ones(name, key):
    with pytest.raises(ValueError, match=key):
        create_open_clip(name, "pretrained", None, 0)


def test_a_failed_download_names_the_alternative(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("Failed to download weights for tag 'openai'")

    monkeypatch.setattr(open_clip, "create_model", fail)
    with pytest.raises(OSError, match="weights='path'"):
        create_open_clip("open_clip:ViT-B-32:openai", "pretrained", None, 0)


def test_without_open_clip_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ImportError, match=r"skcoft\[clip\]"):
        create_open_clip(NAME, None, None, 0)
