"""Divide a stand-in so that no test image has a near-duplicate among those that train.

Photographs of one tile, or frames of one film, are the same image to a network: with some of
them on both sides, memory is scored. Which images look alike is what `featx.benchmark` reports.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

import featx
from benchmarks.published.system import Parts
from featx import Backbone, Dataset
from featx.errors import DatasetError

TENTHS = 3  # of the groups, which are tested where groups must stay together
# The search looks at the likest few of each image, so that of very many alike it may miss some
# until others are left out: what it finds in a division stays together in the next one.
ROUNDS = 6


@functools.cache
def apart(
    images: Dataset, cache: Path, train: float | int, test: float | int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide as `divided` does, until no test image is found to have a near-duplicate that trains.

    Raises
    ------
    DatasetError
        Near-duplicates are left on both sides after `ROUNDS` divisions.
    """
    labels = np.asarray([item.label for item in images.items], dtype=object)
    groups = _alike_within(images, cache)
    for _ in range(ROUNDS):
        fit, score = divided(labels, groups, train, test, seed)
        found = alike(images.subset(fit), cache, images.subset(score))
        if not shared(found["train"], found["test"]):
            return fit, score
        chosen, more = np.concatenate([fit, score]), np.concatenate(list(found.values()))
        groups = merged(groups, chosen, more)
    raise DatasetError(f"near-duplicates are left on both sides after {ROUNDS} divisions.")


@functools.cache
def _alike_within(images: Dataset, cache: Path) -> np.ndarray:
    return alike(images, cache)["train"]


def merged(groups: np.ndarray, chosen: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Return groups in which those are one, too, that `more` numbers alike of the chosen ones."""
    groups = groups.copy()
    for number in np.unique(more):
        together = np.unique(groups[chosen[more == number]])
        groups[np.isin(groups, together)] = together[0]
    return groups


def alike(images: Dataset, cache: Path, test: Dataset | None = None) -> dict[str, np.ndarray]:
    """Return a number per image of "train" (and of "test"), the same for all near-duplicates."""
    report = featx.benchmark(
        images,
        test,
        backbones=[Backbone("mobilenet_v2")],
        heads=["nearest"],
        folds=2,
        baseline=False,
        cache=cache,
        progress=False,
    )
    assert report.leaks is not None
    return dict(report.leaks.groups)


def divided(
    labels: np.ndarray, groups: np.ndarray, train: float | int, test: float | int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions to train on and to test on, class by class; near-duplicates stay together.

    Parameters
    ----------
    labels : ndarray, shape (n,)
    groups : ndarray of int, shape (n,)
        As `alike` gives them.
    train, test : int or float
        So many images, or such a share of them.
    seed : int

    Raises
    ------
    DatasetError
        The groups cannot be divided so that every class trains.

    Notes
    -----
    A random stratified division is used if it happens to keep them together. Otherwise whole
    groups go to either side, three tenths of all to the test, and from each side as many images
    are drawn as were asked for, or a share of them is all there are.
    """
    every = np.arange(len(labels))
    fit, score = train_test_split(
        every, train_size=train, test_size=test, stratify=labels, random_state=seed
    )
    if not shared(groups[fit], groups[score]):
        return fit, score
    folds = StratifiedGroupKFold(10, shuffle=True, random_state=seed)
    tested = np.concatenate([part for _, part in list(folds.split(every, labels, groups))[:TENTHS]])
    sides = np.setdiff1d(every, tested), tested
    if any(set(labels[side]) != set(labels) for side in sides):
        raise DatasetError("a class is one group of near-duplicates: it cannot be divided.")
    return _drawn(sides[0], labels, train, seed), _drawn(sides[1], labels, test, seed)


def _drawn(side: np.ndarray, labels: np.ndarray, wanted: float | int, seed: int) -> np.ndarray:
    if isinstance(wanted, float) or wanted >= len(side):
        return np.asarray(side)
    return np.asarray(
        train_test_split(side, train_size=wanted, stratify=labels[side], random_state=seed)[0]
    )


def shared(trained: np.ndarray, tested: np.ndarray) -> int:
    """Return how many test images have a near-duplicate that trains."""
    return int(np.isin(tested, trained).sum())


def near_duplicates(parts: Parts, cache: Path) -> int:
    """Return how many test images of a division have a near-duplicate that trains."""
    found = alike(parts.train, cache, parts.test)
    return shared(found["train"], found["test"])
