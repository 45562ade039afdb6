"""Whose a cache is: one that was found, and not named, must be the user's own.

As git does with ``safe.directory``: a folder that somebody else may write to can hold embeddings,
and a compiled network, that were made to be believed.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from featx.errors import CacheOwnershipError

logger = logging.getLogger(__name__)

_noted: set[Path] = set()


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
        A folder or the marker belongs to somebody else, or everybody may write to it.
    """
    for path, why in _doubts(root, marker):
        raise CacheOwnershipError(
            f"the cache {root} was found in the working folder, and is not used: {path} {why}, and "
            "whoever writes there decides what featx answers. Name it if you trust it "
            f"(cache={os.fspath(root)!r}, --cache {root}, or FEATX_CACHE), or name another folder"
        )
    if _is_writable_for_group(root):
        _once(root, f"the cache {root} is writable for its group, which can change what it holds.")


def note_strangers(root: Path, marker: str) -> list[str]:
    """Return, and log once, what makes a cache that was named not the user's alone."""
    notes = [f"{path} {why}" for path, why in _doubts(root, marker)]
    if notes:
        _once(root, f"the cache {root} was named, and is used: {notes[0]}.")
    return notes


def _once(root: Path, note: str) -> None:
    if root not in _noted:
        _noted.add(root)
        logger.warning("%s", note)


def _doubts(root: Path, marker: str) -> Iterator[tuple[Path, str]]:
    """Yield each part of a cache that others own or may write to, and which of the two."""
    if not hasattr(os, "getuid"):  # Windows has no owners that `stat` tells
        return
    trusted = {os.getuid(), 0}
    if os.getuid() == 0:
        # In a container, the user of a checkout that is mounted into it is often root.
        trusted.add(os.stat(Path.cwd()).st_uid)
    for path in _parts(root, marker):
        try:
            status = os.lstat(path)
        except OSError:  # it is being made, or was removed
            continue
        if status.st_uid not in trusted:
            yield path, f"belongs to another user (uid {status.st_uid})"
        elif status.st_mode & stat.S_IWOTH and not stat.S_ISLNK(status.st_mode):
            yield path, "is writable for everybody"


def _parts(root: Path, marker: str) -> Iterator[Path]:
    """Yield a cache's folder, its marker and the folders in it; embeddings are in the deepest."""
    yield from (root, root / marker)
    try:
        with os.scandir(root) as entries:
            folders = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        for folder in sorted(folders):
            yield folder
            with os.scandir(folder) as entries:
                yield from (Path(entry.path) for entry in entries if entry.is_dir())
    except OSError:
        return


def _is_writable_for_group(root: Path) -> bool:
    return hasattr(os, "getuid") and bool(os.stat(root).st_mode & stat.S_IWGRP)
