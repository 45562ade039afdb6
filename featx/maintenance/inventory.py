"""What a cache contains: one entry per feature key."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featx.backbones.keras_models import UNTRAINED
from featx.cache.location import FORMAT
from featx.cache.shards import BAD, EMBEDDING
from featx.cache.store import Store
from featx.errors import CacheCorruptError, CacheError, CacheKeyMismatchError, CacheVersionError
from featx.images.preparation import Preparation
from featx.storage import atomic, strict_json
from featx.storage.interface import Stat, Storage
from featx.storage.local import FolderStorage
from featx.storage.objects import ObjectStorage

_MAX_KEY_BYTES = 1 << 20


@dataclass(frozen=True)
class CachedKey:
    """One feature key of a cache.

    Attributes
    ----------
    folder : Path
        What is on this machine of it, a folder whose name begins with ``k-``.
    location : str
        How messages call it.
    store : Store or None
        Its embeddings; None where they cannot be used, for the reason in `problem`.
    bytes : int
        Size of its files, quarantine included.
    last_used : float
        Seconds since 1970; 0 where it is unknown.
    """

    folder: Path
    location: str
    store: Store | None
    problem: str
    bytes: int
    last_used: float

    @property
    def embeddings(self) -> int:
        """How many embeddings are cached; an image computed in two environments counts twice."""
        return self._count(EMBEDDING)

    @property
    def bad(self) -> int:
        """How many images are known to give no embedding."""
        return self._count(BAD)

    @property
    def environments(self) -> list[dict[str, Any]]:
        """What computed the embeddings, each environment once."""
        return [] if self.store is None else self.store.environments()

    def _count(self, status: int) -> int:
        if self.store is None:
            return 0
        return sum(int((shard.status == status).sum()) for shard in self.store.index.shards)


def list_keys(cache: Storage | Path) -> list[CachedKey]:
    """Return the keys of a cache, sorted; damaged shards that are found are quarantined.

    Parameters
    ----------
    cache : Storage or Path
        From ``featx.cache.location``, or the folder of one.
    """
    if isinstance(cache, ObjectStorage):
        return [_look_at(cache, key, entries) for key, entries in key_objects(cache).items()]
    return [
        _look(folder) for folder in key_folders(cache if isinstance(cache, Path) else cache.scratch)
    ]


def key_objects(storage: ObjectStorage) -> dict[str, list[tuple[str, Stat]]]:
    """Return the feature keys in an object store, sorted, each with its objects: one listing.

    Raises
    ------
    CacheError
        The service refuses.
    """
    found: dict[str, list[tuple[str, Stat]]] = {}
    try:
        for name, stat in storage.walk(""):
            key, slash, _ = name.partition("/")
            if slash and key.startswith("k-"):
                found.setdefault(key, []).append((name, stat))
    except OSError as error:
        raise atomic.unreadable(error, storage.location("")) from error
    return dict(sorted(found.items()))


def key_folders(root: Path) -> list[Path]:
    """Return the folders of the feature keys, sorted.

    Raises
    ------
    CacheError
        The cache folder cannot be listed.
    """
    try:
        names = sorted(name for name in os.listdir(root) if name.startswith("k-"))
    except OSError as error:
        raise atomic.unreadable(error, root) from error
    paths = [root / name for name in names]
    return [path for path in paths if os.path.isdir(path) and not os.path.islink(path)]


def is_of_another_format(folder: Path, storage: Storage | None = None) -> bool:
    """Return whether a key's format is, or may be, one that this version does not know.

    `storage` is where the key is, unless it is in the folder itself.
    """
    try:
        return _spec(storage or FolderStorage(folder.parent), folder.name)["format"] != FORMAT
    except OSError as error:
        return not atomic.is_gone(error)  # it exists, but cannot be read now
    except (CacheError, ValueError, TypeError, KeyError, RecursionError):
        return False  # damaged: no format at all


def _spec(storage: Storage, key: str) -> Any:
    name = f"{key}/key.json"
    if storage.stat(name).size > _MAX_KEY_BYTES:
        raise CacheCorruptError(f"{storage.location(name)} is too large")
    return strict_json.loads(bytes(storage.read(name)))


def open_key(folder: Path, storage: Storage | None = None) -> Store:
    """Return the store of a key: of its folder, or of that name in another storage.

    Raises
    ------
    CacheError
        Its key.json is missing, damaged, another folder's or of a later format.
    """
    storage = storage or FolderStorage(folder.parent)
    path = storage.location(f"{folder.name}/key.json")
    try:
        spec = _spec(storage, folder.name)
        if spec["format"] != FORMAT:
            raise CacheVersionError(
                f"{storage.location(folder.name)} has format {spec['format']!r}; this featx knows "
                f"format {FORMAT}. It was left untouched."
            )
        if not isinstance(spec["backbone"], str):
            raise TypeError("a backbone without a name")
        store = Store(storage, {name: spec[name] for name in spec if name != "format"})
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CacheCorruptError(
            f"{path} is damaged. The next extraction with these options rewrites it"
        ) from error
    if store.folder.name != folder.name:
        raise CacheKeyMismatchError(f"{path} belongs to another folder, {store.folder.name}")
    return store


def _look(folder: Path) -> CachedKey:
    store, problem = None, ""
    try:
        store = open_key(folder)
    except CacheError as error:
        problem = str(error)
    return CachedKey(folder, str(folder), store, problem, size_of(folder), last_used(folder))


def _look_at(storage: ObjectStorage, key: str, entries: list[tuple[str, Stat]]) -> CachedKey:
    store, problem, folder = None, "", storage.scratch / key
    try:
        store = open_key(folder, storage)
    except CacheError as error:
        problem = str(error)
    size = sum(stat.size for _, stat in entries)
    return CachedKey(folder, storage.location(key), store, problem, size, last_used_of(entries))


def last_used(folder: Path) -> float:
    """Return when an extraction last used a key or wrote embeddings to it; 0 where unknown."""
    shards = folder / "shards"
    try:
        newest = os.lstat(folder / "key.json").st_mtime
        # A run records its use when it begins, and may take days: each shard is a use as well.
        names = os.listdir(shards) if os.path.lexists(shards) else []
        for path in (shards, *(shards / name for name in names)):
            with suppress(FileNotFoundError):  # just removed
                newest = max(newest, os.lstat(path).st_mtime)
        return newest
    except OSError:
        return 0.0


def last_used_of(entries: Iterable[tuple[str, Stat]]) -> float:
    """Return the same of a key's objects."""
    used = [stat.modified for name, stat in entries if name.endswith(("/key.json", ".h5"))]
    return max(used, default=0) / 1e9


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; links are not followed."""
    total, pending = 0, [os.fspath(path)]
    while pending:  # no recursion: folders may be deeper than Python's stack
        name = pending.pop()
        with suppress(OSError):  # gone, or not ours to look at
            status = os.lstat(name)
            if modes.S_ISDIR(status.st_mode):
                with os.scandir(name) as entries:
                    pending += [entry.path for entry in entries]
            else:
                total += status.st_size
    return total


def options_of(spec: dict[str, Any]) -> str:
    """Return what differs from a network's default options, the weights always."""
    # Any JSON value: a key that another program made, or with fewer options, is listed as well.
    weights = spec.get("weights")
    parts = [
        f"{spec.get('side')} px",
        "untrained" if weights == UNTRAINED else f"weights {str(weights)[:8]}",
    ]
    if spec.get("layer") is not None:
        parts.append(f"layer {spec['layer']}")
    if spec.get("pooling", "avg") != "avg":
        parts.append(f"pooling {spec['pooling'] or 'none'}")
    if spec.get("precision", "float32") != "float32":
        parts.append(str(spec["precision"]))
    how = Preparation.of_policy(spec.get("pixels"))
    if how is not None:
        parts += ["JPEG scaled"] * (how.decode == "scaled")
        parts += [how.resize] * (how.resize != "squash")
        parts += [how.filter] * (how.filter != "bilinear")
    return "  ".join(parts)


def environment_of(environment: dict[str, Any]) -> str:
    """Return the runtime and its version, then the versions that affect its digits."""
    runtime = str(environment.get("runtime", "an unnamed runtime"))
    engine = environment.get(runtime.removeprefix("keras-"))
    parts = [f"{runtime} {engine}" if engine else runtime]
    if "device" in environment:
        parts[0] += f" on {environment['device']}"
    parts += [
        f"{name} {environment[name]}" for name in ("nncf", "keras", "pillow") if name in environment
    ]
    return ", ".join(parts)
