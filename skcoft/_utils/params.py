"""Checks of constructor parameters: one declarative table per estimator."""

import difflib
from inspect import signature
from math import isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np


def number(kind=Real, low=-float("inf"), high=float("inf"), *, open_low=False):
    """Return (test, description) for a number in an interval."""
    noun = "an integer" if kind is Integral else "a number"
    bounds = [f"{'>' if open_low else '>='} {low}"] if low > -float("inf") else []
    bounds += [f"<= {high}"] if high < float("inf") else []

    def test(value):
        if not isinstance(value, kind) or isinstance(value, bool):
            return False
        return (low < value if open_low else low <= value) and value <= high and isfinite(value)

    return test, " ".join([noun, " and ".join(bounds)]).strip()


def one_of(*options):
    """Return (test, description) for a choice among strings (or None)."""
    names = " or ".join(repr(o) for o in options)
    return (lambda value: (value is None or isinstance(value, str)) and value in options), names


def key_of(registry):
    """Return (test, description) for a name in a registry, as it stands now and later."""
    return (lambda value: isinstance(value, str) and value in registry), one_of(*registry)[1]


def having(method):
    """Return (test, description) for an object with a method; classes do not count."""
    return (
        lambda value: not isinstance(value, type) and callable(getattr(value, method, None)),
        f"an object with `{method}`",
    )


def boolean():
    """Return (test, description) for True or False."""
    return (lambda value: isinstance(value, (bool, np.bool_))), "True or False"


def list_of(constraint):
    """Return (test, description) for a list of values that a constraint holds for."""
    return (
        lambda value: (
            isinstance(value, (list, tuple)) and len(value) > 0 and all(map(constraint[0], value))
        )
    ), "a list of these"


def any_of(*constraints):
    """Return (test, description) that holds where one of the constraints does."""
    tests, texts = zip(*constraints, strict=True)
    return (lambda value: any(test(value) for test in tests)), " or ".join(texts)


def suggest_names(name, known):
    """Return a hint, with a space before it, at known names that are like one; "" of none."""
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.6)
    return f" Near names: {', '.join(near)}." if near else ""


def check_parameters(estimator, table):
    """Raise ValueError for the first parameter of ``estimator`` that breaks its constraint."""
    for name, (test, wanted) in table.items():
        value = getattr(estimator, name)
        if not test(value):
            raise ValueError(
                f"The {name!r} parameter of {type(estimator).__name__} must be {wanted}; "
                f"got {value!r}."
            )


def unwrap_single(values):
    """Return the one of a list, or where there are several, the list."""
    return values[0] if len(values) == 1 else values


def as_list(value):
    """Return a list of what may be one or several."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def add_missing_parameters(cls: type, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an estimator with defaults of parameters that it lacks.

    A pickle of an earlier version lacks the parameters that were added later.
    """
    parameters = signature(cls).parameters.values()
    return {**{p.name: p.default for p in parameters}, **state}
