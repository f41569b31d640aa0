"""Models of images and text from open_clip, as bodies of backbones."""

from torch import nn

from .._utils.params import suggest_names
from .._utils.random import seeded
from .weights import find_weights

PREFIX = "open_clip:"  # of the names of backbones
HUB_FAILED = (
    "The weights of backbone={name!r} could not be fetched ({error}). Without a network, pass a "
    "local file of them, weights='path', or the name of a folder, 'open_clip:local-dir:path'."
)


class OpenClip(nn.Module):
    """An image and text model: images, normalised, to embeddings (n, d) beside those of texts."""

    def __init__(self, model, tokenizer):
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer

    def forward(self, images):
        return self.model.encode_image(images)

    def forward_intermediates(self, images, indices=None):
        """As timm's: the output, and maps (n, e, h, w) of some layers, of all by default."""
        found = self.model.visual.forward_intermediates(images, indices=indices)
        return found["image_features"], found["image_intermediates"]

    def forward_head(self, output):
        """As timm's: the output of all."""
        return output

    def encode_text(self, texts):
        """Embed a list of texts, (n, d)."""
        tokens = self.tokenizer(texts).to(next(self.model.parameters()).device)
        return self.model.encode_text(tokens)


def create_open_clip(name, weights, size, seed):
    """Return (body, mean, std, size, origin) of a name of open_clip's, with our prefix.

    ``"open_clip:ViT-B-32"``, with the tag of its weights ``"open_clip:ViT-B-32:openai"``, or what
    comes from a hub or a folder, ``"open_clip:hf-hub:..."`` and ``"open_clip:local-dir:..."``.
    """
    open_clip = _imported(name)
    model, tag = _split(name)
    options = {"force_image_size": None if size is None else tuple(size)}
    if weights is None:
        options["load_weights"] = False
    elif weights != "pretrained":
        options["pretrained"] = find_weights(name, weights).path
    elif ":" not in model:
        options["pretrained"] = _known_tag(open_clip, model, tag)
    try:
        with seeded(seed):
            network = open_clip.create_model(model, **options)
        tokenizer = open_clip.get_tokenizer(model)
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) or "download" in str(error):
            raise OSError(HUB_FAILED.format(name=name, error=type(error).__name__)) from error
        raise ValueError(f"open_clip cannot build backbone={name!r}: {error}") from error
    config = open_clip.get_model_preprocess_cfg(network)
    own = config["size"]
    own = tuple(own) if isinstance(own, (list, tuple)) else (own, own)
    origin = None if weights is None else str(options.get("pretrained", model))
    return OpenClip(network, tokenizer), config["mean"], config["std"], own, origin


def _imported(name):
    try:
        import open_clip
    except ImportError as error:
        text = f"backbone={name!r} needs open_clip: pip install 'skcoft[clip]'."
        raise ImportError(text) from error
    return open_clip


def _split(name):
    """Return a name of open_clip's and the tag of its weights, "" where it has none."""
    rest = name.removeprefix(PREFIX)
    if rest.startswith(("hf-hub:", "local-dir:")):
        return rest, ""
    model, _, tag = rest.partition(":")
    return model, tag


def _known_tag(open_clip, model, tag):
    """Return the tag of a model's weights; ValueError, which lists what there is, for others."""
    models = open_clip.list_models()
    if model not in models:
        raise ValueError(f"open_clip has no model {model!r}.{suggest_names(model, models)}")
    known = open_clip.list_pretrained_tags_by_model(model)
    if tag not in known:
        raise ValueError(
            f"backbone={PREFIX + model!r} needs the tag of its weights, '{PREFIX + model}:TAG', "
            f"one of {', '.join(known) or 'none'}; or pass weights=None or a file."
        )
    return tag
