"""How fine-tuning went, in a picture."""

import numpy as np

from .._detector import COFTDetector
from .._embedder import COFTEmbedder
from ._canvas import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, import_pyplot, open_canvas
from ._pictures import split_pipeline

TERMS = {  # of history_, and what each panel is called
    "contrastive": "contrastive",
    "positive": "positive pairs",
    "negative": "negative pairs",
    "loss": "loss",
}
LOOKS = [
    {"color": color, "marker": marker, "linestyle": style}
    for color, marker, style in (
        (BLUE, "o", "-"),
        (VERMILLION, "s", "--"),
        (GREEN, "^", "-."),
        (ORANGE, "D", ":"),
        (PURPLE, "v", "-"),
        (SKY, "P", "--"),
    )
]


class TrainingDisplay:
    """Terms of the loss per iteration, a panel and a scale each, a line for each backbone.

    A term that was turned off is left out. Make it by :meth:`from_estimator`, or by
    ``TrainingDisplay(histories=...).plot()``; parameters are stored as attributes.

    Parameters
    ----------
    histories : list of dict of str to ndarray of shape (n_iterations,)
        ``history_`` of each backbone.
    labels : list of str, default=None
        What each backbone is called in the legend; None writes none.
    name : str, default=None
        Title of the whole.

    Attributes
    ----------
    axes_ : ndarray of Axes, of shape (n_terms,)
        The panels.
    figure_ : Figure or SubFigure
        What they are in.
    lines_ : ndarray of Line2D, of shape (n_terms, n_backbones)
        The lines in each.

    See Also
    --------
    ScoreDisplay : What fine-tuning leads to.

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

    def __init__(self, *, histories, labels=None, name=None):
        self.histories = histories
        self.labels = labels
        self.name = name

    @classmethod
    def from_estimator(cls, detector, *, name=None, ax=None, figure=None):
        """Draw the history of a fitted detector.

        Parameters
        ----------
        detector : COFTDetector or COFTEmbedder
            A fitted detector or embedder, or a pipeline that ends in one.
        name : str, default=None
            Title of the whole.
        ax : Axes, default=None
            See :meth:`plot`.
        figure : Figure or SubFigure, default=None
            See :meth:`plot`.

        Returns
        -------
        TrainingDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Without matplotlib.
        NotFittedError
            If the detector is not fitted.
        TypeError
            If it is no such detector.
        ValueError
            If nothing was fine-tuned (``max_iter=0``).
        """
        import_pyplot(cls)
        detector, _ = split_pipeline(detector, (COFTDetector, COFTEmbedder))
        several = isinstance(detector.history_, list)
        histories = detector.history_ if several else [detector.history_]
        labels = _labels(detector) if several else None
        return cls(histories=histories, labels=labels, name=name).plot(ax, figure=figure)

    def plot(self, ax=None, *, figure=None):
        """Draw the terms.

        Parameters
        ----------
        ax : Axes, default=None
            Axes whose place the panels take, of ``plt.subplots(..., layout="constrained")``.
            None means a new figure.
        figure : Figure or SubFigure, default=None
            What to draw in instead.

        Returns
        -------
        TrainingDisplay
            The display.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If nothing was fine-tuned, or ``labels`` do not fit ``histories``.
        """
        terms = self._terms()
        labels = self.labels or [None] * len(self.histories)
        if len(labels) != len(self.histories):
            raise ValueError(
                f"labels must hold one text for each of the {len(self.histories)} backbones; got "
                f"{self.labels!r}."
            )
        size = 2.5 * len(terms) + (1.5 if self.labels else 0), 2.7
        self.figure_ = open_canvas(type(self), size, ax, figure)
        self.axes_ = self.figure_.subplots(1, len(terms), squeeze=False)[0]
        self.lines_ = np.empty((len(terms), len(labels)), dtype=object)
        for panel, lines, term in zip(self.axes_, self.lines_, terms, strict=True):
            for i, (history, label) in enumerate(zip(self.histories, labels, strict=True)):
                iterations = np.arange(1, len(history[term]) + 1)
                look = LOOKS[i % len(LOOKS)]
                (lines[i],) = panel.plot(
                    iterations, history[term], markersize=4, label=label, **look
                )
            panel.set_title(TERMS[term], fontsize="medium")
            panel.set_xlabel("iteration")
            panel.xaxis.get_major_locator().set_params(integer=True)
        if self.labels:
            beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0}
            self.axes_[-1].legend(fontsize="small", **beside)
        if self.name is not None:
            self.figure_.suptitle(self.name)
        return self

    def _terms(self):
        """Return the terms that were not turned off."""
        if not all(len(history.get("loss", ())) for history in self.histories):
            raise ValueError("There is no history to draw: nothing was fine-tuned (max_iter=0).")
        return [term for term in TERMS if any(np.any(h.get(term, 0)) for h in self.histories)]


def _labels(detector):
    """Return what each network is called: its backbone, or the modality that it looks at.

    Of several backbones for each modality both; of several alike, with their number.
    """
    several = isinstance(detector.backbone, (list, tuple))
    backbones = detector.backbone if several else [detector.backbone]
    names = [name if isinstance(name, str) else type(name).__name__ for name in backbones]
    encoders = getattr(detector, "embedder_", detector).encoders_
    if encoders[0].modality is not None:
        seen = [str(encoder.modality) for encoder in encoders]
        names = names * (len(seen) // len(names))
        pairs = zip(seen, names, strict=True)
        names = [f"{modality}, {name}" for modality, name in pairs] if several else seen
    if len(set(names)) == len(names):
        return names
    return [f"{name} ({number})" for number, name in enumerate(names, 1)]
