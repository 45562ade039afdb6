"""Images that are the same, or nearly: equal bytes, copies re-encoded, resized, flipped, cut."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

from featx.datasets.content import content
from featx.datasets.items import Item
from featx.errors import ImageError
from featx.images import decoding

# Of 63 bits. The hashes of 1,600 planted copies differed in 10 at most; chance gives 31 +- 4. What
# these thresholds find: `leakage.inspect`, Notes.
MOST_BITS = 8
# Of the middle frequencies. 99 % of the planted copies reach it; of tiles and of specks on plain
# steel that are different ones, and whose hashes agree, hardly any.
LEAST_DETAIL = 0.9
# So many others are looked at more closely, those with the nearest hashes: of thousands of blank
# images each is like each.
MOST_ALIKE = 32
# Comparing each hash with each takes about a minute of one core at this size. Beyond it only the
# nearest embeddings are compared. These are too few where a set is of one texture: of copies of
# magnetic tiles among 692, 17 % are not among the ten nearest of their original, nor it among
# theirs.
MOST_HASHED = 20_000
NEIGHBOURS = 10
LEAST_COSINE = 0.6
# Brute-force cosine takes n^2 * dim multiplications: about a minute at this size on one machine.
MOST_IMAGES = 50_000

_SIDE = 128
# The whole image, and windows of 97 % and 94 % of each edge at nine places: a cut-off edge moves
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
class Duplicate:
    """Two images, by position, that look alike.

    Attributes
    ----------
    kind : {"exact", "near"}
        The same bytes, or the same scene to the eye.
    cosine : float
        Of their embeddings.
    bits : int
        Bits of 63 in which their perceptual hashes differ, at the best flip and cut.
    """

    first: int
    second: int
    kind: Literal["exact", "near"]
    cosine: float
    bits: int


def duplicates(
    items: Sequence[Item],
    X: np.ndarray,
    *,
    most_images: int = MOST_IMAGES,
    most_hashed: int = MOST_HASHED,
) -> list[Duplicate]:
    """Return the pairs that are the same or nearly, exact ones first.

    Parameters
    ----------
    items : sequence of n Item
    X : ndarray of float32, shape (n, dim)
        Their features, of one backbone.
    most_images : int
        Of more images than this only exact duplicates are sought.
    most_hashed : int
        Of more than this only the nearest by their embeddings are compared.
    """
    exact = _exact(items, X)
    if len(X) > most_images:
        return exact
    # One of each set of equal files stands for all.
    single = np.unique(groups(len(X), exact), return_index=True)[1]
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        read = pool.map(lambda n: _codes(items[n]), single)
        codes = {int(n): code for n, code in zip(single, read, strict=True) if code is not None}
        seen = np.array(sorted(codes), np.intp)
        if len(seen) < 2:
            return exact
        stacked = np.stack([codes[n].ravel() for n in seen.tolist()])
        near = (
            _agreeing(stacked, pool)
            if len(seen) <= most_hashed
            else _agreeing_neighbours(stacked, X[seen])
        )
        alike = [(int(seen[i]), int(seen[j]), bits) for i, j, bits in near]
        doubtful = sorted({position for *pair, _ in alike for position in pair})
        waves = dict(
            zip(doubtful, pool.map(lambda n: _waves(items[n], 64, 16), doubtful), strict=True)
        )
    kept = [(i, j, bits) for i, j, bits in alike if _detail(waves[i], waves[j]) >= LEAST_DETAIL]
    unit = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)
    return exact + [Duplicate(i, j, "near", float(unit[i] @ unit[j]), bits) for i, j, bits in kept]


def groups(n: int, pairs: Sequence[Duplicate]) -> np.ndarray:
    """Return a number per image, the same for all that are joined by pairs; int, shape (n,)."""
    first, second = ([pair.first for pair in pairs], [pair.second for pair in pairs])
    joined = coo_array((np.ones(len(pairs), bool), (first, second)), shape=(n, n))
    return np.asarray(connected_components(joined, directed=False)[1])


def _exact(items: Sequence[Item], X: np.ndarray) -> list[Duplicate]:
    """Return neighbouring pairs of each set of equal files: n equal ones are n - 1 pairs."""
    # Equal content has equal embeddings, as the cache finds them by content: only such files are
    # read.
    alike: dict[bytes, list[int]] = {}
    for position, embedding in enumerate(X):
        alike.setdefault(embedding.tobytes(), []).append(position)
    found = []
    for members in alike.values():
        if len(members) < 2:
            continue
        same: dict[bytes, list[int]] = {}
        for position in members:
            item = items[position]
            # Gone since it was extracted: equal to nothing but itself.
            own = content(item) or item.id.encode("utf-8", "surrogateescape")
            same.setdefault(own, []).append(position)
        for equal in same.values():
            found += [
                Duplicate(a, b, "exact", 1.0, 0) for a, b in zip(equal, equal[1:], strict=False)
            ]
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _agreeing(codes: np.ndarray, pool: ThreadPoolExecutor) -> list[tuple[int, int, int]]:
    """Return pairs whose hashes agree, and in how many bits they differ: each is put to each.

    Parameters
    ----------
    codes : ndarray of uint64, shape (n, views)
        The first view is the image as it is; it is put to every view of the other one.
    """
    views = np.ascontiguousarray(codes.T)
    blocks = np.array_split(np.arange(len(codes)), -(-len(codes) // 64))

    def least(block: np.ndarray) -> list[tuple[int, int, int]]:
        differ = np.full((len(block), len(codes)), 64, np.uint8)
        for view in views:
            one = np.bitwise_count(codes[block, :1] ^ view)
            np.minimum(differ, one, out=differ)
        differ[np.arange(len(block)), block] = 64
        found = []
        for i, line in zip(block.tolist(), differ, strict=True):
            others = np.flatnonzero(line <= MOST_BITS)
            others = others[np.argsort(line[others], kind="stable")[:MOST_ALIKE]]
            found += [(i, int(j), int(line[j])) for j in others]
        return found

    return _paired(one for found in pool.map(least, blocks) for one in found)


def _agreeing_neighbours(codes: np.ndarray, X: np.ndarray) -> list[tuple[int, int, int]]:
    """Return such pairs among the nearest embeddings by cosine (exact nearest neighbours)."""
    graph = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(X) - 1), metric="cosine")
    # Without an argument the image itself is left out, also where others are equal to it.
    distances, indices = graph.fit(X).kneighbors()
    first, rank = np.nonzero(1 - distances >= LEAST_COSINE)
    second = indices[first, rank]
    found = []
    for i, j in [*zip(first, second, strict=True), *zip(second, first, strict=True)]:
        bits = int(np.bitwise_count(codes[i, 0] ^ codes[j]).min())
        if bits <= MOST_BITS:
            found.append((int(i), int(j), bits))
    return _paired(found)


def _paired(found: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return each pair once, the lower position first, with the fewer bits of its two orders."""
    least: dict[tuple[int, int], int] = {}
    for i, j, bits in found:
        key = min(i, j), max(i, j)
        least[key] = min(bits, least.get(key, 64))
    return [(i, j, bits) for (i, j), bits in sorted(least.items())]


def _codes(item: Item) -> np.ndarray | None:
    """Return perceptual hashes (windows, flips) of an image, uint64; None where it cannot be read.

    The hash is Zauner's DCT hash (2010, "Implementation and Benchmarking of Perceptual Image Hash
    Functions"): the 8 x 8 lowest frequencies of a 32 x 32 grey image, less the mean, each above
    or below their median.
    """
    waves = _waves(item, 32, 8)
    if waves is None:
        return None
    waves = (waves[:, None] * _flips(8)).reshape(len(_WINDOWS), 4, 64)[..., 1:]
    bits = waves > np.median(waves, axis=-1, keepdims=True)
    return np.packbits(np.pad(bits, ((0, 0), (0, 0), (1, 0))), axis=-1).view(np.uint64)[..., 0]


def _detail(first: np.ndarray | None, second: np.ndarray | None) -> float:
    """Return the correlation of the middle frequencies of two images at their best alignment.

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
        grey = Image.fromarray(decoding.load(item.source, _SIDE)).convert("L")
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
