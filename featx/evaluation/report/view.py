"""What a report's page shows: tables and drawings, computed from the report alone."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from featx import formatting
from featx.evaluation.report import charts, figures, json_document
from featx.evaluation.scores import costs, metrics

if TYPE_CHECKING:
    from featx.evaluation.evidence.temperature import Temperature
    from featx.evaluation.leaks.leakage import Leaks
    from featx.evaluation.report.report import Report
    from featx.evaluation.scores.summary import Summary

# A wider table of confusions is no longer read; the most frequent ones are listed instead.
WIDEST_CONFUSION = 20
MISTAKES = 20


def view(report: Report) -> dict[str, Any]:
    """Return what the templates of the page and of the Markdown are filled with."""
    found = report.summaries
    chosen = next((one for one in found if one.chosen), None)
    subject = chosen or found[0]
    rival = next(
        (one for one in found if one.kind == "baseline" and one.backbone == subject.backbone), None
    )
    behind = report.evidence
    cooled = {(one.backbone, one.method): one for one in (behind.temperatures if behind else ())}
    return {
        "report": report,
        "verdict": report.verdict,
        "found": found,
        "subject": subject,
        "chosen": chosen,
        "rival": rival,
        "several": len({one.backbone for one in found}) > 1,
        "details": [
            _detail(one, report.images.classes, cooled.get((one.backbone, one.method)))
            for one in _in_turn(found, subject, rival)
        ],
        "forest": charts.forest([(one.interval.low, one.interval.high) for one in found]),
        "longest": max(one.cost.total or one.cost.each * one.cost.trainings for one in found),
        "payback": _payback(chosen, rival),
        "curves": _curves(report),
        "mistakes": _mistakes(subject, rival),
        "formulas": costs.FORMULAS,
        "copies": _copies(report.leaks),
        "behind": figures.behind(json_document.document(report)),
        "WIDTH": charts.WIDTH,
        "HEIGHT": charts.HEIGHT,
        "edges": (charts.LEFT, charts.RIGHT, charts.TOP, charts.BOTTOM),
    }


def _copies(leaks: Leaks | None) -> list[dict[str, Any]]:
    """Return the pairs to show: two places, each with its image as a data address."""
    if leaks is None:
        return []
    drawn = {
        place: Markup("data:image/jpeg;base64," + base64.b64encode(content).decode("ascii"))
        for place, content in leaks.thumbnails.items()
    }
    return [
        {"pair": pair, "sides": [(side, drawn[side]) for side in (pair.first, pair.second)]}
        for pair in leaks.pairs
        if pair.first in drawn and pair.second in drawn
    ]


def _in_turn(found: list[Summary], subject: Summary, rival: Summary | None) -> list[Summary]:
    """Return the verdict's head, its baseline, then the others."""
    first = [one for one in (subject, rival) if one is not None]
    first = first[:1] if subject is rival else first
    return first + [one for one in found if all(one is not other for other in first)]


def _detail(one: Summary, classes: tuple[str, ...], cooled: Temperature | None) -> dict[str, Any]:
    answers = one.first
    counts = metrics.confusion(answers.y_true, answers.y_pred, classes)
    totals = counts.sum(axis=1, keepdims=True)
    rates = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    bins = (
        None
        if answers.proba is None
        else metrics.reliability(answers.y_true, answers.proba, classes)
    )
    return {
        "one": one,
        "lines": _report_lines(answers.y_true, answers.y_pred),
        "classes": classes,
        "confusion": None
        if len(classes) > WIDEST_CONFUSION
        else [
            (name, [(int(n), float(rate)) for n, rate in zip(*row, strict=True)])
            for name, *row in zip(classes, counts, rates, strict=True)
        ],
        "pairs": _pairs(counts, classes),
        "bins": bins,
        "cooled": cooled,
        "calibration": None if bins is None else _reliability(one, bins, cooled),
    }


def _report_lines(y_true: np.ndarray, y_pred: np.ndarray) -> list[str]:
    # A line break in a name would tear scikit-learn's table, a very long one push it off the page.
    text = metrics.classification_text(y_true, y_pred, formatting.shortened)
    return text.rstrip("\n").split("\n")


