"""Which group each image belongs to: a patient, a site, a camera, a day."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.datasets.table import is_table, read_csv
from featx.errors import DatasetError
from featx.formatting import counted
from featx.labels import class_name

if TYPE_CHECKING:
    from featx.datasets.dataset import Dataset
    from featx.features import Features

Groups = str | re.Pattern[str] | Callable[[str], Any] | Sequence[Any]
"""A column of the table, a pattern or function of the id, or one name or number per image."""


def groups_of(groups: Any, source: Any, images: Dataset | Features) -> np.ndarray:
    """Return the group of each image, as text.

    Parameters
    ----------
    groups : str, re.Pattern, callable, or sequence of n names or numbers
        The name of a column of `source`; a pattern that is searched for in each id, whose first
        group (in parentheses), or else the whole match, is the name; a function of the id, such as
        ``lambda id: id.split("/")[1]``; or one entry per image, in their order.
    source : anything that `as_dataset` takes
        What `images` were made from; only a table has columns.
    images : Dataset or Features
        The ids are the paths in the folder, with forward slashes, or as the list or table has them.

    Returns
    -------
    ndarray of str objects, shape (n,)

    Raises
    ------
    DatasetError
        No such column, or there is no table; not one entry per image; a group is missing.
    """
    if isinstance(groups, str):
        found = _column(groups, source)
    elif isinstance(groups, re.Pattern):
        found = [_matched(groups, name) for name in images.ids]
    elif callable(groups):
        found = [_called(groups, name) for name in images.ids]
    elif isinstance(groups, bytes) or not hasattr(groups, "__len__"):
        raise DatasetError(
            f"groups={groups!r:.80}: expected the name of a column of the table, a list with one "
            "name per image, or a function of an image's id."
        )
    else:
        found = list(groups)
    if len(found) != len(images):
        raise DatasetError(
            f"{counted(len(found), 'group', 'groups')} for "
            f"{counted(len(images), 'image', 'images')}; expected one for each, in their order."
        )
    missing = [i for i, group in enumerate(found) if _is_missing(group)]
    if missing:
        raise DatasetError(
            f"{counted(len(missing), 'image has', 'images have')} no group (such as "
            f"{images.ids[missing[0]]!r}). Give each "
            "image one; one that belongs to no group is a group of its own."
        )
    names = np.empty(len(found), dtype=object)
    names[:] = [class_name(str(group)) for group in found]
    return names


def _column(name: str, source: Any) -> list[Any]:
    table = source
    if is_table(source):
        table = read_csv(Path(source))
    if not hasattr(table, "columns"):
        shown = str(source) if isinstance(source, str | os.PathLike) else type(source).__name__
        raise DatasetError(
            f"groups={name!r} is the name of a column, and {shown} is not a table. Give a pattern "
            "that finds the group in the path (groups=re.compile(...), --groups-pattern on the "
            "command line), a function of the path, or a list with one name per image."
        )
    if name not in table.columns:
        raise DatasetError(
            f"the table has no column {name!r} to group by; it has "
            f"{', '.join(map(repr, map(str, table.columns)))}. Pass groups=..., --groups-column on "
            "the command line."
        )
    return list(table[name])


def _called(function: Callable[[str], Any], name: str) -> Any:
    try:
        return function(name)
    except Exception as error:
        raise DatasetError(
            f"the function given as groups fails for the id {name!r}: {type(error).__name__}: "
            f"{error}."
        ) from error


def _matched(pattern: re.Pattern[str], name: str) -> str:
    found = pattern.search(name)
    if found is None or (pattern.groups and found[1] is None):
        raise DatasetError(
            f"the pattern {pattern.pattern!r} finds no group in {name!r}; expected one that finds "
            "some in every path, such as 'patient_([0-9]+)'."
        )
    return found[1] if pattern.groups else found[0]


def _is_missing(group: Any) -> bool:
    if isinstance(group, str):
        return not group
    return group is None or (np.ndim(group) == 0 and str(group) in ("nan", "NaT", "<NA>"))
