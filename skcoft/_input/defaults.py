"""What differs between images and tabular data if a parameter is left at its default."""

from dataclasses import dataclass


@dataclass(frozen=True)
class InputDefaults:
    """Defaults of one type of input.

    Attributes
    ----------
    description : str
        How messages call the input.
    learning_rate : float
        Learning rate for ``learning_rate="auto"``. It is small for images because a larger one
        destroys pre-trained features.
    cpu_batch_size, accelerator_batch_size : int
        Largest number of samples that the network processes at once.
    kernel_covariance : str
        ``covariance_type`` of the kernel density for ``density="kde"``.
    trains_on_one_shot : bool
        Whether a single shot is fine-tuned for ``learning_rate="auto"``. A single image is not:
        against synthesised anomalies alone it lost accuracy in our measurements.
    fits_densities_on_views : bool
        Whether densities are fitted on views for ``n_views="auto"``. Views of photographs cost
        accuracy in our measurements; mirror images do not.
    ignores_class_labels : bool
        Whether the detector ignores class labels in y, which pipelines pass to every step. With
        images they are more likely a mistake.
    mismatch_hint : str
        What to do if an estimator was fitted on the other type of input; may be empty.
    """

    description: str
    learning_rate: float
    cpu_batch_size: int
    accelerator_batch_size: int
    kernel_covariance: str
    trains_on_one_shot: bool
    fits_densities_on_views: bool
    ignores_class_labels: bool
    mismatch_hint: str


# On a CPU small batches of images are as fast as large ones.
IMAGE_DEFAULTS = InputDefaults("images", 2e-5, 8, 64, "full", False, False, False, "")
TABULAR_DEFAULTS = InputDefaults(
    *("tabular data", 1e-3, 256, 256, "spherical", True, True, True),
    mismatch_hint=" If X is one image, pass X[None]. If its rows are images, set image_shape.",
)


def check_same_type(fitted: InputDefaults, passed: InputDefaults) -> None:
    """Raise ValueError if X is of another type than in ``fit``, by the defaults of both."""
    if fitted != passed:
        raise ValueError(
            f"X holds {passed.description}, but the estimator was fitted on "
            f"{fitted.description}.{passed.mismatch_hint}"
        )
