"""Image and text models from open_clip as bodies of backbones."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import torch
from torch import nn

from .._utils.params import suggest_names
from .._utils.random import seeded
from .weights import find_weights

OPEN_CLIP_PREFIX = "open_clip:"  # of names of backbones


class OpenClip(nn.Module):
    """An image and text model that embeds normalised images and texts in one space, (n, d)."""

    model: Any

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(images)

    def forward_intermediates(
        self, images: torch.Tensor, indices: Sequence[int] | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the output and maps (n, e, h, w) of some layers, or of all, as timm does."""
        outputs = self.model.visual.forward_intermediates(images, indices=indices)
        return outputs["image_features"], outputs["image_intermediates"]

    def forward_head(self, output: torch.Tensor) -> torch.Tensor:
        """Return the output unchanged, because it is already the embedding."""
        return output

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        """Embed a list of texts, (n, d)."""
        tokens = self.tokenizer(texts).to(next(self.model.parameters()).device)
        return self.model.encode_text(tokens)


def create_open_clip(
    name: str, weights: str | PathLike[str] | None, size: tuple[int, int] | None, seed: int
) -> tuple[OpenClip, Sequence[float], Sequence[float], tuple[int, int], str | None]:
    """Return (body, mean, std, size, origin) for a name with the prefix ``open_clip:``.

    A name is ``"open_clip:ViT-B-32"``, or with a tag for its weights
    ``"open_clip:ViT-B-32:openai"``. Models on a hub or in a folder are ``"open_clip:hf-hub:..."``
    and ``"open_clip:local-dir:..."``.
    """
    open_clip = _import_open_clip(name)
    model, tag = _split_name(name)
    options: dict[str, Any] = {"force_image_size": None if size is None else tuple(size)}
    if weights is None:
        options["load_weights"] = False
    elif weights != "pretrained":
        file = find_weights(name, weights)
        options["pretrained"] = file and file.path
    elif ":" not in model:
        options["pretrained"] = _check_tag(open_clip, model, tag)
    try:
        with seeded(seed):
            network = open_clip.create_model(model, **options)
        tokenizer = open_clip.get_tokenizer(model)
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) or "download" in str(error):
            raise OSError(
                f"The weights of backbone={name!r} could not be downloaded "
                f"({type(error).__name__}). Without a network, pass a local file, "
                "weights='path', or the name of a folder, 'open_clip:local-dir:path'."
            ) from error
        raise ValueError(f"open_clip cannot build backbone={name!r}: {error}") from error
    config = open_clip.get_model_preprocess_cfg(network)
    sides = config["size"]
    height, width = sides if isinstance(sides, (list, tuple)) else (sides, sides)
    origin = None if weights is None else str(options.get("pretrained", model))
    return OpenClip(network, tokenizer), config["mean"], config["std"], (height, width), origin


def _import_open_clip(name: str) -> Any:
    """Return the module; raise ImportError with the command that installs it."""
    try:
        import open_clip
    except ImportError as error:
        text = f"backbone={name!r} needs open_clip: pip install 'skcoft[clip]'."
        raise ImportError(text) from error
    return open_clip


def _split_name(name: str) -> tuple[str, str]:
    """Return the name of the model for open_clip, and the tag of its weights or ""."""
    rest = name.removeprefix(OPEN_CLIP_PREFIX)
    if rest.startswith(("hf-hub:", "local-dir:")):
        return rest, ""
    model, _, tag = rest.partition(":")
    return model, tag


def _check_tag(open_clip: Any, model: str, tag: str) -> str:
    """Return the tag of a model's weights; raise ValueError with the valid tags if it is not."""
    models = open_clip.list_models()
    if model not in models:
        raise ValueError(f"open_clip has no model {model!r}.{suggest_names(model, models)}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise ValueError(
            f"backbone={OPEN_CLIP_PREFIX + model!r} needs the tag of its weights, "
            f"'{OPEN_CLIP_PREFIX + model}:TAG', one of {', '.join(tags) or 'none'}. Or pass "
            "weights=None or a file."
        )
    return tag
