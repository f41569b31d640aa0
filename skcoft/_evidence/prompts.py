"""Evidence of text prompts: whether images look like what normal or anomalous ones are called."""

from scipy.special import logsumexp

from .._network.open_clip import OPEN_CLIP_PREFIX
from .._utils.params import Constraint, as_list
from .image_density import ImageDensity

TEMPERATURE = 0.01  # of CLIP's training, by which cosines are compared
SIDES = "normal", "anomalous"


class TextPrompts:
    """A part, see ``_parts.py``: how much nearer an image is to normal prompts than to others.

    Several anomalous prompts say what may be wrong, fine-grained abnormality (Zhu et al.,
    "Fine-grained Abnormality Prompt Learning for Zero-shot Anomaly Detection", arXiv 2410.10289);
    here they are the user's and nothing of them is learned. Of each side those count that fit
    best: the log of the sum of exponentials of the cosines, at CLIP's temperature.

    Attributes
    ----------
    texts : dict of str to ndarray of shape (n_prompts, d)
        L2-normalised embeddings of the prompts of each side.
    held_out_scores : ndarray
        Scores of the calibrating rows, which have no part in it.
    """

    needs_patches = False
    weight = 1.0
    summarize = staticmethod(ImageDensity.summarize)

    def __init__(self, texts):
        self.texts = texts

    @classmethod
    def build(cls, settings, encoder):
        """Build the part where there are ``prompts`` and the network knows text."""
        if settings.prompts is None or not encoder.network.embeds_text:
            return None
        return cls({side: encoder.network.embed_texts(settings.prompts[side]) for side in SIDES})

    def fit(self, support):
        """Score the calibrating rows."""
        self.held_out_scores = self.score(support.embeddings[support.is_calibration])
        return self

    def score(self, embeddings):
        """Log odds, at CLIP's temperature, that an image is what its prompts call normal."""
        normal, anomalous = (
            logsumexp(embeddings @ self.texts[side].T / TEMPERATURE, axis=1) for side in SIDES
        )
        return normal - anomalous

    def score_training(self, support):
        """Scores of the shots, which have no part in it."""
        return self.score(support.embeddings[support.is_shot])


def are_prompts(value):
    """Whether a value has texts for both sides, and nothing else."""
    return (
        isinstance(value, dict)
        and set(value) == set(SIDES)
        and all(isinstance(texts, (list, tuple)) and texts for texts in value.values())
        and all(isinstance(text, str) and text for texts in value.values() for text in texts)
    )


PROMPTS = Constraint(are_prompts, "a dict of 'normal' and 'anomalous' to a list of texts each")


def check_prompts(prompts, backbone, kind):
    """Raise ValueError where there are prompts and nothing that knows text."""
    if prompts is None:
        return
    if kind == "tabular":
        raise ValueError("prompts are for images; X holds rows of features.")
    if not any(map(_knows_text, as_list(backbone))):
        raise ValueError(
            "prompts need a backbone that knows text: a name that starts with "
            f"{OPEN_CLIP_PREFIX!r}, or a module with encode_text; got backbone={backbone!r}."
        )


def _knows_text(backbone):
    named = isinstance(backbone, str) and backbone.startswith(OPEN_CLIP_PREFIX)
    return named or hasattr(backbone, "encode_text")
