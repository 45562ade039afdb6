"""The key of a spec, and the folder of a key."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from featx.cache.location import FORMAT
from featx.storage import folders

# The folders in a key's folder.
INSIDE = ("shards", "quarantine", "claims")


def refuse_links_in(folder: Path) -> None:
    """Raise CacheSecurityError if a key's folder, or one of those in it, is a link."""
    folders.refuse_links(folder, *(folder / name for name in INSIDE))


def key_of(spec: dict[str, Any]) -> tuple[str, bytes]:
    """Return the feature key of a spec, 64 hexadecimal digits, and the JSON it is taken from."""
    whole = {"format": FORMAT, **spec}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    return hashlib.sha256(text).hexdigest(), text


def key_folder(root: Path, key: str) -> Path:
    """Return the folder of a feature key."""
    return root / f"k-{key[:32]}"


def drop_if_empty(folder: Path) -> None:
    """Remove the folder of a key without embeddings."""
    with suppress(OSError):  # a shard came meanwhile, or the folder is not ours: it stays
        with folders.entered(folder.parent, folder) as at:
            if set(os.listdir(folder if at is None else at)) != {"key.json", "shards"}:
                return
            os.rmdir(folders.named(folder / "shards", at), dir_fd=at)
            os.unlink(folders.named(folder / "key.json", at), dir_fd=at)
        with folders.entered(folder.parent, folder.parent) as at:
            os.rmdir(folders.named(folder, at), dir_fd=at)
