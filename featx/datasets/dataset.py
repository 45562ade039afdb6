"""What a dataset is: images in order, each with an id and perhaps a label."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from featx.datasets import archives, huggingface, places, torch_data
from featx.datasets.items import Item, as_pixels, with_labels
from featx.datasets.listing import Listing, TreeListing
from featx.datasets.parts import Folder, inner_folder, refuse_parts
from featx.datasets.table import Columns, is_table, read_table
from featx.datasets.tf_data import Stream, not_endless
from featx.datasets.tree import TreeFolder
from featx.errors import DatasetError, EmptyDatasetError
from featx.images.formats import SUFFIXES
from featx.labels import Label, class_name, class_order, label_array, notes_on

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
    location : Path or str, optional
        The folder that the ids are relative to, or its address.
    """

    def __init__(
        self,
        items: Iterable[Item],
        notes: Sequence[str] = (),
        location: Path | str | None = None,
    ) -> None:
        if isinstance(items, str | bytes | os.PathLike):
            raise DatasetError(f"Dataset({items!r}): expected items; see Dataset.from_folder.")
        # What can be read only once is read now.
        self._items = list(items) if isinstance(items, Iterator) else items
        self._passes = 0
        self.notes = tuple(notes)
        self.location = location

    @property
    def items(self) -> Sequence[Item]:
        """All items; a stream is read once and kept in memory."""
        if not isinstance(self._items, Sequence):
            if self._passes:
                logger.warning(
                    "a stream is read a second time, and may give other images or another order: "
                    "labels and ids of the first time are those of the features"
                )
            self._items = list(iter(self))  # `list(self)` would ask for the length
        return self._items

    @property
    def known_length(self) -> int | None:
        """The number of images where it is known without reading a stream."""
        return len(self._items) if isinstance(self._items, Sequence) else None

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        if isinstance(self._items, Sequence | Stream):
            self._passes += 1
            return iter(self._items)
        self._passes += 1
        return not_endless(self._items)

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
        """The labels, shape (n,), or None without: text as objects, numbers as numbers."""
        return label_array([item.label for item in self.items])

    @property
    def classes(self) -> list[Any]:
        """The distinct labels in the order of ``class_order``; empty without labels."""
        return class_order(item.label for item in self.items if item.label is not None)

    def subset(self, indices: Iterable[int]) -> Dataset:
        """Return the images at these positions, in that order."""
        return Dataset([self.items[int(i)] for i in indices], self.notes, self.location)

    @classmethod
    def from_folder(
        cls, root: str | os.PathLike[str], *, follow_links: bool = False, labelled: bool = True
    ) -> Dataset:
        """List a folder: one sub-folder per class; without sub-folders there are no labels.

        Parameters
        ----------
        root : path
            The folder. Files below a class folder belong to that class, however deep. If its only
            sub-folder is the one that holds the class folders, that one is listed.
        follow_links : bool, default=False
            Whether links that lead out of the folder are followed.
        labelled : bool, default=True
            False: every image in the folder, however deep, without a label.

        Raises
        ------
        DatasetError
            The folder is missing or is a file, or holds parts of a data set (train, test) in place
            of classes; ``EmptyDatasetError`` if it holds no image.
        """
        given, root = os.fspath(root), Path(root)
        if not root.is_dir():
            raise DatasetError(
                f"the dataset {given} {_no_folder(given)}. Expected a folder with one sub-folder "
                "per class, a folder of images, an archive of either, or a .csv file."
            )
        return _listed_folder(root, labelled, follow_links)

    @classmethod
    def from_archive(
        cls,
        archive: str | os.PathLike[str],
        *,
        labelled: bool = True,
        progress: bool = False,
    ) -> Dataset:
        """List an archive as a folder is listed; its images are read where they lie in it.

        Parameters
        ----------
        archive : path
            A .zip or .tar file, also compressed (.tar.gz, .tar.bz2, .tar.xz); a folder in one, such
            as ``photos.zip/train``; or several, such as the shards of a WebDataset:
            ``train-{000..012}.tar``, ``train-*.tar``. Where a file ``NAME.cls`` stands beside each
            image, it holds the image's class.
        labelled : bool, default=True
            False: every image in it, however deep, without a label.
        progress : bool, default=False
            Whether a bar is shown while a compressed .tar is unpacked, to a temporary file.

        Raises
        ------
        DatasetError
            It is missing, damaged or no such archive; it holds paths that lead out of it, files
            that overlap, or over 100 times its size; links in it are left out with a note.
        """
        folders = places.folders_at(archive, progress=progress)
        if folders is None:
            raise DatasetError(
                f"the archive {os.fspath(archive)} {_no_folder(os.fspath(archive))}. Expected a "
                f"file such as {', '.join(archives.SUFFIXES)}."
            )
        return _of_folders(folders, labelled)

    @classmethod
    def from_table(
        cls,
        table: Any,
        *,
        path_column: str = "path",
        label_column: str | Sequence[str] | None = "label",
        folder: str | os.PathLike[str] | None = None,
        suffix: str = "",
    ) -> Dataset:
        """Read a CSV file or a DataFrame with a column of paths and one of labels.

        Parameters
        ----------
        table : path of a .csv file, or DataFrame of pandas or polars
            Labels from a file are text; those of a DataFrame keep their type.
        path_column : str
            The column of paths, or of names that become paths with `folder` and `suffix`.
        label_column : str, sequence of str or None
            The column of labels; several columns, one per class, hold 1 in that of the image's
            class and else 0; None means there are no labels.
        folder : path, optional
            What relative paths are relative to: the CSV's folder, or the working folder.
        suffix : str, default=""
            Appended to each path, such as ".png".

        Raises
        ------
        DatasetError
            The file or a column is missing, a path or label is empty, or none of the first images
            is where the table says; the message says what lies near by.
        """
        columns = Columns(path_column, label_column, folder, suffix)
        paths, labels, base = read_table(table, columns)
        return cls.from_paths(paths, labels, folder=base)

    @classmethod
    def from_paths(
        cls,
        paths: Sequence[Any],
        labels: Sequence[Any] | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
    ) -> Dataset:
        """Take a list of paths, addresses, encoded images, pixels or PIL images, in its order.

        Parameters
        ----------
        paths : sequence of path, str, bytes, ndarray or PIL image
            Addresses (``https://host/1.jpg``) lead to the public internet, or to a host that the
            environment names in FEATX_PRIVATE_HOSTS (comma-separated).
        labels : sequence, optional
            One label per image.
        folder : path, optional
            What relative paths are relative to.

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
        labelled = with_labels(items, labels)
        return cls(labelled, _noted(item.label for item in labelled), base)

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
        items = with_labels([Item(str(i), None, image) for i, image in enumerate(pixels)], labels)
        return cls(items, _noted(item.label for item in items))

    @classmethod
    def from_huggingface(
        cls, data: Any, *, path_column: str = "image", label_column: str | None = "label"
    ) -> Dataset:
        """Take a ``datasets.Dataset`` with a column of images, as they were encoded.

        Parameters
        ----------
        data : datasets.Dataset
            One part ("train"), not streamed.
        path_column : str
            The column of images; if there is only one, whatever its name is.
        label_column : str or None
            The column of labels, or the only one of class labels; None: without labels.

        Raises
        ------
        DatasetError
            It has several parts, is streamed, or has no such column.
        """
        items = huggingface.items_of(data, path_column, label_column)
        return cls(items, _noted(item.label for item in items))

    @classmethod
    def from_torch(cls, data: Any) -> Dataset:
        """Take a data set or a loader of PyTorch.

        A torchvision ``ImageFolder``, or a part of one (``random_split``), stands for its files,
        without its transform. Others are read once and in their order: PIL images, or tensors of
        shape (3, height, width), uint8 or floating-point numbers from 0 to 1; whole numbers as
        labels become names where the data set has `classes`.
        """
        files = torch_data.files_of(data)
        if files is None:
            return cls(torch_data.TorchStream(data))
        return cls(files[0], _noted(item.label for item in files[0]), files[1])

    @classmethod
    def from_tf(cls, stream: Any) -> Dataset:
        """Take a ``tf.data.Dataset`` of (image, label) or images, batched or not, as a stream."""
        return cls(Stream(stream))


def _listed_folder(root: Folder, labelled: bool, follow_links: bool = False) -> Dataset:
    """Return the images of a folder: one sub-folder per class, where it has sub-folders."""
    notes = []
    # A WebDataset has the class of each image in a file beside it.
    beside = labelled and isinstance(root, TreeFolder) and root.tree.has_labels
    if labelled and not beside:
        inner = inner_folder(root)
        if inner != root:
            notes.append(f"The classes are the sub-folders of {inner}, the only folder there.")
        root = inner
        refuse_parts(root)
    listing = TreeListing(root) if isinstance(root, TreeFolder) else Listing(root, follow_links)
    paths = sorted(listing.images(), key=os.fsencode)
    in_classes = labelled and not beside and any("/" in path for path in paths)
    if in_classes:
        paths = listing.in_classes(paths)
    notes += listing.notes(paths)
    if not paths:
        raise EmptyDatasetError(
            f"no image in {root}. {' '.join(notes) or 'It is empty.'} "
            f"Expected files such as {', '.join(sorted(SUFFIXES))}."
        )
    labels: Sequence[str | None] = [None] * len(paths)
    if in_classes:
        labels = [class_name(path.split("/", 1)[0]) for path in paths]
    elif beside and isinstance(root, TreeFolder):
        labels = [class_name(label) for label in root.labels_of(paths)]
    items = listing.items(paths, labels)
    for note in notes:
        logger.warning("%s: %s", root, note)
    return Dataset(items, _noted(labels, notes), listing.location)


def _of_folders(folders: Sequence[TreeFolder], labelled: bool) -> Dataset:
    parts = [_listed_folder(folder, labelled) for folder in folders]
    if len(parts) == 1:
        return parts[0]
    return _joined(parts, [folder.name for folder in folders])


def _joined(parts: Sequence[Dataset], names: Sequence[str]) -> Dataset:
    """Return the images of several archives, each id with its archive's name before it."""
    items = [
        replace(item, id=f"{name}/{item.id}")
        for part, name in zip(parts, names, strict=True)
        for item in part.items
    ]
    if len({item.label is None for item in items}) > 1:
        raise DatasetError("some of the archives have labels, and others have none.")
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    location = parts[0].location
    folder = location.parent if isinstance(location, Path) else location
    return Dataset(items, list(notes), folder)


