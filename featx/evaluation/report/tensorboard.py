"""A report for TensorBoard: training curves, learning curves, and the rows for its projector."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from featx.errors import FeatxError
from featx.evaluation.evidence import image_map
from featx.evaluation.report import tensorboard
from featx.formatting import printable

if TYPE_CHECKING:
    from featx.evaluation.evidence.image_map import Map
    from featx.evaluation.report.report import Report

_CONFIG = """embeddings {{
  tensor_name: "rows"
  tensor_path: "tensors.tsv"
  metadata_path: "metadata.tsv"
  sprite {{
    image_path: "sprite.jpg"
    single_image_dim: {side}
    single_image_dim: {side}
  }}
}}
"""


def save(report: Report, directory: Path) -> Path:
    """Write what `tensorboard --logdir DIRECTORY` shows, and return the folder.

    Raises
    ------
    FeatxError
        The report has nothing that TensorBoard shows, or the folder cannot be written.
    """
    shown = report.evidence.map if report.evidence else None
    curves = report.evidence.learning if report.evidence else ()
    if shown is None and not curves and not report.histories:
        raise FeatxError(
            "nothing for TensorBoard in this report: it has neither a baseline's training curves "
            "nor its evidence. Run benchmark() with baseline=True or evidence=True."
        )
    at = datetime.datetime.fromisoformat(report.circumstances.created).timestamp()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for one in report.histories:
            parts = ["baseline", one.backbone, f"seed {one.seed}"]
            parts += [] if one.fold is None else [f"fold {one.fold}"]
            scalars = {name: list(enumerate(line, 1)) for name, line in one.curves.items()}
            tensorboard.write(directory / _name(parts), scalars, at)
        for curve in curves:
            points = [(point.per_class, point.accuracy) for point in curve.points]
            folder = directory / _name(["learning curve", curve.backbone, curve.method])
            tensorboard.write(folder, {"accuracy over images per class": points}, at)
        if shown is not None:
            _project(report, shown, directory)
    except OSError as error:
        raise FeatxError(
            f"TensorBoard's files cannot be written to {str(directory)!r}: "
            f"{error.strerror or error}. Give a folder that can be written."
        ) from error
    return directory


def _name(parts: Iterable[str]) -> str:
    """Return a folder's name made of words that may hold anything, such as slashes."""
    return re.sub(r"[^\w.-]+", "_", "-".join(parts)).strip("._")[:150]


def _project(report: Report, shown: Map, directory: Path) -> None:
    """Write the rows, what is known of each, and the sheet of their images."""
    answers = next(
        one
        for one in report.predictions
        if one.backbone == shown.backbone
        and one.method == next((s.method for s in report.summaries if s.chosen), one.method)
    )
    with open(directory / "tensors.tsv", "w", encoding="utf-8") as file:
        for row in shown.rows:
            file.write("\t".join(f"{value:.6g}" for value in row) + "\n")
    with open(directory / "metadata.tsv", "w", encoding="utf-8") as file:
        file.write("label\tgiven\tanswer\timage\n")
        for position in shown.positions:
            true, given = str(answers.y_true[position]), str(answers.y_pred[position])
            right = "right" if true == given else "wrong"
            # A tab or a line break in a name would move everything after it.
            cells = (printable(true), printable(given), right, printable(answers.ids[position]))
            file.write("\t".join(cells) + "\n")
    (directory / "sprite.jpg").write_bytes(shown.sheet)
    config = _CONFIG.format(side=image_map.SIDE)
    (directory / "projector_config.pbtxt").write_text(config, encoding="utf-8")


def write(folder: Path, scalars: Mapping[str, Iterable[tuple[int, float]]], seconds: float) -> Path:
    """Write one event file, over one of the same name and time.

    Parameters
    ----------
    folder : Path
        A run, as TensorBoard calls it; made if it is not there.
    scalars : mapping of str to (step, value) pairs
        By tag. Values that are not finite are left out.
    seconds : float
        Wall time of all events, since 1970.
    """
    # TensorFlow's summary API needs the tensorboard package; its record writer does not.
    import tensorflow as tf
    from tensorflow.core.util.event_pb2 import Event

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{int(seconds):010d}.featx"
    with tf.io.TFRecordWriter(str(path)) as file:
        file.write(Event(wall_time=seconds, file_version="brain.Event:2").SerializeToString())
        for tag, points in scalars.items():
            for step, value in points:
                if math.isfinite(value):
                    event = Event(wall_time=seconds, step=step)
                    event.summary.value.add(tag=tag, simple_value=value)
                    file.write(event.SerializeToString())
    return path
