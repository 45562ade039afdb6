"""Regular files read whole; links, pipes and what featx cannot have written are refused."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from featx.errors import CacheCorruptError, CacheSecurityError
from featx.storage.checksummed import SEAL, SEAL_BYTES

# Far above any shard (2 MB; 64 MB when compacted) and an index of some 50 million images.
MAX_BYTES = 2 << 30
# Whatever is larger, featx sealed; a key.json or a mark has some hundred bytes.
PLAIN_BYTES = 16 << 20


def read(path: Path, plain_bytes: int = PLAIN_BYTES) -> bytearray:
    """Return the bytes of a regular file; a link, pipe or folder is refused, not followed.

    Parameters
    ----------
    path : Path
    plain_bytes : int
        A file with more bytes is refused before it is read unless it ends with a seal.
    """
    descriptor, size = _opened(path, plain_bytes)
    try:
        content = bytearray(size)
        _fill(descriptor, memoryview(content), path)
        return content
    finally:
        os.close(descriptor)


def read_line(path: Path, limit: int) -> bytes:
    """Return the first line of a regular file as ``read`` does, or its first `limit` bytes."""
    descriptor, size = _opened(path, PLAIN_BYTES)
    try:
        content = bytearray(min(size, limit))
        _fill(descriptor, memoryview(content), path)
        return bytes(content).partition(b"\n")[0]
    finally:
        os.close(descriptor)


def read_into(path: Path, parts: Sequence[memoryview]) -> None:
    """Fill `parts`, one after the other, with the bytes of a regular file as ``read`` does.

    Asking for fresh memory for each of many files takes longer than reading them.

    Raises
    ------
    CacheCorruptError
        The file is longer or shorter than the parts together.
    """
    descriptor, size = _opened(path, PLAIN_BYTES)
    try:
        if size != sum(map(len, parts)):
            raise CacheCorruptError(f"{path.name} has another size than when it was verified")
        for part in parts:
            _fill(descriptor, part, path)
    finally:
        os.close(descriptor)


def _opened(path: Path, plain_bytes: int) -> tuple[int, int]:
    """Return a descriptor of a regular file that featx may have written, and its size."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            raise CacheSecurityError(f"{path.name} is a link or a pipe, not a file") from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CacheSecurityError(f"{path.name} is not a regular file")
        if status.st_size > MAX_BYTES:
            raise CacheSecurityError(
                f"{path.name} has {status.st_size:,} bytes; featx writes none so large"
            )
        if status.st_size > plain_bytes:
            _refuse_unsealed(descriptor, status.st_size, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def _fill(descriptor: int, view: memoryview, path: Path) -> None:
    while view:
        count = _read_some(descriptor, view, path)
        if not count:
            raise CacheCorruptError(f"{path.name} was cut while it was read")
        view = view[count:]


def _refuse_unsealed(descriptor: int, size: int, path: Path) -> None:
    """Raise before memory is allocated that a sparse file would take."""
    os.lseek(descriptor, size - SEAL_BYTES, os.SEEK_SET)
    end = bytearray(SEAL_BYTES)
    _read_some(descriptor, memoryview(end), path)
    os.lseek(descriptor, 0, os.SEEK_SET)
    if not end.startswith(SEAL):
        raise CacheCorruptError(
            f"{path.name} has no checksum at its end: it is truncated or was not written by featx"
        )


def _read_some(descriptor: int, view: memoryview, path: Path) -> int:
    try:
        return os.readv(descriptor, [view])
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise CacheCorruptError(f"{path.name} cannot be read: {error.strerror}") from error
