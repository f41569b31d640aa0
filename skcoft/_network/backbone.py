"""Backbones: embedded, by timm name or a user's module, as one network, images to features."""

import re

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
from .patches import WIDTH, choose_layers, patch_embeddings
from .views import VIEW_OPTIONS, image_synthesizer, image_views

VERSION = 1  # of a pickled backbone's state
# attributes that the state holds as they are
PLAIN = "layers", "no_maps", "width", "origin", "pairs"
REGISTERED = re.compile(r"[\w-]+(\.[\w.-]+)?", re.ASCII)  # names without a hub's or a file's path


class Backbone(nn.Module):
    """Images (n, 3, H, W) in 0..1 to pooled features (n, d): normalise, body, average pool.

    ``layers`` are the indices of the body's intermediate maps that local embeddings are made of;
    empty, the body's output is the one map. None means that there is none; ``no_maps`` says why,
    where that is a surprise. ``width`` is d,
    ``origin`` says where the weights come from; None means random ones, or the user's own.
    ``recipe`` is what :func:`create_body` makes the body of; None where only it itself will do.
    ``pairs`` are the names of convolutions, and of the batch normalisations computed with them.

    A pickle holds the recipe and arrays instead of timm's and torch's classes, and is of the CPU.
    """

    input_type = "images"
    defaults = IMAGE_DEFAULTS
    view_options = VIEW_OPTIONS
    make_views = staticmethod(image_views)
    make_synthesizer = staticmethod(image_synthesizer)

    def __init__(self, body, mean, std, origin=None, recipe=None):
        super().__init__()
        self.body = body
        self.recipe = recipe
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.register_buffer("projection", None)
        self.layers = None
        self.no_maps = None
        self.width = None
        self.origin = origin
        self.pairs = {}

    def __getstate__(self):
        whole = self.recipe is None
        return {
            "version": VERSION,
            "recipe": self.recipe,
            "body": copy_module(self.body).cpu() if whole else module_arrays(self.body),
            "buffers": module_arrays(self, prefix="body."),
            **{name: getattr(self, name) for name in PLAIN},
        }

    def __setstate__(self, state):
        if state["version"] > VERSION:
            raise ValueError(
                f"The backbone was pickled by a newer skcoft (state {state['version']}, this one "
                f"reads {VERSION}). Update skcoft."
            )
        with torch_defaults():
            self._restore(state)

    def _restore(self, state):
        body, recipe, buffers = state["body"], state["recipe"], arrays_to_tensors(state["buffers"])
        if recipe is not None:
            body = create_body(recipe)
            body.load_state_dict(arrays_to_tensors(state["body"]))
        self.__init__(body, [0.0] * 3, [1.0] * 3, recipe=recipe)
        for name, value in {**buffers, **{name: state[name] for name in PLAIN}}.items():
            setattr(self, name, value)
        self.eval()
        if recipe is not None:
            self.to(memory_format=torch.channels_last)
            fold(self.body, self.pairs)

    def forward(self, images):
        return _pool(self.body((images - self.mean) / self.std))

    @property
    def knows_text(self):
        """Whether texts have embeddings among those of images."""
        return hasattr(self.body, "encode_text")

    @torch.no_grad()
    def embed_texts(self, texts):
        """L2-normalised embeddings (n, d) of texts, float64."""
        found = self.body.encode_text(list(texts))
        if not isinstance(found, torch.Tensor) or found.shape != (len(texts), self.width):
            got = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found)
            raise ValueError(
                f"encode_text must map {len(texts)} texts to ({len(texts)}, {self.width}), the "
                f"width of embeddings of images; got {got}."
            )
        if not torch.isfinite(found).all():
            raise ValueError("encode_text gives NaN or infinite embeddings of prompts.")
        return F.normalize(found.float(), dim=1).cpu().double().numpy()

    def features_and_patches(self, images):
        """Return pooled features (n, d) and local embeddings (n, h, w, e) of one pass."""
        features, maps = self.features_and_maps(images, self.layers)
        return features, patch_embeddings(maps, self.projection, images[0, 0].numel())

    def features_and_maps(self, images, layers):
        """Return pooled features (n, d) and the maps of some layers; of all where that is None."""
        images = (images - self.mean) / self.std
        if layers == []:
            maps = self.body(images)
            return _pool(maps), [maps]
        final, maps = self.body.forward_intermediates(images, indices=layers)
        return _pool(self.body.forward_head(final)), maps

    @torch.no_grad()
    def find_pairs(self, size):
        """Choose ``pairs``, and compute them as one."""
        if self.recipe is not None:
            images = torch.linspace(-1, 1, 3 * size[0] * size[1]).view(1, 3, *size)
            self.pairs = find_pairs(self.body, images)

    @torch.no_grad()
    def find_layers(self, size, seed):
        """Choose ``layers``, and a random projection where their maps are wide."""
        images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        if self.body((images - self.mean) / self.std).ndim == 4:
            layers, maps = [], self.features_and_maps(images, [])[1]
        elif not hasattr(self.body, "forward_intermediates"):
            return  # a body that does not offer its maps as timm's do
        else:
            try:
                features, maps = self.features_and_maps(images, None)
                check_maps(maps)
                layers = choose_layers([tuple(found.shape[-2:]) for found in maps])
                maps = [maps[depth] for depth in layers]
                if self.recipe is None:
                    check_maps(self.features_and_maps(images, layers)[1], len(layers))
                same = torch.allclose(features, self(images), rtol=1e-3, atol=1e-4)
            except Exception as error:  # whatever a module of the user's may raise
                self.no_maps = f"its forward_intermediates failed: {error!r}"
                return
            if not same:
                self.no_maps = "forward_head of its last maps gives another output than forward"
                return
        self.layers = layers
        width = sum(features.shape[1] for features in maps)
        if width > WIDTH:
            # by NumPy: an estimator that is fitted here would be logged as the user's model
            components = np.random.RandomState(seed).normal(0, WIDTH**-0.5, (WIDTH, width))
            self.projection = torch.from_numpy(components.T.copy()).float()


