"""Arrays of numbers in NumPy's .npy format: nothing else is written, and nothing else is read."""

from __future__ import annotations

import io

import numpy as np

from featx.errors import ModelFormatError, ModelTrustError

MAX_DIMENSIONS = 4
NUMBERS = "fiub"
"""NumPy's letters of the kinds of numbers: floats, integers with and without sign, booleans."""


def array_bytes(array: np.ndarray) -> bytes:
    """Return an array in NumPy's .npy format; objects are refused."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def array_of(content: bytes, name: str, kinds: str = NUMBERS) -> np.ndarray:
    """Return the array of .npy bytes: plain finite numbers, as many as the bytes hold.

    Parameters
    ----------
    kinds : str
        NumPy's letters of the kinds that may be in it.

    Raises
    ------
    ModelTrustError
        It holds objects or other than numbers.
    ModelFormatError
        It is damaged, or holds NaN or infinity.
    """
    buffer = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(buffer)
        if version != (1, 0):
            raise ValueError(f".npy version {version}")
        shape, _, dtype = np.lib.format.read_array_header_1_0(buffer)
    except Exception as error:
        raise ModelFormatError(f"{name} is not an array of numbers: {error}.") from error
    if dtype.hasobject or dtype.kind not in kinds:
        raise ModelTrustError(
            f"{name} holds {dtype}, not numbers. featx writes and reads numbers only: "
            "objects would run code. Do not use this file."
        )
    count = 1
    for length in shape:
        count *= length
    # Before any memory is allocated: a header may claim terabytes.
    held = len(content) - buffer.tell()
    if len(shape) > MAX_DIMENSIONS or min(shape, default=1) < 0 or count * dtype.itemsize != held:
        raise ModelFormatError(
            f"{name} declares an array of shape {shape} and dtype {dtype}, and contains "
            f"{held} bytes."
        )
    buffer.seek(0)
    array = np.lib.format.read_array(buffer, allow_pickle=False)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelFormatError(f"{name} holds NaN or infinity.")
    return array
