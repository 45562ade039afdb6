"""What decides a result, as a digest that another process finds again."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

# Packages whose versions are a part of what is told, so that their source need not be read.
_VERSIONED = ("featx", "keras", "numpy", "scipy", "sklearn", "xgboost")
# A head has some dozens of parameters; what has more parts than this, such as a network, is not
# told by its parts.
_MOST_PARTS = 10_000
_DEEPEST = 20


class _UntoldError(Exception):
    """A value that nothing but its place in memory tells from others."""


def digest(*parts: Any) -> str | None:
    """Return the sha256 of values, arrays and unfitted estimators, by their content.

    Returns
    -------
    str or None
        64 hexadecimal digits; None where the content of a part cannot be told, such as that of a
        function that was made in another, or of a class that has no source.

    Notes
    -----
    A class that is not of a package with a known version is told by the file that it is written
    in, and so are those it derives from: an edited head is another head. What that file imports is
    not looked at.

    >>> digest(1, "a") == digest(1, "a") != digest(1, "b")
    True
    >>> digest(lambda x: x) is None
    True
    """
    teller = _Teller()
    try:
        told = [teller.told(part, 0) for part in parts]
    except _UntoldError:
        return None
    text = json.dumps(told, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class _Teller:
    def __init__(self) -> None:
        self._parts = 0

    def told(self, value: Any, depth: int) -> Any:  # noqa: PLR0911 - one return per kind
        """Return a JSON value that stands for the content of this one, and for its kind."""
        self._parts += 1
        if self._parts > _MOST_PARTS or depth > _DEEPEST:
            raise _UntoldError
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int | float | np.generic):
            return [type(value).__name__, repr(value)]
        if isinstance(value, bytes):
            return ["bytes", hashlib.sha256(value).hexdigest()]
        if isinstance(value, np.ndarray):
            return _of_array(value)
        if isinstance(value, list | tuple):
            return [type(value).__name__, *(self.told(one, depth + 1) for one in value)]
        if isinstance(value, set | frozenset):
            return ["set", sorted(json.dumps(self.told(one, depth + 1)) for one in value)]
        if isinstance(value, Mapping):
            pairs = [
                [self.told(key, depth + 1), self.told(one, depth + 1)] for key, one in value.items()
            ]
            return ["mapping", sorted(pairs, key=json.dumps)]
        if isinstance(value, type) or inspect.isroutine(value):
            return _of_source(value)
        return self._of_object(value, depth)

    def _of_object(self, value: Any, depth: int) -> Any:
        # What a pickle of it would hold is all there is of an object, also of one made in C.
        try:
            made: Any = value.__reduce_ex__(2)
        except Exception as error:  # an object may refuse in any way
            raise _UntoldError from error
        if isinstance(made, str):
            raise _UntoldError
        function, arguments, state, *items = list(made) + [None] * (5 - len(made))
        listed = [None if one is None else list(one) for one in items[:2]]
        classes = [_of_source(one) for one in type(value).__mro__ if one is not object]
        return [
            classes,
            *(self.told(one, depth + 1) for one in (function, arguments, state, listed)),
        ]


def _of_array(array: np.ndarray) -> list[Any]:
    content: Any
    if array.dtype.hasobject:
        if not all(isinstance(one, str | int | float | None) for one in array.ravel().tolist()):
            raise _UntoldError
        content = json.dumps(array.ravel().tolist()).encode()
    else:
        content = np.ascontiguousarray(array).data if array.size else b""
    kind = "objects" if array.dtype.hasobject else array.dtype.str
    return [kind, list(array.shape), hashlib.sha256(content).hexdigest()]


def _of_source(named: Any) -> list[str]:
    """Return the name of a class or function and, unless a version tells it, its file's sha256."""
    module, name = getattr(named, "__module__", None), getattr(named, "__qualname__", "<")
    if module is None or "<" in name:
        raise _UntoldError
    package = module.partition(".")[0]
    if package in _VERSIONED or (package in sys.stdlib_module_names and package != "__main__"):
        return [module, name]
    try:
        with open(inspect.getsourcefile(named) or "", "rb") as file:
            return [module, name, hashlib.sha256(file.read()).hexdigest()]
    except (OSError, TypeError) as error:
        raise _UntoldError from error
