"""Leaks and data quality: copies across the split or with two labels, small classes, shortcuts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from featx.datasets.items import Item
from featx.errors import ImageError
from featx.evaluation.leaks import copies as finding
from featx.evaluation.leaks import geometry, shortcuts
from featx.evaluation.leaks.copies import Copies, ImageRef, Pair
from featx.evaluation.leaks.geometry import Grade
from featx.evaluation.leaks.shortcuts import Shortcut
from featx.evaluation.protocol import splits, trials
from featx.evaluation.protocol.splits import EmbeddedImages
from featx.evaluation.protocol.trials import Method
from featx.images import decoding
from featx.images.thumbnails import thumbnail

# Ten per class is what a stratified split of 10 % needs to hold out one; below it, a class's own
# score rests on hardly any image.
FEWEST_IMAGES = 10
# From this share of copied images on it is tried what folds that divide copies would have said.
MANY_COPIES = 0.05
# Pairs that are kept as images for the report, the most suspicious ones first.
SHOWN = 24
# Points that are drawn in each.
DRAWN = 24
_THUMBNAIL = 160


@dataclass(frozen=True, eq=False)
class Leaks:
    """What was found; empty sequences where all is well.

    Attributes
    ----------
    images : int
        Images looked at.
    pairs : tuple of Pair
        Conflicting labels first, then pairs across the split, then the others.
    leaked : tuple of str
        Ids of the test images that training has, too, as the same file, the same photograph or the
        same scene, in their order.
    leaked_scenes : tuple of str
        Those of them of which training has the same scene only.
    groups : mapping of str to ndarray of int
        Part -> a number per image, the same for all that pairs join, in every part: the `groups`
        of scikit-learn's `StratifiedGroupKFold`.
    small : mapping of str to int
        Classes with fewer than `FEWEST_IMAGES` training images.
    shortcuts : tuple of Shortcut
        What about the files tells the class.
    thumbnails : mapping of ImageRef to bytes
        JPEGs of the first `SHOWN` pairs.
    matched : mapping of Pair to ndarray of float, shape (k, 4)
        What was matched in these: x and y in the first image and in the second, 0 to 1 of its
        edges.
    seconds : float
    near : bool
        False where there are too many images to look for more than equal files.
    candidates, looked_at, plain : int
        As in `Copies`.
    apart : bool
        Whether folds divide copies, since a class has too few different images to keep them
        together; False with a test set.
    divided : float or None
        What the verdict's head would seem to get on folds that divide copies, 0 to 1; None where
        it was not tried: there is a test set, or fewer than `MANY_COPIES` of the images have one.
    """

    images: int
    pairs: tuple[Pair, ...]
    leaked: tuple[str, ...]
    groups: Mapping[str, np.ndarray]
    small: Mapping[str, int]
    shortcuts: tuple[Shortcut, ...]
    leaked_scenes: tuple[str, ...] = ()
    thumbnails: Mapping[ImageRef, bytes] = field(default_factory=dict)
    matched: Mapping[Pair, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0
    near: bool = True
    candidates: int = 0
    looked_at: int = 0
    plain: int = 0
    apart: bool = False
    divided: float | None = None


def inspect(
    train: EmbeddedImages,
    test: EmbeddedImages | None = None,
    *,
    copies: Copies | None = None,
    apart: bool = False,
    divided: float | None = None,
) -> Leaks:
    """Look for copies, small classes and shortcuts.

    Parameters
    ----------
    train, test : EmbeddedImages
        Of one backbone.
    copies : Copies, optional
        As `copies.find` returned them for these images, if it was asked before.
    apart, divided
        What `Leaks` holds under these names, as `divides` and `divided_accuracy` return it.

    Notes
    -----
    Of each image the ten nearest embeddings (and ten of the other part of a split) and those with
    an agreeing perceptual hash are candidates. Local features decide: SIFT at 256 pixels, mirrored
    or not, one affine map by RANSAC, and how much alike the two images are where they then overlap.
    benchmarks/README.md says what that found and what it missed.
    """
    found = finding.find(train, test) if copies is None else copies
    started = time.perf_counter()
    parts = {"train": train} if test is None else {"train": train, "test": test}
    items = {
        ref: item
        for ref, item in zip(
            finding.refs_of(parts),
            (item for one in parts.values() for item in one.images.items),
            strict=True,
        )
    }
    pairs = sorted(found.pairs, key=_suspicion)
    labels = [str(item.label) for item in train.images.items if item.label is not None]
    labelled = len(labels) == len(train.images)
    tested = {} if found.test_groups is None else {"test": found.test_groups}
    leaked, leaked_scenes = _leaked(list(items), found)
    return Leaks(
        images=len(items),
        pairs=tuple(pairs),
        leaked=leaked,
        leaked_scenes=leaked_scenes,
        groups={"train": found.groups, **tested},
        small=_small(labels) if labelled else {},
        shortcuts=tuple(shortcuts.shortcuts(train.images.items, labels)) if labelled else (),
        thumbnails=_thumbnails(pairs[:SHOWN], items),
        matched={pair: _matched(pair, items) for pair in pairs[:SHOWN] if pair.points},
        seconds=found.seconds + time.perf_counter() - started,
        near=found.near,
        candidates=found.candidates,
        looked_at=found.looked_at,
        plain=found.plain,
        apart=apart,
        divided=divided,
    )


def _suspicion(pair: Pair) -> tuple[bool, bool, int, int, str, int]:
    # False sorts before True.
    return (
        not pair.conflicting,
        not pair.across,
        list(Grade).index(pair.grade),
        -pair.points,
        pair.first.part,
        pair.first.position,
    )


def _small(labels: Sequence[str]) -> dict[str, int]:
    return {name: n for name, n in sorted(Counter(labels).items()) if n < FEWEST_IMAGES}


def _leaked(refs: Sequence[ImageRef], found: Copies) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return ids of test images that training has, and those of which it has the scene only."""
    if found.test_groups is None:
        return (), ()
    cut = len(found.groups)
    place = {ref: number for number, ref in enumerate(refs)}
    strict = finding.groups(
        len(refs),
        [(place[p.first], place[p.second]) for p in found.pairs if p.grade is not Grade.SCENE],
    )
    trained = np.isin(found.test_groups, found.groups)
    copied = np.isin(strict[cut:], strict[:cut])
    leaked = [
        (ref.id, copy)
        for ref, known, copy in zip(refs[cut:], trained, copied, strict=True)
        if known
    ]
    return tuple(name for name, _ in leaked), tuple(name for name, copy in leaked if not copy)


