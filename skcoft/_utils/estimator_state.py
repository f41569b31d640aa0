"""Fitted state of estimators: failed fits, columns of X, parameters that old pickles lack."""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from threading import RLock
from typing import Any

UPDATE_LOCK = RLock()
"""Lock of ``partial_fit``: without it, two threads would each lose what the other one added."""

COLUMN_ATTRIBUTES = ("n_features_in_", "feature_names_in_")


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


def add_missing_parameters(cls: type, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an estimator with defaults of parameters that it lacks.

    A pickle of an earlier version lacks the parameters that were added later.
    """
    parameters = signature(cls).parameters.values()
    return {**{p.name: p.default for p in parameters}, **state}
