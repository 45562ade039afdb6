"""Somebody who may write to a cache, and swaps a folder of it for a link between two calls."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import faults


def lure(folder: Path, like: Path) -> None:
    """Make a folder whose files have the names of a cache's, and are somebody's own."""
    shutil.copytree(like, folder)
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"precious")


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return what a folder holds: bytes and modification time by path."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def swapping(at: int, folder: Path, precious: Path) -> faults.FaultyOs:
    """Return an `os` before whose call number `at` a folder gives way to a link to `precious`."""

    def hook(number: int, name: str, args: tuple[Any, ...]) -> None:
        if number == at and folder.is_dir() and not folder.is_symlink():
            aside = folder.with_name(folder.name + "-aside")
            os.rename(folder, aside)
            os.symlink(precious, folder)

    return faults.FaultyOs(hook)


def restored(folder: Path) -> None:
    """Put a folder back in place of its link."""
    aside = folder.with_name(folder.name + "-aside")
    if folder.is_symlink() and aside.exists():
        folder.unlink()
        aside.rename(folder)


def count(work: Callable[[], Any]) -> int:
    """Return how many calls to the disk some work makes."""
    return len(faults.count_calls(work))
