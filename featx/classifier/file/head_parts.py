"""What a saved head is made of: plain parameters, single numbers, arrays of a known shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from featx.errors import ModelFormatError


@dataclass(frozen=True, eq=False)
class HeadState:
    """A fitted head without anything that could run.

    Attributes
    ----------
    about : dict
        Strict JSON: the kind, its parameters, its single numbers.
    arrays : dict of str to ndarray
    blobs : dict of str to bytes
        XGBoost's own format; checked before it is read.
    """

    about: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)


class Shape(NamedTuple):
    """What a head must fit: the width of a row, and the class names."""

    dim: int
    classes: np.ndarray


def parameters(estimator: BaseEstimator, *leave: str) -> dict[str, Any]:
    """Return an estimator's parameters but some as JSON holds them.

    Raises
    ------
    ValueError
        One of them is no number, text or None, or a list of these.
    """
    asked = estimator.get_params(deep=False)
    found = {k: _plain(v) for k, v in asked.items() if k not in leave}
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{type(estimator).__name__} cannot be saved: one of its parameters is no number, "
            f"text or None ({error}). Give seeds as whole numbers."
        ) from error
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def made(kind: Callable[..., Any], asked: Any) -> Any:
    """Return an object of a kind, made with the parameters that a file asks for.

    Raises
    ------
    ModelFormatError
        One of them is no number, text or None, or a list of these.
    """
    if not isinstance(asked, dict):
        raise ModelFormatError("a head without parameters.")
    for value in asked.values():
        parts = value if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, int | float | str) for part in parts):
            raise ModelFormatError(f"a parameter that is no number or text: {value!r:.60}.")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in asked.items()})


def need(state: HeadState, name: str, *shape: int, kinds: str = "f") -> np.ndarray:
    """Return the array of a name, of this shape and of one of NumPy's kinds.

    Raises
    ------
    ModelFormatError
        It is missing or is another.
    """
    array = state.arrays.get(name)
    if array is None or array.shape != shape or array.dtype.kind not in kinds:
        found = "missing" if array is None else f"{array.dtype} of shape {array.shape}"
        raise ModelFormatError(f"{name} is {found}; expected numbers of shape {shape}.")
    return array


def number(state: HeadState, name: str) -> Any:
    """Return the single number of a name.

    Raises
    ------
    ModelFormatError
        It is none.
    """
    value = state.about[name]
    if not isinstance(value, int | float):
        raise ModelFormatError(f"{name} is {value!r:.40}; expected a number.")
    return value
