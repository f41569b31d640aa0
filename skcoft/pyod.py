"""The detector behind PyOD's contract: labels 0 and 1, scores that are higher where anomalous."""

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from ._detector import COFTDetector
from ._input.recognize import as_items

try:
    from pyod.models.base import BaseDetector
except ImportError as error:
    raise ImportError("skcoft.pyod needs PyOD: pip install 'skcoft[pyod]'.") from error

__all__ = ["PyODDetector"]


class PyODDetector(BaseDetector):
    """A :class:`skcoft.COFTDetector` where a detector of PyOD's is expected.

    Scores are higher where something is anomalous, labels are 1 for anomalous and 0 for normal,
    and ``threshold_``, ``predict_proba`` and ``predict_confidence`` are PyOD's own. X is images or
    rows, as of the detector; what PyOD itself hands from one detector to another is rows.

    Parameters
    ----------
    detector : COFTDetector or None, default=None
        The detector, which is cloned; None means ``COFTDetector()``. Its own threshold does not
        count here.
    contamination : float in (0, 0.5], default=0.1
        The share of X that lies above ``threshold_``, or what else PyOD takes for it. As of any
        detector of PyOD's: of 8 shots, one is an outlier by default.

    Attributes
    ----------
    detector_ : COFTDetector
        The fitted detector, which also draws maps.
    decision_scores_ : ndarray of shape (n_samples,)
        Anomaly scores of the shots, each by a density that has not seen it. Copies share one.
    threshold_ : float
        Scores above it are labelled 1.
    labels_ : ndarray of shape (n_samples,)
        Labels of the shots: 0 for normal, 1 for anomalous.

    See Also
    --------
    skcoft.COFTDetector : Takes detectors of PyOD's as ``density``.

    Examples
    --------
    >>> import numpy as np
    >>> from skcoft import COFTDetector
    >>> from skcoft.pyod import PyODDetector
    >>> X = np.random.default_rng(0).normal(size=(20, 5))
    >>> detector = PyODDetector(COFTDetector(max_iter=0, random_state=0)).fit(X)
    >>> int(detector.labels_.sum()), detector.predict(X[:2] + 9).tolist()
    (2, [1, 1])
    """

    def __init__(self, detector=None, contamination=0.1):
        super().__init__(contamination=contamination)
        self.detector = detector

    def fit(self, X, y=None):
        """Fit the detector on normal images.

        Parameters
        ----------
        X : images or rows, see the user guide
            The shots.
        y : None
            Ignored, as in PyOD.

        Returns
        -------
        PyODDetector
            The fitted detector.

        Raises
        ------
        TypeError
            If ``detector`` is not a COFTDetector.
        ValueError
            If X or a parameter of the detector is invalid.
        """
        detector = COFTDetector() if self.detector is None else self.detector
        if not isinstance(detector, COFTDetector):
            raise TypeError(f"detector must be a COFTDetector or None; got {detector!r}.")
        self.detector_ = clone(detector).fit(X)
        self._set_n_classes(None)
        _, shots = np.unique(self.detector_.shot_ids_, return_inverse=True)
        self.decision_scores_ = -self.detector_.calibration_scores_[shots]
        self._process_decision_scores()
        return self

    def decision_function(self, X):
        """Anomaly score of each image.

        Parameters
        ----------
        X : images or rows, see the user guide
            What to score; of the kind seen in fit.

        Returns
        -------
        ndarray of shape (n_samples,)
            The detector's ``score_samples`` times -1: higher means more anomalous.

        Raises
        ------
        ValueError
            If X is invalid or of another kind than in fit.
        """
        check_is_fitted(self, "detector_")
        return -self.detector_.score_samples(X)

    def predict_proba(self, X, method="linear", return_confidence=False):
        """Probability that each image is normal, and that it is anomalous, as PyOD has it.

        Parameters
        ----------
        X : images or rows, see the user guide
            What to decide on; of the kind seen in fit.
        method : {"linear", "unify"}, default="linear"
            Whether scores are scaled by the extremes of ``decision_scores_``, or by the error
            function of their distance from the mean.
        return_confidence : bool, default=False
            Whether ``predict_confidence`` is returned as well.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Probabilities; with ``return_confidence`` a tuple of these and of the confidence.

        Raises
        ------
        ValueError
            If X is invalid or of another kind than in fit, or the method is unknown.
        """
        return super().predict_proba(_as_array(X), method, return_confidence)


def _as_array(X):
    """Return X as what has a shape, which PyOD asks for: of a collection, an array of items."""
    items = as_items(X)
    if items is None:
        return X if hasattr(X, "shape") else np.asarray(X)
    return np.fromiter(items, dtype=object, count=len(items))
