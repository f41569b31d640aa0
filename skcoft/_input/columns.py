"""scikit-learn's checks of the number and names of the columns of X."""

from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from .types import InputData


def check_columns(estimator: BaseEstimator, inputs: InputData, *, reset: bool) -> None:
    """Record or check ``n_features_in_`` and ``feature_names_in_``, if X was two-dimensional.

    With ``reset`` they are recorded; otherwise ValueError is raised if they differ from ``fit``.
    """
    if inputs.table is not None:
        validate_data(estimator, inputs.table, skip_check_array=True, reset=reset)
