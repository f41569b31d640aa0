"""Backbones: embedded, by timm name or a user's module, as one network, images to features."""

import difflib
from copy import deepcopy

import numpy as np
import torch
from sklearn.random_projection import GaussianRandomProjection
from torch import nn

from . import _embedded
from ._positions import WIDTH, choose_depths, local_embeddings
from ._random import seeded
from ._views import VIEW_OPTIONS, image_synthesizer, image_views
from ._weights import cached_by_hub, find_weights, hub_error, load_weights, read_state

LEAST_SIZE = 128
MOST_FIXED = 256  # pixels; networks that want more by default, such as DINOv2's 518, get
FIXED_SIZE = 224  # these, a multiple of the usual patches: 518 are five times as many


class Backbone(nn.Module):
    """Images (n, 3, H, W) in 0..1 to pooled features (n, d): normalise, body, average pool.

    ``depths`` are the indices of the body's intermediate maps that local embeddings are made of;
    empty, the body's output is the one map. None means that there is none. ``width`` is d,
    ``origin`` says where the weights come from; None means random ones, or the user's own.
    """

    kind = "images"
    view_options = VIEW_OPTIONS
    make_views = staticmethod(image_views)
    make_synthesizer = staticmethod(image_synthesizer)

    def __init__(self, body, mean, std, origin=None):
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.register_buffer("projection", None)
        self.depths = None
        self.width = None
        self.origin = origin

    def forward(self, images):
        return _pool(self.body((images - self.mean) / self.std))

    def features_and_positions(self, images):
        """Return pooled features (n, d) and local embeddings (n, h, w, e) of one pass."""
        features, maps = self._features_and_maps(images, self.depths)
        return features, local_embeddings(maps, self.projection)

    def _features_and_maps(self, images, depths):
        images = (images - self.mean) / self.std
        if depths == []:
            maps = self.body(images)
            return _pool(maps), [maps]
        final, maps = self.body.forward_intermediates(images, indices=depths)
        return _pool(self.body.forward_head(final)), maps

    @torch.no_grad()
    def find_depths(self, size, seed):
        """Choose ``depths``, and a random projection where their maps are wide."""
        images = torch.zeros(1, 3, *size)
        if self.body((images - self.mean) / self.std).ndim == 4:
            depths, maps = [], self._features_and_maps(images, [])[1]
        else:
            try:
                features, maps = self._features_and_maps(images, None)
                depths = choose_depths([tuple(found.shape[-2:]) for found in maps])
                maps = [maps[depth] for depth in depths]
                same = torch.allclose(features, self(images), rtol=1e-3, atol=1e-4)
            except (AttributeError, TypeError, ValueError, RuntimeError, AssertionError):
                return  # a body that does not offer its maps as timm's do
            if not same:
                return  # a body that pools in a way of its own
        self.depths = depths
        width = sum(features.shape[1] for features in maps)
        if width > WIDTH:
            projection = GaussianRandomProjection(WIDTH, random_state=seed)
            components = projection.fit(np.zeros((1, width))).components_
            self.projection = torch.from_numpy(components.T.copy()).float()


def _pool(features):
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features


def build_backbone(backbone, weights, image_size, common_size, seed):
    """Return (network in eval mode on the CPU, image size (H, W)).

    ``image_size`` None means timm's input size, or for a module of the user's the size that all
    shots share (``common_size``). Where the backbone takes any size, images smaller than its own
    are enlarged to 128 pixels at most: more adds work but no detail.
    """
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    if isinstance(backbone, nn.Module):
        network, size = _wrap_module(backbone, image_size or common_size)
    else:
        build = _build_embedded if backbone == "embedded" else _build_timm
        network, size = build(backbone, weights, image_size, common_size, seed)
        network.to(memory_format=torch.channels_last)  # faster convolutions, also on a CPU
    network.eval()
    network.width = _width(network, size)
    network.find_depths(size, seed)
    return network, tuple(size)


def _wrap_module(module, size):
    if size is None:
        raise ValueError(
            "image_size is needed: the images differ in size and the backbone is an "
            "nn.Module, which states none of its own."
        )
    return Backbone(deepcopy(module), mean=[0.0] * 3, std=[1.0] * 3), size


def _build_embedded(name, weights, image_size, common_size, seed):
    with seeded(seed):
        body = _embedded.Embedded()
    found = find_weights(name, weights)
    if found is not None:
        load_weights(body, found, name, _embedded.ARCHITECTURE)
    network = Backbone(body, _embedded.MEAN, _embedded.STD, found and found.origin)
    return network, image_size or _least_size(_embedded.SIZE, common_size)


def _least_size(own, common):
    """Return the backbone's own size, or for smaller images theirs, but 128 pixels at least."""
    return tuple(min(o, max(LEAST_SIZE, *common)) for o in own) if common else own


def _build_timm(name, weights, image_size, common_size, seed):
    import timm

    name_only = name.split(".")[0]
    if not name.startswith(("hf-hub:", "hf_hub:", "local-dir:")) and not timm.is_model(name_only):
        known = ["embedded", *timm.list_models()]
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.6)
        hint = f" Near names: {', '.join(near)}." if near else ""
        raise ValueError(f"backbone={name!r} is not a timm architecture.{hint}")
    found = find_weights(name, weights)
    config = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    options = {"num_classes": 0}
    if config is not None and config.fixed_input_size:
        if image_size is None and max(config.input_size[1:]) > MOST_FIXED:
            image_size = (FIXED_SIZE, FIXED_SIZE)
        if image_size is not None:
            options["img_size"] = image_size
    with seeded(seed):
        if weights == "pretrained" and found is None:
            body, origin = _create_from_hub(name, options)
        else:
            body, origin = timm.create_model(name, **options), found and found.origin
    if found is not None:
        load_weights(body, found, name_only, name_only)
    data = timm.data.resolve_data_config(model=body)
    size = image_size or data["input_size"][1:]
    if image_size is None and not body.pretrained_cfg.get("fixed_input_size"):
        size = _least_size(size, common_size)
    return Backbone(body, data["mean"], data["std"], origin), size


def _create_from_hub(name, options):
    """Create a network with weights of the hub's cache or of the hub; say which."""
    import timm

    file = cached_by_hub(name)
    if file is not None:
        options = {**options, "pretrained_cfg_overlay": {"state_dict": read_state(file)}}
    try:
        body = timm.create_model(name, pretrained=True, **options)
    except Exception as error:
        raise hub_error(name, error) from error
    return body, f"hub cache {file}" if file else f"hub {name}"


@torch.no_grad()
def _width(network, size):
    """Return the number of features that the network makes of an image; raise where it cannot."""
    try:
        features = network(torch.zeros(1, 3, *size))
    except Exception as error:
        raise ValueError(
            f"The backbone cannot process images of {size[0]}x{size[1]} pixels as a batch "
            f"(1, 3, {size[0]}, {size[1]}): {error}"
        ) from error
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != 1:
        got = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features)
        raise ValueError(
            f"The backbone must map (n, 3, H, W) to (n, d) or (n, d, h, w); one image gave {got}."
        )
    return features.shape[1]
