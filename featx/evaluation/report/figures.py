"""What a page shows of the evidence, from report.json's data: drawings, galleries, the map."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from featx import formatting
from featx.evaluation.report import charts

# Colours of the style sheet; a further class takes the first again, and the map's caption says so.
COLOURS = 10
MAP_WIDTH, MAP_HEIGHT, MAP_EDGE = 720, 520, 14
# A gain that is worth more images, and an interval narrow enough to say that there is none.
MOVED, SURE = 0.02, 0.1
_LOOKS = ("head", "second", "third")

Data = Mapping[str, Any]


def behind(doc: Data) -> dict[str, Any] | None:
    """Return what the templates show of a report's evidence.

    Parameters
    ----------
    doc : mapping
        A report as report.json holds it.
    """
    found = doc["evidence"]
    if found is None:
        return None
    answers = subject_answers(doc)
    return {
        "learning": _learning(found["learning"]),
        "proofs": [_proof(one) for one in found["parity"]],
        "temperatures": found["temperatures"],
        "map": _map(doc, found["map"], answers),
        "galleries": _galleries(doc, found, answers),
        "seconds": found["seconds"],
        "missing": found["missing"],
    }


def subject(doc: Data) -> Data:
    """Return the verdict's method: the chosen head, else the best."""
    methods: Sequence[Data] = doc["methods"]
    return next((one for one in methods if one["chosen"]), methods[0])


def subject_answers(doc: Data) -> Data:
    """Return what the verdict's method said with its first seed."""
    one = subject(doc)
    wanted = (one["backbone"], one["method"], one["seeds"][0])
    answers: Sequence[Data] = doc["predictions"]
    return next(a for a in answers if (a["backbone"], a["method"], a["seed"]) == wanted)


def image(text: str) -> Markup:
    """Return the address of a JPEG that is given in base64, and of nothing else.

    A report.json may come from anywhere: what is no base64 must not reach the page as it is.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    return Markup("data:image/jpeg;base64," + base64.b64encode(content).decode("ascii"))


def _learning(curves: Sequence[Data]) -> dict[str, Any] | None:
    curves = [one for one in curves if len(one["points"]) > 1]
    if not curves:
        return None
    series = {
        (formatting.label(one["method"]), look): [_point(point) for point in one["points"]]
        for one, look in zip(curves, _LOOKS, strict=False)
    }
    ends = "; ".join(
        f"{name} from {formatting.percent(line[0][1])} with {line[0][0]} to "
        f"{formatting.percent(line[-1][1])} with {line[-1][0]}"
        for (name, _), line in series.items()
    )
    words = (
        "Accuracy over training images per class",
        f"{ends}.",
        "images per class",
        "share right",
    )
    return {"chart": charts.growth(words, series), "curves": curves, "says": _gain(curves)}


def _point(point: Data) -> tuple[float, float, float, float, str]:
    low, high = point["interval"]["low"], point["interval"]["high"]
    tip = (
        f"{point['per_class']} per class: {formatting.percent(point['accuracy'])} "
        f"({formatting.percent(low)} to {formatting.percent(high)})"
    )
    return point["per_class"], point["accuracy"], low, high, tip


def _gain(curves: Sequence[Data]) -> str:
    """Return in words what the last doubling brought, and so what another may bring."""
    for curve in curves:
        last = curve["points"][-1]
        # A little less than a half at best, as the steps are; from far below, any curve rises.
        before = [
            point
            for point in curve["points"][:-1]
            if last["per_class"] / 4 <= point["per_class"] <= last["per_class"] / 2
        ]
        if before:
            gain = last["accuracy"] - before[-1]["accuracy"]
            advice = _advice(before[-1], last)
            return (
                f"From {before[-1]['per_class']} to {last['per_class']} images per class "
                f"{formatting.label(curve['method'])} gained "
                f"{formatting.points(gain)} points: {advice}."
            )
    return ""


def _advice(before: Data, last: Data) -> str:
    """Return what a doubling's gain says of another, as far as the intervals bear it."""
    gain = last["accuracy"] - before["accuracy"]
    low, high = last["interval"]["low"], last["interval"]["high"]
    if gain > MOVED and before["accuracy"] < low and before["interval"]["high"] < last["accuracy"]:
        return "more images may well help"
    if gain > MOVED or high - low > SURE:
        return "the intervals are too wide to tell whether more images would help"
    return "more images of the same kind are unlikely to help much"


