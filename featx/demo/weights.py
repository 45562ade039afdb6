"""Whether ImageNet weights can be had within seconds, decided without hanging."""

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
# The file has 9.4 MB: a connection that delivers the first 2 MB in 4 seconds needs 20 for it.
SAMPLE = 2_000_000
PATIENCE = 4.0
# Deep random layers wash an image out; the largest activations of early ones still distinguish
# lines and colours (logistic regression on the pipes: 0.72 here, 0.49 on the last layer's mean).
EARLY = "block_1_expand_relu"


def choose(backbone: Backbone) -> tuple[Backbone, str]:
    """Return the backbone with the best weights available soon, and a line that names them.

    The line is "" if they are ImageNet's. There is no request if the weights are on disk; on a
    slow or absent connection, the function returns after `PATIENCE` seconds at most.
    """
    file = backbone.weights_path()
    reason = "ImageNet weights are not on disk and cannot be fetched within seconds"
    if file.is_file() or fetchable(URL + file.name):
        try:
            backbone.weights_digest()  # downloads them if they are absent
        except WeightsUnavailableError:
            reason = "the download of the ImageNet weights failed"
        else:
            return backbone, ""
    untrained = replace(backbone, weights=None, layer=EARLY, pooling="max")
    return untrained, (
        f"Untrained weights: {reason}, so an early layer of {backbone.name} is used with "
        "random weights. Expect a lower accuracy of every method than with trained weights."
    )


def fetchable(url: str, sample: int = SAMPLE, patience: float = PATIENCE) -> bool:
    """Return whether the first `sample` bytes at `url` (or all) arrive in `patience` seconds."""
    arrived: queue.Queue[bool] = queue.Queue()

    def request() -> None:
        try:
            with urllib.request.urlopen(url, timeout=patience) as response:
                arrived.put(len(response.read(sample)) > 0)
        except (OSError, http.client.HTTPException):
            arrived.put(False)

    # In a thread that may be left behind: no timeout of urllib covers the look-up of the name,
    # nor a connection that delivers a byte now and then.
    threading.Thread(target=request, daemon=True).start()
    try:
        return arrived.get(timeout=patience)
    except queue.Empty:
        return False
