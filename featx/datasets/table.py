"""Tables of images: columns of paths and labels, in the shapes in which people publish them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import numpy as np

from featx.datasets.places import scheme_of
from featx.errors import DatasetError, EmptyDatasetError
from featx.formatting import counted, did_you_mean

# A table whose first paths are all missing is refused before any work; so many are looked at.
_TRIED = 20
# Where a missing image may be, no more entries of a folder are looked through than this.
_LOOKED_THROUGH = 100_000


@dataclass(frozen=True)
class Columns:
    """Which columns a table has, and where its images are.

    Attributes
    ----------
    path : str
        The column of paths, or of names that become paths with `folder` and `suffix`.
    label : str, sequence of str or None
        The column of labels; one column per class, with 1 in that of the image's class; None: no
        labels.
    folder : path or None
        What relative paths are relative to; by default a CSV file's folder, or the working folder.
    suffix : str
        Appended to each path, such as ".png".
    """

    path: str = "path"
    label: str | Sequence[str] | None = "label"
    folder: str | os.PathLike[str] | None = None
    suffix: str = ""


def read_table(table: Any, columns: Columns) -> tuple[list[Any], list[Any] | None, Path]:
    """Return the paths of a table, its labels, and the folder that the paths are relative to.

    Parameters
    ----------
    table : path of a .csv file, or DataFrame of pandas or polars
    columns : Columns

    Raises
    ------
    DatasetError
        The file or a column is missing, or none of the first images is where it should be.
    """
    folder = columns.folder
    if isinstance(table, str | os.PathLike):
        source = Path(table)
        folder = source.parent if folder is None else folder
        table = read_csv(source)
    base = Path() if folder is None else Path(folder)
    if folder is not None and not base.is_dir():
        raise DatasetError(f"the folder of images {base} is not a folder, or does not exist.")
    names = [str(name) for name in table.columns]
    _check_column(names, columns.path, "path_column")
    paths = list(table[columns.path])
    if not paths:
        raise EmptyDatasetError("the table holds no image: it has a header and no rows.")
    labels = _labels(table, names, columns.label)
    return _resolved([_text(path, n) for n, path in enumerate(paths)], base, columns), labels, base


def _text(path: Any, number: int) -> str:
    """Return a path or a name in a table as text: ids are often numbers."""
    if isinstance(path, str | os.PathLike) and os.fspath(path):
        return os.fspath(path)
    if isinstance(path, int | np.integer) and not isinstance(path, bool):
        return str(path)
    raise DatasetError(
        f"row {number} of the table, counted from 0, has {path!r} as path; expected a path or a "
        "name in each row."
    )


def _labels(
    table: Any, names: Sequence[str], label: str | Sequence[str] | None
) -> list[Any] | None:
    if label is None:
        return None
    if isinstance(label, str) and label not in names and "," in label:
        label = [name.strip() for name in label.split(",")]
    if isinstance(label, str):
        if label not in names:
            _check_column(names, label, "label_column", _one_hot_advice(table, names))
        return list(table[label])
    for name in label:
        _check_column(names, name, "label_column")
    return _of_one_hot(table, list(label))


def is_table(source: Any) -> bool:
    """Return whether a source is the path of a table."""
    text = isinstance(source, str | os.PathLike)
    return text and os.fspath(source).lower().endswith((".csv", ".tsv"))


def read_csv(source: Path) -> Any:
    """Return the table of a file as text; commas, semicolons or tabs divide its columns.

    Raises
    ------
    DatasetError
        It cannot be read.
    """
    import pandas as pd

    if re.match(r"https?:/", str(source)):
        raise DatasetError(
            f"the table {source} is at an address: fetch it to this machine first; its column of "
            "paths may hold addresses."
        )
    try:
        with open(source, encoding="utf-8-sig") as file:
            head = file.readline()
        # Spreadsheets of half of Europe write semicolons.
        separator = max(",;\t", key=head.count)
        # As text: "NA" and "007" are labels like any other.
        return pd.read_csv(source, sep=separator, dtype=str, keep_default_na=False)
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"the table {source} is not UTF-8 ({error}): save it as CSV in UTF-8, or read it with "
            "pandas.read_csv(..., encoding=...) and pass the DataFrame."
        ) from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"the table {source} cannot be read: {error}.") from error


def _check_column(names: Sequence[str], column: str, option: str, advice: str = "") -> None:
    if column in names:
        return
    without = ""
    if option == "label_column":
        without = " (label_column=None, or none for `featx extract`, where there are no labels)"
    raise DatasetError(
        f"the table has no column {column!r}; it has {', '.join(map(repr, names))}."
        f"{did_you_mean(column, names)} Pass {option}=... to featx.Dataset.from_table, "
        f"--{option.replace('_', '-')} on the command line{without}.{advice}"
    )


def _of_one_hot(table: Any, names: Sequence[str]) -> list[str]:
    """Return the class of each image, of a table with one column per class."""
    try:
        values = np.array([[_number(value) for value in table[name]] for name in names]).T
    except (TypeError, ValueError) as error:
        raise DatasetError(
            f"the columns {', '.join(map(repr, names))} are taken as one per class, and hold "
            f"other values than 0 and 1: {error}."
        ) from error
    wrong = np.flatnonzero(~(np.isin(values, (0.0, 1.0)).all(axis=1) & (values.sum(axis=1) == 1)))
    if len(wrong):
        raise DatasetError(
            f"{counted(len(wrong), 'row does', 'rows do')} not have one 1 and else 0 in the "
            "columns "
            f"{', '.join(map(repr, names))} (such as row {wrong[0]}, counted from 0). featx trains "
            "on one class per image."
        )
    return [names[position] for position in values.argmax(axis=1)]


def _number(value: Any) -> float:
    text = str(value).casefold()
    return float(text == "true") if text in ("true", "false") else float(value)


def _one_hot_advice(table: Any, names: Sequence[str]) -> str:
    """Return a hint if some columns hold 0 and 1 alone, and each row one 1; else nothing."""
    binary = [name for name in names if set(map(str, table[name])) == {"0", "1"}]
    binary += [name for name in names if set(map(str, table[name])) == {"0.0", "1.0"}]
    if len(binary) < 2:
        return ""
    try:
        _of_one_hot(table, binary)
    except DatasetError:
        return ""
    listed = ",".join(binary)
    return (
        f" These look like one column per class: label_column={binary!r} (--label-column {listed})."
    )


def _resolved(paths: Sequence[str], base: Path, columns: Columns) -> list[str]:
    """Return the paths with the suffix, Windows separators replaced where that finds the image."""
    given = [f"{path}{columns.suffix}" for path in paths]
    given = [
        PureWindowsPath(path).as_posix() if "\\" in path and not _may_exist(base / path) else path
        for path in given
    ]
    tried = given[:_TRIED]
    if not any(scheme_of(path) or _may_exist(base / path) for path in tried):
        raise DatasetError(_nowhere(tried[0], len(tried), base, columns))
    return given


def _may_exist(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a name with a zero byte
        return False


def _nowhere(path: str, tried: int, base: Path, columns: Columns) -> str:
    """Return the sentence on a table whose images are not there: where it looked, what is near."""
    which = "its image" if tried == 1 else f"any of its first {tried} images"
    message = f"the table's column {columns.path!r} does not lead to {which}: {base / path} does "
    message += "not exist."
    found = _nearby(path, base)
    if found is None:
        there = ", ".join(sorted(os.listdir(base))[:10]) if base.is_dir() else "no such folder"
        return (
            f"{message} In {base} are: {there or 'no files'}. Pass folder=... to "
            "featx.Dataset.from_table (--image-folder on the command line) if the images lie "
            'elsewhere, and suffix=".jpg" (--suffix) if the names lack it.'
        )
    folder, tail, suffix = found
    python, shell = [], []
    if folder != base:
        python.append(f"folder={os.fspath(folder)!r}")
        shell.append(f"--image-folder {folder}")
    if suffix:
        python.append(f"suffix={columns.suffix + suffix!r}")
        shell.append(f"--suffix {columns.suffix + suffix}")
    message += f" {folder / (os.fspath(tail) + suffix)} does"
    options = (
        f"pass {', '.join(python)} to featx.Dataset.from_table ({' '.join(shell)} on the command "
        "line)"
    )
    if tail == PurePath(path):
        return f"{message}: {options}."
    many = len(tail.parts)
    return (
        f"{message}: the table's paths are those of another machine or folder. Keep the last "
        f"{'part' if many == 1 else f'{many} parts'} of each, in Python with "
        f'["/".join(PureWindowsPath(path).parts[-{many}:]) for path in table[{columns.path!r}]]'
        + (f", and {options}." if python else ".")
    )


def _nearby(path: str, base: Path) -> tuple[Path, PurePath, str] | None:
    """Return the folder, the end of a missing path and the suffix with which it would exist.

    Ends of it are looked for from the longest to the name alone: what leads to the images on the
    machine that wrote the table, such as ``C:/photos``, is not here.
    """
    parts = PurePath(path).parts
    # The drive of Windows is a folder's name elsewhere.
    absolute = PureWindowsPath(path).anchor != ""
    folders = [base]
    if base.is_dir():
        folders += sorted(one for one in base.iterdir() if one.is_dir())[:_TRIED]
    for start in range(1 if absolute else 0, len(parts)):
        wanted = PurePath(*parts[start:])
        for folder in folders:
            suffix = _suffix_there(folder / wanted)
            if suffix is not None and (suffix or start or folder != base):
                return folder, wanted, suffix
    return None


def _suffix_there(wanted: Path) -> str | None:
    """Return the suffix with which a path exists, an empty one if it does, None if it does not."""
    if not wanted.parent.is_dir():
        return None
    if wanted.is_file():
        return ""
    with os.scandir(wanted.parent) as entries:
        for entry in islice(entries, _LOOKED_THROUGH):
            stem, suffix = os.path.splitext(entry.name)
            if stem == wanted.name and suffix and entry.is_file():
                return suffix
    return None