def _thumbnails(found: Sequence[Pair], items: Mapping[ImageRef, Item]) -> dict[ImageRef, bytes]:
    images = {}
    for ref in dict.fromkeys(ref for pair in found for ref in (pair.first, pair.second)):
        try:
            pixels = decoding.pixels(items[ref].source)
        except ImageError:
            continue
        images[ref] = thumbnail(pixels, _THUMBNAIL)
    return images


def _matched(pair: Pair, items: Mapping[ImageRef, Item]) -> np.ndarray:
    """Return what was matched in a pair, to be drawn: a few of the points that agree."""
    views = [geometry.view(items[ref]) for ref in (pair.first, pair.second)]
    one, two = views
    aligned = None if one is None or two is None else geometry.align(one, two)
    if one is None or two is None or aligned is None:
        return np.empty((0, 4))
    edges = [edge for view in (one, two) for edge in view.grey.shape[::-1]]
    return np.asarray(aligned.matched[:: -(-len(aligned.matched) // DRAWN)] / edges)


def divides(copies: Copies, y: np.ndarray, folds: int, seed: int) -> bool:
    """Return whether folds of the training images divide copies all the same."""
    return any(
        np.isin(copies.groups[score], copies.groups[fit]).any()
        for fit, score in splits.folds_of(y, folds, seed, copies.groups)
    )


def divided_accuracy(
    head: Method, X: np.ndarray, y: np.ndarray, folds: int, seed: int
) -> float | None:
    """Return what a head would seem to get on folds that divide copies; None where it failed."""
    found = trials.cross_validate(head, X, y, splits.folds_of(y, folds, seed), seed)
    return None if found is None else found.accuracy
