"""What a cache no longer needs: remains of killed processes, quarantine, keys long unused."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from featx import disk
from featx.inventory import key_folders, last_used, size_of
from featx.root import DAY

_TEMPORARY = re.compile(r"\.tmp-(?:([0-9a-f]{8})-)?(\d+)-[0-9a-f]+")
_TRASH = ".trash-"


@dataclass(frozen=True)
class Piece:
    """Something that may go: where it is, what it is in a few words, and its bytes."""

    path: Path
    what: str
    bytes: int


def find(root: Path, unused_days: float | None = None, now: float | None = None) -> list[Piece]:
    """Return what may go; nothing is removed.

    Parameters
    ----------
    root : Path
        A cache folder.
    unused_days : float, optional
        Also name the keys that no extraction has used for so many days.
    now : float, optional
        Seconds since 1970; the clock's unless given.
    """
    now = time.time() if now is None else now
    pieces = list(_remains(root, now))
    for folder in key_folders(root):
        used = last_used(folder)
        if unused_days is not None and 0 < used < now - unused_days * DAY:
            days = int((now - used) / DAY)
            pieces.append(Piece(folder, f"key not used for {days} days", size_of(folder)))
            continue
        for place in (folder, folder / "shards"):
            pieces += _remains(place, now)
        for path in _inside(folder / "quarantine"):
            pieces.append(Piece(path, "damaged shard in quarantine", size_of(path)))
        for path in _inside(folder / "claims"):
            if _age(path, now) > DAY:
                pieces.append(Piece(path, "claim of a process that ended", size_of(path)))
    pieces += _remains(root / "statindex", now)
    return pieces


def remove(pieces: Iterable[Piece]) -> tuple[int, list[str]]:
    """Remove pieces; return the bytes freed and a sentence for each that could not be removed."""
    freed, refused = 0, []
    for piece in pieces:
        try:
            _remove(piece.path)
            freed += piece.bytes
        except FileNotFoundError:
            continue  # another process was faster
        except OSError as error:
            refused.append(f"{piece.path} cannot be removed: {error.strerror or error}.")
    return freed, refused


def _remains(folder: Path, now: float) -> Iterator[Piece]:
    for path in _inside(folder):
        if path.name.startswith(_TRASH):
            yield Piece(path, "key that was being removed", size_of(path))
        match = _TEMPORARY.fullmatch(path.name)
        if match and _is_abandoned(path, match[1], int(match[2]), now):
            yield Piece(path, "temporary file of a process that ended", size_of(path))


def _is_abandoned(path: Path, host: str | None, pid: int, now: float) -> bool:
    """Say whether nobody writes a temporary file any more; writing one takes seconds."""
    if _age(path, now) > DAY:
        return True
    # The processes of another machine cannot be asked.
    return host == disk.this_host() and not _is_running(pid)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _age(path: Path, now: float) -> float:
    with suppress(OSError):
        return now - path.lstat().st_mtime
    return 0.0


def _inside(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _remove(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink()
        return
    # Out of sight in one step: whoever uses the key now finds it empty, not half there.
    if not path.name.startswith(_TRASH):
        aside = path.with_name(_TRASH + secrets.token_hex(8))
        path.rename(aside)
        path = aside
    shutil.rmtree(path)
