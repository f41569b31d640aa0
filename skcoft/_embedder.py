"""COFTEmbedder: images to embeddings of a contrastively fine-tuned backbone."""

from copy import deepcopy
from numbers import Integral
from os import PathLike

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from ._backbone import build_backbone
from ._finetune import Contrast, fine_tune
from ._images import Images, read_input, take
from ._inference import batch_size, embed, make_loader, resolve_device
from ._random import draw_seed, seeded
from ._rows import RowsNetwork
from ._validation import any_of, check_parameters, number, one_of
from ._views import VIEW_OPTIONS, make_synthesizer, make_views
from .augmentation import SYNTHESIZERS

LEARNING_RATE = {"images": 2e-5, "rows": 1e-3}
POSITIVE_WEIGHT = 1 / 8, 2.0  # of "auto": per shot, and at most

_path = (lambda v: isinstance(v, (str, PathLike)), "'pretrained' or a path")
_shape = (
    lambda v: isinstance(v, (tuple, list)) and all(isinstance(s, Integral) and s > 0 for s in v),
    "a tuple of sizes",
)
_none = one_of(None)
_callable = (callable, "a callable")
_negative = any_of(one_of(*SYNTHESIZERS, "labelled"), _callable)
_list = (
    lambda v: isinstance(v, (list, tuple)) and len(v) > 0 and all(_negative[0](n) for n in v),
    "a list of these",
)
_amount = number(low=0)
_view_options = (
    lambda v: (
        isinstance(v, dict)
        and set(v) <= set(VIEW_OPTIONS)
        and all(_amount[0](amount) for amount in v.values())
    ),
    f"a dict from {', '.join(VIEW_OPTIONS)} to numbers >= 0",
)
_pair = (lambda v: _shape[0](v) and len(v) == 2, "(H, W)")
_flat_shape = (lambda v: _shape[0](v) and len(v) in (2, 3), "(H, W) or (H, W, C)")

