"""From bytes to upright RGB pixels: the only image decoder of featx."""

from __future__ import annotations

import io
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from featx import forking
from featx.errors import (
    IMAGE_ERRORS,
    ExtractionError,
    ImageChangedError,
    ImageDecodeError,
    ImageError,
    ImageMemoryError,
    ImageReadError,
    ImageTooLargeError,
    NotAnImageError,
    TruncatedImageError,
    UnsupportedImageError,
)
from featx.images import (
    bounds,
    formats,
    heif,
    image_warnings,
    memory,
    pil_images,
    raw,
    reduction,
    worker,
)
from featx.images.elsewhere import Elsewhere
from featx.images.preparation import AS_EVER, Preparation

Source = Path | bytes | np.ndarray | Image.Image | Elsewhere
"""What an image can come as: a file, an encoded image, here or elsewhere, RGB pixels, or a PIL
image."""

T = TypeVar("T")

# Pillow's own warning threshold (a quarter of 1 GiB at 3 bytes a pixel); it only warns there.
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
MAX_BYTES = 64 * 1024 * 1024

# O_NONBLOCK: opening a FIFO without a writer would otherwise wait for ever.
_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_QUIET = forking.lock()
_ALONE = forking.lock()
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
    UnsupportedImageError
        It lies in a folder of a system's own, such as the thumbnails of a NAS; it is not read.
    """
    raw.check_place(path)
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


def decode(content: bytes, name: str = "", *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return the upright RGB pixels of one encoded image.

    EXIF orientation is applied, the first frame of an animation is taken, transparency is
    dropped, palette, grey, CMYK and 1-bit images become RGB, 16-bit grey is scaled by 1/257.

    Parameters
    ----------
    content : bytes
        A file of one of `formats.FORMATS`; the content decides, not a name.
    name : str
        The file's name, without which no TGA file of version 1 is read: nothing in it tells its
        format.
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
    return np.asarray(_open(content, Wanted(name, max_pixels=max_pixels)).upright)


def content_of(source: Source) -> bytes | np.ndarray:
    """Return what a source holds: encoded bytes, or RGB pixels of shape (height, width, 3).

    A PIL image is decoded here, as the file behind it would be: its pixels are its content.

    Raises
    ------
    ImageError
        The file cannot be read, or the PIL image not decoded.
    """
    if isinstance(source, Path):
        return read(source)
    if isinstance(source, Elsewhere):
        return source.read(MAX_BYTES)[0]
    if isinstance(source, Image.Image):
        return np.asarray(_open_pil(source).upright)
    return source


def name_of(source: Source) -> str:
    """Return the name of a source's file, for its suffix; empty where it has none."""
    return source.name if isinstance(source, Path | Elsewhere) else ""


def pixels(source: Source) -> np.ndarray:
    """Return the upright RGB pixels of a source, shape (height, width, 3), dtype uint8.

    Raises
    ------
    ImageError
        The subclass names the reason why the image cannot be used.
    """
    content = content_of(source)
    return content if isinstance(content, np.ndarray) else decode(content, name_of(source))


def header(source: Source) -> tuple[str, int, int]:
    """Return format and colour mode, width and height, from the header alone where it tells.

    Raises
    ------
    ImageError, OSError
        The file cannot be read, or is not an image.
    """
    named = name_of(source)
    if isinstance(source, Elsewhere):
        source = source.read(MAX_BYTES)[0]
    if isinstance(source, np.ndarray):
        return "pixels", source.shape[1], source.shape[0]
    if isinstance(source, Image.Image):
        return f"{source.format or 'PIL'} {source.mode}", *source.size
    try:
        opened = source if isinstance(source, Path) else io.BytesIO(source)
        with Image.open(opened, formats=formats.PILLOW_FORMATS) as image:
            return f"{image.format} {image.mode}", *image.size
    except UnidentifiedImageError:
        content = read(source) if isinstance(source, Path) else source

    def read_header() -> tuple[str, int, int]:
        with _file(content, named) as opened:
            return f"{opened.format} {opened.image.mode}", *opened.image.size

    return _named(read_header, content, named, MAX_PIXELS)


def resize(pixels: np.ndarray, side: int, how: Preparation = AS_EVER) -> np.ndarray:
    """Return the image at (side, side), by one of Pillow's filters, antialiased.

    Parameters
    ----------
    pixels : numpy.ndarray of shape (height, width, 3) and dtype uint8
    side : int
        Pixels along each edge.
    how : Preparation, optional
        By default bilinear, and the aspect ratio is not kept, as Keras and most recipes do.

    Returns
    -------
    numpy.ndarray of shape (side, side, 3) and dtype uint8
    """
    return np.asarray(_resized(Image.fromarray(pixels), side, how.resize, how.filter))


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


