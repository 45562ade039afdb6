"""Files that are whole and durable, or absent."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from types import ModuleType

from featx.errors import (
    CacheError,
    CacheSpaceError,
    CacheWriteError,
)
from featx.storage import folders
from featx.storage.interface import Stat

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What file systems without hard links raise: FAT EPERM, sshfs ENOSYS, SMB ENOTSUP, Android EACCES.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES)
_GONE = (errno.ENOENT, errno.ESTALE, errno.ENOTDIR)
# Inodes of some file systems are larger.
MAX_INT64 = 2**63 - 1


@cache
def this_host() -> str:
    """Return 8 hexadecimal digits that stand for this machine in the names of temporary files."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def stat_of(path: Path) -> Stat:
    """Return the token of a file's present state; a link is not followed."""
    status = os.stat(path, follow_symlinks=False)
    return Stat(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & MAX_INT64)


def _sync_file(descriptor: int) -> None:
    """Return when the bytes are on the medium itself."""
    full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone stops at the drive's memory
    if full is not None and fcntl is not None:
        with suppress(OSError):
            fcntl.fcntl(descriptor, full)
            return
    os.fsync(descriptor)


def _temporary_beside(path: Path) -> Path:
    """Return the name of a new temporary file beside `path`.

    Its maker removes it whatever happens: Ctrl-C may come as soon as the file is there, before
    the call that made it has returned.
    """
    return path.parent / f".tmp-{this_host()}-{os.getpid()}-{secrets.token_hex(8)}"


def _write(
    temporary: Path, content: bytes | memoryview, *, durable: bool, mode: int = 0o600
) -> None:
    """Make a temporary file that holds the content."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(temporary, flags, mode)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        if durable:
            _sync_file(descriptor)
    finally:
        os.close(descriptor)


def _remove(temporary: Path) -> None:
    with suppress(OSError):
        os.unlink(temporary)


def publish(path: Path, content: bytes) -> bool:
    """Make the content visible at `path`, whole and durable; False if something is there.

    Either way what is at `path` is durable when this returns.
    """
    temporary = _temporary_beside(path)
    try:
        try:
            _write(temporary, content, durable=True)
            won = _put(temporary, path)
        except OSError as error:
            # EIO: a failed fsync may drop the pages and then succeed, so never a second one on the
            # same file (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
            # ENOENT: somebody tidied the temporary file away before it had its name.
            if error.errno not in (errno.EIO, errno.ENOENT):
                raise
            _remove(temporary)
            temporary = _temporary_beside(path)
            _write(temporary, content, durable=True)
            won = _put(temporary, path)
        folders.sync(path.parent)
    finally:
        _remove(temporary)
    return won


def _put(temporary: Path, path: Path) -> bool:
    """Give a finished file its name; False if the name is taken."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if _is_linked(temporary):
            return True  # some network file systems report an error for a link that was made
        if isinstance(error, FileExistsError):
            return False
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            return False
        # No hard links here. A rename may replace a shard that appeared this very moment, by
        # one of the same name: the same images, as complete.
        os.rename(temporary, path)
    return True


def _is_linked(temporary: Path) -> bool:
    with suppress(OSError):
        return os.stat(temporary).st_nlink == 2
    return False


def replace(path: Path, content: bytes) -> None:
    """Write a file in one step, replacing what has the name; not durable."""
    with replacing(path) as temporary:
        _write(temporary, content, durable=False)


def replace_all(contents: Mapping[Path, bytes | memoryview]) -> None:
    """Write files of the user, which other programs read, in place of what has the names; durable.

    Every one is written before the first takes its place, so an error leaves all as they were.
    """
    with ExitStack() as stack:
        for path, content in contents.items():
            # The umask decides who may read it, as for any file of a user.
            _write(stack.enter_context(replacing(path)), content, durable=True, mode=0o666)
    for folder in {path.parent for path in contents}:
        with suppress(OSError):  # the files are in place, whether the folder can be synced or not
            folders.sync(folder)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path`; the file made there takes the place of `path` at the end.

    If anything is raised, that file is removed and `path` stays as it was.
    """
    temporary = _temporary_beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def quarantine(path: Path, state: Stat, folder: Path) -> Path | None:
    """Move a file to a folder; return its new path, or None if it is not in that state now."""
    folders.refuse_links(folder)
    target = folder / f"{path.name}-{secrets.token_hex(4)}"
    try:
        folders.make(folder)
        if stat_of(path) != state:
            return None
        os.rename(path, target)
        moved = stat_of(target)
    except FileNotFoundError:
        return None
    # What moved may be what another process published this very moment. The change time is that
    # of the move now.
    if moved._replace(version=state.version) != state:
        _put_back(target, path)
        return None
    return target


def _put_back(moved: Path, path: Path) -> None:
    """Undo a move; where the name was taken meanwhile, what was moved stays in quarantine."""
    try:
        os.link(moved, path)
        os.unlink(moved)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            return
        os.rename(moved, path)
    folders.sync(path.parent)


def rehearse(folder: Path) -> None:
    """Raise OSError if no file can be made in a folder."""
    temporary = _temporary_beside(folder / "rehearsal")
    try:
        _write(temporary, b"", durable=False)
    finally:
        _remove(temporary)


def is_gone(error: OSError) -> bool:
    """Return whether an error means that the file is absent, rather than not readable."""
    return error.errno in _GONE


def unreadable(error: OSError, path: Path | str) -> CacheError:
    """Return the error of a failed read, with its remedy for the user."""
    return CacheError(
        f"the cache cannot be read at {path}: {error.strerror or error}. Check its owner and "
        "permissions, or choose another folder (cache=..., --cache, or FEATX_CACHE)."
    )


def refusal(error: OSError, path: Path | str) -> CacheError:
    """Return the error of a failed write, with its remedy for the user."""
    if error.errno in _FULL:
        return CacheSpaceError(
            f"no space left for {path}: {error.strerror}. Free some space and run again: what "
            "was cached is not computed again."
        )
    return CacheWriteError(
        f"the cache cannot be written at {path}: {error.strerror or error}. Check its owner and "
        "permissions, or choose another folder (cache=..., --cache, or FEATX_CACHE)."
    )