def _proof(one: Data) -> dict[str, Any]:
    name = formatting.capitalized(formatting.label(one["method"]))
    if one["reason"]:
        return {"holds": None, "text": f"{name} cannot be put onto the network: {one['reason']}"}
    many = (
        f"{one['images']} tested images"
        if one["images"] == one["of"]
        else f"{one['images']} of {one['of']} tested images, at even steps"
    )
    text = (
        f"{name}: its answers from kept rows against those of the whole network, from pixels to "
        f"probabilities in one piece. The largest difference of any probability is "
        f"{one['largest']:.1e} ({many}; {one['worst']}). The tolerance is {one['tolerance']:.0e}"
        f"{'' if one['holds'] else ', so the two are NOT the same'}; the class is the same for "
        f"{one['same_class']}."
    )
    return {"holds": one["holds"], "text": text}


def _map(doc: Data, found: Data | None, answers: Data) -> dict[str, Any] | None:
    if found is None:
        return None
    classes, tested = doc["images"]["classes"], doc["tested"]
    wide, high = MAP_WIDTH - 2 * MAP_EDGE, MAP_HEIGHT - 2 * MAP_EDGE
    points = []
    for cell, position in enumerate(found["positions"]):
        true, given = tested["y_true"][position], answers["y_pred"][position]
        points.append(
            {
                "x": round(MAP_EDGE + wide * found["x"][cell], 1),
                "y": round(MAP_EDGE + high * (1 - found["y"][cell]), 1),
                "cell": cell,
                "colour": true % COLOURS,
                "wrong": true != given,
                "true": classes[true],
                "given": classes[given],
                "id": tested["ids"][position],
                "sure": None if answers["p_pred"] is None else answers["p_pred"][position],
            }
        )
    # The wrong ones last, so that they lie on top.
    points.sort(key=lambda point: point["wrong"])
    return {
        "how": found["how"],
        "points": points,
        "of": len(tested["ids"]),
        "classes": [(name, number % COLOURS) for number, name in enumerate(classes)],
        "repeats": len(classes) > COLOURS,
        "sheet": image(found["sheet"]),
        "side": int(found["side"]),
        "columns": int(found["columns"]),
        "width": MAP_WIDTH,
        "height": MAP_HEIGHT,
    }


def _galleries(doc: Data, found: Data, answers: Data) -> list[dict[str, Any]]:
    drawn = {one["position"]: image(one["jpeg"]) for one in found["images"]}
    name = formatting.label(answers["method"])
    kinds = (
        (f"The surest wrong answers of the {name}", "A wrong label often stands among them.",
         found["surest"]),
        ("What most methods get wrong", "By how many of the methods get it wrong, then by how "
         "little they believe in the true class.", found["worst"]),
    )  # fmt: skip
    return [
        {
            "title": title,
            "says": says,
            "images": [_shown(doc, answers, n, drawn.get(n)) for n in positions],
        }
        for title, says, positions in kinds
        if positions
    ]


def _shown(doc: Data, answers: Data, position: int, source: Markup | None) -> dict[str, Any]:
    classes, tested = doc["images"]["classes"], doc["tested"]
    true = tested["y_true"][position]
    beside = [
        one
        for one in doc["predictions"]
        if one["backbone"] == answers["backbone"] and one["seed"] == answers["seed"]
    ]
    return {
        "source": source,
        "id": tested["ids"][position],
        "true": classes[true],
        "given": classes[answers["y_pred"][position]],
        "right": answers["y_pred"][position] == true,
        "sure": None if answers["p_pred"] is None else answers["p_pred"][position],
        "wrong_by": sum(one["y_pred"][position] != true for one in beside),
        "methods": len(beside),
    }
