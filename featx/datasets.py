"""What a dataset is: pictures in order, each with an id and perhaps a label."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from featx.errors import DatasetError, EmptyDatasetError, InputRangeError
from featx.images import FOREIGN_SUFFIXES, SUFFIXES, is_picture

logger = logging.getLogger(__name__)

Source = Path | bytes | np.ndarray

# Files that operating systems leave in picture folders.
_CLUTTER = frozenset(("thumbs.db", "desktop.ini", "__macosx"))


@dataclass(frozen=True, eq=False)
class Item:
    """One picture, not yet read.

    Attributes
    ----------
    id : str
        The path relative to the dataset, with forward slashes, or the row number.
    label : str or None
        The class name; None where the dataset has no labels.
    source : Path, bytes, or numpy.ndarray of shape (height, width, 3) and dtype uint8
        A file, an encoded picture, or RGB pixels 0-255.
    """

    id: str
    label: str | None
    source: Source


class Dataset:
    """Pictures in a fixed order; a path is not opened before its picture is needed.

    Parameters
    ----------
    items : iterable of Item
        A sequence, or any iterable that can be begun again; an iterable without a length is put
        in memory when its length, labels or a single item is asked for.
    notes : sequence of str
        What was noticed while listing: hidden files, empty folders, links not followed.
    location : Path, optional
        The folder that the ids are relative to.
    """

    def __init__(
        self, items: Iterable[Item], notes: Sequence[str] = (), location: Path | None = None
    ) -> None:
        self._items = items
        self.notes = tuple(notes)
        self.location = location

    @property
    def items(self) -> Sequence[Item]:
        """All items; a stream is read once and kept in memory."""
        if not isinstance(self._items, Sequence):
            self._items = list(self._items)
        return self._items

    @property
    def known_length(self) -> int | None:
        """The number of pictures where it is known without reading a stream."""
        return len(self._items) if isinstance(self._items, Sequence) else None

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]

    def __repr__(self) -> str:
        length = "a stream of" if self.known_length is None else f"{self.known_length:,}"
        return f"<featx.Dataset: {length} pictures{f' in {self.location}' if self.location else ''}>"

    @property
    def ids(self) -> list[str]:
        """The ids, in order."""
        return [item.id for item in self.items]

    @property
    def labels(self) -> np.ndarray | None:
        """The class names as an object array of shape (n,), or None without labels."""
        return label_array([item.label for item in self.items])

    @property
    def classes(self) -> list[str]:
        """The distinct class names, sorted; empty without labels."""
        return sorted({item.label for item in self.items if item.label is not None})

    def subset(self, indices: Iterable[int]) -> Dataset:
        """Return the pictures at these positions, in that order."""
        return Dataset([self.items[int(i)] for i in indices], self.notes, self.location)

    @classmethod
    def from_folder(cls, root: str | os.PathLike[str], *, follow_links: bool = False) -> Dataset:
        """List a folder: a sub-folder is a class; without sub-folders there are no labels.

        Parameters
        ----------
        root : path
            The folder. Files below a class folder belong to that class, however deep.
        follow_links : bool, default=False
            Whether links that lead out of the folder are followed.

        Raises
        ------
        DatasetError
            The folder is missing or is a file; ``EmptyDatasetError`` if it holds no picture.
        """
        root = Path(root)
        if not root.is_dir():
            what = "is a file, not a folder" if root.exists() else "does not exist"
            raise DatasetError(
                f"the dataset {root} {what}. Expected a folder with a sub-folder a class, a "
                "folder of pictures, or a .csv file."
            )
        listing = _Listing(root, follow_links)
        paths = sorted(listing.pictures(), key=os.fsencode)
        labelled = any("/" in path for path in paths)
        loose = [path for path in paths if "/" not in path]
        if labelled and loose:
            listing.noticed[f"pictures beside the class folders, skipped (such as {loose[0]})"] = len(
                loose
            )
            paths = [path for path in paths if "/" in path]
        if labelled:
            listing.note_empty_classes({path.split("/", 1)[0] for path in paths})
        if not paths:
            raise EmptyDatasetError(
                f"no picture in {root}. {' '.join(listing.notes(paths)) or 'The folder is empty.'} "
                f"Expected files such as {', '.join(sorted(SUFFIXES))}."
            )
        items = [
            Item(path, path.split("/", 1)[0] if labelled else None, root / path) for path in paths
        ]
        notes = listing.notes(paths)
        for note in notes:
            logger.warning("%s: %s", root, note)
        return cls(items, notes, root)

    @classmethod
    def from_table(
        cls,
        table: Any,
        *,
        path_column: str = "path",
        label_column: str | None = "label",
        folder: str | os.PathLike[str] | None = None,
    ) -> Dataset:
        """Read a CSV file or a DataFrame with a column of paths and one of labels.

        Parameters
        ----------
        table : path of a .csv file, or pandas.DataFrame
        path_column, label_column : str
            The columns' names; ``label_column=None`` means there are no labels.
        folder : path, optional
            What relative paths are relative to: the CSV's folder, or the working folder.

        Raises
        ------
        DatasetError
            The file or a column is missing, or a path or label is empty.
        """
        import pandas as pd

        if not isinstance(table, pd.DataFrame):
            source = Path(table)
            folder = source.parent if folder is None else folder
            try:
                # As text: "NA" and "007" are labels like any other.
                table = pd.read_csv(source, dtype=str, keep_default_na=False)
            except (OSError, ValueError) as error:
                raise DatasetError(f"the table {source} cannot be read: {error}.") from error
        for option, column in (("path_column", path_column), ("label_column", label_column)):
            if column is not None and column not in table.columns:
                remedy = " or None for a table without labels" if option == "label_column" else ""
                raise DatasetError(
                    f"the table has no column {column!r}; it has "
                    f"{', '.join(map(repr, map(str, table.columns)))}. Pass {option}=...{remedy}."
                )
        labels = None
        if label_column is not None:
            column = table[label_column].astype(object)
            labels = list(column.where(column.notna(), None))
        return cls.from_paths(list(table[path_column]), labels, folder=folder)

    @classmethod
    def from_paths(
        cls,
        paths: Sequence[Any],
        labels: Sequence[Any] | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
    ) -> Dataset:
        """Take a list of paths, encoded pictures (bytes), pixels or PIL images, in its order.

        Raises
        ------
        DatasetError
            The labels do not fit the paths, a label is missing, or an entry is of another kind.
        """
        base = Path() if folder is None else Path(folder)
        items = [_listed(i, entry, base) for i, entry in enumerate(paths)]
        if not items:
            raise EmptyDatasetError("the list of pictures is empty; expected at least one path.")
        return cls(_labelled(items, labels), location=base)

    @classmethod
    def from_array(cls, pixels: np.ndarray, labels: Sequence[Any] | None = None) -> Dataset:
        """Take pixels of shape (n, height, width, 3), RGB 0-255; ids are the row numbers.

        Raises
        ------
        InputRangeError
            The pixels are 0-1 or otherwise outside 0-255.
        DatasetError
            The shape is not (n, height, width, 3), or a value is NaN.
        """
        pixels = as_pixels(pixels, ndim=4)
        if not len(pixels):
            raise EmptyDatasetError("the array holds no picture: its first dimension is 0.")
        return cls(_labelled([Item(str(i), None, row) for i, row in enumerate(pixels)], labels))

    @classmethod
    def from_tf(cls, stream: Any) -> Dataset:
        """Take a ``tf.data.Dataset`` of (image, label) or images, batched or not, as a stream."""
        return cls(_Stream(stream))


def as_dataset(
    source: Any,
    labels: Sequence[Any] | None = None,
    *,
    path_column: str = "path",
    label_column: str | None = "label",
) -> Dataset:
    """Return anything featx takes as a Dataset.

    Parameters
    ----------
    source : Dataset, path, list, numpy.ndarray, pandas.DataFrame or tf.data.Dataset
        A folder, a ``.csv`` file or a DataFrame, a list of paths or pictures, an array of shape
        (n, height, width, 3), a stream of (image, label).
    labels : sequence, optional
        One label a picture, for lists and arrays, or to replace those of a folder or Dataset.
    path_column, label_column : str
        For tables; ``label_column=None`` means there are no labels.

    Raises
    ------
    DatasetError
        The message says what came and what was expected.
    """
    if isinstance(source, str | os.PathLike):
        if os.fspath(source).lower().endswith(".csv"):
            source = Dataset.from_table(
                source, path_column=path_column, label_column=label_column
            )
        else:
            source = Dataset.from_folder(source)
    elif type(source).__name__ == "DataFrame":
        source = Dataset.from_table(source, path_column=path_column, label_column=label_column)
    elif hasattr(source, "as_numpy_iterator"):
        source = Dataset.from_tf(source)
    elif isinstance(source, np.ndarray) and source.dtype.kind not in "OUS":
        return Dataset.from_array(source, labels)
    elif isinstance(source, np.ndarray) or (
        isinstance(source, Sequence) and not isinstance(source, bytes)
    ):
        return Dataset.from_paths(list(source), labels)
    elif not isinstance(source, Dataset):
        raise DatasetError(
            f"a dataset cannot be made of {type(source).__name__}. Expected a folder, a .csv "
            "file, a DataFrame, a list of paths, an array of shape (n, height, width, 3), a "
            "tf.data.Dataset or a featx.Dataset."
        )
    if labels is None:
        return source
    return Dataset(_labelled(source.items, labels), source.notes, source.location)


def label_array(labels: Sequence[str | None]) -> np.ndarray | None:
    """Return labels as an object array of shape (n,), or None if one is missing."""
    if any(label is None for label in labels):
        return None
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array


def as_pixels(values: Any, ndim: int) -> np.ndarray:
    """Return pictures as uint8 RGB, or say what is wrong with them.

    Parameters
    ----------
    values : array of shape (n, height, width, 3) or (height, width, 3)
        0-255; floats are rounded.
    ndim : {3, 4}
        One picture, or several.

    Raises
    ------
    InputRangeError, DatasetError
    """
    array = np.asarray(values)
    if array.ndim != ndim or array.shape[-1] != 3:
        raise DatasetError(_shape_advice(array, ndim))
    if array.dtype == np.uint8 or not array.size:
        return array.astype(np.uint8, copy=False)
    if array.dtype.kind not in "iuf":
        raise DatasetError(f"pixels of dtype {array.dtype}; expected uint8, RGB 0-255.")
    low, high = array.min(), array.max()
    if np.isnan(low) or np.isnan(high):
        raise DatasetError("the pixels hold NaN; expected uint8, RGB 0-255.")
    if low < 0 or high > 255 or (array.dtype.kind == "f" and 0 < high <= 1):
        raise InputRangeError(
            f"pixels from {low:g} to {high:g}; expected RGB 0-255. featx scales them as each "
            "network needs: pass them before any division"
            f"{', here (255 * x).astype(np.uint8)' if low >= 0 and high <= 1 else ''}."
        )
    return np.rint(array).astype(np.uint8)


def _shape_advice(array: np.ndarray, ndim: int) -> str:
    wanted = "(n, height, width, 3)" if ndim == 4 else "(height, width, 3)"
    came = f"pixels of shape {array.shape}; expected {wanted}, RGB 0-255."
    if array.ndim == ndim and array.shape[-3] == 3:
        return f"{came} The channels come first here: np.moveaxis(x, -3, -1) moves them last."
    if array.ndim == ndim - 1 and array.shape[-1:] == (3,):
        return f"{came} A single picture: pass x[None]."
    if array.ndim == ndim - 1 or array.shape[-1:] == (1,):
        return f"{came} Grey pictures: np.repeat(x.reshape(*x.shape[:{ndim - 1}], 1), 3, -1)."
    if array.shape[-1:] == (4,):
        return f"{came} Drop the fourth channel: x[..., :3]."
    return came


def _labelled(items: Sequence[Item], labels: Sequence[Any] | None) -> Sequence[Item]:
    """Return the items with these labels as class names."""
    if labels is None:
        return items
    labels = list(labels)
    if len(labels) != len(items):
        raise DatasetError(f"{len(labels)} labels for {len(items)} pictures; expected one each.")
    missing = [i for i, label in enumerate(labels) if _is_missing(label)]
    if missing:
        raise DatasetError(
            f"{len(missing)} labels are missing (row {missing[0]} is {labels[missing[0]]!r}, picture "
            f"{items[missing[0]].id!r}). Remove those rows, or give each picture a label."
        )
    kinds = {_kind(label) for label in labels}
    if len(kinds) > 1:
        raise DatasetError(
            f"labels of several kinds: {', '.join(sorted(kinds))}; expected names or numbers, "
            "not both."
        )
    return [replace(item, label=_name(label)) for item, label in zip(items, labels, strict=True)]


def _is_missing(label: Any) -> bool:
    if isinstance(label, str | bytes):
        return not label
    return label is None or (np.ndim(label) == 0 and bool(label != label))


def _kind(label: Any) -> str:
    if isinstance(label, str | bytes):
        return "text"
    if np.ndim(label) == 0 and np.asarray(label).dtype.kind in "biuf":
        return "numbers"
    raise DatasetError(
        f"a label of type {type(label).__name__}; expected a class name or number a picture "
        "(for one-hot rows: class_names[i] for i in y.argmax(1))."
    )


def _name(label: Any) -> str:
    if isinstance(label, bytes):
        return label.decode()
    if isinstance(label, str):
        return str(label)
    number = np.asarray(label).item()
    return str(int(number) if float(number).is_integer() else number)


def _listed(index: int, entry: Any, base: Path) -> Item:
    if isinstance(entry, bytes):
        return Item(str(index), None, entry)
    if isinstance(entry, str | os.PathLike) and os.fspath(entry):
        path = Path(entry)
        return Item(path.as_posix(), None, base / path)
    if isinstance(entry, np.ndarray):
        return Item(str(index), None, as_pixels(entry, ndim=3))
    if hasattr(entry, "getexif"):  # a PIL image
        from PIL import ImageOps

        return Item(str(index), None, np.asarray(ImageOps.exif_transpose(entry).convert("RGB")))
    raise DatasetError(
        f"entry {index} of the list is {entry!r} ({type(entry).__name__}); expected a path, the bytes "
        "of a picture, pixels of shape (height, width, 3), or a PIL image."
    )


class _Listing:
    """The walk through a picture folder, and what was noticed on the way."""

    def __init__(self, root: Path, follow_links: bool) -> None:
        self.root = root
        self.follow_links = follow_links
        self.noticed: Counter[str] = Counter()
        self._classes: set[str] = set()
        self._visited: set[tuple[int, int]] = set()
        self._home = os.path.realpath(root)

    def pictures(self) -> Iterator[str]:
        """Yield the relative posix path of every file that looks like a picture."""
        return self._walk(os.fspath(self.root), "")

    def _walk(self, folder: str, prefix: str) -> Iterator[str]:
        about = os.stat(folder)
        if (about.st_dev, about.st_ino) in self._visited:
            self.noticed["folders met twice through links, visited once"] += 1
            return
        self._visited.add((about.st_dev, about.st_ino))
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise DatasetError(f"the folder {folder} cannot be listed: {error.strerror}.") from error
        for entry in entries:
            path = prefix + entry.name
            if entry.name.startswith(".") or entry.name.lower() in _CLUTTER:
                self.noticed["hidden or system files and folders, skipped"] += 1
            elif entry.is_symlink() and not self._may_follow(entry):
                self.noticed[
                    "links that lead out of the folder, not followed "
                    "(Dataset.from_folder(..., follow_links=True) follows them)"
                ] += 1
            elif entry.is_dir():
                if not prefix:
                    self._classes.add(entry.name)
                yield from self._walk(entry.path, path + "/")
            elif self._looks_like_a_picture(entry):
                yield path

    def _may_follow(self, entry: os.DirEntry[str]) -> bool:
        target = os.path.realpath(entry.path)
        return self.follow_links or target.startswith(self._home + os.sep) or target == self._home

    def _looks_like_a_picture(self, entry: os.DirEntry[str]) -> bool:
        suffix = PurePosixPath(entry.name).suffix.lower()
        if suffix in SUFFIXES or suffix in FOREIGN_SUFFIXES:
            return True
        # No suffix or another one: the content decides, so that a note.txt is no bad picture.
        try:
            if entry.is_file():
                with open(entry.path, "rb") as file:
                    if is_picture(file.read(16)):
                        return True
        except OSError:
            pass
        self.noticed[f"files that are no pictures ({suffix or 'no suffix'}), skipped"] += 1
        return False

    def note_empty_classes(self, used: set[str]) -> None:
        for name in sorted(self._classes - used):
            self.noticed[f"folder without a picture, no class: {name!r}"] = 1

    def notes(self, paths: Sequence[str]) -> list[str]:
        """Return a sentence for each kind of thing that was noticed."""
        twins = len(paths) - len({unicodedata.normalize("NFC", path) for path in paths})
        if twins:
            self.noticed["names that differ only in their Unicode form, kept as two"] = twins
        return [f"{count} {what}." for what, count in sorted(self.noticed.items())]


class _Stream:
    """The items of a tf.data.Dataset; TensorFlow itself is not named here."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._names = getattr(stream, "class_names", None)
        spec = stream.element_spec
        self._has_label = isinstance(spec, tuple | list)
        if self._has_label and len(spec) != 2:
            raise DatasetError(
                f"a tf.data.Dataset of {len(spec)} parts; expected (image, label) or images."
            )
        shape = (spec[0] if self._has_label else spec).shape
        if shape.rank not in (3, 4):
            raise DatasetError(
                f"a tf.data.Dataset of shape {shape}; expected images of (height, width, 3), batched or not."
            )
        self._batched = shape.rank == 4

    def __iter__(self) -> Iterator[Item]:
        number = 0
        high = 0.0
        for element in self._stream.as_numpy_iterator():
            images, labels = element if self._has_label else (element, None)
            if not self._batched:
                images, labels = images[None], None if labels is None else [labels]
            high = max(high, float(images.max(initial=0)))
            # One dark picture may lie below 1; a whole stream that does was divided by 255.
            dark = images.dtype.kind == "f" and high > 1 >= images.max(initial=0)
            pixels = np.rint(images).astype(np.uint8) if dark else as_pixels(images, ndim=4)
            rows: Iterable[Item] = [
                Item(str(number + i), None, row) for i, row in enumerate(pixels)
            ]
            if labels is not None:
                rows = _labelled(list(rows), [self._label(label) for label in labels])
            yield from chain(rows)
            number += len(pixels)
        if not number:
            raise EmptyDatasetError("the tf.data.Dataset gave no picture.")

    def _label(self, label: Any) -> Any:
        if self._names is not None and np.ndim(label) == 0 and np.asarray(label).dtype.kind in "iu":
            return self._names[int(label)]
        return label
