"""Cross-validation of one-class detectors: ``cv=`` and ``scoring=`` for scikit-learn's tools."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from itertools import chain
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    BaseCrossValidator,
    BaseShuffleSplit,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    ShuffleSplit,
)
from sklearn.utils import check_random_state, indexable

from ._input.images import Images
from ._input.labels import check_labels
from ._input.reader import ReadOptions, read_input
from ._input.shots import is_missing_group
from ._input.table import Table
from ._input.types import ImagesLike
from ._network.views import image_synthesizer, make_synthesizer
from ._parameters import EMBEDDER_CONSTRAINTS
from ._utils.estimator_state import VersionedEstimator
from ._utils.params import Constraint, any_of, as_list, check_parameters, list_of, number, one_of
from .augmentation import SYNTHESIZERS

__all__ = ["LabelFreeScorer", "OneClassKFold", "OneClassShuffleSplit"]

SCORER_BATCH_SIZE = 32  # images that are made anomalous at once

_count = number(Integral, 1)
_share_or_all = Constraint(lambda v: isinstance(v, float) and 0 < v <= 1, "a share in (0, 1]")
_share = Constraint(lambda v: isinstance(v, float) and 0 < v < 1, "a share in (0, 1)")
_kind = any_of(one_of(*SYNTHESIZERS), Constraint(callable, "a callable"))
SCORER_CONSTRAINTS = {
    "kinds": Constraint(list_of(_kind).test, f"a sequence of {_kind.description}"),
    "n_draws": _count,
    "random_state": number(Integral, 0),
    "image_shape": EMBEDDER_CONSTRAINTS["image_shape"],
    "n_jobs": EMBEDDER_CONSTRAINTS["n_jobs"],
}
SPLITTER_CONSTRAINTS = {
    "shots": any_of(_count, one_of(None)),
    "anomaly_size": any_of(_share_or_all, _count),
}


class OneClassKFold(BaseCrossValidator):
    """K-fold splits that train on normal images and test on normal images and anomalies.

    The normal images are divided into ``n_splits`` folds. Each split tests on the normal images
    of one fold and on the anomalies. It trains on the normal images outside of the fold, or on
    ``shots`` of them. Anomalies are never used for training.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shots : int or None, default=None
        Number of normal images to train on in each split. None means all outside of the fold.
    anomaly_size : float or int, default=1.0
        Anomalies to test on, drawn anew for each split. A float in (0, 1] is a share of them, an
        int their number. 1.0 means all.
    shuffle : bool, default=False
        Whether to shuffle the normal images, or groups, before they are divided into folds. If
        False, every call of ``split`` gives the same splits, drawn shots and anomalies included.
    random_state : int, RandomState or None, default=None
        Seed for shuffling and for drawing shots and anomalies. None means other splits in every
        call if ``shuffle=True``, and a fixed seed if not.

    See Also
    --------
    OneClassShuffleSplit : Random shots instead of folds.
    sklearn.model_selection.KFold : Folds that also train on anomalies.

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
        self,
        n_splits: int = 5,
        *,
        shots: int | None = None,
        anomaly_size: float = 1.0,
        shuffle: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_splits = n_splits
        self.shots = shots
        self.anomaly_size = anomaly_size
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Return the number of splits.

        Parameters
        ----------
        X, y, groups : object, default=None
            Ignored, exists for API consistency.

        Returns
        -------
        int
            ``n_splits``.
        """
        return self.n_splits

    def split(
        self,
        X: ImagesLike,
        y: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield indices of training and test images.

        Parameters
        ----------
        X : array-like of length n_samples
            The images; only their number is used.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 for anomalous. None means that all are normal.
        groups : array-like of shape (n_samples,), default=None
            Group of each image, such as a part or a patient. In no split does a group have images
            in both the training and the test set.

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
        check_parameters(self, {"n_splits": number(Integral, 2), **SPLITTER_CONSTRAINTS})
        rng = self._random_state()
        folds = KFold if groups is None else GroupKFold
        shuffle = {"shuffle": True, "random_state": rng} if self.shuffle else {}
        splitter = folds(self.n_splits, **shuffle)
        yield from _iter_one_class_splits(splitter, self, X, y, groups, rng, self.n_splits)

    def _random_state(self) -> np.random.RandomState:
        """Return a generator of random numbers; without shuffle, the same in every call.

        Scikit-learn's successive halving relies on that.
        """
        if self.shuffle:
            return check_random_state(self.random_state)
        if self.random_state is None:
            return np.random.RandomState(0)
        return deepcopy(check_random_state(self.random_state))


class OneClassShuffleSplit(BaseCrossValidator):
    """Random splits that train on a few normal images and test on normal images and anomalies.

    Each split holds out ``test_size`` of the normal images and trains on ``shots`` of the others.
    It tests on the held-out normal images and on the anomalies, which are never used for
    training. The shots are in random order. So :func:`sklearn.model_selection.learning_curve`,
    which trains on the first ones, computes few-shot curves.

    Parameters
    ----------
    n_splits : int, default=10
        Number of splits, at least 1.
    shots : int or None, default=8
        Number of normal images to train on in each split. None means all that are not held out.
    test_size : float or int, default=0.5
        Normal images to hold out. A float in (0, 1) is a share of them, an int their number. With
        groups, it is a share or the number of the groups.
    anomaly_size : float or int, default=1.0
        Anomalies to test on, drawn anew for each split. A float in (0, 1] is a share of them, an
        int their number. 1.0 means all.
    random_state : int, RandomState or None, default=None
        Seed for drawing held-out images, shots and anomalies.

    See Also
    --------
    OneClassKFold : Every normal image is held out once.
    sklearn.model_selection.ShuffleSplit : Splits that also train on anomalies.

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
        self,
        n_splits: int = 10,
        *,
        shots: int | None = 8,
        test_size: float = 0.5,
        anomaly_size: float = 1.0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_splits = n_splits
        self.shots = shots
        self.test_size = test_size
        self.anomaly_size = anomaly_size
        self.random_state = random_state

    get_n_splits = OneClassKFold.get_n_splits

    def split(
        self,
        X: ImagesLike,
        y: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield indices of training and test images.

        Parameters
        ----------
        X : array-like of length n_samples
            The images; only their number is used.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 for anomalous. None means that all are normal.
        groups : array-like of shape (n_samples,), default=None
            Group of each image, such as a part or a patient. In no split does a group have images
            in both the training and the test set.

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
            {"n_splits": _count, "test_size": any_of(_share, _count), **SPLITTER_CONSTRAINTS},
        )
        rng = check_random_state(self.random_state)
        shuffle = ShuffleSplit if groups is None else GroupShuffleSplit
        splitter = shuffle(self.n_splits, test_size=self.test_size, random_state=rng)
        yield from _iter_one_class_splits(splitter, self, X, y, groups, rng, 2)


