"""Whether the demonstration can have ImageNet weights within seconds, asked without hanging."""

from __future__ import annotations

import http.client
import queue
import threading
import urllib.request
from dataclasses import replace

from featx.backbones.backbone import Backbone
from featx.errors import WeightsUnavailableError

# The folder that keras/src/applications/mobilenet_v2.py (Keras 3.15.1) fetches from.
URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
# The file has 9.4 MB: a line that brings the first 2 MB in 4 seconds brings all of it in 20.
SAMPLE = 2_000_000
PATIENCE = 4.0
# Deep layers drawn by lot wash a image out; the largest answers of early ones still tell lines
# and colours apart (logistic regression on the pipes: 0.72 here, 0.49 on the last layer's mean).
EARLY = "block_1_expand_relu"


def choose(backbone: Backbone) -> tuple[Backbone, str]:
    """Return the backbone with the best weights to be had soon, and a line that says which.

    The line is "" where they are ImageNet's. Nothing is asked of the network where the weights
    are on disk; where it is slow or absent, the answer comes after `PATIENCE` seconds at most.
    """
    file = backbone.weights_path()
    reason = "ImageNet weights are not on disk and cannot be fetched within seconds"
    if file.is_file() or fetchable(URL + file.name):
        try:
            backbone.weights_digest()  # fetches them where they are absent
        except WeightsUnavailableError:
            reason = "the download of the ImageNet weights failed"
        else:
            return backbone, ""
    untrained = replace(backbone, weights=None, layer=EARLY, pooling="max")
    return untrained, (
        f"Untrained weights: {reason}, so an early layer of {backbone.name} is used as it was "
        "drawn by lot. Expect less of every method than with trained weights."
    )


def fetchable(url: str, sample: int = SAMPLE, patience: float = PATIENCE) -> bool:
    """Say whether the first `sample` bytes at `url` (or all, if fewer) come in `patience` s."""
    arrived: queue.Queue[bool] = queue.Queue()

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=patience) as answer:
                arrived.put(len(answer.read(sample)) > 0)
        except (OSError, http.client.HTTPException):
            arrived.put(False)

    # In a thread that may be left behind: no timeout of urllib's covers the look-up of the name,
    # nor a line that brings a byte now and then.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return arrived.get(timeout=patience)
    except queue.Empty:
        return False
