"""Which function draws views and which one makes negatives: a network's own, or a user's."""

import torch

from .._utils.random import draw_seed, seeded
from ..augmentation import SYNTHESIZERS, random_views

VIEW_OPTIONS = {k: v for k, v in random_views.__kwdefaults__.items() if k != "generator"}


def mirrors_are_normal(augmentation, options=VIEW_OPTIONS):
    """Whether views are mirrored, so that a mirror image is as normal as an image."""
    if callable(augmentation):
        return False
    return {**options, **(augmentation or {})}.get("flip", 0) > 0


def make_views(augmentation, network):
    """Return a function (batch, generator) -> one view of each item."""
    if callable(augmentation):
        return _views_by(augmentation)
    options = augmentation or {}
    if not set(options) <= set(network.view_options):
        raise ValueError(
            f"augmentation={augmentation!r} sets the views of images; X holds rows of "
            "features. Pass a callable on one row, or None."
        )
    return network.make_views(**options)


def make_synthesizer(negatives, named, labelled=None):
    """Return a function (views, generator) -> anomalies, each of a kind drawn per image.

    ``named`` returns the function of a name, ``labelled`` is the one that draws labelled
    anomalies, see :func:`draw_labelled`.
    """
    if not isinstance(negatives, (list, tuple)):
        negatives = [negatives]
    kinds = []
    for kind in negatives:
        if kind == "labelled":
            kinds.append(labelled)
        else:
            kinds.append(_synthesizer_by(kind) if callable(kind) else named(kind))
    return kinds[0] if len(kinds) == 1 else _mixed(kinds)


def image_views(**options):
    """Return a function (images, generator) -> one view of each."""
    return lambda images, generator: random_views(images, generator=generator, **options)


def image_synthesizer(name):
    """Return the function (images, generator) -> anomalies of a name."""
    return lambda images, generator: SYNTHESIZERS[name](images, generator=generator)


def _mixed(kinds):
    def mixed(images, generator):
        choice = torch.randint(
            len(kinds), (len(images),), generator=generator, device=images.device
        )
        out = images.clone()
        for k, synthesize in enumerate(kinds):
            chosen = choice == k
            if chosen.any():
                out[chosen] = synthesize(images[chosen], generator)
        return out

    return mixed


def draw_labelled(load, n_anomalies, views):
    """Return a function that draws views of labelled anomalies, as many as it is given images."""

    def draw(images, generator):
        size = (len(images),)
        index = torch.randint(n_anomalies, size, generator=generator, device=images.device)
        return views(load(index), generator)

    return draw


def _views_by(function):
    def views(batch, generator):
        with seeded(draw_seed(generator)):
            items = [function(item.clone()) for item in batch]
        return _stack(items, batch, "augmentation")

    return views


def _synthesizer_by(function):
    def synthesize(batch, generator):
        with seeded(draw_seed(generator)):
            return _stack(function(batch.clone()), batch, "negatives")

    return synthesize


def _stack(items, batch, name):
    try:
        out = items if isinstance(items, torch.Tensor) else torch.stack(list(items))
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"The {name} callable must return tensors of one shape: {error}"
        ) from error
    if out.shape != batch.shape:
        raise ValueError(
            f"The {name} callable must keep the shape {tuple(batch.shape)}; "
            f"it returned {tuple(out.shape)}."
        )
    return out.to(batch)
