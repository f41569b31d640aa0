"""Scores, the threshold between them and how rare they are, in a picture."""

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import check_consistent_length

from .._evidence.threshold import conformal_pvalues
from .._input.labels import check_labels
from .._utils.params import number
from ._canvas import BLACK, BLUE, GRAY, VERMILLION, import_pyplot
from ._pictures import split_pipeline

GOLDEN = (np.sqrt(5) - 1) / 2
LOOKS = {
    "calibration": {"marker": "D", "color": GRAY},
    "images": {"marker": "o", "color": BLUE},
    "normal": {"marker": "o", "color": BLUE},
    "anomalous": {"marker": "X", "color": VERMILLION},
}


class ScoreDisplay:
    """Scores of images, a point each, with the threshold and the p-value of every score.

    A row each for the calibration scores, normal images and anomalies; without labels, one for all
    images. Make it by :meth:`from_estimator` or :meth:`from_predictions`; parameters are stored
    as attributes.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        Scores of images, higher means more normal.
    y : ndarray of shape (n_samples,), default=None
        +1 for normal, -1 for anomalous; None means that nobody knows.
    calibration_scores : ndarray of shape (n_calibration,), default=None
        Scores that p-values are taken from.
    offset : float, default=None
        Threshold; what scores lower is flagged.
    name : str, default=None
        Title.

    Attributes
    ----------
    ax_ : Axes
        With the points.
    figure_ : Figure or SubFigure
        What they are in.
    points_ : dict of str to Line2D
        The points of ``"calibration"``, ``"normal"``, ``"anomalous"`` or ``"images"``.
    offset_line_ : Line2D or None
        The threshold, where there is one.
    pvalue_ax_ : Axes or None
        The axis of p-values at the right, where there are calibration scores.
    pvalue_line_ : Line2D or None
        The p-value of every score, likewise.

    See Also
    --------
    AnomalyMapDisplay : Where images depart from the shots.
    sklearn.metrics.RocCurveDisplay : Every threshold at once, where there are labels.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skcoft import COFTDetector
    >>> from skcoft.plotting import ScoreDisplay
    >>> X = np.random.default_rng(0).normal(size=(40, 5))
    >>> X[28:] += 4
    >>> detector = COFTDetector(max_iter=0, random_state=0).fit(X[:8])
    >>> display = ScoreDisplay.from_estimator(detector, X[8:], [1] * 20 + [-1] * 12)
    >>> plt.show()  # doctest: +SKIP
    """

    def __init__(self, *, scores, y=None, calibration_scores=None, offset=None, name=None):
        self.scores = scores
        self.y = y
        self.calibration_scores = calibration_scores
        self.offset = offset
        self.name = name

    @classmethod
    def from_estimator(cls, detector, X, y=None, *, name=None, pvalues=True, ax=None):
        """Score images by a fitted detector and draw the scores.

        Parameters
        ----------
        detector : COFTDetector
            A fitted detector, or a pipeline that ends in one.
        X : images or rows, see the user guide
            What to score; of the kind seen in fit.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 for anomalous. None means that nobody knows.
        name : str, default=None
            Title.
        pvalues : bool, default=True
            See :meth:`plot`.
        ax : Axes, default=None
            See :meth:`plot`.

        Returns
        -------
        ScoreDisplay
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
            If X or y is invalid or X is of another kind than in fit.
        """
        import_pyplot(cls)
        detector, before = split_pipeline(detector)
        return cls.from_predictions(
            detector.score_samples(before(X)),
            y,
            calibration_scores=detector.calibration_scores_,
            offset=detector.offset_,
            name=name,
            pvalues=pvalues,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        scores,
        y=None,
        *,
        calibration_scores=None,
        offset=None,
        name=None,
        pvalues=True,
        ax=None,
    ):
        """Draw scores that exist.

        Parameters
        ----------
        scores : array-like of shape (n_samples,)
            Scores of images, higher means more normal.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 for anomalous. None means that nobody knows.
        calibration_scores : array-like of shape (n_calibration,), default=None
            Scores that p-values are taken from.
        offset : float, default=None
            Threshold; what scores lower is flagged.
        name : str, default=None
            Title.
        pvalues : bool, default=True
            See :meth:`plot`.
        ax : Axes, default=None
            See :meth:`plot`.

        Returns
        -------
        ScoreDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If scores or y are invalid or of different lengths.
        """
        import_pyplot(cls)
        display = cls(
            scores=scores, y=y, calibration_scores=calibration_scores, offset=offset, name=name
        )
        return display.plot(ax, pvalues=pvalues)

    def plot(self, ax=None, *, pvalues=True):
        """Draw the scores.

        Parameters
        ----------
        ax : Axes, default=None
            What to draw in. None means a new figure.
        pvalues : bool, default=True
            Whether to draw the p-value of every score, with an axis at the right, where there are
            calibration scores.

        Returns
        -------
        ScoreDisplay
            The display.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If scores or y are invalid or of different lengths.
        """
        plt = import_pyplot(type(self))
        rows = self._rows()
        if ax is None:
            height = 1.1 + 0.75 * len(rows)
            _, ax = plt.subplots(figsize=(7, height), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        self.points_ = {}
        for place, (kind, scores) in zip(range(len(rows))[::-1], rows.items(), strict=True):
            self.points_[kind] = _draw_points(ax, scores, place, LOOKS[kind])
        labels = [self._label(*row) for row in rows.items()]
        ax.set_yticks(range(len(rows))[::-1], labels)
        ax.tick_params(axis="y", length=0)
        ax.set(ylim=(-0.5, len(rows) - 0.5), xlabel="score (log density, higher is more normal)")
        self.offset_line_ = self._draw_offset(ax)
        self.pvalue_ax_ = self.pvalue_line_ = None
        if pvalues and "calibration" in rows:
            self._draw_pvalues(ax, rows["calibration"])
        if self.name is not None:
            ax.set_title(self.name, pad=20 if self.offset is not None else None)
        return self

    def _rows(self):
        """Return the scores by kind, from top to bottom; raise where they are invalid."""
        scores = _checked_scores(self.scores, "scores", finite=False)
        if self.offset is not None and not number()[0](self.offset):
            raise ValueError(f"offset must be a finite number or None; got {self.offset!r}.")
        rows = {}
        if self.calibration_scores is not None:
            rows["calibration"] = _checked_scores(self.calibration_scores, "calibration_scores")
        if self.y is None:
            return rows | {"images": scores}
        check_consistent_length(scores, self.y)
        y = check_labels(scores, self.y)
        found = {"normal": scores[y == 1], "anomalous": scores[y == -1]}
        return rows | {kind: scores for kind, scores in found.items() if len(scores)}

    def _label(self, kind, scores):
        """Return what stands at the left of a row."""
        lost = np.count_nonzero(~np.isfinite(scores))
        lost = f"\n{lost} not finite" if lost else ""
        if kind == "calibration" or self.offset is None:
            return f"{kind}\n{len(scores)} in all{lost}"
        flagged = np.count_nonzero(~(scores >= self.offset))
        return f"{kind}\n{flagged} of {len(scores)} flagged{lost}"

    def _draw_offset(self, ax):
        if self.offset is None:
            return None
        ax.annotate(
            "threshold",
            (self.offset, 1),
            (0, 4),
            xycoords=ax.get_xaxis_transform(),
            textcoords="offset points",
            ha="center",
            fontsize="small",
        )
        return ax.axvline(self.offset, color=BLACK, linestyle="--", linewidth=1.2)

    def _draw_pvalues(self, ax, calibration):
        """Draw the steps of the p-value behind the points."""
        low, high = ax.get_xlim()
        steps = np.concatenate([[2 * low - high], np.sort(calibration), [2 * high - low]])
        self.pvalue_ax_ = behind = ax.twinx()
        (self.pvalue_line_,) = behind.plot(
            steps,
            conformal_pvalues(calibration, steps),
            drawstyle="steps-post",
            color=GRAY,
            linewidth=1,
            scalex=False,
        )
        behind.set(ylim=(0, 1.03), yticks=np.linspace(0, 1, 5))
        behind.set_ylabel("p-value of a score (line)", color=GRAY)
        behind.tick_params(axis="y", colors=GRAY)
        ax.set_xlim(low, high)
        ax.set_zorder(behind.get_zorder() + 1)
        ax.patch.set_visible(False)


def _checked_scores(scores, name, finite=True):
    if np.ndim(scores) != 1:
        raise ValueError(f"{name} must have shape (n,); got {np.shape(scores)}.")
    return check_array(
        scores, ensure_2d=False, dtype=np.float64, ensure_all_finite=finite, input_name=name
    )


def _draw_points(ax, scores, place, look):
    """Draw scores about a height, each a golden section of the row from the one before."""
    scores = np.sort(scores)
    spread = (np.arange(len(scores)) * GOLDEN + 0.5) % 1 - 0.5
    few = len(scores) <= 200
    (points,) = ax.plot(
        scores,
        place + 0.6 * spread,
        linestyle="",
        markersize=6.5 if few else 4,
        markeredgecolor="white",
        markeredgewidth=0.5 if few else 0,
        alpha=0.85 if few else 0.6,
        **look,
    )
    return points
