"""Plot the loss during fine-tuning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .._detector import COFTDetector
from .._embedder import COFTEmbedder
from ._canvas import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, import_pyplot, open_canvas
from ._images import split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

PANEL_TITLES = {  # of the terms in history_
    "contrastive": "contrastive",
    "positive": "positive pairs",
    "negative": "negative pairs",
    "loss": "loss",
}
LINE_STYLES = {  # of successive backbones
    "color": [BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY],
    "marker": ["o", "s", "^", "D", "v", "P"],
    "linestyle": ["-", "--", "-.", ":", "-", "--"],
}


@dataclass(kw_only=True, eq=False, repr=False)
class TrainingDisplay:
    """Terms of the loss per iteration: a panel for each term, a line for each backbone.

    Terms that were turned off are left out. Create it with :meth:`from_estimator` or with
    ``TrainingDisplay(histories=...).plot()``. All parameters are stored as attributes.

    Parameters
    ----------
    histories : list of dict of str to ndarray of shape (n_iterations,)
        ``history_`` of each backbone.
    labels : list of str, default=None
        Name of each backbone in the legend. If None, there is no legend.
    name : str, default=None
        Title of the figure.

    Attributes
    ----------
    axes_ : ndarray of Axes, of shape (n_terms,)
        The axes of each term.
    figure_ : Figure or SubFigure
        The figure that contains the axes.
    lines_ : ndarray of Line2D, of shape (n_terms, n_backbones)
        The lines of each term.

    See Also
    --------
    ScoreDisplay : Scores of whole images.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skcoft import COFTDetector
    >>> from skcoft.plotting import TrainingDisplay
    >>> images = np.random.default_rng(0).random((4, 24, 24))
    >>> detector = COFTDetector("resnet10t", weights=None, image_size=32, max_iter=2,
    ...                         random_state=0).fit(images)
    >>> display = TrainingDisplay.from_estimator(detector)
    >>> plt.show()  # doctest: +SKIP
    """

    histories: Sequence[Mapping[str, np.ndarray]]
    labels: Sequence[str] | None = None
    name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        detector: COFTDetector | COFTEmbedder,
        *,
        name: str | None = None,
        ax: "Axes | None" = None,
        figure: "Figure | SubFigure | None" = None,
    ) -> "TrainingDisplay":
        """Plot the training history of a fitted detector.

        Parameters
        ----------
        detector : COFTDetector or COFTEmbedder
            A fitted detector or embedder, or a pipeline that ends in one.
        name : str, default=None
            Title of the figure.
        ax : Axes, default=None
            See :meth:`plot`.
        figure : Figure or SubFigure, default=None
            See :meth:`plot`.

        Returns
        -------
        TrainingDisplay
            The display with the plot.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the detector is not fitted.
        TypeError
            If ``detector`` is of another type.
        ValueError
            If there is no history because the backbone was not fine-tuned.
        """
        import_pyplot(cls)
        detector, _ = split_pipeline(detector, (COFTDetector, COFTEmbedder))
        history = detector.history_
        histories = history if isinstance(history, list) else [history]
        labels = _network_names(detector) if isinstance(history, list) else None
        return cls(histories=histories, labels=labels, name=name).plot(ax, figure=figure)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        figure: "Figure | SubFigure | None" = None,
    ) -> "TrainingDisplay":
        """Plot the terms of the loss.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to replace by the plot, as returned by
            ``plt.subplots(..., layout="constrained")``. If None, a new figure is created.
        figure : Figure or SubFigure, default=None
            The figure to draw in. Pass either ``ax`` or ``figure``.

        Returns
        -------
        TrainingDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no history, or ``labels`` do not match ``histories``.
        """
        terms = self._terms()
        labels: Sequence[str | None] = self.labels or [None] * len(self.histories)
        if len(labels) != len(self.histories):
            raise ValueError(
                f"labels must be a list of {len(self.histories)} strings, one for each backbone; "
                f"got {self.labels!r}."
            )
        size = 2.5 * len(terms) + (1.5 if self.labels else 0), 2.7
        self.figure_ = open_canvas(type(self), size, ax, figure)
        self.axes_ = self.figure_.subplots(1, len(terms), squeeze=False)[0]
        self.lines_ = np.empty((len(terms), len(labels)), dtype=object)
        for panel, lines, term in zip(self.axes_, self.lines_, terms, strict=True):
            panel.set_prop_cycle(**LINE_STYLES)
            for i, (history, label) in enumerate(zip(self.histories, labels, strict=True)):
                values = history.get(term, ())  # none if this backbone was not fine-tuned
                iterations = np.arange(1, len(values) + 1)
                (lines[i],) = panel.plot(iterations, values, markersize=4, label=label)
            panel.set_title(PANEL_TITLES[term], fontsize="medium")
            panel.set_xlabel("iteration")
            panel.xaxis.get_major_locator().set_params(integer=True)
        if self.labels:
            outside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0}
            self.axes_[-1].legend(fontsize="small", **outside)
        if self.name is not None:
            self.figure_.suptitle(self.name)
        return self

    def _terms(self) -> list[str]:
        """Return the terms that were not turned off."""
        if not any(len(history.get("loss", ())) for history in self.histories):
            raise ValueError(
                "There is no training history, because the backbone was not fine-tuned (tuned_ is "
                "False). Fit with max_iter > 0 and, if the automatic learning rate is 0, with a "
                "number as learning_rate."
            )
        return [
            term for term in PANEL_TITLES if any(np.any(h.get(term, 0)) for h in self.histories)
        ]


def _network_names(detector: COFTDetector | COFTEmbedder) -> list[str]:
    """Return a name for each network: that of its backbone or modality, or both.

    With a list of backbones and several modalities, the name holds both. Equal names are numbered.
    """
    several = isinstance(detector.backbone, (list, tuple))
    backbones = detector.backbone if several else [detector.backbone]
    names = [name if isinstance(name, str) else type(name).__name__ for name in backbones]
    embedder = detector.embedder_ if isinstance(detector, COFTDetector) else detector
    encoders = embedder.encoders_
    if encoders[0].modality is not None:
        modalities = [str(encoder.modality) for encoder in encoders]
        names = names * (len(modalities) // len(names))
        pairs = zip(modalities, names, strict=True)
        names = [f"{modality}, {name}" for modality, name in pairs] if several else modalities
    if len(set(names)) == len(names):
        return names
    return [f"{name} ({i})" for i, name in enumerate(names, 1)]
