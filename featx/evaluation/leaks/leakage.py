"""Leaks and data quality: copies across the split or with two labels, small classes, shortcuts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from featx.datasets.dataset import Dataset, Item
from featx.errors import ImageError
from featx.evaluation.leaks import duplicates, shortcuts
from featx.evaluation.leaks.duplicates import Twins
from featx.evaluation.leaks.shortcuts import Shortcut
from featx.evaluation.protocol import splits, trials
from featx.evaluation.protocol.trials import Method
from featx.formatting import percent
from featx.images import decoding
from featx.images.thumbnails import thumbnail

# Ten a class is what a stratified split of 10 % needs to hold out one; below it, a class's own
# score rests on hardly any image.
FEWEST_IMAGES = 10
# From this share of copied images on it is tried what folds that divide copies would have said.
MANY_COPIES = 0.05
# Pairs that are kept as images for the report, the most suspicious ones first.
SHOWN = 12
_THUMBNAIL = 160


@dataclass(frozen=True)
class Place:
    """Where a image stands: "train" or "test", its id there, and its label."""

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
        Of their rows.
    """

    first: Place
    second: Place
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
        Part -> a number a image, the same for all copies of each other in every part: the
        `groups` of scikit-learn's `StratifiedGroupKFold`.
    small : mapping of str to int
        Classes with fewer than `FEWEST_IMAGES` training images.
    shortcuts : tuple of Shortcut
        What about the files tells the class.
    thumbnails : mapping of Place to bytes
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
    thumbnails: Mapping[Place, bytes] = field(default_factory=dict)
    seconds: float = 0.0
    near: bool = True
    apart: bool = False
    divided: float | None = None

    @property
    def copied(self) -> float:
        """The share of the training images that have a copy among them, 0 to 1."""
        counts = np.unique(self.groups["train"], return_counts=True)[1]
        return float(counts[counts > 1].sum() / counts.sum())

    @property
    def conflicting(self) -> int:
        """How many pairs have two labels."""
        return sum(pair.conflicting for pair in self.pairs)

    def sentences(self) -> list[str]:
        """Return what was found in words, a sentence each; empty where all is well."""
        exact = sum(pair.kind == "exact" for pair in self.pairs)
        near = len(self.pairs) - exact
        said = []
        if self.leaked:
            said.append(
                f"{_counted(len(self.leaked), 'test image is', 'test images are')} also in the "
                "training set, as the same file or nearly the same image: what is scored on "
                f"them is memory. Leave them out (such as {self.leaked[0]})."
            )
        if self.conflicting:
            pair = next(pair for pair in self.pairs if pair.conflicting)
            said.append(
                f"{_counted(self.conflicting, 'pair', 'pairs')} of copies with different labels, "
                f"such as {pair.first.id} and {pair.second.id}: "
                + (
                    "at least one label is wrong."
                    if pair.kind == "exact"
                    else "look at both, for a label is wrong, or what tells them apart is small."
                )
            )
        if self.pairs:
            said.append(
                f"{_counted(exact, 'pair', 'pairs')} of equal files and "
                f"{_counted(near, 'pair', 'pairs')} of near copies among {self.images:,} "
                "images."
            )
        if self.apart:
            said.append(
                "Folds divide copies: some class has too few different images to keep its copies "
                "together, so that a part of what is scored is memory."
            )
        if self.divided is not None:
            counts = np.unique(self.groups["train"], return_counts=True)[1]
            said.append(
                f"Folds keep copies together: the {counts.sum():,} images are {len(counts):,} "
                f"different ones, one of them {counts.max()} times. On folds that divide copies "
                f"the same head would seem to get {percent(self.divided)}, for it would have seen "
                "much of what it is asked."
            )
        if self.small:
            listed = ", ".join(f"{name} ({count})" for name, count in self.small.items())
            said.append(
                f"Fewer than {FEWEST_IMAGES} training images of: {listed}. Their scores say little."
            )
        for one in self.shortcuts:
            said.append(
                f"The {one.what} alone finds {one.found:.0%} of {one.label} and takes "
                f"{one.mistaken:.0%} of the others for it ({one.example}): a network can learn "
                "that instead of what is in the image."
            )
        return said