def check_maps(maps, count=None):
    """Raise ValueError unless these are finite maps of one image, as many as were asked for."""
    if count not in (None, len(maps)):
        raise ValueError(f"{count} maps were asked for and {len(maps)} returned")
    for found in maps:
        if found.ndim != 4 or len(found) != 1:
            raise ValueError(f"a map of one image has the shape {tuple(found.shape)}")
        if not torch.isfinite(found).all():
            raise ValueError("a map holds NaN or infinity")


def create_body(recipe, seed=0):
    """Create a body of random weights by its recipe: an architecture's name and its options."""
    with seeded(seed):
        if recipe["name"] == "embedded":
            return _embedded.Embedded()
        import timm

        return timm.create_model(recipe["name"], **recipe["options"])


def check_recipe(recipe):
    """Return True; ValueError unless a recipe is of a registered architecture, with our options.

    So one from elsewhere reaches no hub, no file and nothing else of timm's.
    """
    if not isinstance(recipe, dict) or set(recipe) != {"name", "options"}:
        raise ValueError("a backbone has no recipe")
    name, options = recipe["name"], recipe["options"]
    if name == "embedded" and options == {}:
        return True
    import timm

    if not is_registered(name):
        raise ValueError(f"timm {timm.__version__} has no architecture {name!r}; update timm")
    size = options.get("img_size", (1, 1)) if isinstance(options, dict) else None
    ours = {"num_classes": 0}, {"num_classes": 0, "img_size": size}
    if not is_size(size) or options not in ours:
        raise ValueError(f"backbone {name!r} has options that do not fit: {options!r}")
    return True


def is_registered(name):
    """Whether a name is of an architecture of timm's registry, with or without a tag."""
    import timm

    known = isinstance(name, str) and REGISTERED.fullmatch(name)
    return bool(known) and timm.is_model(name.split(".")[0])


def _pool(features):
    if not isinstance(features, torch.Tensor):
        return features  # an error later, which says what is wanted
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features
