"""Bytes that show any later change: content with its digest behind it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from featx.errors import CacheCorruptError
from featx.storage import strict_json

SEAL = b"FEATXEND"
SEAL_BYTES = len(SEAL) + 32


def seal(content: bytes) -> bytes:
    """Return the content with the seal and its sha256 behind it."""
    return content + SEAL + hashlib.sha256(content).digest()


def unseal(content: bytes | bytearray | memoryview, name: str) -> memoryview:
    """Return the sealed content without its seal.

    Raises
    ------
    CacheCorruptError
        The seal is missing, or the content is not what was sealed.
    """
    view = memoryview(content)
    if len(view) < SEAL_BYTES or view[-SEAL_BYTES:-32] != SEAL:
        raise CacheCorruptError(
            f"{name} has no checksum at its end: it is truncated or was not written by featx"
        )
    body = view[:-SEAL_BYTES]
    if hashlib.sha256(body).digest() != view[-32:]:
        raise CacheCorruptError(f"{name} does not have the content that was sealed")
    return body


def pack(arrays: Mapping[str, np.ndarray], metadata: Any = None) -> bytes:
    """Return arrays and a JSON value as one sealed piece.

    A header that cannot promise more than the bytes hold, unlike the sizes in a .npy header,
    which are believed before anything is read.
    """
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header = {
        "about": metadata,
        "arrays": {name: [array.dtype.str, list(array.shape)] for name, array in plain.items()},
    }
    line = json.dumps(header, allow_nan=False).encode("ascii") + b"\n"
    return seal(b"".join([line, *(array.tobytes() for array in plain.values())]))


def unpack(content: bytes | bytearray, name: str) -> tuple[dict[str, np.ndarray], Any]:
    """Return the arrays (read-only) and the JSON value of a packed piece.

    Raises
    ------
    CacheCorruptError
        The seal is broken, or the header does not describe the bytes behind it.
    """
    body = unseal(content, name)
    try:
        end = content.index(b"\n") + 1
        header = strict_json.loads(bytes(body[:end]))
        arrays = {}
        for array, (dtype, shape) in header["arrays"].items():
            kind = np.dtype(dtype)
            if kind.hasobject:
                raise ValueError("an array of objects")
            count = math.prod(shape)
            if min(shape, default=0) < 0 or count * kind.itemsize > len(body) - end:
                raise ValueError("an array longer than the bytes")
            arrays[array] = np.frombuffer(body, kind, count, end).reshape(shape)
            end += count * kind.itemsize
    # RecursionError: a header of a hundred thousand brackets.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CacheCorruptError(f"{name} is not what featx packed: {error}") from error
    return arrays, header["about"]
