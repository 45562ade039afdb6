"""Files that are images in form only: RAW photographs, and folders of a system's own."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping, Sequence
from mmap import mmap
from pathlib import PurePath
from typing import Any

from featx.errors import UnsupportedImageError

# By camera makers' names for their files.
RAW_SUFFIXES = frozenset(
    (
        ".3fr", ".arw", ".bay", ".cr2", ".cr3", ".crw", ".dcr", ".dcs", ".dng", ".erf", ".fff",
        ".gpr", ".iiq", ".k25", ".kdc", ".mdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf",
        ".ori", ".pef", ".raf", ".rw2", ".rwl", ".rwz", ".sr2", ".srf", ".srw", ".x3f",
    )
)  # fmt: skip

# How makers' own containers begin: where, with what.
_MAGIC = (
    (0, b"FUJIFILMCCD-RAW", "Fujifilm RAF"),
    (0, b"IIRO", "Olympus ORF"),
    (0, b"IIRS", "Olympus ORF"),
    (0, b"MMOR", "Olympus ORF"),
    (0, b"IIU\0", "Panasonic RW2"),
    (0, b"FOVb", "Sigma X3F"),
    (0, b"\0MRM", "Minolta MRW"),
    (4, b"ftypcrx ", "Canon CR3"),
    (6, b"HEAPCCDR", "Canon CRW"),
)
# The same in files that begin like a TIFF.
_TIFF_MAGIC = (
    (8, b"CR", "Canon CR2"),
    (8, b"IIII", "Phase One IIQ"),
    (8, b"MMMM", "Phase One IIQ"),
)
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
# Tags of TIFF 6.0, of TIFF/EP (ISO 12234-2: SubIFDs, the photometric interpretations of a sensor's
# colour filters) and of the DNG specification 1.7.
_SUBFILE, _COMPRESSION, _PHOTOMETRIC, _MAKE, _SUBIFDS, _DNG = 254, 259, 262, 271, 330, 50706
_SENSOR = {32803, 34892}  # a colour filter array; the same, demosaicked ("linear raw")
# Compressions that only RAW photographs have: Sony, Nikon, Samsung, Kodak, Pentax.
_RAW_COMPRESSION = {32767, 34713, 32769, 32770, 65000, 65535}
_MAX_TAGS, _MAX_VALUES = 512, 16
_SIZE = {1: 1, 3: 2, 4: 4, 13: 4}
_CODE = {1: "B", 3: "H", 4: "I", 13: "I"}


def kind_of(content: bytes | mmap, suffix: str = "") -> str | None:
    """Return what RAW photograph content is, such as "Adobe DNG"; None for other content.

    Most are TIFF files whose first image, the only one that Pillow reads, is a small preview.

    Parameters
    ----------
    content : bytes or mmap
    suffix : str
        That of the file's name, in lower case; it decides where a TIFF file has no tag that tells.
    """
    head = bytes(content[:16])
    order = _TIFF.get(head[:4])
    for at, magic, name in _MAGIC if order is None else _TIFF_MAGIC:
        if head.startswith(magic, at):
            return name
    if order is None or len(head) < 8:
        return None
    main = _tags(content, order, struct.unpack_from(order + "I", head, 4)[0])
    found = _by_tags(main, [_tags(content, order, offset) for offset in main.get(_SUBIFDS, ())])
    return found or (f"{suffix} in a TIFF container" if suffix in RAW_SUFFIXES else None)


_Tags = Mapping[int, tuple[Any, ...]]


def _by_tags(main: _Tags, others: Sequence[_Tags] = ()) -> str | None:
    """Return the kind by the tags of a file's first image, and of those in its SubIFDs."""
    if _DNG in main:
        return "Adobe DNG"
    parts = [main, *others]
    sensor = any(_SENSOR & set(part.get(_PHOTOMETRIC, ())) for part in parts)
    own = any(_RAW_COMPRESSION & set(part.get(_COMPRESSION, ())) for part in parts)
    # A preview before the photograph, written by a camera: the main image is in a SubIFD.
    reduced = any(isinstance(value, int) and value & 1 for value in main.get(_SUBFILE, ()))
    preview = reduced and _SUBIFDS in main
    return "a camera's own TIFF" if sensor or (_MAKE in main and (own or preview)) else None


