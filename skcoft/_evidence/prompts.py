"""Component for text prompts: whether an image is closer to normal or to anomalous prompts."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from .._input.defaults import InputDefaults
from .._network.backbone import Backbone
from .._network.encoder import Encoder, embeddings_of
from .._network.open_clip import OPEN_CLIP_PREFIX
from .._network.support import Support
from .._utils.params import Constraint, as_list
from .._utils.settings import DetectorSettings
from ..density import logsumexp_rows
from .torch_density import doubles

CLIP_TEMPERATURE = 0.01  # of CLIP's training; cosine similarities are divided by it
SIDES = "normal", "anomalous"


class TextPrompts:
    """Similarity to normal prompts compared with anomalous prompts, see :class:`ScoreComponent`.

    Several anomalous prompts describe what may be wrong, fine-grained abnormality (Zhu et al.,
    "Fine-grained Abnormality Prompt Learning for Zero-shot Anomaly Detection", arXiv 2410.10289).
    Here the user writes them and none is learned. The prompts that fit best count most on each
    side: it is the log of the sum of exponentials of the cosine similarities, at CLIP's
    temperature.

    Attributes
    ----------
    texts : dict of str to ndarray of shape (n_prompts, d)
        L2-normalised embeddings of the prompts of each side.
    held_out_scores : ndarray
        Scores of the calibration rows. The component is not fitted on any image.
    """

    needs_patches: ClassVar[bool] = False
    state_fields: ClassVar[dict[str, Any]] = {
        "texts": {SIDES: "f8 _ d"},
        "held_out_scores": "f8 K",
    }
    weight = 1.0
    summarize = staticmethod(embeddings_of)

    def __init__(self, texts: dict[str, np.ndarray]) -> None:
        self.texts = texts

    @classmethod
    def build(cls, settings: DetectorSettings, encoder: Encoder) -> "TextPrompts | None":
        """Return the component if there are ``prompts`` and the network embeds text."""
        prompts, network = settings.prompts, encoder.network
        if prompts is None or not isinstance(network, Backbone) or not network.embeds_text:
            return None
        return cls({side: network.embed_texts(prompts[side]) for side in SIDES})

    def fit(self, support: Support) -> Self:
        """Score the calibration rows."""
        self.held_out_scores = self.score(support.embeddings[support.is_calibration])
        return self

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the log odds of the normal prompts at CLIP's temperature."""
        normal, anomalous = (
            logsumexp_rows(embeddings @ self.texts[side].T / CLIP_TEMPERATURE) for side in SIDES
        )
        return normal - anomalous

    def to_graph(self) -> nn.Module:
        """Return the log odds as a module of embeddings."""
        return PromptsGraph(self.texts)


class PromptsGraph(nn.Module):
    """Log odds of the normal prompts, as :meth:`TextPrompts.score`."""

    def __init__(self, texts: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.normal, self.anomalous = (doubles(texts[side].T / CLIP_TEMPERATURE) for side in SIDES)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        normal, anomalous = (
            torch.logsumexp(embeddings @ texts, 1) for texts in (self.normal, self.anomalous)
        )
        return normal - anomalous


def are_prompts(value: Any) -> bool:
    """Return whether a value is a dict of both sides to lists of texts."""
    return (
        isinstance(value, dict)
        and set(value) == set(SIDES)
        and all(isinstance(texts, (list, tuple)) and texts for texts in value.values())
        and all(isinstance(text, str) and text for texts in value.values() for text in texts)
    )


PROMPTS = Constraint(are_prompts, "a dict of 'normal' and 'anomalous' to a list of texts each")


def check_prompts(
    prompts: Mapping[str, Sequence[str]] | None, backbone: Any, defaults: InputDefaults
) -> None:
    """Raise ValueError if there are prompts, but no images or no backbone that embeds text."""
    if prompts is None:
        return
    if not defaults.needs_backbone:
        raise ValueError(
            f"prompts are for images, but X holds {defaults.description}. Set prompts=None."
        )
    if not any(
        str(each).startswith(OPEN_CLIP_PREFIX) or hasattr(each, "encode_text")
        for each in as_list(backbone)
    ):
        raise ValueError(
            f"prompts need a backbone that embeds text; got backbone={backbone!r}. Pass a name "
            f"that starts with {OPEN_CLIP_PREFIX!r}, or a module with encode_text."
        )
