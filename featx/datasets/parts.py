"""Folders that hold the parts of a data set, such as train and test, and folders around one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from featx.datasets.listing import is_clutter
from featx.datasets.tree import Entry, TreeFolder
from featx.errors import DatasetError
from featx.images.formats import SUFFIXES

_TRAIN = ("train", "training")
_VALIDATION = ("val", "valid", "validation", "dev")
_TEST = ("test", "testing")
_ENDING = re.compile(r"[ _-]?(?:set|data|images)$")
# Folders in which parts are looked for, too, such as images/train beside annotations/.
_LOOKED_AT = 20

Folder = Path | TreeFolder
"""A folder of this machine, of an archive or of a bucket."""


@dataclass(frozen=True)
class Parts:
    """The parts that a folder holds in place of classes.

    Attributes
    ----------
    root : Path or TreeFolder
    names : tuple of str
        Sub-folders with the name of a part, sorted.
    """

    root: Folder
    names: tuple[str, ...]

    @property
    def train(self) -> Folder:
        """The folder to train on.

        Raises
        ------
        DatasetError
            None of the parts has its name, or it holds no class folders.
        """
        found = self._named(_TRAIN)
        if found is None or not _folders(found):
            raise DatasetError(
                f"{self.root} holds {self.listed}, and no folder 'train' with one sub-folder per "
                "class. Pass the training and the test images apart, as train and test."
            )
        return found

    @property
    def test(self) -> Folder | None:
        """The folder to test on: the test part, else the validation part; None without labels."""
        found = [self._named(names) for names in (_TEST, _VALIDATION)]
        return next((one for one in found if one is not None and _folders(one)), None)

    @property
    def listed(self) -> str:
        """The names in one line."""
        return ", ".join(map(repr, self.names))

    def notes(self) -> list[str]:
        """Return what was taken from the folder, and what was left out."""
        train, test = self.train, self.test
        taken = f"trained on {train.name!r}"
        taken += f", tested on {test.name!r}" if test is not None else ", tested by folds of it"
        used = {train.name} | ({test.name} if test is not None else set())
        left = [repr(name) for name in _folders(self.root) if name not in used]
        out = f"; left out: {', '.join(left)}" if left else ""
        return [f"{self.root} holds parts of a data set: {taken}{out}."]

    def _named(self, wanted: tuple[str, ...]) -> Folder | None:
        return next((self.root / name for name in self.names if _stem(name) in wanted), None)


def _stem(name: str) -> str:
    """Return "train" for "Train", "train_set" and "training-images" alike, more or less."""
    return _ENDING.sub("", name.casefold())


def parts_of(root: Folder) -> Parts | None:
    """Return the parts that a folder holds in place of classes, or None.

    There are two or more sub-folders that are called train, test, val, valid, validation, dev,
    training or testing, and one of them holds sub-folders.
    """
    every = (*_TRAIN, *_VALIDATION, *_TEST)
    names = [name for name in _folders(root) if _stem(name) in every]
    if len(names) < 2 or not any(_folders(root / name) for name in names):
        return None
    return Parts(root, tuple(names))


def refuse_parts(root: Folder) -> None:
    """Raise DatasetError if a folder holds parts of a data set: they are not classes."""
    inside = [root, *(root / name for name in _folders(root)[:_LOOKED_AT])]
    found = next(filter(None, map(parts_of, inside)), None)
    if found is not None:
        root = found.root
        train = found._named(_TRAIN) or root / found.names[0]
        raise DatasetError(
            f"{root} holds parts of a data set, not classes: {found.listed}. Pass one of them, "
            f"such as {train}; featx.benchmark({str(root)!r}) and `featx benchmark {root}` "
            "train on one and test on another."
        )


def inner_folder(root: Folder) -> Folder:
    """Return the folder that holds the classes: `root`, or the only folder in it that does.

    Archives are often unpacked into a folder of their own name: ``flowers/flowers/daisy/1.jpg``.
    """
    inner = root
    while len(folders := _folders(inner)) == 1 and not _holds_images(inner):
        inner = inner / folders[0]
    return inner if len(folders) > 1 and not _holds_images(inner) else root


def _holds_images(root: Folder) -> bool:
    return any(os.path.splitext(entry.name)[1].lower() in SUFFIXES for entry in _entries(root))


def _folders(root: Folder) -> list[str]:
    """Return the names of the sub-folders of a folder, sorted; hidden and system ones left out."""
    try:
        return sorted(
            entry.name for entry in _entries(root) if entry.is_dir() and not is_clutter(entry.name)
        )
    except OSError:  # whoever lists the folder says what is wrong with it
        return []


def _entries(root: Folder) -> list[os.DirEntry[str]] | list[Entry]:
    if isinstance(root, TreeFolder):
        return root.entries()
    with os.scandir(root) as entries:
        return list(entries)
