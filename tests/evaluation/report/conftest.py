"""Made-up reports, and what their tests read them with."""

from __future__ import annotations

import html
import html.parser
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featx.classifier.export.parity import Parity
from featx.evaluation.evidence import image_map, temperature
from featx.evaluation.evidence.evidence import Evidence, Proof
from featx.evaluation.evidence.image_map import Map
from featx.evaluation.evidence.learning_curve import LearningCurve, LearningPoint
from featx.evaluation.leaks.copies import ImageRef, Pair
from featx.evaluation.leaks.geometry import Grade
from featx.evaluation.leaks.leakage import Leaks
from featx.evaluation.leaks.shortcuts import Shortcut
from featx.evaluation.report.report import Report
from featx.evaluation.results import (
    Environment,
    ExtractionCost,
    History,
    Images,
    Predictions,
    Result,
    Selection,
)
from featx.evaluation.scores import metrics
from featx.evaluation.scores.costs import costs
from featx.evaluation.scores.intervals import Interval
from featx.evaluation.scores.summary import summaries

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "\"'><script>alert(2)</script>",
    "</style></title><svg onload=alert(3)>",
    "javascript:alert(4) {{ 7*7 }} {% raw %}",
    "רוח\u202egnp.exe",
    "naïve 🌷 日本 \u200d",
    "| pipe ` tick *star* @someone [a](http://x.example)",
    "x" * 300,
    "line\nbreak\ttab\x00nul\x1b[31m",
    "surrogate \udcff",
]


def answers(
    classes: list[str], n: int, method: str, share: float, seed: int = 0, backbone: str = "net"
) -> Predictions:
    """Return predictions of which about this share is right, with probabilities."""
    rng = np.random.default_rng([seed, len(method), n])
    names = np.array(classes, dtype=object)
    truth = names[np.arange(n) % len(classes)]
    proba = rng.dirichlet([0.6] * len(classes), n)
    for row, (right, true) in enumerate(
        zip(rng.random(n) < share, np.arange(n) % len(classes), strict=True)
    ):
        if right:
            best = proba[row].argmax()
            proba[row, [true, best]] = proba[row, [best, true]]
    return Predictions(
        backbone,
        method,
        "baseline" if method == "keras_baseline" else "head",
        seed,
        tuple(f"{names[i % len(classes)]}/{i}.jpg" for i in range(n)),
        truth,
        names[proba.argmax(axis=1)],
        proba,
    )


def result_of(one: Predictions, classes: list[str], **seconds: Any) -> Result:
    found = metrics.scores(one.y_true, one.y_pred, one.proba, classes)
    fields = {
        "fold": None,
        "n_train": 600,
        "extract_seconds": 10.0,
        "images_computed": 850,
        "images_cached": 0,
        "fit_seconds": 1.0,
        "predict_seconds": 0.1,
        "epochs": None,
        "epoch_seconds": None,
        **seconds,
    }
    return Result(
        dataset="train -> test",
        backbone=one.backbone,
        method=one.method,
        kind=one.kind,
        seed=one.seed,
        n_test=len(one.ids),
        accuracy=found.accuracy,
        balanced_accuracy=found.balanced_accuracy,
        macro_f1=found.macro_f1,
        log_loss=found.log_loss,
        ece=found.ece,
        versions="featx 0",
        **fields,
    )


BASELINE = {
    "fit_seconds": 80.0,
    "predict_seconds": 4.0,
    "epochs": 8,
    "epoch_seconds": 10.0,
    "extract_seconds": 0.0,
}


MEASURED = ExtractionCost("net", 850, 850, 0, 10.0, "keras", 10.0, 64, False, 2.0, 106.25)


CACHED = ExtractionCost("net", 850, 0, 850, 0.2, "", None, 64, False, 0.0, None)


