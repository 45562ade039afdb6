"""Sealed bytes show any change, and packed arrays promise no more than there is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from featx import errors
from featx.storage.checksummed import SEAL_BYTES, pack, seal, unpack, unseal


def test_round_trip() -> None:
    sealed = seal(b"content")
    assert len(sealed) == len(b"content") + SEAL_BYTES
    assert bytes(unseal(sealed, "x")) == b"content"


def test_every_flipped_bit_and_every_cut_shows() -> None:
    sealed = seal(b"some content")
    for at in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(errors.CacheCorruptError, match="^x "):
            unseal(changed, "x")
    for end in range(len(sealed)):
        with pytest.raises(errors.CacheCorruptError):
            unseal(sealed[:end], "x")


def test_arrays_come_back() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.integers(0, 255, (3, 32), dtype=np.uint8),
        "b": np.arange(4, dtype=np.int64).reshape(2, 2)[:, ::-1],
        "empty": np.empty((0, 4), np.int64),
    }
    again, about = unpack(pack(arrays, {"text": "ü"}), "x")
    assert about == {"text": "ü"}
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype
        assert not again[name].flags.writeable


@pytest.mark.parametrize(
    "header",
    [
        {"arrays": {"a": ["<f4", [1 << 40]]}, "about": None},
        {"arrays": {"a": ["<f4", [-1]]}, "about": None},
        {"arrays": {"a": ["|O", [1]]}, "about": None},
        {"arrays": {"a": ["nonsense", [1]]}, "about": None},
        {"arrays": 5},
        [],
    ],
)
def test_a_header_that_lies_is_refused(header: object) -> None:
    content = seal(json.dumps(header).encode() + b"\n" + bytes(8))
    with pytest.raises(errors.CacheCorruptError, match="x is not what featx packed"):
        unpack(content, "x")


def test_a_number_that_json_does_not_have_is_refused() -> None:
    line = b'{"about": NaN, "arrays": {}}\n'
    with pytest.raises(errors.CacheCorruptError, match="NaN is not a number"):
        unpack(seal(line), "x")
