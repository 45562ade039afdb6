"""The storage that is a folder of this machine, or one that a network file system shows as such."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from featx.storage import atomic, folders, reading
from featx.storage.interface import Stat, Storage


class FolderStorage(Storage):
    """Files below a folder; every operation holds between processes and machines that share it.

    Parameters
    ----------
    root : Path
        The cache folder.
    """

    readers = min(8, os.cpu_count() or 1)

    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, name: str) -> Path:
        return self._root / name

    @property
    def scratch(self) -> Path:
        return self._root

    def location(self, name: str) -> str:
        return str(self._path(name))

    def names(self, folder: str) -> list[str]:
        try:
            return os.listdir(self._path(folder))
        except FileNotFoundError:
            return []

    def stats(self, folder: str, quarantine: str) -> dict[str, Stat]:
        found = {}
        for name in self.names(folder):  # what was moved to quarantine is not there any more
            with suppress(FileNotFoundError):
                found[name] = self.stat(f"{folder}/{name}")
        return found

    def exists(self, name: str) -> bool:
        return os.path.lexists(self._path(name))

    def stat(self, name: str) -> Stat:
        return atomic.stat_of(self._path(name))

    def read(self, name: str) -> bytearray:
        return reading.read(self._path(name))

    def read_into(self, name: str, parts: Sequence[memoryview]) -> None:
        reading.read_into(self._path(name), parts)

    def publish(self, name: str, content: bytes) -> bool:
        path = self._path(name)
        with folders.entered(self._root, path.parent) as at:
            return atomic.publish(path, content, at)

    def replace(self, name: str, content: bytes) -> None:
        path = self._path(name)
        with folders.entered(self._root, path.parent) as at:
            atomic.replace(path, content, at)

    def remove(self, name: str) -> None:
        path = self._path(name)
        with suppress(FileNotFoundError), folders.entered(self._root, path.parent) as at:
            os.unlink(folders.named(path, at), dir_fd=at)

    def quarantine(self, name: str, stat: Stat, folder: str) -> str | None:
        moved = atomic.quarantine(self._root, self._path(name), stat, self._path(folder))
        return None if moved is None else str(moved)

    def touch(self, name: str) -> None:
        path = self._path(name)
        with suppress(OSError), folders.entered(self._root, path.parent) as at:
            inside = folders.named(path, at)
            # Else it is not there, or may only be read.
            if os.access(inside, os.W_OK, dir_fd=at):
                os.utime(inside, dir_fd=at, follow_symlinks=False)

    def refuse_links(self, *names: str) -> None:
        folders.refuse_links(*map(self._path, names))

    def make(self, folder: str) -> None:
        folders.make(self._path(folder))

    def sync(self, *names: str) -> None:
        folders.make_durable(self._root, *map(self._path, names))

    def rehearse(self, folder: str) -> None:
        path = self._path(folder)
        with folders.entered(self._root, path) as at:
            atomic.rehearse(path, at)

    def free_bytes(self, folder: str) -> int | None:
        return folders.free_bytes(self._path(folder))
