"""Plot scores, the threshold and p-values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_array
from sklearn.utils.validation import check_consistent_length

from .._detector import COFTDetector
from .._evidence.threshold import conformal_pvalues
from .._input.labels import check_labels
from .._input.types import ImagesLike
from .._utils.params import any_of, check_argument, number, one_of
from ._canvas import BLACK, BLUE, GRAY, VERMILLION, import_pyplot
from ._images import split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

GOLDEN_RATIO = (np.sqrt(5) - 1) / 2
POINT_STYLES: dict[str, dict[str, Any]] = {
    "calibration": {"marker": "D", "color": GRAY},
    "images": {"marker": "o", "color": BLUE},
    "normal": {"marker": "o", "color": BLUE},
    "anomalous": {"marker": "X", "color": VERMILLION},
}


@dataclass(kw_only=True, eq=False, repr=False)
class ScoreDisplay:
    """Scores as points, with the threshold and the p-value of each score.

    Calibration scores, normal images and anomalies have a row each. Without labels, all images are
    in one row. Create it with :meth:`from_estimator` or :meth:`from_predictions`. All parameters
    are stored as attributes.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        Scores; higher means more normal.
    y : ndarray of shape (n_samples,), default=None
        Labels: +1 for normal, -1 for anomalous. None means that there are no labels.
    calibration_scores : ndarray of shape (n_calibration,), default=None
        Scores of normal images, from which p-values are computed.
    offset : float, default=None
        Threshold. Lower scores are flagged as anomalous.
    name : str, default=None
        Title.

    Attributes
    ----------
    ax_ : Axes
        The axes with the points.
    figure_ : Figure or SubFigure
        The figure that contains the axes.
    points_ : dict of str to Line2D
        The points of ``"calibration"``, ``"normal"``, ``"anomalous"`` or ``"images"``.
    offset_line_ : Line2D or None
        The threshold; None without ``offset``.
    pvalue_ax_ : Axes or None
        The axis of p-values at the right; None without calibration scores.
    pvalue_line_ : Line2D or None
        The p-value of each score; None without calibration scores.

    See Also
    --------
    AnomalyMapDisplay : Images and their anomaly maps.
    sklearn.metrics.RocCurveDisplay : ROC curve, over all thresholds; it needs labels.

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

    scores: npt.ArrayLike
    y: npt.ArrayLike | None = None
    calibration_scores: npt.ArrayLike | None = None
    offset: float | None = None
    name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        detector: COFTDetector,
        X: ImagesLike,
        y: npt.ArrayLike | None = None,
        *,
        name: str | None = None,
        pvalues: bool = True,
        ax: "Axes | None" = None,
    ) -> "ScoreDisplay":
        """Score images with a fitted detector and plot the scores.

        Parameters
        ----------
        detector : COFTDetector
            A fitted detector, or a pipeline that ends in one.
        X : images or rows, see the user guide
            Images or tabular data to score, in the same format as in ``fit``.
        y : array-like of shape (n_samples,), default=None
            Labels: +1 for normal, -1 for anomalous. None means that there are no labels.
        name : str, default=None
            Title.
        pvalues : bool, default=True
            See :meth:`plot`.
        ax : Axes, default=None
            See :meth:`plot`.

        Returns
        -------
        ScoreDisplay
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
            If X or y is invalid or X is in another format than in ``fit``.
        """
        import_pyplot(cls)
        detector, prepare = split_pipeline(detector)
        return cls.from_predictions(
            detector.score_samples(prepare(X)),
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
        scores: npt.ArrayLike,
        y: npt.ArrayLike | None = None,
        *,
        calibration_scores: npt.ArrayLike | None = None,
        offset: float | None = None,
        name: str | None = None,
        pvalues: bool = True,
        ax: "Axes | None" = None,
    ) -> "ScoreDisplay":
        """Plot scores.

        Parameters
        ----------
        scores : array-like of shape (n_samples,)
            Scores; higher means more normal.
        y : array-like of shape (n_samples,), default=None
            Labels: +1 for normal, -1 for anomalous. None means that there are no labels.
        calibration_scores : array-like of shape (n_calibration,), default=None
            Scores of normal images, from which p-values are computed.
        offset : float, default=None
            Threshold. Lower scores are flagged as anomalous.
        name : str, default=None
            Title.
        pvalues : bool, default=True
            See :meth:`plot`.
        ax : Axes, default=None
            See :meth:`plot`.

        Returns
        -------
        ScoreDisplay
            The display with the plot.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If scores or y are invalid or of different lengths.
        """
        import_pyplot(cls)
        display = cls(
            scores=scores, y=y, calibration_scores=calibration_scores, offset=offset, name=name
        )
        return display.plot(ax, pvalues=pvalues)

    def plot(self, ax: "Axes | None" = None, *, pvalues: bool = True) -> "ScoreDisplay":
        """Plot the scores.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw in. If None, a new figure is created.
        pvalues : bool, default=True
            Whether to plot the p-value of each score, with an axis at the right. This needs
            calibration scores.

        Returns
        -------
        ScoreDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If scores or y are invalid or of different lengths.
        """
        plt = import_pyplot(type(self))
        rows = self._rows()
        if ax is None:
            _, ax = plt.subplots(figsize=(7, 1.1 + 0.75 * len(rows)), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        self.points_ = {}
        heights = range(len(rows))[::-1]
        for height, (label, scores) in zip(heights, rows.items(), strict=True):
            self.points_[label] = _draw_points(ax, scores, height, POINT_STYLES[label])
        ax.set_yticks(heights, [self._row_label(*row) for row in rows.items()])
        ax.tick_params(axis="y", length=0)
        ax.set(ylim=(-0.5, len(rows) - 0.5), xlabel="score (log density, higher is more normal)")
        self.offset_line_: Line2D | None = None
        if self.offset is not None:
            self.offset_line_ = ax.axvline(self.offset, color=BLACK, linestyle="--", linewidth=1.2)
            ax.annotate(
                "threshold",
                (self.offset, 1),
                (0, 4),
                xycoords=ax.get_xaxis_transform(),
                textcoords="offset points",
                ha="center",
                fontsize="small",
            )
        self.pvalue_ax_: Axes | None = None
        self.pvalue_line_: Line2D | None = None
        if pvalues and "calibration" in rows:
            self._draw_pvalues(ax, rows["calibration"])
        if self.name is not None:
            ax.set_title(self.name, pad=20 if self.offset is not None else None)
        return self

    def _rows(self) -> dict[str, np.ndarray]:
        """Return the scores of each row, from top to bottom; raise ValueError if invalid."""
        scores = _checked_scores(self.scores, "scores", finite=False)
        check_argument("offset", self.offset, any_of(number(), one_of(None)))
        rows = {}
        if self.calibration_scores is not None:
            rows["calibration"] = _checked_scores(self.calibration_scores, "calibration_scores")
        if self.y is None:
            return rows | {"images": scores}
        check_consistent_length(scores, self.y)
        y = check_labels(scores, self.y)
        for label, mask in (("normal", y == 1), ("anomalous", y == -1)):
            if mask.any():
                rows[label] = scores[mask]
        return rows

    def _row_label(self, label: str, scores: np.ndarray) -> str:
        """Return the text at the left of a row."""
        n_not_finite = np.count_nonzero(~np.isfinite(scores))
        note = f"\n{n_not_finite} not finite" if n_not_finite else ""
        if label == "calibration" or self.offset is None:
            return f"{label}\n{len(scores)} in total{note}"
        n_flagged = np.count_nonzero(~(scores >= self.offset))
        return f"{label}\n{n_flagged} of {len(scores)} flagged{note}"

    def _draw_pvalues(self, ax: "Axes", calibration: np.ndarray) -> None:
        """Draw the p-value as a step function behind the points."""
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


def _checked_scores(scores: npt.ArrayLike, name: str, finite: bool = True) -> np.ndarray:
    if np.ndim(scores) != 1:
        raise ValueError(f"{name} must have shape (n,); got {np.shape(scores)}.")
    return check_array(
        scores, ensure_2d=False, dtype=np.float64, ensure_all_finite=finite, input_name=name
    )


def _draw_points(
    ax: "Axes", scores: np.ndarray, height: float, style: Mapping[str, Any]
) -> "Line2D":
    """Draw scores around a height.

    Successive points are shifted by the golden ratio of the row, so that they rarely overlap.
    """
    scores = np.sort(scores)
    spread = (np.arange(len(scores)) * GOLDEN_RATIO + 0.5) % 1 - 0.5
    few = len(scores) <= 200
    (points,) = ax.plot(
        scores,
        height + 0.6 * spread,
        linestyle="",
        markersize=6.5 if few else 4,
        markeredgecolor="white",
        markeredgewidth=0.5 if few else 0,
        alpha=0.85 if few else 0.6,
        **style,
    )
    return points
