"""Files that are whole and durable, or not there at all."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import secrets
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

from featx.errors import (
    CacheError,
    CacheSpaceError,
    CacheWriteError,
)
from featx.storage import folders, reading

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What file systems without hard links say: FAT EPERM, sshfs ENOSYS, SMB ENOTSUP, Android EACCES.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES)
_GONE = (errno.ENOENT, errno.ESTALE, errno.ENOTDIR)
# Inodes of some file systems are larger.
MAX_INT64 = 2**63 - 1

# Size, modification time, change time (ns) and inode of a file.
Stat = tuple[int, int, int, int]


@cache
def this_host() -> str:
    """Return 8 hexadecimal digits that stand for this machine in the names of temporary files."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def about(path: Path) -> Stat:
    """Return what tells one state of a file from another; a link is not followed."""
    status = os.stat(path, follow_symlinks=False)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & MAX_INT64


def save_lightly(path: Path, content: bytes) -> None:
    """Put an accelerator file in place in one step; say nothing where that is not allowed.

    Its folder is not made: one that was removed under way stays so.
    """
    with suppress(OSError, CacheError):
        folders.refuse_links(path.parent)
        replace(path, content)


def load_lightly(path: Path) -> bytearray | None:
    """Return the bytes of an accelerator file, or None where there is none to use."""
    try:
        folders.refuse_links(path.parent)
        return reading.read(path)
    except (OSError, CacheError):
        return None


def _sync_file(descriptor: int) -> None:
    """Return when the bytes are on the medium itself."""
    full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone stops at the drive's memory
    if full is not None and fcntl is not None:
        with suppress(OSError):
            fcntl.fcntl(descriptor, full)
            return
    os.fsync(descriptor)


def _aside(path: Path) -> Path:
    """Return the name of a new temporary file beside `path`.

    Its maker removes it whatever happens: Ctrl-C may come as soon as the file is there, before
    the call that made it has returned.
    """
    return path.parent / f".tmp-{this_host()}-{os.getpid()}-{secrets.token_hex(8)}"


def _write(aside: Path, content: bytes, *, durable: bool) -> None:
    """Make a temporary file that holds the content."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(aside, flags, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        if durable:
            _sync_file(descriptor)
    finally:
        os.close(descriptor)


def _remove(aside: Path) -> None:
    with suppress(OSError):
        os.unlink(aside)


def publish(path: Path, content: bytes) -> bool:
    """Make the content visible at `path`, whole and durable; False if something is there.

    Either way what stands at `path` is durable when this returns.
    """
    aside = _aside(path)
    try:
        try:
            _write(aside, content, durable=True)
            won = _put(aside, path)
        except OSError as error:
            # EIO: a failed fsync may drop the pages and then succeed, so never a second one on the
            # same file (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
            # ENOENT: somebody tidied the temporary file away before it had its name.
            if error.errno not in (errno.EIO, errno.ENOENT):
                raise
            _remove(aside)
            aside = _aside(path)
            _write(aside, content, durable=True)
            won = _put(aside, path)
        folders.sync(path.parent)
    finally:
        _remove(aside)
    return won


def _put(aside: Path, path: Path) -> bool:
    """Give a finished file its name; False if the name is taken."""
    try:
        os.link(aside, path)
    except OSError as error:
        if _is_linked(aside):
            return True  # some network file systems report an error for a link that was made
        if isinstance(error, FileExistsError):
            return False
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            return False
        # No hard links here. A rename may replace a shard that appeared this very moment, by
        # one of the same name: the same images, as complete.
        os.rename(aside, path)
    return True


def _is_linked(aside: Path) -> bool:
    with suppress(OSError):
        return os.stat(aside).st_nlink == 2
    return False


def replace(path: Path, content: bytes) -> None:
    """Put the content at `path` in one step, in place of what is there; not durable."""
    aside = _aside(path)
    try:
        _write(aside, content, durable=False)
        os.replace(aside, path)
    finally:
        _remove(aside)


def set_aside(path: Path, state: Stat, folder: Path) -> Path | None:
    """Move a file to a folder; return its place there, or None if it is not in that state now."""
    folders.refuse_links(folder)
    aside = folder / f"{path.name}-{secrets.token_hex(4)}"
    try:
        folders.make(folder)
        if about(path) != state:
            return None
        os.rename(path, aside)
        moved = about(aside)
    except FileNotFoundError:
        return None
    # What moved may be what another process put there this very moment. The third number, the
    # change time, is that of the move now.
    if (*moved[:2], moved[3]) != (*state[:2], state[3]):
        _put_back(aside, path)
        return None
    return aside


def _put_back(aside: Path, path: Path) -> None:
    """Undo a move; where the name was taken meanwhile, what was moved stays aside."""
    try:
        os.link(aside, path)
        os.unlink(aside)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            return
        os.rename(aside, path)
    folders.sync(path.parent)


def rehearse(folder: Path) -> None:
    """Raise OSError if no file can be made in a folder."""
    aside = _aside(folder / "rehearsal")
    try:
        _write(aside, b"", durable=False)
    finally:
        _remove(aside)


def is_gone(error: OSError) -> bool:
    """Say whether an error means that the file is not there, rather than not readable."""
    return error.errno in _GONE


def unreadable(error: OSError, path: Path) -> CacheError:
    """Return the error that says what a failed reading means to a user."""
    return CacheError(
        f"the cache cannot be read at {path}: {error.strerror or error}. Check its owner and "
        "permissions, or choose another folder (cache=..., --cache, or FEATX_CACHE)."
    )


def refusal(error: OSError, path: Path) -> CacheError:
    """Return the error that says what a failed write means to a user."""
    if error.errno in _FULL:
        return CacheSpaceError(
            f"no space left for {path}: {error.strerror}. Free some space and run again: what "
            "was kept is not computed again."
        )
    return CacheWriteError(
        f"the cache cannot be written at {path}: {error.strerror or error}. Check its owner and "
        "permissions, or choose another folder (cache=..., --cache, or FEATX_CACHE)."
    )
