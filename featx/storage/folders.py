"""The folders of a cache: durable, for their owner alone, and never a link to somebody else's."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featx.errors import CacheSecurityError

# What file systems raise that cannot sync a folder; they have no more durability to give.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EROFS)


def refuse_links(*folders: Path) -> None:
    """Raise CacheSecurityError if one of these folders is a link; an absent one is not.

    Only the cache folder itself may be a link, because its user names it. Below it, a link would
    let featx write, move and remove files that are not its own.
    """
    for folder in folders:
        if os.path.islink(folder):
            raise CacheSecurityError(
                f"{folder} is a link, which featx never makes inside a cache and does not follow. "
                "Remove the link (what it leads to stays), and run again"
            )


def refuse_links_between(root: Path, path: Path) -> None:
    """Raise CacheSecurityError if a folder on the way from a root down to a path is a link."""
    above = [folder for folder in path.parents if folder != root and folder.is_relative_to(root)]
    refuse_links(*reversed(above))


@contextmanager
def entered(root: Path, folder: Path) -> Iterator[int | None]:
    """Open a folder below a root, link by no link, for calls that name what is in it.

    A path that was looked at may lead elsewhere when it is used: somebody who may write to the
    cache swaps a folder for a link in between. A descriptor stays with the folder that was opened.

    Yields
    ------
    int or None
        For the `dir_fd` of calls of `os`, with ``named``; None where the platform has none.

    Raises
    ------
    OSError
        A folder on the way is a link, or not there.
    """
    if not os.supports_dir_fd:  # as on Windows
        yield None
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(root, flags)  # the root itself may be a link: its user names it
    try:
        for part in folder.relative_to(root).parts:
            inner = os.open(part, flags | os.O_NOFOLLOW, dir_fd=descriptor)
            outer, descriptor = descriptor, inner
            os.close(outer)
        yield descriptor
    finally:
        os.close(descriptor)


def named(path: Path, at: int | None) -> Path:
    """Return how a call with the descriptor of its folder, or with none, names a path."""
    return path if at is None else Path(path.name)


def make(folder: Path) -> None:
    """Make a folder and its parents, each durable in its parent; only the owner may enter."""
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        make(folder.parent)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    sync(folder.parent)


def make_durable(root: Path, *folders: Path) -> None:
    """Make the entries of a root and of folders in it durable, whichever process made them.

    The root's own entry as well, where that is allowed.
    """
    with suppress(PermissionError):  # the folder that holds the root may be closed to us
        sync(root.parent)
    for folder in (root, *folders):
        sync(folder)


def sync(folder: Path) -> None:
    """Return when the entries of a folder are on the disk, as far as its file system can tell."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        if os.name == "nt":  # Windows opens no folders, and journals their entries itself
            return
        raise
    try:
        sync_opened(descriptor)
    finally:
        os.close(descriptor)


def sync_opened(descriptor: int) -> None:
    """Do what ``sync`` does for a folder that is open."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def free_bytes(folder: Path) -> int | None:
    """Return the bytes that the disk of a folder has left; None where that is not known."""
    try:
        status = os.statvfs(folder)
    except (OSError, AttributeError):
        return None
    return status.f_bavail * status.f_frsize
