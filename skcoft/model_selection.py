"""Splits and scores of one-class work, for ``cv=`` and ``scoring=`` anywhere in scikit-learn."""

from numbers import Integral

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    BaseCrossValidator,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    ShuffleSplit,
)
from sklearn.utils import check_random_state, indexable

from ._input.labels import check_labels
from ._input.reader import ReadOptions, read_input
from ._input.shots import is_missing_group
from ._network.views import image_synthesizer, make_synthesizer
from ._parameters import EMBEDDER_CONSTRAINTS
from ._utils.params import Constraint, any_of, check_parameters, number, one_of
from .augmentation import SYNTHESIZERS

__all__ = ["LabelFreeScorer", "OneClassKFold", "OneClassShuffleSplit"]

_count = number(Integral, 1)
_share = Constraint(lambda v: isinstance(v, float) and 0 < v <= 1, "a share in (0, 1]")
_part = Constraint(lambda v: isinstance(v, float) and 0 < v < 1, "a share in (0, 1)")
_kind = any_of(one_of(*SYNTHESIZERS), Constraint(callable, "a callable"))
_kinds = Constraint(
    lambda v: isinstance(v, (list, tuple)) and len(v) > 0 and all(_kind.test(kind) for kind in v),
    f"a sequence of {_kind.description}",
)
BATCH = 32  # images that anomalies are made of at once
SCORER_CONSTRAINTS = {
    "kinds": _kinds,
    "n_draws": _count,
    "random_state": number(Integral, 0),
    "image_shape": EMBEDDER_CONSTRAINTS["image_shape"],
    "n_jobs": EMBEDDER_CONSTRAINTS["n_jobs"],
}
CONSTRAINTS = {
    "shots": any_of(_count, one_of(None)),
    "anomaly_size": any_of(_share, _count),
}


