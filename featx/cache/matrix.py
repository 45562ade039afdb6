"""Room for gathered rows: in memory, or in a file where they would not fit."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import numpy as np

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
