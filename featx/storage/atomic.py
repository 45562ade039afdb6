"""Files that are whole and durable, or absent.

Where `at` is given, it is a descriptor of the folder that a path is in (``folders.entered``): only
the path's last part counts then, and a folder that is swapped for a link meanwhile leads nowhere.
"""

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
from typing import NamedTuple

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


def stat_of(path: Path, at: int | None = None) -> Stat:
    """Return the token of a file's present state; a link is not followed."""
    status = os.stat(folders.named(path, at), dir_fd=at, follow_symlinks=False)
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
    temporary: Path,
    content: bytes | memoryview,
    at: int | None = None,
    *,
    durable: bool,
    mode: int = 0o600,
) -> None:
    """Make a temporary file that holds the content."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(temporary, flags, mode, dir_fd=at)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        if durable:
            _sync_file(descriptor)
    finally:
        os.close(descriptor)


def _remove(temporary: Path, at: int | None = None) -> None:
    with suppress(OSError):
        os.unlink(temporary, dir_fd=at)


def publish(path: Path, content: bytes, at: int | None = None) -> bool:
    """Make the content visible at `path`, whole and durable; False if something is there.

    Either way what is at `path` is durable when this returns.
    """
    name = folders.named(path, at)
    temporary = _temporary_beside(name)
    try:
        try:
            _write(temporary, content, at, durable=True)
            won = _put(temporary, name, at)
        except OSError as error:
            # EIO: a failed fsync may drop the pages and then succeed, so never a second one on the
            # same file (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
            # ENOENT: somebody tidied the temporary file away before it had its name.
            if error.errno not in (errno.EIO, errno.ENOENT):
                raise
            _remove(temporary, at)
            temporary = _temporary_beside(name)
            _write(temporary, content, at, durable=True)
            won = _put(temporary, name, at)
        _sync_folder_of(path, at)
    finally:
        _remove(temporary, at)
    return won


def _put(temporary: Path, name: Path, at: int | None) -> bool:
    """Give a finished file its name; False if the name is taken."""
    try:
        os.link(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    except OSError as error:
        if _is_linked(temporary, at):
            return True  # some network file systems report an error for a link that was made
        if isinstance(error, FileExistsError):
            return False
        if error.errno not in _NO_LINKS:
            raise
        if _exists(name, at):
            return False
        # No hard links here. A rename may replace a shard that appeared this very moment, by
        # one of the same name: the same images, as complete.
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    return True


def _is_linked(temporary: Path, at: int | None) -> bool:
    with suppress(OSError):
        return os.stat(temporary, dir_fd=at).st_nlink == 2
    return False


def _exists(name: Path, at: int | None) -> bool:
    with suppress(OSError):
        os.stat(name, dir_fd=at, follow_symlinks=False)
        return True
    return False


def _sync_folder_of(path: Path, at: int | None) -> None:
    if at is None:
        folders.sync(path.parent)
    else:
        folders.sync_opened(at)


def replace(path: Path, content: bytes, at: int | None = None) -> None:
    """Write a file in one step, replacing what has the name; not durable."""
    with replacing(path, at) as temporary:
        _write(temporary, content, at, durable=False)


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
def replacing(path: Path, at: int | None = None) -> Iterator[Path]:
    """Yield a name beside `path`; the file made there takes the place of `path` at the end.

    If anything is raised, that file is removed and `path` stays as it was.
    """
    name = folders.named(path, at)
    temporary = _temporary_beside(name)
    try:
        yield temporary
        os.replace(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    finally:
        _remove(temporary, at)


def quarantine(root: Path, path: Path, state: Stat, folder: Path) -> Path | None:
    """Move a file to a folder, both below a root.

    Returns
    -------
    Path or None
        Its new path; None if it is not in that state now.
    """
    folders.refuse_links(folder)
    target = folder / f"{path.name}-{secrets.token_hex(4)}"
    try:
        folders.make(folder)
        with folders.entered(root, path.parent) as here, folders.entered(root, folder) as there:
            if stat_of(path, here) != state:
                return None
            move = _Move(folders.named(path, here), here, folders.named(target, there), there)
            move.do()
            # What moved may be what another process published this very moment. The change time
            # is that of the move now.
            if stat_of(target, there)._replace(version=state.version) != state:
                if move.undo():
                    _sync_folder_of(path, here)
                return None
    except FileNotFoundError:
        return None
    return target


class _Move(NamedTuple):
    """A file's way from one folder to another, each by its descriptor."""

    path: Path
    here: int | None
    target: Path
    there: int | None

    def do(self) -> None:
        os.rename(self.path, self.target, src_dir_fd=self.here, dst_dir_fd=self.there)

    def undo(self) -> bool:
        """Return False where the name was taken meanwhile: what was moved stays then."""
        try:
            os.link(self.target, self.path, src_dir_fd=self.there, dst_dir_fd=self.here)
            os.unlink(self.target, dir_fd=self.there)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if _exists(self.path, self.here):
                return False
            os.rename(self.target, self.path, src_dir_fd=self.there, dst_dir_fd=self.here)
        return True


def rehearse(folder: Path, at: int | None = None) -> None:
    """Raise OSError if no file can be made in a folder."""
    temporary = _temporary_beside(folders.named(folder / "rehearsal", at))
    try:
        _write(temporary, b"", at, durable=False)
    finally:
        _remove(temporary, at)


def is_gone(error: OSError) -> bool:
    """Return whether an error means that the file is absent, rather than not readable."""
    return error.errno in _GONE


def unreadable(error: OSError, path: Path | str) -> CacheError:
    """Return the error of a failed read, with its remedy for the user."""
    return CacheError(
        f"the cache cannot be read at {path}: {error.strerror or error}. {_remedy(path)}"
    )


def _remedy(path: Path | str) -> str:
    if "://" in str(path):
        return "`featx doctor` tries what the service allows; or choose another cache (--cache)."
    return (
        "Check its owner and permissions, or choose another folder (cache=..., --cache, or "
        "FEATX_CACHE)."
    )


def refusal(error: OSError, path: Path | str) -> CacheError:
    """Return the error of a failed write, with its remedy for the user."""
    if error.errno in _FULL:
        return CacheSpaceError(
            f"no space left for {path}: {error.strerror}. Free some space and run again: what "
            "was cached is not computed again."
        )
    return CacheWriteError(
        f"the cache cannot be written at {path}: {error.strerror or error}. {_remedy(path)}"
    )
