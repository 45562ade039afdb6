from __future__ import annotations

import pytest

from featx.errors import NotAnImageError, TruncatedImageError, UnsupportedImageError
from featx.images import formats
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