class OneClassKFold(BaseCrossValidator):
    """Folds that train on normal images only and test on held-out normals and anomalies.

    The normal images are cut into ``n_splits`` folds. Each split trains on the normals outside of
    one fold (on ``shots`` of them) and tests on the normals in it and on the anomalies, which are
    therefore never trained on.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shots : int or None, default=None
        Normal images to train on in each split. None means all outside of the fold.
    anomaly_size : float or int, default=1.0
        Anomalies to test on in each split, drawn anew: a share of them if float, in (0, 1], their
        number if int. 1.0 means all.
    shuffle : bool, default=False
        Whether to shuffle the normal images, or groups, before they are cut into folds.
    random_state : int, RandomState or None, default=None
        Seed of the shuffling and of the drawing of shots and anomalies.

    See Also
    --------
    OneClassShuffleSplit : Random shots instead of folds.
    sklearn.model_selection.KFold : Folds that train on anomalies as well.

    Examples
    --------
    >>> from skcoft.model_selection import OneClassKFold
    >>> y = [1, 1, 1, 1, -1, -1]
    >>> for train, test in OneClassKFold(2).split(y, y):
    ...     print(train, test)
    [2 3] [0 1 4 5]
    [0 1] [2 3 4 5]
    """

    __metadata_request__split = {"groups": True}

    def __init__(
        self, n_splits=5, *, shots=None, anomaly_size=1.0, shuffle=False, random_state=None
    ):
        self.n_splits = n_splits
        self.shots = shots
        self.anomaly_size = anomaly_size
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of splits.

        Parameters
        ----------
        X, y, groups : object, default=None
            Ignored, for scikit-learn's sake.

        Returns
        -------
        int
            ``n_splits``.
        """
        return self.n_splits

    def split(self, X, y=None, groups=None):
        """Yield indices of training and test images.

        Parameters
        ----------
        X : array-like of length n_samples
            The images; only their number counts.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 for anomalous. None means that all are normal.
        groups : array-like of shape (n_samples,), default=None
            Images of one group (a part, a patient) are never trained and tested on in one split.

        Yields
        ------
        train : ndarray of int
            Normal images.
        test : ndarray of int
            Normal images, then anomalies.

        Raises
        ------
        ValueError
            If a parameter, y or groups is invalid, or there are too few normal images.
        """
        check_parameters(self, {"n_splits": number(Integral, 2), **CONSTRAINTS})
        rng = check_random_state(self.random_state)
        folds = KFold if groups is None else GroupKFold
        shuffle = {"shuffle": True, "random_state": rng} if self.shuffle else {}
        splitter = folds(self.n_splits, **shuffle)
        yield from _split(splitter, self.n_splits, self, X, y, groups, rng)


class OneClassShuffleSplit(BaseCrossValidator):
    """Random shots to train on, held-out normals and anomalies to test on.

    Each split holds out ``test_size`` of the normal images and trains on ``shots`` of the others;
    it tests on the held-out normals and the anomalies, which are never trained on. The shots are
    in random order, so that :func:`sklearn.model_selection.learning_curve`, which trains on the
    first ones, draws few-shot curves.

    Parameters
    ----------
    n_splits : int, default=10
        Number of splits, at least 1.
    shots : int or None, default=8
        Normal images to train on in each split. None means all that are not held out.
    test_size : float or int, default=0.5
        Normal images to hold out: a share of them if float, in (0, 1), their number if int. With
        groups, a share or number of the groups.
    anomaly_size : float or int, default=1.0
        Anomalies to test on in each split, drawn anew: a share of them if float, in (0, 1], their
        number if int. 1.0 means all.
    random_state : int, RandomState or None, default=None
        Seed of all that is drawn.

    See Also
    --------
    OneClassKFold : Every normal image is held out once.
    sklearn.model_selection.ShuffleSplit : Splits that train on anomalies as well.

    Examples
    --------
    >>> from skcoft.model_selection import OneClassShuffleSplit
    >>> y = [1, 1, 1, 1, 1, 1, -1, -1]
    >>> for train, test in OneClassShuffleSplit(2, shots=2, random_state=0).split(y, y):
    ...     print(train, test)
    [4 3] [5 2 1 6 7]
    [4 5] [1 2 3 6 7]
    """

    __metadata_request__split = {"groups": True}

    def __init__(
        self, n_splits=10, *, shots=8, test_size=0.5, anomaly_size=1.0, random_state=None
    ):
        self.n_splits = n_splits
        self.shots = shots
        self.test_size = test_size
        self.anomaly_size = anomaly_size
        self.random_state = random_state

    get_n_splits = OneClassKFold.get_n_splits

    def split(self, X, y=None, groups=None):
        """Yield indices of training and test images.

        Parameters
        ----------
        X : array-like of length n_samples
            The images; only their number counts.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 for anomalous. None means that all are normal.
        groups : array-like of shape (n_samples,), default=None
            Images of one group (a part, a patient) are never trained and tested on in one split.

        Yields
        ------
        train : ndarray of int
            Normal images.
        test : ndarray of int
            Normal images, then anomalies.

        Raises
        ------
        ValueError
            If a parameter, y or groups is invalid, or there are too few normal images.
        """
        check_parameters(
            self,
            {
                "n_splits": _count,
                "test_size": any_of(_part, _count),
                **CONSTRAINTS,
            },
        )
        rng = check_random_state(self.random_state)
        shuffle = ShuffleSplit if groups is None else GroupShuffleSplit
        splitter = shuffle(self.n_splits, test_size=self.test_size, random_state=rng)
        yield from _split(splitter, 2, self, X, y, groups, rng)


def _split(splitter, least, cv, X, y, groups, rng):
    """Split the normals by scikit-learn's ``splitter``, draw shots, add anomalies to the test."""
    X, y, groups = indexable(X, y, groups)
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    y = np.ones(n) if y is None else check_labels(X, y)
    normals, anomalies = np.flatnonzero(y == 1), np.flatnonzero(y == -1)
    held = None
    units, count = "normal images (y == 1)", len(normals)
    if groups is not None:
        groups = _names(groups)
        held = groups[normals]
        units, count = "groups of normal images", len(np.unique(held))
    if count < least:
        raise ValueError(f"{cv!r} needs at least {least} {units}; got {count}.")
    for train, test in splitter.split(normals, groups=held):
        train, test = normals[train], normals[test]
        if cv.shots is not None:
            if cv.shots > len(train):
                raise ValueError(
                    f"shots={cv.shots} normal images cannot be drawn from the {len(train)} that "
                    f"{cv!r} leaves to train on."
                )
            train = rng.permutation(train)[: cv.shots]
        shown = anomalies
        if groups is not None:
            shown = anomalies[~np.isin(groups[anomalies], groups[train])]
        shown = _draw(shown, cv.anomaly_size, rng)
        yield train, np.concatenate([test, shown])


