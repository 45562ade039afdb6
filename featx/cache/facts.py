"""What is known of a shard that was verified, so that it need not be opened as HDF5 again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from PIL import __version__ as PILLOW  # noqa: N812

from featx.cache.shards import HOLE, ROW, Block, Layout, decode
from featx.errors import CacheCorruptError
from featx.storage.atomic import Stat

DIGEST_BYTES = 16


@dataclass(frozen=True)
class ShardFacts:
    """What is known of one shard that was verified.

    Attributes
    ----------
    name : str
        Its file name.
    about : tuple of int
        Size, modification time, change time (ns) and inode when it was verified.
    layout : Layout
        Where its rows lie.
    sha256 : numpy.ndarray of shape (n, 32) and dtype uint8
    status : numpy.ndarray of shape (n,) and dtype uint8
    failures : list of (slot, code, reason)
    environment : dict
        What computed it.
    digest : bytes
        The XXH3-128 of the whole file, taken when its sha256 was right: as sure against damage,
        and read 14 times as fast (24 against 1.8 GB/s of one core).
    """

    name: str
    about: Stat
    layout: Layout
    sha256: np.ndarray
    status: np.ndarray
    failures: list[tuple[int, int, str]]
    environment: dict[str, Any]
    digest: bytes

    @classmethod
    def read(cls, name: str, about: Stat, content: bytes | bytearray, key: str) -> ShardFacts:
        """Return what a shard's bytes say, after every check of ``shards.decode``."""
        block, layout = decode(content, key, name[:-3], with_features=False)
        return cls.of(name, about, content, block, layout)

    @classmethod
    def of(
        cls, name: str, about: Stat, content: bytes | bytearray, block: Block, layout: Layout
    ) -> ShardFacts:
        """Return what ``shards.decode`` found in a shard's bytes."""
        return cls(
            name, about, layout, block.sha256, block.status, block.failures, block.environment,
            xxhash.xxh3_128_digest(content),
        )  # fmt: skip

    def is_own(self) -> bool:
        """Return whether this Pillow made it: what that refuses only it can say."""
        return self.environment.get("pillow", PILLOW) == PILLOW

    def unserved(self) -> np.ndarray:
        """Return the slots that answer nothing here: holes, and what another Pillow refused."""
        return np.flatnonzero(self.status == HOLE if self.is_own() else self.status != ROW)

    def verify(
        self, parts: Sequence[memoryview], content: memoryview, slots: np.ndarray,
        sha256: np.ndarray,
    ) -> None:  # fmt: skip
        """Raise CacheCorruptError if this shard's file is not what it was when it was verified.

        Parameters
        ----------
        parts : sequence of memoryview
            The whole file, in pieces.
        content : memoryview
            As long as the file; at least its digests are filled.
        slots : numpy.ndarray of shape (k,) and dtype int64
        sha256 : numpy.ndarray of shape (k, 32) and dtype uint8
            The pictures whose rows are wanted from these slots.
        """
        digest = xxhash.xxh3_128()
        for part in parts:
            digest.update(part)
        if digest.digest() != self.digest:
            raise CacheCorruptError(f"{self.name} does not have the content that was verified")
        if not np.array_equal(self.layout.digests(content)[slots], sha256):
            raise CacheCorruptError(f"{self.name} holds other pictures than its index says")


def of_odd_width(shards: Collection[ShardFacts], dim: int | None) -> list[ShardFacts]:
    """Return the shards whose rows are not `dim` numbers wide, or not as wide as most rows are."""
    widths: Counter[int] = Counter()
    for shard in shards:
        widths[shard.layout.dim] += shard.layout.n
    if widths and dim is None:
        ((dim, _),) = widths.most_common(1)
    return [shard for shard in shards if shard.layout.dim != dim]
