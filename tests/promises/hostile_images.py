"""Small files that would hold a decoder up for minutes, or take gigabytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, PngImagePlugin

from tests.promises import images as made

DAMAGED, LIMIT, MEMORY = "ImageDecodeError", "ImageLimitError", "ImageMemoryError"
TOO_LARGE, TRUNCATED, HANDLED = "ImageTooLargeError", "TruncatedImageError", "handled"


@dataclass(frozen=True)
class Hostile:
    """One file.

    Attributes
    ----------
    make : callable that returns bytes
    outcomes : tuple of str
        What may come of it: "handled" where it is a good image that takes no more than it may, or
        names of errors, of which one of time or memory comes first on most machines.
    megapixels : float
        Its size, by which it may take more.
    """

    make: Callable[[], bytes]
    outcomes: tuple[str, ...]
    megapixels: float = 0.1


def segment(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body


def jpeg_with(*parts: bytes) -> bytes:
    """Return a JPEG with these before everything else."""
    whole = made.jpeg()
    return whole[:2] + b"".join(parts) + whole[2:]


def scans_behind(marker: bytes, count: int, side: int = 64) -> bytes:
    """Return a progressive JPEG with many scans, each behind bytes that a decoder passes over."""
    whole = made.encoded(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + (marker + whole[last:-2]) * count + whole[-2:]


def bmp(width: int, height: int, compression: int, body: bytes) -> bytes:
    bits = 4 if compression == 2 else 8
    head = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(body), 0, 0, 256, 0
    )
    return b"BM" + struct.pack("<IHHI", 1078 + len(body), 0, 0, 1078) + head + bytes(1024) + body


def directory(entries: list[tuple[int, int, int, int]]) -> bytes:
    lines = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return struct.pack("<H", len(entries)) + lines + bytes(4)


def zeros(count: int) -> bytes:
    """Return so many zero bytes, deflated."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(min(1 << 20, count - i))) for i in range(0, count, 1 << 20)]
    return b"".join(parts) + packer.flush()


def tiles(width: int, height: int, across: int, down: int, count: int) -> bytes:
    """Return a TIFF whose tiles are all the same deflated bytes."""
    packed = zeros(across * down * 3)
    at = 8 + 2 + 12 * 11 + 4
    arrays = struct.pack("<3H", 8, 8, 8)
    where, size = at + 6, len(packed)
    if count > 1:
        where, size = at + 6, at + 6 + 4 * count
        packed_at = at + 6 + 8 * count
        arrays += struct.pack(f"<{count}I", *[packed_at] * count)
        arrays += struct.pack(f"<{count}I", *[len(packed)] * count)
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, at), (259, 3, 1, 8), (262, 3, 1, 2),
        (277, 3, 1, 3), (284, 3, 1, 1), (322, 4, 1, across), (323, 4, 1, down),
        (324, 4, count, where), (325, 4, count, size),
    ]  # fmt: skip
    return b"II*\0\x08\0\0\0" + directory(entries) + arrays + packed


def strips(count: int) -> bytes:
    """Return a TIFF of so many rows, each a strip that says it is all of the file's 32 MB."""
    size = 32 << 20
    at = 8 + 2 + 12 * 9 + 4
    arrays = struct.pack(f"<{count}I", *[at + 8 * count] * count)
    arrays += struct.pack(f"<{count}I", *[size] * count)
    entries = [
        (256, 4, 1, 64), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 5), (262, 3, 1, 1),
        (273, 4, count, at), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, count, at + 4 * count),
    ]  # fmt: skip
    return b"II*\0\x08\0\0\0" + directory(entries) + arrays + bytes(size)


def ratios(count: int) -> bytes:
    """Return a TIFF of one pixel with so many resolutions."""
    at = 8 + 2 + 12 * 10 + 4
    entries = [
        (256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 1), (282, 5, count, at),
    ]  # fmt: skip
    return b"II*\0\x08\0\0\0" + directory(entries) + struct.pack("<2I", 3, 1) * count


def numbers(count: int) -> bytes:
    """Return a TIFF of one pixel whose EXIF directory has so many numbers, read as a tuple."""
    at = 10 + 2 + 12 * 10 + 4
    entries = [
        (256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 1), (34665, 4, 1, at),
    ]  # fmt: skip
    exif = directory([(0x927C, 3, count, at + 18)])
    return b"II*\0\x0a\0\0\0\x80\0" + directory(entries) + exif + b"\x39\x30" * count


def profile_as_text(tags: int, size: int) -> bytes:
    """Return a PNG with an EXIF block as compressed text, whose values are all the same bytes."""
    entries = b"".join(struct.pack("<HHII", tag, 2, size, 8) for tag in range(1000, 1000 + tags))
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", tags) + entries + bytes(size)
    about = PngImagePlugin.PngInfo()
    about.add_text("Raw profile type exif", "\nexif\n    9\n" + block.hex(), zip=True)
    return made.png(pnginfo=about)


def png_with(*chunks: bytes) -> bytes:
    whole = made.png()
    return whole[:33] + b"".join(chunks) + whole[33:]


