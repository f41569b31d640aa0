"""Components of the anomaly score: what a component offers, and which components there are."""

from typing import Any, ClassVar, Protocol, Self, TypeGuard

import numpy as np
from torch import nn

from .._network.encoder import Encoder, Features
from .._network.support import Support
from .._utils.settings import DetectorSettings
from ..density import DENSITY_STATE_FIELDS
from .image_density import ImageDensity, MeanOfDensities
from .labelled import LabelledHead
from .patch_density import PatchDensity
from .prompts import TextPrompts


class ScoreComponent(Protocol):
    """One source of evidence in the anomaly score, fitted for one backbone at one scale.

    The component ``"image"`` sets the scale of the joint score. The scores of the others are
    standardised by their held-out scores and added.

    Attributes
    ----------
    needs_patches : bool
        Whether the component is fitted on patch embeddings, see :class:`PatchComponent`, and its
        graph takes these instead of embeddings.
    state_fields : dict of str to field type
        Attributes of a fitted component, for model files, in the language of
        ``_persistence/fields.py``. Classes in it that are not of this package have
        ``state_fields`` as well.
    weight : float
        Weight in the joint score, relative to the component ``"image"``.
    held_out_scores : ndarray
        Scores of the rows ``support.is_calibration``, each computed without its shot.
    """

    needs_patches: ClassVar[bool]
    state_fields: ClassVar[dict[str, Any]]
    weight: float
    held_out_scores: np.ndarray

    @classmethod
    def build(cls, settings: DetectorSettings, encoder: Encoder) -> "ScoreComponent | None":
        """Return an unfitted component; None if the settings do not ask for it."""

    def fit(self, support: Support) -> Self:
        """Fit on the embeddings of all shots. ``partial_fit`` calls it again."""

    def summarize(self, features: Features) -> np.ndarray:
        """Return what is needed later of a batch, with a row per image."""

    def score(self, summary: np.ndarray) -> np.ndarray:
        """Return scores of rows of a summary; higher is more normal."""

    def to_graph(self) -> nn.Module | None:
        """Return the score as a torch module for ONNX files; None if that is not possible.

        It takes embeddings (n, d), float64, and returns scores (n,). A component that needs
        patches takes patch embeddings (n, h, w, e), float32, or with a mask the k patches inside,
        (n, 1, k, e). A component with maps returns scores and log maps of the shape of the
        patches. ValueError names a parameter for which there is no module.
        """


class PatchComponent(ScoreComponent, Protocol):
    """A component that is fitted on patch embeddings."""

    def add_patches(self, support: Support, earlier: Support | None = None) -> None:
        """Use ``support.patches`` of newly embedded shots, which are dropped afterwards.

        This is called before ``fit``, also in ``partial_fit``. Then ``earlier`` has the rows of
        the shots that were added before.
        """

    def keep_rows(self, support: Support, is_kept: np.ndarray) -> None:
        """Forget the rows of a support that are not in the mask, and their shots.

        ``partial_fit`` calls it before :meth:`add_patches`.
        """


class MapComponent(ScoreComponent, Protocol):
    """A component with anomaly maps; it needs patches.

    Attributes
    ----------
    held_out_minima : ndarray
        The lowest value of the log map of each calibration row, computed without its shot.
    """

    held_out_minima: np.ndarray

    def log_maps(self, features: Features) -> np.ndarray:
        """Return maps (n, h, w) of a batch; lower is more anomalous.

        With a mask, ``features.nearest`` (h, w) is the patch to use at every location.
        """

    def minima(self, summary: np.ndarray) -> np.ndarray:
        """Return the lowest value of the map of each image, from a summary."""


COMPONENTS: dict[str, type[ScoreComponent]] = {
    "image": ImageDensity,
    "patch": PatchDensity,
    "labelled": LabelledHead,
    "prompts": TextPrompts,
}


def has_maps(component: ScoreComponent) -> TypeGuard[MapComponent]:
    """Return whether a component has anomaly maps."""
    return hasattr(component, "log_maps")


def component_state_fields() -> dict[type, dict[str, Any]]:
    """Return the state fields of all components, and of the objects in them, by class."""
    classes = {**DENSITY_STATE_FIELDS}
    # ImageDensity.build returns MeanOfDensities for a list of densities
    pending: list[Any] = [*COMPONENTS.values(), MeanOfDensities]
    while pending:
        field = pending.pop()
        if isinstance(field, dict):
            pending += field.values()
        elif isinstance(field, (list, tuple)):
            pending += field
        elif isinstance(field, type) and hasattr(field, "state_fields") and field not in classes:
            classes[field] = field.state_fields
            pending.append(field.state_fields)
    return classes


def is_component(value: object) -> bool:
    """Return whether a value is an object of one of the classes of components."""
    return type(value) in (*COMPONENTS.values(), MeanOfDensities)
