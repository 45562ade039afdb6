"""Which files can be images: by their names, how they begin, and what a decoder overlooks."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import features

from featx.errors import (
    ImageDecodeError,
    ImageError,
    ImageTooLargeError,
    MissingDecoderError,
    NotAnImageError,
    TruncatedImageError,
    UnsupportedImageError,
)

# Pillow's advice for untrusted files: name the formats. Among those left out is EPS, which
# would start Ghostscript. These are told by their first bytes.
PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
# A TGA file has no first bytes of its own, and is one where its name or its footer says so; a HEIF
# file is read by a package of its own.
FORMATS = (*PILLOW_FORMATS, "TGA", "HEIF")
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
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pbm": "PPM",
    ".pnm": "PPM",
    ".tga": "TGA",
    ".jp2": "JPEG2000",
    ".j2k": "JPEG2000",
    ".j2c": "JPEG2000",
    ".jpc": "JPEG2000",
    ".jpf": "JPEG2000",
    ".jpx": "JPEG2000",
    ".avif": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".hif": "HEIF",
}
SUFFIXES = frozenset(FORMAT_OF_SUFFIX)


@dataclass(frozen=True)
class Unread:
    """A kind of image that is known and not read.

    Attributes
    ----------
    name : str
    suffixes : tuple of str
    magic : tuple of bytes
        What such a file begins with; empty where nothing short tells it.
    at : int
        Where the magic stands.
    """

    name: str
    suffixes: tuple[str, ...]
    magic: tuple[bytes, ...] = ()
    at: int = 0


_SVG, _EPS = Unread("SVG", (".svg", ".svgz")), Unread("EPS", (".eps",), (b"\xc5\xd0\xd3\xc6",))
UNREAD = (
    Unread("JPEG XL", (".jxl",), (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    Unread("Photoshop", (".psd", ".psb"), (b"8BPS",)),
    _SVG,
    _EPS,
    Unread("JPEG XR", (".jxr", ".wdp", ".hdp"), (b"II\xbc",)),
    Unread("OpenEXR", (".exr",), (b"v/1\x01",)),
    Unread("Radiance HDR", (), (b"#?RADIANCE", b"#?RGBE")),
    Unread("DICOM", (".dcm", ".dicom"), (b"DICM",), 128),
    Unread("FITS", (".fits",), (b"SIMPLE  =",)),
    Unread("NIfTI", (".nii",), (b"n+1\0", b"ni1\0"), 344),
    Unread("DirectDraw Surface", (".dds",), (b"DDS ",)),
    Unread("PCX", (".pcx",)),
    Unread("GIMP", (".xcf",), (b"gimp xcf",)),
    Unread("icon", (".ico", ".icns"), (b"\0\0\1\0", b"icns")),
    Unread("QOI", (".qoi",), (b"qoif",)),
    Unread("SGI", (".sgi",), (b"\x01\xda",)),
    Unread("PAM", (".pam",), (b"P7\n",)),
    Unread("PFM", (".pfm",), (b"PF\n", b"Pf\n")),  # floating-point numbers
    Unread("BPG", (".bpg",), (b"BPG\xfb",)),
    Unread("FLIF", (".flif",), (b"FLIF",)),
    Unread("DjVu", (".djvu", ".djv"), (b"AT&TFORM",)),
    Unread("MNG", (".mng", ".jng"), (b"\x8aMNG", b"\x8bJNG")),
    Unread("Windows metafile", (".wmf", ".emf"), (b"\xd7\xcd\xc6\x9a",)),
)
FOREIGN_SUFFIXES = frozenset(suffix for unread in UNREAD for suffix in unread.suffixes)

_JP2 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_MAGIC = (
    b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*", *_JP2,
)  # fmt: skip
# Binary ones alone: two letters and a number may begin any text.
_PNM = re.compile(rb"P[4-6]\s+(?:#|\d)")
# Brands in the box `ftyp`, which begins files of the ISO base media format (ISO/IEC 14496-12).
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)
_VIDEO_BRANDS = (b"qt", b"iso", b"mp4", b"M4V", b"3gp", b"3g2", b"avc1", b"dash")
_FOREIGN = {
    b"\x1f\x8b": "gzip-compressed data",
    b"%!PS": "PostScript",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"<": "HTML, XML or SVG text",
}
# What Pillow may have been built without: the name that `PIL.features` gives it.
_CODECS = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000", "JPEG": "jpg", "PNG": "zlib"}


# Each scan of a progressive JPEG passes over the whole image: 500 empty ones in a file of 31 kB
# held a processor for 4 s at 2000 x 2000 pixels. Encoders write 10, at most about 20.
MAX_SCANS = 32

# A file of 64 MiB has 1,024 segments of the largest size.
MAX_SEGMENTS = 4096

# A marker that is not passed over: 0xFF and 0 is data, restarts and what is below 0xC0 have no
# length, and several 0xFF are one.
_SEGMENT = struct.Struct(">BBH")
_MARKER = re.compile(rb"\xff[^\x00-\xbf\xd0-\xd7\xff]")
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)


def is_image(head: bytes) -> bool:
    """Return whether a file that begins with these bytes looks like an image featx can read."""
    return head.startswith(_MAGIC) or bool(_PNM.match(head)) or media_format(head) is not None


def media_format(head: bytes) -> str | None:
    """Return "AVIF" or "HEIF" if a file of the ISO base media format begins so, else None."""
    brands = _brands(head)
    if _AVIF_BRANDS & brands:
        return "AVIF"
    return "HEIF" if _HEIF_BRANDS & brands else None


def _brands(head: bytes) -> set[bytes]:
    """Return the major brand of a media file, and the others it is compatible with."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head), 256)
    return {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}


