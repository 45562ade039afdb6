"""Which shard and slot holds the row of a image: the shards' digests, laid out for searching."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from featx.cache.shards import DIGEST_BYTES, HOLE, MAX_DIM, MAX_ROWS, ROW, Layout, ShardFacts
from featx.errors import IMAGE_ERRORS, CacheCorruptError, ImageError
from featx.storage.atomic import MAX_INT64
from featx.storage.checksummed import pack, unpack


class ShardIndex:
    """A table of the slots of some shards; of equal images the smallest shard name wins.

    Parameters
    ----------
    shards : iterable of ShardFacts
    """

    def __init__(self, shards: Iterable[ShardFacts] = ()) -> None:
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
        self._slot_of = np.concatenate([np.empty(0, np.int64), *map(np.arange, counts)])
        # An older Pillow's verdict is not asked.
        own = [shard.is_own() for shard in self.shards]
        verdict = (self._status != ROW) & (self._status != HOLE)
        usable = np.flatnonzero(
            (self._status == ROW) | (verdict & np.array(own, bool)[self._shard_of])
        )
        prefixes = _prefix(self._sha256[usable])
        # A row goes before a verdict: another decoder may have read what this one could not.
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
        decode images, that took 80 us a image, and this takes 5.
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
        """Return how many images can be found, at most: some may be there twice."""
        return len(self._order)

    def is_row(self, positions: np.ndarray) -> np.ndarray:
        """Return for each position (from ``find``) whether a row is there; bool, shape (n,)."""
        there = positions >= 0
        there[there] = self._status[positions[there]] == ROW
        return there

    def failure(self, position: int) -> ImageError | None:
        """Return the kept verdict on a image that gives no row, or None if it has one."""
        if self._status[position] == ROW:
            return None
        slot = int(self._slot_of[position])
        code, reason = next(
            ((code, text) for at, code, text in self.shard(position).failures if at == slot),
            (ImageError.code, "this image gave no row"),
        )
        return IMAGE_ERRORS.get(code, ImageError)(reason)

    def served_by(self, shard: ShardFacts) -> np.ndarray:
        """Return the slots of a shard whose images are found in it and nowhere else; int64."""
        positions = self.find(shard.sha256)
        there = np.flatnonzero((positions >= 0) & (shard.status != HOLE))
        return there[self._shard_of[positions[there]] == self._numbers[shard.name]]

    def shard(self, position: int) -> ShardFacts:
        """Return the shard that a position lies in."""
        return self.shards[self._shard_of[position]]

    def by_shard(self, positions: np.ndarray) -> list[tuple[ShardFacts, np.ndarray, np.ndarray]]:
        """Group positions by their shard.

        Returns
        -------
        list of (shard, at, slots)
            `at` indexes `positions`; `slots` are the rows inside the shard.
        """
        order = np.argsort(self._shard_of[positions], kind="stable")
        owners = self._shard_of[positions[order]]
        cuts = np.flatnonzero(owners[1:] != owners[:-1]) + 1
        return [
            (self.shard(positions[at[0]]), at, self._slot_of[positions[at]])
            for at in np.split(order, cuts)
            if len(at)
        ]

    def pack(self) -> bytes:
        """Return the table as sealed bytes."""
        layouts = [(s.layout.n, s.layout.dim, s.layout.features, s.layout.sha256)
                   for s in self.shards]  # fmt: skip
        arrays: dict[str, np.ndarray] = {
            # Of a time after 2262 another is kept: that shard is read anew at each start.
            "about": np.array(
                [[min(value, MAX_INT64) for value in s.about] for s in self.shards], np.int64
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
                about: Any = tuple(arrays["about"][i].tolist())
                layout = _possible(Layout(*arrays["layout"][i].tolist()), about[0])
                verdicts = [(int(slot), int(code), str(text)) for slot, code, text in failures]
                if not isinstance(name, str) or not isinstance(environment, dict):
                    raise TypeError("a shard without a name or an environment")
                shards.append(
                    ShardFacts(name, about, layout, arrays["sha256"][part],
                               arrays["status"][part], verdicts, environment,
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
    if (counts < 1).any() or (counts > MAX_ROWS).any() or int(counts.sum()) != n:
        raise ValueError("shards of other lengths than their digests")
    if n and arrays["status"].max() > HOLE:
        raise ValueError("a slot that is neither row, bad nor hole")


def _possible(layout: Layout, size: int) -> Layout:
    """Refuse a layout that does not fit into a shard of that size, before memory is asked for."""
    n, dim = layout.n, layout.dim
    if not 0 < dim <= MAX_DIM:
        raise ValueError(f"rows of {dim} numbers")
    for begin, length in ((layout.features, 4 * n * dim), (layout.sha256, 32 * n)):
        if not 0 < begin <= size - length:
            raise ValueError("rows that lie outside their shard")
    return layout


def _prefix(sha256: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(sha256[:, :8]).view(">u8").ravel().astype(np.uint64)
