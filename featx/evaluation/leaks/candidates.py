"""Pairs of images that may be copies: near by their embeddings, or by perceptual hashes."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image
from scipy.fft import dctn
from sklearn.preprocessing import normalize

from featx.datasets.items import Item
from featx.errors import ImageError
from featx.images import decoding

# Of 63 bits. The hashes of 1,600 planted copies differed in 10 at most; chance gives 31 +- 4.
MOST_BITS = 8
# So many others, those with the nearest hashes, are candidates of an image: of thousands of blank
# images each is like each.
MOST_ALIKE = 16
# Comparing each hash with each takes about a minute of one core at this size. Beyond it only the
# nearest embeddings are candidates.
MOST_HASHED = 20_000
# Of the whole, and of the other part of a split.
NEIGHBOURS = 10

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
class Candidate:
    """Two images, by position, that may be copies.

    Attributes
    ----------
    cosine : float
        Of their embeddings, less the mean of all: what all images have in common counts nothing.
    rank : int
        The lower of the places, from 0, that one has among the other's nearest.
    bits : int or None
        Bits of 63 in which their perceptual hashes differ, at the best flip and cut; None where
        they differ in more than `MOST_BITS`, or were not compared.
    """

    first: int
    second: int
    cosine: float
    rank: int = NEIGHBOURS
    bits: int | None = None

    @property
    def promise(self) -> tuple[bool, int, float]:
        """What candidates are put in order by: agreeing hashes, then each image's nearest."""
        return self.bits is not None, -self.rank, self.cosine


def candidates(
    X: np.ndarray, cut: int, codes: dict[int, np.ndarray], pool: ThreadPoolExecutor
) -> list[Candidate]:
    """Return pairs that may be copies, the most promising first.

    Parameters
    ----------
    X : ndarray of float32, shape (n, dim)
        Embeddings, of one backbone, of the training images and then of the test images.
    cut : int
        The number of training images.
    codes : mapping of int to ndarray of uint64
        What `codes` returned, by position; images without are compared by embeddings alone.
    """
    unit = normalize(X - X.mean(axis=0)).astype(np.float32, copy=False)
    found = _nearest(unit, cut)
    bits: dict[tuple[int, int], int] = {}
    if 1 < len(codes) <= MOST_HASHED:
        seen = sorted(codes)
        stacked = np.stack([codes[n].ravel() for n in seen])
        bits = {(seen[i], seen[j]): least for i, j, least in _agreeing(stacked, pool)}
    pairs = [
        Candidate(i, j, float(unit[i] @ unit[j]), found.get((i, j), NEIGHBOURS), bits.get((i, j)))
        for i, j in sorted(found.keys() | bits.keys())
    ]
    return sorted(pairs, key=lambda pair: pair.promise, reverse=True)


def _nearest(unit: np.ndarray, cut: int) -> dict[tuple[int, int], int]:
    """Return pairs of each image and its nearest, of all and of the other part, with their rank."""
    n = len(unit)
    found: dict[tuple[int, int], int] = {}
    for start in range(0, n, 512):
        like = unit[start : start + 512] @ unit.T
        lines = np.arange(start, start + len(like))
        like[np.arange(len(like)), lines] = -2
        for low, high in ((0, n), (0, cut), (cut, n)):
            # Of its own part, an image's nearest are among those of all, or are not needed.
            asked = lines if (low, high) == (0, n) else lines[(lines < cut) != (high <= cut)]
            many = min(NEIGHBOURS, high - low - ((low, high) == (0, n)))
            if not len(asked) or many < 1:
                continue
            near = like[asked - start, low:high]
            nearest = np.argpartition(-near, many - 1, axis=1)[:, :many]
            order = np.argsort(-np.take_along_axis(near, nearest, 1), axis=1, kind="stable")
            nearest = np.take_along_axis(nearest, order, 1) + low
            for i, line in zip(asked.tolist(), nearest.tolist(), strict=True):
                for rank, j in enumerate(line):
                    pair = min(i, j), max(i, j)
                    found[pair] = min(rank, found.get(pair, rank))
    return found


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


def _paired(found: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return each pair once, the lower position first, with the fewer bits of its two orders."""
    least: dict[tuple[int, int], int] = {}
    for i, j, bits in found:
        key = min(i, j), max(i, j)
        least[key] = min(bits, least.get(key, 64))
    return [(i, j, bits) for (i, j), bits in sorted(least.items())]


def codes(item: Item) -> np.ndarray | None:
    """Return perceptual hashes (windows, flips) of an image, uint64; None where it cannot be read.

    The hash is Zauner's DCT hash (2010, "Implementation and Benchmarking of Perceptual Image Hash
    Functions"): the 8 x 8 lowest frequencies of a 32 x 32 grey image, less the mean, each above
    or below their median.
    """
    lowest = waves(item, 32, 8)
    if lowest is None:
        return None
    lowest = (lowest[:, None] * _flips(8)).reshape(len(_WINDOWS), 4, 64)[..., 1:]
    bits = lowest > np.median(lowest, axis=-1, keepdims=True)
    return np.packbits(np.pad(bits, ((0, 0), (0, 0), (1, 0))), axis=-1).view(np.uint64)[..., 0]


def detail(first: np.ndarray | None, second: np.ndarray | None) -> float:
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


def waves(item: Item, side: int, kept: int) -> np.ndarray | None:
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
