"""Embeddings read from shards into one matrix: many at a time, each shard verified before use."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from featx import machine
from featx.cache.shards import ShardMetadata
from featx.errors import CacheCorruptError
from featx.storage.interface import Storage

logger = logging.getLogger(__name__)

# Over this share of the memory that is free now, a matrix goes to a file: whoever trains on it
# needs as much again for a copy, as scikit-learn's scalers make one.
SHARE = 0.5

# A shard, which of the wanted images it has, and in which of its entries.
Group = tuple[ShardMetadata, np.ndarray, np.ndarray]


def gather(
    storage: Storage,
    folder: str,
    groups: Sequence[Group],
    wanted: np.ndarray,
    sha256: np.ndarray,
    X: np.ndarray,
) -> list[Group]:
    """Fill X from shards; return the groups whose shard could not be used.

    Parameters
    ----------
    storage : Storage
    folder : str
        Where the shards are in it.
    groups : sequence of (shard, at, entries)
        From ``ShardIndex.by_shard``; `at` indexes `wanted`.
    wanted : numpy.ndarray of shape (k,) and dtype int64
        Positions in `sha256` and `X`.
    sha256 : numpy.ndarray of shape (n, 32) and dtype uint8
    X : numpy.ndarray of shape (n, dim) and dtype float32
    """
    doubtful: list[Group] = []
    threads = min(storage.readers, max(1, len(groups)))
    largest = max((shard.stat.size for shard, _, _ in groups), default=0)
    buffers: SimpleQueue[bytearray] = SimpleQueue()
    for _ in range(threads):
        buffers.put(bytearray(largest))

    def copy(group: Group) -> None:
        shard, at, entries = group
        buffer = buffers.get()
        try:
            content = memoryview(buffer)[: shard.stat.size]
            targets = wanted[at]
            if _is_whole(shard, entries, targets):
                # Straight to where they are wanted; what is read is refused or right.
                parts = _around(shard, content, X[targets[0] : targets[-1] + 1])
            else:
                parts = [content]
            storage.read_into(f"{folder}/{shard.name}", parts)
            shard.verify(parts, content, entries, sha256[targets])
            if len(parts) == 1:
                X[targets] = shard.layout.embeddings(content)[entries]
        except (CacheCorruptError, OSError):
            doubtful.append(group)
        finally:
            buffers.put(buffer)

    # Reading, checksums and copies leave the interpreter's lock, so threads share the work.
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(copy, groups))
    return doubtful


def _is_whole(shard: ShardMetadata, entries: np.ndarray, targets: np.ndarray) -> bool:
    """Return whether every embedding of a shard is wanted, in order and one after the other."""
    return (
        len(entries) == shard.layout.n
        and bool((np.diff(entries) == 1).all())
        and bool((np.diff(targets) == 1).all())
    )


def _around(shard: ShardMetadata, content: memoryview, X: np.ndarray) -> list[memoryview]:
    """Return a shard's bytes in pieces: `X` where its embeddings are, `content` around them."""
    begin = shard.layout.features
    return [
        content[:begin],
        X.data.cast("B"),
        content[begin + X.nbytes :],
    ]


def empty_matrix(n: int, dim: int, folder: Path, free: int | None = None) -> np.ndarray:
    """Return an array of shape (n, dim) and dtype float32 to be filled.

    Where it would take more than half of the free memory it is a ``numpy.memmap`` of a file in
    `folder` (the temporary folder where that is read-only). The file has no name any more: its
    space is free again when the array is gone, whatever ends the process.

    Parameters
    ----------
    n, dim : int
    folder : Path
    free : int, optional
        Bytes of memory that are free; asked of the system unless given.

    Raises
    ------
    OSError
        The matrix fits neither in memory nor on the disk.
    """
    size = 4 * n * dim
    if size <= SHARE * (machine.free_memory() if free is None else free):
        return np.empty((n, dim), np.float32)
    writable = folder if os.access(folder, os.W_OK) else None
    with tempfile.TemporaryFile(dir=writable) as file:
        if hasattr(os, "posix_fallocate"):
            # A full disk is an error now, and not a bus error at some later write.
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        logger.info("%d embeddings of %d numbers are mapped from a file", n, dim)
        return np.memmap(file, np.float32, "r+", shape=(n, dim))
