"""Folders that no file system has: those of an archive or a bucket, made of the names in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from featx.errors import DatasetError
from featx.images.elsewhere import Elsewhere


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a folder of a tree, with what `os.DirEntry` has of these methods."""

    name: str
    path: str
    kind: str

    def is_dir(self) -> bool:
        """Return whether it is a folder."""
        return self.kind == "folder"

    def is_file(self) -> bool:
        """Return whether it is a file."""
        return self.kind == "file"

    def is_symlink(self) -> bool:
        """Return whether it is a link, which is never followed."""
        return self.kind == "link"


class Tree:
    """The folders of an archive or a bucket.

    Parameters
    ----------
    shown : str
        What people call it: the archive's path, the bucket's address.
    members : iterable of (str, str)
        Paths with forward slashes and what they are, "file" or "link"; of one name the last counts.
    source : callable
        Returns the image at a path.
    head : callable
        Returns the first bytes of the file at a path.
    notes : sequence of str
        What was noticed while it was read.
    labels : mapping
        The class of images by their paths up to the first dot of the name, as in a WebDataset.
    location : Path or str
        Its absolute path, or its address.

    Raises
    ------
    DatasetError
        A path is absolute or leads out of the tree.
    """

    def __init__(
        self,
        shown: str,
        members: Iterable[tuple[str, str]],
        source: Callable[[str], Elsewhere],
        head: Callable[[str], bytes],
        notes: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        location: Path | str = "",
    ) -> None:
        self.shown = shown
        self.source = source
        self.head = head
        self.notes = tuple(notes)
        self.labels = labels or {}
        self.location = location
        self._folders: dict[str, dict[str, Entry]] = {"": {}}
        for path, kind in members:
            self._add(path, kind)

    def _add(self, path: str, kind: str) -> None:
        folder, _, name = path.rpartition("/")
        missing, above = [], folder
        while above not in self._folders:
            missing.append(above)
            above = above.rpartition("/")[0]
        for one in reversed(missing):
            above, _, last = one.rpartition("/")
            self._folders[above][last] = Entry(last, one, "folder")
            self._folders[one] = {}
        known = self._folders[folder].get(name)
        if known is None or not known.is_dir():  # a name of both is the folder's
            self._folders[folder][name] = Entry(name, path, kind)

    @property
    def has_labels(self) -> bool:
        """Whether classes stand in files beside the images."""
        return bool(self.labels)

    def entries(self, folder: str) -> list[Entry]:
        """Return what a folder holds; "" is the root."""
        return list(self._folders.get(folder, {}).values())

    def __contains__(self, folder: str) -> bool:
        return folder in self._folders


@dataclass(frozen=True)
class TreeFolder:
    """One folder of a tree, where a `Path` stands for a folder of this machine.

    Attributes
    ----------
    tree : Tree
    path : str
        "" is the root.
    """

    tree: Tree
    path: str = ""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path or self.tree.shown).name

    def __str__(self) -> str:
        return f"{self.tree.shown}/{self.path}" if self.path else self.tree.shown

    def __truediv__(self, name: str) -> TreeFolder:
        return TreeFolder(self.tree, f"{self.path}/{name}" if self.path else name)

    def entries(self) -> list[Entry]:
        """Return what it holds."""
        return self.tree.entries(self.path)

    @property
    def location(self) -> Path | str:
        """The absolute path or the address of this folder."""
        base = self.tree.location
        return base / self.path if isinstance(base, Path) else f"{base}/{self.path}".rstrip("/")

    def source(self, path: str) -> Elsewhere:
        """Return the image at a path in it."""
        return self.tree.source(str((self / path).path))

    def labels_of(self, paths: Sequence[str]) -> list[str]:
        """Return the classes that stand in files beside these images.

        Raises
        ------
        DatasetError
            One has none.
        """
        found = []
        for path in paths:
            folder, _, name = (self / path).path.rpartition("/")
            label = self.tree.labels.get(f"{folder}/{name.split('.', 1)[0]}")
            if label is None:
                raise DatasetError(
                    f"{self} has classes in .cls files, and none for {path}; expected one beside "
                    "each image."
                )
            found.append(label)
        return found


def safe_path(path: str, archive: str) -> str:
    """Return the path of an archive's member in its usual form.

    Raises
    ------
    DatasetError
        It is absolute, leads out of the archive, or is longer than any system allows.

    >>> safe_path("./cat//1.jpg", "a.tar")
    'cat/1.jpg'
    """
    if len(path) > 4096:  # Linux's PATH_MAX: nobody could unpack it
        raise DatasetError(f"the archive {archive} holds a path of {len(path):,} characters.")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or (parts and parts[0][1:2] == ":"):
        raise DatasetError(
            f"the archive {archive} holds the path {path!r}, which leads out of it. It may be made "
            "to write over other files where it is unpacked; nothing of it was read."
        )
    return "/".join(parts)