def at_side(
    content: bytes | np.ndarray,
    side: int,
    name: str = "",
    *,
    how: Preparation = AS_EVER,
    apart: bool = False,
) -> np.ndarray:
    """Return encoded bytes, of a file of that name, or pixels as a (side, side, 3) uint8 image.

    `how` says how it is decoded and resized; `apart` has a process with limits decode whatever it
    is.
    """
    if isinstance(content, np.ndarray):
        return resize(content, side, how)
    wanted = _wanted(content, name, side, how)
    return np.asarray(_open(content, wanted, apart=apart).upright)


def at_side_with_remarks(
    content: bytes | np.ndarray, side: int, name: str, *, how: Preparation = AS_EVER
) -> Decoded:
    """Return what ``at_side`` does, with remarks on the image as it was before it became RGB.

    Parameters
    ----------
    content : bytes or numpy.ndarray of shape (height, width, 3) and dtype uint8
    side : int
    name : str
        The file's name, whose suffix is compared with the content.
    how : Preparation, optional
    """
    if isinstance(content, np.ndarray):
        return Decoded(resize(content, side, how))
    opened = _open(content, replace(_wanted(content, name, side, how), remarks=True))
    return Decoded(np.asarray(opened.upright), opened.remarks)


def _wanted(content: bytes, name: str, side: int, how: Preparation) -> Wanted:
    least = 2 * side if how.decode == "scaled" else None
    divisor = reduction.divisor(reduction.edges_of(content), side, how)
    return Wanted(name, side, least=least, resize=how.resize, filter=how.filter, divisor=divisor)


def load(
    source: Source, side: int, *, how: Preparation = AS_EVER, apart: bool = False
) -> np.ndarray:
    """Return the image at a path, in bytes, in pixels or of PIL as (side, side, 3) uint8.

    Raises
    ------
    ImageError
        The subclass names the reason why the image cannot be used.
    """
    return at_side(content_of(source), side, name_of(source), how=how, apart=apart)


def thumbnail(source: Source, side: int) -> np.ndarray:
    """Return the image with at most `side` pixels along its longer edge, to be looked at.

    Raises
    ------
    ImageError
        The subclass names the reason why the image cannot be used.
    """
    content = content_of(source)
    if isinstance(content, np.ndarray):
        image = Image.fromarray(content)
    else:
        image = _open(content, Wanted(name_of(source), least=2 * side)).upright
    image.thumbnail((side, side))
    return np.asarray(image)


def _resized(
    image: Image.Image,
    side: int,
    resize: str,
    filter: str,
    size: tuple[float, float] | None = None,
) -> Image.Image:
    """Resize an image, or as much of it as `size` says: from its upper left corner."""
    if image.size == (side, side):
        return image
    width, height = size or image.size
    box = (0.0, 0.0, width, height)
    if resize == "crop":
        edge = min(width, height)
        left, top = (width - edge) / 2, (height - edge) / 2
        box = (left, top, left + edge, top + edge)
    return image.resize((side, side), _FILTERS[filter], box)


def _without_filling(image: Image.Image, size: tuple[int, int], divisor: int) -> Image.Image:
    """Return a reduced image whose last column and row are of the image alone.

    Where an edge is not whole, they are partly of what the encoder filled its last blocks with,
    and some fill them with black (Pillow #3419): their neighbours take their places.
    """
    width, height = image.size
    if size[0] % divisor:
        image.paste(image.crop((width - 2, 0, width - 1, height)), (width - 1, 0))
    if size[1] % divisor:
        image.paste(image.crop((0, height - 2, width, height - 1)), (0, height - 1))
    return image


_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Wanted:
    """What to make of the bytes of an image.

    Attributes
    ----------
    name : str
        The file's name, for its suffix.
    side : int or None
        Pixels along each edge of the result; None for its own size.
    remarks : bool
        Whether remarks are collected.
    least : int or None
        Pixels along an edge down to which a JPEG decoder may make the image smaller itself.
    frame : int
        Which image of an animation.
    max_pixels : int
        The largest image that is decoded.
    resize, filter : str
        How it comes to that side, as in ``Preparation``.
    divisor : int
        By how much its decoder reduces a JPEG: 1, 2, 4 or 8.
    """

    name: str = ""
    side: int | None = None
    remarks: bool = False
    least: int | None = None
    frame: int = 0
    max_pixels: int = MAX_PIXELS
    resize: str = "squash"
    filter: str = "bilinear"
    divisor: int = 1