def gif_with(*parts: bytes) -> bytes:
    """Return a GIF with an extension of these parts before its first frame."""
    whole = made.encoded(Image.fromarray(made.pixels()).quantize(64), "GIF")
    table = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
    return whole[:table] + b"!\xfe" + b"".join(parts) + b"\0" + whole[table:]


def flat(width: int, height: int) -> bytes:
    image = Image.new("RGB", (width, height), (200, 9, 9))
    return made.encoded(image, "WEBP", lossless=True, quality=0, method=0)


EXIF = segment(0xE1, b"Exif\0\0x")
HOSTILE: dict[str, dict[str, Hostile]] = {
    "tiles and strips": {
        "tile of 2 GB.tif": Hostile(lambda: tiles(100, 100, 26736, 26736, 1), (TOO_LARGE,)),
        "the same tile 20 times.tif": Hostile(
            lambda: tiles(320, 16, 16, (1 << 30) // 48 // 16 * 16, 20), (TOO_LARGE,)
        ),
        "the same 32 MB in 60,000 strips.tif": Hostile(
            lambda: strips(60_000), (LIMIT, DAMAGED, TRUNCATED, HANDLED), 4
        ),
    },
    "scans of a JPEG": {
        "plain.jpg": Hostile(lambda: scans_behind(b"", 500, 2000), (DAMAGED,)),
        "behind a marker without a length.jpg": Hostile(
            lambda: scans_behind(b"\xff\x01", 20_000, 1000), (DAMAGED,)
        ),
        "behind a restart.jpg": Hostile(lambda: scans_behind(b"\xff\xd3", 500, 2000), (DAMAGED,)),
        "behind a comment.jpg": Hostile(
            lambda: scans_behind(segment(0xFE, b"\xff\xd9"), 500, 2000), (DAMAGED,)
        ),
    },
    "runs of a BMP": {
        "one pixel a run.bmp": Hostile(
            lambda: bmp(1, 4_000_000, 1, b"\1\5" * 16_000_000), (LIMIT, HANDLED, TRUNCATED), 4
        ),
        "going nowhere.bmp": Hostile(
            lambda: bmp(1, 1, 1, b"\0\2\0\0" * 12_000_000), (LIMIT, DAMAGED, TRUNCATED)
        ),
        "four bits, going nowhere.bmp": Hostile(
            lambda: bmp(1, 1, 2, b"\0\2\0\0" * 12_000_000), (LIMIT, DAMAGED, TRUNCATED)
        ),
    },
    "EXIF": {
        "a million blocks.jpg": Hostile(lambda: jpeg_with(*[EXIF] * 1_000_000), (DAMAGED,)),
        "4,000 blocks of 4 kB.jpg": Hostile(
            lambda: jpeg_with(*[segment(0xE1, b"Exif\0\0" + bytes(4000))] * 4000), (LIMIT, HANDLED)
        ),
        "as text.png": Hostile(lambda: profile_as_text(19_000, 200_000), (HANDLED,)),
        "8 million ratios.tif": Hostile(lambda: ratios(8_000_000), (LIMIT, MEMORY)),
        "30 million numbers.tif": Hostile(lambda: numbers(30_000_000), (MEMORY,)),
    },
    "markers of a JPEG": {
        "scans without data.jpg": Hostile(
            lambda: made.jpeg()[:-2] + b"\xff\xda" * (30 << 20) + b"\xff\xd9", (HANDLED, DAMAGED)
        ),
        "ends before the beginning.jpg": Hostile(
            lambda: jpeg_with(b"\xff\xd9" * (30 << 20)), (TRUNCATED,)
        ),
        "bytes before the beginning.jpg": Hostile(
            lambda: jpeg_with(segment(0xFE, b""), bytes(60 << 20)), (LIMIT, HANDLED)
        ),
    },
    "large and flat": {
        "9400 x 9400.webp": Hostile(lambda: flat(9400, 9400), (HANDLED,), 88.4),
        "16383 x 5400.webp": Hostile(lambda: flat(16383, 5400), (HANDLED,), 88.5),
        "5700 x 5700.jp2": Hostile(
            lambda: made.encoded(Image.new("L", (5700, 5700)), "JPEG2000"), (HANDLED,), 32.5
        ),
        "a column.png": Hostile(
            lambda: made.encoded(Image.new("L", (1, 60_000_000)), "PNG"), (LIMIT, MEMORY, HANDLED),
            60,
        ),
    },
    "parts without end": {
        "chunks.png": Hostile(
            lambda: png_with(made.chunk(b"teSt", b"") * 4_000_000), (LIMIT, HANDLED)
        ),
        "parts of a comment.gif": Hostile(
            lambda: gif_with(b"\1x" * 30_000_000), (LIMIT, MEMORY, HANDLED)
        ),
        "a comment.ppm": Hostile(
            lambda: b"P6\n#" + b"x" * 60_000_000 + b"\n1 1\n255\n\0\0\0", (LIMIT, HANDLED)
        ),
        "chunks.webp": Hostile(
            lambda: made.encoded(made.pixels(), "WEBP") + b"ICCP\0\0\0\0" * 8_000_000,
            (LIMIT, HANDLED, DAMAGED),
        ),
    },
}  # fmt: skip
