"""Writing the files of a report: all of them or none, and JSON that every reader takes."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from featx.errors import FeatxError


def strict(data: dict[str, Any]) -> str:
    """Return JSON without NaN or infinities, which the standard does not know."""
    return json.dumps(data, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def publish(folder: Path, texts: dict[str, str]) -> Path:
    """Write files (name -> text) into a folder, which is made, and return it.

    Each is written aside, brought to the disk and moved over the old one, after all have been
    made: an error leaves the old ones as they were.

    Raises
    ------
    FeatxError
        The folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, texts)
    except OSError as error:
        raise FeatxError(
            f"the report cannot be written to {str(folder)!r}: {error.strerror or error}. Give "
            "a folder that can be written; a report that was there before is unchanged."
        ) from error
    return folder


def _write(folder: Path, texts: dict[str, str]) -> None:
    """Write every text beside its place, then move them all."""
    ready: list[tuple[str, Path]] = []
    try:
        for name, text in texts.items():
            handle, aside = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".tmp")
            ready.append((aside, folder / name))
            with os.fdopen(handle, "wb") as file:
                # A lone surrogate (a file name that is no UTF-8) becomes \udcff, which is also
                # JSON's own escape for it.
                file.write(text.encode("utf-8", "backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
            os.chmod(aside, 0o644)
        for aside, place in ready:
            os.replace(aside, place)
    finally:
        for aside, _ in ready:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Bring the names to the disk too, where the system can open a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