def _names(groups):
    """Return groups as an array; an image whose group is None or NaN is one of its own."""
    names = np.asarray(groups).tolist()
    missing = [is_missing_group(name) for name in names]
    if not any(missing):
        return np.asarray(groups)
    known = {name: i for i, name in enumerate(names) if not missing[i]}
    return np.array([i if missing[i] else known[name] for i, name in enumerate(names)])


def _draw(anomalies, size, rng):
    """Draw a share or a number of anomalies; all stay in order."""
    if isinstance(size, Integral):
        if size > len(anomalies):
            raise ValueError(
                f"anomaly_size={size} anomalies (y == -1) cannot be drawn from {len(anomalies)}."
            )
    else:
        size = int(np.ceil(size * len(anomalies) - 1e-9))
    return anomalies if size == len(anomalies) else np.sort(rng.permutation(anomalies)[:size])


class LabelFreeScorer(BaseEstimator):
    """Score of a detector on normal images alone, for ``scoring=``.

    The area under the ROC curve of held-out normal images against anomalies that are synthesised
    from them, averaged over kinds of anomalies that no candidate was trained on.
    It ranks candidates where no anomaly is known; it does not say how well they do on real ones.
    The ranking agrees with that of labels where real anomalies resemble the synthesised ones, such
    as defects of a surface, and more between backbones than between settings of one; on most of
    our tasks the defaults of a good backbone did no worse than its pick (see the user guide).

    Parameters
    ----------
    kinds : sequence of str and callables, default=("crack", "patch_shuffle", "smudge", "warp")
        Names of synthesised anomalies, see :mod:`skcoft.augmentation`, or callables on image
        tensors ``(n, C, H, W)`` in 0..1. The default has small defects and a disorder of the
        whole, and none of a detector's default negatives.
    n_draws : int, default=4
        Anomalies of each kind per image.
    image_shape : (H, W) or (H, W, C), default=None
        Shape of the images where the rows of a two-dimensional X are flattened ones.
    n_jobs : int or None, default=None
        Threads that decode files prefetch, as in :class:`skcoft.COFTDetector`; None means none.
    random_state : int, default=0
        Seed of the anomalies, which are the same for every candidate.

    See Also
    --------
    OneClassKFold : Splits without anomalies, where y is None or all ones.

    Examples
    --------
    >>> from sklearn.datasets import load_sample_image
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skcoft import COFTDetector
    >>> from skcoft.model_selection import LabelFreeScorer
    >>> photo = load_sample_image("flower.jpg")
    >>> shots = [photo[:64, x : x + 64] for x in range(0, 512, 64)]
    >>> detector = COFTDetector(image_size=32, max_iter=0, random_state=0)
    >>> search = GridSearchCV(detector, {"density": ["kde", "gaussian"]}, cv=2,
    ...                       scoring=LabelFreeScorer(n_draws=2)).fit(shots)
    >>> bool(0 < search.best_score_ < 1)
    True
    """

    def __init__(
        self,
        kinds=("crack", "patch_shuffle", "smudge", "warp"),
        *,
        n_draws=4,
        image_shape=None,
        n_jobs=None,
        random_state=0,
    ):
        self.kinds = kinds
        self.n_draws = n_draws
        self.image_shape = image_shape
        self.n_jobs = n_jobs
        self.random_state = random_state

    def __call__(self, estimator, X, y=None):
        """Score a fitted detector.

        Parameters
        ----------
        estimator : detector or pipeline
            Fitted, with ``score_samples`` or ``decision_function``, higher for more normal.
        X : images, see the user guide
            Images that fit has not seen.
        y : array-like of shape (n_samples,), default=None
            Where given, only images with y == 1 count.

        Returns
        -------
        float
            Area under the ROC curve: 1 where every normal image scores above every synthesised
            anomaly.

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid, X has no normal image, or the estimator was trained
            on one of the kinds.
        """
        check_parameters(self, SCORER_CONSTRAINTS)
        self._check_kinds(estimator)
        inputs = read_input(X, ReadOptions.of(self))
        if inputs.input_type != "images":
            raise ValueError(
                "X must hold images; got rows of features. If they are flattened images, set "
                "image_shape of the scorer."
            )
        if len(inputs.by_modality) > 1:
            raise ValueError(
                "LabelFreeScorer makes anomalies of one image a sample; X has samples of "
                f"{list(inputs.by_modality)}."
            )
        if y is not None:
            inputs = inputs.take(check_labels(X, y) == 1)
        if len(inputs) == 0:
            raise ValueError("X holds no normal image (y == 1) to score with.")
        score = getattr(estimator, "score_samples", None) or estimator.decision_function
        generator = torch.Generator().manual_seed(self.random_state)
        synthesizers = [make_synthesizer(kind, image_synthesizer) for kind in self.kinds]
        normal, anomalous, depth = [], [[] for _ in synthesizers], _depth_of(estimator, inputs)
        for images in _batches(inputs, depth):
            repeated = images.repeat_interleave(self.n_draws, dim=0)
            normal.append(score(self._as_given(images, inputs)))
            for synthesize, scores in zip(synthesizers, anomalous, strict=True):
                scores.append(score(self._as_given(synthesize(repeated, generator), inputs)))
        normal = np.concatenate(normal)
        areas = []
        for scores in map(np.concatenate, anomalous):
            labels = np.repeat([1, 0], [len(normal), len(scores)])
            areas.append(roc_auc_score(labels, np.concatenate([normal, scores])))
        return float(np.mean(areas))

    def _check_kinds(self, estimator):
        params = estimator.get_params()
        for name, value in params.items():
            if name.rpartition("__")[2] != "negatives":
                continue
            step = name.removesuffix("negatives")
            if not params.get(f"{step}negative_weight") or not params.get(f"{step}max_iter"):
                continue
            trained = value if isinstance(value, (list, tuple)) else [value]
            shared = [kind for kind in self.kinds if kind in trained]
            if shared:
                raise ValueError(
                    f"kinds={self.kinds!r} holds {shared}, which the candidate was trained on "
                    f"({name}={value!r}), so its score would flatter it. Choose kinds that no "
                    "candidate is trained on."
                )

    def _as_given(self, images, inputs):
        """Return images (n, 3, H, W) in the form of X: as they are, or as rows of its type."""
        if self.image_shape is None or not isinstance(inputs.items, torch.Tensor):
            return images
        channels = inputs.items.shape[1]
        rows = images[:, :channels].permute(0, 2, 3, 1).flatten(1).numpy()
        return (rows * 255).round().astype(np.uint8) if inputs.items.dtype == torch.uint8 else rows


def _depth_of(estimator, inputs):
    """Bits of whole numbers in X: those of the fit, or where nobody knows them, as X has them."""
    steps = [step for _, step in getattr(estimator, "steps", [])] or [estimator]
    for step in steps:
        encoders = getattr(getattr(step, "embedder_", step), "encoders_", None)
        # what a step before it makes of X need not be whole numbers
        if encoders and (encoders[0].bit_depth is not None or step is steps[0]):
            return encoders[0].bit_depth
    return inputs.bit_depth


def _batches(inputs, depth):
    """Yield float images (n, 3, H, W) of inputs, each at its own size."""
    if inputs.common_size is None:
        for i, size in enumerate(inputs.sizes):
            yield inputs.load(torch.tensor([i]), size, depth)
    else:
        for indices in torch.arange(len(inputs)).split(BATCH):
            yield inputs.load(indices, inputs.common_size, depth)
