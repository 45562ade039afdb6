"""The learning curve: accuracy over training images per class, from the cached features."""

from __future__ import annotations

import logging
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.evaluation.protocol.splits import Split
from featx.evaluation.protocol.trials import Method
from featx.evaluation.scores import intervals
from featx.evaluation.scores.intervals import Interval
from featx.heads import fitting

logger = logging.getLogger(__name__)

# Five draws show how much the choice of images matters; their mean moves little beyond that.
REPEATS = 5
# Of a slow head, which is tried at every other size besides. Folds are never fewer: all of them
# test every image once, a part of them would leave images out.
FEWER_REPEATS = 3
# Seconds of one curve.
MOST_SECONDS = 12.0
# A step at most multiplies the images by this, and so about the seconds.
_STEP = 2.5


@dataclass(frozen=True)
class LearningPoint:
    """The accuracy with so many training images.

    Attributes
    ----------
    per_class : int
        At most so many of each class; a smaller class gives all it has.
    n_train : float
        Training images, their mean over the repeats.
    interval : Interval
        95 %, over the tested images; with a test set also over which images were drawn for
        training, as those of a fold are tested after one draw only.
    repeats : int
        Draws of training images.
    """

    per_class: int
    n_train: float
    accuracy: float
    interval: Interval
    repeats: int


@dataclass(frozen=True)
class LearningCurve:
    """One head; the last point is that of the comparison itself, with all training images."""

    backbone: str
    method: str
    points: tuple[LearningPoint, ...]
    seconds: float
    note: str = ""


def sizes(y: Sequence[str]) -> list[int]:
    """Return the images per class to try: 2, 5, 10, 20, ... below those of the largest class.

    >>> sizes(["a"] * 60 + ["b"] * 9)
    [2, 5, 10, 20, 50]
    """
    largest = max(Counter(y).values())
    steps = (factor * 10**power for power in range(8) for factor in (1, 2, 5))
    return [size for size in steps if 2 <= size < largest]


def drawn(y: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Return positions of at most `per_class` images of each class, in their order.

    Of one seed a smaller draw is a part of each larger one, so that a step of the curve shows the
    added images and not another draw.
    """
    rng = np.random.default_rng(seed)
    found = [rng.permutation(np.flatnonzero(y == name))[:per_class] for name in np.unique(y)]
    return np.sort(np.concatenate(found))


def curve(
    method: Method,
    backbone: str,
    splits: Sequence[Split],
    last: LearningPoint,
    *,
    slow: bool,
    most_seconds: float = MOST_SECONDS,
) -> LearningCurve:
    """Return the learning curve of a head.

    Parameters
    ----------
    splits : sequence of Split
        One, with a test set: the draws are tested on the same images. Else the folds, a draw
        each, so that every image is tested once.
    last : LearningPoint
        With all training images.
    slow : bool
        Take every other size and, with a test set, fewer draws.
    most_seconds : float
        A curve whose next point would go beyond this ends with the point that it had reached.
    """
    repeats = FEWER_REPEATS if slow else REPEATS
    draws = list(enumerate(splits if len(splits) > 1 else [splits[0]] * repeats))
    steps = sizes([str(name) for name in splits[0].y_train])
    steps = steps[1 - len(steps) % 2 :: 2] if slow else steps
    started = before = time.perf_counter()
    points: list[LearningPoint] = []
    note, forecast = "", 0.0
    for size in steps:
        if before - started + forecast > most_seconds:
            reached = points[-1].per_class if points else 0
            note = f"No point between {reached} and all images: it would take too long."
            break
        try:
            points.append(_point(method, draws, size))
        except Exception:  # such as a head that needs more images per class
            logger.debug("%s with %d per class failed", method.name, size, exc_info=True)
        now = time.perf_counter()
        before, forecast = now, _STEP * (now - before)
    points = [point for point in points if point.per_class < last.per_class]
    return LearningCurve(
        backbone, method.name, (*points, last), time.perf_counter() - started, note
    )


def _point(method: Method, draws: Sequence[tuple[int, Split]], size: int) -> LearningPoint:
    right, counts = [], []
    for seed, split in draws:
        chosen = drawn(split.y_train, size, seed)
        with warnings.catch_warnings():
            # What a head warns of on few images means nothing for all of them.
            warnings.simplefilter("ignore")
            groups = None if split.groups is None else split.groups[chosen]
            X, y = split.X_train[chosen], split.y_train[chosen]
            model = fitting.fit(method.make(seed), X, y, groups=groups)
            right.append(model.predict(split.X_test) == split.y_test)
        counts.append(len(chosen))
    if draws[0][1].fold is not None:
        correct = np.concatenate(right)
        interval = intervals.accuracy_interval(correct)
    else:
        correct = np.stack(right)
        interval = intervals.crossed_interval(correct)
    return LearningPoint(size, float(np.mean(counts)), float(correct.mean()), interval, len(right))
