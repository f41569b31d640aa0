"""Build a backbone from a timm name, an open_clip name, the embedded network or a module."""

from numbers import Integral

import torch
import torch.nn.functional as F
from torch import nn

from .._input.sizing import Sizing, native_sizing
from .._utils.params import suggest_names
from .._utils.random import seeded
from . import embedded as _embedded
from .backbone import Backbone, create_body
from .module_state import copy_module
from .open_clip import PREFIX, create_open_clip
from .weights import cached_by_hub, find_weights, hub_error, load_weights, read_state

MOST_FIXED = 256  # side; transformers that want more by default, such as DINOv2's 518, get


FIXED_SIZE = 224  # this, a multiple of the usual patches: 518 are five times as many pixels


SAME = 1e-6  # greatest difference of features of a network that tells nothing apart


LARGER = 2  # times the pixels that a network was trained on, where it takes any: more detail


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
    network.find_layers(sizing.size, seed)
    return network, sizing


def _wrap_module(module, size, shapes):
    if size is None:
        if len(set(shapes)) > 1:
            raise ValueError(
                "image_size is needed: the images differ in size and the backbone is an "
                "nn.Module, which states none of its own."
            )
        size = shapes[0]
    return Backbone(copy_module(module), mean=[0.0] * 3, std=[1.0] * 3), Sizing(tuple(size))


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
    hint = suggest_names(name, ["embedded", *timm.list_models()])
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
    sizing = native_sizing(shapes, pixels, patch, min_pixels=pixels).one_for_all
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