def _pairs(counts: np.ndarray, classes: tuple[str, ...]) -> list[tuple[str, str, int, int]]:
    """Return the most frequent confusions: true class, predicted class, count, of how many."""
    off = counts.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:MISTAKES]
    cells = [divmod(int(cell), len(classes)) for cell in order]
    return [
        (classes[true], classes[given], int(off[true, given]), int(counts[true].sum()))
        for true, given in cells
        if off[true, given]
    ]


def _reliability(one: Summary, bins: list[metrics.Bin], cooled: Temperature | None) -> charts.Chart:
    name = formatting.label(one.method)
    lines: dict[tuple[str, str], list[metrics.Bin]] = {("as it is", one.kind): bins}
    after = ""
    if cooled is not None:
        lines["at its temperature", "second"] = list(cooled.calibration)
        after = f", {formatting.number(cooled.ece_after)} at its temperature"
    return charts.chart(
        (
            name,
            f"{name}: expected calibration error {formatting.number(one.ece)}{after}. A line above "
            "the diagonal is right more often than it claims, a line below less often.",
            "claimed probability",
            "share right",
        ),
        {key: [(bin_.confidence, bin_.accuracy) for bin_ in line] for key, line in lines.items()},
        charts.Axes((0.0, 1.0), (0.0, 1.0)),
        diagonal=True,
        weights={name: [bin_.count for bin_ in line] for (name, _), line in lines.items()},
    )


def _payback(chosen: Summary | None, rival: Summary | None) -> charts.Chart | None:
    """Return seconds spent against trainings, for the head and for the baseline."""
    if chosen is None or rival is None or chosen.cost.pass_seconds is None:
        return None
    start, each, other = chosen.cost.pass_seconds, chosen.cost.each, rival.cost.each
    meet = chosen.cost.break_even_trainings
    last = max(10, 2 * (meet or 0)) if (meet or 0) <= 50 else 100
    top = max(start + last * each, last * other)
    mark = None
    if other > each:
        crossing = start / (other - each)
        mark = (crossing, crossing * other) if crossing <= last else None
    name = formatting.label(chosen.method)
    return charts.chart(
        (
            "Seconds spent after so many trainings",
            f"After {last} trainings: {name} {formatting.seconds(start + last * each)}, "
            f"the baseline {formatting.seconds(last * other)}.",
            "trainings",
            "seconds",
        ),
        {
            (name, "head"): [(0, start), (last, start + last * each)],
            ("Keras baseline", "baseline"): [(0, 0.0), (last, last * other)],
        },
        charts.Axes((0, last), (0, top), x_step=1.0),
        mark=mark,
    )


def _curves(report: Report) -> list[dict[str, Any]]:
    """Return the drawings of the first training of each backbone's baseline, and all figures."""
    shown = []
    for backbone in dict.fromkeys(one.backbone for one in report.histories):
        trainings = [one for one in report.histories if one.backbone == backbone]
        first = trainings[0]
        drawn = []
        for name in ("loss", "accuracy"):
            series = {
                (words, look): first.curves[key]
                for key, words, look in (
                    (name, "training", "baseline"),
                    (f"val_{name}", "validation", "second"),
                )
                if first.curves.get(key)
            }
            if series:
                drawn.append(charts.curves(name, series, 0.0 if name == "loss" else 1.0))
        shown.append(
            {
                "backbone": backbone,
                "seed": first.seed,
                "fold": first.fold,
                "others": len(trainings) - 1,
                "charts": drawn,
                "names": list(first.curves),
                "epochs": list(zip(*first.curves.values(), strict=False)),
            }
        )
    return shown


def _mistakes(subject: Summary, rival: Summary | None) -> dict[str, Any]:
    """Return the wrong answers of the verdict's method, the most confident first."""
    answers = subject.first
    sure = None if answers.proba is None else answers.proba.max(axis=1)
    wrong = np.flatnonzero(answers.y_true != answers.y_pred)
    if sure is not None:
        wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    other = None if rival is None or rival is subject else rival.first.y_pred
    return {
        "count": len(wrong),
        "rows": [
            {
                "id": answers.ids[n],
                "true": str(answers.y_true[n]),
                "given": str(answers.y_pred[n]),
                "sure": None if sure is None else float(sure[n]),
                "rival": None if other is None else str(other[n]),
            }
            for n in wrong[:MISTAKES]
        ],
    }
