"""The cached embeddings of one feature key: immutable shards, and their list is the truth."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from featx.cache import gather, shards
from featx.cache.index import ShardIndex
from featx.cache.keys import INSIDE, key_folder, key_of
from featx.cache.location import MARKER
from featx.cache.shards import Block, ShardMetadata, of_odd_width
from featx.errors import CacheCorruptError, CacheCorruptWarning, CacheError, CacheWriteError
from featx.storage import atomic
from featx.storage.interface import Stat, Storage
from featx.storage.local import FolderStorage

logger = logging.getLogger(__name__)

_SHARD = re.compile(r"[0-9a-f]{32}\.h5")
# How often something is tried that another process may undo at any moment.
ATTEMPTS = 3


class Store:
    """The embeddings of one feature key.

    Parameters
    ----------
    cache : Storage or Path
        A cache, from ``featx.cache.location.find_cache``, or the folder of one.
    spec : dict
        All that decides the embeddings; its canonical JSON is hashed to the key.
    dim : int, optional
        The width of an embedding, where it is known; else that of most. Shards of another width
        are quarantined.
    names : iterable of str, optional
        The only shards that are looked up before others are loaded by name; all unless given.

    Attributes
    ----------
    key : str
        sha256 of the spec, 64 hexadecimal digits.
    storage : Storage
        Where shards and indexes are stored.
    root : Path
        Where this machine has what is its own: the cache itself where that is a folder.
    folder : Path
        What is there of this key: claims.
    damaged, ignored : dict, set
        Name and reason of the shards found damaged so far; those that could not be moved away.
    """

    def __init__(
        self,
        cache: Storage | Path,
        spec: dict[str, Any],
        dim: int | None = None,
        names: Iterable[str] | None = None,
    ) -> None:
        self.storage = FolderStorage(cache) if isinstance(cache, Path) else cache
        self.root = self.storage.scratch
        self.key, self._text = key_of(spec)
        self.spec: dict[str, Any] = json.loads(self._text)
        self.folder = key_folder(self.root, self.key)
        self._prefix = self.folder.name
        self._dim = dim
        self.ignored: set[str] = set()
        self.damaged: dict[str, str] = {}
        self._shards = {shard.name: shard for shard in self._saved_index().shards}
        # Whether the saved index is out of date; whether a shard of another process was loaded
        # that perhaps is not durable yet.
        self._unsaved = self._unsynced = False
        self.index = ShardIndex()
        if names is None:
            self.refresh()
        else:
            self._begin_with(set(names))

    @property
    def dim(self) -> int | None:
        """The width of the cached embeddings; None while there are none."""
        return next((shard.layout.dim for shard in self._shards.values()), None)

    def loaded(self) -> list[ShardMetadata]:
        """Return the shards that are known now, those published or loaded since included."""
        return [self._shards[name] for name in sorted(self._shards)]

    def environments(self) -> list[dict[str, Any]]:
        """Return what computed the cached embeddings, each environment once."""
        environments = (shard.environment for shard in self._shards.values())
        return list({json.dumps(each, sort_keys=True): each for each in environments}.values())

    def refresh(self) -> None:
        """Load the shards that exist now; quarantine damaged ones.

        Raises
        ------
        CacheVersionError
            A shard has a format that this version does not know; it was left untouched.
        CacheError
            The folder or a shard may not be read; CacheSecurityError where a folder is a link.
        """
        self._refuse_links()
        stats = self._stats()
        for name in set(self._shards) - set(stats):
            self._forget(name)
        for name, stat in stats.items():
            self._load(name, stat)
        for shard in of_odd_width(self._shards.values(), self._dim):
            reason = (
                f"{shard.name} has embeddings of {shard.layout.dim} numbers, unlike this network"
            )
            self._forget(shard.name)
            self._quarantine(shard.name, shard.stat, CacheCorruptError(reason))
        if self._unsaved:
            self.save_index()
        else:
            self.index = ShardIndex(self._shards.values())

    def _begin_with(self, names: set[str]) -> None:
        """Load these shards, and list none: there may be many that others publish meanwhile."""
        self._refuse_links()
        for name in set(self._shards) - names:
            del self._shards[name]
        for name in sorted(names - set(self._shards)):
            self._load(name)
        self.index = ShardIndex(self._shards.values())

    def verify(self) -> None:
        """Read and check every shard anew, as if nothing were known of any."""
        self._shards.clear()
        self.ignored.clear()
        self._unsaved = True
        self.refresh()

    def load(self, block: str) -> ShardMetadata | None:
        """Return a block that is cached, by whichever process; from now on it is found."""
        name = block + ".h5"
        if name not in self._shards:
            self._load(name)
        return self._shards.get(name)

    def read(self, shard: str) -> Block:
        """Return the block in a shard, after every check.

        Raises
        ------
        CacheCorruptError
        OSError
            It is not readable; FileNotFoundError where it is gone.
        """
        content = self.storage.read(self._name(shard))
        return shards.decode(content, self.key, shard.removesuffix(".h5"))[0]

    def find(self, sha256: np.ndarray) -> np.ndarray:
        """Return the position of each (n, 32) digest in the index, -1 where it is not cached."""
        return self.index.find(sha256)

    def gather(self, sha256: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
        """Read embeddings; every byte that is served was verified by this call.

        Parameters
        ----------
        sha256 : numpy.ndarray of shape (n, 32) and dtype uint8
            The images, in the order wanted; repeats are allowed.
        dim : int
            The width of an embedding.

        Returns
        -------
        X : numpy.ndarray of shape (n, dim) and dtype float32
        missing : numpy.ndarray of shape (n,) and dtype bool
            True where no embedding was cached, or its shard turned out to be damaged. These rows of
            the matrix are not set.
        """
        widths = {shard.layout.dim for shard in self._shards.values()} - {dim}
        if widths:
            raise CacheCorruptError(
                f"{self.location()} holds embeddings of {sorted(widths)} numbers where {dim} are "
                "expected, which featx never writes. Remove that folder: its embeddings are "
                "computed again."
            )
        positions = self.index.find(sha256)
        X = self._empty_matrix(len(sha256), dim)
        missing = ~self.index.is_embedding(positions)
        wanted = np.flatnonzero(~missing)
        groups = self.index.by_shard(positions[wanted])
        doubtful = gather.gather(self.storage, f"{self._prefix}/shards", groups, wanted, sha256, X)
        for shard, at, _ in doubtful:
            missing[wanted[at]] = True
            # Damaged, or gone, or not what the index says: only the shard itself can tell.
            self._forget(shard.name)
        if doubtful:
            self.refresh()
        return X, missing

    def prepare(self, needed: int, what: str = "the next shard needs") -> None:
        """Make the folders, and raise now what would keep `needed` bytes from being written.

        Raises
        ------
        CacheSpaceError, CacheWriteError
        """

        def attempt() -> bool:
            self._make()
            self.storage.sync(self._prefix)
            self.storage.check_space(self._prefix, needed, what)
            self.storage.rehearse(f"{self._prefix}/shards")
            return True

        _attempted(attempt, self.location())

    def publish(self, block: Block) -> None:
        """Cache a block; it is durable and visible, whole, when this returns.

        Raises
        ------
        CacheSpaceError
            The disk or the quota is full; nothing half-written is left.
        CacheWriteError
            The folder cannot be written.
        """
        content, (decoded, layout) = shards.encode(block, self.key)
        name = shards.block_id(self.key, block.batch_size, block.sha256) + ".h5"
        path = self._name(name)

        def attempt() -> bool:
            self._make()
            self.storage.check_space(self._prefix, 2 * len(content))
            if self.storage.publish(path, content):
                stat = self.storage.stat(path)
                self._enter(ShardMetadata.of(name, stat, content, decoded, layout))
                return True
            # Another process published it first, or what was there is in quarantine now.
            return self._load(name)

        location = self.storage.location(path)
        if not _attempted(attempt, location):
            raise CacheWriteError(f"{location} is damaged and cannot be moved away: remove it.")

    def mark_used(self) -> None:
        """Record that the key is used now, as the time of key.json."""
        self.storage.touch(f"{self._prefix}/key.json")

    def withdraw(self, block: str) -> None:
        """Remove a block whose entries serve nobody."""
        name = block + ".h5"
        path = self._name(name)
        try:
            self.storage.remove(path)
        except OSError as error:
            raise atomic.refusal(error, self.storage.location(path)) from error
        self._forget(name)

    def location(self, name: str = "") -> str:
        """Return how messages to the user call the key's folder, or something in it."""
        return self.storage.location(f"{self._prefix}/{name}".rstrip("/"))

    def holds(self, shard: str) -> bool:
        """Return whether a shard exists, without reading it."""
        return self.storage.exists(self._name(shard))

    def _refuse_links(self) -> None:
        self.storage.refuse_links(self._prefix, *(f"{self._prefix}/{name}" for name in INSIDE))

    def _make(self) -> None:
        """Make the key's folders, and the file with its canonical JSON."""
        self._refuse_links()
        if not self.storage.exists(MARKER):
            raise CacheWriteError(
                f"the cache {self.storage.location('')} was removed while it was used. Run again: "
                "it is created anew."
            )
        self.storage.make(f"{self._prefix}/shards")
        name = f"{self._prefix}/key.json"
        if (
            not self._is_key_document(name)
            and not self.storage.publish(name, self._text)
            and not self._is_key_document(name)
        ):
            # The folder's name is the hash of this very text, which proves what was there.
            logger.warning("%s was damaged and is rewritten", self.storage.location(name))
            self.storage.replace(name, self._text)

    def _is_key_document(self, name: str) -> bool:
        return bytes(self.storage.try_read(name) or b"") == self._text

    def _enter(self, shard: ShardMetadata) -> None:
        self._shards[shard.name] = shard
        self._unsaved = True

    def _forget(self, name: str) -> None:
        if self._shards.pop(name, None) is not None:
            self._unsaved = True

    def _load(self, name: str, stat: Stat | None = None) -> bool:
        """Enter a shard as it is in the storage now; return whether it exists, whole.

        `stat` is its token where that is known.
        """
        path = self._name(name)
        try:
            stat = stat or self.storage.stat(path)
            if name in self._shards and self._shards[name].stat == stat:
                return True
            self._forget(name)
            try:
                self._enter(ShardMetadata.read(name, stat, self.storage.read(path), self.key))
                self._unsynced = True
            except CacheCorruptError as error:
                self._quarantine(name, stat, error)
                return False
        except OSError as error:
            if not atomic.is_gone(error):
                raise atomic.unreadable(error, self.storage.location(path)) from error
            self._forget(name)
            return False
        return True

    def save_index(self) -> None:
        """Save what is known of the shards, so that the next start need not read them."""
        if self._unsynced:
            # Seen perhaps before the process that published them synced the folder.
            self._sync()
        self.index = ShardIndex(self._shards.values())
        self._unsaved = False
        # A key or cache that was removed stays so.
        if self.storage.exists(MARKER) and self.storage.exists(self._prefix):
            self.storage.try_replace(f"{self._prefix}/index", self.index.pack())

    def _sync(self) -> None:
        try:
            self.storage.sync(self._prefix, f"{self._prefix}/shards")
        except (PermissionError, FileNotFoundError):
            pass  # somebody else's cache, which may only be read; or tidied away this moment
        except OSError as error:
            raise atomic.refusal(error, self.location()) from error
        self._unsynced = False

    def _saved_index(self) -> ShardIndex:
        try:
            return ShardIndex.unpack(self.storage.try_read(f"{self._prefix}/index") or b"")
        except CacheCorruptError:
            return ShardIndex()  # built anew; it only saved time

    def _empty_matrix(self, n: int, dim: int) -> np.ndarray:
        """Return an array for n embeddings, in memory or in a file."""
        try:
            return gather.empty_matrix(n, dim, self.folder)
        except OSError as error:
            raise atomic.refusal(error, self.folder) from error

    def _name(self, shard: str) -> str:
        return f"{self._prefix}/shards/{shard}"

    def _stats(self) -> dict[str, Stat]:
        """Return the shards that may be used, sorted by name, each with its token."""
        try:
            found = self.storage.stats(f"{self._prefix}/shards", f"{self._prefix}/quarantine")
        except OSError as error:
            raise atomic.unreadable(error, self.location()) from error
        usable = (name for name in found if _SHARD.fullmatch(name) and name not in self.ignored)
        return {name: found[name] for name in sorted(usable)}

    def _quarantine(self, name: str, stat: Stat, error: Exception) -> None:
        """Move a damaged shard to quarantine/; where that is not allowed, look past it."""
        path = self._name(name)
        self.damaged[name] = str(error)
        try:
            moved = self.storage.quarantine(path, stat, f"{self._prefix}/quarantine")
            if moved is None:
                return  # another process was faster
            done = f"quarantined as {moved}"
        except OSError as refused:
            self.ignored.add(name)
            done = f"ignored, because it cannot be moved to quarantine/ ({refused.strerror})"
        warnings.warn(
            f"{self.storage.location(path)}: {error}; {done}. Its embeddings are computed again "
            "when needed.",
            CacheCorruptWarning,
            stacklevel=2,
        )


def _attempted(work: Callable[[], bool], location: str) -> bool:
    """Return whether `work` succeeds, tried again while its folder is tidied away or it fails.

    Raises
    ------
    CacheSpaceError, CacheWriteError
        The storage refused it.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            if work():
                return True
        except FileNotFoundError as error:
            if not left:
                raise atomic.refusal(error, location) from error
        except CacheError:
            raise
        except OSError as error:
            raise atomic.refusal(error, location) from error
    return False
