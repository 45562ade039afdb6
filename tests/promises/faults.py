"""A file system that fails when it is told to: it stands where featx's modules see `os`."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from featx.cache import gather, keys, location, locks, stat_index
from featx.maintenance import gc, inventory
from featx.storage import atomic, folders, local, reading

# With those that featx's modules reach the disk through: the methods of a Path, and rmtree.
MODULES = (
    atomic, reading, folders, local, keys, location, locks, stat_index, gc, inventory, gather,
    shutil,    sys.modules[Path.unlink.__module__],
)  # fmt: skip
# Every call by which featx's cache touches the disk.
CALLS = (
    "open", "read", "readv", "write", "fsync", "close", "fstat", "stat", "lstat", "statvfs", "link",
    "unlink", "rename", "replace", "mkdir", "rmdir", "listdir", "scandir", "utime",
    "posix_fallocate",
)  # fmt: skip


class FaultyOs:
    """The module `os` with a hook before each call to the disk.

    Parameters
    ----------
    hook : callable
        Gets the call's number from 0, its name and its arguments; a name in a folder that is
        open comes as the whole path. What it returns is done in place of the call, unless that is
        None; what it raises, the call raises.
    """

    def __init__(
        self, hook: Callable[[int, str, tuple[Any, ...]], Callable[..., Any] | None]
    ) -> None:
        self._hook = hook
        self.names: list[str] = []
        # One function for each name: Python 3.13's rmtree asks `func is os.lstat`.
        self._calls: dict[str, Any] = {}
        self._counting = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real
        if name in self._calls:
            return self._calls[name]

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._counting:  # two blocks are on their way at a time
                number = len(self.names)
                self.names.append(name)
            instead = self._hook(number, name, _whole(args, kwargs))
            return real(*args, **kwargs) if instead is None else instead(**kwargs)

        return self._calls.setdefault(name, call)


def _whole(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Return the arguments of a call with whole paths, where it names them in open folders."""
    folders = [kwargs.get("dir_fd", kwargs.get("src_dir_fd")), kwargs.get("dst_dir_fd")]
    whole = list(args)
    for i, folder in enumerate(folders):
        if folder is not None and os.path.isdir(f"/proc/self/fd/{folder}"):
            whole[i] = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fspath(args[i]))
    return tuple(whole)


@contextmanager
def in_place(faulty: FaultyOs) -> Iterator[FaultyOs]:
    """Let featx's cache see this `os`."""
    with ExitStack() as stack:
        for module in MODULES:
            stack.enter_context(mock.patch.object(module, "os", faulty))
        yield faulty


def count_calls(work: Callable[[], Any]) -> list[str]:
    """Return the names of the calls that some work makes, in their order."""
    with in_place(FaultyOs(lambda number, name, args: None)) as counter:
        work()
    return counter.names


def failing(at: int, error: int, *, for_ever: bool) -> FaultyOs:
    """Return an `os` whose call number `at` fails, and all later ones of that name if for ever.

    A short write (`error` 0) writes half of what it is given.
    """
    failed: set[str] = set()

    def hook(number: int, name: str, args: tuple[Any, ...]) -> Callable[..., Any] | None:
        if number == at:
            failed.add(name)
        elif not (for_ever and name in failed):
            return None
        if error == 0:
            return (
                (lambda: os.write(args[0], args[1][: max(1, len(args[1]) // 2)]))
                if (name == "write")
                else None
            )
        if name == "close":
            os.close(args[0])  # a failed close has closed: there is nothing left to close again
        raise OSError(error, os.strerror(error))

    return FaultyOs(hook)


def dying(at: int) -> FaultyOs:
    """Return an `os` whose process ends, as by SIGKILL, before call number `at`."""

    def hook(number: int, name: str, args: tuple[Any, ...]) -> None:
        if number == at:
            if name == "write":  # half of it is written
                os.write(args[0], args[1][: len(args[1]) // 2])
            os._exit(9)

    return FaultyOs(hook)


ERRORS = {name: getattr(errno, name) for name in ("EIO", "ENOSPC", "EDQUOT", "EACCES", "EINTR")}


def cases(names: list[str]) -> Iterator[tuple[int, int, bool]]:
    """Yield each way in which calls of these names can fail: number, error, whether for ever."""
    for at, name in enumerate(names):
        for error in (*ERRORS.values(), *([0] if name == "write" else [])):
            for for_ever in (False, True):
                yield at, error, for_ever
