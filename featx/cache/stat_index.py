"""The content digest of a file, without reading it again while it is surely unchanged."""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
from array import array
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import CacheCorruptError
from featx.images.content_hash import Digest
from featx.images.elsewhere import Elsewhere, Version, are_settled
from featx.images.reduction import Edges
from featx.storage.atomic import MAX_INT64
from featx.storage.checksummed import pack, unpack
from featx.storage.local import FolderStorage

# What is known of a file, packed: as Python objects it would be 300 bytes more per file.
_ENTRY = struct.Struct("<5q2H32s")
_ENTRIES = np.dtype(
    [("about", "<i8", 4), ("read_at", "<i8"), ("edges", "<u2", 2), ("sha256", "u1", 32)]
)
_Stat = tuple[int, int, int, int]


class KnownFiles:
    """Which content each file of one dataset had when it was last read.

    Parameters
    ----------
    root : Path
        The cache folder.
    location : Path, str or None
        The folder of the dataset, or its address; without one, nothing is remembered.

    Notes
    -----
    A file is believed to be unchanged if size, modification time, change time, inode and device
    are the same, the change time is finer than a millisecond, and both times are more than 2 s
    before its last reading. Everything else, a clock set back included, makes it read again.

    That assumes a file system which sets the change time at each write, by a clock that is no more
    than 2 s behind this machine's.
    """

    def __init__(self, root: Path, location: Path | str | None) -> None:
        self._path: Path | None = None
        self._known: dict[str, bytes] = {}
        # What was read now, laid out as it is saved: half of what a dict takes.
        self._lengths, self._names, self._entries = array("q"), bytearray(), bytearray()
        self._adding = threading.Lock()
        if location is not None:
            named = location if isinstance(location, str) else os.path.abspath(location)
            name = hashlib.sha256(os.fsencode(named)).hexdigest()[:32]
            self._path = root / "statindex" / name
            self._load()

    def find(self, path: Path) -> Digest | None:
        """Return the digest of the file if it is surely the one that was read before."""
        found = self.find_with_edges(path)
        return None if found is None else found[0]

    def find_with_edges(self, path: Path) -> tuple[Digest, Edges] | None:
        """Return its digest and, of a JPEG, what ``reduction.edges_of`` found in it."""
        if not self._known:  # and a Path that is not asked for its text does not keep it
            return None
        known = self._known.get(os.path.abspath(path))
        if known is None:
            return None
        try:
            stat = _stat(os.stat(path))
        except OSError:
            return None
        *before, read_at, width, height, digest = _ENTRY.unpack(known)
        safe = are_settled(stat[1], stat[2], read_at)
        return (digest, (width, height)) if stat == tuple(before) and safe else None

    def of_source(self, source: Any) -> tuple[Digest, Edges] | None:
        """Return the same of an image that nobody need be asked for: a file, or one listed."""
        if isinstance(source, Path):
            return self.find_with_edges(source)
        version = source.listed_version() if isinstance(source, Elsewhere) else None
        return None if version is None else self.find_at(source.address, version)

    def find_at(self, address: str, version: Version) -> tuple[Digest, Edges] | None:
        """Return the same of what had this version when it was read from this address."""
        known = self._known.get(address)
        if known is None:
            return None
        *before, _, width, height, digest = _ENTRY.unpack(known)
        return (digest, (width, height)) if _packed(version) == tuple(before) else None

    def knows(self, address: str) -> bool:
        """Return whether something was read from this address before, in whatever version."""
        return address in self._known

    def remember(
        self,
        path: Path,
        stat: os.stat_result,
        read_at: int,
        digest: Digest,
        edges: Edges = (0, 0),
    ) -> None:
        """Note what a file held; `stat` was taken before it was read at `read_at` (ns)."""
        if self._path is not None:
            # Whoever asks where an image is may do so from another working directory.
            self._add(os.path.abspath(path), _stat(stat), read_at, digest, edges)

    def remember_at(
        self, address: str, version: Version, digest: Digest, edges: Edges = (0, 0)
    ) -> None:
        """Note what was read from an address that is not a file's."""
        if self._path is not None:
            self._add(address, _packed(version), now_ns(), digest, edges)

    def _add(self, name: str, about: _Stat, read_at: int, digest: Digest, edges: Edges) -> None:
        encoded = os.fsencode(name)
        with self._adding:
            self._lengths.append(len(encoded))
            self._names += encoded
            self._entries += _ENTRY.pack(*about, read_at, *edges, digest)

    def save(self) -> None:
        """Save what was noted, for the next run."""
        if self._path is None or not self._lengths:
            return
        names = [os.fsencode(path) for path in self._known]
        # What was read now stands behind what was known before, and counts.
        entries = np.frombuffer(b"".join(self._known.values()) + self._entries, _ENTRIES)
        arrays: dict[str, np.ndarray] = {
            "lengths": np.array([*map(len, names), *self._lengths], np.int64),
            "names": np.frombuffer(b"".join(names) + self._names, np.uint8),
            **{field: entries[field] for field in ("about", "read_at", "edges", "sha256")},
        }
        with suppress(OSError):  # it exists, or may not be made
            os.mkdir(self._path.parent, 0o700)
        _storage(self._path).try_replace(_name(self._path), pack(arrays))

    def _load(self) -> None:
        if self._path is not None:
            self._known = _loaded(self._path)


