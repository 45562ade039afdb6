"""The content digest of a file, without reading it again while it is surely unchanged."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np

from featx import disk
from featx.errors import CacheCorruptError
from featx.sealed import pack, unpack

# A file changed within this time of its reading may be changed again without a trace in its
# times: git's "racy" rule (git documentation, technical/racy-git).
RACY_NS = 2_000_000_000

Digest = bytes
_Stat = tuple[int, int, int, int]


def of_content(content: bytes | np.ndarray) -> Digest:
    """Return the sha256 of an encoded picture, or of pixels together with their shape."""
    if isinstance(content, np.ndarray):
        digest = hashlib.sha256(f"featx pixels {content.shape} {content.dtype.str}\n".encode())
        digest.update(np.ascontiguousarray(content).data)
        return digest.digest()
    return hashlib.sha256(content).digest()


class KnownFiles:
    """Which content each file of one dataset had when it was last read.

    Parameters
    ----------
    root : Path
        The cache folder.
    location : Path or None
        The folder of the dataset; without one, nothing is remembered.

    Notes
    -----
    A file is believed to be unchanged if size, modification time, change time and inode are the
    same, and both times lie more than 2 s before its last reading. Everything else, a clock set
    back included, makes it read again.
    """

    def __init__(self, root: Path, location: Path | None) -> None:
        self._path: Path | None = None
        self._known: dict[str, tuple[_Stat, int, Digest]] = {}
        self._fresh: dict[str, tuple[_Stat, int, Digest]] = {}
        if location is not None:
            name = hashlib.sha256(os.fsencode(os.path.abspath(location))).hexdigest()[:32]
            self._path = root / "statindex" / name
            self._load()

    def find(self, path: Path) -> Digest | None:
        """Return the digest of the file if it is surely the one that was read before."""
        known = self._known.get(os.fspath(path))
        if known is None:
            return None
        try:
            about = _about(os.stat(path))
        except OSError:
            return None
        before, read_at, digest = known
        safe = max(about[1], about[2]) < read_at - RACY_NS
        return digest if about == before and safe else None

    def remember(self, path: Path, about: os.stat_result, read_at: int, digest: Digest) -> None:
        """Note what a file held; `about` was taken before it was read at `read_at` (ns)."""
        self._fresh[os.fspath(path)] = (_about(about), read_at, digest)

    def save(self) -> None:
        """Keep what was noted, for the next run."""
        if self._path is None or not self._fresh:
            return
        self._known.update(self._fresh)
        self._fresh.clear()
        entries = list(self._known.items())
        names = [os.fsencode(path) for path, _ in entries]
        arrays: dict[str, np.ndarray] = {
            "lengths": np.array([len(name) for name in names], np.int64),
            "names": np.frombuffer(b"".join(names), np.uint8),
            "about": np.array([about for _, (about, _, _) in entries], np.int64).reshape(-1, 4),
            "read_at": np.array([at for _, (_, at, _) in entries], np.int64),
            "sha256": np.frombuffer(
                b"".join(digest for _, (_, _, digest) in entries), np.uint8
            ).reshape(-1, 32),
        }
        disk.save_lightly(self._path, pack(arrays))

    def _load(self) -> None:
        if self._path is not None:
            self._known = _loaded(self._path)


def _loaded(path: Path) -> dict[str, tuple[_Stat, int, Digest]]:
    content = disk.load_lightly(path)
    known: dict[str, tuple[_Stat, int, Digest]] = {}
    if content is None:
        return known
    try:
        arrays, _ = unpack(content, "statindex")
        count = len(arrays["lengths"])
        if arrays["sha256"].shape != (count, 32) or arrays["about"].shape != (count, 4):
            raise ValueError("digests or facts of another shape")
        names = arrays["names"].tobytes()
        ends = np.cumsum(arrays["lengths"]).tolist()
        digests = arrays["sha256"].tobytes()
        rows = zip(ends, arrays["about"].tolist(), arrays["read_at"].tolist(), strict=True)
        begin = 0
        for i, (end, about, read_at) in enumerate(rows):
            digest = digests[32 * i : 32 * i + 32]
            known[os.fsdecode(names[begin:end])] = (tuple(about), read_at, digest)
            begin = end
        return known
    except (CacheCorruptError, KeyError, ValueError, TypeError):
        return {}  # it only saved time


def known_sources(root: Path) -> dict[Digest, Path]:
    """Return for each content that a file had when it was last read, one such file.

    Only files are known, not pixels or bytes; a file may have changed or gone since.
    """
    try:
        tables = sorted((root / "statindex").iterdir())
    except OSError:
        return {}
    return {
        digest: Path(name) for table in tables for name, (_, _, digest) in _loaded(table).items()
    }


def now_ns() -> int:
    """Return the wall clock in ns, the clock that file times are told in."""
    return time.time_ns()


def _about(status: os.stat_result) -> _Stat:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
