"""A folder shown through FUSE with times of whole seconds and no change time, as sshfs shows one.

Run as a program: ``python -m tests.promises.coarse_fuse FOLDER PLACE``, which needs fusepy.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from fuse import FUSE, Operations  # type: ignore[import-not-found]

STAT = ("st_atime", "st_gid", "st_ino", "st_mode", "st_nlink", "st_size", "st_uid")


class Coarse(Operations):
    """Reading and writing of the files of a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def _at(self, path: str) -> str:
        return os.path.join(self._folder, path.lstrip("/"))

    def getattr(self, path: str, fh: Any = None) -> dict[str, Any]:
        status = os.lstat(self._at(path))
        modified = int(status.st_mtime)
        return {
            **{name: getattr(status, name) for name in STAT},
            "st_mtime": modified,
            "st_ctime": modified,
        }

    def readdir(self, path: str, fh: Any) -> list[str]:
        return [".", "..", *os.listdir(self._at(path))]

    def open(self, path: str, flags: int) -> int:
        return os.open(self._at(path), flags & ~os.O_NOFOLLOW)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(self._at(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: Any = None) -> None:
        os.truncate(self._at(path), length)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)


if __name__ == "__main__":
    FUSE(Coarse(sys.argv[1]), sys.argv[2], foreground=True, attr_timeout=0, entry_timeout=0)
