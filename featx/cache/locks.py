"""Claims on blocks: they save double work between processes, and nothing depends on them."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import ModuleType

from featx.errors import CacheSecurityError
from featx.formatting import printable
from featx.storage import folders

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = logging.getLogger(__name__)

# How long others are waited for before it is said whom.
SILENT_SECONDS = 5.0
ANSWER_SECONDS = 2.0
_BUSY = (errno.EWOULDBLOCK, errno.EACCES)


class Claim:
    """The right to compute one block while other processes compute others; released once.

    Parameters
    ----------
    path : Path, optional
        Its file, two folders below the cache folder.
    descriptor : int
        The file, open and locked.
    """

    def __init__(self, path: Path | None = None, descriptor: int = -1) -> None:
        self._path = path
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the claim. A process that opened the file before may still lock it: harmless."""
        if self._path is not None:
            with (
                suppress(OSError),
                folders.entered(self._path.parents[2], self._path.parent) as at,
            ):
                os.unlink(folders.named(self._path, at), dir_fd=at)
            with suppress(OSError):
                os.close(self._descriptor)
            self._path = None


class Claims:
    """The claims on the blocks of one key, as locked files in a folder.

    Every failure means "go on without": locks that always succeed, never succeed, hang or are not
    supported by the file system only cost computing a block twice.

    Parameters
    ----------
    folder : Path
        The folder of the files, in a key's folder; it may be removed at any time.
    silent_seconds : float
        How long others are waited for before it is said whom.
    answer_seconds : float
        How long a lock is waited for that is requested without waiting: it answers at once or,
        where a network's lock service is dead, never.
    """

    def __init__(
        self,
        folder: Path,
        silent_seconds: float = SILENT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._folder = folder
        self._answer_seconds = answer_seconds
        self.silent_seconds = silent_seconds
        self._usable = fcntl is not None
        self._suspended: set[_Holder] = set()

    def take(self, name: str) -> Claim | None:
        """Return the claim on a block, or None while another process has it."""
        if not self._usable:
            return Claim()
        path = self._folder / f"{name}.lock"
        descriptor = -1
        try:
            folders.refuse_links(self._folder.parent, self._folder)
            descriptor = self._opened(path)
            error = _lock(descriptor, self._answer_seconds)
        except CacheSecurityError as raised:
            error = OSError(errno.ELOOP, str(raised))
        except OSError as raised:
            error = raised
        if error is None:
            _sign(descriptor)
            return Claim(path, descriptor)
        if descriptor >= 0 and not isinstance(error, TimeoutError):
            os.close(descriptor)
        if descriptor >= 0 and error.errno in _BUSY:
            return self._unless_suspended(path)
        logger.debug("no claims in %s: %s", self._folder, error)
        self._usable = False
        return Claim()

    def _opened(self, path: Path) -> int:
        """Return the descriptor of a claim's file, made if need be."""
        root = self._folder.parents[1]
        # Not its parents: a cache that was removed is not made again for a claim.
        with folders.entered(root, self._folder.parent) as at, suppress(FileExistsError):
            os.mkdir(folders.named(self._folder, at), 0o700, dir_fd=at)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK
        with folders.entered(root, self._folder) as at:
            return os.open(folders.named(path, at), flags, 0o600, dir_fd=at)

    def holder(self, name: str) -> str:
        """Return in words which process has the claim on a block, as far as it can be told."""
        found = _read_holder(self._folder / f"{name}.lock")
        return "another process" if found is None else f"process {found.pid} on {found.host}"

    def _unless_suspended(self, path: Path) -> Claim | None:
        """Return None for a claim that a process works on, and one of ours if that is suspended."""
        found = _read_holder(path)
        if found is None or found.place != _place() or not _is_suspended(found.pid):
            return None
        if found not in self._suspended:
            self._suspended.add(found)
            logger.warning(
                "process %d is suspended (Ctrl-Z?) and has blocks that are needed here: they are "
                "computed again",
                found.pid,
            )
        return Claim()

    def wait(
        self, names: Collection[str], arrived: Callable[[str], object], patience: float
    ) -> None:
        """Wait for blocks that other processes have claimed, as long as some arrive.

        Parameters
        ----------
        names : collection of str
            The blocks.
        arrived : callable
            Returns whether a block is cached.
        patience : float
            Seconds without a new block after which the wait ends.
        """
        missing = set(names)
        deadline = time.monotonic() + patience
        silent_until = time.monotonic() + self.silent_seconds
        while missing and time.monotonic() < deadline:
            came = {name for name in missing if arrived(name)}
            if came:
                missing -= came
                deadline = time.monotonic() + patience
                continue
            claim = self.take(min(missing))
            if claim is not None:
                # Released: published since, or its process is gone and the block is open.
                claim.release()
                if not arrived(min(missing)):
                    return
            if time.monotonic() > silent_until:
                silent_until = deadline + patience  # once
                logger.warning(
                    "waiting for %s, which computes %d blocks that are needed here",
                    self.holder(min(missing)),
                    len(missing),
                )
            time.sleep(0.05)


@dataclass(frozen=True)
class _Holder:
    """A process that has a claim: its number, and where that number is its own."""

    pid: int
    place: str
    host: str


def _sign(descriptor: int) -> None:
    """Write into a claim's file whose it is; nothing depends on it."""
    with suppress(OSError):
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            return  # a hard link to a file that is not featx's would be emptied
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} {_place()} {socket.gethostname()}\n".encode())


def _place() -> str:
    """Return what tells apart machines, and containers in which processes are numbered anew."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return "-"


def _read_holder(path: Path) -> _Holder | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
        try:
            pid, place, host = os.read(descriptor, 512).decode().split()
        finally:
            os.close(descriptor)
        return _Holder(int(pid), place, printable(host[:100]))
    except (OSError, ValueError):
        return None


def _is_suspended(pid: int) -> bool:
    """Return whether a process of this machine is stopped; the letters are those of proc(5)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError, ValueError):
        return False
    return state in ("T", "t")


def _lock(descriptor: int, seconds: float) -> OSError | None:
    """Return None if the lock was acquired, or else the reason."""
    answer: SimpleQueue[OSError | None] = SimpleQueue()

    def ask() -> None:
        assert fcntl is not None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            answer.put(None)
        except OSError as error:
            answer.put(error)

    # A daemon: one that never comes back must not hold up the end of the process.
    threading.Thread(target=ask, name="featx-claim", daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except Empty:
        return TimeoutError("the lock did not answer")
