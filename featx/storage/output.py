"""Whether a file that a user asks for can be put where it is wanted, said before the work."""

from __future__ import annotations

from pathlib import Path


def check_target(path: Path) -> None:
    """Raise OSError if a file cannot be put at `path`: its folder is missing, or it is one."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected the name of a file to write.")
    check_parent(path)


def check_new(path: Path, what: str, force: bool) -> None:
    """Raise FileExistsError if something is at `path` and was not said to be replaced."""
    if not force and (path.exists() or path.is_symlink()):
        raise FileExistsError(
            f"{what} {path} is there already and was left as it is. Give another name, or --force "
            "to replace it."
        )


def check_parent(path: Path) -> None:
    """Raise FileNotFoundError if the folder that `path` would be in is missing."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; make it first.")
