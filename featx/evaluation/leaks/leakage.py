"""Leaks and data quality: copies across the split or with two labels, small classes, shortcuts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from featx.datasets.items import Item
from featx.errors import ImageError
from featx.evaluation.leaks import duplicates, shortcuts
from featx.evaluation.leaks.duplicates import Duplicate
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
SHOWN = 12
_THUMBNAIL = 160


@dataclass(frozen=True)
class ImageRef:
    """One image of a comparison: "train" or "test", its id there, and its label."""

    part: str
    id: str
    label: str | None


@dataclass(frozen=True)
class Pair:
    """Two images that are the same, or nearly.

    Attributes
    ----------
    kind : {"exact", "near"}
        The same bytes, or the same scene to the eye.
    cosine : float
        Of their embeddings.
    """

    first: ImageRef
    second: ImageRef
    kind: Literal["exact", "near"]
    cosine: float

    @property
    def across(self) -> bool:
        """Whether one trains and the other tests."""
        return self.first.part != self.second.part

    @property
    def conflicting(self) -> bool:
        """Whether the two have different labels."""
        return self.first.label != self.second.label


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
        Ids of the test images of which training has a copy, in their order.
    groups : mapping of str to ndarray of int
        Part -> a number per image, the same for all copies of each other in every part: the
        `groups` of scikit-learn's `StratifiedGroupKFold`.
    small : mapping of str to int
        Classes with fewer than `FEWEST_IMAGES` training images.
    shortcuts : tuple of Shortcut
        What about the files tells the class.
    thumbnails : mapping of ImageRef to bytes
        JPEGs of the first `SHOWN` pairs.
    seconds : float
    near : bool
        False where there are too many images to look for more than equal files.
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
    thumbnails: Mapping[ImageRef, bytes] = field(default_factory=dict)
    seconds: float = 0.0
    near: bool = True
    apart: bool = False
    divided: float | None = None


@dataclass(frozen=True, eq=False)
class Copies:
    """The images that are duplicates of each other, which is known before folds are drawn.

    Attributes
    ----------
    duplicates : tuple of Duplicate
        By position in the training images followed by the test images.
    groups : ndarray of int, shape (n_train,)
        A number per training image, the same for all duplicates of each other.
    test_groups : ndarray of int, shape (n_test,), or None
        The same of the test images; None where there is no test set.
    near : bool
        False where there are too many images to look for more than equal files.
    """

    duplicates: tuple[Duplicate, ...]
    groups: np.ndarray
    test_groups: np.ndarray | None
    near: bool
    seconds: float

    @property
    def share(self) -> float:
        """The share of the training images that have a duplicate among them, 0 to 1."""
        return _share(self.groups)


def _share(groups: np.ndarray) -> float:
    counts = np.unique(groups, return_counts=True)[1]
    return float(counts[counts > 1].sum() / counts.sum())


def find_copies(
    train: EmbeddedImages,
    test: EmbeddedImages | None = None,
    *,
    most_images: int = duplicates.MOST_IMAGES,
    most_hashed: int = duplicates.MOST_HASHED,
) -> Copies:
    """Look for duplicates among the images of both sets; see `duplicates.duplicates`."""
    started = time.perf_counter()
    sets = [train] if test is None else [train, test]
    X = np.concatenate([one.features.X for one in sets])
    items = [item for one in sets for item in one.images.items]
    found = duplicates.duplicates(items, X, most_images=most_images, most_hashed=most_hashed)
    groups = duplicates.groups(len(X), found)
    cut = len(train.images)
    return Copies(
        duplicates=tuple(found),
        groups=groups[:cut],
        test_groups=None if test is None else groups[cut:],
        near=len(X) <= most_images,
        seconds=time.perf_counter() - started,
    )


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
        As `find_copies` returned them for these images, if it was asked before.
    apart, divided
        What `Leaks` holds under these names, as `divides` and `divided_accuracy` return it.

    Notes
    -----
    The perceptual hash of each image is put to that of each other, at four flips and nineteen
    cuts, and where they agree, the correlation of the middle frequencies of their grey thumbnails
    decides. Of more than 20,000 images only the nearest embeddings by cosine are compared, and of
    more than 50,000 only equal files are sought. A copy that is turned, heavily cut or painted over
    is not found.

    The thresholds were chosen on planted copies of these four sets; of others, 100 of each kind,
    it found (`tests/evaluation/leaks/test_leakage.py` plants them; in brackets what the ten nearest
    embeddings of MobileNetV2 alone led to, as all images of one texture are near each other to it):

    ======================= ========= ========== ========= ========= =========
    images                same file re-encoded resized   flipped   cropped
    ======================= ========= ========== ========= ========= =========
    flowers (photos)        100       100 (100)  100 (99)  100 (100) 100 (100)
    trashnet (objects)      100       100 (100)  100 (100) 100 (100) 100 (100)
    steel (grey)            100       100 (73)   96 (56)   100 (72)  99 (79)
    magnetic_tile (grey)    100       100 (91)   100 (73)  100 (80)  100 (78)
    ======================= ========= ========== ========= ========= =========

    None of the 500 copies was joined to a different image but in magnetic_tile, whose tiles are
    photographed several times: two of 1,000 copies were joined to another tile. Without copies it
    reports 3 pairs of flowers and 3 of trashnet (the same scene or object again), none of steel and
    999 of magnetic_tile: the same tile at other exposures, but for at most five pairs of different
    tiles, to the eye.
    """
    found = find_copies(train, test) if copies is None else copies
    started = time.perf_counter()
    parts = {"train": train} if test is None else {"train": train, "test": test}
    items = [item for one in parts.values() for item in one.images.items]
    refs = [
        ImageRef(part, item.id, None if item.label is None else str(item.label))
        for part, one in parts.items()
        for item in one.images.items
    ]
    pairs = sorted(found.duplicates, key=lambda pair: _suspicion(pair, refs))
    labels = [str(item.label) for item in train.images.items if item.label is not None]
    labelled = len(labels) == len(train.images)
    tested = {} if found.test_groups is None else {"test": found.test_groups}
    return Leaks(
        images=len(items),
        pairs=tuple(Pair(refs[p.first], refs[p.second], p.kind, p.cosine) for p in pairs),
        leaked=_leaked(refs, found),
        groups={"train": found.groups, **tested},
        small=_small(labels) if labelled else {},
        shortcuts=tuple(shortcuts.shortcuts(train.images.items, labels)) if labelled else (),
        thumbnails=_thumbnails(pairs[:SHOWN], items, refs),
        seconds=found.seconds + time.perf_counter() - started,
        near=found.near,
        apart=apart,
        divided=divided,
    )


