"""The cost of a method in seconds: one extraction and a fit, against epochs of the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from featx.evaluation.results import ExtractionCost, Result


@dataclass(frozen=True)
class Cost:
    """The seconds of one method; means over seeds and folds.

    Attributes
    ----------
    trainings : int
        Trainings in one evaluation: the folds, or 1.
    extraction_seconds : float or None
        One extraction of all images; None for the baseline and where unknown.
    total : float or None
        Seconds to the first prediction; None where those of the extraction are unknown.
    ratio, ratio_each : float or None
        The baseline's seconds divided by these: to the first prediction, and of each training
        after it.
    break_even_trainings : int or None
        From which training on the head is cheaper; None: never, or unknown.
    break_even_epochs : float or None
        From how many epochs of the baseline on the first training is cheaper with a head.
    """

    backbone: str
    method: str
    kind: str
    trainings: int
    extraction_seconds: float | None
    fit_seconds: float
    predict_seconds: float
    total: float | None
    epochs: float | None = None
    epoch_seconds: float | None = None
    ratio: float | None = None
    ratio_each: float | None = None
    break_even_trainings: int | None = None
    break_even_epochs: float | None = None

    @property
    def each(self) -> float:
        """Seconds of one more training with its predictions."""
        return self.fit_seconds + self.predict_seconds


def costs(
    results: Sequence[Result], extractions: Sequence[ExtractionCost]
) -> dict[tuple[str, str], Cost]:
    """Return the cost of every method: (backbone, method) -> Cost."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.backbone, result.method), []).append(result)
    known = {one.backbone: one for one in extractions}
    baselines = {
        backbone: _baseline(group)
        for (backbone, _), group in groups.items()
        if group[0].kind == "baseline"
    }
    found = {}
    for key, group in groups.items():
        baseline = baselines.get(key[0])
        if group[0].kind == "baseline":
            found[key] = baselines[key[0]]
        else:
            seconds = _extraction(known[key[0]], baseline, groups)
            found[key] = _head(group, seconds, baseline)
    return found


def _baseline(group: Sequence[Result]) -> Cost:
    first = group[0]
    fit, predict = _mean(group, "fit_seconds"), _mean(group, "predict_seconds")
    trainings = len({result.fold for result in group})
    return Cost(
        backbone=first.backbone,
        method=first.method,
        kind=first.kind,
        trainings=trainings,
        extraction_seconds=None,
        fit_seconds=fit,
        predict_seconds=predict,
        total=trainings * (fit + predict),
        epochs=_mean(group, "epochs"),
        epoch_seconds=_mean(group, "epoch_seconds"),
    )


def _extraction(
    done: ExtractionCost, baseline: Cost | None, groups: dict[tuple[str, str], list[Result]]
) -> float | None:
    """Return an extraction's seconds: as measured, else from the baseline's epochs, else None."""
    if done.cost is not None or baseline is None or baseline.epoch_seconds is None:
        return done.cost
    n_train = fmean(result.n_train for result in groups[baseline.backbone, baseline.method])
    return baseline.epoch_seconds * done.images / n_train


def _head(group: Sequence[Result], seconds: float | None, baseline: Cost | None) -> Cost:
    first = group[0]
    fit, predict = _mean(group, "fit_seconds"), _mean(group, "predict_seconds")
    each, trainings = fit + predict, len({result.fold for result in group})
    total = None if seconds is None else seconds + trainings * each
    ratio = trainings_to_even = epochs_to_even = None
    if baseline is not None and baseline.total is not None and seconds is not None:
        ratio = baseline.total / (seconds + trainings * each)
        saved = baseline.each - each
        trainings_to_even = max(1, math.ceil(seconds / saved)) if saved > 0 else None
        if baseline.epoch_seconds:
            spent = seconds + each - baseline.predict_seconds
            epochs_to_even = max(0.0, spent / baseline.epoch_seconds)
    return Cost(
        backbone=first.backbone,
        method=first.method,
        kind=first.kind,
        trainings=trainings,
        extraction_seconds=seconds,
        fit_seconds=fit,
        predict_seconds=predict,
        total=total,
        ratio=ratio,
        ratio_each=None if baseline is None else baseline.each / each,
        break_even_trainings=trainings_to_even,
        break_even_epochs=epochs_to_even,
    )


def _mean(group: Sequence[Result], name: str) -> float:
    return fmean(float(getattr(result, name)) for result in group)
