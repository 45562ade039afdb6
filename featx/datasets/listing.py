"""The walk through an image folder: which files are images, and what else was noticed."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path, PurePosixPath

from featx.datasets.items import FolderItems, Item
from featx.datasets.tree import Entry, TreeFolder
from featx.errors import DatasetError, ImageError
from featx.formatting import counted, printable
from featx.images import raw
from featx.images.decoding import MAX_BYTES
from featx.images.formats import FOREIGN_SUFFIXES, SUFFIXES, is_image, unread

# Files that operating systems leave in image folders.
_CLUTTER = frozenset(("thumbs.db", "desktop.ini", "__macosx"))
# Bytes at the beginning of a file that tell its kind; DICOM's stand at 128.
_HEAD = 512

_Entry = os.DirEntry[str] | Entry


class Listing:
    """The walk through an image folder, and what was noticed on the way."""

    link = (
        "out of the folder, not followed (--follow-links, in Python "
        "Dataset.from_folder(..., follow_links=True), follows links)"
    )

    def __init__(self, root: Path, follow_links: bool) -> None:
        self.root = root
        self.follow_links = follow_links
        # What was noticed, said of one and of many, and how often.
        self._noticed: Counter[tuple[str, str]] = Counter()
        self._system_folders: Counter[str] = Counter()
        self._raw: Counter[str] = Counter()
        self._classes: set[str] = set()
        self._visited: set[tuple[int, int]] = set()
        self._home = os.path.realpath(root)

    @property
    def location(self) -> Path | str:
        """Where the images are: a folder, or an address."""
        return self.root

    def items(self, paths: Sequence[str], labels: Sequence[str | None]) -> Sequence[Item]:
        """Return the images at these paths, with their labels."""
        return FolderItems(self.root, paths, labels)

    def images(self) -> Iterator[str]:
        """Yield the relative posix path of every file that looks like an image."""
        pending = [(self._top(), "")]
        while pending:  # no recursion: folders may be deeper than Python's stack
            folder, prefix = pending.pop()
            for entry in self._entries(folder):
                path = prefix + entry.name
                if entry.name.lower() in raw.SYSTEM_FOLDERS and _is_folder(entry):
                    self._system_folders[entry.name] += 1
                elif is_clutter(entry.name):
                    self._noticed[
                        "hidden or system file or folder, skipped",
                        "hidden or system files and folders, skipped",
                    ] += 1
                elif entry.is_symlink() and not self._may_follow(entry):
                    how = self.link
                    self._noticed[f"link that leads {how}", f"links that lead {how}"] += 1
                elif _is_folder(entry):
                    if not prefix:
                        self._classes.add(entry.name)
                    pending.append((entry.path, path + "/"))
                elif self._looks_like_an_image(entry):
                    yield path

    def _top(self) -> str:
        return os.fspath(self.root)

    def _entries(self, folder: str) -> Sequence[_Entry]:
        """Return what a folder holds; nothing the second time."""
        try:
            stat = os.stat(folder)
            if (stat.st_dev, stat.st_ino) in self._visited:
                twice = "reached twice through links, visited once"
                self._noticed[f"folder {twice}", f"folders {twice}"] += 1
                return []
            self._visited.add((stat.st_dev, stat.st_ino))
            return list(os.scandir(folder))
        except OSError as error:
            raise DatasetError(
                f"the folder {folder} cannot be listed: {error.strerror}."
            ) from error

    def _may_follow(self, entry: _Entry) -> bool:
        target = os.path.realpath(entry.path)
        return self.follow_links or target.startswith(self._home + os.sep) or target == self._home

    def _looks_like_an_image(self, entry: _Entry) -> bool:
        suffix = PurePosixPath(entry.name).suffix.lower()
        if suffix in SUFFIXES or suffix in FOREIGN_SUFFIXES:
            return True
        # No suffix or another one: the content decides, so that a note.txt is not a bad image.
        kinds = "file that is not an image", "files that are not images"
        try:
            if entry.is_file():
                head, photograph = self._looked_into(entry, suffix)
                if photograph:
                    self._raw[suffix or "no suffix"] += 1
                    return False
                if is_image(head):
                    return True
                if (foreign := unread(head)) is not None:
                    kind = f"of a kind of image that featx does not read: {foreign.name}"
                    kinds = f"file {kind}", f"files {kind}"
        except (OSError, ImageError):
            pass
        one, many = (f"{kind} ({suffix or 'no suffix'}), skipped" for kind in kinds)
        self._noticed[one, many] += 1
        return False

    def _looked_into(self, entry: _Entry, suffix: str) -> tuple[bytes, bool]:
        """Return how a file begins, and whether it is a RAW photograph."""
        with open(entry.path, "rb") as file:
            head = file.read(_HEAD)
            likely = is_image(head) or suffix in raw.RAW_SUFFIXES
            return head, likely and _is_raw(file.fileno(), suffix)

    def in_classes(self, paths: Sequence[str]) -> list[str]:
        """Return the images that lie in a class folder, with notes on all that do not fit."""
        loose = [path for path in paths if "/" not in path]
        deep = [path for path in paths if path.count("/") > 1]
        if loose:
            where = f"beside the class folders, skipped (such as {printable(loose[0])})"
            self._noticed[f"image {where}", f"images {where}"] = len(loose)
        if deep:
            where = (
                "deeper than one level, of the class of the top folder "
                f"(such as {printable(deep[0])}: {deep[0].split('/', 1)[0]!r})"
            )
            self._noticed[f"image {where}", f"images {where}"] = len(deep)
        inside = [path for path in paths if "/" in path]
        for name in sorted(self._classes - {path.split("/", 1)[0] for path in inside}):
            what = f"folder without an image, not a class: {name!r}"
            self._noticed[what, what] = 1
        return inside

    def notes(self, paths: Sequence[str]) -> list[str]:
        """Return a sentence for each kind of thing that was noticed."""
        folders, photographs = self._system_folders, self._raw
        if folders:
            what = (
                "in which a NAS or an operating system keeps thumbnails, deleted files or "
                f"snapshots ({', '.join(sorted(folders))}), skipped"
            )
            self._noticed[f"folder {what}", f"folders {what}"] = folders.total()
        if photographs:
            what = (
                f"({', '.join(sorted(photographs))}), skipped: featx reads the JPEG, PNG or TIFF "
                "that is developed from one"
            )
            self._noticed[f"RAW photograph {what}", f"RAW photographs {what}"] = photographs.total()
        duplicates = len(paths) - len({unicodedata.normalize("NFC", path) for path in paths})
        if duplicates:
            other = "another name in its Unicode form alone, treated as an image of its own"
            self._noticed[f"name that differs from {other}", f"names that differ from {other}"] = (
                duplicates
            )
        return [f"{counted(count, *what)}." for what, count in sorted(self._noticed.items())]


class TreeListing(Listing):
    """The same walk through the names of an archive or a bucket."""

    link = "to another file, not followed: pack the images themselves (tar --dereference)"

    def __init__(self, folder: TreeFolder) -> None:
        super().__init__(Path(), follow_links=False)
        self._folder = folder

    @property
    def location(self) -> Path | str:
        return self._folder.location

    def items(self, paths: Sequence[str], labels: Sequence[str | None]) -> Sequence[Item]:
        return [
            Item(path, label, self._folder.source(path))
            for path, label in zip(paths, labels, strict=True)
        ]

    def notes(self, paths: Sequence[str]) -> list[str]:
        return [*super().notes(paths), *self._folder.tree.notes]

    def _top(self) -> str:
        return self._folder.path

    def _entries(self, folder: str) -> Sequence[_Entry]:
        return self._folder.tree.entries(folder)

    def _may_follow(self, entry: _Entry) -> bool:
        return False

    def _looks_like_an_image(self, entry: _Entry) -> bool:
        if self._folder.tree.has_labels and entry.name.lower().endswith(".cls"):
            return False  # it was read, so that it needs no note
        return super()._looks_like_an_image(entry)

    def _looked_into(self, entry: _Entry, suffix: str) -> tuple[bytes, bool]:
        tree = self._folder.tree
        head = tree.head(entry.path)
        if not is_image(head) and suffix not in raw.RAW_SUFFIXES:
            return head, False
        content, _ = tree.source(entry.path).read(MAX_BYTES)
        named = suffix in raw.RAW_SUFFIXES and not is_image(head)
        return head, named or raw.kind_of(content, suffix) is not None


def is_clutter(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that a system leaves among images."""
    return name.startswith(".") or name.lower() in _CLUTTER | raw.SYSTEM_FOLDERS


def _is_raw(descriptor: int, suffix: str) -> bool:
    """Return whether an open file, which looks like one by its name or head, is a RAW photograph.

    Where neither a RAW photograph nor an image can be told from the content, the name decides.
    """
    try:
        # Mapped: what tells may stand anywhere in a file of 100 MB.
        with mmap(descriptor, 0, access=ACCESS_READ) as content:
            if raw.kind_of(content, suffix) is not None:
                return True
            return suffix in raw.RAW_SUFFIXES and not is_image(content[:_HEAD])
    except ValueError:  # an empty file cannot be mapped
        return suffix in raw.RAW_SUFFIXES


def _is_folder(entry: _Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
