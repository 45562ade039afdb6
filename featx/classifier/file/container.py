"""The .featx file: a plain zip of a manifest, arrays and nothing that can run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featx.classifier.file.arrays import array_bytes
from featx.errors import (
    ModelFileError,
    ModelFormatError,
    ModelIntegrityError,
    ModelTrustError,
    ModelVersionError,
)
from featx.storage import atomic, strict_json
from featx.storage.output import check_target

FORMAT = "featx model"
VERSION = 2
MANIFEST = "manifest.json"
MAX_MANIFEST = 16 << 20
MAX_MEMBERS = 1000
MAX_BYTES = 8 << 30

# One folder deep at most, and only kinds that hold numbers or are checked before use.
_NAME = re.compile(r"(?:[a-z0-9_]{1,64}/)?[a-z0-9_.]{1,64}\.(?:npy|ubj|skops)")


def write(
    path: str | os.PathLike[str], manifest: Mapping[str, Any], parts: Mapping[str, Any]
) -> str:
    """Write a model file; it appears whole or not at all.

    Parameters
    ----------
    manifest : mapping
        What `json` can write; the format, its version and the members' digests are added.
    parts : mapping of str to ndarray or bytes
        The members by name.

    Returns
    -------
    str
        The sha256 of the file, to pin it by when it is loaded.
    """
    contents = {
        name: part if isinstance(part, bytes) else array_bytes(part) for name, part in parts.items()
    }
    document = {
        "format": FORMAT,
        "version": VERSION,
        **manifest,
        "members": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {MANIFEST: _text(document), **contents}.items():
            # A fixed date: the same model is the same file.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    check_target(Path(path))
    atomic.replace_all({Path(path): buffer.getbuffer()})
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def _text(document: Mapping[str, Any]) -> bytes:
    """Return strict JSON in UTF-8; bytes of file names that are not UTF-8 become escapes."""
    try:
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(document, indent=1, allow_nan=False).encode()


def read(
    path: str | os.PathLike[str], sha256: str | None = None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest and the members of a model file; nothing of it is run.

    Parameters
    ----------
    sha256 : str, optional
        The digest that the whole file must have, 64 hexadecimal digits.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ModelFormatError
        The file is not a model file of featx: a pickle, a Keras file, an image, half a file.
    ModelIntegrityError
        Its digest, or that of a member, is not the stated one; a member is missing.
    ModelTrustError
        It holds what featx never writes: compressed or linked members, odd names or paths.
    ModelVersionError
        An earlier or a later featx wrote it.
    """
    name = os.fspath(path)
    content = _content(path)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256.lower():
        raise ModelIntegrityError(
            f"{name} has the sha256 {hashlib.sha256(content).hexdigest()}; {sha256} was "
            "expected: it is another file, or was changed. Obtain it again from a source you trust."
        )
    if not content.startswith(b"PK\x03\x04"):
        raise ModelFormatError(
            f"{name} is not a model file of featx: {_guess(content)}. Expected a file written by "
            "ImageClassifier.save or featx train --out, and not an export of it. Nothing of it was "
            "run; `featx info` says what it is."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_members(name, archive, len(content))
            members = {info.filename: archive.read(info) for info in archive.infolist()}
    except ModelFileError:
        raise
    except Exception as error:  # zipfile reports damage by many exceptions
        raise ModelFormatError(f"{name} is not a whole model file of featx: {error}.") from error
    manifest = _manifest(name, members.pop(MANIFEST, None))
    _check_digests(name, manifest, members)
    return manifest, members


def _content(path: str | os.PathLike[str]) -> bytes:
    name = os.fspath(path)
    try:
        # O_NONBLOCK: opening a FIFO without a writer would otherwise wait for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise FileNotFoundError(f"no model file at {name}.") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise ModelFormatError(
            f"{name} is not a model file of featx: it is {kind}. Expected a file written by "
            "ImageClassifier.save or featx train --out; `featx info` says what it is."
        )
    with open(descriptor, "rb") as file:
        if status.st_size > MAX_BYTES:
            raise ModelTrustError(
                f"{name} has {status.st_size:,} bytes; a model file has at most {MAX_BYTES:,}."
            )
        return file.read(status.st_size)


