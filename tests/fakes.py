"""A runtime that counts: the seam at which tests replace the network."""

from __future__ import annotations

import numpy as np

from featx import Backbone
from featx.runtimes import Runtime

# Untrained, so that no weights file is needed; only its name, side and width matter to a fake.
TINY = Backbone("mobilenet_v2", weights=None, image_size=32)


class CountingRuntime(Runtime):
    """Rows are a fixed projection of the pixels; `seen` counts the images that came."""

    name = "counting"

    def __init__(self, batch_size: int = 4, dim: int = 1280) -> None:
        self.batch_size = batch_size
        self.seen = 0
        self.batches = 0
        self._projection = np.random.default_rng(0).standard_normal(
            (32 * 32 * 3, dim), dtype=np.float32
        )

    def run(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.shape == (self.batch_size, 32, 32, 3)
        assert pixels.dtype == np.uint8
        self.batches += 1
        # The last batch is padded with black images, which the tests never draw.
        self.seen += int(pixels.any(axis=(1, 2, 3)).sum())
        return (pixels.reshape(self.batch_size, -1) / np.float32(255)) @ self._projection