def _tags(content: bytes | mmap, order: str, offset: int) -> dict[int, tuple[int, ...]]:
    """Return the tags of one image file directory, with values where these are a few integers."""
    found: dict[int, tuple[int, ...]] = {}
    if not 8 <= offset <= len(content) - 2:
        return found
    (count,) = struct.unpack_from(order + "H", content, offset)
    for at in range(offset + 2, offset + 2 + 12 * min(count, _MAX_TAGS), 12):
        if at + 12 > len(content):
            break
        tag, kind, number = struct.unpack_from(order + "HHI", content, at)
        found[tag] = ()
        if kind in _SIZE and 0 < number <= _MAX_VALUES:
            place = at + 8
            if number * _SIZE[kind] > 4:
                (place,) = struct.unpack_from(order + "I", content, place)
            if place + number * _SIZE[kind] <= len(content):
                found[tag] = struct.unpack_from(f"{order}{number}{_CODE[kind]}", content, place)
    return found


def check(content: bytes, suffix: str = "") -> None:
    """Refuse a RAW photograph, by what its file holds and is named.

    Raises
    ------
    UnsupportedImageError
    """
    _refuse(kind_of(content, suffix))


def check_tags(tags: Mapping[int, Any]) -> None:
    """Do the same for a TIFF image whose file is gone, by the tags that Pillow read.

    Raises
    ------
    UnsupportedImageError
    """
    wanted = (_SUBFILE, _COMPRESSION, _PHOTOMETRIC, _MAKE, _SUBIFDS, _DNG)
    found = {tag: tags[tag] for tag in wanted if tag in tags}
    _refuse(_by_tags({t: v if isinstance(v, tuple) else (v,) for t, v in found.items()}))


def _refuse(kind: str | None) -> None:
    if kind is not None:
        raise UnsupportedImageError(
            f"a RAW photograph ({kind}): what can be read in it without developing it is at most "
            "a small preview. Use the JPEG beside it, or develop it to JPEG, PNG or TIFF"
        )


# Folders that network storage and operating systems make for themselves: Synology's and QNAP's
# thumbnails, recycle bins and snapshots, Windows's and Linux's. In lower case, whole names: a class
# may be named "recycle".
SYSTEM_FOLDERS = frozenset(
    (
        "@eadir", "@tmp", "@recycle", "@recently-snapshot", "@__thumb", ".@__thumb",
        "#recycle", "#snapshot", "~snapshot", ".snapshot", ".snapshots", "$recycle.bin",
        "system volume information", "lost+found", ".thumbnails", ".thumbs", ".trashes",
    )
)  # fmt: skip
# A data set may be read from a snapshot on purpose: such a folder is only not listed.
_SYSTEM = re.compile(
    r"(?:^|[/\\])("
    + "|".join(re.escape(name) for name in sorted(SYSTEM_FOLDERS) if "snapshot" not in name)
    + r")[/\\]",
    re.IGNORECASE,
)


def system_folder(path: str | os.PathLike[str]) -> str | None:
    """Return the folder of a system's own that a path leads through, or None."""
    found = _SYSTEM.search(os.fspath(path))
    return None if found is None else found[1]


def check_place(path: PurePath) -> None:
    """Refuse a file in a folder of a system's own.

    Raises
    ------
    UnsupportedImageError
    """
    folder = system_folder(path)
    if folder is not None:
        raise UnsupportedImageError(
            f"in {folder}, a folder in which a NAS or an operating system keeps thumbnails, "
            "deleted files or snapshots: not an image of the data set. Copy it elsewhere if it "
            "is one"
        )