def _suspicion(pair: Duplicate, refs: Sequence[ImageRef]) -> tuple[bool, bool, bool, int, int]:
    one, two = refs[pair.first], refs[pair.second]
    # False sorts before True.
    return (
        one.label == two.label,
        one.part == two.part,
        pair.kind == "near",
        pair.bits,
        pair.first,
    )


def _small(labels: Sequence[str]) -> dict[str, int]:
    return {name: n for name, n in sorted(Counter(labels).items()) if n < FEWEST_IMAGES}


def _leaked(refs: Sequence[ImageRef], copies: Copies) -> tuple[str, ...]:
    if copies.test_groups is None:
        return ()
    trained = np.isin(copies.test_groups, copies.groups)
    tested = refs[len(copies.groups) :]
    return tuple(ref.id for ref, leaked in zip(tested, trained, strict=True) if leaked)


def _thumbnails(
    found: Sequence[Duplicate], items: Sequence[Item], refs: Sequence[ImageRef]
) -> dict[ImageRef, bytes]:
    images = {}
    for position in {position for pair in found for position in (pair.first, pair.second)}:
        try:
            pixels = decoding.pixels(items[position].source)
        except ImageError:
            continue
        images[refs[position]] = thumbnail(pixels, _THUMBNAIL)
    return images


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
