"""Images as the command line is given them, and predictions on those without labels."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.published.dog_breeds_inception_resnet_v2 import labelled
from benchmarks.published.running import Compared, Options
from benchmarks.published.system import Parts, System
from featx import Backbone, Dataset, ImageClassifier


def images(path: Path) -> Dataset:
    """Return labelled images: one folder per class, a table, or a contest's labels.csv.

    The contest's images lie in the folder `train` beside its table, or beside the table itself.
    """
    if path.suffix.lower() != ".csv":
        return Dataset.from_folder(path)
    with path.open(newline="", encoding="utf-8") as lines:
        header = next(csv.reader(lines), [])
    if header != ["id", "breed"]:
        return Dataset.from_table(path)
    folder = path.parent / "train"
    return labelled(path, folder if folder.is_dir() else path.parent)


def parts(system: System, train: Path, test: Path | None, validation: Path | None) -> Parts:
    """Return what to train and score on; without test images as the system divided its own."""
    if test is None:
        return system.divide(images(train))
    return Parts(images(train), images(test), validation and images(validation))


def write(found: Compared, train: Dataset, unlabelled: Path, options: Options, out: Path) -> None:
    """Write the probabilities of each class for images without labels, as the contest wants them.

    Two tables, of the corrected recipe and of featx's chosen head: the column id, then a column a
    class.
    """
    asked = Dataset.from_folder(unlabelled)
    recipe = found.corrected
    backbone = options.backbone or recipe.backbone.name
    with tempfile.TemporaryDirectory() as rows:
        head = ImageClassifier(
            Backbone(backbone, weights=options.weights), found.versus.head, cache=rows
        ).fit(train)
        ours = head.predict_proba(asked)
    out.mkdir(parents=True, exist_ok=True)
    _table(out / "corrected.csv", asked, recipe.classes_, recipe.predict_proba(asked))
    _table(out / f"{found.versus.head}.csv", asked, head.classes_, ours)


def _table(path: Path, asked: Dataset, classes: np.ndarray, shares: np.ndarray) -> None:
    with path.open("w", newline="", encoding="utf-8") as lines:
        table = csv.writer(lines)
        table.writerow(["id", *classes])
        for item, row in zip(asked.items, shares, strict=True):
            table.writerow([Path(item.id).with_suffix("").as_posix(), *(f"{v:.6g}" for v in row)])
