"""Which files can be pictures, by their names and by how they begin."""

from __future__ import annotations

from featx.errors import ImageError, NotAnImageError, TruncatedImageError, UnsupportedImageError

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


def is_picture(head: bytes) -> bool:
    """Say whether a file that begins with these bytes looks like a picture featx can read."""
    return head.startswith(_MAGIC)


def unidentified(content: bytes) -> ImageError:
    """Return the error for content that begins no picture: what it seems to be instead."""
    if content[4:8] == b"ftyp" or content.startswith((b"\0\0\0\x0cjP", b"\xff\x0a", b"8BPS")):
        return UnsupportedImageError(
            "a picture format featx does not read (HEIC, AVIF, JPEG 2000, JPEG XL or Photoshop); "
            f"save it as one of {', '.join(FORMATS)}"
        )
    if content.startswith(b"\xff\xd8\xff"):
        return TruncatedImageError("the file ends before the picture does: only a JPEG's header")
    if is_picture(content):
        return NotAnImageError("begins like a picture, but what follows is no picture's header")
    start = content[:4096].lstrip()[:16]
    found = next((what for magic, what in _FOREIGN.items() if start.startswith(magic)), None)
    return NotAnImageError(
        f"not a picture: the content is {found or f'{len(content):,} bytes of another kind'}; "
        f"expected one of {', '.join(FORMATS)}"
    )
