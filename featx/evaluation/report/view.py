"""What a report's page and its Markdown show: tables and drawings, from the document alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featx import formatting
from featx.evaluation.report import charts, evidence_view, wording
from featx.evaluation.report.findings import Basis, Standing
from featx.evaluation.scores.intervals import binomial_interval

# A wider table of confusions is too wide to be read; the most frequent ones are listed instead.
WIDEST_CONFUSION = 20
MISTAKES = 20
# Pairs of copies that are seen without opening anything.
SHOWN_COPIES = 3
# Bins of the reliability curves that are drawn; the calibration error has its 15.
DRAWN_BINS = 5

Data = Mapping[str, Any]


def view(document: Data) -> dict[str, Any]:
    """Return what the templates of the page and of the Markdown are filled with."""
    found = wording.methods(document)
    difference = document["findings"]["difference"]
    subject, rival = wording.subject(document), wording.rival(document)
    head = subject if subject["chosen"] else None
    evidence = document["evidence"]
    temperatures: Sequence[Data] = evidence["temperatures"] if evidence else ()
    cooled = {(one["backbone"], one["method"]): one for one in temperatures}
    return {
        "report": document,
        "verdict": wording.verdict(document),
        "decided": difference is not None and Standing(difference["standing"]).decided,
        "baseline_learned": difference is None
        or Standing(difference["standing"]) is not Standing.BASELINE_AT_CHANCE,
        "found": found,
        "subject": subject,
        "chosen": head,
        "rival": rival,
        "several": len({one["backbone"] for one in found}) > 1,
        "estimates": {
            one["backbone"]
            for one in document["extractions"]
            if Basis(one["basis"]) in {Basis.SCALED, Basis.ESTIMATED}
        },
        "bases": {one["backbone"]: wording.basis(one) for one in document["extractions"]},
        "details": [
            _detail(
                one, document["images"]["classes"], cooled.get((one["backbone"], one["method"]))
            )
            for one in found
        ],
        "forest": charts.forest([_bounds(one) for one in found]),
        "longest": max(
            one["cost"]["total"] or one["cost"]["each"] * one["cost"]["trainings"] for one in found
        ),
        "payback": _payback(head, rival),
        "curves": _curves(document["histories"]),
        "mistakes": _mistakes(document, subject, rival),
        "cost": wording.cost(document),
        "taken": wording.taken(document),
        "choosing": wording.choosing(document["selection"]),
        "leaks": wording.leaks(document),
        "copies": _copies(document["leaks"]),
        "evidence": evidence_view.evidence(document),
        "SHOWN_COPIES": SHOWN_COPIES,
        "WIDTH": charts.WIDTH,
        "HEIGHT": charts.HEIGHT,
        "edges": (charts.LEFT, charts.RIGHT, charts.TOP, charts.BOTTOM),
    }


def _bounds(one: Data) -> tuple[float, float]:
    return one["interval"]["low"], one["interval"]["high"]


def _copies(leaks: Data | None) -> list[dict[str, Any]]:
    """Return the pairs to show: two images, each with its thumbnail and what was matched."""
    if leaks is None:
        return []
    drawn = {
        (one["part"], one["id"]): evidence_view.image(one["jpeg"]) for one in leaks["thumbnails"]
    }
    matched = {one["pair"]: one["places"] for one in leaks["matched"]}
    copies = []
    for number, pair in enumerate(leaks["pairs"]):
        places = matched.get(number, [])
        points = ([place[:2] for place in places], [place[2:] for place in places])
        sides = [
            (one, drawn.get((one["part"], one["id"])), at)
            for one, at in zip((pair["first"], pair["second"]), points, strict=True)
        ]
        if all(thumbnail is not None for _, thumbnail, _ in sides):
            copies.append({"pair": pair, "sides": sides})
    return copies


def _detail(one: Data, classes: Sequence[str], cooled: Data | None) -> dict[str, Any]:
    counts = np.asarray(one["confusion"])
    totals = counts.sum(axis=1, keepdims=True)
    rates = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    bins = one["calibration"]
    return {
        "one": one,
        "lines": one["classification_report"].split("\n"),
        "classes": classes,
        "confusion": None
        if len(classes) > WIDEST_CONFUSION
        else [
            (name, [(int(n), float(rate)) for n, rate in zip(*row, strict=True)])
            for name, *row in zip(classes, counts, rates, strict=True)
        ],
        "pairs": _pairs(counts, classes),
        "bins": None if bins is None else merged(bins),
        "cooled": cooled,
        "calibration": None if bins is None else _reliability(one, bins, cooled),
    }


def _pairs(counts: np.ndarray, classes: Sequence[str]) -> list[tuple[str, str, int, int]]:
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


def merged(bins: Sequence[Data]) -> list[dict[str, float]]:
    """Return fewer, wider bins of a reliability curve, the figures weighted by their images.

    Fifteen bins of a few hundred images are too noisy to look at; the error is that of all bins.
    """
    found: list[dict[str, float]] = []
    for number in range(DRAWN_BINS):
        low, high = number / DRAWN_BINS, (number + 1) / DRAWN_BINS
        part = [one for one in bins if low <= (one["low"] + one["high"]) / 2 < high]
        if part:
            count = sum(one["count"] for one in part)
            claimed, right = (
                sum(one[name] * one["count"] for one in part) for name in ("confidence", "accuracy")
            )
            interval = binomial_interval(right, count)
            found.append(
                {
                    "low": low,
                    "high": high,
                    "count": count,
                    "confidence": claimed / count,
                    "accuracy": right / count,
                    "from": interval.low,
                    "to": interval.high,
                }
            )
    return found


def _reliability(one: Data, bins: Sequence[Data], cooled: Data | None) -> charts.Chart:
    name = formatting.label(one["method"])
    own = "as it is"
    lines = {(own, one["kind"]): merged(bins)}
    after = ""
    if cooled is not None:
        lines["at its temperature", "second"] = merged(cooled["calibration"])
        after = f", {formatting.number(cooled['ece_after'])} at its temperature"
    return charts.chart(
        (
            name,
            f"{name}: expected calibration error {formatting.number(one['ece'])}{after}. A line "
            "above the diagonal is right more often than it claims, a line below less often.",
            "claimed probability",
            "share right",
        ),
        {
            key: [(bin_["confidence"], bin_["accuracy"]) for bin_ in line]
            for key, line in lines.items()
        },
        charts.Axes((0.0, 1.0), (0.0, 1.0)),
        diagonal=True,
        weights={name: [bin_["count"] for bin_ in line] for (name, _), line in lines.items()},
        bounds={own: [(bin_["from"], bin_["to"]) for bin_ in lines[own, one["kind"]]]},
    )


def _payback(head: Data | None, rival: Data | None) -> charts.Chart | None:
    """Return seconds spent against trainings, for the head and for the baseline."""
    if head is None or rival is None or head["cost"]["extraction_seconds"] is None:
        return None
    start, each = head["cost"]["extraction_seconds"], head["cost"]["each"]
    other = rival["cost"]["each"]
    meet = head["cost"]["break_even_trainings"] or 0
    last = max(10, 2 * meet) if meet <= 50 else 100
    top = max(start + last * each, last * other)
    mark = None
    if other > each:
        crossing = start / (other - each)
        mark = (crossing, crossing * other) if crossing <= last else None
    name = formatting.label(head["method"])
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


def _curves(histories: Sequence[Data]) -> list[dict[str, Any]]:
    """Return the drawings of the first training of each backbone's baseline, and all figures."""
    shown = []
    for backbone in dict.fromkeys(one["backbone"] for one in histories):
        trainings = [one for one in histories if one["backbone"] == backbone]
        first = trainings[0]
        drawn = []
        for name in ("loss", "accuracy"):
            series = {
                (words, look): first["curves"][key]
                for key, words, look in (
                    (name, "training", "baseline"),
                    (f"val_{name}", "validation", "second"),
                    (f"scored_{name}", "tested images", "third"),
                )
                if first["curves"].get(key)
            }
            if series:
                drawn.append(charts.curves(name, series, 0.0 if name == "loss" else 1.0))
        shown.append(
            {
                "backbone": backbone,
                "seed": first["seed"],
                "fold": first["fold"],
                "others": len(trainings) - 1,
                "charts": drawn,
                "scored": "scored_loss" in first["curves"],
                "names": list(first["curves"]),
                "epochs": list(zip(*first["curves"].values(), strict=False)),
            }
        )
    return shown


def _mistakes(document: Data, subject: Data, rival: Data | None) -> dict[str, Any]:
    """Return the wrong predictions of the verdict's method, the most confident first."""
    classes, tested = document["images"]["classes"], document["tested"]
    answers = evidence_view.answers(document, subject)
    given, sure = answers["y_pred"], answers["p_pred"]
    wrong = np.flatnonzero(np.asarray(given) != np.asarray(tested["y_true"]))
    if sure is not None:
        wrong = wrong[np.argsort(-np.asarray(sure)[wrong], kind="stable")]
    other = None if rival is None or rival is subject else evidence_view.answers(document, rival)
    return {
        "count": len(wrong),
        "rows": [
            {
                "id": tested["ids"][n],
                "true": classes[tested["y_true"][n]],
                "given": classes[given[n]],
                "sure": None if sure is None else sure[n],
                "rival": None if other is None else classes[other["y_pred"][n]],
            }
            for n in wrong[:MISTAKES]
        ],
    }
