"""Backbones: embedded, by timm name or a user's module, as one network, images to features."""

import re
from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import _embedded
from ._folding import find_pairs, fold
from ._modules import arrays_of, copy_of, tensors_of
from ._open_clip import PREFIX, create_open_clip
from ._positions import WIDTH, choose_depths, local_embeddings
from ._random import seeded
from ._sizes import Sizing, is_size, native_sizing
from ._state import usual_torch
from ._validation import near_names
from ._views import VIEW_OPTIONS, image_synthesizer, image_views
from ._weights import cached_by_hub, find_weights, hub_error, load_weights, read_state

MOST_FIXED = 256  # side; transformers that want more by default, such as DINOv2's 518, get
FIXED_SIZE = 224  # this, a multiple of the usual patches: 518 are five times as many pixels

SAME = 1e-6  # greatest difference of features of a network that tells nothing apart
VERSION = 1  # of a pickled backbone's state
# attributes that the state holds as they are
PLAIN = "depths", "no_maps", "width", "origin", "pairs"
REGISTERED = re.compile(r"[\w-]+(\.[\w.-]+)?", re.ASCII)  # names without a hub's or a file's path
LARGER = 2  # times the pixels that a network was trained on, where it takes any: more detail


class Backbone(nn.Module):
    """Images (n, 3, H, W) in 0..1 to pooled features (n, d): normalise, body, average pool.

    ``depths`` are the indices of the body's intermediate maps that local embeddings are made of;
    empty, the body's output is the one map. None means that there is none; ``no_maps`` says why,
    where that is a surprise. ``width`` is d,
    ``origin`` says where the weights come from; None means random ones, or the user's own.
    ``recipe`` is what :func:`create_body` makes the body of; None where only it itself will do.
    ``pairs`` are the names of convolutions, and of the batch normalisations computed with them.

    A pickle holds the recipe and arrays instead of timm's and torch's classes, and is of the CPU.
    """

    kind = "images"
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
        self.depths = None
        self.no_maps = None
        self.width = None
        self.origin = origin
        self.pairs = {}

    def __getstate__(self):
        whole = self.recipe is None
        return {
            "version": VERSION,
            "recipe": self.recipe,
            "body": copy_of(self.body).cpu() if whole else arrays_of(self.body),
            "buffers": arrays_of(self, prefix="body."),
            **{name: getattr(self, name) for name in PLAIN},
        }

    def __setstate__(self, state):
        if state["version"] > VERSION:
            raise ValueError(
                f"The backbone was pickled by a newer skcoft (state {state['version']}, this one "
                f"reads {VERSION}). Update skcoft."
            )
        with usual_torch():
            self._restore(state)

    def _restore(self, state):
        body, recipe, buffers = state["body"], state["recipe"], tensors_of(state["buffers"])
        if recipe is not None:
            body = create_body(recipe)
            body.load_state_dict(tensors_of(state["body"]))
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

    def features_and_positions(self, images):
        """Return pooled features (n, d) and local embeddings (n, h, w, e) of one pass."""
        features, maps = self.features_and_maps(images, self.depths)
        return features, local_embeddings(maps, self.projection, images[0, 0].numel())

    def features_and_maps(self, images, depths):
        """Return pooled features (n, d) and the maps of some depths; of all where that is None."""
        images = (images - self.mean) / self.std
        if depths == []:
            maps = self.body(images)
            return _pool(maps), [maps]
        final, maps = self.body.forward_intermediates(images, indices=depths)
        return _pool(self.body.forward_head(final)), maps

    @torch.no_grad()
    def find_pairs(self, size):
        """Choose ``pairs``, and compute them as one."""
        if self.recipe is not None:
            images = torch.linspace(-1, 1, 3 * size[0] * size[1]).view(1, 3, *size)
            self.pairs = find_pairs(self.body, images)

    @torch.no_grad()
    def find_depths(self, size, seed):
        """Choose ``depths``, and a random projection where their maps are wide."""
        images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        if self.body((images - self.mean) / self.std).ndim == 4:
            depths, maps = [], self.features_and_maps(images, [])[1]
        elif not hasattr(self.body, "forward_intermediates"):
            return  # a body that does not offer its maps as timm's do
        else:
            try:
                features, maps = self.features_and_maps(images, None)
                check_maps(maps)
                depths = choose_depths([tuple(found.shape[-2:]) for found in maps])
                maps = [maps[depth] for depth in depths]
                if self.recipe is None:
                    check_maps(self.features_and_maps(images, depths)[1], len(depths))
                same = torch.allclose(features, self(images), rtol=1e-3, atol=1e-4)
            except Exception as error:  # whatever a module of the user's may raise
                self.no_maps = f"its forward_intermediates failed: {error!r}"
                return
            if not same:
                self.no_maps = "forward_head of its last maps gives another output than forward"
                return
        self.depths = depths
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