def is_cut(content: bytes) -> bool:
    """Return whether a file of the ISO base media format ends within one of its boxes."""
    position = 0
    while media_format(content[:256]) is not None and position + 8 <= len(content):
        (size,) = struct.unpack_from(">I", content, position)
        if size == 1 and position + 16 <= len(content):
            (size,) = struct.unpack_from(">Q", content, position + 8)
        if size < 8:  # 0: up to the end of the file
            return False
        position += size
    return position > len(content)


def unread(content: bytes) -> Unread | None:
    """Return the kind of image that content is, if it is one that featx does not read."""
    for kind in UNREAD:
        if kind.magic and content.startswith(kind.magic, kind.at):
            return kind
    start = content[:4096].lstrip()
    if start.startswith(b"%!PS-Adobe") and b"EPSF" in start[:40]:
        return _EPS
    return _SVG if start.startswith(b"<") and b"<svg" in start else None


# A path to an image, as bytes.
_PATH = re.compile(
    rb"[^\0\r\n]{1,4096}\.(?:%s)" % b"|".join(s[1:].encode() for s in sorted(SUFFIXES)),
    re.IGNORECASE,
)


def unidentified(content: bytes, suffix: str = "") -> ImageError:
    """Return the error for content that does not begin like an image: what it seems to be."""
    missing = _missing_codec(content)
    if missing is not None:
        return missing
    kind = unread(content)
    if kind is not None:
        return UnsupportedImageError(
            f"an image of a kind that featx does not read ({kind.name}); save it as PNG or JPEG"
        )
    if is_cut(content):
        return TruncatedImageError("the file ends before the image does")
    if content.startswith(b"\xff\xd8\xff"):
        return TruncatedImageError("the file ends before the image does: only a JPEG's header")
    if is_image(content[:256]):
        return NotAnImageError("begins like an image, but what follows is not an image's header")
    if content[4:8] == b"ftyp":
        if content[8:12].startswith(_VIDEO_BRANDS):
            return NotAnImageError("not an image: the content is a video")
        brand = content[8:12].decode("ascii", "backslashreplace")
        return UnsupportedImageError(
            f"a media file of a kind that featx does not read ({brand!r}); save it as PNG or JPEG"
        )
    start = content[:4096].lstrip()[:16]
    found = next((what for magic, what in _FOREIGN.items() if start.startswith(magic)), None)
    # h5py gives text back as bytes. They are never opened: whoever sent them may be a stranger.
    if found is None and _PATH.fullmatch(content):
        text = content.decode("ascii", "replace")
        found = f"the path {text!r} as bytes (pass paths as text: path.decode())"
    return NotAnImageError(
        f"not an image: the content is {found or f'{len(content):,} bytes of another kind'}; "
        f"expected one of {', '.join(FORMATS)}" + _about_tga(content, suffix)
    )


