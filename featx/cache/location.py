"""The cache: where it is, and the marker that makes it featx's."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path

from featx.cache import ownership
from featx.errors import CacheCorruptError, CacheError, CacheVersionError, CacheWriteError
from featx.storage import atomic, folders, services, strict_json
from featx.storage.interface import Storage
from featx.storage.local import FolderStorage

logger = logging.getLogger(__name__)

FORMAT = 1
MARKER = "FEATX-CACHE.json"
_MARK = json.dumps({"format": FORMAT}).encode() + b"\n"
DAY = 24 * 3600


def find_cache(cache: str | os.PathLike[str] | None = None) -> Storage:
    """Return the cache, made and marked if need be.

    Parameters
    ----------
    cache : path or str, optional
        A folder, or an address: ``s3://bucket/prefix``, ``gs://`` (Google Cloud Storage) or
        ``az://`` (Azure); else what ``$FEATX_CACHE`` names, else ``./cache`` when it is marked as
        a featx cache, else the user's cache folder of the platform.

    Raises
    ------
    CacheError
        As for ``find_root``; or the address is none, or the service refuses.
    """
    place = chosen(cache)
    if isinstance(place, Path):
        return FolderStorage(find_root(cache))
    storage = services.connect(place)
    try:
        if not storage.exists(MARKER):
            others = storage.names("")
            if others:
                raise CacheError(
                    f"{storage.location('')} holds other objects and no {MARKER}: featx only "
                    "writes to a prefix it marked. Choose a new or an empty one."
                )
            storage.publish(MARKER, _MARK)
        _check(storage)
    except OSError as error:
        raise atomic.refusal(error, storage.location("")) from error
    return storage


def existing_cache(cache: str | os.PathLike[str] | None = None) -> Storage | None:
    """Return the cache, or None where it does not exist; nothing is made.

    Raises
    ------
    CacheError
        What is there is not a cache of featx, or of a format it does not know; or, a folder, it
        was found in the working folder and is not the user's alone.
    """
    place = chosen(cache)
    if isinstance(place, Path):
        root = existing_root(cache)
        return None if root is None else FolderStorage(root)
    storage = services.connect(place)
    try:
        if not storage.exists(MARKER):
            if storage.names(""):
                raise _unmarked(storage.location(""))
            return None
        _check(storage)
    except OSError as error:
        raise atomic.unreadable(error, storage.location("")) from error
    return storage


def find_root(cache: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a cache that is one, made and marked if need be.

    Parameters
    ----------
    cache : path, optional
        As for ``find_cache``.

    Raises
    ------
    CacheError
        The folder has other things in it and no marker of featx.
    CacheOwnershipError
        It was found in the working folder, and is not the user's alone.
    CacheVersionError
        The folder has a format this version does not know; it is left untouched.
    CacheWriteError
        The folder cannot be made.
    """
    root = _folder(chosen(cache))
    try:
        if not is_marked(root):
            _mark(root)
        _check(FolderStorage(root))
        _check_owner(root, cache)
    except CacheError:
        raise
    except OSError as error:
        raise atomic.refusal(error, root) from error
    return root


def chosen(cache: str | os.PathLike[str] | None = None) -> Path | str:
    """Return where the cache is, which may not exist: an absolute path, or an address."""
    if cache is None:
        cache = os.environ.get("FEATX_CACHE") or None
    if cache is None and Path("cache", MARKER).is_file():
        cache = "cache"
    if cache is None:
        import platformdirs

        cache = platformdirs.user_cache_dir("featx", appauthor=False)
    return os.fspath(cache) if services.is_address(cache) else Path(cache).expanduser().absolute()


def _folder(place: Path | str) -> Path:
    if isinstance(place, str):
        raise CacheError(f"the cache {place} is not a folder.")
    return place


def existing_root(cache: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the cache folder, or None where it does not exist; nothing is made.

    Raises
    ------
    CacheError
        The folder exists and is not a cache of featx, or of a format it does not know; or it was
        found in the working folder and is not the user's alone.
    """
    root = _folder(chosen(cache))
    if not os.path.lexists(root):
        return None
    if not is_marked(root):
        raise _unmarked(str(root))
    try:
        _check(FolderStorage(root))
        _check_owner(root, cache)
    except OSError as error:
        raise CacheError(f"the cache {root} cannot be read: {error.strerror}.") from error
    return root


def _unmarked(location: str) -> CacheError:
    return CacheError(
        f"{location} is not a featx cache: it holds no {MARKER}. Name the place that was given as "
        "cache= or --cache, or that FEATX_CACHE names."
    )


def _check_owner(root: Path, cache: str | os.PathLike[str] | None) -> None:
    """Refuse a cache of somebody else that was found, and note one that was named."""
    if cache is None and not os.environ.get("FEATX_CACHE"):
        ownership.refuse_strangers(root, MARKER)
    else:
        ownership.note_once(root, MARKER)


def _check(storage: Storage) -> None:
    """Raise unless the marker has a format that this version knows, and no folder is a link."""
    storage.refuse_links("statindex")
    try:
        marker = strict_json.loads(bytes(storage.read(MARKER)))
    except (ValueError, RecursionError) as error:
        raise CacheCorruptError(
            f"{storage.location(MARKER)} is damaged: {error}. If this is a featx cache, its "
            f'content is {{"format": {FORMAT}}}: restore that content.'
        ) from error
    if not isinstance(marker, dict) or marker.get("format") != FORMAT:
        raise CacheVersionError(
            f"the cache {storage.location('')} is marked {marker!r}; this featx knows format "
            f"{FORMAT}. It was left untouched: use the version of featx that made it, or another "
            "folder."
        )


def is_marked(root: Path) -> bool:
    """Return whether something has the name of a cache's marker."""
    return os.path.lexists(root / MARKER)


def refuse_foreign(root: Path) -> None:
    """Raise CacheError unless a folder is empty, absent, or a cache of this format."""
    if is_marked(root):
        _check(FolderStorage(root))
        return
    if root.exists() and not root.is_dir():
        raise CacheWriteError(f"the cache {root} is a file; expected a folder.")
    # A temporary file is of a process that marks the folder now, or was killed while it did.
    others = [n for n in os.listdir(root) if not n.startswith(".tmp-")] if root.is_dir() else []
    if others and not is_marked(root):
        raise CacheError(
            f"{root} holds other files and no {MARKER}: featx only writes to a folder it "
            "marked. Choose a new or an empty folder."
        )


def nearest_writable(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists; nothing is made.

    Raises
    ------
    CacheWriteError
        Nothing can be made there.
    """
    found = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not found.is_dir():
        raise atomic.refusal(NotADirectoryError(errno.ENOTDIR, "it is not a folder"), found)
    if not os.access(found, os.W_OK | os.X_OK):
        raise atomic.refusal(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), found)
    return found


def _mark(root: Path) -> None:
    refuse_foreign(root)
    folders.make(root)
    atomic.publish(root / MARKER, _MARK)
