"""A data set of Hugging Face's `datasets`: the encoded images that it holds, and their classes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from featx.datasets.items import Item, with_labels
from featx.errors import DatasetError, EmptyDatasetError, ImageReadError, ImageTooLargeError
from featx.images.elsewhere import Elsewhere, Version


def is_one(source: Any) -> bool:
    """Return whether a source comes from that library; it is not imported for it."""
    kind = type(source)
    return kind.__module__.startswith("datasets.") and hasattr(source, "cast_column")


@dataclass(frozen=True, eq=False, slots=True)
class Row(Elsewhere):
    """An image in a row of a table.

    Attributes
    ----------
    rows : datasets.Dataset
        Its images are not decoded.
    column : str
    number : int
    name : str
    """

    rows: Any
    column: str
    number: int
    name: str

    @property
    def address(self) -> str:  # type: ignore[override]
        """The column and the row; nothing is looked up by it, since it has no version."""
        return f"huggingface:{self.column}/{self.number}"

    def read(self, max_bytes: int) -> tuple[bytes, Version | None]:
        """Return the bytes in the row."""
        cell = self.rows[self.number][self.column]
        content = None if cell is None else cell["bytes"]
        if content is None:
            raise ImageReadError(f"row {self.number} of the data set holds no image")
        if len(content) > max_bytes:
            raise ImageTooLargeError(
                f"the file has {len(content):,} bytes; the limit is {max_bytes:,}. "
                "Save a smaller copy"
            )
        return content, None


def items_of(source: Any, path_column: str, label_column: Any) -> list[Item]:
    """Return the images of a `datasets.Dataset` with their labels, in its order.

    Parameters
    ----------
    source : datasets.Dataset
    path_column : str
        The column of images, where there are several.
    label_column : str or None
        That of the labels; the only one of class labels where it has another name.

    Raises
    ------
    DatasetError
        It is streamed, or has several parts; or a column is missing, or several may be meant.
    """
    if isinstance(source, dict):
        names = list(source)
        raise DatasetError(
            f"a {type(source).__name__} of the parts {', '.join(map(repr, names))}; pass one of "
            f"them, such as the_data_set[{names[0] if names else 'train'!r}]."
        )
    if not hasattr(source, "flatten") or not hasattr(source, "__len__"):
        raise DatasetError(
            f"a {type(source).__name__} is read once and in one order. Load it without "
            "streaming=True, or pass a list of its images."
        )
    if not len(source):
        raise EmptyDatasetError("the data set holds no image: it has no rows.")
    column = _image_column(source, path_column)
    rows = source.cast_column(column, type(source.features[column])(decode=False))
    rows = rows.with_format(None).select_columns([column])
    paths = list(rows.flatten()[f"{column}.path"])
    names = _ids(paths)
    items = []
    for number, (path, name) in enumerate(zip(paths, names, strict=True)):
        if path and os.path.isabs(path) and rows[number][column]["bytes"] is None:
            items.append(Item(name, None, Path(path)))
        else:
            items.append(Item(name, None, Row(rows, column, number, PurePath(path or "").name)))
    return list(with_labels(items, _labels(source, label_column)))


def _image_column(source: Any, wanted: str) -> str:
    found = [name for name, kind in source.features.items() if type(kind).__name__ == "Image"]
    if wanted in found or len(found) == 1:
        return wanted if wanted in found else found[0]
    listed = ", ".join(map(repr, found or source.features))
    if not found:
        raise DatasetError(
            f"the data set has no column of images; it has {listed}. Cast the one that holds them: "
            "data.cast_column(name, datasets.Image())."
        )
    raise DatasetError(f"the data set has several columns of images: {listed}. Keep one of them.")


def _labels(source: Any, wanted: Any) -> list[Any] | None:
    if wanted is None:
        return None
    kinds = source.features
    found = [name for name, kind in kinds.items() if type(kind).__name__ == "ClassLabel"]
    column = wanted if wanted in kinds else found[0] if len(found) == 1 else None
    if column is None:
        if not found:
            return None
        raise DatasetError(
            f"the data set has several columns of class labels: {', '.join(map(repr, found))}. "
            "Rename the one that is meant to 'label' (rename_column)."
        )
    values, names = list(source[column]), getattr(kinds[column], "names", None)
    if names is not None:
        # -1 stands for an unknown class.
        values = [None if value is None or value < 0 else names[value] for value in values]
    return None if all(value is None for value in values) else values


def _ids(paths: list[str | None]) -> list[str]:
    """Return the paths below the folder that all are in, where each has one; else positions."""
    given = [path for path in paths if path]
    if len(set(given)) < len(paths):
        return [str(number) for number in range(len(paths))]
    if all(os.path.isabs(path) for path in given) and len(given) > 1:
        folder = os.path.commonpath(given)
        given = [os.path.relpath(path, folder) for path in given]
    return [PurePath(path).as_posix() for path in given]
