"""What a comparison will cost, said before it is spent: from counts and short trials."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx import formatting
from featx.datasets.dataset import Dataset
from featx.evaluation.protocol.plan import BASELINE, Folds, Plan
from featx.evaluation.protocol.splits import EmbeddedImages
from featx.evaluation.protocol.trials import Method
from featx.extraction.estimate import count_cached, estimate
from featx.heads import fitting

logger = logging.getLogger(__name__)

# With fewer images a trial would take a good part of what it tells of.
FEWEST_IMAGES = 5_000
FEWEST_ROWS = 20_000
# Rows of a trial: so many that the heads do what they do with many (early stopping, solvers,
# batches), and a tenth of one fit of 50,000 rows.
TRIED_ROWS = 5_000
_TRIED_ANSWERS = 1_000
_WARM_ROWS = 200
# The powers of the rows with which the seconds of a fit of our heads grew from 5,000 to 50,000 rows
# of 1,280 numbers and 10 classes (crops of 64 pixels, MobileNetV2, two cores): a part is constant,
# and solvers that are made for many rows come in. `benchmarks/heads.py growth` measures such.
GROWTH = {
    "LogisticHead": 0.8,
    "RidgeHead": 0.4,
    "MLPHead": 0.85,
    "XGBoostHead": 0.85,
    "DenseClassifier": 0.37,
    "NearestHead": 1.0,
    "CalibratedHead": 0.9,
}
# Likewise of answers, where neighbours are sought among all rows.
ANSWERS_GROWTH = {"NearestHead": 0.7, "KNeighborsClassifier": 1.0}
# Of others the power of the rows is measured between two sizes, and believed within these.
_LEAST, _MOST = 0.0, 3.0

Fits = Sequence[tuple[int, int]]
"""Rows trained on and rows answered for, of each fit."""


@dataclass(frozen=True)
class Work:
    """What is to be done for one method on one backbone.

    Attributes
    ----------
    kept : int
        Trainings and choices that an earlier run has finished.
    choice, training : float or None
        Seconds of choosing, 0 where that is done or not to be; and of all its trainings. None
        where they are not known.
    """

    backbone: str
    method: str
    fits: int
    kept: int = 0
    choice: float | None = None
    training: float | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds in all; None where they are not known."""
        if self.choice is None or self.training is None:
            return None
        return self.choice + self.training


def announce_extraction(
    asked: Plan, train: Dataset, test: Dataset | None, *, leaks: bool, evidence: bool
) -> None:
    """Log what goes through the networks and, of many images, for how long; and what follows."""
    parts = [train] if test is None else [train, test]
    images = sum(map(len, parts))
    for backbone in asked.backbones:
        name, said = asked.label(backbone), ""
        options = {key: asked.extraction[key] for key in ("cache", "batch_size", "runtime")}
        if not isinstance(options["runtime"], str):
            pass
        elif images < FEWEST_IMAGES:
            found = [count_cached(part, backbone, options["cache"]) for part in parts]
            if cached := sum(count for count, _ in found):
                about = "" if all(exact for _, exact in found) else "about "
                said = f" ({about}{cached:,} are cached)"
        else:
            cost = estimate(train, backbone, **options)
            missing = round((cost.images - cost.cached) * images / len(train))
            seconds = cost.start_seconds
            if cost.images_per_second:
                seconds += missing / cost.images_per_second
            said = f" ({'' if cost.exact else 'about '}{images - missing:,} are cached)"
            if missing:
                said += f", about {formatting.seconds(seconds)} by a short trial"
        logger.info("%s images go through %s once%s.", f"{images:,}", name, said)
    if asked.recipe is not None:
        folds = 1 if test is not None else asked.folds
        share = 1.0 if test is not None else 1 - 1 / asked.folds
        runs = sum(
            len(asked.seeds) for each in asked.backbones for one in asked.methods(each)
            if one.name == BASELINE
        )  # fmt: skip
        passes = round(runs * folds * asked.recipe.epochs * share * len(train))
        logger.info(
            "The baseline sends each image through the network every epoch: up to %s passes.",
            f"{passes:,}",
        )
    rest = []
    if leaks:
        rest.append("the search for copies (--no-leaks, or leaks=False, leaves it out)")
    if evidence:
        rest.append(
            "the evidence, such as learning curve and calibration (--no-evidence, or "
            "evidence=False, leaves it out)"
        )
    if rest:
        logger.info("Besides the fits there is %s.", " and ".join(rest))


