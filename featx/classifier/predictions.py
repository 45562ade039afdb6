"""Predictions for many images, the bad ones included."""

from __future__ import annotations

import csv
import glob
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featx.datasets import places
from featx.datasets.dataset import Dataset, as_dataset
from featx.datasets.items import Item
from featx.datasets.table import Columns, is_table, read_table
from featx.errors import EmptyDatasetError, TooManyBadImagesError
from featx.features import Features

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
    source : Path, bytes, ndarray or Elsewhere, optional
        The image itself.
    """

    image: str
    top: list[tuple[str, float | None]]
    error: str = ""
    embedding: np.ndarray | None = None
    source: Any = None


def images_of(
    arguments: Sequence[str],
    columns: Columns | None = None,
    *,
    follow_links: bool = False,
    progress: bool = False,
) -> Dataset:
    """Return the images that files, folders, tables, archives and patterns such as ``*.jpg`` name.

    A folder or an archive stands for every image in it, however deep; a ``.csv`` file for those in
    its column of paths.

    Parameters
    ----------
    columns : Columns, optional
        Of tables; their labels are not read.
    follow_links : bool, default=False
        Whether links that lead out of a folder are followed.
    progress : bool, default=False
        Whether a bar is shown while something is unpacked or fetched.

    Returns
    -------
    Dataset
        Each id is what a person would type to name that image.

    Raises
    ------
    EmptyDatasetError
        A folder holds no images, or nothing matches a pattern.
    DatasetError
        A table or an archive cannot be read, or a table's first images are not where it says.
    """
    columns = columns or Columns(label=None)
    items: list[Item] = []
    for argument in arguments:
        path = Path(argument)
        if is_table(argument):
            names, _, base = read_table(path, columns)
            listed = [name if places.scheme_of(name) else base / name for name in names]
            items += Dataset.from_paths(listed).items
        elif places.is_one_image(argument):
            items += Dataset.from_paths([argument]).items
        elif (folders := places.folders_at(argument, progress=progress)) is not None:
            for folder in folders:
                images = as_dataset(folder, labelled=False).items
                items += [replace(item, id=f"{folder}/{item.id}") for item in images]
        elif path.exists() or not glob.has_magic(argument):
            items += _at(path, follow_links)
        else:
            matches = sorted(glob.glob(argument, recursive=True))
            # "**" names a folder, and then what is in it, too.
            found = [item for match in matches for item in _at(Path(match), follow_links)]
            if not found:
                raise EmptyDatasetError(f"nothing matches {argument}.")
            items += {item.id: item for item in found}.values()
    return Dataset(items, location=Path())


def _at(path: Path, follow_links: bool) -> Sequence[Item]:
    """Return the images that a path stands for."""
    if not path.is_dir():
        return Dataset.from_paths([path]).items
    # Not with labels: images beside sub-folders belong to no class and would be left out.
    images = as_dataset(path, labelled=False, follow_links=follow_links).items
    return [replace(item, id=(path / item.id).as_posix()) for item in images]


def predictions(
    classifier: Any, images: Dataset, k: int = 1, chunk: int = CHUNK
) -> Iterator[Prediction]:
    """Yield a prediction for each image, in order; bad images yield their error.

    Parameters
    ----------
    classifier : ImageClassifier
        Fitted.
    images : Dataset
    k : int
        Classes for each image.
    chunk : int
        Images that are read together.
    """
    for start in range(0, len(images), chunk):
        part = images.subset(range(start, min(start + chunk, len(images))))
        try:
            features = classifier.features(part, on_error="skip")
        except TooManyBadImagesError:
            if chunk <= _FEW:
                raise
            yield from predictions(classifier, part, k, _FEW)
            continue
        yield from _paired(classifier, part, features, k)


def _paired(classifier: Any, images: Dataset, features: Features, k: int) -> Iterator[Prediction]:
    tops = iter(_tops(classifier, features, k) if len(features) else ())
    embeddings = iter(features.X)
    reasons = {failure.id: failure.reason for failure in features.failures}
    for item in images:
        if item.id in reasons:
            yield Prediction(item.id, [], reasons[item.id], source=item.source)
        else:
            yield Prediction(item.id, next(tops), "", next(embeddings), item.source)


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
