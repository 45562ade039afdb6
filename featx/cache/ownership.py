"""Whose a cache is: one that was found, and not named, must be the user's own.

As git does with ``safe.directory``: what somebody else wrote, or may write, can be embeddings and
a compiled network that were made to be believed. One rule holds for all that lies in a cache:
folders and files, embeddings, indexes, digests of files and networks.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from operator import attrgetter
from pathlib import Path

from featx.errors import CacheOwnershipError

logger = logging.getLogger(__name__)

_noted: set[Path] = set()
_looked_at: set[Path] = set()


def refuse_strangers(root: Path, marker: str) -> None:
    """Refuse a cache that was found, not named, unless it belongs to the user who runs.

    Parameters
    ----------
    root : Path
    marker : str
        The name of the marker in it.

    Raises
    ------
    CacheOwnershipError
        A folder or a file of it belongs to somebody else, or everybody may write to it.
    """
    for path, why in _doubts(root, marker):
        raise CacheOwnershipError(
            f"the cache {root} was found in the working folder, and is not used: {path} {why}, and "
            "whoever writes there decides what featx answers. Name it if you trust it "
            f"(cache={os.fspath(root)!r}, --cache {root}, or FEATX_CACHE), or name another folder"
        )
    if _is_writable_for_group(root):
        _once(root, f"the cache {root} is writable for its group, which can change what it holds.")


def note_once(root: Path, marker: str) -> None:
    """Log what ``note_strangers`` finds, once in a process: a named cache is used either way."""
    if root not in _looked_at:
        _looked_at.add(root)
        note_strangers(root, marker)


def note_strangers(root: Path, marker: str) -> list[str]:
    """Return, and log once, what makes a cache that was named not the user's alone: three at most.

    A cache of another user has as many doubts as files.
    """
    notes = [f"{path} {why}" for path, why in islice(_doubts(root, marker), 3)]
    if notes:
        _once(root, f"the cache {root} was named, and is used: {notes[0]}.")
    return notes


def _once(root: Path, note: str) -> None:
    if root not in _noted:
        _noted.add(root)
        logger.warning("%s", note)


def doubt(status: os.stat_result, *others: int) -> str | None:
    """Return what makes a file or folder not the user's or root's alone, or None.

    Parameters
    ----------
    status : os.stat_result
        Of a link itself, or of what is not a link.
    *others : int
        Users who are trusted besides.
    """
    if not hasattr(os, "getuid"):  # Windows has no owners that `stat` tells
        return None
    if status.st_uid not in (os.getuid(), 0, *others):
        return f"belongs to another user (uid {status.st_uid})"
    if status.st_mode & stat.S_IWOTH and not stat.S_ISLNK(status.st_mode):
        return "is writable for everybody"
    return None


def _doubts(root: Path, marker: str) -> Iterator[tuple[str, str]]:
    """Yield each part of a cache that others own or may write to, and which of the two."""
    others = []
    if hasattr(os, "getuid") and os.getuid() == 0:
        # In a container, the user of a checkout that is mounted into it is often root.
        others.append(os.stat(Path.cwd()).st_uid)
    for path, status in _parts(root, marker):
        why = doubt(status, *others)
        if why is not None:
            yield path, why


# How deep embeddings are below a cache's folder: k-*/shards/*.h5.
_DEPTH = 3


def _parts(root: Path, marker: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield a cache's folder, its marker and, sorted, all that is in its folders; links as links.

    What lies beside the folders, such as a README, featx does not read.
    """
    for path in (root, root / marker):
        with suppress(OSError):  # it is being made, or was removed
            yield os.fspath(path), os.lstat(path)
    with suppress(OSError), os.scandir(root) as entries:
        for entry in sorted(entries, key=attrgetter("name")):
            if entry.is_dir():
                yield from _below(entry, _DEPTH - 1)


def _below(entry: os.DirEntry[str], depth: int) -> Iterator[tuple[str, os.stat_result]]:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return
    yield entry.path, status
    if depth and stat.S_ISDIR(status.st_mode):
        with suppress(OSError), os.scandir(entry.path) as entries:
            for each in sorted(entries, key=attrgetter("name")):
                yield from _below(each, depth - 1)


def _is_writable_for_group(root: Path) -> bool:
    return hasattr(os, "getuid") and bool(os.stat(root).st_mode & stat.S_IWGRP)
