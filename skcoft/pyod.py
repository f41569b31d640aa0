"""The detector with PyOD's conventions: labels 0 and 1, and higher scores for anomalies."""

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from ._detector import COFTDetector
from ._input.types import ImagesLike
from ._utils.estimator_state import current_state, with_version
from ._utils.params import check_nested_names

try:
    from pyod.models.base import BaseDetector
except ImportError as error:
    raise ImportError("skcoft.pyod needs PyOD. Run pip install 'skcoft[pyod]'.") from error

__all__ = ["PyODDetector"]


class AnomalyScores(np.ndarray):
    """Scores that PyOD's methods pass on in place of X, so that X is read and scored once."""


class PyODDetector(BaseDetector):
    """A :class:`skcoft.COFTDetector` with the interface of a PyOD detector.

    Higher scores are more anomalous, and labels are 1 for anomalous and 0 for normal samples.
    ``threshold_``, ``predict_proba`` and ``predict_confidence`` are those of PyOD. X is images or
    tabular data, as accepted by the detector. PyOD itself passes tabular data from one detector to
    another.

    Parameters
    ----------
    detector : COFTDetector or None, default=None
        The detector to fit; it is cloned. None means ``COFTDetector()``. The detector's own
        threshold is not used.
    contamination : float in (0, 0.5], default=0.1
        Share of the training samples that score above ``threshold_``, or any other value that
        PyOD accepts for it. As with every PyOD detector, the default makes one of 8 shots an
        outlier.

    Attributes
    ----------
    detector_ : COFTDetector
        The fitted detector, which also computes anomaly maps.
    decision_scores_ : ndarray of shape (n_samples,)
        Anomaly scores of the training samples, in the order of X. Each is computed by densities
        that were fitted without the sample and its duplicates. ``decision_function`` returns the
        same scores for these samples.
    threshold_ : float
        Higher scores are labelled 1.
    labels_ : ndarray of shape (n_samples,)
        Labels of the shots: 0 for normal, 1 for anomalous.

    See Also
    --------
    skcoft.COFTDetector : Accepts PyOD detectors as ``density``.

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

    def __init__(self, detector: COFTDetector | None = None, contamination: float = 0.1) -> None:
        super().__init__(contamination=contamination)
        self.detector = detector

    def set_params(self, **params: Any) -> "PyODDetector":
        """Set parameters of this detector, or of the wrapped one as ``detector__max_iter``.

        Parameters
        ----------
        **params : dict
            Parameters by name.

        Returns
        -------
        PyODDetector
            The detector.

        Raises
        ------
        ValueError
            If a name is unknown, or if ``detector`` is None and a parameter of it is set.
        """
        check_nested_names(self, params)
        nested = {name: value for name, value in params.items() if "__" in name}
        # first the others, because PyOD would pass nested parameters to the earlier detector
        super().set_params(**{k: v for k, v in params.items() if k not in nested})
        return super().set_params(**nested)

    def fit(self, X: ImagesLike, y: None = None) -> "PyODDetector":
        """Fit the detector on normal images.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Training images, or rows of features.
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
        self.decision_scores_ = -self.detector_.held_out_scores_
        self._process_decision_scores()
        return self

    def decision_function(self, X: ImagesLike) -> np.ndarray:
        """Return the anomaly score of each sample.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Samples to score, in the same format as in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            The detector's ``score_samples`` times -1; higher means more anomalous.

        Raises
        ------
        ValueError
            If X is invalid or has another format than in ``fit``.
        """
        check_is_fitted(self, "detector_")
        if isinstance(X, AnomalyScores):
            return np.asarray(X)
        return -self.detector_.score_samples(X)

    def _score_once(self, X: ImagesLike) -> AnomalyScores:
        """Return the scores of X as what PyOD's methods take for X."""
        return self.decision_function(X).view(AnomalyScores)

    def predict(
        self, X: ImagesLike, return_confidence: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Label each sample as normal or anomalous.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Samples to predict, in the same format as in ``fit``. They are read once.
        return_confidence : bool, default=False
            Whether to return the result of ``predict_confidence`` as well.

        Returns
        -------
        ndarray of shape (n_samples,)
            0 for normal and 1 for anomalous or unreadable samples. With ``return_confidence``, a
            tuple of these and of the confidence.

        Raises
        ------
        ValueError
            If X is invalid or has another format than in ``fit``.
        """
        scores = self._score_once(X)
        labels = super().predict(scores)
        labels = np.where(np.isnan(np.asarray(scores)), 1, labels)
        return (labels, self.predict_confidence(scores)) if return_confidence else labels

    def predict_confidence(self, X: ImagesLike) -> np.ndarray:
        """Return how likely the same label is if the training images were drawn again.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Samples to predict, in the same format as in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            Confidence from 0 to 1, as PyOD defines it; NaN for unreadable samples.

        Raises
        ------
        ValueError
            If X is invalid or has another format than in ``fit``.
        """
        scores = self._score_once(X)
        confidence = super().predict_confidence(scores)
        return np.where(np.isnan(np.asarray(scores)), np.nan, confidence)

    def predict_with_rejection(self, X: ImagesLike, *args: Any, **kwargs: Any) -> Any:
        """Label each sample as normal, anomalous or too uncertain to label.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Samples to predict, in the same format as in ``fit``. They are read once.
        *args : tuple
            Further arguments of PyOD's method.
        **kwargs : dict
            Further arguments of PyOD's method.

        Returns
        -------
        ndarray of shape (n_samples,)
            0 for normal and 1 for anomalous samples, -2 for rejected ones. With ``return_stats``,
            a tuple of these and of PyOD's expectations.

        Raises
        ------
        ValueError
            If X is invalid or has another format than in ``fit``.
        """
        return super().predict_with_rejection(self._score_once(X), *args, **kwargs)

    def predict_proba(
        self, X: ImagesLike, method: str = "linear", return_confidence: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Return the probabilities that each sample is normal and anomalous, as PyOD defines them.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Samples to predict, in the same format as in ``fit``.
        method : {"linear", "unify"}, default="linear"
            How scores are scaled: with the extremes of ``decision_scores_``, or with the error
            function of their distance from the mean.
        return_confidence : bool, default=False
            Whether to return the result of ``predict_confidence`` as well.

        Returns
        -------
        ndarray of shape (n_samples, 2)
            Probabilities. With ``return_confidence``, a tuple of these and of the confidence.

        Raises
        ------
        ValueError
            If X is invalid or has another format than in ``fit``, or the method is unknown.
        """
        return super().predict_proba(self._score_once(X), method, return_confidence)

    def __getstate__(self) -> dict[str, Any]:
        return with_version(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(current_state(type(self), state))
