"""Constructor parameters: tables of constraints, and parameters that hold one value or a list."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

# What ``check_nested_names`` says, by the parameter that has no parameters.
NESTED_ADVICE = {
    "density": (
        "Pass density=KernelDensity() or GaussianDensity() of skcoft.density. For images, 'kde' "
        "means KernelDensity(covariance_type='full')."
    ),
    "detector": "Pass detector=COFTDetector().",
    "augmentation": "Set it as a whole, as a dict.",
}


def no_advice(value: Any) -> str:
    """Return no advice on a refused value."""
    return ""


class Constraint(NamedTuple):
    """A test of a parameter's value, and what messages say that the value must be.

    ``advice`` returns what a message says of a refused value at its end, such as what to pass.
    """

    test: Callable[[Any], bool]
    description: str
    advice: Callable[[Any], str] = no_advice


def number(
    kind: Any = Real,
    low: float = -float("inf"),
    high: float = float("inf"),
    *,
    open_low: bool = False,
) -> Constraint:
    """Return the constraint of a finite number in an interval."""
    noun = "an integer" if kind is Integral else "a number"
    bounds = [f"{'>' if open_low else '>='} {low}"] if low > -float("inf") else []
    bounds += [f"<= {high}"] if high < float("inf") else []

    def test(value: Any) -> bool:
        if not isinstance(value, kind) or isinstance(value, bool):
            return False
        return (low < value if open_low else low <= value) and value <= high and isfinite(value)

    return Constraint(test, " ".join([noun, " and ".join(bounds)]).strip())


def one_of(*options: str | None) -> Constraint:
    """Return the constraint of a choice among strings and None."""
    return Constraint(
        lambda value: (value is None or isinstance(value, str)) and value in options,
        " or ".join(repr(option) for option in options),
    )


def key_of(registry: Mapping[str, Any]) -> Constraint:
    """Return the constraint of a name in a registry, also of names that are added later."""
    return Constraint(
        lambda value: isinstance(value, str) and value in registry, one_of(*registry).description
    )


def having(method: str) -> Constraint:
    """Return the constraint of an object with a method; classes are refused."""
    return Constraint(
        lambda value: not isinstance(value, type) and callable(getattr(value, method, None)),
        f"an object with `{method}`",
    )


def list_of(constraint: Constraint) -> Constraint:
    """Return the constraint of a non-empty list or tuple of values that satisfy a constraint."""
    return Constraint(
        lambda value: (
            isinstance(value, (list, tuple))
            and len(value) > 0
            and all(map(constraint.test, value))
        ),
        "a list of these",
    )


def any_of(*constraints: Constraint) -> Constraint:
    """Return the constraint of a value that satisfies at least one of some constraints."""
    return Constraint(
        lambda value: any(constraint.test(value) for constraint in constraints),
        " or ".join(constraint.description for constraint in constraints),
    )


def check_parameters(estimator: Any, constraints: Mapping[str, Constraint]) -> None:
    """Raise ValueError for the first parameter of an estimator that violates its constraint."""
    for name, constraint in constraints.items():
        parameter = f"The {name!r} parameter of {type(estimator).__name__}"
        check_argument(parameter, getattr(estimator, name), constraint)


def check_argument(name: str, value: Any, constraint: Constraint) -> None:
    """Raise ValueError if the argument of a function violates its constraint."""
    if not constraint.test(value):
        advice = f" {constraint.advice(value)}".rstrip()
        raise ValueError(f"{name} must be {constraint.description}; got {value!r}.{advice}")


def check_nested_names(estimator: Any, params: Mapping[str, Any]) -> None:
    """Raise ValueError for a parameter ``name__nested`` if the value of ``name`` has none.

    ``params`` are those of a call of ``set_params``, which may set ``name`` as well.
    """
    own = estimator.get_params(deep=False)
    for key in params:
        name, separator, nested = key.partition("__")
        value = params.get(name, own.get(name))
        if separator and name in own and not hasattr(value, "set_params"):
            is_short = value is None or isinstance(value, (str, bool, int, float))
            shown = repr(value) if is_short else f"an object of {type(value).__name__}"
            raise ValueError(
                f"{key!r} is the parameter {nested!r} of {name}, but {name} is {shown}, which has "
                f"no parameters. {NESTED_ADVICE.get(name, f'Set {name} as a whole.')}"
            )


def as_python_numbers(value: Any) -> Any:
    """Return a value with Python's numbers instead of NumPy's, also inside lists and dicts.

    NumPy's integers may overflow: ``np.uint8(224) * 224`` is 0.
    """
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(map(as_python_numbers, value))
    if type(value) is dict:
        return {key: as_python_numbers(item) for key, item in value.items()}
    return value


def suggest_names(name: str, names: Iterable[str]) -> str:
    """Return a hint at similar names, to be appended to a message; "" if there are none."""
    similar = difflib.get_close_matches(name, list(names), n=5, cutoff=0.6)
    return f" Similar names: {', '.join(similar)}." if similar else ""


def unwrap_single(values: Sequence[Any]) -> Any:
    """Return the value of a list that holds one, else the list."""
    return values[0] if len(values) == 1 else values


def as_list(value: Any) -> list[Any]:
    """Return the values of a list or tuple as a list, or a list of a single value."""
    return list(value) if isinstance(value, (list, tuple)) else [value]
