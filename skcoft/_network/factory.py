"""Build the network for images that the parameters of an estimator ask for."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .._input.sizing import ImageSize, Sizing, native_sizing
from .._utils.params import suggest_names
from .._utils.random import seeded
from . import embedded as _embedded
from .backbone import Backbone, create_body, describe_output
from .module_state import copy_module
from .open_clip import OPEN_CLIP_PREFIX, create_open_clip
from .weights import cached_by_hub, find_weights, hub_error, load_weights, read_state

# Transformers with a larger default size, such as DINOv2 with 518, get a smaller one by default: a
# multiple of the usual patch sizes. 518 pixels a side are five times as many pixels.
MAX_FIXED_SIDE = 256
REDUCED_FIXED_SIDE = 224

# Networks that take images of any size get this many times the pixels that they were trained on,
# because it shows more detail.
NATIVE_PIXELS_FACTOR = 2

CONSTANT_FEATURES_TOL = 1e-6  # features of different images that differ by less are the same

WeightsLike = str | PathLike[str] | None


def build_backbone(
    backbone: str | nn.Module,
    weights: WeightsLike,
    image_size: int | ImageSize | None,
    shapes: Sequence[ImageSize],
    max_pixels: int | None,
    seed: int,
) -> tuple[Backbone, Sizing]:
    """Return the network, in eval mode and on the CPU, and the sizing of its images.

    Parameters
    ----------
    backbone, weights, image_size, max_pixels
        As in :class:`skcoft.COFTEmbedder`, for one backbone. If ``image_size`` is None, images
        keep their aspect ratio and have at most the number of pixels that timm states for the
        backbone, or ``max_pixels``. A user's module may accept only one size, so the common size
        of all training images is used.
    shapes : sequence of (H, W)
        Sizes of the training images.
    seed : int
        Seed of random weights and of the random projection.
    """
    size = None
    if image_size is not None:
        height, width = image_size if isinstance(image_size, Sequence) else (image_size,) * 2
        size = int(height), int(width)
    if isinstance(backbone, nn.Module):
        network, sizing = _wrap_module(backbone, size, shapes)
    elif backbone.startswith(OPEN_CLIP_PREFIX):
        network, sizing = _build_open_clip(backbone, weights, size, seed)
    elif backbone == "embedded":
        network, sizing = _build_embedded(weights, size, shapes, max_pixels, seed)
    else:
        network, sizing = _build_timm(backbone, weights, size, shapes, max_pixels, seed)
    if not isinstance(backbone, nn.Module):
        network.to(memory_format=torch.channels_last)  # faster convolutions, on a CPU too
    network.eval()
    features = _features_of_black_image(network, sizing.size)
    network.width = features.shape[1]
    if isinstance(backbone, nn.Module):
        _check_deterministic(network, sizing.size)
    _check_informative(network, features, sizing.size)
    network.find_pairs(sizing.size)
    network.find_layers(sizing.size, seed)
    return network, sizing


def _wrap_module(
    module: nn.Module, size: ImageSize | None, shapes: Sequence[ImageSize]
) -> tuple[Backbone, Sizing]:
    """Return a copy of a user's module as a network, and its sizing."""
    if size is None:
        if len(set(shapes)) > 1:
            raise ValueError(
                "image_size is None, but the images differ in size. The backbone is an nn.Module, "
                "which has no default size. Set image_size."
            )
        size = shapes[0]
    return Backbone(copy_module(module), mean=[0.0] * 3, std=[1.0] * 3), Sizing(size)


def _any_size_sizing(
    image_size: ImageSize | None,
    default_size: ImageSize,
    shapes: Sequence[ImageSize],
    max_pixels: int | None,
) -> Sizing:
    """Return the sizing of a network that accepts images of any size."""
    if image_size is not None:
        return Sizing(image_size)
    max_pixels = max_pixels or NATIVE_PIXELS_FACTOR * default_size[0] * default_size[1]
    return native_sizing(shapes, max_pixels)


def _build_embedded(
    weights: WeightsLike,
    image_size: ImageSize | None,
    shapes: Sequence[ImageSize],
    max_pixels: int | None,
    seed: int,
) -> tuple[Backbone, Sizing]:
    recipe = {"name": "embedded", "options": {}}
    body = create_body(recipe, seed)
    source = find_weights("embedded", weights)
    if source is not None:
        load_weights(body, source, "embedded", _embedded.TRUNK_ARCHITECTURE)
    origin = None if source is None else source.origin
    network = Backbone(body, _embedded.PIXEL_MEAN, _embedded.PIXEL_STD, origin, recipe)
    return network, _any_size_sizing(image_size, _embedded.TRAINING_SIZE, shapes, max_pixels)


