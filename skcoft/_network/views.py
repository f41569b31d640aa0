"""Functions that draw views and synthesise anomalies, built in or passed by the user."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from .._utils.params import as_list
from .._utils.random import draw_seed, seeded
from ..augmentation import SYNTHESIZERS, random_views

Augmentation = Mapping[str, Any] | Callable[[torch.Tensor], torch.Tensor] | None
Loader = Callable[[torch.Tensor], torch.Tensor]  # indices to a batch
Drawer = Callable[[torch.Tensor, torch.Generator], torch.Tensor]  # a batch to a random one

VIEW_OPTIONS = {k: v for k, v in (random_views.__kwdefaults__ or {}).items() if k != "generator"}


def mirrors_are_normal(
    augmentation: Augmentation, options: Mapping[str, Any] = VIEW_OPTIONS
) -> bool:
    """Whether views are mirrored, so that the mirror image of a normal image is normal."""
    if callable(augmentation):
        return False
    return {**options, **(augmentation or {})}.get("flip", 0) > 0


def make_views(augmentation: Augmentation, network: Any) -> Drawer:
    """Return a function (batch, generator) -> one view of each item."""
    if callable(augmentation):
        return _user_function(augmentation, "augmentation")
    options = augmentation or {}
    if not set(options) <= set(network.view_options):
        raise ValueError(
            f"augmentation={augmentation!r} sets the views of images. X is tabular data. Pass a "
            "callable on one row, or None."
        )
    return network.make_views(**options)


def make_synthesizer(
    negatives: Any, built_in: Callable[[str], Drawer], labelled: Drawer | None = None
) -> Drawer:
    """Return a function (views, generator) -> anomalies.

    If ``negatives`` is a list, each anomaly is made by a random one of its entries.

    Parameters
    ----------
    negatives : str, callable or list of these
        As in :class:`skcoft.COFTEmbedder`.
    built_in : callable
        Returns the function of a name.
    labelled : callable or None
        The function for ``"labelled"``, see :func:`draw_labelled`.
    """

    def synthesizer_of(kind: Any) -> Any:
        if kind == "labelled":
            return labelled
        return _user_function(kind, "negatives") if callable(kind) else built_in(kind)

    synthesizers = [synthesizer_of(kind) for kind in as_list(negatives)]
    return synthesizers[0] if len(synthesizers) == 1 else _mix(synthesizers)


def image_views(**options: Any) -> Drawer:
    """Return a function (images, generator) -> one view of each image."""
    return lambda images, generator: random_views(images, generator=generator, **options)


def image_synthesizer(name: str) -> Drawer:
    """Return the function (images, generator) -> anomalies with this name."""
    return lambda images, generator: SYNTHESIZERS[name](images, generator=generator)


def _mix(synthesizers: Sequence[Drawer]) -> Drawer:
    """Return a function that applies a random synthesizer to each image."""

    def synthesize(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        choice = torch.randint(
            len(synthesizers), (len(images),), generator=generator, device=images.device
        )
        out = images.clone()
        for k, synthesizer in enumerate(synthesizers):
            chosen = choice == k
            if chosen.any():
                out[chosen] = synthesizer(images[chosen], generator)
        return out

    return synthesize


def draw_labelled(load: Loader, n_anomalies: int, views: Drawer) -> Drawer:
    """Return a function that draws a view of a random labelled anomaly for each image."""

    def draw(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        size = (len(images),)
        index = torch.randint(n_anomalies, size, generator=generator, device=images.device)
        return views(load(index), generator)

    return draw


def _user_function(function: Callable[[Any], Any], name: str) -> Drawer:
    """Return a function that calls a user's function reproducibly.

    ``name`` is the parameter that it was passed as: an augmentation is called on each item,
    negatives on each batch.
    """

    def call(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        items = batch.clone()
        with seeded(draw_seed(generator)):
            output = list(map(function, items)) if name == "augmentation" else function(items)
        return _check_output(output, batch, name)

    return call


def _check_output(items: Any, batch: torch.Tensor, name: str) -> torch.Tensor:
    """Return the output of a user's function as a batch like ``batch``; raise ValueError if not.

    ``name`` is the parameter that the function was passed as.
    """
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
