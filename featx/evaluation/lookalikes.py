"""Pictures that are the same, or nearly: equal bytes, copies re-encoded, resized, flipped, cut."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

from featx import images
from featx.datasets import Item
from featx.digests import of_content
from featx.errors import ImageError

# Measured on 500 planted copies among 850 flowers (MobileNetV2): the least cosine of a copy to its
# original was 0.646 (40 % of the size, JPEG quality 30), its rank among the neighbours 3 at worst.
# What these thresholds find in pictures that they were not chosen on: `leakage.inspect`, Notes.
NEIGHBOURS = 10
LEAST_COSINE = 0.6
# Of 63 bits. The same copies came to 6 at most (5 % cut off a side); chance gives 31 +- 4.
MOST_BITS = 6
# Of the middle frequencies. The same copies came to 0.92 or more; of the other objects on white
# paper or plain steel whose hashes agreed, none of trashnet and one pair of steel reached this.
LEAST_DETAIL = 0.88
# Brute-force cosine takes n^2 * dim multiplications: about a minute at this size on one machine.
MOST_ROWS = 50_000

_SIDE = 128
# The whole picture, and windows of 97 % and 94 % of each edge at nine places: a cut-off edge moves
# everything that is left, which a hash of the whole cannot follow.
_WINDOWS = (
    (0.0, 0.0, 1.0),
    *(
        (cut * x / 2, cut * y / 2, 1 - cut)
        for cut in (0.03, 0.06)
        for x in range(3)
        for y in range(3)
    ),
)


@dataclass(frozen=True)
class Twins:
    """Two pictures, by position, that look alike.

    Attributes
    ----------
    kind : {"exact", "near"}
        The same bytes, or the same scene to the eye.
    cosine : float
        Of their rows.
    bits : int
        Bits of 63 in which their perceptual hashes differ, at the best flip and cut.
    """

    first: int
    second: int
    kind: Literal["exact", "near"]
    cosine: float
    bits: int


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest rows of each row: the one graph that every check reads.

    Attributes
    ----------
    indices : ndarray of int, shape (n, k)
        Nearest first, the row itself left out.
    cosines : ndarray of float32, shape (n, k)
    """

    indices: np.ndarray
    cosines: np.ndarray


def neighbours(X: np.ndarray, k: int = NEIGHBOURS) -> Neighbours:
    """Return the `k` nearest rows of each row by cosine, exactly (sklearn's NearestNeighbors)."""
    k = min(k, len(X) - 1)
    if k < 1:
        return Neighbours(np.empty((len(X), 0), np.intp), np.empty((len(X), 0), np.float32))
    graph = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(X)
    # Without an argument the row itself is left out, also where others are equal to it.
    distances, indices = graph.kneighbors()
    return Neighbours(indices, (1 - distances).astype(np.float32))


def twins(items: Sequence[Item], X: np.ndarray, graph: Neighbours | None) -> list[Twins]:
    """Return the pairs that are the same or nearly, exact ones first.

    Parameters
    ----------
    items : sequence of n Item
    X : ndarray of float32, shape (n, dim)
        Their rows, of one backbone.
    graph : Neighbours or None
        None: only exact ones are sought.
    """
    exact = _exact(items, X)
    if graph is None:
        return exact
    same = groups(len(X), exact)
    candidates = sorted(
        {
            (min(i, int(j)), max(i, int(j)))
            for i, (near, cosines) in enumerate(zip(graph.indices, graph.cosines, strict=True))
            for j, cosine in zip(near, cosines, strict=True)
            if cosine >= LEAST_COSINE and same[i] != same[j]
        }
    )
    return exact + _confirmed(items, X, candidates)


def groups(n: int, pairs: Sequence[Twins]) -> np.ndarray:
    """Return a number a picture, the same for all that are joined by pairs; int, shape (n,)."""
    first, second = ([pair.first for pair in pairs], [pair.second for pair in pairs])
    joined = coo_array((np.ones(len(pairs), bool), (first, second)), shape=(n, n))
    return np.asarray(connected_components(joined, directed=False)[1])


def _exact(items: Sequence[Item], X: np.ndarray) -> list[Twins]:
    """Return neighbouring pairs of each set of equal files: n equal ones are n - 1 pairs."""
    # Equal content has equal rows, for a row is found by its content; only such files are read.
    alike: dict[bytes, list[int]] = {}
    for position, row in enumerate(X):
        alike.setdefault(row.tobytes(), []).append(position)
    found = []
    for members in alike.values():
        if len(members) < 2:
            continue
        same: dict[bytes, list[int]] = {}
        for position in members:
            item = items[position]
            # Gone since its row was made: equal to nothing but itself.
            own = content(item) or item.id.encode("utf-8", "surrogateescape")
            same.setdefault(own, []).append(position)
        for equal in same.values():
            found += [Twins(a, b, "exact", 1.0, 0) for a, b in zip(equal, equal[1:], strict=False)]
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def content(item: Item) -> bytes | None:
    """Return the sha256 of what a picture holds; None where it cannot be read any more."""
    source = item.source
    try:
        return of_content(images.read(source) if isinstance(source, Path) else source)
    except ImageError:
        return None


