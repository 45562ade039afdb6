"""Predictions for many images, the bad ones included."""

from __future__ import annotations

import csv
import glob
import io
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.datasets.listing import Listing
from featx.datasets.table import Columns, is_table, read_table
from featx.errors import EmptyDatasetError, TooManyBadImagesError
from featx.features import Features

logger = logging.getLogger(__name__)

CHUNK = 256
# Few enough bad ones that a chunk of nothing else does not look like a fault of the disk.
_FEW = 20
# A spreadsheet takes a cell that begins so for a formula, whoever wrote it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model predicts for one image.

    Attributes
    ----------
    image : str
        Its path, as it was given.
    top : list of (str, float or None)
        The most probable classes, best first; None where the head gives no probabilities.
    error : str
        Why there is no prediction; empty where there is one.
    embedding : ndarray of shape (dim,) or None
    """

    image: str
    top: list[tuple[str, float | None]]
    error: str = ""
    embedding: np.ndarray | None = None


def paths_of(
    arguments: Sequence[str], columns: Columns | None = None, *, follow_links: bool = False
) -> list[Path]:
    """Return the images that files, folders, tables and patterns such as ``*.jpg`` stand for.

    A folder stands for every image in it, however deep; a ``.csv`` file for those in its column
    of paths.

    Parameters
    ----------
    columns : Columns, optional
        Of tables; their labels are not read.
    follow_links : bool, default=False
        Whether links that lead out of a folder are followed.

    Raises
    ------
    EmptyDatasetError
        A folder holds no images, or nothing matches a pattern.
    DatasetError
        A table cannot be read, or its first images are not where it says.
    """
    columns = columns or Columns(label=None)
    found: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if is_table(argument):
            names, _, base = read_table(path, columns)
            images, notes = [base / name for name in names], list[str]()
        elif path.exists() or not glob.has_magic(argument):
            images, notes = _at(path, follow_links)
        else:
            matches = sorted(glob.glob(argument, recursive=True))
            # "**" names a folder, and then what is in it, too.
            parts = [_at(Path(match), follow_links) for match in matches]
            images = list(dict.fromkeys(one for part, _ in parts for one in part))
            notes = [note for _, part in parts for note in part]
        if not images:
            what = "no image in" if path.is_dir() else "nothing matches"
            raise EmptyDatasetError(" ".join([f"{what} {argument}.", *notes]))
        found += images
    return found


def _at(path: Path, follow_links: bool) -> tuple[list[Path], list[str]]:
    """Return the images that a path stands for, and what was noticed in a folder."""
    if not path.is_dir():
        return [path], []
    # Not as a dataset, where images beside sub-folders belong to no class and are left out.
    listing = Listing(path, follow_links)
    names = sorted(listing.images(), key=os.fsencode)
    notes = listing.notes(names)
    for note in notes:
        logger.warning("%s: %s", path, note)
    return [path / name for name in names], notes


def predictions(
    classifier: Any, paths: Sequence[Path], k: int = 1, chunk: int = CHUNK
) -> Iterator[Prediction]:
    """Yield a prediction for each image, in order; bad images yield their error.

    Parameters
    ----------
    classifier : ImageClassifier
        Fitted.
    paths : sequence of Path
    k : int
        Classes for each image.
    chunk : int
        Images that are read together.
    """
    for start in range(0, len(paths), chunk):
        part = paths[start : start + chunk]
        try:
            features = classifier.features(part, on_error="skip")
        except TooManyBadImagesError:
            if chunk <= _FEW:
                raise
            yield from predictions(classifier, part, k, _FEW)
            continue
        yield from _paired(classifier, part, features, k)


def _paired(
    classifier: Any, paths: Sequence[Path], features: Features, k: int
) -> Iterator[Prediction]:
    tops = iter(_tops(classifier, features, k) if len(features) else ())
    embeddings = iter(features.X)
    reasons = {failure.id: failure.reason for failure in features.failures}
    for path in paths:
        name = os.fspath(path)
        if path.as_posix() in reasons:
            yield Prediction(name, [], reasons[path.as_posix()])
        else:
            yield Prediction(name, next(tops), "", next(embeddings))


def _tops(classifier: Any, features: Features, k: int) -> list[list[tuple[str, float | None]]]:
    if not hasattr(classifier.head_, "predict_proba"):
        return [[(str(name), None)] for name in classifier.predict(features)]
    return [classifier.top(scores, k) for scores in classifier.scores(features.X)]


def as_csv(predicted: Prediction | None, k: int) -> str:
    """Return a prediction as a line of CSV; None gives the head line."""
    numbers = ["", *(f"_{rank}" for rank in range(2, k + 1))]
    cells: list[str] = []
    if predicted is None:
        heads = [[f"label{number}", f"probability{number}"] for number in numbers]
        cells = ["image", *(cell for pair in heads for cell in pair), "error"]
    else:
        for label, chance in predicted.top:
            cells += [_harmless(label), "" if chance is None else f"{chance:.6f}"]
        cells = [_harmless(predicted.image), *cells, *[""] * (2 * (k - len(predicted.top)))]
        cells.append(_harmless(predicted.error))
    line = io.StringIO()
    # Only what stands in the line's own end is quoted in a cell.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n")


def as_json(predicted: Prediction) -> dict[str, Any]:
    """Return a prediction as JSON holds it."""
    top = [{"label": label, "probability": chance} for label, chance in predicted.top]
    return {
        "image": predicted.image,
        "label": top[0]["label"] if top else None,
        "probability": top[0]["probability"] if top else None,
        "top": top,
        "error": predicted.error or None,
    }


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
