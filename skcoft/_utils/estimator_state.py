"""State of estimators: failed fits, columns of X, and pickles of earlier versions."""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from threading import RLock
from typing import Any, Self

from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from .._version import __version__
from .params import check_nested_names
from .warning import warn_user

UPDATE_LOCK = RLock()
"""Lock of ``partial_fit``: without it, two threads would each lose what the other one added."""

COLUMN_ATTRIBUTES = ("n_features_in_", "feature_names_in_")
VERSION_KEY = "_skcoft_version"  # in pickled states only, as scikit-learn's _sklearn_version
UNNOTED_VERSION = "0.1.0 (or 0.2.0 before its release)"  # these noted no version


class SkcoftVersionWarning(InconsistentVersionWarning):
    """Another version of skcoft pickled an estimator.

    It is a class of scikit-learn's warning, so one filter is enough for both.
    """

    def __init__(self, estimator_name: str, version: str) -> None:
        super().__init__(
            estimator_name=estimator_name,
            current_sklearn_version=__version__,
            original_sklearn_version=version,
        )

    def __str__(self) -> str:
        return (
            f"skcoft {self.original_sklearn_version} pickled this {self.estimator_name}, and "
            f"skcoft {self.current_sklearn_version} reads it. Parameters that it lacks get their "
            "defaults. Compare its scores with earlier ones, then pickle it again."
        )


class VersionedEstimator(BaseEstimator):
    """An estimator whose pickles note the version and outlive later parameters."""

    def set_params(self, **params: Any) -> Self:
        """Set parameters of this estimator, or of an estimator that is one of them.

        Parameters
        ----------
        **params : dict
            Parameters by name. ``density__bandwidth`` is ``bandwidth`` of the estimator
            ``density``.

        Returns
        -------
        self
            The estimator.

        Raises
        ------
        ValueError
            If a name is unknown, or if ``name__`` precedes a parameter of a value that has none.
        """
        check_nested_names(self, params)
        return super().set_params(**params)

    def __getstate__(self) -> dict[str, Any]:
        return with_version(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(current_state(type(self), state))


def with_version(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an estimator for a pickle, which notes the version."""
    return {**state, VERSION_KEY: __version__}


def without_version(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an estimator without the note of a pickle."""
    return {name: value for name, value in state.items() if name != VERSION_KEY}


def current_state(cls: type, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a pickle as this version needs it; warn if another version wrote it.

    A pickle of an earlier version lacks the parameters that were added later. They get their
    defaults.
    """
    version = state.get(VERSION_KEY, UNNOTED_VERSION)
    if version != __version__:
        warn_user(SkcoftVersionWarning(cls.__name__, version))
    parameters = signature(cls).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {**defaults, **without_version(state)}


@contextmanager
def restored_on_failure(estimator: Any) -> Iterator[None]:
    """Restore an estimator's attributes if the block fails, so an earlier fit stays usable."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def reset_columns(estimator: Any) -> None:
    """Remove the columns of an earlier fit."""
    for name in COLUMN_ATTRIBUTES:
        vars(estimator).pop(name, None)


def fitted_columns(estimator: Any) -> dict[str, Any]:
    """Return the fitted attributes of an estimator that describe the columns of X."""
    return {name: vars(estimator)[name] for name in COLUMN_ATTRIBUTES if name in vars(estimator)}
