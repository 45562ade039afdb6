"""The key of a spec, and the folder in which a key's shards lie."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from featx.cache.location import FORMAT, is_marked
from featx.errors import CacheWriteError
from featx.storage import atomic, folders

logger = logging.getLogger(__name__)


def mark_used(folder: Path) -> None:
    """Note on a key's folder that it is used now; the time is key.json's."""
    path = folder / "key.json"
    with suppress(OSError):
        if os.access(path, os.W_OK):  # else nothing is kept yet, or the cache is read-only
            os.utime(path, follow_symlinks=False)


def refuse_links_in(folder: Path) -> None:
    """Raise CacheSecurityError if a key's folder, or one of those in it, is a link."""
    folders.refuse_links(folder, *(folder / name for name in ("shards", "quarantine", "claims")))


def key_of(spec: dict[str, Any]) -> tuple[str, bytes]:
    """Return the feature key of a spec, 64 hexadecimal digits, and the JSON it is taken from."""
    whole = {"format": FORMAT, **spec}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    return hashlib.sha256(text).hexdigest(), text


def key_folder(root: Path, key: str) -> Path:
    """Return where the shards of a feature key lie."""
    return root / f"k-{key[:32]}"


def make_key_folder(folder: Path, text: bytes) -> None:
    """Make the folder of one key, with the key's canonical JSON in it.

    Raises
    ------
    CacheWriteError
        The cache folder is not there any more.
    CacheSecurityError
        A link stands in a folder's place.
    """
    refuse_links_in(folder)
    if not is_marked(folder.parent):
        raise CacheWriteError(
            f"the cache {folder.parent} was removed while it was used. Run again to start anew."
        )
    folders.make(folder / "shards")
    path = folder / "key.json"
    if not _holds(path, text) and not atomic.publish(path, text) and not _holds(path, text):
        # The folder's name is the hash of this very text, which proves what stood there.
        logger.warning("%s was damaged and is written anew", path)
        atomic.replace(path, text)


def _holds(path: Path, text: bytes) -> bool:
    return bytes(atomic.load_lightly(path) or b"") == text


def drop_if_empty(folder: Path) -> None:
    """Remove the folder of a key that nothing was kept in."""
    with suppress(OSError):  # a shard came meanwhile, or the folder is not ours: it stays
        if set(os.listdir(folder)) == {"key.json", "shards"}:
            os.rmdir(folder / "shards")
            os.unlink(folder / "key.json")
            os.rmdir(folder)
