"""Rows read from shards into one array: many files at a time, each verified before it is used."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from featx.cache.shards import ShardFacts
from featx.errors import CacheCorruptError
from featx.storage import reading

logger = logging.getLogger(__name__)

# Over this share of the memory that is free now, rows go to a file: whoever trains on them needs
# as much again for a copy, as scikit-learn's scalers make one.
SHARE = 0.5

_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


# A shard, which of the wanted images it has, and in which of its slots.
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


def empty(n: int, dim: int, folder: Path) -> np.ndarray:
    """Return an array of shape (n, dim) and dtype float32 to be filled.

    Where it would take more than half of the free memory it is a ``numpy.memmap`` of a file in
    `folder` (the temporary folder where that is read-only). The file has no name any more: its
    space is free again when the array is gone, whatever ends the process.

    Raises
    ------
    OSError
        The rows fit neither in memory nor on the disk.
    """
    size = 4 * n * dim
    if size <= SHARE * free_memory():
        return np.empty((n, dim), np.float32)
    place = folder if os.access(folder, os.W_OK) else None
    with tempfile.TemporaryFile(dir=place) as file:
        if hasattr(os, "posix_fallocate"):
            # A disk that is full says so now, and not as a bus error at some later write.
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        logger.info("%d rows of %d numbers are mapped from a file", n, dim)
        return np.memmap(file, np.float32, "r+", shape=(n, dim))


def free_memory() -> int:
    """Return the bytes that this process may still take, its container's limit included."""
    found = [_available(), *(_left(*paths) for paths in _LIMITS)]
    return min((size for size in found if size is not None), default=1 << 33)


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:  # not Linux: all there is, of which others use some
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _left(limit: str, used: str) -> int | None:
    try:
        return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
    except (OSError, ValueError):  # no such limit, or "max"
        return None
