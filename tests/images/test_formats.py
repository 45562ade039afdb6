from __future__ import annotations

import struct
import time
import zlib

import pytest

from featx.errors import (
    ImageTooLargeError,
    NotAnImageError,
    TruncatedImageError,
    UnsupportedImageError,
)
from featx.images import decoding, formats
from tests.promises import images as made


def test_every_seed_begins_like_an_image() -> None:
    for content in made.seeds():
        form = made.opened(content).format
        # In digits a PNM file is like text; a TGA file is like nothing.
        in_digits = content.startswith(b"P3")
        assert formats.is_image(content[:16]) == (form != "TGA" and not in_digits)
        assert formats.is_tga(content) == (form == "TGA")
    assert not formats.is_image(b"words")
    assert not formats.is_image(b"")


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (b"  \n<html>", NotAnImageError, "HTML"),
        (b"%!PS-Adobe", NotAnImageError, "PostScript"),
        (b"%PDF-1.7", NotAnImageError, "PDF"),
        (b"PK\x03\x04", NotAnImageError, "zip"),
        (b"\x1f\x8b\x08", NotAnImageError, "gzip"),
        (b"12345", NotAnImageError, "5 bytes of another kind"),
        (b"\x89PNG and no more", NotAnImageError, "begins like an image"),
        (b"\0\0\0\x18ftypjxs ", UnsupportedImageError, "'jxs '"),
        (b"\x93NUMPY\1\0", NotAnImageError, "NumPy"),
        (b"8BPS\0\1", UnsupportedImageError, "Photoshop"),
        (b"\xff\xd8\xff\xe0", TruncatedImageError, "only a JPEG's header"),
    ],
)
def test_what_it_seems_to_be(content: bytes, error: type[Exception], said: str) -> None:
    found = formats.unidentified(content)
    assert type(found) is error
    assert said in str(found)


def test_formats_of_suffixes_are_formats() -> None:
    assert set(formats.FORMAT_OF_SUFFIX.values()) == set(formats.FORMATS)
    assert not formats.SUFFIXES & formats.FOREIGN_SUFFIXES


def tiled(side: int, across: int, down: int) -> bytes:
    """Return a TIFF of side x side grey pixels in deflated tiles of across x down."""
    tile = zlib.compress(bytes(across * down))
    count = -(-side // across) * -(-side // down)
    fields = [
        (256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1),
        (277, 3, 1, 1), (322, 4, 1, across), (323, 4, 1, down),
    ]  # fmt: skip
    start = 8 + len(tile)
    begin = start + 2 + 12 * (len(fields) + 2) + 4
    offsets = struct.pack(f"<{count}I", *[8] * count)
    sizes = struct.pack(f"<{count}I", *[len(tile)] * count)
    if count > 1:
        fields += [(324, 4, count, begin), (325, 4, count, begin + len(offsets))]
    else:
        fields += [(324, 4, 1, 8), (325, 4, 1, len(tile))]
    directory = struct.pack("<H", len(fields))
    directory += b"".join(struct.pack("<HHII", *field) for field in fields) + bytes(4)
    return b"II*\0" + struct.pack("<I", start) + tile + directory + offsets + sizes


@pytest.mark.parametrize(
    ("side", "across", "down", "fits"),
    [
        (100, 256, 256, True),
        (100, 1024, 1024, True),
        (300, 256, 256, True),
        (100, 16, 4_000_000, False),
        (2000, 16, 1_000_000, False),
    ],
)
def test_tiles_far_larger_than_the_image_are_not_decoded(
    side: int, across: int, down: int, fits: bool
) -> None:
    content = tiled(side, across, down)
    began = time.monotonic()
    if fits:
        assert decoding.decode(content).shape == (side, side, 3)
    else:
        with pytest.raises(ImageTooLargeError, match=f"tiles of {across} x {down} pixels"):
            decoding.decode(content)
        assert time.monotonic() < began + 5
