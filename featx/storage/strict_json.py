"""JSON as its standard has it: what Python's own reader accepts beyond that is refused."""

from __future__ import annotations

import json
import math
from typing import Any


def loads(text: str | bytes | bytearray) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    ValueError
        It is not JSON, or holds NaN, an infinity or a number beyond every float.
    RecursionError
        It is nested too deep.
    """
    return json.loads(text, parse_constant=_refuse, parse_float=_finite)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number:.20} is beyond every float")
    return value