def fits_of_choice(n: int, folds: Folds) -> Fits:
    """Return the fits that choosing takes of a head."""
    if not folds:
        return ()
    return [(n - n // folds.drawn, n // folds.drawn)] * folds.scored


def fits_of_training(n: int, n_test: int | None, folds: int, seeds: int) -> Fits:
    """Return the fits that trying a method takes; `n_test` is None where folds are tested."""
    if n_test is not None:
        return [(n, n_test)] * seeds
    return [(n - n // folds, n // folds)] * (folds * seeds)


def tried(
    method: Method, train: EmbeddedImages, seed: int, choice: Fits, training: Fits
) -> tuple[float | None, float | None]:
    """Return the seconds of these fits, by a trial with a part of the rows; None where it fails."""
    n = len(train.labels)
    if method.kind == "baseline" or n < FEWEST_ROWS:
        return None, None
    if not choice and not training:
        return 0.0, 0.0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head = _Trial(method, train, seed)
            return sum(map(head.seconds, choice)), sum(map(head.seconds, training))
    except Exception:  # the fit itself will tell why
        logger.debug("the trial of %s failed", method.name, exc_info=True)
        return None, None


class _Trial:
    """One head, fitted to a part of the rows."""

    def __init__(self, method: Method, train: EmbeddedImages, seed: int) -> None:
        order = np.random.default_rng(0).permutation(len(train.labels))
        self._train, self._method, self._seed = train, method, seed
        with suppress(Exception):  # few rows may lack a class; imports and compiling do not grow
            self._fit(order[:_WARM_ROWS])
        model, fit = self._fit(order[:TRIED_ROWS])
        kind = type(model.steps[-1][1] if hasattr(model, "steps") else model).__name__
        if kind in GROWTH:
            self._power = GROWTH[kind]
        else:
            _, half = self._fit(order[: TRIED_ROWS // 2])
            self._power = min(_MOST, max(_LEAST, math.log2(fit / half)))
        self._fit_seconds = fit
        X = train.features.X[np.sort(order[:_TRIED_ANSWERS])]
        started = time.perf_counter()
        model.predict(X)
        if hasattr(model, "predict_proba"):
            model.predict_proba(X)
        self._answer_seconds = (time.perf_counter() - started) / len(X)
        self._answers_power = ANSWERS_GROWTH.get(kind, 0.0)

    def _fit(self, rows: np.ndarray) -> tuple[Any, float]:
        rows, train = np.sort(rows), self._train
        groups = None if train.groups is None else train.groups[rows]
        X, y = train.features.X[rows], train.labels[rows]
        started = time.perf_counter()
        model = fitting.fit(self._method.make(self._seed), X, y, groups=groups)
        return model, time.perf_counter() - started

    def seconds(self, sizes: tuple[int, int]) -> float:
        """Return the seconds of a fit of so many rows and of so many answers."""
        rows, answers = sizes
        larger = rows / TRIED_ROWS
        fit = self._fit_seconds * larger**self._power
        return fit + self._answer_seconds * answers * larger**self._answers_power


def announce_fits(work: Sequence[Work], spent: float) -> None:
    """Log how many fits there are, how long they take, and which take longer than all others.

    Parameters
    ----------
    spent : float
        Seconds so far.
    """
    several = len({one.backbone for one in work}) > 1
    done = sum(one.kept for one in work)
    kept = f", and {done:,} that an earlier run finished are taken" if done else ""
    known: Mapping[Work, float] = {one: one.seconds for one in work if one.seconds is not None}
    fits = formatting.counted(sum(one.fits for one in work), "fit is", "fits are")
    if not known:
        logger.info("%s to be made%s.", fits, kept)
        return
    total = sum(known.values())
    each = ", ".join(
        f"{_name(one, several)} {formatting.seconds(seconds)}"
        for one, seconds in sorted(known.items(), key=lambda pair: -pair[1])
    )
    unknown = [_name(one, several) for one in work if one.seconds is None]
    besides = f", besides {', '.join(unknown)}, of which that is not known" if unknown else ""
    logger.info(
        "%s to be made%s, about %s by short trials (%s)%s; with all before them that is about "
        "%s, and the search for copies and the evidence come after it.",
        fits, kept, formatting.seconds(total), each, besides, formatting.seconds(spent + total),
    )  # fmt: skip
    for one, seconds in known.items():
        if len(work) > 1 and seconds > total - seconds:
            logger.info(
                "%s is to take longer than all the others together, about %s of %s; name the heads "
                "that you want (heads=, --head) to leave it out.",
                _name(one, several), formatting.seconds(seconds), formatting.seconds(total),
            )  # fmt: skip


def _name(one: Work, several: bool) -> str:
    return f"{one.method} on {one.backbone}" if several else one.method