EMBEDDER_CONSTRAINTS = {
    "backbone": any_of(
        (lambda v: isinstance(v, str), "'embedded', a timm architecture name"),
        (lambda v: isinstance(v, torch.nn.Module), "an nn.Module"),
    ),
    "weights": any_of(_path, _none),
    "image_size": any_of(number(Integral, 1), _pair, _none),
    "image_shape": any_of(_flat_shape, _none),
    "max_iter": number(Integral, 0),
    "batch_size": number(Integral, 1),
    "learning_rate": any_of(number(low=0, open_low=True), one_of("auto")),
    "contrastive": one_of("mean_shifted", "infonce", "simsiam"),
    "temperature": number(low=0, open_low=True),
    "positive_weight": any_of(number(low=0), one_of("auto")),
    "negative_weight": number(low=0),
    "negatives": any_of(_negative, _list, _none),
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
        Family of the contrastive term. The default spreads shots only about their centre; of the
        three it is the one that gained on the mean in our measurements.
    temperature : float, default=0.25
        Temperature of the first two families. Not used by ``"simsiam"``.
    positive_weight : float or "auto", default="auto"
        Weight λ_PP of the cross-instance positive pairs; 0 turns the term off. ``"auto"`` means
        an eighth of the number of shots, 2 at most: the fewer the shots, the less the contrastive
        term holds them apart, and drawn together more strongly they would lie tighter than unseen
        normal images do.
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
        mirror image is an anomaly. A callable gets one image tensor ``(3, H, W)`` in 0..1 at a
        time and returns one of the same shape, for example a ``torchvision.transforms.v2``
        pipeline. On rows it gets one row. Randomness that it takes from torch is seeded.
    device : str, torch.device or None, default=None
        Where the network runs; None means CUDA where there is one, else the CPU.
    n_jobs : int or None, default=None
        Threads that decode images of a sequence; None means 1.
    random_state : int, RandomState or None, default=None
        Seed of random weights, views, negatives and batches.
    verbose : int, default=0
        1 shows a progress bar while fine-tuning.

    Attributes
    ----------
    network_ : torch.nn.Module
        The fine-tuned network.
    history_ : dict of str to ndarray of shape (n_iterations,)
        ``"loss"`` and its terms ``"contrastive"``, ``"positive"``, ``"negative"`` (unweighted).
    n_iter_ : int
        Iterations done.
    device_ : str
        Device in use.
    image_size_ : tuple (H, W) or None
        Size that images are resized to; None for rows.
    n_features_in_ : int
        Number of columns, where X is two-dimensional.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where X has them.

    See Also
    --------
    COFTDetector : The embedder with a density and a threshold.

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
        device=None,
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
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None):
        """Fine-tune the backbone on normal images.

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
        self._fit(read_input(self, X, reset=True), y)
        return self

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
        check_is_fitted(self, "network_")
        return self._embed(self._check_kind(read_input(self, X, reset=False)))[0]

    def _fit(self, inputs, y=None):
        """Fine-tune on validated inputs; return those of them that are normal."""
        normals, anomalies = self._split(inputs, y)
        trains, single = self.max_iter > 0, len(normals) == 1
        if single and self.learning_rate == "auto" and isinstance(inputs, Images):
            trains = trains and anomalies is not None
        contrasts_one = self.contrastive == "simsiam" or self._uses_negatives()
        if trains and single and not contrasts_one:
            raise ValueError(
                "X holds one image (n_samples=1) and there is nothing to contrast it with: "
                f"negatives={self.negatives!r}, negative_weight={self.negative_weight}. Pass at "
                "least 2 images, negatives='cutpaste' with negative_weight > 0, or max_iter=0."
            )
        device = resolve_device(self.device)
        generator = torch.Generator(device)
        generator.manual_seed(int(check_random_state(self.random_state).randint(2**31 - 1)))
        network_seed, head_seed, view_seed = (draw_seed(generator) for _ in range(3))
        if isinstance(inputs, Images):
            network, size = build_backbone(
                self.backbone, self.weights, self.image_size, normals.common_size, network_seed
            )
        else:
            network, size = RowsNetwork(normals, network_seed).eval(), None
        network.to(device)
        load = make_loader(normals, size, device, cache=True)
        with torch.inference_mode():
            width = network(load(torch.arange(1))).shape[1]
        history = {}
        if trains:
            labelled = None
            if anomalies is not None:
                labelled = make_loader(anomalies, size, device, cache=True), len(anomalies)
            history = self._fine_tune(
                network, load, len(normals), size, labelled, head_seed, generator
            )
        self.network_ = network
        self.device_ = str(device)
        self.image_size_ = size
        self.history_ = history
        self.n_iter_ = len(history.get("loss", ()))
        self._n_features_out = width
        self._view_seed = view_seed
        return normals

    def _fine_tune(self, network, load, n_shots, size, labelled, head_seed, generator):
        """Train ``network`` in place; ``labelled`` is (loader, number) of anomalies or None."""
        device, rows = generator.device, size is None
        views = make_views(self.augmentation, network)
        synthesize = None
        if self._uses_negatives():
            synthesize = make_synthesizer(self.negatives, network, labelled, views)
        for function in (views, synthesize):
            if function is not None:  # a callable that fails does so before any training
                function(load(torch.arange(1)), torch.Generator(device).manual_seed(0))
        piece = batch_size(device, rows)
        center = torch.from_numpy(embed(network, load, n_shots, piece)[0].mean(axis=0))
        with seeded(head_seed):
            contrast = Contrast(
                self.contrastive, len(center), center.float().to(device), self.temperature
            )
        rate = self.learning_rate
        if rate == "auto":
            rate = LEARNING_RATE["rows" if rows else "images"]
        positive_weight = self.positive_weight
        if positive_weight == "auto":
            per_shot, most = POSITIVE_WEIGHT
            positive_weight = min(per_shot * n_shots, most)
        return fine_tune(
            network,
            contrast.to(device),
            load,
            n_shots,
            views=views,
            synthesize=synthesize,
            positive_weight=positive_weight,
            negative_weight=self.negative_weight,
            max_iter=self.max_iter,
            batch_size=self.batch_size,
            learning_rate=rate,
            generator=generator,
            piece=piece,
            verbose=self.verbose,
        )

    def _uses_negatives(self):
        return self.negatives is not None and self.negative_weight > 0

    def _split(self, inputs, y):
        """Split validated inputs into normals and labelled anomalies (None where not used)."""
        normals, anomalies = split_by_label(inputs, y)
        kinds = self.negatives if isinstance(self.negatives, (list, tuple)) else [self.negatives]
        if "labelled" not in kinds:
            return normals, None
        if y is None:
            raise ValueError("negatives='labelled' requires y, with -1 for anomalies; got None.")
        if anomalies is None or -1 not in np.asarray(y):
            raise ValueError(
                "negatives='labelled' needs y of both +1 (normal) and -1 (anomaly); got labels "
                f"{np.unique(y).tolist()}."
            )
        return normals, anomalies

    def _check_kind(self, inputs):
        if isinstance(inputs, Images) == (self.image_size_ is None):
            kinds = "rows of features", "images"
            fitted, got = kinds if isinstance(inputs, Images) else kinds[::-1]
            hint = " For flattened images set image_shape." if got == kinds[0] else ""
            raise ValueError(f"The estimator was fitted on {fitted}, X holds {got}.{hint}")
        return inputs

    @property
    def _has_positions(self):
        return getattr(self.network_, "depths", None) is not None

    @property
    def _mirrors(self):
        """Whether views are mirrored, so that a mirror image is as normal as an image."""
        if self.image_size_ is None or callable(self.augmentation):
            return False
        return (self.augmentation or {}).get("flip", VIEW_OPTIONS["flip"]) > 0

    def _embed(self, inputs, local=None, mirror=False):
        embeddings, _, made = self._embed_views(inputs, 0, local=local, mirror=mirror)
        return embeddings, made

    def _embed_views(self, inputs, n_views, first_shot=0, local=None, mirror=False):
        """Embed the inputs, with ``mirror`` their mirror images, and ``n_views`` views of each.

        Returns embeddings (n * (n_views + 1 or 2), d), the inputs' own first; the shot of each
        row, counted from ``first_shot``; what ``local`` makes of local embeddings, or None.
        """
        n, device = len(inputs), torch.device(self.device_)
        size = batch_size(device, self.image_size_ is None)
        load = make_loader(inputs, self.image_size_, device, cache=n_views > 0)
        generator = torch.Generator(device).manual_seed(self._view_seed + first_shot)
        views = make_views(self.augmentation, self.network_)

        def load_view(index):
            return views(load(index), generator)

        shots = np.tile(np.arange(n) + first_shot, n_views + 1 + mirror)
        embeddings, made = embed(self.network_, load, n, size, local, mirror)
        if n_views == 0:
            return embeddings, shots, made
        # filled part by part: with many shots, positions take most of the memory
        filled, embeddings = len(embeddings), _lengthened(embeddings, len(shots))
        made = None if local is None else _lengthened(made, len(shots))
        for start in range(filled, len(shots), n):
            rows = slice(start, start + n)
            embeddings[rows], part = embed(self.network_, load_view, n, size, local)
            if local is not None:
                made[rows] = part
        return embeddings, shots, made

    def __getstate__(self):
        state = dict(super().__getstate__())
        if "network_" in state:
            state["network_"] = deepcopy(state["network_"]).cpu()
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "network_" in state:
            device = torch.device(self.device_)
            if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
                self.device_ = "cuda:0" if torch.cuda.is_available() else "cpu"
            self.network_.to(self.device_)


def _lengthened(array, length):
    """Copy the array and leave room for more rows."""
    out = np.empty((length, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out


def split_by_label(inputs, y):
    """Split validated inputs into normals and anomalies (None where y names none)."""
    if y is None:
        return inputs, None
    y = column_or_1d(y)
    check_consistent_length(inputs, y)
    labels = set(y.tolist())
    if not labels <= {-1, 1} and not labels <= {0, 1}:
        return inputs, None
    if 1 not in labels:
        raise ValueError(f"y holds no normal image (y == 1) to train on among n_samples={len(y)}.")
    return take(inputs, y == 1), take(inputs, y != 1) if len(labels) > 1 else None
