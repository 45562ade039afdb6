"""A report for TensorBoard: training curves, learning curves, embeddings for its projector."""

from __future__ import annotations

import base64
import datetime
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featx.backend import hush_tensorflow
from featx.errors import FeatxError
from featx.evaluation.report import evidence_view, wording
from featx.formatting import printable

Data = Mapping[str, Any]

_CONFIG = """embeddings {{
  tensor_name: "embeddings"
  tensor_path: "tensors.tsv"
  metadata_path: "metadata.tsv"
  sprite {{
    image_path: "sprite.jpg"
    single_image_dim: {side}
    single_image_dim: {side}
  }}
}}
"""


def save(document: Data, directory: Path, vectors: np.ndarray | None) -> Path:
    """Write what `tensorboard --logdir DIRECTORY` shows, and return the folder.

    Parameters
    ----------
    document : mapping
        A report's document.
    directory : Path
    vectors : ndarray of float32, shape (n, dim), or None
        The embeddings of the images on the document's map. The document does not hold them: no
        page shows them, and 1,500 of 2,048 numbers each would outweigh all the rest of it.

    Raises
    ------
    FeatxError
        The report has nothing that TensorBoard shows, or the folder cannot be written.
    """
    evidence = document["evidence"] or {}
    shown, curves = evidence.get("map"), evidence.get("learning", ())
    if shown is None and not curves and not document["histories"]:
        raise FeatxError(
            "nothing for TensorBoard in this report: it has neither a baseline's training curves "
            "nor its evidence. Run benchmark() with baseline=True or evidence=True."
        )
    at = datetime.datetime.fromisoformat(document["created"]).timestamp()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for one in document["histories"]:
            parts = ["baseline", one["backbone"], f"seed {one['seed']}"]
            parts += [] if one["fold"] is None else [f"fold {one['fold']}"]
            scalars = {name: list(enumerate(line, 1)) for name, line in one["curves"].items()}
            write(directory / _name(parts), scalars, at)
        for curve in curves:
            points = [(point["per_class"], point["accuracy"]) for point in curve["points"]]
            folder = directory / _name(["learning curve", curve["backbone"], curve["method"]])
            write(folder, {"accuracy over images per class": points}, at)
        if shown is not None and vectors is not None:
            _project(document, shown, vectors, directory)
    except OSError as error:
        raise FeatxError(
            f"TensorBoard's files cannot be written to {str(directory)!r}: "
            f"{error.strerror or error}. Give a folder that can be written."
        ) from error
    return directory


def _name(parts: Iterable[str]) -> str:
    """Return a folder's name made of words that may hold anything, such as slashes."""
    return re.sub(r"[^\w.-]+", "_", "-".join(parts)).strip("._")[:150]


def _project(document: Data, shown: Data, vectors: np.ndarray, directory: Path) -> None:
    """Write the embeddings, the metadata of each, and the sheet of their images."""
    answers = evidence_view.answers(document, wording.subject(document))
    classes, tested = document["images"]["classes"], document["tested"]
    with open(directory / "tensors.tsv", "w", encoding="utf-8") as file:
        for vector in vectors:
            file.write("\t".join(f"{value:.6g}" for value in vector) + "\n")
    with open(directory / "metadata.tsv", "w", encoding="utf-8") as file:
        file.write("label\tgiven\tanswer\timage\n")
        for position in shown["positions"]:
            true = classes[tested["y_true"][position]]
            given = classes[answers["y_pred"][position]]
            right = "right" if true == given else "wrong"
            # A tab or a line break in a name would move everything after it.
            name = tested["ids"][position]
            cells = (printable(true), printable(given), right, printable(name))
            file.write("\t".join(cells) + "\n")
    (directory / "sprite.jpg").write_bytes(base64.b64decode(shown["sheet"]))
    config = _CONFIG.format(side=shown["side"])
    (directory / "projector_config.pbtxt").write_text(config, encoding="utf-8")


def write(
    folder: Path, scalars: Mapping[str, Iterable[tuple[int, float | None]]], seconds: float
) -> Path:
    """Write one event file, over one of the same name and time.

    Parameters
    ----------
    folder : Path
        A run, as TensorBoard calls it; made if it is missing.
    scalars : mapping of str to (step, value) pairs
        By tag. Values that are None or not finite are left out.
    seconds : float
        Wall time of all events, since 1970.
    """
    # TensorFlow's summary API needs the tensorboard package; its record writer does not.
    hush_tensorflow()
    import tensorflow as tf
    from tensorflow.core.util.event_pb2 import Event

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{int(seconds):010d}.featx"
    with tf.io.TFRecordWriter(str(path)) as file:
        file.write(Event(wall_time=seconds, file_version="brain.Event:2").SerializeToString())
        for tag, points in scalars.items():
            for step, value in points:
                if value is not None and math.isfinite(value):
                    event = Event(wall_time=seconds, step=step)
                    event.summary.value.add(tag=tag, simple_value=value)
                    file.write(event.SerializeToString())
    return path
