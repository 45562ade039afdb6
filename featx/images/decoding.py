"""From bytes to upright RGB pixels: the only image decoder of featx."""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from featx import forking
from featx.errors import (
    ExtractionError,
    ImageChangedError,
    ImageDecodeError,
    ImageError,
    ImageReadError,
    ImageTooLargeError,
    NotAnImageError,
    TruncatedImageError,
    UnsupportedImageError,
)
from featx.images import image_warnings
from featx.images.formats import FORMATS, check_jpeg, check_png, unidentified

# Pillow's own warning threshold (a quarter of 1 GiB at 3 bytes a pixel); it only warns there.
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
MAX_BYTES = 64 * 1024 * 1024

# What the pixels depend on besides the bytes; a part of every cache key.
POLICY = {
    "decoder": "pillow",
    "orientation": "exif",
    "alpha": "dropped",
    "grey16": "scaled by 1/257",
    "frame": "first",
    "resize": "pillow bilinear antialiased",
}

# What `scaled` puts in the place of "decoder".
_SCALED = "pillow; JPEG at the smallest of 8/8, 4/8, 2/8, 1/8 that is twice the side or more"

# O_NONBLOCK: opening a FIFO without a writer would otherwise wait for ever.
_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_QUIET = forking.lock()
# EXIF tag 0x0112; values from the EXIF 2.3 standard, table of orientations.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def policy(scaled: bool = False) -> dict[str, str]:
    """Return what the pixels depend on besides the bytes; a part of every cache key."""
    return {**POLICY, "decoder": _SCALED} if scaled else dict(POLICY)


