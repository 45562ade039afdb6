"""A loss of power: what was not synced is dropped, kept or garbled, as the disk likes.

A run is recorded once, as the calls that change the disk. At any moment of the record, a folder
is built as a disk might show it after the power went: of each file the synced bytes and some of
the others, of each folder the synced entries and some of the later changes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import faults

SECTOR = 512


@dataclass
class _File:
    synced: bytes = b""
    content: bytes = b""


@dataclass
class _Folder:
    synced: dict[str, Any] = field(default_factory=dict)
    entries: dict[str, Any] = field(default_factory=dict)
    changes: list[tuple[str, Any]] = field(default_factory=list)


class Recorder:
    """An `os` that does what it is told, and writes down what changed under a folder.

    Attributes
    ----------
    steps : list
        Functions that redo one change on a ``Disk``, or marks that were put in between.
    """

    def __init__(self, top: Path) -> None:
        self._top = os.fspath(top)
        self._open: dict[int, str] = {}
        self.steps: list[Callable[[Disk], None] | tuple[str, Any]] = []
        self.os = faults.FaultyOs(self._hook)

    def mark(self, what: str, detail: Any = None) -> None:
        """Note something that happened between two changes."""
        self.steps.append((what, detail))

    def _hook(self, number: int, name: str, args: tuple[Any, ...]) -> Callable[..., Any] | None:
        done = getattr(self, f"_do_{name}", None)
        return None if done is None else (lambda **kwargs: done(*args, **kwargs))

    def _inside(self, path: Any) -> str | None:
        text = os.path.abspath(os.fspath(path))
        inside = (text + os.sep).startswith(self._top + os.sep)
        return os.path.relpath(text, self._top) if inside else None

    # Paths come whole, so that the descriptors of folders that calls name (`_`) say no more.

    def _do_open(self, path: Any, flags: int, mode: int = 0o777, **_: Any) -> int:
        new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        descriptor = os.open(path, flags, mode)
        inside = self._inside(path)
        if inside is not None:
            self._open[descriptor] = inside
            if new:
                self.steps.append(lambda disk: disk.add(inside, _File()))
        return descriptor

    def _do_close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        os.close(descriptor)

    def _do_write(self, descriptor: int, content: Any) -> int:
        count = os.write(descriptor, content)
        inside, written = self._open.get(descriptor), bytes(content[:count])
        if inside is not None:
            self.steps.append(lambda disk: disk.write(inside, written))
        return count

    def _do_fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)
        inside = self._open.get(descriptor)
        if inside is not None:
            self.steps.append(lambda disk: disk.sync(inside))

    def _do_mkdir(self, path: Any, mode: int = 0o777, **_: Any) -> None:
        os.mkdir(path, mode)
        inside = self._inside(path)
        if inside is not None:
            self.steps.append(lambda disk: disk.add(inside, _Folder()))

    def _do_link(self, source: Any, target: Any, **_: Any) -> None:
        os.link(source, target)
        old, new = self._inside(source), self._inside(target)
        assert old is not None
        assert new is not None
        self.steps.append(lambda disk: disk.add(new, disk.find(old)))

    def _do_unlink(self, path: Any, **_: Any) -> None:
        os.unlink(path)
        self._gone(path)

    def _do_rmdir(self, path: Any, **_: Any) -> None:
        os.rmdir(path)
        self._gone(path)

    def _gone(self, path: Any) -> None:
        inside = self._inside(path)
        if inside is not None:
            self.steps.append(lambda disk: disk.add(inside, None))

    def _do_rename(self, source: Any, target: Any, **_: Any) -> None:
        os.replace(source, target)
        old, new = self._inside(source), self._inside(target)
        assert old is not None
        assert new is not None
        self.steps.append(lambda disk: disk.move(old, new))

    _do_replace = _do_rename


class Disk:
    """Folders and files, with what is synced of them."""

    def __init__(self) -> None:
        self.top = _Folder()

    def find(self, path: str) -> Any:
        """Return the file or folder at a path."""
        found: Any = self.top
        for name in Path(path).parts:
            found = found.entries[name]
        return found

    def _change(self, path: str, what: Any) -> None:
        folder = self.find(os.path.dirname(path))
        name = os.path.basename(path)
        folder.changes.append((name, what))
        if what is None:
            folder.entries.pop(name)
        else:
            folder.entries[name] = what

    def add(self, path: str, what: Any) -> None:
        """Enter a file or folder; None takes the entry away."""
        self._change(path, what)

    def move(self, old: str, new: str) -> None:
        """Rename: two entries, which a disk need not keep together."""
        moved = self.find(old)
        self._change(new, moved)
        self._change(old, None)

    def write(self, path: str, content: bytes) -> None:
        """Append to a file."""
        self.find(path).content += content

    def sync(self, path: str) -> None:
        """Make a file's bytes or a folder's entries durable."""
        found = self.find(path)
        if isinstance(found, _File):
            found.synced = found.content
        else:
            found.synced, found.changes = dict(found.entries), []

    def lose_power(self, target: Path, rng: random.Random) -> None:
        """Build the folder that is found when the power is back."""
        _restore(self.top, target, rng)


def _restore(folder: _Folder, target: Path, rng: random.Random) -> None:
    target.mkdir(mode=0o700, exist_ok=True)
    entries = dict(folder.synced)
    share = rng.choice((0.0, 0.5, 1.0))
    for name, what in folder.changes:  # each of them may have reached the disk, or not
        if rng.random() < share:
            entries.pop(name, None)
            if what is not None:
                entries[name] = what
    for name, what in entries.items():
        if isinstance(what, _Folder):
            _restore(what, target / name, rng)
        else:
            (target / name).write_bytes(_torn(what, rng))


def _torn(file: _File, rng: random.Random) -> bytes:
    """Return what the disk has of a file: unsynced sectors kept, zeroed or garbled."""
    if file.synced == file.content:
        return file.synced
    content = bytearray(file.content[: rng.choice((len(file.synced), len(file.content)))])
    for begin in range(len(file.synced), len(content), SECTOR):
        end = min(begin + SECTOR, len(content))
        fate = rng.choice(("kept", "zeroed", "garbled"))
        if fate == "zeroed":
            content[begin:end] = bytes(end - begin)
        elif fate == "garbled":
            content[begin:end] = rng.randbytes(end - begin)
    return bytes(content)
