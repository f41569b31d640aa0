"""The network for images: a body from timm, open_clip, this package or the user."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .._input.defaults import IMAGE_DEFAULTS
from .._input.sizing import is_size
from .._utils.random import seeded
from .._utils.torch_context import torch_defaults
from . import embedded as _embedded
from .bn_folding import find_pairs, fold
from .module_state import arrays_to_tensors, copy_module, module_arrays
from .patches import MAX_PATCH_WIDTH, choose_layers, patch_embeddings
from .views import VIEW_OPTIONS, Loader, image_synthesizer, image_views

STATE_VERSION = 1  # of a pickled backbone
STATE_ATTRIBUTES = "layers", "no_maps", "width", "origin", "pairs"  # stored unchanged
# names of architectures, which contain no path of a hub or a file
ARCHITECTURE_NAME = re.compile(r"[\w-]+(\.[\w.-]+)?", re.ASCII)


class Backbone(nn.Module):
    """Normalise images, run the body and average its maps: (n, 3, H, W) in 0..1 to (n, d).

    A pickle holds the recipe and arrays instead of classes of timm and torch. It is loaded on the
    CPU.

    Attributes
    ----------
    body : nn.Module
        The network of timm, of open_clip, of this package or of the user.
    recipe : dict or None
        What :func:`create_body` creates the body from. None if only the body itself will do.
    layers : list of int or None
        Indices of the body's maps for patch embeddings. If empty, the output of the body is the
        only map. None means that there are no maps.
    no_maps : str or None
        Why there are no maps, if the user might expect them.
    projection : Tensor or None
        Random projection of wide patch embeddings.
    width : int
        Number of features d.
    origin : str or None
        Where the weights come from. None for random weights and for the user's own modules.
    pairs : dict of str to str
        Names of convolutions, and of the batch normalisations folded into them.
    """

    defaults = IMAGE_DEFAULTS
    view_options = VIEW_OPTIONS
    make_views = staticmethod(image_views)
    make_synthesizer = staticmethod(image_synthesizer)
    body: Any
    mean: torch.Tensor
    std: torch.Tensor
    projection: torch.Tensor | None

    def __init__(
        self,
        body: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        origin: str | None = None,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.recipe = recipe
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.register_buffer("projection", None)
        self.layers: list[int] | None = None
        self.no_maps: str | None = None
        self.width = 0  # set when the network is built
        self.origin = origin
        self.pairs: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        no_recipe = self.recipe is None
        return {
            "version": STATE_VERSION,
            "recipe": self.recipe,
            "body": copy_module(self.body).cpu() if no_recipe else module_arrays(self.body),
            "buffers": module_arrays(self, prefix="body."),
            **{name: getattr(self, name) for name in STATE_ATTRIBUTES},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["version"] > STATE_VERSION:
            raise ValueError(
                f"The backbone was pickled by a newer skcoft, with state {state['version']}. This "
                f"version reads states up to {STATE_VERSION}. Update skcoft."
            )
        recipe = state["recipe"]
        with torch_defaults():
            body = state["body"]
            if recipe is not None:
                body = create_body(recipe)
                body.load_state_dict(arrays_to_tensors(state["body"]))
            Backbone.__init__(self, body, [0.0] * 3, [1.0] * 3, recipe=recipe)
            buffers = arrays_to_tensors(state["buffers"])
            for name, value in {**buffers, **{n: state[n] for n in STATE_ATTRIBUTES}}.items():
                setattr(self, name, value)
            self.eval()
            if recipe is not None:
                self.to(memory_format=torch.channels_last)
                fold(self.body, self.pairs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return _average_maps(self.body(self._normalize(images)))

    def _normalize(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self.mean) / self.std

    @property
    def embeds_text(self) -> bool:
        """Whether the body embeds texts in the space of the images."""
        return hasattr(self.body, "encode_text")

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return L2-normalised embeddings (n, d) of texts, float64."""
        embeddings = self.body.encode_text(list(texts))
        if not isinstance(embeddings, torch.Tensor) or embeddings.shape != (
            len(texts),
            self.width,
        ):
            raise ValueError(
                f"encode_text must map {len(texts)} texts to ({len(texts)}, {self.width}), the "
                f"width of embeddings of images; got {describe_output(embeddings)}."
            )
        if not torch.isfinite(embeddings).all():
            raise ValueError("encode_text gives NaN or infinite embeddings of prompts.")
        return F.normalize(embeddings.float(), dim=1).cpu().double().numpy()

    def features_and_patches(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features (n, d) and patch embeddings (n, h, w, e) from one forward pass."""
        features, maps = self.features_and_maps(images, self.layers)
        return features, patch_embeddings(maps, self.projection, images[0, 0].numel())

    def features_and_maps(
        self, images: torch.Tensor, layers: list[int] | None
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        """Return features (n, d) and the maps of some layers, or of all if ``layers`` is None."""
        images = self._normalize(images)
        if layers == []:
            maps = self.body(images)
            return _average_maps(maps), [maps]
        output, maps = self.body.forward_intermediates(images, indices=layers)
        return _average_maps(self.body.forward_head(output)), maps

    def prepare_support(
        self, loaders: Sequence[Loader], is_shot: np.ndarray
    ) -> tuple[Sequence[Loader], None]:
        """Return the loaders unchanged; embeddings of images need no standardizer."""
        return loaders, None

    @torch.no_grad()
    def find_pairs(self, size: tuple[int, int]) -> None:
        """Set ``pairs`` and fold them. Modules of users are left as they are."""
        if self.recipe is not None:
            images = torch.linspace(-1, 1, 3 * size[0] * size[1]).view(1, 3, *size)
            self.pairs = find_pairs(self.body, images)

    @torch.no_grad()
    def find_layers(self, size: tuple[int, int], seed: int) -> None:
        """Set ``layers``, and a random projection if their maps are wide."""
        images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        layers: list[int] | None
        output = self.body(self._normalize(images))
        if output.ndim == 4:
            layers, maps = [], self.features_and_maps(images, [])[1]
        elif not hasattr(self.body, "forward_intermediates"):
            return
        else:
            try:
                layers, maps = self._check_intermediates(images, output)
            except Exception as error:  # a user's module may raise anything
                self.no_maps = f"its forward_intermediates failed: {error!r}"
                return
            if layers is None:
                self.no_maps = "forward_head of its last maps gives another output than forward"
                return
        self.layers = layers
        width = sum(features.shape[1] for features in maps)
        if width > MAX_PATCH_WIDTH:
            # by NumPy, because tools that log fitted estimators would log scikit-learn's
            # projection as the user's model
            shape = MAX_PATCH_WIDTH, width
            components = np.random.RandomState(seed).normal(0, MAX_PATCH_WIDTH**-0.5, shape)
            self.projection = torch.from_numpy(components.T.copy()).float()

    def _check_intermediates(
        self, images: torch.Tensor, output: torch.Tensor
    ) -> tuple[list[int] | None, Sequence[torch.Tensor]]:
        """Return the chosen layers and their maps.

        The layers are None if ``forward_intermediates`` does not lead to the output of
        the body.
        """
        features, maps = self.features_and_maps(images, None)
        check_maps(maps)
        layers = choose_layers([(m.shape[-2], m.shape[-1]) for m in maps])
        if self.recipe is None:
            check_maps(self.features_and_maps(images, layers)[1], len(layers))
        agrees = torch.allclose(features, _average_maps(output), rtol=1e-3, atol=1e-4)
        return layers if agrees else None, [maps[layer] for layer in layers]


def check_maps(maps: Sequence[torch.Tensor], count: int | None = None) -> None:
    """Raise ValueError unless these are finite maps of one image, and ``count`` of them."""
    if count not in (None, len(maps)):
        raise ValueError(f"{count} maps were asked for and {len(maps)} returned")
    for features in maps:
        if features.ndim != 4 or len(features) != 1:
            raise ValueError(f"a map of one image has the shape {tuple(features.shape)}")
        if not torch.isfinite(features).all():
            raise ValueError("a map holds NaN or infinity")


def create_body(recipe: dict[str, Any], seed: int = 0) -> Any:
    """Create a body with random weights from the name of its architecture and its options."""
    with seeded(seed):
        if recipe["name"] == "embedded":
            return _embedded.Embedded()
        import timm

        return timm.create_model(recipe["name"], **recipe["options"])


def check_recipe(recipe: Any) -> bool:
    """Return True, or raise ValueError if a recipe is not one that skcoft writes.

    Only registered architectures are accepted, and only with our options. So a recipe from a file
    reaches no hub, no other file and nothing else in timm.
    """
    if not isinstance(recipe, dict) or set(recipe) != {"name", "options"}:
        raise ValueError("a backbone has no recipe")
    name, options = recipe["name"], recipe["options"]
    if name == "embedded" and options == {}:
        return True
    import timm

    is_name = isinstance(name, str) and ARCHITECTURE_NAME.fullmatch(name)
    if not is_name or not timm.is_model(name.split(".")[0]):
        raise ValueError(f"timm {timm.__version__} has no architecture {name!r}; update timm")
    size = options.get("img_size", (1, 1)) if isinstance(options, dict) else None
    allowed_options = {"num_classes": 0}, {"num_classes": 0, "img_size": size}
    if not is_size(size) or options not in allowed_options:
        raise ValueError(f"backbone {name!r} has options that do not fit: {options!r}")
    return True


def _average_maps(features: Any) -> Any:
    """Average maps (n, d, h, w) to features (n, d); return anything else unchanged.

    What is neither maps nor features is refused later, with a message.
    """
    is_map = isinstance(features, torch.Tensor) and features.ndim == 4
    return features.mean(dim=(2, 3)) if is_map else features


def describe_output(value: Any) -> Any:
    """Return the shape of a tensor, or the type of anything else, for a message."""
    return tuple(value.shape) if isinstance(value, torch.Tensor) else type(value)
