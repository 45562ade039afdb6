"""Which files can be images: by their names, how they begin, and what a decoder overlooks."""

from __future__ import annotations

import re
import struct
import zlib

from featx.errors import (
    ImageDecodeError,
    ImageError,
    NotAnImageError,
    TruncatedImageError,
    UnsupportedImageError,
)

# Pillow's advice for untrusted files: name the formats. Among those left out is EPS, which
# would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
FORMAT_OF_SUFFIX = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
SUFFIXES = frozenset(FORMAT_OF_SUFFIX)
FOREIGN_SUFFIXES = frozenset((".heic", ".heif", ".avif", ".jp2", ".jxl", ".psd", ".svg", ".eps"))

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*")
_FOREIGN = {
    b"\x1f\x8b": "gzip-compressed data",
    b"%!PS": "PostScript",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
    b"<": "HTML, XML or SVG text",
}


# Each scan of a progressive JPEG passes over the whole image: 500 empty ones in a file of 31 kB
# held a processor for 4 s at 2000 x 2000 pixels. Encoders write 10, at most about 20.
MAX_SCANS = 32

# Where a marker begins in a scan's data, in which 0xFF is otherwise followed by 0 or a restart.
_SCAN = re.compile(b"\xff\xda")  # other data may hold the two bytes by chance
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def is_image(head: bytes) -> bool:
    """Return whether a file that begins with these bytes looks like an image featx can read."""
    return head.startswith(_MAGIC)


def unidentified(content: bytes) -> ImageError:
    """Return the error for content that does not begin like an image: what it seems to be."""
    if content[4:8] == b"ftyp" or content.startswith((b"\0\0\0\x0cjP", b"\xff\x0a", b"8BPS")):
        return UnsupportedImageError(
            "an image format featx does not read (HEIC, AVIF, JPEG 2000, JPEG XL or Photoshop); "
            f"save it as one of {', '.join(FORMATS)}"
        )
    if content.startswith(b"\xff\xd8\xff"):
        return TruncatedImageError("the file ends before the image does: only a JPEG's header")
    if is_image(content):
        return NotAnImageError("begins like an image, but what follows is not an image's header")
    start = content[:4096].lstrip()[:16]
    found = next((what for magic, what in _FOREIGN.items() if start.startswith(magic)), None)
    return NotAnImageError(
        f"not an image: the content is {found or f'{len(content):,} bytes of another kind'}; "
        f"expected one of {', '.join(FORMATS)}"
    )


def check_png(content: bytes) -> None:
    """Refuse image data whose checksum is wrong; Pillow skips the checksums of IDAT chunks."""
    position = 8
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            return  # cut short: decoding says whether pixels are missing
        if content[position + 4 : position + 8] == b"IDAT":
            expected = struct.unpack_from(">I", content, end)[0]
            if zlib.crc32(memoryview(content)[position + 4 : end]) != expected:
                raise ImageDecodeError("the image is damaged: wrong checksum in its data (IDAT)")
        position = end + 4


def check_jpeg(content: bytes) -> None:
    """Refuse a header alone, and more scans than any encoder writes: each is a pass over all."""
    most = len(_SCAN.findall(content))  # a quarter of the time of content.count
    if not most:
        raise TruncatedImageError("the file ends before the image does: only a JPEG's header")
    if most <= MAX_SCANS:
        return
    scans, position = 0, 2
    while marker := _MARKER.search(content, position):
        kind = content[marker.start() + 1]
        if kind == 0xD9:  # the end of the image
            return
        scans += kind == 0xDA
        if scans > MAX_SCANS:
            raise ImageDecodeError(f"the image is damaged: over {MAX_SCANS} scans")
        length = int.from_bytes(content[marker.end() : marker.end() + 2], "big")
        position = marker.end() + max(length, 2)