@dataclass(frozen=True, eq=False)
class Opened:
    """An upright RGB image, and the kinds of remarks on the file's own image."""

    upright: Image.Image
    remarks: tuple[str, ...] = ()


def _open(content: bytes, wanted: Wanted, *, apart: bool = False) -> Opened:
    """Decode an image: here if its headers bound what that takes, else in a process with limits.

    Every failure is an ImageError.
    """
    if not content:
        raise NotAnImageError("the file is empty")
    # To another frame Pillow goes through all before it.
    if not apart and not wanted.frame and bounds.holds(content):
        return decode_here(content, wanted)
    _check_pillow()
    try:
        # Images that may take more are rare.
        with memory.DECODING.part(worker.MEGABYTES * 10**6):
            answer, pixels = worker.ask(asdict(wanted), content)
    except MemoryError as error:
        raise _no_memory() from error
    if "error" in answer:
        raise IMAGE_ERRORS[answer["error"]](answer["reason"])
    array = np.frombuffer(pixels, np.uint8).reshape(answer["shape"])
    return Opened(Image.fromarray(array), tuple(answer["remarks"]))


def decode_here(
    content: bytes,
    wanted: Wanted,
    *,
    know_size: Callable[[int], None] = lambda pixels: None,
    doubt: Callable[[], None] | None = None,
) -> Opened:
    """Decode an image in this process.

    Parameters
    ----------
    content : bytes
    wanted : Wanted
    know_size : callable, optional
        Called with the number of pixels once it is known, before they are decoded.
    doubt : callable, optional
        Called before what looks damaged is decoded once more; raises MemoryError where memory may
        have been short. By default tries to get what decoding can take.

    Raises
    ------
    ImageError
        Every failure is one.
    """

    def decode_it() -> Opened:
        return _decoded(content, wanted, know_size)

    return _named(decode_it, content, wanted.name, wanted.max_pixels, doubt)


def load_decoders() -> None:
    """Import what decodes, with one thread each, for a process whose memory is limited."""
    from PIL import AvifImagePlugin

    Image.init()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    heif.use_one_thread()


def _open_pil(image: Image.Image, max_pixels: int = MAX_PIXELS) -> Opened:
    """Do the same for a PIL image; while it is not loaded, from the file behind it."""
    if not pil_images.is_loaded(image):
        name = pil_images.name_of(image)
        raw.check_place(Path(name))
        content = pil_images.file_of(image, MAX_BYTES)
        if content is None:
            content = read(Path(name))
        if len(content) > MAX_BYTES:
            raise ImageTooLargeError(f"the file has over {MAX_BYTES:,} bytes. Save a smaller copy")
        # The primary image of a HEIF file need not be the first; only that one is read.
        frame = 0 if image.format == "HEIF" else image.tell()
        if image.format == "TGA":  # its caller said so: only a name tells it otherwise
            name = "image.tga"
        return _open(content, Wanted(name, frame=frame, max_pixels=max_pixels))

    def decode_it() -> Opened:
        _check_size(image.size, max_pixels)
        pil_images.load(image)
        if image.format == "TIFF":
            raw.check_tags(getattr(image, "tag_v2", {}))
        return Opened(_upright(_rgb(image, image.format), image))

    return _named(decode_it, b"", "", max_pixels)


