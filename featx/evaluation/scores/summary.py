"""One line a method: its scores, how sure they are, and how it stands to the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from featx.evaluation.results import Kind, Predictions, Selection
from featx.evaluation.scores import intervals, metrics
from featx.evaluation.scores.costs import Cost
from featx.evaluation.scores.intervals import Interval, PairedTest


@dataclass(frozen=True, eq=False)
class Summary:
    """A method over all its seeds; with folds, over the pooled answers of all folds.

    Attributes
    ----------
    accuracy, balanced_accuracy, macro_f1, log_loss, ece : float
        Means over seeds.
    spread : tuple of two floats
        The lowest and the highest accuracy of a seed.
    versus : PairedTest or None
        Against the baseline on the same backbone, on the same images and seeds.
    adjusted_p : float or None
        Its p-value, adjusted for the number of heads compared with that baseline (Holm).
    chosen : bool
        True for the head of the verdict.
    """

    backbone: str
    method: str
    kind: Kind
    seeds: tuple[int, ...]
    n_test: int
    accuracy: float
    interval: Interval
    spread: tuple[float, float]
    balanced_accuracy: float
    macro_f1: float
    log_loss: float | None
    ece: float | None
    first: Predictions
    cost: Cost
    versus: PairedTest | None = None
    adjusted_p: float | None = None
    chosen: bool = False


def summaries(
    predictions: Sequence[Predictions],
    classes: Sequence[str],
    costs: dict[tuple[str, str], Cost],
    selection: Selection,
) -> list[Summary]:
    """Return a summary a method, the best accuracy first, one head marked as chosen."""
    groups: dict[tuple[str, str], list[Predictions]] = {}
    for answer in predictions:
        groups.setdefault((answer.backbone, answer.method), []).append(answer)
    found = [_summary(group, classes, costs[key]) for key, group in groups.items()]
    found = _compared(found, groups)
    key = _chosen(found, selection)
    found = [replace(one, chosen=(one.backbone, one.method) == key) for one in found]
    return sorted(found, key=lambda one: -one.accuracy)


def _summary(group: Sequence[Predictions], classes: Sequence[str], cost: Cost) -> Summary:
    first = group[0]
    scores = [metrics.scores(one.y_true, one.y_pred, one.proba, classes) for one in group]
    accuracies = [one.accuracy for one in scores]
    return Summary(
        backbone=first.backbone,
        method=first.method,
        kind=first.kind,
        seeds=tuple(one.seed for one in group),
        n_test=len(first.ids),
        accuracy=fmean(accuracies),
        interval=intervals.accuracy_interval(_right(group)),
        spread=(min(accuracies), max(accuracies)),
        balanced_accuracy=fmean(one.balanced_accuracy for one in scores),
        macro_f1=fmean(one.macro_f1 for one in scores),
        log_loss=_mean([one.log_loss for one in scores]),
        ece=_mean([one.ece for one in scores]),
        first=first,
        cost=cost,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _right(group: Sequence[Predictions]) -> np.ndarray:
    return np.stack([one.y_true == one.y_pred for one in group])


def _compared(
    found: list[Summary], groups: dict[tuple[str, str], list[Predictions]]
) -> list[Summary]:
    """Add the paired test of each head against the baseline of its backbone."""
    baselines = {one.backbone: one for one in found if one.kind == "baseline"}
    heads = {name: [] for name in baselines}  # type: dict[str, list[int]]
    for number, one in enumerate(found):
        rival = baselines.get(one.backbone)
        if one.kind == "baseline" or rival is None:
            continue
        seeds = sorted(set(one.seeds) & set(rival.seeds))
        if seeds:
            pair = [
                _right([p for p in groups[side.backbone, side.method] if p.seed in seeds])
                for side in (one, rival)
            ]
            found[number] = replace(one, versus=intervals.compare(*pair))
            heads[one.backbone].append(number)
    for numbers in heads.values():
        tests = [found[number].versus for number in numbers]
        adjusted = intervals.holm([test.p_value for test in tests if test is not None])
        for number, value in zip(numbers, adjusted, strict=True):
            found[number] = replace(found[number], adjusted_p=value)
    return found


def merits(found: Sequence[Summary], selection: Selection) -> dict[tuple[str, str], float]:
    """Return what the heads are chosen by: the choice's own scores, else their accuracies."""
    heads = {(one.backbone, one.method): one.accuracy for one in found if one.kind == "head"}
    if not selection.folds:
        return heads
    scores = {key: selection.scores.get(key) for key in heads}
    return {key: -1.0 if score is None else score for key, score in scores.items()}


def _chosen(found: Sequence[Summary], selection: Selection) -> tuple[str, str] | None:
    """Return (backbone, method) of the verdict's head.

    The first named of those within one standard error of the best (Breiman et al. 1984,
    "Classification and Regression Trees", section 3.4.3): heads that close are not told apart by
    so many images, so the order given, which starts with the simplest, decides rather than luck.
    The scores are those of the cross-validation on training rows where there was one, else the
    accuracies themselves, which the verdict then says.
    """
    scores = merits(found, selection)
    if not scores:
        return None
    best = max(scores.values())
    n = selection.n if selection.folds else found[0].n_test
    slack = np.sqrt(max(0.0, best * (1 - best)) / n) if n else 0.0
    return next(key for key, score in scores.items() if score >= best - slack)
