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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx import disk, shards
from featx.errors import (
    IMAGE_ERRORS,
    CacheCorruptError,
    CacheCorruptWarning,
    CacheError,
    CacheVersionError,
    CacheWriteError,
    ImageError,
)
from featx.sealed import pack, unpack, unseal
from featx.shards import Block, Layout

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
        raise CacheCorruptError(f"{marker} is damaged: {error}. Expected {{'format': 1}}.") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise CacheVersionError(
            f"the cache {root} says {about!r}; this featx knows format {FORMAT}. It was left "
            "untouched: use the featx that made it, or another folder."
        )
    return root


@dataclass(frozen=True)
class _Shard:
    """What is known of one verified shard."""

    name: str
    about: tuple[int, int, int, int]
    layout: Layout
    sha256: np.ndarray
    status: np.ndarray
    failures: list[tuple[int, int, str]]
    environment: dict[str, Any]


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
        self._shards: dict[str, _Shard] = {}
        self._ignored: set[str] = set()
        self._read_index()
        self.refresh()

    @property
    def environments(self) -> list[dict[str, Any]]:
        """The distinct environments that computed rows here."""
        seen = {
            json.dumps(shard.environment, sort_keys=True): shard.environment
            for shard in self._shards.values()
        }
        return list(seen.values())

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
            path = self._path(name)
            try:
                about = _about(os.stat(path, follow_symlinks=False))
                if name in self._shards and self._shards[name].about == about:
                    continue
                self._shards[name] = self._verified(name, about)
                changed = True
            except FileNotFoundError:
                self._shards.pop(name, None)
            except CacheCorruptError as error:
                self._set_aside(name, error)
        self._tabulate()
        if changed:
            self._write_index()

    def find(self, sha256: np.ndarray) -> np.ndarray:
        """Return the position of each digest in the kept rows, -1 where there is none.

        Parameters
        ----------
        sha256 : numpy.ndarray of shape (n, 32) and dtype uint8

        Returns
        -------
        numpy.ndarray of shape (n,) and dtype int64
        """
        wanted = _prefix(sha256)
        at = np.searchsorted(self._prefixes, wanted)
        found = np.full(len(wanted), -1, np.int64)
        # 64-bit prefixes hardly ever collide; the loop ends when none of the queries has a next.
        open_ = np.arange(len(wanted))
        while len(open_):
            open_ = open_[at[open_] < len(self._prefixes)]
            open_ = open_[self._prefixes[at[open_]] == wanted[open_]]
            positions = self._order[at[open_]]
            equal = (self._sha256[positions] == sha256[open_]).all(axis=1)
            found[open_[equal]] = positions[equal]
            open_ = open_[~equal]
            at[open_] += 1
        return found

    def failure(self, position: int) -> ImageError | None:
        """Return the kept verdict on a picture that gives no row, or None if it has one."""
        if self._status[position] == shards.ROW:
            return None
        shard = self._shards[self._names[self._shard_of[position]]]
        slot = int(self._row_of[position])
        code, reason = next(
            ((code, text) for at, code, text in shard.failures if at == slot),
            (ImageError.code, "this picture gave no row"),
        )
        return IMAGE_ERRORS.get(code, ImageError)(reason)

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
        positions = self.find(sha256)
        rows = np.empty((len(sha256), dim), np.float32)
        missing = positions < 0
        wanted = np.flatnonzero(~missing)
        order = wanted[np.argsort(self._shard_of[positions[wanted]], kind="stable")]
        owners = self._shard_of[positions[order]]
        starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]]) if len(order) else []
        groups = np.split(order, starts[1:]) if len(order) else []

        def copy(group: np.ndarray) -> None:
            name = self._names[self._shard_of[positions[group[0]]]]
            slots = self._row_of[positions[group]]
            try:
                self._copy(name, slots, sha256[group], rows, group)
            except (CacheCorruptError, FileNotFoundError) as error:
                missing[group] = True
                damaged.append((name, error))

        damaged: list[tuple[str, Exception]] = []
        # sha256 and the copies leave the interpreter's lock, so threads share the work.
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            list(pool.map(copy, groups))
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
            about = _about(os.stat(path, follow_symlinks=False))
        except CacheError:
            raise
        except OSError as error:
            raise disk.refusal(error, path) from error
        self._shards[name] = self._parsed(name, about, content)

    def _keep_theirs(self, name: str, content: bytes) -> None:
        """Another process published this block first: keep its shard if it is whole."""
        try:
            self._parsed(name, (0, 0, 0, 0), disk.read(self._path(name)))
        except CacheCorruptError as error:
            self._set_aside(name, error)
            disk.publish(self._path(name), content)

    def save_index(self) -> None:
        """Keep what is known of the shards, so that the next start need not read them."""
        self._tabulate()
        self._write_index()

    def _copy(
        self, name: str, slots: np.ndarray, sha256: np.ndarray, rows: np.ndarray, at: np.ndarray
    ) -> None:
        layout = self._shards[name].layout
        body = unseal(disk.read(self._path(name)), name)
        try:
            kept, digests = layout.rows(body), layout.digests(body)
        except ValueError as error:
            raise CacheCorruptError(f"{name} is shorter than its index says") from error
        if not np.array_equal(digests[slots], sha256):
            raise CacheCorruptError(f"{name} holds other pictures than its index says")
        if (np.diff(slots) == 1).all() and (np.diff(at) == 1).all():
            rows[at[0] : at[-1] + 1] = kept[slots[0] : slots[-1] + 1]
        else:
            rows[at] = kept[slots]

    def _tabulate(self) -> None:
        """Lay the shards' digests out for searching; of equal ones the smallest name wins."""
        self._names = sorted(self._shards)
        known = [self._shards[name] for name in self._names]
        counts = [len(shard.status) for shard in known]
        self._sha256 = np.concatenate([np.empty((0, 32), np.uint8), *(s.sha256 for s in known)])
        self._status = np.concatenate([np.empty(0, np.uint8), *(s.status for s in known)])
        self._shard_of = np.repeat(np.arange(len(known)), counts)
        self._row_of = np.concatenate([np.empty(0, np.int64), *(np.arange(n) for n in counts)])
        usable = np.flatnonzero(self._status != shards.HOLE)
        prefixes = _prefix(self._sha256[usable])
        # A row goes before a verdict: a newer decoder may have read what an older one could not.
        order = np.lexsort((self._status[usable], prefixes))
        self._order = usable[order]
        self._prefixes = prefixes[order]

    def _path(self, name: str) -> Path:
        return self.folder / "shards" / name

    def _verified(self, name: str, about: tuple[int, int, int, int]) -> _Shard:
        return self._parsed(name, about, disk.read(self._path(name)))

    def _parsed(
        self, name: str, about: tuple[int, int, int, int], content: bytes | bytearray
    ) -> _Shard:
        block, layout = shards.decode(content, self.key, name[:-3], with_features=False)
        return _Shard(
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

    def _read_index(self) -> None:
        path = self.folder / "index"
        try:
            arrays, about = unpack(disk.read(path), path.name)
            ends = np.cumsum(arrays["n"]).tolist()
            begins = [0, *ends[:-1]]
            for i, entry in enumerate(about):
                part = slice(begins[i], ends[i])
                layout = Layout(*(int(v) for v in arrays["layout"][i]))
                stat_ = tuple(int(v) for v in arrays["stat"][i])
                self._shards[entry["name"]] = _Shard(
                    entry["name"], stat_, layout, arrays["sha256"][part],  # type: ignore[arg-type]
                    arrays["status"][part], [tuple(f) for f in entry["failures"]],
                    entry["environment"],
                )  # fmt: skip
        except OSError:
            pass  # there is none yet
        except (CacheError, ValueError, KeyError, TypeError, IndexError) as error:
            logger.debug("%s is built anew: %s", path, error)
            self._shards = {}

    def _write_index(self) -> None:
        known = [self._shards[name] for name in self._names]
        arrays = {
            "n": np.array([len(s.status) for s in known], np.int64),
            "stat": np.array([s.about for s in known], np.int64).reshape(-1, 4),
            "layout": np.array(
                [(s.layout.n, s.layout.dim, s.layout.features, s.layout.sha256) for s in known],
                np.int64,
            ).reshape(-1, 4),
            "sha256": self._sha256,
            "status": self._status,
        }
        about = [
            {"name": s.name, "failures": s.failures, "environment": s.environment} for s in known
        ]
        # It only saves time, and its seal shows any damage: no fsync, and no word if it fails.
        with suppress(OSError):
            disk.replace(self.folder / "index", pack(arrays, about))


def _prefix(sha256: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(sha256[:, :8]).view(">u8").ravel().astype(np.uint64)


def _about(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if _SHARD.fullmatch(name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CacheError(f"the cache folder {folder} cannot be listed: {error.strerror}.") from error
