"""A storage in the memory of this process: for tests, and as the smallest example of one."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from itertools import count
from pathlib import Path

from featx.storage.interface import Stat, Storage


class MemoryStorage(Storage):
    """Entries in a dict, as an object store has them: a folder exists while something is in it.

    Parameters
    ----------
    scratch : Path, optional
        The folder for what is this machine's; by default one that does not exist.
    """

    def __init__(self, scratch: Path | None = None) -> None:
        self._scratch = scratch or Path(tempfile.gettempdir(), f"featx-memory-{id(self):x}")
        self._entries: dict[str, tuple[bytes, Stat]] = {}
        self._versions = count(1)
        self._lock = threading.Lock()

    @property
    def scratch(self) -> Path:
        return self._scratch

    def location(self, name: str) -> str:
        return f"memory:{name}"

    def names(self, folder: str) -> list[str]:
        with self._lock:
            inside = [name.removeprefix(f"{folder}/") for name in self._below(folder)]
        return list(dict.fromkeys(name.split("/")[0] for name in inside))

    def stats(self, folder: str, quarantine: str) -> dict[str, Stat]:
        with self._lock:
            inside = {name: self._entries[name][1] for name in self._below(folder)}
        return {name.removeprefix(f"{folder}/"): stat for name, stat in inside.items()}

    def exists(self, name: str) -> bool:
        with self._lock:
            return name in self._entries or bool(self._below(name))

    def stat(self, name: str) -> Stat:
        return self._entry(name)[1]

    def read(self, name: str) -> bytearray:
        return bytearray(self._entry(name)[0])

    def publish(self, name: str, content: bytes) -> bool:
        with self._lock:
            if name in self._entries:
                return False
            self._enter(name, content)
            return True

    def replace(self, name: str, content: bytes) -> None:
        with self._lock:
            self._enter(name, content)

    def remove(self, name: str) -> None:
        with self._lock:
            self._entries.pop(name, None)

    def quarantine(self, name: str, stat: Stat, folder: str) -> str | None:
        with self._lock:
            if name not in self._entries or self._entries[name][1] != stat:
                return None
            moved = f"{folder}/{name.split('/')[-1]}-{next(self._versions):08x}"
            self._entries[moved] = self._entries.pop(name)
            return self.location(moved)

    def touch(self, name: str) -> None:
        with self._lock:
            if name in self._entries:
                self._enter(name, self._entries[name][0])

    def _entry(self, name: str) -> tuple[bytes, Stat]:
        with self._lock:
            if name not in self._entries:
                raise FileNotFoundError(2, os.strerror(2), name)
            return self._entries[name]

    def _enter(self, name: str, content: bytes) -> None:
        version = next(self._versions)
        self._entries[name] = bytes(content), Stat(len(content), time.time_ns(), version, version)

    def _below(self, folder: str) -> list[str]:
        return [name for name in self._entries if name.startswith(f"{folder}/" if folder else "")]
