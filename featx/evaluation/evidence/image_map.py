"""A map of the images: their embeddings laid out in two dimensions, similar ones side by side."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from featx.datasets.items import Item
from featx.errors import ImageError
from featx.images import decoding
from featx.images.thumbnails import encoded

# More are neither told apart on a page nor laid out in seconds.
MOST = 1500
# Pixels of the edge of an image in the sheet of all of them.
SIDE = 80
# Below this t-SNE has no neighbourhoods to keep.
_FEWEST = 12


@dataclass(frozen=True, eq=False)
class Map:
    """The tested images as points.

    Attributes
    ----------
    how : {"t-SNE", "PCA"}
    positions : ndarray of int, shape (n,)
        Which of the tested images; all of them, or `MOST` at even steps.
    places : ndarray of float64, shape (n, 2)
        0 to 1. Neighbours mean likeness; distances between groups and the axes mean nothing.
    embeddings : ndarray of float32, shape (n, dim)
        What was laid out, for other tools to lay out in their way.
    sheet : bytes
        A JPEG of all images, `SIDE` pixels each, row by row, `columns` in a row.
    """

    backbone: str
    how: str
    positions: np.ndarray
    places: np.ndarray
    embeddings: np.ndarray
    sheet: bytes
    columns: int
    seconds: float


def layout(backbone: str, items: Sequence[Item], X: np.ndarray, *, most: int = MOST) -> Map:
    """Return the map of these images.

    Parameters
    ----------
    items : sequence of n Item
    X : ndarray of float32, shape (n, dim)
        Their features.
    most : int
        Of more images so many are shown, at even steps.

    Notes
    -----
    Embeddings of length 1 (so that distances follow the cosine), 50 principal components, then
    t-SNE (van der Maaten & Hinton 2008) as scikit-learn has it, begun from the first two
    components.
    """
    started = time.perf_counter()
    count = min(len(items), most)
    chosen = np.linspace(0, len(items) - 1, count).round().astype(int)
    features = np.asarray(X[chosen], dtype=np.float32)
    # On so few images two threads spend their time waiting for each other.
    with threadpool_limits(1):
        how, places = _places(features)
    columns = math.ceil(math.sqrt(count))
    sheet = _sheet([items[position] for position in chosen], columns)
    seconds = time.perf_counter() - started
    return Map(backbone, how, chosen, places, features, sheet, columns, seconds)


def _places(X: np.ndarray) -> tuple[str, np.ndarray]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    unit = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)
    parts = min(50, *unit.shape)
    if not np.ptp(unit, axis=0).any():
        return "PCA", np.full((len(X), 2), 0.5)
    main = PCA(parts, random_state=0).fit_transform(unit)
    if len(X) < _FEWEST:
        how, found = "PCA", np.zeros((len(X), 2))
        found[:, : min(2, parts)] = main[:, :2]
    else:
        perplexity = min(30.0, (len(X) - 1) / 3)
        how = "t-SNE"
        found = TSNE(perplexity=perplexity, init=_start(main), random_state=0).fit_transform(main)
    low, high = found.min(axis=0), found.max(axis=0)
    return how, (found - low) / np.where(high > low, high - low, 1.0)


def _start(main: np.ndarray) -> np.ndarray:
    """Return the first two components as t-SNE wants to begin: small."""
    start = np.zeros((len(main), 2), dtype=np.float32)
    start[:, : min(2, main.shape[1])] = main[:, :2]
    return np.asarray(1e-4 * start / max(float(start[:, 0].std()), 1e-12))


def _sheet(items: Sequence[Item], columns: int) -> bytes:
    sheet = Image.new("RGB", (SIDE * columns, SIDE * math.ceil(len(items) / columns)), "white")
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for number, image in enumerate(pool.map(_cell, items)):
            if image is not None:
                # Centred in its cell, its proportions kept.
                x = SIDE * (number % columns) + (SIDE - image.width) // 2
                y = SIDE * (number // columns) + (SIDE - image.height) // 2
                sheet.paste(image, (x, y))
    return encoded(sheet, 70)


def _cell(item: Item) -> Image.Image | None:
    try:
        return Image.fromarray(decoding.thumbnail(item.source, SIDE))
    except ImageError:  # gone or changed since it was extracted
        return None
