"""Embeddings and labels drawn for the tests of heads."""

from __future__ import annotations

import numpy as np


def blobs(
    n: int = 60, dim: int = 100, k: int = 3, noise: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return fewer samples than features, as embeddings often are, with string labels."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % k
    centres = rng.normal(size=(k, dim))
    X = centres[codes] + rng.normal(scale=noise, size=(n, dim)) + 5.0
    return X.astype(np.float32), np.array(["ash", "birch", "cedar", "date"])[codes]
