"""COFTDetector: an embedder, a density and a threshold."""

from copy import deepcopy
from numbers import Integral
from os import PathLike

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import ClassifierTags
from sklearn.utils.validation import check_is_fitted

from ._decision import DecisionMixin
from ._embedder import EMBEDDER_CONSTRAINTS, COFTEmbedder, split_by_label
from ._images import read_input
from ._local import LocalDensity, lowest
from ._memory import cached, check_storable
from ._threshold import automatic_offset, fit_density, join_densities, mean_of_sides
from ._validation import any_of, boolean, check_parameters, having, number, one_of
from .density import GaussianDensity, KernelDensity

DENSITIES = {"kde": KernelDensity, "gaussian": GaussianDensity}


class COFTDetector(DecisionMixin, OutlierMixin, BaseEstimator):
    """Few-shot image anomaly detection by contrastive fine-tuning (COFT-AD).

    A pre-trained backbone is fine-tuned on 4 to 64 normal images, a density is fitted on the
    embeddings of their views, and a threshold is set that holds for unseen normal images.

    Parameters
    ----------
    backbone : str or torch.nn.Module, default="embedded"
        ``"embedded"`` is a small network that comes with the package, trained on procedurally
        generated images: it needs no network connection and is fast on a CPU, but larger
        backbones with ImageNet or DINOv2 weights are more accurate. Else a timm architecture
        name, or a module that maps float images ``(n, 3, H, W)`` in 0..1 to ``(n, d)`` or
        ``(n, d, h, w)`` (averaged over positions). A module is copied, never changed; it has to
        normalise its input itself. Not used for rows of features.
    weights : "pretrained", path or None, default="pretrained"
        ``"pretrained"`` means the package's own file for ``"embedded"`` and timm's weights,
        fetched from the hub and cached by it, for a timm name. A path names a ``.safetensors``
        or ``.pth`` file in timm's layout (for ``"embedded"``, one that ``pretraining/`` wrote),
        None means random weights. Not used where ``backbone`` is a module.
    image_size : int, (H, W) or None, default=None
        Size in pixels that images are resized to (nothing is cropped). An int means a square.
        None means the backbone's own input size (smaller images are enlarged to 128 pixels at
        most where it takes any size), or the images' size for a module.
    image_shape : (H, W) or (H, W, C), default=None
        Given, the rows of a two-dimensional X are flattened images of this shape. None means
        that they are rows of features: no backbone is built, and a small network is fine-tuned
        with feature noise and masking as views.
    max_iter : int, default=20
        Iterations of fine-tuning. 0 gives the frozen backbone.
    batch_size : int, default=8
        Shots drawn per iteration; two views and one synthesised anomaly are made of each.
    learning_rate : float or "auto", default="auto"
        Greatest learning rate of AdamW (it follows a half cosine down to 0). ``"auto"`` means
        2e-5 for images, gentle because a brisk one destroys pre-trained features, and 1e-3 for
        rows. A single image is then left to the frozen backbone, unless there are labelled
        anomalies: against synthesised ones alone it lost accuracy in our measurements.
    contrastive : {"mean_shifted", "infonce", "simsiam"}, default="mean_shifted"
        Family of the contrastive term, see :mod:`skcoft.losses`.
    temperature : float, default=0.25
        Temperature of the first two families. Not used by ``"simsiam"``.
    positive_weight : float or "auto", default="auto"
        Weight λ_PP of the cross-instance positive pairs; 0 turns the term off. ``"auto"`` means
        an eighth of the number of shots, 2 at most: few shots drawn together more strongly make
        the threshold too strict for unseen normal images.
    negative_weight : float, default=0.1
        Weight λ_NP of the negative pairs; 0 turns the term off.
    negatives : str, callable, list of these or None, default="cutpaste"
        Anomalies for the negative pairs: ``"cutpaste"``, ``"crack"``, ``"smudge"``,
        ``"warp"``, ``"noise_texture"``, ``"patch_shuffle"``, ``"rotation"`` (see
        :mod:`skcoft.augmentation`), a callable on image tensors ``(n, 3, H, W)`` in
        0..1, ``"labelled"`` (images with y == -1), or a list to draw from per image. On rows
        of features every name but ``"labelled"`` means shuffled and disturbed features.
    augmentation : dict, callable or None, default=None
        None means :func:`skcoft.augmentation.random_views`, a dict changes its parameters:
        ``{"degrees": 180}`` for parts that lie in any orientation, ``{"flip": 0}`` where a
        mirror image is an anomaly: else scores and maps are means over an image and its mirror
        image, at twice the time. A callable (no mirror images then) gets one image tensor
        ``(3, H, W)`` in 0..1 at a time and returns one of the same shape, for example a
        ``torchvision.transforms.v2`` pipeline. On rows it gets one row. Randomness that it takes
        from torch is seeded.
    n_views : int, default=8
        N_A, the views of each shot that the density is fitted on, besides the shot itself and its
        mirror image. 0 means the shot alone, and scores without mirror images.
    density : {"kde", "gaussian"} or estimator, default="kde"
        ``"kde"`` is :class:`skcoft.density.KernelDensity`, ``"gaussian"`` the paper's
        Mahalanobis score, :class:`skcoft.density.GaussianDensity`. Any estimator with ``fit``
        and ``score_samples`` (higher = more normal) may stand in; a grid search reaches its
        parameters as ``density__bandwidth``.
    local : bool, default=True
        Whether scores also count a kernel density of local embeddings, those at every position
        of two middle depths of the backbone, which sees small defects and draws
        :meth:`anomaly_map`. The two log densities are joined on the scale of held-out shots; the
        local one weighs less the more the shots differ, as objects in scenes do and photographs
        of one part do not. False leaves it out, as the paper does. Not used for rows and for
        modules that return vectors only.
    contamination : "auto" or float in (0, 0.5], default="auto"
        ``"auto"`` sets the threshold from scores of shots that the density has not seen, so
        that about 5 % of unseen normal images fall below it, more with 1 or 2 shots (a warning
        says so) and after brisker fine-tuning than the default. A float is the share of the
        training images that is called anomalous, as elsewhere in scikit-learn.
    device : str, torch.device or None, default=None
        Where the network runs; None means CUDA where there is one, else the CPU.
    memory : str, joblib.Memory or None, default=None
        A folder, or joblib's object for one, where fine-tuned embedders and the embeddings of
        the images that they met are kept, as in :class:`sklearn.pipeline.Pipeline`. Detectors that
        differ only in density, ``n_views``, ``local`` or ``contamination`` then share one
        fine-tuning; scores of the same images are not computed twice either. Images count by
        their contents. None keeps nothing.
    n_jobs : int or None, default=None
        Threads that decode images of a sequence; None means 1.
    random_state : int, RandomState or None, default=None
        Seed of random weights, views, negatives and batches.
    verbose : int, default=0
        1 shows a progress bar while fine-tuning.

    Attributes
    ----------
    offset_ : float
        Threshold: ``decision_function`` is ``score_samples`` minus it.
    density_ : estimator
        The fitted density.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Scores that p-values are taken from: of the shots, each held out, or of the images of
        :meth:`set_threshold`.
    embedder_ : COFTEmbedder
        The fitted embedder.
    embeddings_ : ndarray of shape (n_shots, d)
        L2-normalised embeddings of the shots.
    history_ : dict of str to ndarray of shape (n_iterations,)
        ``"loss"`` and its terms ``"contrastive"``, ``"positive"``, ``"negative"`` (unweighted).
    n_iter_ : int
        Iterations of fine-tuning done.
    device_ : str
        Device in use.
    n_features_in_ : int
        Number of columns, where X is two-dimensional.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where X has them.

    See Also
    --------
    COFTEmbedder : The embeddings alone, as a transformer.
    sklearn.neighbors.LocalOutlierFactor : Outlier detection on rows of features.

    Notes
    -----
    On a CPU the score of an image does not depend, to the last bit, on the other images of the
    call. Fine-tuning keeps batch normalisation at its source statistics.

    References
    ----------
    .. [1] Liao et al., "COFT-AD: COntrastive Fine-Tuning for Few-Shot Anomaly Detection",
       IEEE TIP 2024, arXiv 2402.18998.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcoft import COFTDetector
    >>> digits = load_digits()
    >>> zeros, ones = (digits.images[digits.target == t] / 16 for t in (0, 1))
    >>> detector = COFTDetector("resnet10t", weights=None, image_size=32, max_iter=2,
    ...                         random_state=0).fit(zeros[:8])
    >>> scores = detector.score_samples([*zeros[8:12], *ones[:4]])
    >>> bool(scores[:4].mean() > scores[4:].mean())
    True
    """

    def __init__(
        self,
        backbone="embedded",
        *,
        weights="pretrained",
        image_size=None,
        image_shape=None,
        max_iter=20,
        batch_size=8,
        learning_rate="auto",
        contrastive="mean_shifted",
        temperature=0.25,
        positive_weight="auto",
        negative_weight=0.1,
        negatives="cutpaste",
        augmentation=None,
        n_views=8,
        density="kde",
        local=True,
        contamination="auto",
        device=None,
        memory=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.image_shape = image_shape
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.contrastive = contrastive
        self.temperature = temperature
        self.positive_weight = positive_weight
        self.negative_weight = negative_weight
        self.negatives = negatives
        self.augmentation = augmentation
        self.n_views = n_views
        self.density = density
        self.local = local
        self.contamination = contamination
        self.device = device
        self.memory = memory
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    _constraints = {
        **EMBEDDER_CONSTRAINTS,
        "n_views": number(Integral, 0),
        "density": any_of(one_of(*DENSITIES), having("score_samples")),
        "local": boolean(),
        "memory": any_of(
            one_of(None),
            (lambda v: isinstance(v, (str, PathLike)), "a folder"),
            having("cache"),
        ),
        "contamination": any_of(one_of("auto"), number(low=0, high=0.5, open_low=True)),
    }

    def fit(self, X, y=None):
        """Fine-tune the backbone, fit the density and set the threshold.

        Parameters
        ----------
        X : images or rows, see the user guide
            The shots: 1 or more normal images; also anomalies, where y says which they are.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 (or 0) for an anomaly, which is left out, except that
            ``negatives="labelled"`` trains against it. None means that all are normal; other
            labels are ignored, as by scikit-learn's detectors.

        Returns
        -------
        COFTDetector
            The fitted detector.

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid, or nothing can be contrasted.
        FileNotFoundError
            If an image or the weights do not exist.
        OSError
            If pre-trained weights cannot be fetched.
        FloatingPointError
            If the loss becomes infinite or NaN.
        """
        check_parameters(self, self._constraints)
        inputs = read_input(self, X, reset=True)
        embedder = COFTEmbedder(**{p: getattr(self, p) for p in EMBEDDER_PARAMETERS})
        normals, _ = embedder._split(inputs, y)
        if self.memory is not None:
            check_storable(embedder)
        embedder = cached(self.memory, fit_embedder, embedder, inputs, y, files=[self.weights])
        local = None
        if self.local and embedder._has_positions:
            local = LocalDensity(embedder._view_seed)
        mirror = embedder._mirrors and self.n_views > 0
        learned = cached(self.memory, embed_shots, embedder, normals, self.n_views, local, mirror)
        self._fit_density(embedder, *learned)
        return self

    def partial_fit(self, X, y=None):
        """Add more normal images to the density and move the threshold; no fine-tuning.

        Parameters
        ----------
        X : images or rows, see the user guide
            More normal images, of the kind seen in fit.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 (or 0) for an anomaly, which is left out, as in fit.

        Returns
        -------
        COFTDetector
            The detector; fitted from scratch where it was not fitted before.

        Raises
        ------
        ValueError
            If X or y is invalid, or X is of another kind than in fit.
        """
        if not hasattr(self, "embedder_"):
            return self.fit(X, y)
        check_parameters(self, self._constraints)
        inputs = self.embedder_._check_kind(read_input(self, X, reset=False))
        inputs, _ = split_by_label(inputs, y)
        *added, local = embed_shots(
            self.embedder_,
            inputs,
            self.n_views,
            deepcopy(self._local),
            self._mirror,
            len(self.embeddings_),
        )
        known = self._support, self._shots, self._own, self._mirrored
        self._fit_density(
            self.embedder_, *map(np.concatenate, zip(known, added, strict=True)), local
        )
        return self

    def _fit_density(self, embedder, support, shots, own, mirrored, local):
        density = DENSITIES[self.density]() if isinstance(self.density, str) else self.density
        fitted = fit_density(density, support, shots)
        weight, held_out = join_densities(fitted, local, support, shots, own, mirrored)
        if self.contamination == "auto":
            offset = automatic_offset(held_out, own.sum())
        else:
            rows = own | mirrored
            training = np.asarray(fitted.score_samples(support[rows]))
            if local is not None:
                training = training + weight * (local.in_sample - local.location)
            training = mean_of_sides(training, own[rows], mirrored[rows])
            offset = float(np.percentile(training, 100 * self.contamination))
        self.embedder_ = embedder
        self._support, self._shots, self._own, self._mirrored = support, shots, own, mirrored
        self._local, self._local_weight = local, weight
        self._mirror = bool(mirrored.any())
        self.density_, self.offset_ = fitted, offset
        self.embeddings_, self.calibration_scores_ = support[own], held_out[: own.sum()]

    @property
    def history_(self):
        """Loss terms per iteration."""
        return self.embedder_.history_

    @property
    def n_iter_(self):
        """Iterations of fine-tuning done."""
        return self.embedder_.n_iter_

    @property
    def device_(self):
        """Device in use."""
        return self.embedder_.device_

    def embed(self, X):
        """Embed images by the fine-tuned network.

        Parameters
        ----------
        X : images or rows, see the user guide
            What to embed; of the kind seen in fit.

        Returns
        -------
        ndarray of shape (n_samples, d)
            L2-normalised embeddings, float64.

        Raises
        ------
        ValueError
            If X is invalid or of another kind than in fit.
        """
        return self._measure(X, None)[0]

    def score_samples(self, X):
        """Log density of each image.

        That of its embedding; with ``local``, plus the mean log density of its least likely
        hundredth of positions, shifted and scaled so that both vary alike over held-out shots,
        times the likeness of the shots (see the user guide). Where views are mirrored, the mean
        over the image and its mirror image.

        Parameters
        ----------
        X : images or rows, see the user guide
            What to score; of the kind seen in fit.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log density in nats, float64; higher means more normal.

        Raises
        ------
        ValueError
            If X is invalid or of another kind than in fit.
        """
        check_is_fitted(self, "embedder_")
        local = self._local if self._local_weight else None
        embeddings, local = self._measure(X, local, self._mirror)
        scores = np.asarray(self.density_.score_samples(embeddings), dtype=np.float64)
        if local is not None:
            scores = scores + self._local_weight * (local - self._local.location)
        return scores.reshape(1 + self._mirror, -1).mean(axis=0)

    def _measure(self, X, local, mirror=False):
        """Embeddings of X and, unless None, scores of the ``local`` density."""
        check_is_fitted(self, "embedder_")
        inputs = self.embedder_._check_kind(read_input(self, X, reset=False))
        return cached(self.memory, measure, self.embedder_, inputs, local, mirror)

    def anomaly_map(self, X):
        """Where each image departs from the shots.

        Parameters
        ----------
        X : images, see the user guide
            What to map; of the kind seen in fit.

        Returns
        -------
        ndarray of shape (n_samples, H, W), or list of n_samples ndarrays of shape (H, W)
            Negative local log density at the resolution of the images, float64, higher means
            more anomalous; a list where the images differ in size. The scale is that of fit, the
            same for every image: 0 is what the least likely spots of an unseen normal image
            reach on average, 1 is one standard deviation above.

        Raises
        ------
        ValueError
            If X is invalid or of another kind than in fit, or the detector has no local density.
        """
        check_is_fitted(self, "embedder_")
        if self._local is None:
            raise ValueError(
                "anomaly_map needs images, local other than False and a backbone with feature "
                f"maps (timm, or a module that returns them); got local={self.local!r}, "
                f"backbone={self.backbone!r}."
            )
        inputs = self.embedder_._check_kind(read_input(self, X, reset=False))
        maps = self.embedder_._embed(inputs, self._local.log_maps, self._mirror)[1]
        if self._mirror:
            maps = (maps[: len(inputs)] + maps[len(inputs) :, :, ::-1]) / 2
        maps = (self._local.location - maps) / self._local.scale
        enlarged = [
            F.interpolate(torch.from_numpy(part)[None, None], size, mode="bilinear")[0, 0].numpy()
            for part, size in zip(maps, inputs.sizes, strict=True)
        ]
        return np.stack(enlarged) if inputs.common_size else enlarged

    def kneighbors(self, X, n_neighbors=1, *, return_distance=True):
        """Find the shots that a decision leans on.

        Parameters
        ----------
        X : images or rows, see the user guide
            The queries; of the kind seen in fit.
        n_neighbors : int, default=1
            How many shots to find for each.
        return_distance : bool, default=True
            Whether to return the distances too.

        Returns
        -------
        distances : ndarray of shape (n_samples, n_neighbors)
            Euclidean distances of embeddings, nearest first; only with ``return_distance``.
        indices : ndarray of shape (n_samples, n_neighbors)
            Indices of shots, in the order of fit, then of every partial_fit.

        Raises
        ------
        ValueError
            If X is invalid, or ``n_neighbors`` is not between 1 and the number of shots.
        """
        embeddings = self.embed(X)
        if not 1 <= n_neighbors <= len(self.embeddings_):
            raise ValueError(
                f"n_neighbors must be between 1 and {len(self.embeddings_)}, the number of "
                f"shots; got {n_neighbors!r}."
            )
        neighbors = NearestNeighbors(n_neighbors=n_neighbors).fit(self.embeddings_)
        return neighbors.kneighbors(embeddings, return_distance=return_distance)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags = ClassifierTags(multi_class=False)  # what score takes as y
        return tags


EMBEDDER_PARAMETERS = COFTEmbedder().get_params(deep=False)


def fit_embedder(embedder, inputs, y):
    """Fit the embedder and return it."""
    embedder._fit(inputs, y)
    return embedder


def embed_shots(embedder, shots, n_views, local, mirror, first_shot=0):
    """Return what the densities are fitted on.

    Embeddings of the shots, of their mirror images and of their views; the shot of each; which are
    shots themselves, which mirror images; the ``local`` density (or None) with their positions.
    """
    support, names, positions = embedder._embed_views(
        shots, n_views, first_shot, None if local is None else np.asarray, mirror
    )
    if local is not None:
        local.add(positions, names, len(shots), mirror)
    order = np.arange(len(names)) // len(shots)
    return support, names, order == 0, (order == 1) & mirror, local


def measure(embedder, inputs, local, mirror):
    """Embeddings of inputs (and their mirror images) and their scores by the local density."""
    if local is None:
        return embedder._embed(inputs, mirror=mirror)
    return embedder._embed(inputs, lambda positions: lowest(local.log_maps(positions)), mirror)
