"""What a cache no longer needs: remains of killed processes, quarantine, keys long unused."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from featx.cache.keys import refuse_links_in
from featx.cache.location import DAY
from featx.errors import CacheError
from featx.maintenance.inventory import is_of_another_format, key_folders, last_used, size_of
from featx.storage import atomic, folders

_TEMPORARY = re.compile(r"\.tmp-(?:([0-9a-f]{8})-)?(\d+)-[0-9a-f]+")
_TRASH = ".trash-"


@dataclass(frozen=True)
class Piece:
    """Something that may be removed: where it is, what it is in a few words, and its bytes.

    `still` returns whether it may be removed now, some time after it was found.
    """

    path: Path
    what: str
    bytes: int
    still: Callable[[], bool] = lambda: True


def find(root: Path, unused_days: float | None = None, now: float | None = None) -> list[Piece]:
    """Return what may be removed; nothing is removed yet.

    Parameters
    ----------
    root : Path
        A cache folder.
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
        for path in _inside(folder / "quarantine"):
            pieces.append(Piece(path, "damaged shard in quarantine", size_of(path)))
        for path in _inside(folder / "claims"):
            if _is_old(path, now):
                what = "claim of a process that ended"
                pieces.append(Piece(path, what, size_of(path), partial(_is_old, path, now)))
    pieces += _remains(root / "statindex", now)
    return pieces


def remove(root: Path, pieces: Iterable[Piece]) -> tuple[int, list[str]]:
    """Remove pieces of a cache that may still be removed.

    Returns
    -------
    freed : int
        Bytes.
    refused : list of str
        A message for each piece that could not be removed.
    """
    freed, refused = 0, []
    for piece in pieces:
        try:
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
        if not stat.S_ISDIR(os.lstat(where, dir_fd=at).st_mode):
            os.unlink(where, dir_fd=at)
            return
        # Out of sight in one step: whoever uses the key now finds it empty, not half removed.
        if not path.name.startswith(_TRASH):
            target = where.with_name(_TRASH + secrets.token_hex(8))
            os.rename(where, target, src_dir_fd=at, dst_dir_fd=at)
            where = target
        shutil.rmtree(where, dir_fd=at)
