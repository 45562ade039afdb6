"""The kept rows of one feature key: immutable shards in a folder, and the folder is the truth."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from featx import disk, shards
from featx.errors import (
    CacheCorruptError,
    CacheCorruptWarning,
    CacheError,
    CacheVersionError,
    CacheWriteError,
)
from featx.index import ShardFacts, ShardIndex
from featx.sealed import unseal
from featx.shards import Block

logger = logging.getLogger(__name__)

FORMAT = 1
MARKER = "FEATX-CACHE.json"
_SHARD = re.compile(r"[0-9a-f]{32}\.h5")


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
    marker = root / MARKER
    try:
        if not marker.is_file():
            if root.exists() and not root.is_dir():
                raise CacheWriteError(f"the cache {root} is a file; expected a folder.")
            if root.is_dir() and any(root.iterdir()):
                raise CacheError(
                    f"{root} holds other files and no {MARKER}: featx only writes to a folder it "
                    "marked. Choose a new or an empty folder."
                )
            disk.make_folder(root)
            disk.publish(marker, json.dumps({"format": FORMAT}).encode() + b"\n")
        about = json.loads(marker.read_bytes())
    except OSError as error:
        raise disk.refusal(error, root) from error
    except ValueError as error:
        raise CacheCorruptError(
            f"{marker} is damaged: {error}. Expected {{'format': 1}}."
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise CacheVersionError(
            f"the cache {root} says {about!r}; this featx knows format {FORMAT}. It was left "
            "untouched: use the featx that made it, or another folder."
        )
    return root


class Store:
    """The rows of one feature key.

    Parameters
    ----------
    root : Path
        A cache folder, from ``find_root``.
    recipe : dict
        All that decides the numbers; its canonical JSON is hashed to the key.

    Attributes
    ----------
    key : str
        sha256 of the recipe, 64 hexadecimal digits.
    folder : Path
        Where this key's shards lie.
    """

    def __init__(self, root: Path, recipe: dict[str, Any]) -> None:
        self.root = root
        self.recipe = {"format": FORMAT, **recipe}
        text = json.dumps(self.recipe, sort_keys=True, separators=(",", ":"), allow_nan=False)
        self.key = hashlib.sha256(text.encode()).hexdigest()
        self.folder = root / f"k-{self.key[:32]}"
        self._text = text.encode()
        self._ignored: set[str] = set()
        self._shards = {shard.name: shard for shard in self._saved_index().shards}
        self.index = ShardIndex()
        self.refresh()

    @property
    def dim(self) -> int | None:
        """The width of the kept rows; None while there are none."""
        return next((shard.layout.dim for shard in self._shards.values()), None)

    def refresh(self) -> None:
        """Take in the shards that are there now; set damaged ones aside."""
        names = [name for name in _listed(self.folder / "shards") if name not in self._ignored]
        for name in set(self._shards) - set(names):
            del self._shards[name]
        changed = False
        for name in names:
            try:
                about = _about(self._path(name))
                if name in self._shards and self._shards[name].about == about:
                    continue
                self._shards[name] = self._verified(name, about, disk.read(self._path(name)))
                changed = True
            except FileNotFoundError:
                self._shards.pop(name, None)
            except CacheCorruptError as error:
                self._set_aside(name, error)
        self.index = ShardIndex(self._shards.values())
        if changed:
            self.save_index()

    def find(self, sha256: np.ndarray) -> np.ndarray:
        """Return the position of each (n, 32) digest in the index, -1 where it is not kept."""
        return self.index.find(sha256)

    def gather(self, sha256: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
        """Read rows; every byte that is served was verified by this call.

        Parameters
        ----------
        sha256 : numpy.ndarray of shape (n, 32) and dtype uint8
            The pictures, in the order wanted; repeats are allowed.
        dim : int
            The width of a row.

        Returns
        -------
        rows : numpy.ndarray of shape (n, dim) and dtype float32
        missing : numpy.ndarray of shape (n,) and dtype bool
            True where no row was kept, or its shard turned out to be damaged.
        """
        positions = self.index.find(sha256)
        rows = np.empty((len(sha256), dim), np.float32)
        missing = ~self.index.is_row(positions)
        wanted = np.flatnonzero(~missing)
        damaged: list[tuple[str, Exception]] = []

        def copy(group: tuple[ShardFacts, np.ndarray, np.ndarray]) -> None:
            shard, at, slots = group
            try:
                self._copy(shard, slots, sha256, rows, wanted[at])
            except (CacheCorruptError, FileNotFoundError) as error:
                missing[wanted[at]] = True
                damaged.append((shard.name, error))

        # sha256 and the copies leave the interpreter's lock, so threads share the work.
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            list(pool.map(copy, self.index.by_shard(positions[wanted])))
        for name, error in damaged:
            if isinstance(error, CacheCorruptError):
                self._set_aside(name, error)
        if damaged:
            self.refresh()
        return rows, missing

    def publish(self, block: Block) -> None:
        """Keep a block; it is durable and visible, whole, when this returns.

        Raises
        ------
        CacheSpaceError
            The disk or the quota is full; nothing half-written is left.
        CacheWriteError
            The folder cannot be written.
        """
        content = shards.encode(block, self.key)
        name = shards.block_id(self.key, block.batch_size, block.sha256) + ".h5"
        path = self._path(name)
        try:
            self._make_folders()
            disk.check_space(self.folder, 2 * len(content))
            if not disk.publish(path, content):
                self._keep_theirs(name, content)
            about = _about(path)
        except CacheError:
            raise
        except OSError as error:
            raise disk.refusal(error, path) from error
        self._shards[name] = self._verified(name, about, content)

    def _keep_theirs(self, name: str, content: bytes) -> None:
        """Another process published this block first: keep its shard if it is whole."""
        try:
            self._verified(name, (0, 0, 0, 0), disk.read(self._path(name)))
        except CacheCorruptError as error:
            self._set_aside(name, error)
            disk.publish(self._path(name), content)

    def save_index(self) -> None:
        """Keep what is known of the shards, so that the next start need not read them."""
        self.index = ShardIndex(self._shards.values())
        disk.save_lightly(self.folder / "index", self.index.pack())

    def _saved_index(self) -> ShardIndex:
        content = disk.load_lightly(self.folder / "index")
        try:
            return ShardIndex() if content is None else ShardIndex.unpack(content)
        except CacheCorruptError as error:
            logger.debug("%s is built anew: %s", self.folder / "index", error)
            return ShardIndex()

    def _copy(
        self, shard: ShardFacts, slots: np.ndarray, sha256: np.ndarray, rows: np.ndarray,
        at: np.ndarray,
    ) -> None:  # fmt: skip
        """Copy some slots of a shard to rows[at], after verifying the whole file."""
        body = unseal(disk.read(self._path(shard.name)), shard.name)
        try:
            kept, digests = shard.layout.rows(body), shard.layout.digests(body)
        except ValueError as error:
            raise CacheCorruptError(f"{shard.name} is shorter than its index says") from error
        if not np.array_equal(digests[slots], sha256[at]):
            raise CacheCorruptError(f"{shard.name} holds other pictures than its index says")
        if (np.diff(slots) == 1).all() and (np.diff(at) == 1).all():
            rows[at[0] : at[-1] + 1] = kept[slots[0] : slots[-1] + 1]
        else:
            rows[at] = kept[slots]

    def _path(self, name: str) -> Path:
        return self.folder / "shards" / name

    def _verified(
        self, name: str, about: tuple[int, int, int, int], content: bytes | bytearray
    ) -> ShardFacts:
        block, layout = shards.decode(content, self.key, name[:-3], with_features=False)
        return ShardFacts(
            name, about, layout, block.sha256, block.status, block.failures, block.environment
        )

    def _set_aside(self, name: str, error: Exception) -> None:
        """Move a damaged shard to quarantine/; where that is not allowed, look past it."""
        self._shards.pop(name, None)
        aside = self.folder / "quarantine" / f"{name}-{secrets.token_hex(4)}"
        try:
            disk.make_folder(aside.parent)
            os.rename(self._path(name), aside)
            done = f"moved to {aside}"
        except FileNotFoundError:
            return  # another process was faster
        except OSError:
            self._ignored.add(name)
            done = "ignored (the cache is read-only)"
        warnings.warn(
            f"{self._path(name)}: {error}; {done}. Its rows are computed again when needed.",
            CacheCorruptWarning,
            stacklevel=2,
        )

    def _make_folders(self) -> None:
        for folder in (self.folder, self.folder / "shards"):
            disk.make_folder(folder)
        path = self.folder / "key.json"
        if not path.exists():
            disk.publish(path, self._text)
        elif path.read_bytes() != self._text:
            # The folder's name is the hash of this very text, which proves what stood there.
            logger.warning("%s was damaged and is written anew", path)
            disk.replace(path, self._text)


def _about(path: Path) -> tuple[int, int, int, int]:
    status = os.stat(path, follow_symlinks=False)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if _SHARD.fullmatch(name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CacheError(
            f"the cache folder {folder} cannot be listed: {error.strerror}."
        ) from error