def inspect(
    train: tuple[Dataset, np.ndarray], test: tuple[Dataset, np.ndarray] | None = None
) -> Leaks:
    """Look for copies, small classes and shortcuts.

    Parameters
    ----------
    train, test : tuple of Dataset and ndarray of float32, shape (n, dim)
        Images and their rows, of one backbone.

    Notes
    -----
    The perceptual hash of each image is put to that of each other, at four flips and nineteen
    cuts, and where they agree, the correlation of the middle frequencies of their grey thumbnails
    decides. Of more than 20,000 images only the nearest rows by cosine are compared, and of more
    than 50,000 only equal files are sought. A copy that is turned, heavily cut or painted over is
    not found.

    The thresholds were chosen on planted copies of these four sets; of others, 100 of each kind,
    it found (`tests/test_leakage.py` plants them; in brackets what the ten nearest rows of
    MobileNetV2 alone led to, as all images of one texture are near each other to it):

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
    started = time.perf_counter()
    parts = {"train": train} if test is None else {"train": train, "test": test}
    items = [item for images, _ in parts.values() for item in images.items]
    places = [
        Place(part, item.id, item.label)
        for part, (images, _) in parts.items()
        for item in images.items
    ]
    rows = np.concatenate([rows for _, rows in parts.values()])
    near = len(rows) <= duplicates.MOST_ROWS
    found = duplicates.twins(items, rows)
    groups = duplicates.groups(len(rows), found)
    cut = len(train[1])
    found.sort(key=lambda twin: _suspicion(twin, places))
    labels = [item.label for item in train[0].items if item.label is not None]
    labelled = len(labels) == cut
    return Leaks(
        images=len(items),
        pairs=tuple(Pair(places[t.first], places[t.second], t.kind, t.cosine) for t in found),
        leaked=_leaked(places, groups, cut),
        groups={"train": groups[:cut]} | ({"test": groups[cut:]} if test else {}),
        small=_small(labels) if labelled else {},
        shortcuts=tuple(shortcuts.shortcuts(train[0].items, labels)) if labelled else (),
        thumbnails=_thumbnails(found[:SHOWN], items, places),
        seconds=time.perf_counter() - started,
        near=near,
    )


def _suspicion(twin: Twins, places: Sequence[Place]) -> tuple[bool, bool, bool, int, int]:
    one, two = places[twin.first], places[twin.second]
    # False sorts before True.
    return (
        one.label == two.label,
        one.part == two.part,
        twin.kind == "near",
        twin.bits,
        twin.first,
    )


def _small(labels: Sequence[str]) -> dict[str, int]:
    return {name: n for name, n in sorted(Counter(labels).items()) if n < FEWEST_IMAGES}


def _leaked(places: Sequence[Place], groups: np.ndarray, cut: int) -> tuple[str, ...]:
    trained = set(groups[:cut].tolist())
    return tuple(
        place.id
        for place, group in zip(places[cut:], groups[cut:], strict=True)
        if group in trained
    )


def _thumbnails(
    found: Sequence[Twins], items: Sequence[Item], places: Sequence[Place]
) -> dict[Place, bytes]:
    images = {}
    for position in {position for twin in found for position in (twin.first, twin.second)}:
        source = items[position].source
        try:
            content = decoding.read(source) if isinstance(source, Path) else source
            pixels = decoding.decode(content) if isinstance(content, bytes) else content
        except ImageError:
            continue
        images[places[position]] = thumbnail(pixels, _THUMBNAIL)
    return images


def _counted(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def judged(leaks: Leaks, y: np.ndarray, folds: int, seed: int) -> Leaks:
    """Return the leaks with whether folds of the training images divide copies."""
    groups = leaks.groups["train"]
    apart = any(
        np.isin(groups[score], groups[fit]).any()
        for fit, score in splits.folds_of(y, folds, seed, groups)
    )
    return replace(leaks, apart=apart)


def tried(leaks: Leaks, head: Method, X: np.ndarray, y: np.ndarray, folds: int, seed: int) -> Leaks:
    """Return the leaks with what a head would seem to get on folds that divide copies.

    Parameters
    ----------
    leaks : Leaks
        As ``judged`` returned them; left as they are where copies are few, or divided anyway.
    """
    if leaks.apart or leaks.copied < MANY_COPIES:
        return leaks
    accuracy = trials.cross_validate(head, X, y, splits.folds_of(y, folds, seed), seed).accuracy
    return leaks if np.isnan(accuracy) else replace(leaks, divided=accuracy)
