"""Cases 1-47, image contents: what a file holds, and what featx must make of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featx.images import decoding
from tests.promises import images as made
from tests.promises.cases import HANDLED, case
from tests.promises.isolated import Reader

MAX_SECONDS, MAX_RSS_MB = 2, 600
READINGS: list[dict[str, Any]] = []

Check = Callable[[np.ndarray], bool]


@dataclass(frozen=True)
class Content:
    """One file; those of one number are variants of one case, with one outcome.

    Attributes
    ----------
    make : callable that returns bytes
    kinds : tuple of str
        The remarks on it.
    check : callable, optional
        Judges the decoded (height, width, 3) pixels.
    size : int, optional
        The file is sparse up to this size.
    """

    id: int
    title: str
    make: Callable[[], bytes]
    outcome: str
    name: str = "x.jpg"
    kinds: tuple[str, ...] = ()
    check: Check | None = None
    size: int | None = None
    why: str = ""

    def __str__(self) -> str:
        return f"{self.id}-{self.title.replace(' ', '_')}"


def like_the_original(pixels: np.ndarray) -> bool:
    """Return whether the pixels are upright and of the original colours, but for JPEG's losses."""
    original = made.pixels()
    if pixels.shape != original.shape:
        return False
    return float(np.abs(pixels.astype(int) - original).mean()) < 6


def same(pixels: np.ndarray) -> bool:
    return np.array_equal(pixels, made.pixels())


def grey(pixels: np.ndarray) -> bool:
    """Return whether the three channels are equal and the original's light and dark are kept."""
    light = made.pixels().mean(axis=2)
    equal = (pixels[..., :1] == pixels).all()
    return bool(equal) and float(np.corrcoef(pixels[..., 0].ravel(), light.ravel())[0, 1]) > 0.9


def grey16(pixels: np.ndarray) -> bool:
    return np.array_equal(pixels, np.repeat(made.pixels()[..., :1], 3, axis=2))


NOT_AN_IMAGE = "NotAnImageError"
TRUNCATED = "TruncatedImageError"
DECODE = "ImageDecodeError"
TOO_LARGE = "ImageTooLargeError"
UNSUPPORTED = "UnsupportedImageError"

