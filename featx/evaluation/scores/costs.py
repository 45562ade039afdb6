"""What an answer costs in seconds: one pass and a fit, against epochs of passes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from featx.evaluation.results import Pass, Result

FORMULAS = (
    "first answer, head = pass + trainings × (fit + predict)",
    "first answer, baseline = trainings × (fit + predict), its fit being epochs × pass",
    "break-even in trainings = the smallest k with pass + k × (fit + predict) of the head ≤ "
    "k × (fit + predict) of the baseline",
    "break-even in epochs = (pass + fit + predict of the head − predict of the baseline) ÷ "
    "seconds an epoch of the baseline (their median)",
)


@dataclass(frozen=True)
class Cost:
    """The seconds of one method; means over seeds and folds.

    Attributes
    ----------
    trainings : int
        Trainings in one evaluation: the folds, or 1.
    pass_seconds : float or None
        One pass of all images through the network; None for the baseline and where unknown.
    pass_source : str
        Where `pass_seconds` is known from.
    total : float or None
        Seconds to the first answer; None where the pass is unknown.
    ratio, ratio_each : float or None
        The baseline's seconds divided by these, for the first answer and for each training after.
    break_even_trainings : int or None
        From which training on the head is cheaper; None: never, or unknown.
    break_even_epochs : float or None
        From how many epochs of the baseline on the first training is cheaper with a head.
    """

    backbone: str
    method: str
    kind: str
    trainings: int
    pass_seconds: float | None
    pass_source: str
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


def costs(rows: Sequence[Result], passes: Sequence[Pass]) -> dict[tuple[str, str], Cost]:
    """Return the cost of every method: (backbone, method) -> Cost."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for row in rows:
        groups.setdefault((row.backbone, row.method), []).append(row)
    known = {done.backbone: done for done in passes}
    baselines = {
        key[0]: _baseline(group) for key, group in groups.items() if group[0].kind == "baseline"
    }
    found = {}
    for key, group in groups.items():
        baseline = baselines.get(key[0])
        if group[0].kind == "baseline":
            found[key] = baselines[key[0]]
        else:
            seconds, source = _pass(known[key[0]], baseline, groups)
            found[key] = _head(group, seconds, source, baseline)
    return found


def _baseline(group: Sequence[Result]) -> Cost:
    first = group[0]
    fit, predict = _mean(group, "fit_seconds"), _mean(group, "predict_seconds")
    trainings = len({row.fold for row in group})
    return Cost(
        first.backbone,
        first.method,
        first.kind,
        trainings,
        None,
        "every epoch is one",
        fit,
        predict,
        trainings * (fit + predict),
        epochs=_mean(group, "epochs"),
        epoch_seconds=_mean(group, "epoch_seconds"),
    )


def _pass(
    done: Pass, baseline: Cost | None, groups: dict[tuple[str, str], list[Result]]
) -> tuple[float | None, str]:
    """Return what a pass costs: as measured, else as the baseline's epochs tell, else unknown."""
    if done.cost is not None or baseline is None or baseline.epoch_seconds is None:
        return done.cost, done.source
    n_train = fmean(row.n_train for row in groups[baseline.backbone, baseline.method])
    return (
        baseline.epoch_seconds * done.images / n_train,
        "estimated from the seconds an epoch of the baseline took; rows were kept",
    )


def _head(
    group: Sequence[Result], seconds: float | None, source: str, baseline: Cost | None
) -> Cost:
    first = group[0]
    fit, predict = _mean(group, "fit_seconds"), _mean(group, "predict_seconds")
    trainings = len({row.fold for row in group})
    total = None if seconds is None else seconds + trainings * (fit + predict)
    cost = Cost(
        first.backbone,
        first.method,
        first.kind,
        trainings,
        seconds,
        source,
        fit,
        predict,
        total,
    )
    return cost if baseline is None else _against(cost, baseline)


def _against(head: Cost, baseline: Cost) -> Cost:
    values = dict(vars(head))
    values["ratio_each"] = baseline.each / head.each
    if head.total is not None and head.pass_seconds is not None and baseline.total is not None:
        values["ratio"] = baseline.total / head.total
        saved = baseline.each - head.each
        if saved > 0:
            values["break_even_trainings"] = max(1, math.ceil(head.pass_seconds / saved))
        if baseline.epoch_seconds:
            spent = head.pass_seconds + head.each - baseline.predict_seconds
            values["break_even_epochs"] = max(0.0, spent / baseline.epoch_seconds)
    return Cost(**values)


def _mean(group: Sequence[Result], name: str) -> float:
    return fmean(float(getattr(row, name)) for row in group)
