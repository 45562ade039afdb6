"""What a page shows of the evidence: drawings, galleries, the map."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from featx import formatting
from featx.evaluation.report import charts, wording

# Colours of the style sheet; a further class takes the first again, and the map's caption says so.
COLOURS = 10
MAP_WIDTH, MAP_HEIGHT, MAP_EDGE = 720, 520, 14
_LOOKS = ("head", "second", "third")

Data = Mapping[str, Any]


def evidence(doc: Data) -> dict[str, Any] | None:
    """Return what the templates show of a report's evidence.

    Parameters
    ----------
    doc : mapping
        A report's document.
    """
    found = doc["evidence"]
    if found is None:
        return None
    given = answers(doc, wording.subject(doc))
    return {
        "learning": _learning(found["learning"], wording.learning(doc)),
        "proofs": [line for one in found["parity"] for line in _proof(one)],
        "temperatures": found["temperatures"],
        "baseline_has_none": _baseline_has_none(doc, found["temperatures"]),
        "map": _map(doc, found["map"], given),
        "galleries": _galleries(doc, found, given),
        "seconds": found["seconds"],
        "missing": found["missing"],
    }


def _proof(one: Data) -> list[dict[str, Any]]:
    """Return the lines of one proof; what answering in float32 changes is one of its own."""
    changed = wording.in_float32(one)
    lines = [{"holds": one["holds"], "text": wording.parity(one)}]
    return [*lines, {"holds": None, "text": changed}] if changed else lines


def _baseline_has_none(doc: Data, temperatures: Sequence[Data]) -> bool:
    """Return whether there is a baseline and no temperature was fitted for it."""
    baselines = {(m["backbone"], m["method"]) for m in doc["methods"] if m["kind"] == "baseline"}
    return bool(baselines) and baselines.isdisjoint(
        (one["backbone"], one["method"]) for one in temperatures
    )


def answers(doc: Data, one: Data) -> Data:
    """Return the answers of one method with its first seed."""
    wanted = (one["backbone"], one["method"], one["seeds"][0])
    every: Sequence[Data] = doc["predictions"]
    return next(a for a in every if (a["backbone"], a["method"], a["seed"]) == wanted)


def image(text: str) -> Markup:
    """Return the address of a JPEG that is given in base64, and of nothing else.

    A report.json may come from anywhere: what is not base64 must not reach the page as it is.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    return Markup("data:image/jpeg;base64," + base64.b64encode(content).decode("ascii"))


def _learning(curves: Sequence[Data], gain: str) -> dict[str, Any] | None:
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
    return {"chart": charts.growth(words, series), "curves": curves, "gain": gain}


def _point(point: Data) -> tuple[float, float, float, float, str]:
    low, high = point["interval"]["low"], point["interval"]["high"]
    tip = (
        f"{point['per_class']} per class: {formatting.percent(point['accuracy'])} "
        f"({formatting.percent(low)} to {formatting.percent(high)})"
    )
    return point["per_class"], point["accuracy"], low, high, tip


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
        "sheet": image(found["sheet"]) if found["sheet"] else "",
        "side": int(found["side"]),
        "columns": int(found["columns"]),
        "width": MAP_WIDTH,
        "height": MAP_HEIGHT,
    }


def _galleries(doc: Data, found: Data, answers: Data) -> list[dict[str, Any]]:
    drawn = {one["position"]: image(one["jpeg"]) for one in found["images"]}
    if not drawn:
        return []  # saved without images: the list of the wrong predictions has their names
    name = formatting.label(answers["method"])
    kinds = (
        (f"The most confident errors of the {name}", "A wrong label is often among them.",
         found["most_confident"]),
        ("What most methods get wrong", "By how many of the methods get it wrong, then by how "
         "low they put the true class.", found["worst"]),
    )  # fmt: skip
    return [
        {
            "title": title,
            "note": note,
            "images": [_shown(doc, answers, n, drawn.get(n)) for n in positions],
        }
        for title, note, positions in kinds
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
