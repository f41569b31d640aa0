"""COFTEmbedder: images to embeddings of a contrastively fine-tuned backbone."""

from collections.abc import Callable, Iterator
from os import PathLike
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ._input.chunks import iter_chunks
from ._input.columns import check_columns
from ._input.mask import as_mask
from ._input.reader import ReadOptions, read_input
from ._input.recognize import as_rereadable
from ._input.types import ImagesLike
from ._network.default_backbone import DEFAULT_BACKBONE
from ._network.encoder import Encoder, concat_embeddings, match_inputs
from ._parameters import EMBEDDER_CONSTRAINTS, with_shared_docs
from ._training.data import TrainingData
from ._training.encoders import History, fit_encoders
from ._utils.estimator_state import VersionedEstimator, reset_columns, restored_on_failure
from ._utils.params import as_list, as_python_numbers, check_parameters, unwrap_single
from ._utils.settings import EmbedderSettings
from ._utils.torch_context import torch_defaults


@with_shared_docs
class COFTEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, VersionedEstimator):
    """Embed images by a backbone that is fine-tuned on a few normal images.

    The backbone starts from weights trained on a large source data set. It is fine-tuned with the
    objective of COFT-AD (see :mod:`skcoft.losses`): contrastive learning on views of the training
    images (shots), cross-instance positive pairs, and negative pairs. :class:`COFTDetector` adds
    the density and the threshold.

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
    {device}
    {n_jobs}
    {random_state}
    {verbose}

    Attributes
    ----------
    encoders_ : list of Encoder
        For each backbone the fine-tuned network, with everything that is needed to embed images.
    network_ : torch.nn.Module
        The fine-tuned network.
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
    image_size_ : tuple (H, W) or None
        Size that images of the training images' shape are resized to. None for tabular data.
    n_features_in_ : int
        Number of columns of X. Only if X is two-dimensional.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of X. Only if X has column names.

    See Also
    --------
    COFTDetector : The embedder with a density and a threshold.

    Notes
    -----
    With several backbones, or several images per sample, embeddings are concatenated at unit
    length, and ``network_``, ``history_``, ``n_iter_``, ``tuned_``, ``weights_`` and
    ``image_size_`` are lists.

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
        device: str | torch.device | None = None,
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
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: ImagesLike, y: Any = None, groups: Any = None) -> Self:
        """Fine-tune the backbone on normal images.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            1 or more normal images, and anomalies if y marks them.
        y : array-like of shape (n_samples,), default=None
            +1 for normal, -1 for anomalous; None means that all images are normal. Anomalies are
            left out, unless ``negatives="labelled"``: then the network is trained against them.
            Class labels, which a pipeline passes to every step, are ignored with a warning.
            Booleans and text are an error.
        groups : array-like of shape (n_samples,), default=None
            Group of each image, such as a burst of photographs of one part. The images of a group
            count as one shot in the objective. Duplicates are found without it.

        Returns
        -------
        COFTEmbedder
            The fitted embedder.

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
        check_parameters(self, EMBEDDER_CONSTRAINTS)
        with restored_on_failure(self), torch_defaults():
            reset_columns(self)
            parameters = embedder_parameters(self)
            inputs = read_input(X, ReadOptions.of(self))
            check_columns(self, inputs, reset=True)
            inputs = inputs.masked(parameters["mask"])
            data = TrainingData.of(self, inputs, y, groups, allow_class_labels=True)
            encoders, histories = fit_encoders(parameters, data)
            self.encoders_, self.history_ = encoders, unwrap_single(histories)
        return self

    def fit_transform(self, X: ImagesLike, y: Any = None, groups: Any = None) -> np.ndarray:
        """Fit, then embed all images of X.

        Parameters
        ----------
        X : images or tabular data, see the user guide
            Training images, as in ``fit``.
        y : array-like of shape (n_samples,), default=None
            As in ``fit``. Anomalies are left out of the fit but are embedded as well.
        groups : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, d)
            L2-normalised embeddings, float64.

        Raises
        ------
        ValueError
            As in ``fit``.
        """
        X = as_rereadable(X)
        return self.fit(X, y, groups).transform(X)

    def transform(self, X: ImagesLike) -> np.ndarray:
        """Embed images.

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
        check_is_fitted(self, "encoders_")
        return np.concatenate([self._embed(inputs) for inputs in self._iter_inputs(X)])

    @torch_defaults()
    def _embed(self, inputs: Any) -> np.ndarray:
        return concat_embeddings([encoder.embed(inputs) for encoder in self.encoders_])

    def _iter_inputs(self, X: ImagesLike) -> Iterator[Any]:
        """Yield X as validated input, chunk by chunk."""
        for first, chunk in iter_chunks(X):
            inputs = read_input(chunk, ReadOptions.of(self), first=first)
            check_columns(self, inputs, reset=False)
            yield from match_inputs(self.encoders_, inputs).iter_chunks(self.encoders_)

    @property
    def network_(self) -> Any:
        """The fine-tuned network."""
        return unwrap_single([encoder.network for encoder in self.encoders_])

    @property
    def device_(self) -> str:
        """Device in use."""
        return self.encoders_[0].device

    @property
    def weights_(self) -> Any:
        """Source of the initial weights."""
        return unwrap_single([encoder.network.origin for encoder in self.encoders_])

    @property
    def image_size_(self) -> Any:
        """Size (H, W) that images of the training images' shape are resized to."""
        return unwrap_single([encoder.image_size for encoder in self.encoders_])

    @property
    def n_iter_(self) -> Any:
        """Number of fine-tuning iterations."""
        return unwrap_single([len(history.get("loss", ())) for history in as_list(self.history_)])

    @property
    def tuned_(self) -> Any:
        """Whether the backbone was fine-tuned."""
        return unwrap_single([count > 0 for count in as_list(self.n_iter_)])

    @property
    def _n_features_out(self) -> int:
        return sum(encoder.network.width for encoder in self.encoders_)


EMBEDDER_PARAMETERS = tuple(COFTEmbedder().get_params(deep=False))


def embedder_parameters(settings: EmbedderSettings) -> dict[str, Any]:
    """Return the parameters of an embedder, from an embedder or a detector.

    Numbers are Python's, and a mask is an array.
    """
    parameters = {name: getattr(settings, name) for name in EMBEDDER_PARAMETERS}
    mask = parameters.pop("mask")
    return {
        **{name: as_python_numbers(value) for name, value in parameters.items()},
        "mask": None if mask is None else as_mask(mask),
    }


def make_embedder(
    parameters: dict[str, Any],
    encoders: list[Encoder],
    histories: list[History],
    columns: dict[str, Any],
) -> COFTEmbedder:
    """Return a fitted embedder with encoders that were fine-tuned before.

    ``columns`` holds the fitted attributes that describe the columns of X.
    """
    embedder = COFTEmbedder(**parameters)
    embedder.__dict__.update(encoders_=encoders, history_=unwrap_single(histories), **columns)
    return embedder
