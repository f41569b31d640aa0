"""What the displays share in reading: of any X the images to draw, of a pipeline its detector."""

import torch
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._detector import COFTDetector
from .._input.reader import ReadOptions, read_input
from .._input.recognize import as_rereadable


def split_pipeline(estimator, kinds=(COFTDetector,)):
    """Return the fitted detector and, of a pipeline, the function that X goes through before."""
    before = as_rereadable
    if isinstance(estimator, Pipeline):
        steps, estimator = estimator[:-1], estimator[-1]
        if len(steps):
            before = lambda X: steps.transform(as_rereadable(X))  # noqa: E731
    if not isinstance(estimator, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(
            f"The estimator must be a {names}, or a pipeline that ends in one; got "
            f"{type(estimator).__name__}."
        )
    check_is_fitted(estimator)
    return estimator, before


def pictures_for(detector, X, name="X"):
    """Return the images of X, as arrays (H, W, 3) of uint8, as a fitted detector reads them."""
    return _pictures(ReadOptions.of(detector), X, name, detector.embedder_.encoders_[0])


def pictures_of(X, name, bit_depth=None):
    """Return the images of X, as arrays (H, W, 3) of uint8, read without a detector."""
    return _pictures(ReadOptions(bit_depth=bit_depth), as_rereadable(X), name)


def _pictures(options, X, name, encoder=None):
    """Read the images; without an encoder, the bit depth of whole numbers is found from them.

    Of several images a sample, those of the first modality.
    """
    try:
        inputs = read_input(X, options)
        if inputs.input_type != "images":
            raise ValueError(
                f"images are needed to draw, X has {len(inputs)} rows of features. Of flattened "
                "images, pass X.reshape(-1, H, W), or fit with image_shape=(H, W)."
            )
        inputs = (
            encoder.select_modality(inputs) if encoder else next(iter(inputs.by_modality.values()))
        )
        depth = (
            inputs.bit_depth if encoder is None or encoder.bit_depth is None else encoder.bit_depth
        )
        images = [
            inputs.load(torch.tensor([i]), size, depth)[0] for i, size in enumerate(inputs.sizes)
        ]
    except ValueError as error:
        if name == "X":
            raise
        raise ValueError(f"Cannot read {name} as X: {error}") from error
    return [(image * 255).round().byte().permute(1, 2, 0).numpy() for image in images]


def check_captions(captions, n_images):
    """Raise ValueError unless there is a caption for each image, or none."""
    if captions is not None and (isinstance(captions, str) or len(captions) != n_images):
        raise ValueError(
            f"captions must hold one text for each of the {n_images} images; got {captions!r}."
        )