def _loaded(path: Path) -> dict[str, bytes]:
    content = _storage(path).try_read(_name(path))
    known: dict[str, bytes] = {}
    if content is None:
        return known
    try:
        arrays, _ = unpack(content, "statindex")
        count = len(arrays["lengths"])
        # Version 0.1 kept no edges: its files are read once more.
        shapes = {"sha256": 32, "about": 4, "edges": 2}
        if any(arrays[name].shape != (count, width) for name, width in shapes.items()):
            raise ValueError("digests or stats of another shape")
        names = arrays["names"].tobytes()
        ends = np.cumsum(arrays["lengths"]).tolist()
        digests = arrays["sha256"].tobytes()
        about, read_at, edges = (arrays[name].tolist() for name in ("about", "read_at", "edges"))
        begin = 0
        for i, end in enumerate(ends):
            digest = digests[32 * i : 32 * i + 32]
            known[os.fsdecode(names[begin:end])] = _ENTRY.pack(
                *about[i], read_at[i], *edges[i], digest
            )
            begin = end
        return known
    except (CacheCorruptError, KeyError, ValueError, TypeError, IndexError, struct.error):
        return {}  # it only saved time


def _storage(path: Path) -> FolderStorage:
    return FolderStorage(path.parents[1])


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def known_sources(root: Path) -> dict[Digest, Path]:
    """Return for each content that a file had when it was last read, one such file.

    Only files are known, not pixels, bytes or what is elsewhere; a file may have changed or gone
    since.
    """
    try:
        tables = sorted((root / "statindex").iterdir())
    except OSError:
        return {}
    return {
        _ENTRY.unpack(entry)[-1]: Path(name)
        for table in tables
        for name, entry in _loaded(table).items()
        if os.path.isabs(name)
    }


def now_ns() -> int:
    """Return the wall clock in ns, the clock of file times."""
    return time.time_ns()


def _packed(version: Version) -> _Stat:
    tag = hashlib.sha256(version.tag.encode("utf-8", "surrogateescape")).digest()
    first, second, third = struct.unpack_from("<3q", tag)
    return min(version.size, MAX_INT64), first, second, third


def _stat(status: os.stat_result) -> _Stat:
    # Years after 2262 do not fit, and are never safe.
    modified, changed = (min(ns, MAX_INT64) for ns in (status.st_mtime_ns, status.st_ctime_ns))
    # Of two mounts at one place, files have the same numbers; their devices differ most often.
    place = (status.st_ino ^ (status.st_dev << 40)) & MAX_INT64
    return status.st_size, modified, changed, place
