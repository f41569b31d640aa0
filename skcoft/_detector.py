"""COFTDetector: few-shot image anomaly detection as a scikit-learn outlier detector."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from numbers import Integral, Real
from operator import attrgetter
from os import PathLike
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import OutlierMixin
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import Bunch, ClassifierTags
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ._embedder import COFTEmbedder, embedder_parameters, make_embedder
from ._evidence.limits import is_suspect
from ._evidence.maps import regions_from_map
from ._evidence.prompts import check_prompts
from ._evidence.threshold import (
    best_offset,
    check_finite_scores,
    conformal_offset,
    conformal_pvalues,
    labels_from_decision,
)
from ._export.onnx import check_export, export_onnx
from ._input.chunks import iter_chunks
from ._input.columns import check_columns
from ._input.input_files import index_inputs
from ._input.labels import are_classes, check_labels, normal_positions, split_by_label
from ._input.mask import as_mask
from ._input.reader import ReadOptions, read_input
from ._input.recognize import Source, as_rereadable, without_stream
from ._input.shots import parse_groups
from ._input.types import ImagesLike
from ._model import FittedModel, scored_scales
from ._network.default_backbone import DEFAULT_BACKBONE
from ._parameters import DETECTOR_CONSTRAINTS, with_shared_docs
from ._persistence.legacy import upgrade_detector_state
from ._persistence.model_file import load_detector, save_detector
from ._training.data import TrainingData
from ._training.encoders import fit_encoders
from ._utils.cache import check_storable, is_same_value
from ._utils.estimator_state import (
    UPDATE_LOCK,
    VersionedEstimator,
    fitted_columns,
    reset_columns,
    restored_on_failure,
)
from ._utils.files import refuse_input
from ._utils.params import check_argument, check_parameters, number, unwrap_single
from ._utils.torch_context import torch_defaults
from ._utils.warning import warn_user

# Parameters of the embedder that have no influence on what fit learns.
PARTIAL_FIT_PARAMETERS = ("n_jobs", "verbose")
MAX_NAMED_IMAGES = 5  # unreadable or suspect images that a warning names


@with_shared_docs
class COFTDetector(OutlierMixin, VersionedEstimator):
    """Few-shot image anomaly detection by contrastive fine-tuning (COFT-AD).

    A pre-trained backbone is fine-tuned on 4 to 64 normal images, called shots. A density is
    fitted on their embeddings. A threshold is set that holds for unseen normal images.

    Parameters
    ----------
    {backbone}
    {weights}
    {image_size}
    {max_pixels}
    {image_shape}
    {bit_depth}
    {mask}
    {max_iter}
    {batch_size}
    {learning_rate}
    {contrastive}
    {temperature}
    {positive_weight}
    {negative_weight}
    {negatives}
    {augmentation}
    n_views : int or "auto", default="auto"
        Number N_A of views per shot that the densities are fitted on, besides the shot itself and
        its mirror image. 0 means only the shot. ``"auto"`` means mirror images but no views,
        because views cost accuracy in our measurements, most of all at the resolution of
        photographs. ``"auto"`` means 8 views if there are fewer than 4 shots, if ``augmentation``
        is set to more than ``flip``, or for tabular data.
    density : {"kde", "gaussian"}, estimator or list of these, default="kde"
        Density of the embeddings of whole images.

        - ``"kde"`` is :class:`skcoft.density.KernelDensity`. For images, its kernels have the
          shape of the covariance of the embeddings (``covariance_type="full"``).
        - ``"gaussian"`` is the Mahalanobis score of the paper,
          :class:`skcoft.density.GaussianDensity`.
        - Any estimator with ``fit`` and ``score_samples`` (higher means more normal), or any
          detector of PyOD. A grid search reaches its parameters as ``density__bandwidth``.
        - If a list is given, the mean score counts. Each density is standardised by held-out
          shots and brought to the scale of the first one.
    local : bool, default=True
        Whether the score also counts a kernel density of patch embeddings, from two middle layers
        of the backbone. This density detects small defects and draws :meth:`anomaly_map`. Both log
        densities are standardised by held-out shots. The patch density has less weight if the
        shots differ much, as objects in scenes do and photographs of one part do not. False leaves
        it out, as the paper does. Ignored for tabular data and for modules that return vectors.
    multiscale : bool, default=True
        Also score every image at half resolution. This helps with large defects and adds about
        25 % run time. Ignored if ``image_size`` is given, for tabular data, for modules and for
        transformers.
    prompts : dict or None, default=None
        Texts that describe normal and anomalous images, such as ``{"normal": ["a bottle"],
        "anomalous": ["a cracked bottle", "a dirty bottle"]}``. The score then also counts how
        much closer an image is to the normal texts. The backbone must embed texts:
        ``"open_clip:..."``, or a module with ``encode_text`` (list of str to ``(n, d)``).
    contamination : "auto" or float in (0, 0.5], default="auto"
        How the threshold is set. ``"auto"`` computes it from scores of the shots, each held out,
        so that about 5 % of unseen normal images fall below it. With 1 or 2 shots (a warning says
        so) and with stronger fine-tuning than the default, more do. The rule uses median and MAD,
        so that a wrong image among the shots hardly moves it; a warning names such images. A float
        is the share of the training images that is called anomalous, as elsewhere in scikit-learn:
        the threshold is that percentile of ``held_out_scores_``. Pass one to find outliers in
        unlabelled images by :meth:`fit_predict`.
    on_error : {"raise", "nan"}, default="raise"
        What happens if an image is unreadable when images are scored. ``"raise"`` raises an error.
        ``"nan"`` gives the image the score NaN, which ``predict`` calls anomalous, and warns.
        Images in other calls, such as ``fit``, must all be readable.
    {device}
    memory : str, joblib.Memory or None, default=None
        Cache folder, or a joblib object for one, as in :class:`sklearn.pipeline.Pipeline`.
        Fine-tuned encoders and embeddings are stored there. Detectors that differ only in
        ``density``, ``n_views``, ``local`` or ``contamination`` then share one fine-tuning if
        ``random_state`` is an int. Images are identified by their contents. None stores nothing.
    {n_jobs}
    {random_state}
    {verbose}

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels -1 (anomalous) and +1 (normal).
    offset_ : float
        Threshold: ``decision_function`` is ``score_samples`` minus ``offset_``. It may be set.
    density_ : estimator or list of these
        Fitted density of whole images.
    map_threshold_ : float or None
        Value of :meth:`anomaly_map` above which :meth:`find_regions` finds regions. At most about
        5 % of unseen normal images exceed it anywhere, estimated from held-out shots,
        whatever ``contamination`` is. None without maps.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Calibration scores, from which p-values are computed: those of the shots, each held out, or
        those of the images passed to :meth:`set_threshold`.
    held_out_scores_ : ndarray of shape (n_images,)
        Score of each training image by densities of the other shots, in the order of X and then
        of every ``partial_fit``, without images that were not kept. Duplicates and the images of a
        group are held out together.
        ``score_samples`` returns these scores for training images.
    embedder_ : COFTEmbedder
        The fitted embedder.
    embeddings_ : ndarray of shape (n_images, d)
        L2-normalised embeddings of the training images, in the same order.
    shot_ids_ : ndarray of shape (n_images,)
        Shot of each training image, named by the number of the shot's first image, counted over
        all calls. Duplicates and the images of a group are one shot and have one held-out score.
    suspect_shots_ : ndarray of shape (n_suspects,)
        Indices of training images that score far below the others, each held out, and may not be
        normal. The limit is that of a Student test by median and MAD, at a level of 1 % for all
        shots together.
    history_ : dict of str to ndarray of shape (n_iterations,)
        Loss per iteration: ``"loss"`` and its unweighted terms ``"contrastive"``, ``"positive"``
        and ``"negative"``.
    n_iter_ : int
        Number of fine-tuning iterations.
    tuned_ : bool
        Whether the backbone was fine-tuned. If False, it is frozen: because ``max_iter=0``, or
        because the automatic learning rate is 0.
    device_ : str
        Device in use.
    weights_ : str or None
        Source of the initial weights: a package, a file, the hub's cache or the hub. None for
        random weights and for a module's own.
    n_features_in_ : int
        Number of columns of X. Only if X is two-dimensional.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of X. Only if X has column names.

    See Also
    --------
    COFTEmbedder : The embeddings alone, as a transformer.
    sklearn.neighbors.LocalOutlierFactor : Outlier detection on tabular data.

    Notes
    -----
    On a CPU, the score of an image does not depend on the other images of the call, to the last
    bit. Fine-tuning keeps the statistics of batch normalisation.

    With several backbones, or several images per sample, embeddings are concatenated at unit
    length, and ``density_``, ``history_``, ``n_iter_``, ``tuned_`` and ``weights_`` are lists.

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
        backbone: Any = DEFAULT_BACKBONE,
        *,
        weights: str | PathLike[str] | list[Any] | None = "pretrained",
        image_size: int | tuple[int, int] | list[Any] | None = None,
        max_pixels: int | None = None,
        image_shape: tuple[int, ...] | None = None,
        bit_depth: int | None = None,
        mask: Any = None,
        max_iter: int = 20,
        batch_size: int = 8,
        learning_rate: float | Literal["auto"] = "auto",
        contrastive: Literal["mean_shifted", "infonce", "simsiam"] | str = "mean_shifted",
        temperature: float = 0.25,
        positive_weight: float | Literal["auto"] = "auto",
        negative_weight: float = 0.1,
        negatives: Any = "cutpaste",
        augmentation: dict[str, float] | Callable[[torch.Tensor], torch.Tensor] | None = None,
        n_views: int | Literal["auto"] = "auto",
        density: Any = "kde",
        local: bool = True,
        multiscale: bool = True,
        prompts: dict[str, list[str]] | None = None,
        contamination: float | Literal["auto"] = "auto",
        on_error: Literal["raise", "nan"] = "raise",
        device: str | torch.device | None = None,
        memory: Any = None,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.max_pixels = max_pixels
        self.image_shape = image_shape
        self.bit_depth = bit_depth
        self.mask = mask
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
        self.multiscale = multiscale
        self.prompts = prompts
        self.contamination = contamination
        self.on_error = on_error
        self.device = device
        self.memory = memory
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: ImagesLike, y: Any = None, groups: Any = None) -> Self:
        """Fine-tune the backbone, fit the density and set the threshold.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            1 or more normal images, and anomalies if y marks them.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 for anomalous; None means that all images are normal. Anomalies are
            left out, unless ``negatives="labelled"``: then the network is trained against them
            and, for images, a linear head that separates them joins the score. Other labels are
            an error. Class labels of tabular data are ignored with a warning.
        groups : array-like of shape (n_samples,), default=None
            Group of each image, such as a burst of photographs of one part. The images of a group
            count as one shot in the objective, the density and the threshold. Duplicates are
            found without it.

        Returns
        -------
        COFTDetector
            The fitted detector.

        Raises
        ------
        ValueError
            If a parameter, X or y is invalid, or if there is nothing to contrast.
        FileNotFoundError
            If an image or the weights do not exist.
        OSError
            If pre-trained weights cannot be fetched.
        FloatingPointError
            If the loss becomes infinite or NaN.
        """
        check_parameters(self, DETECTOR_CONSTRAINTS)
        with restored_on_failure(self), torch_defaults():
            reset_columns(self)
            parameters = embedder_parameters(self)
            inputs = read_input(X, ReadOptions.of(self))
            check_columns(self, inputs, reset=True)
            inputs = inputs.masked(parameters["mask"])
            check_prompts(self.prompts, self.backbone, inputs.defaults)
            allow_class_labels = inputs.defaults.allows_class_labels
            data = TrainingData.of(self, inputs, y, groups, allow_class_labels=allow_class_labels)
            if self.memory is not None:
                check_storable(parameters)
            encoders, histories = fit_encoders(parameters, data, self.memory)
            model = FittedModel.fit(self, encoders, data)
            embedder = make_embedder(parameters, encoders, histories, fitted_columns(self))
            self.embedder_, self._model = embedder, model
        self._warn_of_suspects(inputs, y)
        return self

    def partial_fit(self, X: ImagesLike, y: Any = None, groups: Any = None) -> Self:
        """Add normal images to the density and set the threshold anew, without fine-tuning.

        At most 128 shots are kept (1,024 rows of tabular data), or as many as ``fit`` was given if
        these are more. They are a uniform random sample of all shots so far. So the time of a
        call and the size of the model file are bounded. Each shot has at most 8 images; later
        duplicates of it are ignored.

        The patches of earlier images are not stored. Their held-out patch scores are changed by an
        estimate of what the later images change.

        The parameters ``density``, ``prompts``, ``contamination``, ``on_error``, ``memory``,
        ``n_jobs`` and ``verbose`` may be changed before the call. All others must have their
        values of ``fit``, because the network and the earlier embeddings depend on them.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            More normal images in the same format as in ``fit``.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 for anomalous, which is left out.
        groups : array-like of shape (n_samples,), default=None
            Group of each image. Images of earlier calls with the same group name belong to it.

        Returns
        -------
        COFTDetector
            The detector. It is fitted from scratch if it was not fitted before.

        Raises
        ------
        ValueError
            If X or y is invalid, if the format of X differs from that in ``fit``, or if a
            parameter was changed that only ``fit`` uses.
        """
        if not hasattr(self, "_model"):
            return self.fit(X, y, groups)
        check_parameters(self, DETECTOR_CONSTRAINTS)
        check_parameters_of_fit(self, self.embedder_, self._model)
        check_prompts(self.prompts, self.backbone, self._model.defaults)
        inputs = self._read(X)
        images, _ = split_by_label(inputs, y, inputs.defaults.allows_class_labels)
        with UPDATE_LOCK, torch_defaults():
            replaced = self._model.threshold.source
            self._model, is_kept = self._model.extend(
                self, images, parse_groups(inputs, y, groups)
            )
        self._warn_of_moved_threshold(replaced)
        self._warn_of_suspects(inputs, y, np.flatnonzero(is_kept))
        return self

    def embed(self, X: ImagesLike) -> np.ndarray:
        """Embed images by the fine-tuned network.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Input in the same format as in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, d)
            L2-normalised embeddings, float64.

        Raises
        ------
        ValueError
            If X is invalid or its format differs from that in ``fit``.
        """
        model = fitted_model(self)
        return np.concatenate([model.embed(i, self.memory) for i in self._iter_inputs(X)])

    def score_samples(self, X: ImagesLike) -> np.ndarray:
        """Return the log density of each image.

        The score is the sum of components, each standardised by held-out shots (see the user
        guide):

        - the log density of the embedding of the whole image;
        - with ``local``, the mean log density of the least likely hundredth of its patches;
        - with ``multiscale``, both also at half resolution, with half the weight;
        - with labelled anomalies, the score of a linear head;
        - with ``prompts``, the log odds of the texts.

        An image of ``fit`` or ``partial_fit`` gets its held-out score (``held_out_scores_``),
        because it would find itself normal otherwise. It is recognised by its embeddings, on the
        device of the fit. A mirrored, resized or newly compressed copy is a new image.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Input in the same format as in ``fit``. Arrays, lazy sequences and iterators are read
            in chunks of at most 1,024 images.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log density in nats, float64; higher means more normal. NaN for unreadable images if
            ``on_error="nan"``.

        Raises
        ------
        ValueError
            If X is invalid or its format differs from that in ``fit``.
        """
        model = fitted_model(self)
        if self.on_error == "nan" and model.defaults.may_be_unreadable:
            return self._score_readable(X)
        return np.concatenate([model.score(i, self.memory) for i in self._iter_inputs(X)])

    def decision_function(self, X: ImagesLike) -> np.ndarray:
        """Return the signed distance of each score from the threshold.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Input in the same format as in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``. Negative means anomalous.

        Raises
        ------
        ValueError
            If X is invalid or its format differs from that in ``fit``.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: ImagesLike) -> np.ndarray:
        """Label each image as normal or anomalous.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Input in the same format as in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            +1 for normal, -1 for anomalous. A score that is not finite is anomalous.

        Raises
        ------
        ValueError
            If X is invalid or its format differs from that in ``fit``.
        """
        return labels_from_decision(self.decision_function(X))

    def fit_predict(self, X: ImagesLike, y: Any = None, groups: Any = None) -> np.ndarray:
        """Fit, then label each image of X by its held-out score.

        This is outlier detection: X may hold anomalies that nobody has labelled. Set
        ``contamination`` to their expected share.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Training images, as in ``fit``.
        y : array-like of shape (n_samples,), default=None
            As in ``fit``. Anomalies are left out of the fit but are labelled as well.
        groups : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            +1 for normal, -1 for anomalous.

        Raises
        ------
        ValueError
            As in ``fit``.
        """
        X = as_rereadable(X)
        return self.fit(X, y, groups).predict(X)

    def predict_pvalue(self, X: ImagesLike) -> np.ndarray:
        """Return the conformal p-value of each image.

        The p-value says how rare a score this low is among normal images. It is (1 + number of
        calibration scores ≤ the image's score) / (n + 1) for n calibration scores [1]_. So no
        p-value is below 1 / (n + 1), which is 0.11 for 8 shots. Calibrate on many images with
        :meth:`set_threshold` if small p-values matter.

        P-values are valid for images that are exchangeable with those passed to
        :meth:`set_threshold`. Before that is called they are computed from held-out scores of the
        shots. They are approximate then, because the network was trained on the shots.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Input in the same format as in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            P-values from 1 / (n + 1) to 1. Small means anomalous.

        Raises
        ------
        ValueError
            If X is invalid or its format differs from that in ``fit``.

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
        scores = self.score_samples(X)
        return conformal_pvalues(self.calibration_scores_, scores)

    def score(self, X: ImagesLike, y: Any = None) -> float:
        """Return the area under the ROC curve of ``score_samples``.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Input in the same format as in ``fit``.
        y : array-like of shape (n_samples,)
            +1 for normal, -1 for anomalous.

        Returns
        -------
        float
            1 if every normal image scores above every anomalous one, 0.5 at chance. NaN, with a
            warning, if all labels are equal, as in a training fold, or if y holds class labels of
            tabular data.

        Raises
        ------
        ValueError
            If X is invalid, or if y holds other labels.
        """
        model = fitted_model(self)
        if y is None:
            raise ValueError(
                "score needs y, with +1 for normal and -1 for anomalous. For a search over normal "
                "images alone, pass scoring=skcoft.model_selection.LabelFreeScorer()."
            )
        if model.defaults.allows_class_labels and are_classes(np.asarray(y)):
            warn_user("y holds class labels, so the ROC AUC is NaN. Pass +1 and -1.")
            self._read(X)
            return float("nan")
        y, scores = check_labels(X, y), self.score_samples(X)
        check_consistent_length(scores, y)
        return float(roc_auc_score(y, scores))

    def set_threshold(self, X: ImagesLike, *, max_fpr: float = 0.05) -> Self:
        """Set the threshold by normal images that were not used in ``fit``.

        An unseen normal image is called anomalous with a probability of at most ``max_fpr`` if it
        is exchangeable with the images of X (split conformal prediction). ``predict`` is -1
        exactly if ``predict_pvalue`` is at most ``max_fpr``. The same holds for maps: an unseen
        normal image has a region (:meth:`find_regions`) with that probability at most.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Normal images in the same format as in ``fit``, none of them training images.
        max_fpr : float, default=0.05
            Maximum false positive rate, in (0, 1). With n images it must be at least 1 / (n + 1).

        Returns
        -------
        self
            The detector with new ``offset_`` and ``calibration_scores_`` and, if it draws maps,
            ``map_threshold_``.

        Raises
        ------
        ValueError
            If X is invalid or its format differs from that in ``fit``, if ``max_fpr`` is not in
            (0, 1), or if X holds too few images for it.

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
        model = fitted_model(self)
        measured, names = [], []
        for inputs in self._iter_inputs(X):
            measured.append(model.calibration_of(inputs, self.memory))
            names += [inputs.name_of(i) for i in range(len(inputs))]
        scores, map_maxima = (
            np.concatenate(column) for column in list(zip(*measured, strict=True))[:2]
        )
        n_duplicates = sum(count for *_, count in measured)
        if not max_fpr * (len(scores) + 1) >= 1 - 1e-9:
            least = int(np.ceil(1 / max_fpr - 1e-9)) - 1
            raise ValueError(
                f"max_fpr={max_fpr} needs at least {least} normal images; X has {len(scores)}."
            )
        check_finite_scores(scores, "X")
        self._warn_of_duplicates(scores, n_duplicates)
        source = f"set_threshold(max_fpr={max_fpr})"
        model = model.with_threshold(conformal_offset(scores, max_fpr), source)
        self._warn_of_low_scores(scores, names, max_fpr)
        threshold = -conformal_offset(-map_maxima, max_fpr) if len(map_maxima) else None
        self._model = replace(model, calibration_scores=scores, map_threshold=threshold)
        return self

    def tune_threshold(
        self, X: ImagesLike, y: Any, *, scoring: str | Callable[..., Any] = "balanced_accuracy"
    ) -> Self:
        """Set the threshold that maximises a metric on labelled images.

        It does for detectors what scikit-learn's ``TunedThresholdClassifierCV`` does for
        classifiers.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Images in the same format as in ``fit``, none of them training images.
        y : array-like of shape (n_samples,)
            +1 for normal, -1 for anomalous.
        scoring : str or callable, default="balanced_accuracy"
            Name of a metric of labels, or a scorer, as elsewhere in scikit-learn. A scorer is
            called once per image; a metric given by name is called only for the thresholds at
            which it can change. Metrics of one class (``"f1"``, ``"precision"``, ``"recall"``)
            count the normal images; ``make_scorer(f1_score, pos_label=-1)`` counts the anomalies.

        Returns
        -------
        self
            The detector with a new ``offset_``.

        Raises
        ------
        ValueError
            If X or y is invalid, if y holds other labels or only one, or if ``scoring`` is
            unknown.

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
        model = fitted_model(self)
        y = check_labels(X, y)
        if len(np.unique(y)) < 2:
            raise ValueError(f"y must hold both +1 and -1; got {y[0]} only.")
        scores = self.score_samples(X)
        check_consistent_length(scores, y)
        check_finite_scores(scores, "X")
        self._model = model.with_threshold(best_offset(scores, y, scoring), "tune_threshold")
        return self

    def anomaly_map(self, X: ImagesLike) -> np.ndarray | list[np.ndarray]:
        """Return a map of how anomalous each spot of each image is.

        Parameters
        ----------
        X : images, see the user guide
            Images in the same format as in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, H, W), or list of n_samples ndarrays of shape (H, W)
            Standardised negative log density of patches at the resolution of the images, float64;
            higher means more anomalous. A list if the images differ in size. The scale is the
            same for all images: 0 is the mean of what the least likely patches of unseen normal
            images reach, and 1 is one standard deviation above. NaN outside of ``mask``.

        Raises
        ------
        ValueError
            If X is invalid or its format differs from that in ``fit``, or if the detector has no
            patch density.
        """
        model = self._get_model_with_maps("anomaly_map")
        inputs = self._read(X)
        maps = list(model.maps(inputs))
        return np.stack(maps) if model.mapped_images(inputs).common_size else maps

    def find_regions(self, X: ImagesLike, *, threshold: float | None = None) -> list[list[Bunch]]:
        """Find the regions in which the anomaly map of an image exceeds a threshold.

        Parameters
        ----------
        X : images, see the user guide
            Images in the same format as in ``fit``. They are read in chunks, as by
            :meth:`score_samples`.
        threshold : float, default=None
            Value of :meth:`anomaly_map` that a region exceeds. None means ``map_threshold_``,
            which about 5 % of unseen normal images exceed anywhere. A lower threshold finds more
            regions, in normal images too.

        Returns
        -------
        list of n_samples lists of :class:`~sklearn.utils.Bunch`
            Connected regions of each image, highest peak first; pixels that touch at a corner
            are connected. An empty list if there is none. Attributes of a region:

            - ``box``: (top, left, bottom, right) in pixels of the image, ``image[top:bottom,
              left:right]``;
            - ``area``: number of pixels;
            - ``peak`` and ``mean``: largest and mean value of the map in the region;
            - ``mask``: boolean array of the size of the box, True in the region.

        Raises
        ------
        ValueError
            If X is invalid or its format differs from that in ``fit``, if the detector has no
            patch density, or if ``threshold`` is not a number.

        Examples
        --------
        >>> from skcoft import COFTDetector
        >>> from skcoft.datasets import make_plates
        >>> plates = make_plates(8, 4, size=128, random_state=0)
        >>> detector = COFTDetector("embedded", max_iter=0).fit(plates.images[:8])
        >>> dent = detector.find_regions(plates.images[8:])[3][0]
        >>> top, left, bottom, right = dent.box
        >>> bool(plates.masks[11][top:bottom, left:right][dent.mask].any())
        True
        """
        model = self._get_model_with_maps("find_regions")
        limit = model.map_threshold if threshold is None else threshold
        if limit is None or not number().test(limit):
            raise ValueError(
                f"threshold must be a finite number, or None if map_threshold_ is one; got "
                f"{limit!r}."
            )
        return [
            regions_from_map(anomaly_map, limit)
            for inputs in self._iter_inputs(X)
            for anomaly_map in model.maps(inputs)
        ]

    def kneighbors(
        self, X: ImagesLike, n_neighbors: int = 1, *, return_distance: bool = True
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Find the training images that are most similar to each image.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Input in the same format as in ``fit``.
        n_neighbors : int, default=1
            Number of training images to find for each image.
        return_distance : bool, default=True
            Whether to return the distances as well.

        Returns
        -------
        distances : ndarray of shape (n_samples, n_neighbors)
            Euclidean distances of embeddings, nearest first. Only with ``return_distance``.
        indices : ndarray of shape (n_samples, n_neighbors)
            Indices of training images, in the order of ``embeddings_``.

        Raises
        ------
        ValueError
            If X is invalid, or if ``n_neighbors`` is not between 1 and the number of training
            images.
        """
        embeddings = fitted_model(self).embeddings
        if not number(Integral, 1, len(embeddings)).test(n_neighbors):
            raise ValueError(
                f"n_neighbors must be an integer between 1 and {len(embeddings)}, the number of "
                f"training images; got {n_neighbors!r}."
            )
        neighbors = NearestNeighbors(n_neighbors=n_neighbors).fit(embeddings)
        return neighbors.kneighbors(self.embed(X), return_distance=return_distance)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted detector to one file, which ``load`` reads.

        The file is in the `safetensors <https://github.com/huggingface/safetensors>`_ format, with
        arrays and JSON. It replaces an earlier file only when it is complete, and holds its own
        SHA-256. It holds embeddings of the training images and, to recognise duplicates,
        thumbnails of 64 × 64 pixels; tabular data is stored as it is. The cache ``memory`` is left
        out. A ``random_state`` that is a ``RandomState`` is stored with its current state.

        Parameters
        ----------
        path : str or path-like
            The file, with any suffix. An existing file is replaced.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        TypeError
            If the detector is of a subclass, or holds an object that a file without code cannot
            hold: an ``nn.Module``, a callable, or a density that is not from skcoft. Use
            ``joblib.dump`` or ``skops.io.dump`` for these.
        ValueError
            If the name of the backbone is only known to a hub or a folder (``"hf-hub:..."``), if
            an attribute was added to the detector, or if the path is that of ``weights``.
        OSError
            If the file cannot be written; FileNotFoundError if its folder does not exist.

        See Also
        --------
        load : Read the file.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from skcoft import COFTDetector
        >>> X = np.random.default_rng(0).normal(size=(20, 5))
        >>> detector = COFTDetector(max_iter=0, random_state=0).fit(X[:8])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "wall.skcoft")
        ...     detector.save(path)
        ...     again = COFTDetector.load(path)
        >>> bool((again.score_samples(X) == detector.score_samples(X)).all())
        True
        """
        check_class(type(self), "save")
        fitted_model(self)
        fitted = dict(vars(self))  # a copy, in case another thread adds to it
        parameters = {name: fitted.pop(name) for name in self.get_params(deep=False)}
        mask = None if self.mask is None else as_mask(self.mask)
        save_detector(path, {**parameters, "memory": None, "mask": mask}, fitted)

    @classmethod
    def load(
        cls, path: str | PathLike[str], device: str | torch.device | None = None
    ) -> "COFTDetector":
        """Read a detector from a file that ``save`` wrote.

        The detector gives the same scores as the saved one. Loading never runs code from the file
        and fetches nothing: the file holds arrays and plain values, from which only skcoft's own
        objects and networks of timm's registry are created. Files of earlier versions can be read.

        Parameters
        ----------
        path : str or path-like
            The file.
        device : str, torch.device or None, default=None
            Device of the network, which also becomes the parameter ``device``. None means the
            device that was saved or, if it is not available, the first CUDA device, else the CPU.

        Returns
        -------
        COFTDetector
            The fitted detector, with ``memory=None``.

        Raises
        ------
        FileNotFoundError
            If the file does not exist.
        TypeError
            If ``load`` is called on a subclass.
        ValueError
            If the file is not a model file, is damaged or incomplete, was changed after it was
            saved, or was written by a newer skcoft, or if the device is not available.

        See Also
        --------
        save : Write the file.
        """
        check_class(cls, "load")
        return load_detector(cls, path, device)

    def to_onnx(self, path: str | PathLike[str], X: ImagesLike) -> dict[str, float]:
        """Write one ONNX file that computes everything from pixels to the decision.

        The file takes any number of images of one shape, that of X, as float32 ``(n, 3, H, W)``
        with values 0..1, or tabular data as float64 ``(n, d)``. It returns ``score``,
        ``decision``, ``label`` and, if the detector draws maps, ``anomaly_map``; see the user
        guide.

        The file does not recognise training images: it scores them as new images, which look more
        normal than by ``score_samples``.

        Before it is written, the file is run on X by ``onnxruntime`` and compared with the
        detector on a CPU. Runtimes round single precision differently. So scores may differ by
        0.001 standard deviations of the held-out scores plus 1e-5 of the distance from the
        threshold. Maps may differ by 1e-3 plus 1e-5 of the value. Labels may differ if the
        decision is that close.

        Parameters
        ----------
        path : path
            The file. An existing file is replaced.
        X : images or tabular data, see the user guide
            A few images for the comparison, such as the training images, in the same format as in
            ``fit``. Images have the one shape that the file will take; the file resizes them as
            the detector does.

        Returns
        -------
        dict of str to float
            Largest difference of ``"score"``, in nats, and of ``"anomaly_map"``. The metadata of
            the file hold them too, with the versions of skcoft and torch.

        Raises
        ------
        ImportError
            If onnx, onnxruntime or onnxscript is missing.
        ValueError
            If X is invalid, if its images differ in shape, if the density is not from skcoft, or
            if the path is that of an image of X.
        FileNotFoundError
            If the folder of ``path`` does not exist.
        RuntimeError
            If torch cannot export the backbone, or if onnxruntime cannot run the file or computes
            something else. Nothing is written then.

        Examples
        --------
        >>> import numpy as np, os, skcoft, tempfile
        >>> X = np.random.default_rng(0).normal(size=(12, 5))
        >>> detector = skcoft.COFTDetector(max_iter=0, random_state=0).fit(X[:8])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     differences = detector.to_onnx(os.path.join(folder, "rows.onnx"), X)
        >>> differences["score"] < 1e-3
        True
        """
        model = fitted_model(self)
        path, X = check_export(path), without_stream(X)
        refuse_input("path=", path, index_inputs(X=X))
        differences = export_onnx(path, model, self._read(X))
        if self.verbose:
            print(f"{path} differs from the detector by {differences} at most.")
        return differences

    @property
    def classes_(self) -> np.ndarray:
        """Labels -1 (anomalous) and +1 (normal)."""
        fitted_model(self)
        return np.array([-1, 1])

    @property
    def offset_(self) -> float:
        """Threshold of ``score_samples``."""
        return fitted_model(self).threshold.value

    @offset_.setter
    def offset_(self, value: float) -> None:
        check_argument("offset_", value, number())
        self._model = fitted_model(self).with_threshold(value, f"offset_={value:.6g}")

    @property
    def density_(self) -> Any:
        """Fitted density of whole images, or a list of these."""
        scores = fitted_model(self).full_size_scores
        return unwrap_single([score.fitted_density for score in scores])

    @property
    def map_threshold_(self) -> float | None:
        """Value of anomaly maps above which a region begins."""
        return fitted_model(self).map_threshold

    @property
    def calibration_scores_(self) -> np.ndarray:
        """Calibration scores, from which p-values are computed."""
        return fitted_model(self).calibration_scores

    @property
    def held_out_scores_(self) -> np.ndarray:
        """Score of each training image by densities of the other shots."""
        return fitted_model(self).joint.held_out_image_scores()

    @property
    def embeddings_(self) -> np.ndarray:
        """L2-normalised embeddings of the training images."""
        return fitted_model(self).embeddings

    @property
    def shot_ids_(self) -> np.ndarray:
        """Shot of each training image."""
        return fitted_model(self).registry.ids

    @property
    def suspect_shots_(self) -> np.ndarray:
        """Indices of the training images that may not be normal."""
        return fitted_model(self).suspect_images

    history_ = property(attrgetter("embedder_.history_"), doc="Loss per iteration.")
    n_iter_ = property(attrgetter("embedder_.n_iter_"), doc="Number of fine-tuning iterations.")
    tuned_ = property(attrgetter("embedder_.tuned_"), doc="Whether the backbone was fine-tuned.")
    device_ = property(attrgetter("embedder_.device_"), doc="Device in use.")
    weights_ = property(attrgetter("embedder_.weights_"), doc="Source of the initial weights.")

    def _get_model_with_maps(self, method: str) -> FittedModel:
        """Return the fitted model; raise ValueError if it has no maps."""
        model = fitted_model(self)
        if not model.has_maps:
            raise ValueError(
                f"{method} needs images, local other than False and a backbone with feature maps "
                f"(timm, or a module that returns them); got local={self.local!r}, "
                f"backbone={self.backbone!r}."
            )
        return model

    def _read(self, X: ImagesLike | Source, first: int = 0) -> Any:
        """Return validated input in the format of the fit."""
        model = fitted_model(self)
        inputs = read_input(X, ReadOptions.of(self), first=first)
        check_columns(self, inputs, reset=False)
        return model.match(inputs)

    def _iter_inputs(self, X: ImagesLike) -> Iterator[Any]:
        """Yield X as validated input, chunk by chunk."""
        model = fitted_model(self)
        for first, chunk in iter_chunks(X):
            yield from model.iter_chunks(self._read(chunk, first))

    def _score_readable(self, X: ImagesLike) -> np.ndarray:
        """Score the readable images; return NaN for the others and warn of them."""
        scores, unreadable = fitted_model(self).score_readable(X, self._read, self.memory)
        if unreadable:
            positions = list_names([f"X[{image.index}]" for image in unreadable])
            reasons = " ".join(image.reason for image in unreadable[:MAX_NAMED_IMAGES])
            warn_user(
                f"{len(unreadable)} of {len(scores)} images are unreadable: {positions}. "
                f"Their scores are NaN, and they count as anomalous. {reasons}"
            )
        return scores

    def _warn_of_suspects(self, inputs: Any, y: Any, kept: np.ndarray | None = None) -> None:
        """Name the suspect shots among the normal images of a call; earlier calls had some.

        ``kept`` are the positions of the images that the detector keeps, None for all of them. If
        ``contamination`` is a number, the user knows that some images are anomalous.
        """
        suspects = self.suspect_shots_
        if kept is not None:
            n_earlier = len(self.shot_ids_) - len(kept)
            suspects = kept[suspects[suspects >= n_earlier] - n_earlier]
        if self.contamination != "auto" or not len(suspects):
            return
        positions = normal_positions(y, len(inputs))[suspects]
        names = list_names([inputs.name_of(int(i)) for i in positions])
        if len(suspects) == 1:
            subject = "a training image"
            advice = (
                "If it shows a defect or another object, leave it out and fit again. If it is "
                "normal, add images like it."
            )
        else:
            subject = f"{len(suspects)} training images"
            advice = (
                "Leave out those with a defect or another object and fit again. If they are "
                "normal, add images like them."
            )
        warn_user(f"X holds {subject} far less normal than the others: {names}. {advice}")

    def _warn_of_duplicates(self, scores: np.ndarray, n_duplicates: int) -> None:
        """Warn if calibration images are training images, or duplicates of each other."""
        if n_duplicates:
            warn_user(
                f"{n_duplicates} of the {len(scores)} images of X are training images. The "
                "network was trained on them, so they may look more normal than unseen images, "
                "and more of these will be flagged than max_fpr says. Pass other images."
            )
        n_equal = len(scores) - len(np.unique(scores))
        if n_equal and fitted_model(self).defaults.warns_of_equal_scores:
            warn_user(
                f"{n_equal} of the {len(scores)} images of X have exactly the score of another "
                "one, as duplicates have. Duplicates count as one image, so more unseen images "
                "may be flagged than max_fpr says. Leave them out."
            )

    def _warn_of_low_scores(self, scores: np.ndarray, names: list[str], max_fpr: float) -> None:
        """Warn of calibration images with suspect scores, if one of them sets the threshold."""
        offset, suspects = conformal_offset(scores, max_fpr), np.flatnonzero(is_suspect(scores))
        if not (scores[suspects] >= offset).any():
            return
        others = np.delete(scores, suspects)
        suspects = suspects[np.argsort(scores[suspects])]
        warn_user(
            f"{len(suspects)} of the {len(scores)} images of X score far below the others and "
            f"pull the threshold down to {offset:.6g}: {list_names([names[i] for i in suspects])}."
            f" The lowest score of the others is {others.min():.6g}. Look at these images. Leave "
            "out those with a defect, or fit on images like them."
        )

    def _warn_of_moved_threshold(self, replaced: str | None) -> None:
        """Warn if ``partial_fit`` replaced a threshold that the user had set."""
        if replaced is not None:
            warn_user(
                f"partial_fit replaced the threshold set by {replaced}. It follows "
                f"contamination={self.contamination!r} now. Set the threshold again."
            )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(upgrade_detector_state(state))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags = ClassifierTags(multi_class=False)  # what score takes as y
        return tags


def list_names(names: list[str]) -> str:
    """Return the first names for a message."""
    n_more = len(names) - MAX_NAMED_IMAGES
    return ", ".join(names[:MAX_NAMED_IMAGES]) + (f" and {n_more} more" if n_more > 0 else "")


def check_class(cls: type, method: str) -> None:
    """Raise TypeError for a subclass, whose methods a model file does not hold."""
    if cls is not COFTDetector:
        advice = {
            "save": "Store it with joblib.dump, or fit a COFTDetector.",
            "load": "Call COFTDetector.load.",
        }
        raise TypeError(
            f"A model file holds a COFTDetector and no code, but {method} was called on the "
            f"subclass {cls.__module__}.{cls.__qualname__}, which may decide otherwise. "
            f"{advice[method]}"
        )


def check_parameters_of_fit(
    detector: COFTDetector, embedder: COFTEmbedder, model: FittedModel
) -> None:
    """Raise ValueError if a parameter that ``partial_fit`` does not use was changed after fit.

    ``local`` and ``prompts`` are checked when the components are made.
    """
    current, earlier = embedder_parameters(detector), embedder_parameters(embedder)
    changed = [name for name in current if not is_same_value(current[name], earlier[name])]
    scales = [scale for _, scale in scored_scales(detector, model.encoders)]
    if scales != [score.scale for score in model.joint.backbone_scores]:
        changed.append("multiscale")
    if not all(score.has_views_of(detector.n_views) for score in model.joint.backbone_scores):
        changed.append("n_views")
    changed = [name for name in changed if name not in PARTIAL_FIT_PARAMETERS]
    if changed:
        names = ", ".join(changed)
        verb = "differs from its value" if len(changed) == 1 else "differ from their values"
        raise ValueError(
            f"{names} {verb} in fit, but partial_fit keeps the network and the embeddings of fit. "
            "Call fit with all images, or restore the earlier value."
        )


def fitted_model(detector: COFTDetector) -> FittedModel:
    """Return the model of a fitted detector; raise NotFittedError before the fit."""
    check_is_fitted(detector, "_model")
    return vars(detector)["_model"]
