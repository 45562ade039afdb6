"""The report as plain data: what report.json holds, by the schema in templates/."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.evaluation.evidence import image_map
from featx.evaluation.scores import metrics

if TYPE_CHECKING:
    from featx.evaluation.evidence.evidence import Evidence, Proof
    from featx.evaluation.leaks.leakage import Leaks
    from featx.evaluation.report.report import Report
    from featx.evaluation.results import Predictions
    from featx.evaluation.scores.summary import Summary

VERSION = 5


def document(report: Report) -> dict[str, Any]:
    """Return the report as dicts, lists, strings, finite numbers and None."""
    images, around = report.images, report.circumstances
    first = report.predictions[0]
    place = {name: number for number, name in enumerate(images.classes)}
    whole = {
        "schema": "featx-report",
        "version": VERSION,
        "created": around.created,
        "command": around.command,
        "seconds": around.seconds,
        "verdict": report.verdict,
        "images": {
            "train": images.train,
            "test": images.test,
            "folds": images.folds,
            "classes": images.classes,
            "n_train": images.n_train,
            "n_test": images.n_test,
            "skipped": [{"part": one.part, **asdict(one.failure)} for one in images.skipped],
            "notes": images.notes,
        },
        "baseline": report.baseline or None,
        "passes": report.passes,
        "selection": {
            "folds": report.selection.folds,
            "seconds": report.selection.seconds,
            "n": report.selection.n,
            "scores": [
                {"backbone": backbone, "method": method, "accuracy": score}
                for (backbone, method), score in report.selection.scores.items()
            ],
        },
        "methods": [_method(one, images.classes) for one in report.summaries],
        "rows": report.rows,
        "histories": report.histories,
        "tested": {
            "ids": first.ids,
            "content": images.content,
            "y_true": [place[str(name)] for name in first.y_true],
        },
        "predictions": [_answers(one, place) for one in report.predictions],
        "method_failures": report.method_failures,
        "remarks": report.remarks,
        "leaks": None if report.leaks is None else _leaks(report.leaks),
        "evidence": None if report.evidence is None else _evidence(report.evidence),
        "versions": around.versions,
        "hardware": around.hardware,
    }
    return plain(whole)


def plain(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return dataclasses, arrays and the like as what JSON has; bytes become base64."""
    return {str(key): _plain(value) for key, value in whole.items()}


def _method(one: Summary, classes: tuple[str, ...]) -> dict[str, Any]:
    answers = one.first
    return {
        "backbone": one.backbone,
        "method": one.method,
        "kind": one.kind,
        "chosen": one.chosen,
        "seeds": one.seeds,
        "n_test": one.n_test,
        "accuracy": one.accuracy,
        "interval": one.interval,
        "spread": one.spread,
        "balanced_accuracy": one.balanced_accuracy,
        "macro_f1": one.macro_f1,
        "log_loss": one.log_loss,
        "ece": one.ece,
        "versus_baseline": one.versus,
        "adjusted_p": one.adjusted_p,
        "cost": {**asdict(one.cost), "each": one.cost.each},
        "classification_report": metrics.classification_text(answers.y_true, answers.y_pred),
        "confusion": metrics.confusion(answers.y_true, answers.y_pred, classes),
        "calibration": None
        if answers.proba is None
        else metrics.reliability(answers.y_true, answers.proba, classes),
    }


def _leaks(found: Leaks) -> dict[str, Any]:
    return {
        "images": found.images,
        "near_copies_sought": found.near,
        "seconds": found.seconds,
        "pairs": [
            {**asdict(pair), "across": pair.across, "conflicting": pair.conflicting}
            for pair in found.pairs
        ],
        "leaked": found.leaked,
        "groups": found.groups,
        "apart": found.apart,
        "divided": found.divided,
        "small": found.small,
        "shortcuts": found.shortcuts,
        "sentences": found.sentences(),
    }


def _evidence(found: Evidence) -> dict[str, Any]:
    shown = found.map
    return {
        "learning": found.learning,
        "temperatures": found.temperatures,
        "parity": [_proof(one) for one in found.proofs],
        "map": None
        if shown is None
        else {
            "backbone": shown.backbone,
            "how": shown.how,
            "positions": shown.positions,
            "x": np.round(shown.places[:, 0], 4),
            "y": np.round(shown.places[:, 1], 4),
            "sheet": shown.sheet,
            "side": image_map.SIDE,
            "columns": shown.columns,
        },
        "surest": found.surest,
        "worst": found.worst,
        "images": [{"position": n, "jpeg": jpeg} for n, jpeg in found.images.items()],
        "seconds": found.seconds,
        "missing": found.missing,
    }


def _proof(one: Proof) -> dict[str, Any]:
    done = one.found
    return {
        "backbone": one.backbone,
        "method": one.method,
        "of": one.of,
        "reason": one.reason or None,
        "images": 0 if done is None else done.images,
        "largest": None if done is None else done.largest,
        "worst": None if done is None else done.worst,
        "same_class": None if done is None else done.same_class,
        "tolerance": None if done is None else done.tolerance,
        "holds": None if done is None else done.holds,
    }


def _answers(one: Predictions, place: dict[str, int]) -> dict[str, Any]:
    """Return three figures a image and not a row of them, so that many classes fit."""
    given = np.asarray([place[str(name)] for name in one.y_pred])
    true = np.asarray([place[str(name)] for name in one.y_true])
    rows = np.arange(len(given))
    return {
        "backbone": one.backbone,
        "method": one.method,
        "seed": one.seed,
        "y_pred": given,
        "p_pred": None if one.proba is None else np.round(one.proba[rows, given], 6),
        "p_true": None if one.proba is None else np.round(one.proba[rows, true], 6),
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(getattr(value, key)) for key in value.__dataclass_fields__}
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
