"""Images that are the same: equal files, changed copies of a photograph, one scene again."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from featx.datasets.content import content
from featx.datasets.items import Item
from featx.evaluation.leaks import candidates, geometry
from featx.evaluation.leaks.candidates import Candidate
from featx.evaluation.leaks.geometry import Grade, View
from featx.evaluation.protocol.splits import EmbeddedImages

# Each image with each takes n^2 * dim multiplications: about a minute at this size on two cores.
MOST_IMAGES = 50_000
# Candidates that are looked at; a number of pairs and not of seconds, so that one set of images has
# one answer on every machine. See benchmarks/README.md for what it takes.
MOST_PAIRS = 30_000
# Of the middle frequencies of plain images. 99 % of planted copies reach it; of specks on plain
# steel that are different ones, and whose hashes agree, hardly any.
LEAST_DETAIL = 0.9
# Images, drawn at even steps, with which an image of a pair is compared: what two thirds of them
# show, too, is the background of the whole set (one camera, one form, one print) and tells nothing.
_DRAWN = 12
_COMMON = 8
# A pair that agrees so far is a copy even where there is such a background, unless the background
# alone explains as much: forms with other names in them.
_ALL_AGREES = 0.95
# Views that are held at once; 200 MB.
_HELD = 1_500
_AT_ONCE = 256


@dataclass(frozen=True)
class ImageRef:
    """One image of a comparison.

    Attributes
    ----------
    part : str
        "train" or "test".
    position : int
        Its place there, from 0.
    id : str
    label : str or None
    """

    part: str
    position: int
    id: str
    label: str | None


@dataclass(frozen=True)
class Pair:
    """Two images that are the same.

    Attributes
    ----------
    grade : Grade
        The same file; the same photograph, resized, cropped, toned, framed, turned or mirrored; or
        the same scene, which one affine map explains in part.
    cosine : float
        Of their embeddings, less the mean of all.
    points : int
        Local features that agree with one affine map; 0 for equal files and plain images.
    explained : float
        Share of the aligned overlap, 0 to 1, in which the two look alike.
    """

    first: ImageRef
    second: ImageRef
    grade: Grade
    cosine: float = 1.0
    points: int = 0
    explained: float = 1.0

    @property
    def across(self) -> bool:
        """Whether one trains and the other tests."""
        return self.first.part != self.second.part

    @property
    def conflicting(self) -> bool:
        """Whether the two have different labels."""
        return self.first.label != self.second.label


@dataclass(frozen=True, eq=False)
class Copies:
    """The images that are copies of each other, which is known before folds are drawn.

    Attributes
    ----------
    pairs : tuple of Pair
        n equal files are n - 1 pairs.
    groups : ndarray of int, shape (n_train,)
        A number per training image, the same for all that are joined by pairs.
    test_groups : ndarray of int, shape (n_test,), or None
        The same of the test images; None where there is no test set.
    near : bool
        False where there are too many images to look for more than equal files.
    candidates : int
        Pairs that are near by embedding or hash.
    looked_at : int
        The most promising of them, which were looked at.
    plain : int
        Images among these with too few local features: only nearly unchanged copies of them are
        found.
    seconds : float
    """

    pairs: tuple[Pair, ...]
    groups: np.ndarray
    test_groups: np.ndarray | None
    near: bool = True
    candidates: int = 0
    looked_at: int = 0
    plain: int = 0
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """The share of the training images that have a copy among them, 0 to 1."""
        counts = np.unique(self.groups, return_counts=True)[1]
        return float(counts[counts > 1].sum() / counts.sum())


def find(
    train: EmbeddedImages,
    test: EmbeddedImages | None = None,
    *,
    most_images: int = MOST_IMAGES,
    most_hashed: int = candidates.MOST_HASHED,
    most_pairs: int = MOST_PAIRS,
    progress: bool = False,
) -> Copies:
    """Look for copies among the images of both sets.

    Parameters
    ----------
    train, test : EmbeddedImages
        Of one backbone.
    most_images : int
        Of more images than this only equal files are sought.
    most_hashed : int
        Of more than this only the nearest by their embeddings are candidates.
    most_pairs : int
        Candidates that are looked at, the most promising first.
    progress : bool
        Whether to show a bar of these.
    """
    started = time.perf_counter()
    sets = {"train": train} if test is None else {"train": train, "test": test}
    X = np.concatenate([one.features.X for one in sets.values()])
    items = [item for one in sets.values() for item in one.images.items]
    refs = refs_of(sets)
    equal = _equal(items, X)
    pairs = [Pair(refs[i], refs[j], Grade.FILE) for i, j in equal]
    # One of each set of equal files stands for all.
    single = np.unique(groups(len(X), equal), return_index=True)[1]
    near = len(X) <= most_images
    listed: list[Candidate] = []
    plain = 0
    if near and len(single) > 1:
        cut = int((single < len(train.images)).sum())
        with _threads() as pool, tqdm(desc="copies", unit="pair", disable=not progress) as bar:
            chosen = [items[n] for n in single]
            listed = _candidates(chosen, X[single], cut, most_hashed, pool)
            bar.reset(min(len(listed), most_pairs))
            judged, plain = _judged(chosen, listed[:most_pairs], pool, bar)
        pairs += [
            Pair(refs[single[c.first]], refs[single[c.second]], grade, c.cosine, points, share)
            for c, grade, points, share in judged
        ]
        joined = equal + [(int(single[c.first]), int(single[c.second])) for c, *_ in judged]
    else:
        joined = equal
    found = groups(len(X), joined)
    cut = len(train.images)
    return Copies(
        pairs=tuple(pairs),
        groups=found[:cut],
        test_groups=None if test is None else found[cut:],
        near=near,
        candidates=len(listed),
        looked_at=min(len(listed), most_pairs),
        plain=plain,
        seconds=time.perf_counter() - started,
    )


def refs_of(sets: dict[str, EmbeddedImages]) -> list[ImageRef]:
    """Return what names each image, part after part."""
    return [
        ImageRef(part, position, item.id, None if item.label is None else str(item.label))
        for part, one in sets.items()
        for position, item in enumerate(one.images.items)
    ]


def groups(n: int, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return a number per image, the same for all that are joined by pairs; int, shape (n,)."""
    first, second = ([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    joined = coo_array((np.ones(len(pairs), bool), (first, second)), shape=(n, n))
    return np.asarray(connected_components(joined, directed=False)[1])


def _equal(items: Sequence[Item], X: np.ndarray) -> list[tuple[int, int]]:
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
            found += list(zip(equal, equal[1:], strict=False))
    return sorted(found)


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Give a pool in which each thread runs OpenCV by itself."""
    import cv2

    before = cv2.getNumThreads()
    # OpenCV's own threads, beside these, would only wait for each other. A global switch of the
    # process: it is put back.
    cv2.setNumThreads(1)
    try:
        # So would those of NumPy's products of small matrices.
        with (
            threadpool_limits(1, "blas"),
            ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool,
        ):
            yield pool
    finally:
        cv2.setNumThreads(before)


def _candidates(
    items: Sequence[Item], X: np.ndarray, cut: int, most_hashed: int, pool: ThreadPoolExecutor
) -> list[Candidate]:
    codes: dict[int, np.ndarray] = {}
    if len(items) <= most_hashed:
        read = pool.map(candidates.codes, items)
        codes = {n: code for n, code in enumerate(read) if code is not None}
    return candidates.candidates(X, cut, codes, pool)


Judged = tuple[Candidate, Grade, int, float]


def _judged(
    items: Sequence[Item], listed: Sequence[Candidate], pool: ThreadPoolExecutor, bar: Any
) -> tuple[list[Judged], int]:
    """Return the candidates that are copies, and the number of plain images among all."""
    views: OrderedDict[int, View | None] = OrderedDict()
    found: list[Judged] = []
    plain: set[int] = set()
    common: dict[int, float] = {}
    drawn: list[View] | None = None
    # Neighbours in turn, so that few images are made ready twice.
    turn = sorted(listed, key=lambda pair: (pair.first, pair.second))
    for start in range(0, len(turn), _AT_ONCE):
        batch = turn[start : start + _AT_ONCE]
        asked = sorted({n for pair in batch for n in (pair.first, pair.second)})
        missing = [n for n in asked if n not in views]
        views.update(
            zip(missing, pool.map(lambda n: geometry.view(items[n]), missing), strict=True)
        )
        for n in asked:
            views.move_to_end(n)
            one = views[n]
            if one is not None and one.plain:
                plain.add(n)
        judged = list(pool.map(partial(_judge, items=items, views=dict(views)), batch))
        doubtful = [one for one in judged if one is not None and one[2]]
        asked = sorted({one[0].first for one in doubtful} - common.keys())
        if asked and drawn is None:
            step = -(-len(items) // _DRAWN)
            drawn = [one for one in pool.map(geometry.view, items[::step]) if one is not None]
        shown = pool.map(partial(_common, drawn=drawn), [views[n] for n in asked])
        common.update(zip(asked, shown, strict=True))
        found += [
            one
            for one in judged
            if one is not None and not (one in doubtful and _tells_nothing(one, common))
        ]
        bar.update(len(batch))
        while len(views) > _HELD:
            views.popitem(last=False)
    found.sort(key=lambda one: one[0].promise, reverse=True)
    return found, len(plain)


def _judge(pair: Candidate, items: Sequence[Item], views: dict[int, View | None]) -> Judged | None:
    first, second = views[pair.first], views[pair.second]
    if first is None or second is None:
        return None
    if first.plain or second.plain:
        # Nothing tells where one lies on the other: only what has hardly been moved is found.
        if pair.bits is None:
            return None
        waves = [candidates.waves(items[n], 64, 16) for n in (pair.first, pair.second)]
        like = candidates.detail(*waves)
        return (pair, Grade.PHOTOGRAPH, 0, like) if like >= LEAST_DETAIL else None
    same = geometry.compare(first, second)
    if same is None:
        return None
    grade, aligned, seen = same
    return pair, grade, aligned.points, seen.explained


def _tells_nothing(one: Judged, common: dict[int, float]) -> bool:
    """Return whether a pair agrees in nothing but what most images of the set show."""
    explained, background = one[3], common[one[0].first]
    return background > 0 and (explained < _ALL_AGREES or background >= _ALL_AGREES)


def _common(view: View | None, drawn: Sequence[View] | None) -> float:
    """Return the share of an image that most of the drawn images explain; 0 for none of it.

    All that can be laid on the image count, and not those alone that would be a pair: of tiles with
    one print and one grid some agree a little more than a pair must, most a little less.
    """
    if view is None or drawn is None:
        return 0.0
    others = [one for one in drawn if not np.array_equal(one.grey, view.grey)]
    explained: list[float] = []
    for number, one in enumerate(others):
        aligned = geometry.align(view, one)
        seen = None if aligned is None else geometry.overlap(view, one, aligned.affine)
        if seen is not None:
            explained.append(seen.explained)
        if len(explained) + len(others) - number - 1 < _COMMON:
            return 0.0
    return sorted(explained, reverse=True)[_COMMON - 1]
