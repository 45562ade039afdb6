"""TensorBoard's event files: scalars over steps, as TensorFlow's own writer frames them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path


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
