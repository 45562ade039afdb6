"""Universal Binary JSON: the part of it that XGBoost's models use."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

_INTEGERS = {"i": "b", "U": "B", "I": "h", "l": "i", "L": "q"}
_STRUCTS = {**_INTEGERS, "d": "f", "D": "d"}
_MARKERS = {code: marker for marker, code in _STRUCTS.items()}
_DEEPEST = 16


class DamagedError(ValueError):
    """The bytes are not such a document."""


def expect(holds: bool, what: str) -> None:
    """Raise DamagedError with these words unless it holds."""
    if not holds:
        raise DamagedError(what)


def decoded(content: bytes) -> Any:
    """Return the document of UBJ bytes; typed arrays become ndarrays.

    Raises
    ------
    DamagedError
        The bytes are damaged, nested deeper than 16 levels, or followed by others.
    """
    try:
        document, end = _value(content, 0, 0)
    except (KeyError, IndexError, UnicodeError, struct.error) as error:
        raise DamagedError(f"{type(error).__name__} {error}") from error
    expect(end == len(content), "bytes follow the document")
    return document


def encoded(document: Any) -> bytes:
    """Return a document as UBJ, in one form for each document."""
    if isinstance(document, dict):
        body = b"".join(_text(key) + encoded(value) for key, value in document.items())
        return b"{" + body + b"}"
    if isinstance(document, np.ndarray):
        # By kind and size: int64 has two type characters, of which struct knows one.
        code = {"f4": "f", "f8": "d", "i1": "b", "u1": "B", "i2": "h", "i4": "i", "i8": "q"}
        marker = _MARKERS[code[document.dtype.str[1:]]].encode()
        head = b"[$" + marker + b"#L" + struct.pack(">q", len(document))
        return head + document.astype(document.dtype.newbyteorder(">")).tobytes()
    if isinstance(document, list):
        return (
            b"[#L" + struct.pack(">q", len(document)) + b"".join(encoded(one) for one in document)
        )
    if isinstance(document, str):
        return b"S" + _text(document)
    if isinstance(document, int):
        return b"L" + struct.pack(">q", document)
    raise TypeError(f"{type(document).__name__} cannot be part of a model")


def _text(text: str) -> bytes:
    content = text.encode()
    return b"L" + struct.pack(">q", len(content)) + content


def _integer(content: bytes, at: int) -> tuple[int, int]:
    code = _STRUCTS[_marker(content, at)]
    expect(code in _INTEGERS.values(), "a length that is not a whole number")
    size = struct.calcsize(code)
    return struct.unpack_from(f">{code}", content, at + 1)[0], at + 1 + size


def _marker(content: bytes, at: int) -> str:
    return chr(content[at])


def _string(content: bytes, at: int) -> tuple[str, int]:
    length, at = _integer(content, at)
    expect(0 <= length <= len(content) - at, "text longer than the file")
    return content[at : at + length].decode(), at + length


def _value(content: bytes, at: int, depth: int) -> tuple[Any, int]:
    """Return the value that begins at `at`, and where the next one begins."""
    expect(depth <= _DEEPEST, f"more than {_DEEPEST} levels")
    marker = _marker(content, at)
    if marker == "{":
        return _object(content, at + 1, depth)
    if marker == "[":
        return _array(content, at + 1, depth)
    if marker == "S":
        return _string(content, at + 1)
    code = _STRUCTS[marker]
    return struct.unpack_from(f">{code}", content, at + 1)[0], at + 1 + struct.calcsize(code)


def _object(content: bytes, at: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while _marker(content, at) != "}":
        key, at = _string(content, at)
        expect(key not in found, f"{key!r} twice")
        found[key], at = _value(content, at, depth + 1)
    return found, at + 1


def _array(content: bytes, at: int, depth: int) -> tuple[Any, int]:
    if _marker(content, at) == "$":
        code = _STRUCTS[_marker(content, at + 1)]
        expect(_marker(content, at + 2) == "#", "an array without a length")
        length, at = _integer(content, at + 3)
        dtype = np.dtype(f">{code}")
        expect(0 <= length * dtype.itemsize <= len(content) - at, "an array longer than the file")
        values = np.frombuffer(content, dtype, length, at).astype(dtype.newbyteorder("="))
        return values, at + length * dtype.itemsize
    expect(_marker(content, at) == "#", "an array without a length")
    length, at = _integer(content, at + 1)
    expect(0 <= length <= len(content) - at, "an array longer than the file")
    values_: list[Any] = []
    for _ in range(length):
        one, at = _value(content, at, depth + 1)
        values_.append(one)
    return values_, at
