"""The kept rows of one feature key: immutable shards in a folder, and the folder is the truth."""

from __future__ import annotations

import json
import os
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from featx.cache import gather, shards
from featx.cache.index import ShardIndex
from featx.cache.keys import key_folder, key_of, make_key_folder, refuse_links_in
from featx.cache.location import FORMAT, find_root, is_marked
from featx.cache.shards import Block, ShardFacts, of_odd_width
from featx.errors import CacheCorruptError, CacheCorruptWarning, CacheError, CacheWriteError
from featx.storage import atomic, folders, reading
from featx.storage.atomic import Stat

__all__ = ["Store", "find_root"]

_SHARD = re.compile(r"[0-9a-f]{32}\.h5")


class Store:
    """The rows of one feature key.

    Parameters
    ----------
    root : Path
        A cache folder, from ``find_root``.
    spec : dict
        All that decides the numbers; its canonical JSON is hashed to the key.
    dim : int, optional
        The width of a row, where it is known; else that of most rows. Others are set aside.

    Attributes
    ----------
    key : str
        sha256 of the spec, 64 hexadecimal digits.
    folder : Path
        Where this key's shards lie.
    damaged, ignored : dict, set
        Name and reason of the shards found damaged so far; those that could not be moved away.
    """

    def __init__(self, root: Path, spec: dict[str, Any], dim: int | None = None) -> None:
        self.root = root
        self.spec = {"format": FORMAT, **spec}
        self.key, self._text = key_of(spec)
        self.folder = key_folder(root, self.key)
        self._dim = dim
        self.ignored: set[str] = set()
        self.damaged: dict[str, str] = {}
        self._shards = {shard.name: shard for shard in self._saved_index().shards}
        self._unsaved = self._adopted = False
        self.index = ShardIndex()
        self.refresh()

    @property
    def dim(self) -> int | None:
        """The width of the kept rows; None while there are none."""
        return next((shard.layout.dim for shard in self._shards.values()), None)

    def environments(self) -> list[dict[str, Any]]:
        """Return what computed the kept rows, each environment once."""
        environments = (shard.environment for shard in self._shards.values())
        return list({json.dumps(each, sort_keys=True): each for each in environments}.values())

    def refresh(self) -> None:
        """Take in the shards that are there now; set damaged ones aside.

        Raises
        ------
        CacheVersionError
            A shard has a format that this version does not know; it was left untouched.
        CacheError
            The folder or a shard may not be read; CacheSecurityError where a folder is a link.
        """
        refuse_links_in(self.folder)
        names = [name for name in self._names() if name not in self.ignored]
        for name in set(self._shards) - set(names):
            self._forget(name)
        for name in names:
            self._take_in(name)
        for shard in of_odd_width(self._shards.values(), self._dim):
            reason = f"{shard.name} has rows of {shard.layout.dim} numbers, unlike this network"
            self._forget(shard.name)
            self._set_aside(shard.name, shard.about, CacheCorruptError(reason))
        if self._unsaved:
            self.save_index()
        else:
            self.index = ShardIndex(self._shards.values())

    def verify(self) -> None:
        """Read and check every shard anew, as if nothing were known of any."""
        self._shards.clear()
        self.ignored.clear()
        self._unsaved = True
        self.refresh()

    def adopt(self, block: str) -> ShardFacts | None:
        """Return a block that is kept, by whichever process; from now on its rows are found."""
        name = block + ".h5"
        if name not in self._shards:
            self._take_in(name)
        return self._shards.get(name)

    def find(self, sha256: np.ndarray) -> np.ndarray:
        """Return the position of each (n, 32) digest in the index, -1 where it is not kept."""
        return self.index.find(sha256)

    def gather(self, sha256: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
        """Read rows; every byte that is served was verified by this call.

        Parameters
        ----------
        sha256 : numpy.ndarray of shape (n, 32) and dtype uint8
            The images, in the order wanted; repeats are allowed.
        dim : int
            The width of a row.

        Returns
        -------
        rows : numpy.ndarray of shape (n, dim) and dtype float32
        missing : numpy.ndarray of shape (n,) and dtype bool
            True where no row was kept, or its shard turned out to be damaged.
        """
        widths = {shard.layout.dim for shard in self._shards.values()} - {dim}
        if widths:
            raise CacheCorruptError(
                f"{self.folder} holds rows of {sorted(widths)} numbers where {dim} are expected; "
                "featx never wrote both. Remove that folder: its rows are computed again."
            )
        positions = self.index.find(sha256)
        rows = self._room(len(sha256), dim)
        missing = ~self.index.is_row(positions)
        wanted = np.flatnonzero(~missing)
        groups = self.index.by_shard(positions[wanted])
        doubtful = gather.gather(self.folder / "shards", groups, wanted, sha256, rows)
        for shard, at, _ in doubtful:
            missing[wanted[at]] = True
            # Damaged, or gone, or not what the index says: only the shard itself can tell.
            self._forget(shard.name)
        if doubtful:
            self.refresh()
        return rows, missing

    def prepare(self, needed: int, what: str = "the next shard needs") -> None:
        """Make the folders, and say now what would keep `needed` bytes from being kept.

        Raises
        ------
        CacheSpaceError, CacheWriteError
        """
        try:
            for last in (False, False, True):
                with suppress(*() if last else (FileNotFoundError,)):  # the folder was tidied away
                    make_key_folder(self.folder, self._text)
                    folders.make_durable(self.root, self.folder)
                    folders.check_space(self.folder, needed, what)
                    atomic.rehearse(self.folder / "shards")
                    return
        except CacheError:
            raise
        except OSError as error:
            raise atomic.refusal(error, self.folder) from error

    def publish(self, block: Block) -> None:
        """Keep a block; it is durable and visible, whole, when this returns.

        Raises
        ------
        CacheSpaceError
            The disk or the quota is full; nothing half-written is left.
        CacheWriteError
            The folder cannot be written.
        """
        content, (kept, layout) = shards.encode(block, self.key)
        name = shards.block_id(self.key, block.batch_size, block.sha256) + ".h5"
        path = self._path(name)
        try:
            for last in (False, False, True):
                with suppress(*() if last else (FileNotFoundError,)):  # the folder was tidied away
                    make_key_folder(self.folder, self._text)
                    folders.check_space(self.folder, 2 * len(content))
                    if atomic.publish(path, content):
                        self._enter(ShardFacts.of(name, atomic.about(path), content, kept, layout))
                        return
                    if self._take_in(name):
                        return  # another process published it first
                    # What stood there was damaged and is set aside now.
        except CacheError:
            raise
        except OSError as error:
            raise atomic.refusal(error, path) from error
        raise CacheWriteError(f"{path} is damaged and cannot be moved away: remove it.")

    def withdraw(self, block: str) -> None:
        """Take away a block whose slots serve nobody."""
        path = self._path(block + ".h5")
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise atomic.refusal(error, path) from error
        self._forget(path.name)

    def _enter(self, facts: ShardFacts) -> None:
        self._shards[facts.name] = facts
        self._unsaved = True

    def _forget(self, name: str) -> None:
        if self._shards.pop(name, None) is not None:
            self._unsaved = True

    def _take_in(self, name: str) -> bool:
        """Enter a shard as it lies on the disk now; say whether it is there, whole."""
        path = self._path(name)
        try:
            about = atomic.about(path)
            if name in self._shards and self._shards[name].about == about:
                return True
            self._forget(name)
            try:
                self._enter(ShardFacts.read(name, about, reading.read(path), self.key))
                self._adopted = True
            except CacheCorruptError as error:
                self._set_aside(name, about, error)
                return False
        except OSError as error:
            if not atomic.is_gone(error):
                raise atomic.unreadable(error, path) from error
            self._forget(name)
            return False
        return True

    def save_index(self) -> None:
        """Keep what is known of the shards, so that the next start need not read them."""
        if self._adopted:
            # Seen perhaps before the process that published them synced the folder.
            self._make_durable()
        self.index = ShardIndex(self._shards.values())
        self._unsaved = False
        if is_marked(self.root) and os.path.isdir(self.folder):  # else it stays removed
            atomic.save_lightly(self.folder / "index", self.index.pack())

    def _make_durable(self) -> None:
        try:
            folders.make_durable(self.root, self.folder, self.folder / "shards")
        except (PermissionError, FileNotFoundError):
            pass  # somebody else's cache, which may only be read; or tidied away this moment
        except OSError as error:
            raise atomic.refusal(error, self.folder) from error
        self._adopted = False

    def _saved_index(self) -> ShardIndex:
        try:
            return ShardIndex.unpack(atomic.load_lightly(self.folder / "index") or b"")
        except CacheCorruptError:
            return ShardIndex()  # built anew; it only saved time

    def _room(self, n: int, dim: int) -> np.ndarray:
        """Return an array for n rows, in memory or in a file."""
        try:
            return gather.empty(n, dim, self.folder)
        except OSError as error:
            raise atomic.refusal(error, self.folder) from error

    def _path(self, name: str) -> Path:
        return self.folder / "shards" / name

    def _names(self) -> list[str]:
        try:
            return sorted(filter(_SHARD.fullmatch, os.listdir(self.folder / "shards")))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise atomic.unreadable(error, self.folder) from error

    def _set_aside(self, name: str, about: Stat, error: Exception) -> None:
        """Move a damaged shard to quarantine/; where that is not allowed, look past it."""
        path = self._path(name)
        self.damaged[name] = str(error)
        try:
            aside = atomic.set_aside(path, about, self.folder / "quarantine")
            if aside is None:
                return  # another process was faster
            done = f"moved to {aside}"
        except OSError as refused:
            self.ignored.add(name)
            done = f"ignored, because it cannot be moved to quarantine/ ({refused.strerror})"
        warnings.warn(
            f"{path}: {error}; {done}. Its rows are computed again when needed.",
            CacheCorruptWarning,
            stacklevel=2,
        )
