"""How much memory this machine, or the container that this process runs in, has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

# Limit and use of a container's memory: version 2 of cgroups, and version 1.
_CONTAINERS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
# What is assumed where the system does not say, as on Windows.
_ASSUMED = 8 << 30


def memory(containers: Sequence[tuple[str, str]] = _CONTAINERS) -> int:
    """Return all memory in bytes: the machine's, or its container's if that is less.

    Parameters
    ----------
    containers : sequence of (path, path)
        Files with the limit of a container, and with what it uses.
    """
    found = [_physical(), *(_number(limit) for limit, _ in containers)]
    return min((size for size in found if size is not None), default=_ASSUMED)


def free_memory(containers: Sequence[tuple[str, str]] = _CONTAINERS) -> int:
    """Return the bytes that this process may still take, its container's limit included.

    Parameters
    ----------
    containers : sequence of (path, path)
        Files with the limit of a container, and with what it uses.
    """
    found = [_available()]
    for paths in containers:
        limit, used = map(_number, paths)
        if limit is not None and used is not None:
            found.append(max(0, limit - used))
    return min((size for size in found if size is not None), default=_ASSUMED)


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return _physical()  # not Linux: all memory, of which others use some


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # no such limit, or "max"
        return None