def build_backbone(backbone, weights, image_size, shapes, max_pixels, seed):
    """Return (network in eval mode on the CPU, Sizing).

    ``image_size`` None means the shapes of the images, those of the shots being ``shapes``, at
    the number of pixels that timm states for the backbone, or ``max_pixels``; for a module of the
    user's, which may take no other, the size that all shots share.
    """
    if isinstance(image_size, Integral):
        image_size = (int(image_size), int(image_size))
    if isinstance(backbone, nn.Module):
        network, sizing = _wrap_module(backbone, image_size, shapes)
    else:
        build = _build_embedded if backbone == "embedded" else _build_timm
        build = _build_open_clip if backbone.startswith(PREFIX) else build
        network, sizing = build(backbone, weights, image_size, shapes, max_pixels, seed)
        network.to(memory_format=torch.channels_last)  # faster convolutions, also on a CPU
    network.eval()
    features = _features_of_black(network, sizing.size)
    network.width = features.shape[1]
    if isinstance(backbone, nn.Module):
        _check_steady(network, sizing.size)
    _check_alive(network, features, sizing.size)
    if not isinstance(backbone, nn.Module):
        network.find_pairs(sizing.size)
    network.find_depths(sizing.size, seed)
    return network, sizing


def _wrap_module(module, size, shapes):
    if size is None:
        if len(set(shapes)) > 1:
            raise ValueError(
                "image_size is needed: the images differ in size and the backbone is an "
                "nn.Module, which states none of its own."
            )
        size = shapes[0]
    return Backbone(copy_of(module), mean=[0.0] * 3, std=[1.0] * 3), Sizing(tuple(size))


def _size_convolutions(image_size, own, shapes, max_pixels):
    """Return the sizing of a network that takes images of any size."""
    if image_size is not None:
        return Sizing(tuple(image_size))
    return native_sizing(shapes, max_pixels or LARGER * own[0] * own[1])


def _build_embedded(name, weights, image_size, shapes, max_pixels, seed):
    recipe = {"name": "embedded", "options": {}}
    body = create_body(recipe, seed)
    found = find_weights(name, weights)
    if found is not None:
        load_weights(body, found, name, _embedded.ARCHITECTURE)
    network = Backbone(body, _embedded.MEAN, _embedded.STD, found and found.origin, recipe)
    return network, _size_convolutions(image_size, _embedded.SIZE, shapes, max_pixels)


def _build_timm(name, weights, image_size, shapes, max_pixels, seed):
    import timm

    _check_name(name)
    name_only = name.split(".")[0]
    found = find_weights(name, weights)
    config = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    options = {"num_classes": 0}
    if config is not None and config.fixed_input_size:
        size = image_size
        if size is None and max(config.input_size[1:]) > MOST_FIXED:
            size = (FIXED_SIZE, FIXED_SIZE)
        if size is not None:
            options["img_size"] = size
    if weights == "pretrained" and found is None:
        with seeded(seed):
            body, origin = _create_from_hub(name, options)
    else:
        body = create_body({"name": name, "options": options}, seed)
        origin = found and found.origin
    if found is not None:
        load_weights(body, found, name_only, name_only)
    data = timm.data.resolve_data_config(model=body)
    own = tuple(options.get("img_size", data["input_size"][1:]))
    if body.pretrained_cfg.get("fixed_input_size"):
        sizing = _size_transformer(body, image_size, own, shapes, max_pixels)
        if sizing.size != own:
            options["img_size"] = sizing.size
    else:
        sizing = _size_convolutions(image_size, own, shapes, max_pixels)
    # what a name on the hub stands for is known there alone
    recipe = None if ":" in name else {"name": name, "options": options}
    return Backbone(body, data["mean"], data["std"], origin, recipe), sizing


