"""The one document of a report: what report.json holds, by the schema in templates/.

Everything that a page, Markdown, the terminal or TensorBoard shows is in it, and they read nothing
else. Small images (the sheet of the map, mistakes, copies) are in it as JPEGs in base64 and not in
files beside it: a report is then one file, which cannot be parted from its images, and a page can
be rendered from it alone.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from featx import formatting
from featx.evaluation.evidence import image_map
from featx.evaluation.evidence.evidence import Evidence, Proof
from featx.evaluation.leaks import leakage
from featx.evaluation.leaks.geometry import Grade
from featx.evaluation.leaks.leakage import Leaks
from featx.evaluation.report.findings import Basis, bases
from featx.evaluation.report.outcome import Outcome
from featx.evaluation.results import ExtractionCost, Grouping, Incomplete, Predictions, Result
from featx.evaluation.scores import metrics
from featx.evaluation.scores.summary import Summary

SCHEMA, VERSION = "featx-report", 6


def document(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as dicts, lists, strings, finite numbers and None."""
    images, environment = outcome.images, outcome.environment
    first = outcome.predictions[0]
    position = {name: number for number, name in enumerate(images.classes)}
    basis = bases(outcome.summaries, outcome.extractions)
    whole = {
        "schema": SCHEMA,
        "version": VERSION,
        "created": environment.created,
        "command": environment.command,
        "seconds": environment.seconds,
        "incomplete": None if outcome.incomplete is None else _incomplete(outcome.incomplete),
        "taken": outcome.taken,
        "findings": outcome.findings,
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
        "baseline": outcome.baseline or None,
        "extractions": [_extraction(one, basis[one.backbone]) for one in outcome.extractions],
        "selection": {
            "folds": outcome.selection.folds,
            "scored_folds": outcome.selection.scored_folds,
            "seconds": outcome.selection.seconds,
            "n": outcome.selection.n,
            "scores": [
                {"backbone": backbone, "method": method, "accuracy": score}
                for (backbone, method), score in outcome.selection.scores.items()
            ],
        },
        "methods": [_method(one, images.classes, basis) for one in outcome.summaries],
        "trainings": [_training(one) for one in outcome.results],
        "histories": outcome.histories,
        "tested": {
            "ids": first.ids,
            "content": images.content,
            "y_true": [position[str(name)] for name in first.y_true],
        },
        "predictions": [_answers(one, position) for one in outcome.predictions],
        "method_failures": outcome.method_failures,
        "warnings": outcome.warnings,
        "leaks": None if outcome.leaks is None else _leaks(outcome.leaks),
        "evidence": None if outcome.evidence is None else _evidence(outcome.evidence),
        "groups": None if outcome.groups is None else _groups(outcome.groups),
        "versions": environment.versions,
        "hardware": environment.hardware,
    }
    return plain(whole)


def images_in(document: Mapping[str, Any]) -> int:
    """Return how many small copies of images a document holds."""
    evidence, leaks = document["evidence"] or {}, document["leaks"] or {}
    shown = evidence.get("map") or {}
    on_map = len(shown["positions"]) if shown.get("sheet") else 0
    return on_map + len(evidence.get("images", ())) + len(leaks.get("thumbnails", ()))