CONTENTS = [
    Content(1, "zero bytes", lambda: b"", NOT_AN_IMAGE),
    Content(2, "one byte", lambda: b"\xff", NOT_AN_IMAGE),
    Content(3, "text", lambda: b"this is not an image\n" * 9, NOT_AN_IMAGE),
    Content(4, "an HTML error page", lambda: b"<html><h1>404 Not Found</h1></html>", NOT_AN_IMAGE),
    Content(5, "JPEG cut in half", lambda: made.jpeg()[: len(made.jpeg()) // 2], TRUNCATED),
    Content(6, "JPEG without its end marker", lambda: made.jpeg()[:-2], TRUNCATED),
    Content(7, "JPEG header only", made.jpeg_header, TRUNCATED),
    Content(
        8,
        "progressive JPEG cut",
        lambda: made.jpeg(progressive=True)[: len(made.jpeg(progressive=True)) // 2],
        TRUNCATED,
    ),
    Content(9, "PNG cut", lambda: made.png()[: len(made.png()) // 2], TRUNCATED, "x.png"),
    Content(10, "PNG with a wrong checksum of its pixels", made.wrong_idat, DECODE, "x.png"),
    Content(11, "PNG without its end", lambda: made.png()[:-12], HANDLED, "x.png", check=same),
    Content(
        12,
        "JPEG with 1 kB behind it",
        lambda: made.jpeg() + bytes(1000),
        HANDLED,
        check=like_the_original,
    ),
    Content(13, "JPEG damaged in the middle", made.damaged_middle, HANDLED),
    Content(14, "20000 x 20000", lambda: made.declared_png(20000, 20000), TOO_LARGE, "x.png"),
    Content(15, "12000 x 10000", lambda: made.declared_png(12000, 10000), TOO_LARGE, "x.png"),
    Content(
        16,
        "PNG of 2^31-1 pixels an edge",
        lambda: made.declared_png(2**31 - 1, 2**31 - 1),
        TOO_LARGE,
        "x.png",
    ),
    Content(17, "PNG of 0 x 0", lambda: made.declared_png(0, 0), NOT_AN_IMAGE, "x.png"),
    Content(
        18,
        "one pixel",
        lambda: made.encoded(Image.new("RGB", (1, 1)), "PNG"),
        HANDLED,
        "x.png",
        ("tiny",),
    ),
    Content(
        19,
        "1 x 5000",
        lambda: made.encoded(Image.new("RGB", (1, 5000)), "PNG"),
        HANDLED,
        "x.png",
        ("tiny", "slender"),
    ),
    Content(20, "16-bit grey PNG", made.png_grey16, HANDLED, "x.png", check=grey16),
    Content(21, "16-bit RGB PNG", made.png_rgb16, HANDLED, "x.png", check=same),
    Content(22, "floating-point TIFF", made.tiff_float, UNSUPPORTED, "x.tif"),
    Content(23, "TIFF of two pages", made.tiff_pages, HANDLED, "x.tif", ("frames",), same),
    Content(24, "CMYK JPEG", made.cmyk, HANDLED, kinds=("cmyk",), check=like_the_original),
    Content(25, "YCCK JPEG, inverted as Adobe does", made.ycck, HANDLED, kinds=("cmyk",),
            check=like_the_original),
    Content(26, "palette PNG", lambda: made.png("P"), HANDLED, "x.png"),
    Content(
        27,
        "palette PNG with a transparent colour",
        made.palette_with_transparency,
        HANDLED,
        "x.png",
        ("transparent",),
    ),
    Content(
        28,
        "wholly transparent PNG",
        lambda: made.encoded(made.transparent(0), "PNG"),
        HANDLED,
        "x.png",
        ("invisible",),
        same,
    ),
    Content(29, "grey with alpha", lambda: made.png("LA"), HANDLED, "x.png", check=grey),
    Content(30, "1 bit a pixel", lambda: made.png("1"), HANDLED, "x.png"),
    Content(
        31,
        "grey JPEG",
        lambda: made.encoded(Image.fromarray(made.pixels()).convert("L"), "JPEG", quality=95),
        HANDLED,
        check=grey,
    ),
    Content(32, "animated GIF", lambda: made.animated("GIF"), HANDLED, "x.gif", ("frames",)),
    Content(
        33, "animated WebP", lambda: made.animated("WEBP"), HANDLED, "x.webp", ("frames",), same
    ),
    Content(34, "GIF of 10,000 frames", lambda: made.gif_frames(10_000), HANDLED, "x.gif",
            ("frames",)),
    *(
        Content(
            35,
            f"EXIF orientation {orientation}",
            lambda orientation=orientation: made.exif_jpeg(orientation),
            HANDLED,
            check=like_the_original,
        )
        for orientation in range(1, 9)
    ),
    *(
        Content(
            36,
            f"EXIF orientation {orientation}",
            lambda orientation=orientation: made.exif_jpeg(orientation),
            HANDLED,
            check=like_the_original,
        )
        for orientation in (0, 99)
    ),
    Content(36, "EXIF orientation in words", made.exif_text, HANDLED, check=like_the_original),
    Content(37, "EXIF cut short", made.cut_exif, HANDLED, check=like_the_original),
    Content(
        38,
        "EPS",
        lambda: made.encoded(made.pixels(), "EPS"),
        UNSUPPORTED,
    ),
    Content(
        39,
        "SVG",
        lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        UNSUPPORTED,
        "x.png",
    ),
    Content(40, "PNG named .jpg", made.png, HANDLED, kinds=("misnamed",), check=same),
    Content(41, "gzip'd JPEG", made.gzipped, NOT_AN_IMAGE),
    Content(
        42,
        "AVIF",
        lambda: made.encoded(made.pixels(), "AVIF", quality=100),
        HANDLED,
        "x.avif",
        check=like_the_original,
    ),
    Content(42, "JPEG 2000", lambda: made.encoded(made.pixels(), "JPEG2000"), HANDLED, "x.jp2",
            check=same),
    Content(42, "PPM", lambda: made.encoded(made.pixels(), "PPM"), HANDLED, "x.ppm", check=same),
    Content(42, "PGM of 16 bits", made.pgm16, HANDLED, "x.pgm", check=grey16),
    Content(42, "TGA", lambda: made.encoded(made.pixels(), "TGA"), HANDLED, "x.tga", check=same),
    Content(
        43,
        "JPEG with 500 scans",
        lambda: made.progressive_scans(500),
        DECODE,
        why="refused at once: each scan passes over the whole image, here 4 s in 31 kB",
    ),
    Content(
        44, "PNG with 100 MB of compressed text", made.png_with_text, DECODE,
        "x.png",
    ),
    Content(
        45, "damaged colour profile", made.broken_profile, HANDLED, check=like_the_original
    ),
    Content(46, "file of 65 MiB", made.jpeg, TOO_LARGE, size=65 << 20),
    Content(47, "sparse file of 10 GB", made.jpeg, TOO_LARGE, size=10_000_000_000),
]  # fmt: skip


def written(content: Content, folder: Path) -> Path:
    """Write the file, and return where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / content.name
    path.write_bytes(content.make())
    if content.size is not None:
        os.truncate(path, content.size)  # sparse: only the declared size is large
    return path


def read_alone(variant: Content, tmp_path: Path, reader: Reader) -> str:
    """Read the file in a process of its own, within its limits of time and memory."""
    path = written(variant, tmp_path)
    result = reader.read(path)
    READINGS.append(result)
    assert result["seconds"] < MAX_SECONDS
    assert result["rss_mb"] < MAX_RSS_MB
    if result["outcome"] == HANDLED and variant.check is not None:
        assert variant.check(decoding.pixels(path))
    outcome: str = result["outcome"]
    return outcome


for number, group in groupby(CONTENTS, key=lambda content: content.id):
    files = tuple(group)
    case(number, files[0].outcome, title=files[0].title, variants=files, why=files[0].why)(
        read_alone
    )