def contents(items: Sequence[Item]) -> str | None:
    """Return one sha256, as hex, of what these pictures hold, in their order.

    None where one of them cannot be read any more, for nothing is known of it then.
    """
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        found = list(pool.map(content, items))
    known = [one for one in found if one is not None]
    return hashlib.sha256(b"".join(known)).hexdigest() if len(known) == len(found) else None


def _confirmed(
    items: Sequence[Item], X: np.ndarray, candidates: Sequence[tuple[int, int]]
) -> list[Twins]:
    """Return the candidates whose hashes agree, and whose finer detail does so, too."""
    wanted = sorted({position for pair in candidates for position in pair})
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        codes = dict(zip(wanted, pool.map(lambda one: _codes(items[one]), wanted), strict=True))
        alike = [
            (i, j, bits) for i, j in candidates if (bits := _bits(codes[i], codes[j])) <= MOST_BITS
        ]
        doubtful = sorted({position for *pair, _ in alike for position in pair})
        read = pool.map(lambda one: _waves(items[one], 64, 16), doubtful)
        waves = dict(zip(doubtful, read, strict=True))
    kept = [(i, j, bits) for i, j, bits in alike if _detail(waves[i], waves[j]) >= LEAST_DETAIL]
    rows = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)
    return [Twins(i, j, "near", float(rows[i] @ rows[j]), bits) for i, j, bits in kept]


def _bits(one: np.ndarray | None, two: np.ndarray | None) -> int:
    """Return in how many bits of 63 two pictures differ at the best window and flip of either."""
    if one is None or two is None:
        return 63
    return int(
        min(np.bitwise_count(one ^ two[0, 0]).min(), np.bitwise_count(two ^ one[0, 0]).min())
    )


def _codes(item: Item) -> np.ndarray | None:
    """Return perceptual hashes (windows, flips) of a picture, uint64; None where it cannot be read.

    The hash is Zauner's DCT hash (2010, "Implementation and Benchmarking of Perceptual Image Hash
    Functions"): the 8 x 8 lowest frequencies of a 32 x 32 grey picture, less the mean, each above
    or below their median.
    """
    waves = _waves(item, 32, 8)
    if waves is None:
        return None
    waves = (waves[:, None] * _flips(8)).reshape(len(_WINDOWS), 4, 64)[..., 1:]
    bits = waves > np.median(waves, axis=-1, keepdims=True)
    return np.packbits(np.pad(bits, ((0, 0), (0, 0), (1, 0))), axis=-1).view(np.uint64)[..., 0]


def _detail(first: np.ndarray | None, second: np.ndarray | None) -> float:
    """Return the correlation of the middle frequencies of two pictures at their best alignment.

    The hash knows where the bright and the dark parts lie: any two objects in the middle of white
    paper are alike to it. What has 6 to 15 half-waves along an edge tells them apart.
    """
    if first is None or second is None:
        return 0.0
    band = np.maximum.outer(np.arange(16), np.arange(16)) >= 6
    best = 0.0
    for moved, still in ((first, second), (second, first)):
        ours = (moved[:, None] * _flips(16))[..., band]
        theirs = still[0][band]
        scale = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs)
        best = max(best, float(np.max(ours @ theirs / np.maximum(scale, 1e-6))))
    return best


def _waves(item: Item, side: int, kept: int) -> np.ndarray | None:
    """Return the lowest `kept` x `kept` DCT frequencies of each window, scaled to `side`."""
    try:
        grey = Image.fromarray(images.load(item.source, _SIDE)).convert("L")
    except ImageError:
        return None
    views = [
        grey.resize(
            (side, side),
            Image.Resampling.BILINEAR,
            box=(x * _SIDE, y * _SIDE, (x + share) * _SIDE, (y + share) * _SIDE),
        )
        for x, y, share in _WINDOWS
    ]
    pixels = np.stack([np.asarray(view, np.float32) for view in views])
    return np.asarray(dctn(pixels, axes=(1, 2), norm="ortho")[:, :kept, :kept])


@cache
def _flips(size: int) -> np.ndarray:
    """Return what a flip multiplies frequencies with, (4, size, size): it negates the odd ones."""
    even, odd = np.ones(size), np.where(np.arange(size) % 2, -1.0, 1.0)
    return np.stack([np.outer(rows, columns) for rows in (even, odd) for columns in (even, odd)])