def without_images(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document without the small copies of images; names and figures stay."""
    evidence, leaks = document["evidence"], document["leaks"]
    if evidence is not None:
        shown = evidence["map"]
        bare = None if shown is None else {**shown, "sheet": ""}
        evidence = {**evidence, "images": [], "map": bare}
    if leaks is not None:
        leaks = {**leaks, "thumbnails": []}
    return {**document, "evidence": evidence, "leaks": leaks}


def plain(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return dataclasses, arrays and the like as what JSON has; bytes become base64."""
    return {str(key): _plain(value) for key, value in whole.items()}


def _extraction(one: ExtractionCost, basis: Basis) -> dict[str, Any]:
    return {
        "backbone": one.backbone,
        "images": one.images,
        "computed": one.computed,
        "cached": one.cached,
        "seconds": one.seconds,
        "runtime": one.runtime,
        "full_seconds": one.cost,
        "basis": basis,
        "dim": one.dim,
        "untrained": one.untrained,
        "start_seconds": one.start_seconds,
        "images_per_second": one.images_per_second,
    }


def _method(one: Summary, classes: tuple[str, ...], basis: Mapping[str, Basis]) -> dict[str, Any]:
    answers, cost = one.first, one.cost
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
        "cost": {
            "trainings": cost.trainings,
            "extraction_seconds": cost.extraction_seconds,
            "basis": None if one.kind == "baseline" else basis[one.backbone],
            "fit_seconds": cost.fit_seconds,
            "predict_seconds": cost.predict_seconds,
            "each": cost.each,
            "total": cost.total,
            "epochs": cost.epochs,
            "epoch_seconds": cost.epoch_seconds,
            "ratio": cost.ratio,
            "ratio_each": cost.ratio_each,
            "break_even_trainings": cost.break_even_trainings,
            "break_even_epochs": cost.break_even_epochs,
        },
        # A line break in a name would tear scikit-learn's table, a very long one widen it.
        "classification_report": metrics.classification_text(
            answers.y_true, answers.y_pred, formatting.shortened
        ).rstrip("\n"),
        "confusion": metrics.confusion(answers.y_true, answers.y_pred, classes),
        "calibration": None
        if answers.proba is None
        else metrics.reliability(answers.y_true, answers.proba, classes),
    }


def _training(one: Result) -> dict[str, Any]:
    return {
        "dataset": one.dataset,
        "backbone": one.backbone,
        "method": one.method,
        "kind": one.kind,
        "seed": one.seed,
        "fold": one.fold,
        "n_train": one.n_train,
        "n_test": one.n_test,
        "accuracy": one.accuracy,
        "balanced_accuracy": one.balanced_accuracy,
        "macro_f1": one.macro_f1,
        "log_loss": one.log_loss,
        "ece": one.ece,
        "extract_seconds": one.extract_seconds,
        "images_computed": one.images_computed,
        "images_cached": one.images_cached,
        "fit_seconds": one.fit_seconds,
        "predict_seconds": one.predict_seconds,
        "epochs": one.epochs,
        "epoch_seconds": one.epoch_seconds,
        "versions": one.versions,
    }


def _leaks(found: Leaks) -> dict[str, Any]:
    return {
        "images": found.images,
        "near_copies_sought": found.near,
        "candidates": found.candidates,
        "looked_at": found.looked_at,
        "plain": found.plain,
        "seconds": found.seconds,
        "pairs": [
            {**asdict(pair), "across": pair.across, "conflicting": pair.conflicting}
            for pair in found.pairs
        ],
        "grades": {grade: sum(pair.grade is grade for pair in found.pairs) for grade in Grade},
        "matched": [
            {"pair": number, "places": np.round(found.matched[pair], 4)}
            for number, pair in enumerate(found.pairs[: leakage.SHOWN])
            if pair in found.matched
        ],
        "thumbnails": [
            {"part": image.part, "id": image.id, "jpeg": jpeg}
            for image, jpeg in found.thumbnails.items()
        ],
        "leaked": found.leaked,
        "leaked_scenes": found.leaked_scenes,
        "groups": found.groups,
        "apart": found.apart,
        "divided": found.divided,
        "small": found.small,
        "small_below": leakage.FEWEST_IMAGES,
        "shortcuts": found.shortcuts,
    }


def _incomplete(found: Incomplete) -> dict[str, Any]:
    return {
        "reason": found.reason,
        "error": found.error,
        "methods": [
            {"backbone": backbone, "method": method, "seed": seed}
            for backbone, method, seed in found.methods
        ],
        "parts": found.parts,
        "kept": found.kept,
    }


def _groups(found: Grouping) -> dict[str, Any]:
    return {
        "name": found.name,
        "train": found.train,
        "test": found.test,
        "largest": found.largest,
        "folds": found.folds,
        "scored_folds": found.scored_folds,
        "by_image": found.by_image,
        "by_group": found.by_group,
        "shared": found.shared,
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
        "most_confident": found.most_confident,
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
        "precision": None if done is None else done.precision,
        "change": None if done is None else done.change,
    }


def _answers(one: Predictions, position: dict[str, int]) -> dict[str, Any]:
    """Return three figures per image instead of all probabilities, so that many classes fit."""
    given = np.asarray([position[str(name)] for name in one.y_pred])
    true = np.asarray([position[str(name)] for name in one.y_true])
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
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, str):
        return str(value)  # also of a StrEnum, which is one
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
