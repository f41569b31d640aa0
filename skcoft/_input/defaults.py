"""What differs between images and tabular data if a parameter is left at its default."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class InputDefaults:
    """Defaults of one type of input.

    Attributes
    ----------
    description : str
        How messages call the input.
    learning_rate : float
        Learning rate of whole networks for ``learning_rate="auto"``. It is small for images
        because a larger one destroys pre-trained features.
    cpu_batch_size, accelerator_batch_size : int
        Largest number of samples that the network processes at once.
    max_shots : int
        Number of shots that ``partial_fit`` keeps. More images gained little in our measurements,
        and every call takes longer with more of them. Rows of a table are cheap.
    kernel_covariance : {"spherical", "full"}
        ``covariance_type`` of the kernel density for ``density="kde"``.
    trains_on_one_shot : bool
        Whether a single shot is fine-tuned for ``learning_rate="auto"``. A single image is not:
        against synthesised anomalies alone it lost accuracy in our measurements.
    fits_densities_on_views : bool
        Whether densities are fitted on views for ``n_views="auto"``. Views of photographs cost
        accuracy in our measurements; mirror images do not.
    has_harmless_changes : bool
        Whether changed training samples are embedded as well, with noise, other exposures and
        less resolution.
    needs_backbone : bool
        Whether the network is a backbone; ``backbone`` is ignored otherwise.
    allows_class_labels : bool
        Whether y may hold class labels, which scikit-learn's tools pass to every step. They are
        ignored.
    may_be_unreadable : bool
        Whether single samples may be unreadable, as image files are.
    warns_of_equal_scores : bool
        Whether equal scores are a sign of duplicates. Rows of tabular data are often equal.
    mismatch_hint : str
        What to do if an estimator was fitted on the other type of input; may be empty.
    """

    description: str
    learning_rate: float
    cpu_batch_size: int
    accelerator_batch_size: int
    max_shots: int
    kernel_covariance: Literal["spherical", "full"]
    trains_on_one_shot: bool
    fits_densities_on_views: bool
    has_harmless_changes: bool
    needs_backbone: bool
    allows_class_labels: bool
    may_be_unreadable: bool
    warns_of_equal_scores: bool
    mismatch_hint: str


IMAGE_DEFAULTS = InputDefaults(
    description="images",
    learning_rate=2e-5,
    cpu_batch_size=8,  # on a CPU, small batches of images are as fast as large ones
    accelerator_batch_size=64,
    max_shots=128,
    kernel_covariance="full",
    trains_on_one_shot=False,
    fits_densities_on_views=False,
    has_harmless_changes=True,
    needs_backbone=True,
    allows_class_labels=False,
    may_be_unreadable=True,
    warns_of_equal_scores=True,
    mismatch_hint="",
)
TABULAR_DEFAULTS = InputDefaults(
    description="tabular data",
    learning_rate=1e-3,
    cpu_batch_size=256,
    accelerator_batch_size=256,
    max_shots=1024,
    kernel_covariance="spherical",
    trains_on_one_shot=True,
    fits_densities_on_views=True,
    has_harmless_changes=False,
    needs_backbone=False,
    allows_class_labels=True,
    may_be_unreadable=False,
    warns_of_equal_scores=False,
    mismatch_hint=" If X is one image, pass X[None]. If its rows are images, set image_shape.",
)


def check_same_type(fitted: InputDefaults, passed: InputDefaults) -> None:
    """Raise ValueError if X is of another type than in ``fit``, by the defaults of both."""
    if fitted != passed:
        raise ValueError(
            f"X holds {passed.description}, but the estimator was fitted on "
            f"{fitted.description}.{passed.mismatch_hint}"
        )
