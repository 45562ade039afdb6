"""Which shard and entry holds the embedding of an image: the shards' digests, for searching."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

import numpy as np

from featx.cache.shards import (
    DIGEST_BYTES,
    EMBEDDING,
    MAX_DIM,
    MAX_ENTRIES,
    MISSING,
    Layout,
    ShardMetadata,
)
from featx.errors import IMAGE_ERRORS, CacheCorruptError, ImageError
from featx.storage.atomic import MAX_INT64
from featx.storage.checksummed import pack, unpack
from featx.storage.interface import Stat


class ShardIndex:
    """A table of the entries of some shards; of equal images the smallest shard name wins.

    Parameters
    ----------
    shards : iterable of ShardMetadata
    """

    def __init__(self, shards: Iterable[ShardMetadata] = ()) -> None:
        self.shards = sorted(shards, key=lambda shard: shard.name)
        self._numbers = {shard.name: number for number, shard in enumerate(self.shards)}
        counts = [len(shard.status) for shard in self.shards]
        self._sha256 = np.concatenate(
            [np.empty((0, 32), np.uint8), *(shard.sha256 for shard in self.shards)]
        )
        self._status = np.concatenate(
            [np.empty(0, np.uint8), *(shard.status for shard in self.shards)]
        )
        self._shard_of = np.repeat(np.arange(len(counts)), counts)
        self._entry_of = np.concatenate([np.empty(0, np.int64), *map(np.arange, counts)])
        # What another Pillow refused is not served.
        own = [shard.is_own() for shard in self.shards]
        refused = (self._status != EMBEDDING) & (self._status != MISSING)
        usable = np.flatnonzero(
            (self._status == EMBEDDING) | (refused & np.array(own, bool)[self._shard_of])
        )
        prefixes = _prefix(self._sha256[usable])
        # An embedding goes before a refusal: another decoder may have read what this one could not.
        order = np.lexsort((self._status[usable], prefixes))
        self._order = usable[order]
        self._prefixes = prefixes[order]
        self._sorted = self._prefixes.data

    def find(self, sha256: np.ndarray) -> np.ndarray:
        """Return the position of each digest, -1 where there is none.

        Parameters
        ----------
        sha256 : numpy.ndarray of shape (n, 32) and dtype uint8

        Returns
        -------
        numpy.ndarray of shape (n,) and dtype int64
        """
        wanted = _prefix(sha256)
        at = np.searchsorted(self._prefixes, wanted)
        found = np.full(len(wanted), -1, np.int64)
        # 64-bit prefixes hardly ever collide; where they do, the next entry is tried.
        pending = np.arange(len(wanted))
        while len(pending):
            pending = pending[at[pending] < len(self._prefixes)]
            pending = pending[self._prefixes[at[pending]] == wanted[pending]]
            positions = self._order[at[pending]]
            equal = (self._sha256[positions] == sha256[pending]).all(axis=1)
            found[pending[equal]] = positions[equal]
            pending = pending[~equal]
            at[pending] += 1
        return found

    def find_one(self, digest: bytes) -> int:
        """Return the position of one digest, -1 where there is none.

        As ``find`` does, but without numpy's searching, which lets other threads in: where these
        decode images, that took 80 us per image, and this takes 5.
        """
        wanted = int.from_bytes(digest[:8], "big")
        at = bisect_left(self._sorted, wanted)
        while at < len(self._sorted) and self._sorted[at] == wanted:
            position = int(self._order[at])
            if self._sha256[position].tobytes() == digest:
                return position
            at += 1
        return -1

    def count(self) -> int:
        """Return how many images can be found, at most: some may be cached twice."""
        return len(self._order)

    def is_embedding(self, positions: np.ndarray) -> np.ndarray:
        """Return for each position from ``find`` whether it has an embedding; bool, shape (n,)."""
        found = positions >= 0
        found[found] = self._status[positions[found]] == EMBEDDING
        return found

    def failure(self, position: int) -> ImageError | None:
        """Return the cached error of an image without an embedding, or None if it has one."""
        if self._status[position] == EMBEDDING:
            return None
        entry = int(self._entry_of[position])
        code, reason = next(
            ((code, text) for at, code, text in self.shard(position).failures if at == entry),
            (ImageError.code, "this image gave no embedding"),
        )
        return IMAGE_ERRORS.get(code, ImageError)(reason)

    def served_by(self, shard: ShardMetadata) -> np.ndarray:
        """Return the entries of a shard whose images are found in it and nowhere else; int64."""
        positions = self.find(shard.sha256)
        found = np.flatnonzero((positions >= 0) & (shard.status != MISSING))
        return found[self._shard_of[positions[found]] == self._numbers[shard.name]]

    def shard(self, position: int) -> ShardMetadata:
        """Return the shard of a position."""
        return self.shards[self._shard_of[position]]

    def by_shard(self, positions: np.ndarray) -> list[tuple[ShardMetadata, np.ndarray, np.ndarray]]:
        """Group positions by their shard.

        Returns
        -------
        list of (shard, at, entries)
            `at` indexes `positions`; `entries` are the positions inside the shard.
        """
        order = np.argsort(self._shard_of[positions], kind="stable")
        owners = self._shard_of[positions[order]]
        cuts = np.flatnonzero(owners[1:] != owners[:-1]) + 1
        return [
            (self.shard(positions[at[0]]), at, self._entry_of[positions[at]])
            for at in np.split(order, cuts)
            if len(at)
        ]

    def pack(self) -> bytes:
        """Return the table as sealed bytes."""
        layouts = [(s.layout.n, s.layout.dim, s.layout.features, s.layout.sha256)
                   for s in self.shards]  # fmt: skip
        arrays: dict[str, np.ndarray] = {
            # A time after 2262 does not fit: that shard is read anew at each start.
            "about": np.array(
                [[min(value, MAX_INT64) for value in s.stat] for s in self.shards], np.int64
            ).reshape(-1, 4),
            "layout": np.array(layouts, np.int64).reshape(-1, 4),
            "digest": np.frombuffer(b"".join(s.digest for s in self.shards), np.uint8).reshape(
                -1, DIGEST_BYTES
            ),
            "sha256": self._sha256,
            "status": self._status,
        }
        return pack(arrays, [[s.name, s.failures, s.environment] for s in self.shards])

    @classmethod
    def unpack(cls, content: bytes | bytearray) -> ShardIndex:
        """Return the table from sealed bytes.

        Raises
        ------
        CacheCorruptError
            The bytes are not what ``pack`` returned.
        """
        arrays, entries = unpack(content, "index")
        try:
            _check(arrays, len(entries))
            ends = np.cumsum(arrays["layout"][:, 0]).tolist()
            shards = []
            begin = 0
            for i, (name, failures, environment) in enumerate(entries):
                part = slice(begin, ends[i])
                begin = ends[i]
                stat = Stat(*arrays["about"][i].tolist())
                layout = _possible(Layout(*arrays["layout"][i].tolist()), stat.size)
                refusals = [(int(at), int(code), str(text)) for at, code, text in failures]
                if not isinstance(name, str) or not isinstance(environment, dict):
                    raise TypeError("a shard without a name or an environment")
                shards.append(
                    ShardMetadata(name, stat, layout, arrays["sha256"][part],
                               arrays["status"][part], refusals, environment,
                               arrays["digest"][i].tobytes())
                )  # fmt: skip
            return cls(shards)
        except (LookupError, ArithmeticError, ValueError, TypeError, AttributeError) as error:
            raise CacheCorruptError(f"the index is not what featx packed: {error}") from error


def _check(arrays: Mapping[str, np.ndarray], count: int) -> None:
    """Refuse arrays of other types and lengths than ``pack`` writes."""
    n = len(arrays["status"])
    expected: dict[str, tuple[tuple[int, ...], str]] = {
        "about": ((count, 4), "<i8"),
        "layout": ((count, 4), "<i8"),
        "digest": ((count, DIGEST_BYTES), "|u1"),
        "sha256": ((n, 32), "|u1"),
        "status": ((n,), "|u1"),
    }
    for name, (shape, dtype) in expected.items():
        if arrays[name].shape != shape or arrays[name].dtype.str != dtype:
            raise ValueError(f"{name!r} has another shape or type")
    counts = arrays["layout"][:, 0]
    if (counts < 1).any() or (counts > MAX_ENTRIES).any() or int(counts.sum()) != n:
        raise ValueError("shards of other lengths than their digests")
    if n and arrays["status"].max() > MISSING:
        raise ValueError("an entry that is neither embedding, bad nor missing")


def _possible(layout: Layout, size: int) -> Layout:
    """Refuse a layout that does not fit into a shard of that size, before memory is asked for."""
    n, dim = layout.n, layout.dim
    if not 0 < dim <= MAX_DIM:
        raise ValueError(f"embeddings of {dim} numbers")
    for begin, length in ((layout.features, 4 * n * dim), (layout.sha256, 32 * n)):
        if not 0 < begin <= size - length:
            raise ValueError("embeddings outside their shard")
    return layout


def _prefix(sha256: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(sha256[:, :8]).view(">u8").ravel().astype(np.uint64)