def _build_timm(
    name: str,
    weights: WeightsLike,
    image_size: ImageSize | None,
    shapes: Sequence[ImageSize],
    max_pixels: int | None,
    seed: int,
) -> tuple[Backbone, Sizing]:
    import timm

    _check_name(name)
    architecture = name.split(".")[0]
    source = find_weights(name, weights)
    config = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    options: dict[str, Any] = {"num_classes": 0}
    origin: str | None
    if config is not None and config.fixed_input_size:
        size = image_size
        if size is None and max(config.input_size[1:]) > MAX_FIXED_SIDE:
            size = (REDUCED_FIXED_SIDE, REDUCED_FIXED_SIDE)
        if size is not None:
            options["img_size"] = size
    if weights == "pretrained" and source is None:
        with seeded(seed):
            body, origin = _create_from_hub(name, options)
    else:
        body = create_body({"name": name, "options": options}, seed)
        origin = None if source is None else source.origin
    if source is not None:
        load_weights(body, source, architecture, architecture)
    data = timm.data.resolve_data_config(model=body)
    default_size = tuple(options.get("img_size", data["input_size"][1:]))
    if body.pretrained_cfg.get("fixed_input_size"):
        sizing = _fixed_size_sizing(body, image_size, default_size, shapes, max_pixels)
        if sizing.size != default_size:
            options["img_size"] = sizing.size
    else:
        sizing = _any_size_sizing(image_size, default_size, shapes, max_pixels)
    # only the hub knows what a name on the hub stands for, so there is no recipe
    recipe = None if ":" in name else {"name": name, "options": options}
    return Backbone(body, data["mean"], data["std"], origin, recipe), sizing


def _build_open_clip(
    name: str, weights: WeightsLike, image_size: ImageSize | None, seed: int
) -> tuple[Backbone, Sizing]:
    """Build a model of open_clip, which gets all images at one size."""
    body, mean, std, size, origin = create_open_clip(name, weights, image_size, seed)
    return Backbone(body, mean, std, origin), Sizing(size)


def _check_name(name: str) -> None:
    """Raise ValueError, with similar names, if timm has no such architecture."""
    import timm

    if name.startswith(("hf-hub:", "hf_hub:", "local-dir:")) or timm.is_model(name.split(".")[0]):
        return
    hint = suggest_names(name, ["embedded", *timm.list_models()])
    if "/" in name:
        hint = f" For a repository of the hub pass 'hf-hub:{name}'."
    raise ValueError(f"backbone={name!r} is not a timm architecture.{hint}")


def _fixed_size_sizing(
    body: Any,
    image_size: ImageSize | None,
    default_size: ImageSize,
    shapes: Sequence[ImageSize],
    max_pixels: int | None,
) -> Sizing:
    """Return the sizing of a network that takes all images at one size.

    A plain transformer gets the aspect ratio of the training images at the same number of pixels;
    its position embeddings are resized. Other networks get their default size.
    """
    is_plain = hasattr(body, "set_input_size") and getattr(body, "pos_embed", None) is not None
    if image_size is not None or not is_plain:
        return Sizing(default_size)
    patch_side = body.patch_embed.patch_size[0]
    pixels = max_pixels or default_size[0] * default_size[1]
    sizing = native_sizing(shapes, pixels, patch_side, min_pixels=pixels).one_for_all
    if sizing.size != default_size:
        body.set_input_size(img_size=sizing.size)
    return sizing


def _create_from_hub(name: str, options: dict[str, Any]) -> tuple[Any, str]:
    """Return a network with weights from the hub's cache or the hub, and their origin."""
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
            "to download them again."
        ) from error
    return body, f"hub cache {file}" if file else f"hub {name}"


@torch.no_grad()
def _features_of_black_image(network: Backbone, size: ImageSize) -> torch.Tensor:
    """Return the features (1, d) of a black image; raise ValueError if there are none."""
    try:
        features = network(torch.zeros(1, 3, *size))
    except Exception as error:
        raise ValueError(
            f"The backbone cannot process images of {size[0]}x{size[1]} pixels as a batch "
            f"(1, 3, {size[0]}, {size[1]}): {error}. Set image_size=(H, W) for another size."
        ) from error
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != 1:
        raise ValueError(
            "The backbone must map (n, 3, H, W) to (n, d) or (n, d, h, w); one image gave "
            f"{describe_output(features)}."
        )
    return features


@torch.no_grad()
def _check_deterministic(network: Backbone, size: ImageSize) -> None:
    """Raise ValueError if an image's features are random or depend on the rest of its batch."""
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    alone, in_batch = network(images[1:2]), network(images)[1:2]
    if not torch.allclose(alone, in_batch, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise ValueError(
            "The backbone's features of an image are random or depend on the other images of the "
            "batch, although it is in eval mode. Turn off its dropout and batch statistics."
        )


@torch.no_grad()
def _check_informative(network: Backbone, black: torch.Tensor, size: ImageSize) -> None:
    """Raise ValueError if features are not finite or do not depend on the image."""
    noise = network(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)))
    features = torch.cat([black, noise]).float()
    if not torch.isfinite(features).all():
        raise ValueError(
            "The backbone gives NaN or infinite features for a black image or for noise. Check "
            "its weights."
        )
    first, second = F.normalize(features, dim=1)
    if torch.allclose(first, second, rtol=0, atol=CONSTANT_FEATURES_TOL):
        raise ValueError(
            "The backbone gives the same features for a black image and for noise, so it cannot "
            "tell images apart. Check its weights."
        )
