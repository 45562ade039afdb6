"""Rows read from shards into one array: many files at a time, each verified before it is used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from featx.cache.facts import ShardFacts
from featx.errors import CacheCorruptError
from featx.storage import reading

# A shard, which of the wanted pictures it has, and in which of its slots.
Group = tuple[ShardFacts, np.ndarray, np.ndarray]


def gather(
    folder: Path, groups: Sequence[Group], wanted: np.ndarray, sha256: np.ndarray, rows: np.ndarray
) -> list[Group]:
    """Fill rows from shards; return the groups whose shard could not be used.

    Parameters
    ----------
    folder : Path
        Where the shards lie.
    groups : sequence of (shard, at, slots)
        From ``ShardIndex.by_shard``; `at` indexes `wanted`.
    wanted : numpy.ndarray of shape (k,) and dtype int64
        Positions in `sha256` and `rows`.
    sha256 : numpy.ndarray of shape (n, 32) and dtype uint8
    rows : numpy.ndarray of shape (n, dim) and dtype float32
    """
    doubtful: list[Group] = []
    threads = min(8, os.cpu_count() or 1, max(1, len(groups)))
    largest = max((shard.about[0] for shard, _, _ in groups), default=0)
    buffers: SimpleQueue[bytearray] = SimpleQueue()
    for _ in range(threads):
        buffers.put(bytearray(largest))

    def copy(group: Group) -> None:
        shard, at, slots = group
        buffer = buffers.get()
        try:
            content = memoryview(buffer)[: shard.about[0]]
            places = wanted[at]
            if _whole(shard, slots, places):
                # Straight to where the rows are wanted; what stands there is refused or right.
                parts = _around(shard, content, rows[places[0] : places[-1] + 1])
            else:
                parts = [content]
            reading.read_into(folder / shard.name, parts)
            shard.verify(parts, content, slots, sha256[places])
            if len(parts) == 1:
                rows[places] = shard.layout.rows(content)[slots]
        except (CacheCorruptError, OSError):
            doubtful.append(group)
        finally:
            buffers.put(buffer)

    # Reading, checksums and copies leave the interpreter's lock, so threads share the work.
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(copy, groups))
    return doubtful


def _whole(shard: ShardFacts, slots: np.ndarray, places: np.ndarray) -> bool:
    """Say whether every row of a shard is wanted, in its order and one after the other."""
    return (
        len(slots) == shard.layout.n
        and bool((np.diff(slots) == 1).all())
        and bool((np.diff(places) == 1).all())
    )


def _around(shard: ShardFacts, content: memoryview, rows: np.ndarray) -> list[memoryview]:
    """Return a shard's bytes in pieces: `rows` where its rows are, `content` before and behind."""
    begin = shard.layout.features
    return [
        content[:begin],
        rows.data.cast("B"),
        content[begin + rows.nbytes :],
    ]
