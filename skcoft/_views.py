"""Which function draws views and which one makes negatives, for images and for rows."""

import torch

from ._random import draw_seed, seeded
from ._rows import RowsNetwork
from .augmentation import SYNTHESIZERS, random_views

VIEW_OPTIONS = {k: v for k, v in random_views.__kwdefaults__.items() if k != "generator"}


def make_views(augmentation, network):
    """Return a function (batch, generator) -> one view of each item."""
    if isinstance(network, RowsNetwork):
        if augmentation is None:
            return network.views
        if isinstance(augmentation, dict):
            raise ValueError(
                f"augmentation={augmentation!r} sets the views of images; X holds rows of "
                "features. Pass a callable on one row, or None."
            )
    elif augmentation is None or isinstance(augmentation, dict):
        options = augmentation or {}
        return lambda images, generator: random_views(images, generator=generator, **options)

    def views(batch, generator):
        with seeded(draw_seed(generator)):
            items = [augmentation(item.clone()) for item in batch]
        return _stack(items, batch, "augmentation")

    return views


def make_synthesizer(negatives, network, labelled, views):
    """Return a function (views, generator) -> anomalies, each of a kind drawn per image.

    ``labelled`` is (loader, number) of labelled anomalies, or None.
    """
    if not isinstance(negatives, (list, tuple)):
        negatives = [negatives]
    kinds = []
    for kind in negatives:
        if kind == "labelled":
            kinds.append(_labelled(*labelled, views))
        elif callable(kind):
            kinds.append(_user_synthesizer(kind))
        elif isinstance(network, RowsNetwork):
            kinds.append(network.shuffled)
        else:
            kinds.append(_named_synthesizer(SYNTHESIZERS[kind]))
    if len(kinds) == 1:
        return kinds[0]

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


def _named_synthesizer(function):
    return lambda images, generator: function(images, generator=generator)


def _labelled(load, n_anomalies, views):
    def draw(images, generator):
        size = (len(images),)
        index = torch.randint(n_anomalies, size, generator=generator, device=images.device)
        return views(load(index), generator)

    return draw


def _user_synthesizer(function):
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