def _about_tga(content: bytes, suffix: str) -> str:
    if suffix == ".tga":
        return " (its header is not that of a TGA file)"
    if is_tga(content):
        return " (if it is a TGA file without a footer, only a name that ends in .tga tells it)"
    return ""


def _missing_codec(content: bytes) -> MissingDecoderError | None:
    found = media_format(content[:256])
    if found is None and content.startswith(_JP2):
        found = "JPEG2000"
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        found = "WEBP"
    if found not in _CODECS or features.check(_CODECS[found]):
        return None
    return missing_codec(found)


def missing_codec(format: str | None) -> MissingDecoderError:
    """Return the error for an image whose format this machine's Pillow was built without."""
    return MissingDecoderError(
        f"an image of a kind that Pillow was built without on this machine ({format}); install "
        "the Pillow of the Python Package Index (pip install --force-reinstall Pillow), or save "
        "the image as PNG or JPEG"
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


def jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield kind, position and length of a JPEG's segments, up to its first scan.

    As encoders write them: it ends where something stands between two of them, which ``jpeg_scans``
    passes over. Raises struct.error where the file is cut short.
    """
    at = 2
    while True:
        lead, kind, length = _SEGMENT.unpack_from(content, at)
        if lead != 0xFF or length < 2:
            return
        yield kind, at, length
        if kind == 0xDA:
            return
        at += 2 + length


def jpeg_scans(content: bytes) -> int:
    """Return how many scans a JPEG decoder passes over; one more than the limit where it is over.

    Markers are followed as libjpeg does (jdmarker.c), which passes over whatever stands between
    them. Where it may do either of two things the one with more scans is taken.
    """
    position, scans, components, progressive = 2, 0, 0, False
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.search(content, position)
        if marker is None:
            return scans
        kind, position = content[marker.end() - 1], marker.end()
        if kind in (0xD8, 0xD9) or 0xF0 <= kind <= 0xFD:  # the end of the image, or of libjpeg
            return scans
        length = int.from_bytes(content[position : position + 2], "big")
        if kind == 0xDA:
            scans += 1
            # All components in one scan that is not a refinement: what follows is not read.
            if (
                scans == 1
                and not progressive
                and content[position + 2 : position + 3] == bytes([components])
            ):
                return 1
            if scans > MAX_SCANS:
                return scans
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            progressive |= kind in _PROGRESSIVE
            components = content[position + 7] if position + 7 < len(content) else 0
        position += max(length, 2)
    return MAX_SCANS + 1


def check_jpeg(content: bytes) -> None:
    """Refuse a header alone, and more scans than any encoder writes: each is a pass over all."""
    scans = jpeg_scans(content)
    if not scans:
        raise TruncatedImageError("the file ends before the image does: only a JPEG's header")
    if scans > MAX_SCANS:
        raise ImageDecodeError(
            f"the image is damaged: over {MAX_SCANS} scans, or {MAX_SEGMENTS:,} segments"
        )


def webp_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height of a WebP by its first chunk; libwebp takes memory to tell them.

    Fields as in RFC 9649: sections 2.5 (lossy), 3.4 (lossless) and 2.7 (extended).
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP" or len(content) < 30:
        return None
    kind = content[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (both,) = struct.unpack_from("<I", content, 21)
        return 1 + (both & 0x3FFF), 1 + (both >> 14 & 0x3FFF)
    if kind == b"VP8X":
        right, bottom = content[24:27], content[27:30]
        return 1 + int.from_bytes(right, "little"), 1 + int.from_bytes(bottom, "little")
    return None


def check_jpeg2000(content: bytes, size: tuple[int, int]) -> None:
    """Refuse a codestream of another size than its file declares.

    The decoder follows the codestream, whose marker SIZ (ISO/IEC 15444-1, A.5.1) holds the size of
    the image on its reference grid.
    """
    at = content.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(content) < at + 24:
        raise TruncatedImageError("the file ends before the image does: only a header")
    right, bottom, left, top = struct.unpack_from(">IIII", content, at + 8)
    if (right - left, bottom - top) != size:
        raise ImageDecodeError(
            f"the image is damaged: its header says {size[0]} x {size[1]} pixels, its data "
            f"{right - left} x {bottom - top}"
        )


# Tags 322 and 323 of TIFF 6.0, section 15.
_TILE_WIDTH, _TILE_LENGTH = 322, 323
# Pixels of tiles beyond four times those of the image: small images have tiles of 256 x 256.
_SPARE_PIXELS = 2**24


def check_tiff(tags: Mapping[int, Any], size: tuple[int, int]) -> None:
    """Refuse tiles that are far larger than the image: each is decoded whole.

    100 x 100 pixels in tiles of a gigabyte took hours, and 2 GB.

    Parameters
    ----------
    tags : mapping of int
        As Pillow has them in ``tag_v2``.
    """
    across, down = (_number(tags.get(tag)) for tag in (_TILE_WIDTH, _TILE_LENGTH))
    if not across or not down:
        return
    width, height = size
    pixels = -(-width // across) * across * -(-height // down) * down
    if pixels > 4 * width * height + _SPARE_PIXELS:
        raise ImageTooLargeError(
            f"tiles of {across} x {down} pixels for an image of {width} x {height}: not decoded. "
            "Save it as TIFF without tiles, PNG or JPEG"
        )


def _number(value: Any) -> int:
    found = value[0] if isinstance(value, tuple) and value else value
    return int(found) if isinstance(found, int) else 0


MAX_TEXT_BYTES = 8 * 1024 * 1024
"""The largest image written in digits (PNM "plain") that is read: Pillow reads them in Python."""


def check_pnm(content: bytes) -> None:
    """Refuse a large image that is written in digits."""
    if content[:2] in (b"P1", b"P2", b"P3") and len(content) > MAX_TEXT_BYTES:
        raise ImageTooLargeError(
            f"an image of {len(content):,} bytes written in digits; the limit is "
            f"{MAX_TEXT_BYTES:,}. Save it as PNG"
        )


TGA_FOOTER = b"TRUEVISION-XFILE.\0"
"""What a TGA file of version 2 (1989) ends with; one of version 1 has nothing of the kind."""


def is_tga(content: bytes) -> bool:
    """Return whether content has a header that a TGA file can have; it has no magic.

    Fields as in Truevision's TGA File Format Specification, version 2.0, part 1.
    """
    if len(content) < 18:
        return False
    has_map, kind = content[1], content[2]
    first, count, map_bits = struct.unpack_from("<HHB", content, 3)
    width, height, depth, flags = struct.unpack_from("<HHBB", content, 12)
    depths = {1: (8,), 2: (16, 24, 32), 3: (8, 16)}.get(kind & ~8, ())
    if has_map > 1 or (kind & ~8 == 1 and not has_map):
        return False
    if has_map and (map_bits not in (16, 24, 32) or not 0 < first + count <= 65536):
        return False
    if not has_map and (first or count or map_bits not in (0, 16, 24, 32)):
        return False
    return depth in depths and bool(width and height) and not flags & 0xC0 and flags & 0x0F <= 8