def _guess(content: bytes) -> str:
    """Return what the first bytes look like, for a person."""
    for start, what in (
        (b"\x80", "it looks like a pickle, which runs code when it is loaded"),
        (b"\x1f\x8b", "it is gzip-compressed, perhaps a joblib pickle, which runs code"),
        (b"x\x9c", "it is zlib-compressed, perhaps a joblib pickle, which runs code"),
        (
            b"\x89HDF",
            "it is an HDF5 file, such as Keras's .h5, or features that featx.Features.load reads",
        ),
        (b"PK", "it is an empty or broken zip"),
        (b"", "it is empty" if not content else "it is not a zip"),
    ):
        if content.startswith(start):
            return what
    raise AssertionError


def _check_members(name: str, archive: zipfile.ZipFile, length: int) -> None:
    infos = archive.infolist()
    names = {info.filename for info in infos}
    if MANIFEST not in names:
        kind = next((k for n, k in _OTHERS.items() if n in names), "a zip without a manifest")
        raise ModelFormatError(
            f"{name} is not a model file of featx: it is {kind}. Expected a file written by "
            "ImageClassifier.save."
        )
    reasons = {
        "two members of one name": len(names) != len(infos),
        f"{len(infos)} members": len(infos) > MAX_MEMBERS,
        "more data than the file has bytes": sum(info.file_size for info in infos) > length,
    }
    for info in infos:
        shown = repr(info.filename[:80])
        mode = info.external_attr >> 16
        reasons |= {
            f"the member {shown}": info.filename != MANIFEST and not _NAME.fullmatch(info.filename),
            f"{shown} as a link or device": stat.S_IFMT(mode) not in (0, stat.S_IFREG),
            f"{shown} compressed": info.compress_type != zipfile.ZIP_STORED
            or info.compress_size != info.file_size,
            f"{shown} encrypted": bool(info.flag_bits & 1),
            f"{shown} of {info.file_size:,} bytes": info.filename == MANIFEST
            and info.file_size > MAX_MANIFEST,
        }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise ModelTrustError(
            f"{name} holds what featx never writes: {'; '.join(found[:3])}. Nothing was unpacked. "
            "Do not use this file."
        )


_OTHERS = {
    "schema.json": "a skops file; featx writes its own",
    "config.json": "a Keras file, which may run code; featx writes its own",
    "metadata.json": "a Keras file, which may run code; featx writes its own",
}


def _manifest(name: str, content: bytes | None) -> dict[str, Any]:
    try:
        manifest = strict_json.loads(content or b"")
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{name}: its manifest is damaged: {error}.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ModelFormatError(
            f"{name} is not a model file of featx: its manifest names no format."
        )
    version = manifest.get("version")
    if not isinstance(version, int) or version != VERSION:
        writer = f"featx {str(manifest.get('featx'))[:20]!r}"
        remedy = f"It was written by {writer}: install that, or a later one."
        if version == 1:
            remedy = (
                f"It was written by {writer}, before the format was fixed. Train the model again "
                "(embeddings that are cached are not computed again), or load it with that version."
            )
        raise ModelVersionError(
            f"{name} has the format version {version!r:.20}; this featx knows {VERSION}. {remedy}"
        )
    return manifest


def _check_digests(name: str, manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    listed = manifest.get("members")
    if not isinstance(listed, dict):
        raise ModelFormatError(f"{name}: its manifest lists no members.")
    if missing := sorted(set(listed) - set(members)):
        raise ModelIntegrityError(f"{name} lacks {', '.join(missing[:5])}: get the file again.")
    if unlisted := sorted(set(members) - set(listed)):
        raise ModelIntegrityError(
            f"{name} holds {', '.join(unlisted[:5])}, which its manifest does not list."
        )
    for member, content in members.items():
        stated = listed[member]
        digest = stated.get("sha256") if isinstance(stated, dict) else None
        if digest != hashlib.sha256(content).hexdigest():
            raise ModelIntegrityError(
                f"{name}: {member} is not what was saved (its sha256 differs). Get the file again."
            )
