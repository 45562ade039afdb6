"""The cache folder: where it is, and the mark that makes it featx's."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from featx import disk
from featx.errors import CacheCorruptError, CacheError, CacheVersionError, CacheWriteError

logger = logging.getLogger(__name__)

FORMAT = 1
MARKER = "FEATX-CACHE.json"


def find_root(cache: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache folder, made and marked if need be.

    Parameters
    ----------
    cache : path, optional
        The folder; else ``$FEATX_CACHE``, else ``./cache`` when it is marked as a featx cache,
        else the user's cache folder of the platform.

    Raises
    ------
    CacheError
        The folder has other things in it and no mark of featx.
    CacheVersionError
        The folder has a format this version does not know; it is left untouched.
    CacheWriteError
        The folder cannot be made.
    """
    if cache is None:
        cache = os.environ.get("FEATX_CACHE") or None
    if cache is None and Path("cache", MARKER).is_file():
        cache = "cache"
    if cache is None:
        import platformdirs

        cache = platformdirs.user_cache_dir("featx", appauthor=False)
    root = Path(cache).expanduser().absolute()
    try:
        if not is_marked(root):
            _mark(root)
        about = json.loads(disk.read(root / MARKER))
    except OSError as error:
        raise disk.refusal(error, root) from error
    except ValueError as error:
        raise CacheCorruptError(
            f"{root / MARKER} is damaged: {error}. If this is a featx cache, its content is "
            f'{{"format": {FORMAT}}}: write that back.'
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise CacheVersionError(
            f"the cache {root} says {about!r}; this featx knows format {FORMAT}. It was left "
            "untouched: use the featx that made it, or another folder."
        )
    return root


def make_key_folder(folder: Path, text: bytes) -> None:
    """Make the folder of one key, with the key's canonical JSON in it.

    Raises
    ------
    CacheWriteError
        The cache folder is not there any more.
    """
    if not is_marked(folder.parent):
        raise CacheWriteError(
            f"the cache {folder.parent} was removed while it was used. Run again to start anew."
        )
    disk.make_folder(folder / "shards")
    path = folder / "key.json"
    if not _holds(path, text) and not disk.publish(path, text) and not _holds(path, text):
        # The folder's name is the hash of this very text, which proves what stood there.
        logger.warning("%s was damaged and is written anew", path)
        disk.replace(path, text)


def _holds(path: Path, text: bytes) -> bool:
    return bytes(disk.load_lightly(path) or b"") == text


def is_marked(root: Path) -> bool:
    """Say whether something stands where a cache has its mark."""
    return os.path.lexists(root / MARKER)


def _mark(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise CacheWriteError(f"the cache {root} is a file; expected a folder.")
    # A temporary file is of a process that marks the folder now, or was killed while it did.
    others = [n for n in os.listdir(root) if not n.startswith(".tmp-")] if root.is_dir() else []
    if others and not is_marked(root):
        raise CacheError(
            f"{root} holds other files and no {MARKER}: featx only writes to a folder it "
            "marked. Choose a new or an empty folder."
        )
    disk.make_folder(root)
    disk.publish(root / MARKER, json.dumps({"format": FORMAT}).encode() + b"\n")