def _iter_one_class_splits(
    splitter: BaseCrossValidator | BaseShuffleSplit,
    cv: OneClassKFold | OneClassShuffleSplit,
    X: ImagesLike,
    y: npt.ArrayLike | None,
    groups: npt.ArrayLike | None,
    rng: np.random.RandomState,
    min_count: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Split the normal images by scikit-learn's ``splitter``; draw shots and anomalies."""
    X, y, groups = indexable(X, y, groups)
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    y = np.ones(n) if y is None else check_labels(X, y)
    normals, anomalies = np.flatnonzero(y == 1), np.flatnonzero(y == -1)
    units = "normal images (y == 1)" if groups is None else "groups of normal images"
    ids = np.arange(n) if groups is None else _group_ids(groups)
    count = len(np.unique(ids[normals]))
    if count < min_count:
        raise ValueError(
            f"{cv!r} needs at least {min_count} {units}; got {count}. Pass more, or change its "
            "parameters."
        )
    for train, test in splitter.split(normals, groups=None if groups is None else ids[normals]):
        train, test = normals[train], normals[test]
        if cv.shots is not None:
            if cv.shots > len(train):
                raise ValueError(
                    f"shots={cv.shots} normal images cannot be drawn from the {len(train)} that "
                    f"{cv!r} leaves for training. Pass a smaller number of shots."
                )
            train = rng.permutation(train)[: cv.shots]
        apart = anomalies[~np.isin(ids[anomalies], ids[train])]
        yield train, np.concatenate([test, _draw_anomalies(apart, cv.anomaly_size, rng)])


def _group_ids(groups: npt.ArrayLike) -> np.ndarray:
    """Return groups as an array; an image whose group is None or NaN is a group of its own."""
    names = np.asarray(groups).tolist()
    if not any(map(is_missing_group, names)):
        return np.asarray(groups)
    ids = {name: i for i, name in enumerate(names)}
    return np.array([i if is_missing_group(name) else ids[name] for i, name in enumerate(names)])


def _draw_anomalies(anomalies: np.ndarray, size: float, rng: np.random.RandomState) -> np.ndarray:
    """Draw a share (float) or a number (int) of anomalies, in ascending order."""
    if not isinstance(size, Integral):
        count = int(np.ceil(size * len(anomalies) - 1e-9))
    elif (count := int(size)) > len(anomalies):
        raise ValueError(
            f"anomaly_size={size} anomalies (y == -1) cannot be drawn from {len(anomalies)}. Pass "
            "a smaller number, or a share."
        )
    return anomalies if count == len(anomalies) else np.sort(rng.permutation(anomalies)[:count])


class LabelFreeScorer(VersionedEstimator):
    """Score a detector without labelled anomalies, for ``scoring=``.

    The score is the area under the ROC curve of held-out normal images against anomalies that are
    synthesised from them. It is averaged over kinds of anomalies that no candidate was trained
    on.

    Use it to rank candidates if you have no anomalies. It does not say how accurate they are on
    real ones. The ranking agrees with that of labels if real anomalies resemble the synthesised
    ones, such as defects of a surface. It is more reliable between backbones than between settings
    of one backbone. On most of our tasks, the defaults of a good backbone did no worse than the
    candidate that this score selects (see the user guide).

    Parameters
    ----------
    kinds : sequence of str and callables, default=("crack", "patch_shuffle", "smudge", "warp")
        Names of synthesised anomalies, see :mod:`skcoft.augmentation`, or callables on image
        tensors ``(n, C, H, W)`` with values 0 to 1. The default has small defects and a disorder
        of the whole image, and none of the default negatives of a detector.
    n_draws : int, default=4
        Number of anomalies of each kind per image.
    image_shape : (H, W) or (H, W, C), default=None
        Shape of the images if the rows of a two-dimensional X are flattened images.
    n_jobs : int or None, default=None
        Number of threads that decode files in advance, as in :class:`skcoft.COFTDetector`. None
        means none.
    random_state : int, default=0
        Seed of the anomalies. They are the same for every candidate.

    See Also
    --------
    OneClassKFold : Splits without anomalies if y is None or all ones.

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
        kinds: Sequence[str | Callable[[torch.Tensor], torch.Tensor]] = (
            "crack",
            "patch_shuffle",
            "smudge",
            "warp",
        ),
        *,
        n_draws: int = 4,
        image_shape: tuple[int, ...] | None = None,
        n_jobs: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.kinds = kinds
        self.n_draws = n_draws
        self.image_shape = image_shape
        self.n_jobs = n_jobs
        self.random_state = random_state

    def __call__(self, estimator: Any, X: ImagesLike, y: npt.ArrayLike | None = None) -> float:
        """Score a fitted detector.

        Parameters
        ----------
        estimator : detector or pipeline
            Fitted estimator with ``score_samples`` or ``decision_function``, which are higher for
            more normal images.
        X : images, see the user guide
            Images that the estimator was not fitted on.
        y : array-like of shape (n_samples,), default=None
            Labels. If given, only images with y == 1 are used.

        Returns
        -------
        float
            Area under the ROC curve. It is 1 if every normal image scores above every synthesised
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
        if not isinstance(inputs, Images):
            modalities = f"the modalities {list(inputs.by_modality)}"
            raise ValueError(
                "X must hold images, one per sample; got "
                f"{'tabular data' if isinstance(inputs, Table) else modalities}. Pass the images "
                "of one modality, or set image_shape of the scorer if rows are flattened images."
            )
        if y is not None:
            inputs = inputs.take(check_labels(X, y) == 1)
        if len(inputs) == 0:
            raise ValueError(
                "X holds no normal image (y == 1) to score with. Pass held-out normal images."
            )
        bit_depth = _bit_depth_for(estimator, inputs)
        score = getattr(estimator, "score_samples", None) or estimator.decision_function
        generator = torch.Generator().manual_seed(self.random_state)
        synthesizers = [make_synthesizer(kind, image_synthesizer) for kind in self.kinds]
        scores = []
        for images in _iter_float_images(inputs, bit_depth):
            repeated = images.repeat_interleave(self.n_draws, dim=0)
            anomalies = (synthesize(repeated, generator) for synthesize in synthesizers)
            batches = chain([images], anomalies)
            scores.append([score(self._in_format_of(inputs, batch)) for batch in batches])
        normal, *anomalous = map(np.concatenate, zip(*scores, strict=True))
        areas = [
            roc_auc_score(
                np.repeat([1, 0], [len(normal), len(kind_scores)]),
                np.concatenate([normal, kind_scores]),
            )
            for kind_scores in anomalous
        ]
        return float(np.mean(areas))

    def _check_kinds(self, estimator: Any) -> None:
        """Raise ValueError if the estimator was trained on anomalies of one of the kinds."""
        params = estimator.get_params()
        for name in [name for name in params if name.rpartition("__")[2] == "negatives"]:
            step, negatives = name.removesuffix("negatives"), as_list(params[name])
            is_trained = params.get(f"{step}negative_weight") and params.get(f"{step}max_iter")
            shared = [kind for kind in self.kinds if kind in negatives]
            if is_trained and shared:
                raise ValueError(
                    f"kinds={self.kinds!r} contains {shared}, and the candidate was trained on "
                    f"{name}={params[name]!r}. Its score would be too high. Choose kinds that no "
                    "candidate is trained on."
                )

    def _in_format_of(self, inputs: Images, images: torch.Tensor) -> torch.Tensor | np.ndarray:
        """Return images (n, 3, H, W) as they are, or as rows of the type of X if X holds rows."""
        if self.image_shape is None or not isinstance(inputs.items, torch.Tensor):
            return images
        channels = inputs.items.shape[1]
        images = images[:, :channels]
        if channels == 4:  # an opaque alpha channel
            images = torch.cat([images, torch.ones_like(images[:, :1])], dim=1)
        rows = images.permute(0, 2, 3, 1).flatten(1).numpy()
        return (rows * 255).round().astype(np.uint8) if inputs.items.dtype == torch.uint8 else rows


def _bit_depth_for(estimator: Any, inputs: Images) -> int | None:
    """Return the bit depth of the training images or, if unknown, that of the values of X."""
    steps = [step for _, step in getattr(estimator, "steps", [])] or [estimator]
    for step in steps:
        encoders = getattr(getattr(step, "embedder_", step), "encoders_", None)
        # an earlier step may turn the integers of X into floats
        if encoders and (encoders[0].bit_depth is not None or step is steps[0]):
            return encoders[0].bit_depth
    return inputs.bit_depth


def _iter_float_images(inputs: Images, bit_depth: int | None) -> Iterator[torch.Tensor]:
    """Yield float images (n, 3, H, W) at their own sizes."""
    batch_size = SCORER_BATCH_SIZE if inputs.common_size else 1
    for indices in torch.arange(len(inputs)).split(batch_size):
        yield inputs.load(indices, inputs.sizes[indices[0]], bit_depth)
