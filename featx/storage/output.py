"""Files that a user asks for: whole in their place, or not there at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def check_target(path: Path) -> None:
    """Raise OSError if a file cannot be put at `path`: its folder is missing, or it is one."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected the name of a file to write.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; make it first.")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a new file for the body to write, and move it to `path` at the end.

    An error in the body removes the new file, and what was at `path` stays. The body brings the
    file to the disk (`os.fsync`) before it ends.

    Raises
    ------
    OSError
        The folder is missing or cannot be written, or `path` is a folder.
    """
    check_target(path)
    # Beside the target, so that the last step is a rename within one file system.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()