def _check_pillow() -> None:
    """Refuse a global switch of Pillow that changes what damaged files give."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ExtractionError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is True: truncated files would be filled "
            "with grey "
            "without a word. Set it to False; featx reports such files by name instead."
        )


def _named(
    decode_it: Callable[[], T],
    content: bytes,
    name: str,
    max_pixels: int,
    doubt: Callable[[], None] | None = None,
) -> T:
    """Return what a decoder gives; each of its failures becomes an ImageError with a reason.

    What looks damaged is decoded once more, one image at a time: libjpeg, libwebp, libtiff and zlib
    call it damage where they had no memory.
    """
    _check_pillow()
    try:
        return _translated(decode_it, content, name, max_pixels)
    except (ImageDecodeError, TruncatedImageError, ImageMemoryError):
        with _ALONE:
            if doubt is None:
                _check_memory(content)
            else:
                doubt()
            return _translated(decode_it, content, name, max_pixels)


# Where no size is known, as much as a photograph of 32 megapixels is asked for.
_UNKNOWN = (8192, 4096)


def _check_memory(content: bytes) -> None:
    """Raise ImageMemoryError if the memory that decoding an image can take is not to be had."""
    try:
        with Image.open(io.BytesIO(content), formats=formats.PILLOW_FORMATS) as image:
            width, height = image.size
    except Exception:  # libwebp cannot even tell the size without memory
        width, height = _UNKNOWN
    try:
        # A progressive JPEG's coefficients take 6 bytes a pixel beside the 3 of the image, and
        # libraries copy.
        np.empty(12 * min(width * height, MAX_PIXELS) + (32 << 20), np.uint8)
    except MemoryError as error:
        known = (width, height) != _UNKNOWN
        raise _no_memory(f" {width} x {height} pixels" if known else "") from error


def _no_memory(what: str = "") -> ImageMemoryError:
    return ImageMemoryError(
        f"not enough memory to decode{what or ' it'} now; run again where there is more, or save a "
        "smaller copy"
    )


def _translated(decode_it: Callable[[], T], content: bytes, name: str, max_pixels: int) -> T:
    try:
        try:
            return decode_it()
        except Warning:
            # Where warnings are errors (python -W error), what Pillow only remarks on, such as
            # damaged EXIF, would make the image a bad one.
            with _QUIET, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return decode_it()
    except Image.DecompressionBombError as error:
        own = Image.MAX_IMAGE_PIXELS
        if own is not None and 2 * own < max_pixels:
            raise ImageReadError(
                f"PIL.Image.MAX_IMAGE_PIXELS is {own:,} in this program, which keeps Pillow from "
                "opening it; featx has a limit of its own"
            ) from error
        raise ImageTooLargeError(
            f"over {max_pixels:,} pixels; not decoded. Save a smaller copy"
        ) from error
    except UnidentifiedImageError as error:
        raise formats.unidentified(content, suffix_of(name)) from error
    except MemoryError as error:
        raise _no_memory() from error
    except ImageError:
        raise
    # Damaged files make Pillow's plugins fail with OSError, SyntaxError, ValueError, struct.error,
    # IndexError, zlib.error and others: whatever it is, this image has no pixels.
    except Exception as error:
        reason = str(error)
        if re.fullmatch(r"(?:decoder|encoder) \S+ not available", reason):
            raise formats.missing_codec(reason.split()[1]) from error
        if "MAX_TEXT_" in reason and PngImagePlugin.MAX_TEXT_CHUNK < ImageFile.SAFEBLOCK:
            raise ImageReadError(
                f"PIL.PngImagePlugin.MAX_TEXT_CHUNK is {PngImagePlugin.MAX_TEXT_CHUNK:,} in this "
                f"program, which keeps Pillow from opening it; by default it is "
                f"{ImageFile.SAFEBLOCK:,}"
            ) from error
        short = "truncated" in reason.lower() or "not enough image data" in reason
        if short or isinstance(error, EOFError) or formats.is_cut(content):
            raise TruncatedImageError("the file ends before the image does") from error
        raise ImageDecodeError(f"the image is damaged: {error}") from error


@dataclass(frozen=True)
class _File:
    """An opened image, not decoded but where it is HEIF, and the name of its format."""

    image: Image.Image
    format: str | None


@contextmanager
def _file(
    content: bytes,
    name: str,
    max_pixels: int = MAX_PIXELS,
    know_size: Callable[[int], None] = lambda pixels: None,
) -> Iterator[_File]:
    """Open an encoded image whose size is within the limit."""
    suffix = suffix_of(name)
    common = content.startswith((b"\xff\xd8\xff", b"\x89PNG"))  # nothing more is asked of these
    if not common:
        raw.check(content, suffix)
    if not common and formats.media_format(content[:256]) == "HEIF":
        coded = heif.opened(content)
        _check_size(coded.size, max_pixels)
        know_size(coded.size[0] * coded.size[1])
        image = heif.decoded(coded)
        _check_size(image.size, max_pixels)
        yield _File(image, "HEIF")
        return
    nameless = not formats.is_image(content[:256]) and (
        suffix == ".tga" or content.endswith(formats.TGA_FOOTER)
    )
    if nameless and not formats.is_tga(content):
        raise formats.unidentified(content, suffix)
    known = ("TGA",) if nameless else formats.PILLOW_FORMATS
    if content.startswith(b"\xff\xd8\xff"):
        formats.check_jpeg(content)
    elif size := formats.webp_size(content):
        _check_size(size, max_pixels)
        know_size(size[0] * size[1])
    with Image.open(io.BytesIO(content), formats=known) as image:
        _check_size(image.size, max_pixels)
        know_size(image.width * image.height)
        yield _File(image, image.format)


def _decoded(content: bytes, wanted: Wanted, know_size: Callable[[int], None]) -> Opened:
    with _file(content, wanted.name, wanted.max_pixels, know_size) as opened:
        image, format = opened.image, opened.format
        size = whole = image.size
        divisor = wanted.divisor if isinstance(image, JpegImageFile) else 1
        if divisor > 1:
            image.draft(None, (whole[0] // divisor, whole[1] // divisor))
            size = whole if "progressive" in image.info else image.size
        if format == "PNG":
            formats.check_png(content)
        elif format == "JPEG":
            if wanted.least is not None:
                image.draft(None, (wanted.least, wanted.least))
                # The coefficients of all its scans are kept whatever size is made of them.
                size = size if "progressive" in image.info else image.size
        elif format == "TIFF":
            formats.check_tiff(getattr(image, "tag_v2", {}), image.size)
        elif format == "JPEG2000":
            formats.check_jpeg2000(content, image.size)
        elif format == "PPM":
            formats.check_pnm(content)
        if wanted.frame:
            image.seek(wanted.frame)
            _check_size(image.size, wanted.max_pixels)
            size = image.size
            know_size(size[0] * size[1])
        with memory.DECODING.part(memory.PER_PIXEL * size[0] * size[1]):
            image = _pnm(image, content) if format == "PPM" else image
            image.load()
            rgb = _rgb(image, format)
            if divisor > 1 and wanted.side is not None:
                part = whole[0] / divisor, whole[1] / divisor
                rgb = _without_filling(rgb, whole, divisor)
                rgb = _resized(rgb, wanted.side, wanted.resize, wanted.filter, part)
            upright = _upright(rgb, image)
            kinds = image_warnings.of_image(image, wanted.name, format) if wanted.remarks else ()
            if wanted.side is not None:
                upright = _resized(upright, wanted.side, wanted.resize, wanted.filter)
        return Opened(upright, tuple(kinds))


def _pnm(image: Any, content: bytes) -> Any:
    """Return a binary PNM image as it is, or decoded where its largest value is an odd one.

    Those Pillow decodes in Python, at a few million values per second; this gives the same.
    """
    decoder, _, offset, args = image.tile[0]
    if decoder != "ppm":
        return image
    maxval, (width, height) = args[1], image.size
    bands = len(image.getbands())
    dtype = np.dtype("u1" if maxval < 256 else ">u2")
    count = width * height * bands
    if len(content) < offset + count * dtype.itemsize:
        raise TruncatedImageError("the file ends before the image does")
    values = np.frombuffer(content, dtype, count, offset).reshape(height, width, bands)
    highest = 65535 if image.mode == "I" else 255
    scaled = np.minimum(np.rint(np.arange(2 ** (8 * dtype.itemsize)) / maxval * highest), highest)
    table = scaled.astype(np.uint16 if image.mode == "I" else np.uint8)
    return Image.fromarray(table[values].squeeze(-1) if bands == 1 else table[values])


def suffix_of(name: str) -> str:
    """Return the suffix of a file's name, in lower case, with its dot; empty if it has none."""
    return os.path.splitext(name)[1].lower()


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{width} x {height} pixels; the limit is {max_pixels:,} in all. "
            "Not decoded. Save a smaller copy"
        )


def _rgb(image: Image.Image, format: str | None) -> Image.Image:
    mode = image.mode
    # Pillow opens a grey PNM file of more than 8 bits as 32-bit integers, scaled to 16 bits.
    if mode.startswith("I;16") or (mode == "I" and format == "PPM"):
        # Pillow's own conversion clips at 255 and leaves a white image.
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if mode in ("I", "F"):
        raise UnsupportedImageError(
            f"pixels are {'32-bit integers' if mode == 'I' else 'floating-point numbers'} without "
            "a stated range; save the image with 8 or 16 bits"
        )
    if mode == "LAB":
        raise UnsupportedImageError("colours are in CIELAB; save the image in RGB")
    if mode in ("La", "RGBa"):  # Pillow has no way from these to RGB but through these
        image = image.convert("LA" if mode == "La" else "RGBA")
    return image if mode == "RGB" else image.convert("RGB")


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    try:
        orientation: Any = image.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return pixels
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return pixels if turn is None else pixels.transpose(turn)
