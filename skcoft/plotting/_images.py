"""What the displays share for reading: the images of any X and the detector of a pipeline."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._detector import COFTDetector
from .._input.reader import ReadOptions, read_input
from .._input.recognize import as_rereadable
from .._input.types import ImagesLike
from .._network.encoder import Encoder
from ..report._images import load_image, to_uint8


def split_pipeline(
    estimator: BaseEstimator, types: tuple[type, ...] = (COFTDetector,)
) -> tuple[Any, Callable[[ImagesLike], ImagesLike]]:
    """Return the fitted detector and the function that prepares X for it.

    That function applies the earlier steps of a pipeline.
    """
    prepare = as_rereadable
    if isinstance(estimator, Pipeline):
        steps, estimator = estimator[:-1], estimator[-1]
        if len(steps):
            prepare = lambda X: steps.transform(as_rereadable(X))  # noqa: E731
    if not isinstance(estimator, types):
        names = " or ".join(allowed.__name__ for allowed in types)
        raise TypeError(
            f"The estimator is a {type(estimator).__name__}. Pass a {names}, or a pipeline that "
            "ends in one."
        )
    check_is_fitted(estimator)
    return estimator, prepare


def load_images_like(detector: COFTDetector, X: ImagesLike, name: str = "X") -> list[np.ndarray]:
    """Return the images of X as a fitted detector reads them: uint8 arrays (H, W, 3)."""
    return _load_images(ReadOptions.of(detector), X, name, detector.embedder_.encoders_[0])


def load_images(X: ImagesLike, name: str, bit_depth: int | None = None) -> list[np.ndarray]:
    """Return the images of X as uint8 arrays (H, W, 3)."""
    return _load_images(ReadOptions(bit_depth=bit_depth), as_rereadable(X), name)


def _load_images(
    options: ReadOptions,
    X: ImagesLike,
    name: str,
    encoder: Encoder | None = None,
) -> list[np.ndarray]:
    """Read images by these options; without an encoder, detect the bit depth.

    Samples of several modalities are represented by the first one.
    """
    try:
        inputs = read_input(X, options)
        if not inputs.defaults.needs_backbone:
            raise ValueError(
                f"X holds {len(inputs)} rows of tabular data, but displays need images. If the "
                "rows are flattened images, pass X.reshape(-1, H, W), or fit with "
                "image_shape=(H, W)."
            )
        inputs = (
            encoder.select_modality(inputs) if encoder else next(iter(inputs.by_modality.values()))
        )
        bit_depth = encoder.bit_depth if encoder else inputs.bit_depth
        return [to_uint8(load_image(inputs, i, bit_depth)) for i in range(len(inputs))]
    except ValueError as error:
        if name == "X":
            raise
        raise ValueError(f"Cannot read {name} as X: {error}") from error
