"""Which files are decoded in this process: those whose headers say how much work they are.

A thread inside a decoder cannot be stopped, so a file is decoded in one only if a walk over its
headers shows that time and memory grow with its pixels and bytes alone, by what a decoder of that
format needs for each. The walks follow canonical files: whatever is strange, rare, repeated without
end, or of a format in which nothing short bounds the work (AVIF, HEIF, JPEG 2000, lossless WebP,
run lengths in BMP, most compressions of TIFF, PNM in digits), is decoded by a process with limits
(``worker``). Neither is a verdict: the same files are good in both.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from featx.images import formats

# Pillow keeps a pointer a row, and computes filters as long as an edge: 1 x 89,000,000 pixels take
# 2 GB. JPEG, GIF and TGA have edges of 16 bits anyhow.
MAX_EDGE = 65_535
# Of a JPEG or PNG without its pixels: profiles and descriptions, which Pillow reads in Python.
MAX_HEADER = 1 << 20
MAX_SEGMENTS = 256
MAX_TEXTS = 64
# A directory's values may lie over each other: 256 of 64 kB are 16 MB.
MAX_EXIF, MAX_TAGS = 1 << 16, 256
# Data chunks of a PNG: 128 MiB of the 8 KiB that libpng writes.
MAX_DATA_CHUNKS = 1 << 14
# Parts of at most 255 bytes up to the second frame of a GIF: 1 MB, which Pillow reads in Python.
MAX_GIF_PARTS = 1 << 12
# Pixels times scans of a JPEG: a pass takes some 2 ns a pixel where nothing is coded.
MAX_PASSES = 1 << 30
MAX_RIFF_CHUNKS = 16
# A lossy WebP takes 24 bytes a pixel, so 400 MB.
MAX_WEBP = 1 << 24
MAX_STRIPS = 1 << 16

_CHUNK = struct.Struct(">I4s")
_RIFF_CHUNK = struct.Struct("<4sI")
_PNM = re.compile(rb"P[456]\s+(?:#[^\n]{0,200}\n\s*){0,8}(\d{1,9})\s+(\d{1,9})\s")
_FTYP = b"ftyp"


def holds(content: bytes) -> bool:
    """Return whether the headers of a file bound the time and memory that decoding it takes.

    What begins like none of the formats is not decoded, or is a TGA, whose edges have 16 bits.
    """
    try:
        if content[4:8] == _FTYP:
            return formats.media_format(content[:256]) is None  # a video is not opened
        walk = _WALKS.get(content[:2])
        return walk is None or walk(content)
    except (struct.error, IndexError):  # cut short
        return False


def _edges(width: int, height: int) -> bool:
    return width <= MAX_EDGE and height <= MAX_EDGE


def _exif(block: bytes) -> bool:
    """Return whether an EXIF block is small, and its first directory, too."""
    if len(block) > MAX_EXIF:
        return False
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return False
    (at,) = struct.unpack_from(order + "I", block, 4)
    (tags,) = struct.unpack_from(order + "H", block, at)
    return tags <= MAX_TAGS


def _jpeg(content: bytes) -> bool:
    width, height, components, progressive, exif = 0, 0, 0, False, False
    for parts, (kind, at, length) in enumerate(formats.jpeg_segments(content)):
        if parts > MAX_SEGMENTS or at > MAX_HEADER:
            return False
        if kind == 0xDA:  # the first scan
            break
        if kind in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive: one frame, Huffman codes
            if components:
                return False
            height, width, components = struct.unpack_from(">HHB", content, at + 5)
            progressive = kind == 0xC2
        elif kind == 0xE1 and content.startswith(b"Exif\0\0", at + 4):
            # Pillow joins several of them, each time as a whole.
            if exif or not _exif(content[at + 10 : at + 2 + length]):
                return False
            exif = True
        elif not (0xE0 <= kind <= 0xEF or kind in (0xC4, 0xDB, 0xDD, 0xFE)):
            return False
    else:
        return False
    if not components:
        return False
    if not progressive and content[at + 4] == components:
        return True
    # No more than so many scans are decoded in either place, so most need not be counted here.
    few = width * height * formats.MAX_SCANS <= MAX_PASSES
    return few or width * height * formats.jpeg_scans(content) <= MAX_PASSES


def _png(content: bytes) -> bool:
    length, kind = _CHUNK.unpack_from(content, 8)
    if (length, kind) != (13, b"IHDR") or not _edges(*struct.unpack_from(">II", content, 16)):
        return False
    at, data, texts, size, end = 33, 0, 0, 0, len(content) - 8
    while at <= end:
        length, kind = _CHUNK.unpack_from(content, at)
        if kind == b"IDAT":
            data += 1
            if data > MAX_DATA_CHUNKS:
                return False
        else:
            texts, size = texts + 1, size + length
            if texts > MAX_TEXTS or size > MAX_HEADER:
                return False
            if kind == b"eXIf" and not _exif(content[at + 8 : at + 8 + length]):
                return False
            # Text that Pillow takes for EXIF, of which a compressed one may be a megabyte.
            if kind[1:] in (b"EXt", b"TXt") and content.startswith(b"Raw profile", at + 8):
                return False
        at += 12 + length
    return True


def _webp(content: bytes) -> bool:
    if content[8:12] != b"WEBP":
        return True  # a RIFF file of another kind
    at, pixels, canvas, end = 12, 0, 0, len(content) - 8
    for _ in range(MAX_RIFF_CHUNKS):
        if at > end:
            return 0 < pixels <= MAX_WEBP and canvas <= MAX_WEBP
        kind, length = _RIFF_CHUNK.unpack_from(content, at)
        if kind == b"VP8 ":  # lossy; RFC 6386, section 9.1
            width, height = struct.unpack_from("<HH", content, at + 14)
            pixels += (width & 0x3FFF) * (height & 0x3FFF)
        elif kind == b"VP8X":  # RFC 9649, section 2.7
            right, bottom = content[at + 12 : at + 15], content[at + 15 : at + 18]
            canvas += (1 + int.from_bytes(right, "little")) * (1 + int.from_bytes(bottom, "little"))
        elif kind == b"EXIF":
            block = content[at + 8 : at + 8 + length]
            if not _exif(block.removeprefix(b"Exif\0\0")):
                return False
        elif kind not in (b"ICCP", b"XMP "):
            return False  # lossless or transparent, or animated
        at += 8 + length + length % 2
    return False


def _bmp(content: bytes) -> bool:
    (header,) = struct.unpack_from("<I", content, 14)
    if header == 12:  # of OS/2: never compressed
        return True
    width, height = struct.unpack_from("<ii", content, 18)
    (compression,) = struct.unpack_from("<I", content, 30)
    return header <= 124 and compression in (0, 3) and _edges(width, abs(height))


def _gif(content: bytes) -> bool:
    """Walk as far as the second frame, which Pillow looks for to tell an animation."""
    flags = content[10]
    at, parts, frames = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0), 0, 0
    while at < len(content) and content[at] != 0x3B:
        if content[at] == 0x2C:
            frames += 1
            if frames == 2:
                break
            flags = content[at + 9]
            at += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        elif content[at] == 0x21:
            at += 2
        else:
            return False
        while at < len(content) and (length := content[at]):
            at += 1 + length
            parts += 1
            if parts > MAX_GIF_PARTS:
                return False
        at += 1
    return True


_Tags = dict[int, tuple[int, int, int]]


def _directory(content: bytes, order: str, at: int, most: int) -> _Tags | None:
    """Return the tags of a TIFF directory: type, number, and where the values are; None if large.

    Parameters
    ----------
    most : int
        Bytes of values.
    """
    (count,) = struct.unpack_from(order + "H", content, at)
    tags, total = {}, 0
    for start in range(at + 2, at + 2 + 12 * min(count, MAX_TAGS), 12):
        tag, kind, number, place = struct.unpack_from(order + "HHII", content, start)
        size = number * _TIFF_BYTES.get(kind, 8)
        total += size
        tags[tag] = (kind, number, place if size > 4 else start + 8)
    return tags if len(tags) == count and total <= most else None


def _tiff(content: bytes) -> bool:
    """Look at the first directory, and at how much of the file its strips or tiles are."""
    order = "<" if content[:2] == b"II" else ">"
    magic, at = struct.unpack_from(order + "HI", content, 2)
    tags = _directory(content, order, at, len(content)) if magic == 42 else None
    if tags is None:
        return False
    # Pillow makes a Python object of each number, of a ratio a slow one: 8 million took 16 s.
    if any(number > MAX_STRIPS for kind, number, _ in tags.values() if kind not in _BYTES):
        return False

    def numbers(tag: int, default: int) -> tuple[int, ...]:
        kind, number, place = tags.get(tag, (0, 0, 0))
        if number > MAX_STRIPS:
            raise IndexError
        form = {3: "H", 4: "I"}.get(kind)
        if not form or not number:
            return (default,)
        return struct.unpack_from(f"{order}{number}{form}", content, place)

    for pointer in _SUBDIRECTORIES & tags.keys():
        if _directory(content, order, numbers(pointer, 0)[0], MAX_EXIF) is None:
            return False
    (width, *_), (height, *_) = numbers(_WIDTH, 0), numbers(_HEIGHT, 0)
    (rows, *_) = numbers(_ROWS, height)
    if not _edges(width, height) or numbers(_COMPRESSION, 1)[0] not in _TIFF_COMPRESSIONS:
        return False
    # A buffer for a strip is made as large as it says.
    if rows > height and rows != 0xFFFFFFFF:
        return False
    # Parts that lie over each other would be read many times.
    stored = sum(numbers(_STRIP_BYTES, 0)) + sum(numbers(_TILE_BYTES, 0))
    return stored <= len(content)


# Of TIFF 6.0, in bytes: values by their type.
_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_BYTES = {1, 2, 6, 7}  # types that are read as one string
_SUBDIRECTORIES = {34665, 34853, 40965}  # EXIF, GPS, interoperability, which Pillow reads whole
_WIDTH, _HEIGHT, _COMPRESSION, _ROWS, _STRIP_BYTES, _TILE_BYTES = 256, 257, 259, 278, 279, 325
# None, LZW, deflate (two numbers), PackBits. JPEG within TIFF has scans of its own.
_TIFF_COMPRESSIONS = (1, 5, 8, 32946, 32773)


def _pnm(content: bytes) -> bool:
    found = _PNM.match(content[:2048])
    return found is not None and _edges(int(found[1]), int(found[2]))


def _no(content: bytes) -> bool:
    return False


_WALKS: dict[bytes, Callable[[bytes], bool]] = {
    b"\xff\xd8": _jpeg,
    b"\x89P": _png,
    b"RI": _webp,
    b"BM": _bmp,
    b"GI": _gif,
    b"II": _tiff,
    b"MM": _tiff,
    **{b"P%c" % kind: _pnm for kind in b"0123456Ffy"},
    b"\xff\x4f": _no,  # JPEG 2000: a codestream
    b"\0\0": lambda content: not content.startswith(b"\0\0\0\x0cjP"),  # and a file of it
}
