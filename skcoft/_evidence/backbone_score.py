"""One backbone at one scale with its fitted components."""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, TypedDict, cast

import numpy as np

from .._network.encoder import Encoder
from .._network.support import MAX_CHANGED_SHOTS, MIN_CALIBRATION_SHOTS, Support
from .._utils.cache import cached, is_same_value
from .._utils.settings import DetectorSettings
from .component import COMPONENTS, PatchComponent, ScoreComponent
from .image_density import ImageDensity, MeanOfDensities

N_VIEWS = 8  # views per shot, if densities are fitted on views
N_PROBES = 4  # views per shot that only show how similar the shots are, otherwise


class Views(TypedDict):
    """Number of embedded views per shot, and whether mirror images are embedded."""

    n_views: int
    n_probes: int
    mirror: bool


@dataclass(frozen=True)
class BackboneScore:
    """The components of one backbone at one scale, fitted on embeddings of the shots.

    Attributes
    ----------
    encoder : Encoder
        The backbone, for images of full size.
    scale : float
        Size of the images relative to their full size.
    support : Support
        Embeddings of the shots and their views.
    components : dict of str to ScoreComponent
        The fitted components by name.
    views : dict
        Number of embedded views per shot: ``n_views``, ``n_probes``, and ``mirror`` for mirror
        images.
    """

    encoder: Encoder
    scale: float
    support: Support
    components: dict[str, ScoreComponent]
    views: Views

    @property
    def scaled(self) -> Encoder:
        """The encoder for images of this scale."""
        return self.encoder.at_scale(self.scale)

    @property
    def fitted_density(self) -> Any:
        """The fitted density of images, or a list of these."""
        return cast(ImageDensity | MeanOfDensities, self.components["image"]).fitted

    @property
    def area(self) -> float:
        """Area of the images relative to their full size; the weight of maps."""
        return self.scale**2

    def has_views_of(self, n_views: int | str) -> bool:
        """Return whether the views may have been embedded for a value of ``n_views``."""
        counts = [count_views(n_views, self.encoder, n) for n in (1, MIN_CALIBRATION_SHOTS)]
        return self.views in counts

    @classmethod
    def embed_and_fit(
        cls,
        settings: DetectorSettings,
        encoder: Encoder,
        scale: float,
        images: Any,
        shot_ids: np.ndarray,
        anomalies: Any = None,
        memory: Any = None,
    ) -> "BackboneScore":
        """Embed the shots and fit the components that the settings ask for."""
        components = build_components(settings, encoder)
        views = count_views(settings.n_views, encoder, len(np.unique(shot_ids)))
        scaled = encoder.at_scale(scale)
        support, updated = cached(
            memory, embed_and_update, scaled, images, shot_ids, views, with_patches(components)
        )
        if "labelled" in components:
            embeddings = cached(memory, Encoder.embed, scaled, anomalies)
            support = replace(support, anomaly_embeddings=embeddings)
        return cls.fit(encoder, scale, support, components | updated, views)

    def extend(
        self,
        settings: DetectorSettings,
        images: Any,
        shot_ids: np.ndarray,
        kept_shots: np.ndarray,
        n_seen: int,
    ) -> "BackboneScore":
        """Return the score with more shots; this one is not changed.

        Only ``kept_shots`` of the earlier shots remain. ``n_seen`` is the number of all earlier
        images, whether they were kept or not. If there are no new images, the components are
        fitted again only if the settings have changed.
        """
        components = self._rebuild_components(settings)
        if not len(images) and self._has_settings_of(components):
            return self
        is_kept = np.isin(self.support.shot_ids, kept_shots)
        support = self.support.take(is_kept)
        updated = deepcopy(with_patches(self.components))
        for component in updated.values():
            component.keep_rows(self.support, is_kept)
        if len(images):
            added, updated = embed_and_update(
                self.scaled, images, shot_ids, self.views, updated, n_seen, support
            )
            support = support.extend(added)
        return self.fit(self.encoder, self.scale, support, components | updated, self.views)

    def _rebuild_components(self, settings: DetectorSettings) -> dict[str, ScoreComponent]:
        """Return unfitted components; ValueError if the settings ask for others than in fit."""
        components = build_components(settings, self.encoder)
        if set(components) != set(self.components):
            raise ValueError(
                f"local={settings.local!r}, negatives={settings.negatives!r} and "
                f"prompts={settings.prompts!r} ask for the components {', '.join(components)}. "
                f"The detector was fitted with {', '.join(self.components)}. Call fit."
            )
        return components

    def _has_settings_of(self, components: dict[str, Any]) -> bool:
        """Return whether a fit of unfitted components on the same support would change nothing."""
        if "prompts" in components:
            return False
        new, fitted = components["image"], cast(Any, self.components["image"])
        return is_same_value(new.densities, fitted.densities)

    @classmethod
    def fit(
        cls,
        encoder: Encoder,
        scale: float,
        support: Support,
        components: dict[str, ScoreComponent],
        views: Views,
    ) -> "BackboneScore":
        """Fit components on a support. Patches must have been added to those that need them."""
        fitted = {name: component.fit(support) for name, component in components.items()}
        return cls(encoder, scale, support, fitted, views)


def build_components(settings: DetectorSettings, encoder: Encoder) -> dict[str, ScoreComponent]:
    """Return the unfitted components that the settings ask for, by name."""
    components = {name: cls.build(settings, encoder) for name, cls in COMPONENTS.items()}
    return {name: component for name, component in components.items() if component is not None}


def with_patches(components: dict[str, Any]) -> dict[str, PatchComponent]:
    """Return the components that are fitted on patch embeddings."""
    return {name: component for name, component in components.items() if component.needs_patches}


def count_views(n_views: int | str, encoder: Encoder, n_shots: int) -> Views:
    """Return the number of embedded views per shot, and whether mirror images are embedded.

    For ``"auto"``, densities are fitted on views of images only if there are few shots or the user
    defines the views. Mirror images of photographs are plausible. Views are sharper or softer than
    photographs, cropped or padded at the border, and cost accuracy.
    """
    mirror = encoder.mirrors_are_normal
    if n_views != "auto":
        return {"n_views": int(n_views), "n_probes": 0, "mirror": mirror and int(n_views) > 0}
    has_custom_views = callable(encoder.augmentation) or set(encoder.augmentation or ()) - {"flip"}
    fits_on_views = (
        encoder.network.defaults.fits_densities_on_views or n_shots < MIN_CALIBRATION_SHOTS
    )
    counts = (N_VIEWS, 0) if fits_on_views or has_custom_views else (0, N_PROBES)
    return {"n_views": counts[0], "n_probes": counts[1], "mirror": mirror}


def embed_and_update(
    encoder: Encoder,
    images: Any,
    shot_ids: np.ndarray,
    views: Views,
    components: dict[str, PatchComponent],
    first: int = 0,
    earlier: Support | None = None,
) -> tuple[Support, dict[str, PatchComponent]]:
    """Embed shots, their mirror images and views; add their patches to components.

    Returns the support without patches, and the components. A search stores both on disk.
    ``first`` is the number of earlier images, and ``earlier`` has the rows of those that were
    kept. The first ``MAX_CHANGED_SHOTS`` images are also embedded with harmless changes.
    """
    n_changed = MAX_CHANGED_SHOTS if earlier is None else earlier.n_unchanged
    support = encoder.embed_shots(
        images,
        **views,
        with_patches=bool(components),
        ids=shot_ids,
        first=first,
        n_changed=n_changed,
    )
    for component in components.values():
        component.add_patches(support, earlier)
    return support.without_patches(), components