def read(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file, read once; see ``read_with_stat``."""
    return read_with_stat(path, max_bytes=max_bytes)[0]


def read_with_stat(path: Path, *, max_bytes: int = MAX_BYTES) -> tuple[bytes, os.stat_result]:
    """Return the bytes of a regular file, read once, and its stat from before it was read.

    Parameters
    ----------
    path : Path
        The file; links are followed.
    max_bytes : int, optional
        The largest file that is read; by default ``MAX_BYTES`` (64 MiB).

    Returns
    -------
    content : bytes
        The whole content.
    stat : os.stat_result

    Raises
    ------
    ImageReadError
        The file is missing, not readable, or not a regular file (a pipe is never waited for).
    ImageTooLargeError
        The file is larger than `max_bytes`; it is not read.
    ImageChangedError
        Size or modification time moved while the file was read.
    """
    # Every system call lets other threads in: where these decode, each takes some 30 us.
    try:
        descriptor = os.open(path, _READING)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise ImageReadError("not a regular file (a folder, pipe, socket or device)")
            if before.st_size > max_bytes:
                raise ImageTooLargeError(
                    f"the file has {before.st_size:,} bytes; the limit is {max_bytes:,}. "
                    "Save a smaller copy"
                )
            content = os.read(descriptor, before.st_size + 1)
            while len(content) < before.st_size and (more := os.read(descriptor, before.st_size)):
                content += more
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ImageReadError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ImageReadError(f"cannot be read: {error}") from error
    if (before.st_size, before.st_mtime_ns) != (len(content), after.st_mtime_ns):
        raise ImageChangedError("the file changed while it was read; run again when it is whole")
    return content, before


def decode(content: bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return the upright RGB pixels of one encoded image.

    EXIF orientation is applied, the first frame of an animation is taken, transparency is
    dropped, palette, grey, CMYK and 1-bit images become RGB, 16-bit grey is scaled by 1/257.

    Parameters
    ----------
    content : bytes
        A JPEG, PNG, WebP, BMP, GIF or TIFF file; the content decides, not a name.
    max_pixels : int, optional
        The largest image that is decoded; by default ``MAX_PIXELS``.

    Returns
    -------
    numpy.ndarray of shape (height, width, 3) and dtype uint8
        RGB, 0-255.

    Raises
    ------
    ImageError
        The subclass names the reason: not an image, truncated, damaged, too large, unsupported.
    """
    return np.asarray(_open(content, max_pixels=max_pixels).upright)


def resize(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return the image at (side, side): Pillow's bilinear filter, antialiased.

    Parameters
    ----------
    pixels : numpy.ndarray of shape (height, width, 3) and dtype uint8
    side : int
        Pixels along each edge; the aspect ratio is not kept, as Keras and most recipes do.

    Returns
    -------
    numpy.ndarray of shape (side, side, 3) and dtype uint8
    """
    return _resized(Image.fromarray(pixels), side)


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded image, and what was noticed about the file it came from.

    Attributes
    ----------
    pixels : numpy.ndarray of shape (side, side, 3) and dtype uint8
        RGB, 0-255.
    remarks : tuple of str
        Kinds of remarks, keys of ``image_warnings``; empty for what came as pixels.
    """

    pixels: np.ndarray
    remarks: tuple[str, ...] = ()


def at_side(content: bytes | np.ndarray, side: int, *, scaled: bool = False) -> np.ndarray:
    """Return encoded bytes or pixels as a (side, side, 3) uint8 image.

    `scaled` lets the JPEG decoder itself make large images smaller, to no less than twice the
    side.
    """
    if isinstance(content, np.ndarray):
        return resize(content, side)
    return _resized(_open(content, least=_least(side, scaled)).upright, side)


def at_side_with_remarks(
    content: bytes | np.ndarray, side: int, name: str, *, scaled: bool = False
) -> Decoded:
    """Return what ``at_side`` does, with remarks on the image as it was before it became RGB.

    Parameters
    ----------
    content : bytes or numpy.ndarray of shape (height, width, 3) and dtype uint8
    side : int
    name : str
        The file's name, whose suffix is compared with the content.
    scaled : bool, default=False
    """
    if isinstance(content, np.ndarray):
        return Decoded(resize(content, side))
    opened = _open(content, name, least=_least(side, scaled))
    return Decoded(_resized(opened.upright, side), opened.remarks)


def _least(side: int, scaled: bool) -> int | None:
    return 2 * side if scaled else None


def load(source: Path | bytes | np.ndarray, side: int, *, scaled: bool = False) -> np.ndarray:
    """Return the image at a path, in bytes, or in pixels as (side, side, 3) uint8.

    Raises
    ------
    ImageError
        The subclass names the reason why the image cannot be used.
    """
    content = read(source) if isinstance(source, Path) else source
    return at_side(content, side, scaled=scaled)


def thumbnail(source: Path | bytes | np.ndarray, side: int) -> np.ndarray:
    """Return the image with at most `side` pixels along its longer edge, to be looked at.

    Raises
    ------
    ImageError
        The subclass names the reason why the image cannot be used.
    """
    content = read(source) if isinstance(source, Path) else source
    if isinstance(content, np.ndarray):
        image = Image.fromarray(content)
    else:
        image = _open(content, least=2 * side).upright
    image.thumbnail((side, side))
    return np.asarray(image)


def _resized(image: Image.Image, side: int) -> np.ndarray:
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image)


@dataclass(frozen=True, eq=False)
class _Opened:
    """An upright RGB image, and the kinds of remarks on the file's own image."""

    upright: Image.Image
    remarks: tuple[str, ...]


def _open(
    content: bytes,
    name: str | None = None,
    *,
    least: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> _Opened:
    """Decode an image, and collect remarks on it where its `name` is given.

    Every failure is an ImageError.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ExtractionError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is True: truncated files would be filled "
            "with grey "
            "without a word. Set it to False; featx reports such files by name instead."
        )
    if not content:
        raise NotAnImageError("the file is empty")
    try:
        try:
            return _decoded(content, name, least, max_pixels)
        except Warning:
            # Where warnings are errors (python -W error), what Pillow only remarks on, such as
            # damaged EXIF, would make the image a bad one.
            with _QUIET, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _decoded(content, name, least, max_pixels)
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(
            f"over {max_pixels:,} pixels; not decoded. Save a smaller copy"
        ) from error
    except UnidentifiedImageError as error:
        raise unidentified(content) from error
    except (ImageError, MemoryError):
        raise
    # Damaged files make Pillow's plugins fail with OSError, SyntaxError, ValueError, struct.error,
    # IndexError, zlib.error and others: whatever it is, this image has no pixels.
    except Exception as error:
        if "truncated" in str(error).lower() or isinstance(error, EOFError):
            raise TruncatedImageError("the file ends before the image does") from error
        raise ImageDecodeError(f"the image is damaged: {error}") from error


def _decoded(content: bytes, name: str | None, least: int | None, max_pixels: int) -> _Opened:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        _check_size(image, max_pixels)
        if image.format == "PNG":
            check_png(content)
        elif image.format == "JPEG":
            check_jpeg(content)
            if least is not None:
                image.draft(None, (least, least))
        image.load()
        upright = _upright(_rgb(image), image)
        remarks = () if name is None else tuple(image_warnings.of_image(image, name))
        return _Opened(upright, remarks)


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{width} x {height} pixels; the limit is {max_pixels:,} in all. "
            "Not decoded. Save a smaller copy"
        )


def _rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode.startswith("I;16"):
        # Pillow's own conversion clips at 255 and leaves a white image.
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if mode in ("I", "F"):
        raise UnsupportedImageError(
            f"pixels are {'32-bit integers' if mode == 'I' else 'floating-point numbers'} without "
            "a stated range; save the image with 8 or 16 bits"
        )
    return image if mode == "RGB" else image.convert("RGB")


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    try:
        orientation: Any = image.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return pixels
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return pixels if turn is None else pixels.transpose(turn)