def make(
    classes: list[str] | None = None,
    *,
    seeds: int = 1,
    baseline: bool = True,
    shares: tuple[float, float, float] = (0.9, 0.8, 0.7),
    n: int = 240,
    done: ExtractionCost = MEASURED,
    selection: Selection | None = None,
    evidence: bool = True,
    changed: Callable[[Predictions], Predictions] | None = None,
    **fields: Any,
) -> Report:
    """Return a report of a logistic head, an SVM and the baseline.

    Parameters
    ----------
    changed : callable, optional
        Returns what stands in the report for each of the predictions, which the evidence is of.
    """
    names = sorted(classes or ["daisy", "rose", "tulip"])
    methods = ["logistic", "linear_svm"] + (["keras_baseline"] if baseline else [])
    found = [
        answers(names, n, method, share, seed)
        for method, share in zip(methods, shares, strict=False)
        for seed in range(seeds)
    ]
    counts = {name: n // len(names) for name in names}
    if evidence:
        fields["evidence"] = behind(found[0], names)
    if changed is not None:
        found = [changed(one) for one in found]
    rows = [result_of(one, names, **(BASELINE if one.kind == "baseline" else {})) for one in found]
    scores = {("net", "logistic"): 0.88, ("net", "linear_svm"): 0.8}
    curves = {
        "loss": (float("nan"), 0.5, 0.45),
        "accuracy": (0.4, 0.6, 0.7),
        "val_loss": (1.1, 0.7, 0.6),
    }
    images = fields.pop(
        "images",
        Images(
            "flowers/train",
            "flowers/test",
            0,
            tuple(names),
            counts,
            counts,
            content="0" * 64,
        ),
    )
    selection = selection or Selection(3, scores, 4.0)
    return Report(
        images=images,
        results=rows,
        predictions=found,
        summaries=summaries(found, images.classes, costs(rows, [done]), selection),
        extractions=[done],
        environment=Environment(
            "2026-01-02T03:04:05+00:00",
            "featx benchmark flowers/train",
            99.0,
            {"featx": "0", "keras": "3"},
            {"Processor": "abacus"},
        ),
        selection=selection,
        histories=fields.pop("histories", [History("net", 0, None, curves)] if baseline else []),
        baseline="Frozen network + Dense softmax" if baseline else "",
        **fields,
    )


@pytest.fixture(scope="session")
def build() -> Callable[..., Report]:
    """Return the function that makes a report."""
    return make


def behind(answers: Predictions, classes: list[str]) -> Evidence:
    """Return evidence on the first half of the images, with a name in every place for one."""
    n = len(answers.ids) // 2
    sheet = io.BytesIO()
    Image.new("RGB", (image_map.SIDE, image_map.SIDE), "red").save(sheet, "JPEG")
    jpeg = sheet.getvalue()
    rng = np.random.default_rng(0)
    interval = Interval(0.7, 0.9)
    points = tuple(LearningPoint(k, 3.0 * k, 0.8, interval, 5) for k in (2, 5, 10))
    assert answers.proba is not None
    folds = [np.arange(0, 2 * n, 2), np.arange(1, 2 * n, 2)]
    parity = Parity(n, 2e-6, answers.ids[0], n, 1e-5, "the folded network", 1.0)
    wrong = np.flatnonzero(answers.y_true != answers.y_pred)[:4].tolist()
    return Evidence(
        learning=(LearningCurve("net", answers.method, points, 1.0, classes[0]),),
        temperatures=(temperature.across_folds(answers, folds, classes),),
        proofs=(
            Proof("net", "nearest", None, f"cannot be folded {classes[0]}", n),
            Proof("net", answers.method, parity, "", n),
        ),
        map=Map("net", "PCA", np.arange(n), rng.random((n, 2)), np.ones((n, 3)), jpeg, 9, 0.1),
        most_confident=tuple(wrong[:2]),
        worst=tuple(wrong[2:]),
        images={position: jpeg for position in wrong[:3]},
        seconds={"map": 0.1},
        missing=(f"No tea: {classes[0]}",),
    )


def leaks_of(ids: Sequence[str], label: str, **fields: Any) -> Leaks:
    """Return leaks: the first of these test images is in training too, under another label."""
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 8), "blue").save(jpeg, "JPEG")
    pair = Pair(
        ImageRef("train", 0, "copy.jpg", "other"),
        ImageRef("test", 0, ids[0], label),
        Grade.PHOTOGRAPH,
        cosine=0.9,
        points=40,
        explained=0.97,
    )
    values: dict[str, Any] = {
        "images": 2 * len(ids),
        "pairs": (pair,),
        "leaked": (ids[0],),
        "groups": {"train": np.arange(len(ids)), "test": np.arange(len(ids))},
        "small": {label: 3},
        "shortcuts": (Shortcut("file format", label, 0.9, 0.1, "PNG"),),
        "thumbnails": {one: jpeg.getvalue() for one in (pair.first, pair.second)},
        "matched": {pair: np.array([[0.25, 0.5, 0.75, 0.5], [0.1, 0.2, 0.9, 0.2]])},
        "candidates": 50,
        "looked_at": 40,
        "plain": 2,
    }
    return Leaks(**{**values, **fields})


class Page(html.parser.HTMLParser):
    """Collects the elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words).replace("\xa0", " "))


def saved(report: Report, folder: Path) -> tuple[str, str, Any]:
    report.save(folder)
    data = json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    return (folder / "report.html").read_text(), (folder / "report.md").read_text(), data