def _no_folder(given: str) -> str:
    """Return what stands in the place of a folder, and what to do about it where that is known."""
    name = given.lower()
    if re.match(r"(?:https?|s3|gs|az):/[^/]", given):
        return "is an address that was made a path, which takes a slash from it: give it as text"
    if not os.path.exists(given):
        return "does not exist"
    if name.endswith(archives.UNREAD):
        return "is packed in a way that featx does not read: unpack it, or pack it as .zip or .tar"
    if name.endswith(tuple(SUFFIXES)):
        return "is a single image: give the folder that it is in, or a list with its path"
    return "is a file, not a folder"


def as_dataset(
    source: Any,
    labels: Any = None,
    *,
    path_column: str = "path",
    label_column: str | Sequence[str] | None = "label",
    image_folder: str | os.PathLike[str] | None = None,
    suffix: str = "",
    follow_links: bool = False,
    labelled: bool = True,
    progress: bool = False,
) -> Dataset:
    """Return anything featx takes as a Dataset.

    Parameters
    ----------
    source : Dataset, path, address, list, numpy.ndarray, DataFrame or a library's data set
        A folder, an archive (here or at an address), a ``.csv`` file or a DataFrame, a list of
        paths, addresses or images, an array of shape (n, height, width, 3), a ``tf.data.Dataset``
        of (image, label), a ``datasets.Dataset`` or a ``Dataset`` of PyTorch.
    labels : sequence, optional
        One label per image, in place of those that are there.
    path_column, label_column, image_folder, suffix
        For tables; see ``Dataset.from_table``, where `image_folder` is called `folder`.
    follow_links : bool, default=False
        For folders: whether links that lead out of the folder are followed.
    labelled : bool, default=True
        False where labels are of no use: every image in a folder is taken, and the paths of a
        table.
    progress : bool, default=False
        Whether a bar is shown while something is unpacked or fetched.

    Raises
    ------
    DatasetError
        The message names what came.
    """
    table: dict[str, Any] = {
        "path_column": path_column,
        "label_column": label_column if labelled and labels is None else None,
        "folder": image_folder,
        "suffix": suffix,
    }
    if isinstance(source, str | os.PathLike | TreeFolder):
        source = _of_path(source, table, follow_links, labelled, progress)
    elif type(source).__name__ == "DataFrame":
        source = Dataset.from_table(source, **table)
    elif hasattr(source, "as_numpy_iterator"):
        source = Dataset.from_tf(source)
    elif huggingface.is_one(source):
        source = Dataset.from_huggingface(
            source, path_column=path_column, label_column=table["label_column"]
        )
    elif torch_data.is_one(source):
        source = Dataset.from_torch(source)
    elif isinstance(source, np.ndarray) and source.dtype.kind not in "OUS":
        return Dataset.from_array(source, labels)
    elif type(source).__name__ == "Series" or (
        isinstance(source, np.ndarray | Sequence) and not isinstance(source, bytes)
    ):
        return Dataset.from_paths(list(source), labels)
    elif not isinstance(source, Dataset):
        raise DatasetError(
            f"a dataset cannot be made of {type(source).__name__}. Expected a folder, a .csv "
            "file, an archive, a DataFrame, a list of paths, an array of shape (n, height, width, "
            "3), a tf.data.Dataset, a datasets.Dataset or a Dataset of PyTorch."
        )
    if labels is None:
        return source
    items = with_labels(source.items, labels)
    return Dataset(items, _noted((item.label for item in items), source.notes), source.location)


def _of_path(
    source: Any, table: dict[str, Any], follow_links: bool, labelled: bool, progress: bool
) -> Dataset:
    if isinstance(source, TreeFolder):
        return _listed_folder(source, labelled)
    if is_table(source):
        return Dataset.from_table(source, **table)
    if (folders := places.folders_at(source, progress=progress)) is not None:
        return _of_folders(folders, labelled)
    return Dataset.from_folder(source, follow_links=follow_links, labelled=labelled)


def _noted(labels: Iterable[Label | None], notes: Sequence[str] = ()) -> list[str]:
    """Return the notes, and those on labels that look like slips of the pen, which are logged."""
    found = notes_on(labels)
    for note in found:
        logger.warning("%s", note)
    return [*notes, *found]


def _listed(index: int, entry: Any, base: Path) -> Item:
    if isinstance(entry, bytes):
        return Item(str(index), None, entry)
    if isinstance(entry, str) and places.scheme_of(entry) is not None:
        image = places.image_at(entry)
        return Item(image.address, None, image)
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
