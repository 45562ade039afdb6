"""What a dataset is: images in order, each with an id and perhaps a label."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featx.datasets.items import Item, as_pixels, label_array, with_labels
from featx.datasets.listing import Listing
from featx.datasets.tf_data import Stream
from featx.errors import DatasetError, EmptyDatasetError
from featx.images.formats import SUFFIXES

logger = logging.getLogger(__name__)


class Dataset:
    """Images in a fixed order; a path is not opened before its image is needed.

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
        if isinstance(items, str | bytes | os.PathLike):
            raise DatasetError(f"Dataset({items!r}): expected items; see Dataset.from_folder.")
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
        """The number of images where it is known without reading a stream."""
        return len(self._items) if isinstance(self._items, Sequence) else None

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]

    def __repr__(self) -> str:
        length = "a stream of" if self.known_length is None else f"{self.known_length:,}"
        return f"<featx.Dataset: {length} images{f' in {self.location}' if self.location else ''}>"

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
        """Return the images at these positions, in that order."""
        return Dataset([self.items[int(i)] for i in indices], self.notes, self.location)

    @classmethod
    def from_folder(cls, root: str | os.PathLike[str], *, follow_links: bool = False) -> Dataset:
        """List a folder: one sub-folder per class; without sub-folders there are no labels.

        Parameters
        ----------
        root : path
            The folder. Files below a class folder belong to that class, however deep.
        follow_links : bool, default=False
            Whether links that lead out of the folder are followed.

        Raises
        ------
        DatasetError
            The folder is missing or is a file; ``EmptyDatasetError`` if it holds no image.
        """
        root = Path(root)
        if not root.is_dir():
            what = "is a file, not a folder" if root.exists() else "does not exist"
            raise DatasetError(
                f"the dataset {root} {what}. Expected a folder with one sub-folder per class, a "
                "folder of images, or a .csv file."
            )
        listing = Listing(root, follow_links)
        paths = sorted(listing.images(), key=os.fsencode)
        labelled = any("/" in path for path in paths)
        loose = [path for path in paths if "/" not in path]
        if labelled and loose:
            listing.noticed[f"images beside the class folders, skipped (such as {loose[0]})"] = len(
                loose
            )
            paths = [path for path in paths if "/" in path]
        if labelled:
            listing.note_empty_classes({path.split("/", 1)[0] for path in paths})
        if not paths:
            raise EmptyDatasetError(
                f"no image in {root}. {' '.join(listing.notes(paths)) or 'The folder is empty.'} "
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
            folder = folder or source.parent
            try:
                # As text: "NA" and "007" are labels like any other.
                table = pd.read_csv(source, dtype=str, keep_default_na=False)
            except (OSError, ValueError) as error:
                raise DatasetError(f"the table {source} cannot be read: {error}.") from error
        for option, column in (("path_column", path_column), ("label_column", label_column)):
            if column is not None and column not in table.columns:
                none = ", or None for a table without labels (none there)"
                remedy = none if option == "label_column" else ""
                raise DatasetError(
                    f"the table has no column {column!r}; it has "
                    f"{', '.join(map(repr, map(str, table.columns)))}. Pass "
                    f"{option}=... to featx.Dataset.from_table, --{option.replace('_', '-')} on "
                    f"the command line{remedy}."
                )
        labels = None
        if label_column is not None:
            column = table[label_column].astype(object)
            labels = column.where(column.notna(), None).tolist()
        return cls.from_paths(list(table[path_column]), labels, folder=folder)

    @classmethod
    def from_paths(
        cls,
        paths: Sequence[Any],
        labels: Sequence[Any] | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
    ) -> Dataset:
        """Take a list of paths, encoded images (bytes), pixels or PIL images, in its order.

        Raises
        ------
        DatasetError
            The labels do not fit the paths, a label is missing, or an entry is of another kind.
        """
        if isinstance(paths, str | bytes | os.PathLike):
            raise DatasetError(
                f"a single path, {paths!r}; expected a list, or Dataset.from_folder for a folder."
            )
        base = Path() if folder is None else Path(folder)
        items = [_listed(i, entry, base) for i, entry in enumerate(paths)]
        if not items:
            raise EmptyDatasetError("the list of images is empty; expected at least one path.")
        return cls(with_labels(items, labels), location=base)

    @classmethod
    def from_array(cls, pixels: np.ndarray, labels: Sequence[Any] | None = None) -> Dataset:
        """Return a dataset of pixels of shape (n, height, width, 3), RGB 0-255; ids are positions.

        Raises
        ------
        InputRangeError
            The pixels are 0-1 or otherwise outside 0-255.
        DatasetError
            The shape is not (n, height, width, 3), or a value is NaN.
        """
        pixels = as_pixels(pixels, ndim=4)
        if not len(pixels):
            raise EmptyDatasetError("the array holds no image: its first dimension is 0.")
        return cls(
            with_labels([Item(str(i), None, image) for i, image in enumerate(pixels)], labels)
        )

    @classmethod
    def from_tf(cls, stream: Any) -> Dataset:
        """Take a ``tf.data.Dataset`` of (image, label) or images, batched or not, as a stream."""
        return cls(Stream(stream))


def as_dataset(
    source: Any,
    labels: Sequence[Any] | None = None,
    *,
    path_column: str = "path",
    label_column: str | None = "label",
    follow_links: bool = False,
) -> Dataset:
    """Return anything featx takes as a Dataset.

    Parameters
    ----------
    source : Dataset, path, list, numpy.ndarray, pandas.DataFrame or tf.data.Dataset
        A folder, a ``.csv`` file or a DataFrame, a list of paths or images, an array of shape
        (n, height, width, 3), a stream of (image, label).
    labels : sequence, optional
        One label per image, in place of those that are there.
    path_column, label_column : str
        For tables; ``label_column=None`` means there are no labels.
    follow_links : bool, default=False
        For folders: whether links that lead out of the folder are followed.

    Raises
    ------
    DatasetError
        The message names what came.
    """
    columns: dict[str, Any] = {"path_column": path_column, "label_column": label_column}
    if isinstance(source, str | os.PathLike):
        if os.fspath(source).lower().endswith(".csv"):
            source = Dataset.from_table(source, **columns)
        else:
            source = Dataset.from_folder(source, follow_links=follow_links)
    elif type(source).__name__ == "DataFrame":
        source = Dataset.from_table(source, **columns)
    elif hasattr(source, "as_numpy_iterator"):
        source = Dataset.from_tf(source)
    elif isinstance(source, np.ndarray) and source.dtype.kind not in "OUS":
        return Dataset.from_array(source, labels)
    elif type(source).__name__ == "Series" or (
        isinstance(source, np.ndarray | Sequence) and not isinstance(source, bytes)
    ):
        return Dataset.from_paths(list(source), labels)
    elif not isinstance(source, Dataset):
        raise DatasetError(
            f"a dataset cannot be made of {type(source).__name__}. Expected a folder, a .csv "
            "file, a DataFrame, a list of paths, an array of shape (n, height, width, 3), ..."
        )
    if labels is None:
        return source
    return Dataset(with_labels(source.items, labels), source.notes, source.location)


def _listed(index: int, entry: Any, base: Path) -> Item:
    if isinstance(entry, bytes):
        return Item(str(index), None, entry)
    if isinstance(entry, str | os.PathLike) and os.fspath(entry):
        path = Path(entry)
        return Item(path.as_posix(), None, base / path)
    if isinstance(entry, np.ndarray):
        return Item(str(index), None, as_pixels(entry, ndim=3))
    if hasattr(entry, "getexif"):  # a PIL image: decoded where all others are
        return Item(str(index), None, entry)
    raise DatasetError(
        f"entry {index} of the list is {entry!r} ({type(entry).__name__}); expected a path, the "
        "bytes of an image, pixels of shape (height, width, 3), or a PIL image."
    )
