"""From scores to decisions: the threshold, p-values and the ROC of a fitted detector."""

import warnings
from numbers import Real

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ._evidence.threshold import (
    best_offset,
    check_finite_scores,
    conformal_offset,
    conformal_pvalues,
    labels_from_decision,
)
from ._input.labels import are_classes, check_labels
from ._input.recognize import as_rereadable


class DecisionMixin:
    """What follows from ``score_samples``, ``offset_`` and ``calibration_scores_``."""

    def decision_function(self, X):
        """Signed distance of the score from the threshold.

        Parameters
        ----------
        X : images or rows, see the user guide
            What to score; of the kind seen in fit.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``; negative means anomalous.

        Raises
        ------
        ValueError
            If X is invalid or of another kind than in fit.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Decide for each image.

        Parameters
        ----------
        X : images or rows, see the user guide
            What to decide on; of the kind seen in fit.

        Returns
        -------
        ndarray of shape (n_samples,)
            +1 for normal, -1 for anomalous; a score that is not finite is not normal.

        Raises
        ------
        ValueError
            If X is invalid or of another kind than in fit.
        """
        return labels_from_decision(self.decision_function(X))

    def fit_predict(self, X, y=None, groups=None):
        """Fit, then decide for each image of X.

        Parameters
        ----------
        X : images or rows, see the user guide
            The shots, as in fit.
        y : array-like of shape (n_samples,), default=None
            As in fit: what it calls anomalous is left out of the fit, not of the decisions.
        groups : array-like of shape (n_samples,), default=None
            As in fit.

        Returns
        -------
        ndarray of shape (n_samples,)
            +1 for normal, -1 for anomalous.

        Raises
        ------
        ValueError
            As in fit.
        """
        X = as_rereadable(X)
        return self.fit(X, y, groups).predict(X)

    def predict_pvalue(self, X):
        """Conformal p-value of each image: how rare such a score is among normal images.

        Of n calibration scores, those of :meth:`set_threshold`'s images, else the held-out scores
        of the shots, the share that is not above the image's, itself counted in: (1 + #) / (n + 1)
        [1]_. So no p-value is below 1 / (n + 1), 0.11 for 8 shots: calibrate on many images
        where small ones matter. They hold for images exchangeable with those of
        :meth:`set_threshold`; the network has seen the shots, so from these they are rough.

        Parameters
        ----------
        X : images or rows, see the user guide
            What to decide on; of the kind seen in fit.

        Returns
        -------
        ndarray of shape (n_samples,)
            From 1 / (n + 1) to 1; small means anomalous.

        Raises
        ------
        ValueError
            If X is invalid or of another kind than in fit.

        References
        ----------
        .. [1] Bates et al., "Testing for Outliers with Conformal p-values", Annals of Statistics
           2023, arXiv 2104.08279.

        Examples
        --------
        >>> import numpy as np
        >>> from skcoft import COFTDetector
        >>> X = np.random.default_rng(0).normal(size=(107, 5))
        >>> detector = COFTDetector(max_iter=0, random_state=0).fit(X[:8])
        >>> detector.predict_pvalue([[9.0] * 5]).round(2).tolist()  # 1 / (8 + 1)
        [0.11]
        >>> detector.set_threshold(X[8:]).predict_pvalue([[9.0] * 5]).tolist()  # 1 / (99 + 1)
        [0.01]
        """
        check_is_fitted(self, "embedder_")
        return conformal_pvalues(self.calibration_scores_, self.score_samples(X))

    def set_threshold(self, X, *, max_fpr=0.05):
        """Set the threshold by normal images that fit has not seen.

        An unseen normal image is called anomalous with a probability of ``max_fpr`` at most, where
        it is exchangeable with those of X (split conformal prediction). Then ``predict`` is -1
        exactly where ``predict_pvalue`` is at most ``max_fpr``. The same holds of maps: an unseen
        normal image has a region (:meth:`find_regions`) with that probability at most.

        Parameters
        ----------
        X : images or rows, see the user guide
            Normal images; of the kind seen in fit, but none of its shots.
        max_fpr : float, default=0.05
            Greatest false positive rate, in (0, 1). n images allow for 1 / (n + 1) and more.

        Returns
        -------
        self
            The detector with other ``offset_``, ``calibration_scores_`` and, where it draws maps,
            ``map_threshold_``.

        Raises
        ------
        ValueError
            If X is invalid or of another kind than in fit, ``max_fpr`` is not in (0, 1), or X has
            too few images for it.

        Examples
        --------
        >>> import numpy as np
        >>> from skcoft import COFTDetector
        >>> X = np.random.default_rng(0).normal(size=(107, 5))
        >>> detector = COFTDetector(max_iter=0, random_state=0).fit(X[:8])
        >>> detector.set_threshold(X[8:], max_fpr=0.1).predict(X[8:]).tolist().count(-1)
        9
        """
        if not isinstance(max_fpr, Real) or not 0 < max_fpr < 1:
            raise ValueError(f"max_fpr must be a number between 0 and 1; got {max_fpr!r}.")
        check_is_fitted(self, "embedder_")
        found = [self._calibrating(inputs) for inputs in self._pieces(X)]
        scores, peaks, copies = zip(*found, strict=True)
        scores, peaks, copies = np.concatenate(scores), np.concatenate(peaks), sum(copies)
        if not max_fpr * (len(scores) + 1) >= 1 - 1e-9:
            least = int(np.ceil(1 / max_fpr - 1e-9)) - 1
            raise ValueError(
                f"max_fpr={max_fpr} needs at least {least} normal images; X has {len(scores)}."
            )
        check_finite_scores(scores, "X")
        self._warn_of_known(scores, copies)
        self.calibration_scores_ = scores
        if len(peaks):
            self.map_threshold_ = -conformal_offset(-peaks, max_fpr)
        self._move_threshold(
            conformal_offset(scores, max_fpr), f"set_threshold(max_fpr={max_fpr})"
        )
        return self

    def _warn_of_known(self, scores, copies):
        """Warn where images that are to set a threshold are shots, or copies of each other."""
        if copies:
            warnings.warn(
                f"{copies} of the {len(scores)} images of X are among the shots. They look more "
                "normal than unseen images do, of which more will be flagged than max_fpr says.",
                stacklevel=3,
            )
        alike = len(scores) - len(np.unique(scores))
        if alike and self.embedder_.encoders_[0].network.input_type == "images":
            warnings.warn(
                f"{alike} of the {len(scores)} images of X score exactly as others do, as copies "
                "would. Copies tell no more than one image does: of unseen images more may be "
                "flagged than max_fpr says.",
                stacklevel=3,
            )

    def _move_threshold(self, offset, promise):
        """Set the threshold, and note by what, so that it is not lost without a word."""
        vars(self).update(offset_=offset, _set_offset=offset, _promise=promise)

    def _warn_of_threshold(self, promise):
        """Warn where partial_fit does not keep what has been promised of the threshold."""
        if promise is not None:
            warnings.warn(
                f"partial_fit moved the threshold to contamination={self.contamination!r}: the "
                f"one of {promise} was set for the density of before. Set it again.",
                stacklevel=3,
            )
        if self.contamination != "auto" and self._joint.map_components():
            warnings.warn(
                f"contamination={self.contamination!r} is met in fit alone: local scores of "
                "earlier images stay as they were, so that another share of all images lies below "
                "the threshold. fit, set_threshold and contamination='auto' keep what they say.",
                stacklevel=3,
            )

    def _calibrating(self, inputs):
        """Scores of inputs, peaks of their maps, and how many of them are shots."""
        kept, joint = self._measure(inputs), self._joint
        peaks = joint.map_maxima(kept) if joint.map_components() else []
        return joint.score(kept), peaks, joint.count_shots(kept)

    def tune_threshold(self, X, y, *, scoring="balanced_accuracy"):
        """Set the threshold that does best on labelled images.

        As scikit-learn's ``TunedThresholdClassifierCV`` does for classifiers.

        Parameters
        ----------
        X : images or rows, see the user guide
            Images that fit has not seen; of the kind seen in fit.
        y : array-like of shape (n_samples,)
            +1 for normal, -1 for anomalous.
        scoring : str or callable, default="balanced_accuracy"
            Name of a metric of labels, or a scorer, as elsewhere in scikit-learn, to maximise. A
            scorer is called for every image, a named metric where neighbours in score differ.
            Those of one class (``"f1"``, ``"precision"``, ``"recall"``) count the normal images;
            ``make_scorer(f1_score, pos_label=-1)`` counts the anomalies.

        Returns
        -------
        self
            The detector with another ``offset_``.

        Raises
        ------
        ValueError
            If X or y is invalid, y has other labels or only one, or ``scoring`` is unknown.

        Examples
        --------
        >>> import numpy as np
        >>> from skcoft import COFTDetector
        >>> X = np.random.default_rng(0).normal(size=(60, 5))
        >>> X[40:] += 4
        >>> detector = COFTDetector(max_iter=0, random_state=0).fit(X[:8])
        >>> detector.tune_threshold(X[8:], [1] * 32 + [-1] * 20).predict(X[40:42]).tolist()
        [-1, -1]
        """
        check_is_fitted(self, "embedder_")
        y = check_labels(X, y)
        if len(np.unique(y)) < 2:
            raise ValueError(f"y must hold both +1 and -1; got {y[0]} only.")
        scores = self.score_samples(X)
        check_consistent_length(scores, y)
        check_finite_scores(scores, "X")
        self._move_threshold(best_offset(scores, y, scoring), "tune_threshold")
        return self

    def score(self, X, y=None):
        """Area under the ROC curve of ``score_samples``.

        Parameters
        ----------
        X : images or rows, see the user guide
            What to score; of the kind seen in fit.
        y : array-like of shape (n_samples,)
            +1 for normal, -1 for anomalous.

        Returns
        -------
        float
            1 where every normal image scores above every anomalous one, 0.5 at chance. NaN, with
            a warning, where all labels are the same, as in a training fold, and of rows whose y
            are class labels.

        Raises
        ------
        ValueError
            If X is invalid, or y has other labels.
        """
        check_is_fitted(self, "embedder_")
        if y is None:
            raise ValueError(
                "score needs y, +1 (normal) and -1 (anomalous). A search over normal images alone "
                "takes scoring=skcoft.model_selection.LabelFreeScorer()."
            )
        defaults = self.embedder_.encoders_[0].network.defaults
        if defaults.ignores_class_labels and are_classes(np.asarray(y)):
            warnings.warn("y holds class labels, by which nothing can be scored.", stacklevel=2)
            self._read(X)
            return float("nan")
        y, scores = check_labels(X, y), self.score_samples(X)
        check_consistent_length(scores, y)
        return float(roc_auc_score(y, scores))