def _build_open_clip(name, weights, image_size, shapes, max_pixels, seed):
    """Build a model of open_clip's, which sees all images at one size."""
    body, mean, std, own, origin = create_open_clip(name, weights, image_size, seed)
    return Backbone(body, mean, std, origin), Sizing(own)


def _check_name(name):
    import timm

    if name.startswith(("hf-hub:", "hf_hub:", "local-dir:")) or timm.is_model(name.split(".")[0]):
        return
    hint = near_names(name, ["embedded", *timm.list_models()])
    if "/" in name:
        hint = f" For a repository of the hub pass 'hf-hub:{name}'."
    raise ValueError(f"backbone={name!r} is not a timm architecture.{hint}")


def _size_transformer(body, image_size, own, shapes, max_pixels):
    """Return the one size for all images of a network that is made for one.

    Where it is a plain transformer, the shots' shape at as many pixels, and its position
    embeddings are resized to that; else its own.
    """
    plain = hasattr(body, "set_input_size") and getattr(body, "pos_embed", None) is not None
    if image_size is not None or not plain:
        return Sizing(own)
    patch = body.patch_embed.patch_size[0]
    pixels = max_pixels or own[0] * own[1]
    sizing = native_sizing(shapes, pixels, patch, least=pixels).one_for_all
    if sizing.size != own:
        body.set_input_size(img_size=sizing.size)
    return sizing


def _create_from_hub(name, options):
    """Create a network with weights of the hub's cache or of the hub; say which."""
    import timm

    file = cached_by_hub(name)
    if file is not None:
        options = {**options, "pretrained_cfg_overlay": {"state_dict": read_state(file)}}
    try:
        body = timm.create_model(name, pretrained=True, **options)
    except Exception as error:
        if file is None:
            raise hub_error(name, error) from error
        raise ValueError(
            f"The weights in the hub's cache do not fit backbone={name!r}: {error}. Delete {file} "
            "to have them fetched anew."
        ) from error
    return body, f"hub cache {file}" if file else f"hub {name}"


@torch.no_grad()
def _features_of_black(network, size):
    """Return the features (1, d) of a black image; raise where the network makes none."""
    try:
        features = network(torch.zeros(1, 3, *size))
    except Exception as error:
        raise ValueError(
            f"The backbone cannot process images of {size[0]}x{size[1]} pixels as a batch "
            f"(1, 3, {size[0]}, {size[1]}); image_size=(H, W) asks for another size: {error}"
        ) from error
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != 1:
        got = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features)
        raise ValueError(
            f"The backbone must map (n, 3, H, W) to (n, d) or (n, d, h, w); one image gave {got}."
        )
    return features


@torch.no_grad()
def _check_steady(network, size):
    """Raise ValueError where an image's features depend on chance or on the others of a batch."""
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    alone, among = network(images[1:2]), network(images)[1:2]
    if not torch.allclose(alone, among, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise ValueError(
            "The backbone's features of an image change from call to call or with the others of a "
            "batch, though it is in eval mode: dropout or batch statistics are active in it."
        )


@torch.no_grad()
def _check_alive(network, black, size):
    """Raise ValueError where features are not finite, or the same whatever the image."""
    noise = network(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)))
    features = torch.cat([black, noise]).float()
    if not torch.isfinite(features).all():
        raise ValueError(
            "The backbone gives NaN or infinite features, of a black image and of noise: look at "
            "its weights."
        )
    one, other = F.normalize(features, dim=1)
    if torch.allclose(one, other, rtol=0, atol=SAME):
        raise ValueError(
            "The backbone gives a black image and noise the same features, so it can tell none "
            "from another: look at its weights."
        )
