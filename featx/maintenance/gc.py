"""What a cache no longer needs: remains of killed processes, quarantine, keys long unused."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat as modes
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from featx.cache.keys import refuse_links_in
from featx.cache.location import DAY
from featx.errors import CacheError
from featx.maintenance.inventory import (
    is_of_another_format,
    key_folders,
    key_objects,
    last_used,
    last_used_of,
    size_of,
)
from featx.runtimes import networks
from featx.storage import atomic, folders
from featx.storage.interface import Stat, Storage
from featx.storage.objects import ObjectStorage

_TEMPORARY = re.compile(r"\.tmp-(?:([0-9a-f]{8})-)?(\d+)-[0-9a-f]+")
_TRASH = ".trash-"
# Where version 0.1 kept a converted network, in the folder of its key.
_NETWORK_OF_0_1 = "openvino"


@dataclass(frozen=True)
class Piece:
    """Something that may be removed.

    Attributes
    ----------
    path : Path
        Where it is; what is in an object store, by its name from the cache on.
    what : str
        What it is, in a few words.
    bytes : int
    still : callable
        Returns whether it may be removed now, some time after it was found.
    objects : sequence of str
        In an object store, the names of its objects.
    """

    path: Path
    what: str
    bytes: int
    still: Callable[[], bool] = lambda: True
    objects: Sequence[str] = ()


def find(
    cache: Storage | Path, unused_days: float | None = None, now: float | None = None
) -> list[Piece]:
    """Return what may be removed; nothing is removed yet.

    Parameters
    ----------
    cache : Storage or Path
        From ``featx.cache.location``, or the folder of one.
    unused_days : float, optional
        Also return the keys that no extraction has used for this many days.
    now : float, optional
        Seconds since 1970; by default now.

    Raises
    ------
    CacheSecurityError
        A link has the name of a folder of featx; its target is not looked at.
    """
    now = time.time() if now is None else now
    if isinstance(cache, ObjectStorage):
        return list(_in_store(cache, unused_days, now))
    root = _folder(cache)
    folders.refuse_links(root / "statindex")
    pieces = list(_remains(root, now))
    for folder in key_folders(root):
        refuse_links_in(folder)
        if is_of_another_format(folder):
            continue  # its rules are not known: nothing in it is touched
        if unused_days is not None and _is_unused(folder, now - unused_days * DAY):
            days = int((now - last_used(folder)) / DAY)
            still = partial(_is_unused, folder, now - unused_days * DAY)
            pieces.append(Piece(folder, f"key not used for {days} days", size_of(folder), still))
            continue
        for each in (folder, folder / "shards"):
            pieces += _remains(each, now)
        pieces += _beside(folder)
        for path in _inside(folder / "quarantine"):
            pieces.append(Piece(path, "damaged shard in quarantine", size_of(path)))
        for path in _inside(folder / "claims"):
            if _is_old(path, now):
                what = "claim of a process that ended"
                pieces.append(Piece(path, what, size_of(path), partial(_is_old, path, now)))
    pieces += _remains(root / "statindex", now)
    return pieces


def find_networks(unused_days: float | None = None, now: float | None = None) -> list[Piece]:
    """Return what may be removed of the networks that are kept on this machine.

    Their folder is ``featx.runtimes.networks.folder``; one that is not marked, or that others may
    have written, is not looked at.

    Parameters
    ----------
    unused_days : float, optional
        Also return the networks that no start has read for this many days.
    now : float, optional
        Seconds since 1970; by default now.
    """
    now = time.time() if now is None else now
    root = networks.existing_root()
    if root is None:
        return []
    pieces = list(_remains(root, now))
    if unused_days is not None:
        since = now - unused_days * DAY
        for kept in networks.list_kept():
            still = partial(_is_unused_network, kept.path, since)
            if still():
                what = f"network not used for {int((now - kept.last_used) / DAY)} days"
                pieces.append(Piece(kept.path, what, kept.bytes, still))
    return pieces


def _is_unused_network(path: Path, since: float) -> bool:
    with suppress(OSError):
        status = path.lstat()
        return modes.S_ISREG(status.st_mode) and status.st_mtime < since
    return False


def _beside(folder: Path) -> Iterator[Piece]:
    """Yield the network that version 0.1 kept beside the embeddings; nothing reads it any more."""
    path = folder / _NETWORK_OF_0_1
    with suppress(OSError):
        status = path.lstat()
        if modes.S_ISREG(status.st_mode):
            yield Piece(path, "network of version 0.1", status.st_size)


def _in_store(storage: ObjectStorage, unused_days: float | None, now: float) -> Iterator[Piece]:
    """Yield what may be removed of an object store.

    A damaged shard is not: no store can remove an object only if it is still the damaged one, and
    whoever computes its images again replaces it by a put that can. What lists it goes then.
    """
    for key, entries in key_objects(storage).items():
        folder = storage.scratch / key
        if is_of_another_format(folder, storage):
            continue
        if unused_days is not None:
            since = now - unused_days * DAY
            still = partial(_is_unused_in, storage, key, since)
            if 0 < last_used_of(entries) < since:
                # Last what says that it is a key.
                names = sorted((name for name, _ in entries), key=lambda n: n.endswith("key.json"))
                size = sum(stat.size for _, stat in entries)
                days = int((now - last_used_of(entries)) / DAY)
                yield Piece(Path(key), f"key not used for {days} days", size, still, names)
                continue
        yield from _settled(storage, key, entries)
    for folder in _inside(storage.scratch):
        if folder.name.startswith("k-") and not folder.is_symlink():
            yield from _beside(folder)
    for name, stat in storage.walk(""):
        if "/.tmp-" in f"/{name}" and now - stat.modified / 1e9 > DAY:
            what = "temporary object of a process that ended"
            yield Piece(Path(name), what, stat.size, objects=[name])


def _settled(storage: ObjectStorage, key: str, entries: list[tuple[str, Stat]]) -> Iterator[Piece]:
    """Yield what lists damaged shards that are gone, or replaced by whole ones."""
    shards = {name.rpartition("/")[2]: stat for name, stat in entries if "/shards/" in name}
    for name, stat in entries:
        if f"{key}/quarantine/" in name and not storage.lists(name, shards):
            what = "note on a damaged shard that was replaced"
            yield Piece(Path(name), what, stat.size, objects=[name])


def _is_unused_in(storage: ObjectStorage, key: str, since: float) -> bool:
    return 0 < last_used_of(storage.walk(key)) < since


def _folder(cache: Storage | Path) -> Path:
    return cache if isinstance(cache, Path) else cache.scratch


def remove(cache: Storage | Path, pieces: Iterable[Piece]) -> tuple[int, list[str]]:
    """Remove pieces of a cache, or of the folder of kept networks, that may still be removed.

    Returns
    -------
    freed : int
        Bytes.
    refused : list of str
        A message for each piece that could not be removed.
    """
    freed, refused = 0, []
    root = _folder(cache)
    for piece in pieces:
        try:
            if isinstance(cache, ObjectStorage) and piece.objects:
                freed += _remove_objects(cache, piece)
                continue
            folders.refuse_links_between(root, piece.path)
            if piece.still():
                _remove(root, piece.path)
                freed += piece.bytes
        except FileNotFoundError:
            continue  # another process was faster
        except CacheError as error:
            refused.append(f"{piece.path} was not removed: {error}.")
        except OSError as error:
            refused.append(f"{piece.path} cannot be removed: {error.strerror or error}.")
    return freed, refused


def _remove_objects(storage: ObjectStorage, piece: Piece) -> int:
    if not piece.still():
        return 0
    for name in piece.objects:
        storage.remove(name)
    return piece.bytes


def _remains(folder: Path, now: float) -> Iterator[Piece]:
    for path in _inside(folder):
        if path.name.startswith(_TRASH):
            yield Piece(path, "key that was being removed", size_of(path))
        match = _TEMPORARY.fullmatch(path.name)
        if match:
            still = partial(_is_abandoned, path, match[1], int(match[2]), now)
            if still():
                what = "temporary file of a process that ended"
                yield Piece(path, what, size_of(path), still)


def _is_unused(folder: Path, since: float) -> bool:
    return 0 < last_used(folder) < since and not is_of_another_format(folder)


def _is_abandoned(path: Path, host: str | None, pid: int, now: float) -> bool:
    """Return whether nobody writes a temporary file any more; writing one takes seconds."""
    if _is_old(path, now):
        return True
    # The processes of another machine cannot be asked.
    return host == atomic.this_host() and not _is_running(pid)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _is_old(path: Path, now: float) -> bool:
    with suppress(OSError):
        return now - path.lstat().st_mtime > DAY
    return False


def _inside(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _remove(root: Path, path: Path) -> None:
    """Remove a file, or a folder with all that is in it; a link is removed and not followed."""
    with folders.entered(root, path.parent) as at:
        where = folders.named(path, at)
        if not modes.S_ISDIR(os.lstat(where, dir_fd=at).st_mode):
            os.unlink(where, dir_fd=at)
            return
        # Out of sight in one step: whoever uses the key now finds it empty, not half removed.
        if not path.name.startswith(_TRASH):
            target = where.with_name(_TRASH + secrets.token_hex(8))
            os.rename(where, target, src_dir_fd=at, dst_dir_fd=at)
            where = target
        shutil.rmtree(where, dir_fd=at)
