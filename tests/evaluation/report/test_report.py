from __future__ import annotations

import base64
import copy
import dataclasses
import hashlib
import html
import html.parser
import io
import json
import os
import re
from collections.abc import Callable
from importlib import resources
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from featx import formatting
from featx.classifier.export.parity import Parity
from featx.errors import Failure, FeatxError
from featx.evaluation.evidence import image_map, temperature
from featx.evaluation.evidence.evidence import Evidence, Proof
from featx.evaluation.evidence.image_map import Map
from featx.evaluation.evidence.learning_curve import LearningCurve, LearningPoint
from featx.evaluation.report import charts, json_document
from featx.evaluation.report.report import Report
from featx.evaluation.results import (
    Circumstances,
    ExtractionCost,
    History,
    Images,
    MethodFailure,
    Predictions,
    Result,
    Selection,
    SkippedImage,
)
from featx.evaluation.scores import costs, intervals, metrics
from featx.evaluation.scores.intervals import Interval

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
    for row, (right, place) in enumerate(
        zip(rng.random(n) < share, np.arange(n) % len(classes), strict=True)
    ):
        if right:
            best = proba[row].argmax()
            proba[row, [place, best]] = proba[row, [best, place]]
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


def row_of(one: Predictions, classes: list[str], **seconds: Any) -> Result:
    found = metrics.scores(one.y_true, one.y_pred, one.proba, classes)
    fields = {
        "fold": None,
        "n_train": 600,
        "extract_seconds": 10.0,
        "images_computed": 850,
        "images_reused": 0,
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
MEASURED = ExtractionCost(
    "net", 850, 850, 0, 10.0, "keras", 10.0, "measured in this run", 64, False, 2.0, 106.25
)
KEPT = ExtractionCost(
    "net", 850, 0, 850, 0.2, "", None, "not measured in this run", 64, False, 0.0, None
)


@pytest.fixture(scope="session")
def build() -> Callable[..., Report]:
    """Return a function that makes a report of a logistic head, an SVM and the baseline."""

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
        **fields: Any,
    ) -> Report:
        names = sorted(classes or ["daisy", "rose", "tulip"])
        methods = ["logistic", "linear_svm"] + (["keras_baseline"] if baseline else [])
        found = [
            answers(names, n, method, share, seed)
            for method, share in zip(methods, shares, strict=False)
            for seed in range(seeds)
        ]
        rows = [row_of(one, names, **(BASELINE if one.kind == "baseline" else {})) for one in found]
        scores = {("net", "logistic"): 0.88, ("net", "linear_svm"): 0.8}
        counts = {name: n // len(names) for name in names}
        if evidence:
            fields["evidence"] = behind(found[0], names)
        curves = {
            "loss": (1.0, 0.5, float("nan")),
            "accuracy": (0.4, 0.6, 0.7),
            "val_loss": (1.1, 0.7, 0.6),
        }
        return Report(
            images=fields.pop(
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
            ),
            rows=rows,
            predictions=found,
            passes=[done],
            circumstances=Circumstances(
                "2026-01-02T03:04:05+00:00",
                "featx benchmark flowers/train",
                99.0,
                {"featx": "0", "keras": "3"},
                {"Processor": "abacus"},
            ),
            selection=selection or Selection(3, scores, 4.0),
            histories=[History("net", 0, None, curves)] if baseline else [],
            baseline="Frozen network + Dense softmax" if baseline else "",
            **fields,
        )

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
        surest=tuple(wrong[:2]),
        worst=tuple(wrong[2:]),
        images={position: jpeg for position in wrong[:3]},
        seconds={"map": 0.1},
        missing=(f"No tea: {classes[0]}",),
    )


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


@pytest.fixture
def schema() -> Any:
    text = (
        resources.files("featx.evaluation.report")
        .joinpath("templates/report.schema.json")
        .read_text()
    )
    return json.loads(text)


def test_json_is_strict_and_follows_its_schema(
    build: Callable[..., Report], schema: Any, tmp_path: Path
) -> None:
    report = build(
        seeds=2,
        method_failures=[MethodFailure("net", "mlp", 0, None, "ValueError", "no")],
        remarks=["slow"],
    )
    data = saved(report, tmp_path)[2]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"].split(":")[-1] == schema["title"].split()[-1] == str(json_document.VERSION)
    jsonschema.validate(data, schema)
    assert data["histories"][0]["curves"]["loss"] == [1.0, 0.5, None]  # NaN is null
    assert len(data["rows"]) == 6
    assert data["methods"][0]["confusion"][0][0] > 0


def test_a_report_without_evidence_follows_its_schema_too(
    build: Callable[..., Report], schema: Any, tmp_path: Path
) -> None:
    text, _, data = saved(build(evidence=False), tmp_path)
    jsonschema.validate(data, schema)
    assert data["evidence"] is None
    assert 'id="map"' not in text


def test_evidence_stands_in_all_three_forms(build: Callable[..., Report], tmp_path: Path) -> None:
    text, markdown, data = saved(build(), tmp_path)
    page = Page(text)
    found = data["evidence"]
    nearest, logistic = found["parity"]
    assert (nearest["holds"], logistic["holds"], logistic["largest"]) == (None, True, 2e-6)
    for words in ("The largest difference of any probability is 2.0e-06", "cannot be folded"):
        assert words in page.text
        assert words in markdown.replace("\\", "")
    assert f"at temperature {found['temperatures'][0]['value']:.2f}" in markdown
    assert "From 5 to 10 images per class" in page.text
    points = [
        attributes for tag, attributes in page.tags if tag == "circle" and "data-id" in attributes
    ]
    assert len(points) == 120
    ids, place = data["tested"]["ids"], data["images"]["classes"]
    for one in points:
        number = ids.index(one["data-id"])
        assert one["data-label"] == place[data["tested"]["y_true"][number]]
        assert one["data-given"] == place[data["predictions"][0]["y_pred"][number]]
    shown = [a["src"] for tag, a in page.tags if tag == "img"]
    assert shown.count("data:image/jpeg;base64," + found["images"][0]["jpeg"]) >= 3
    assert "gone" in page.text  # one of the four has no image any more


def test_the_schema_refuses_what_it_does_not_know(
    build: Callable[..., Report], schema: Any
) -> None:
    data = build().to_dict()
    inner = [("evidence",), ("evidence", "map"), ("evidence", "parity", 0)]
    for path in ((), ("verdict",), ("methods", 0), ("methods", 0, "cost"), ("rows", 0), *inner):
        broken = copy.deepcopy(data)
        place: Any = broken
        for step in path:
            place = place[step]
        place["surprise"] = 1
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


def test_predictions_can_be_counted_again_from_json(
    build: Callable[..., Report], tmp_path: Path
) -> None:
    data = saved(build(), tmp_path)[2]
    truth = np.array(data["tested"]["y_true"])
    for one in data["predictions"]:
        method = next(m for m in data["methods"] if m["method"] == one["method"])
        assert np.mean(truth == one["y_pred"]) == pytest.approx(method["accuracy"])
        loss = -np.mean(np.log(np.maximum(one["p_true"], 1e-6)))
        assert loss == pytest.approx(method["log_loss"], rel=0.01)
    assert len(data["tested"]["ids"]) == len(truth) == 240


def test_nothing_from_names_becomes_active(build: Callable[..., Report], tmp_path: Path) -> None:
    names = HOSTILE
    plain = Page(saved(build(list("abcdefghij")), tmp_path / "plain")[0])
    counts = {name: 24 for name in sorted(names)}
    images = Images(
        HOSTILE[0],
        HOSTILE[1],
        0,
        tuple(sorted(names)),
        counts,
        counts,
        skipped=tuple(SkippedImage("train", Failure(name, name, name)) for name in names),
        notes=tuple(names),
    )
    report = build(
        names,
        images=images,
        remarks=names,
        method_failures=[MethodFailure(name, name, 0, 1, name, name) for name in names],
    )
    report.circumstances = Circumstances(
        HOSTILE[0], HOSTILE[1], 1.0, {HOSTILE[0]: HOSTILE[1]}, {HOSTILE[2]: HOSTILE[3]}
    )
    text, markdown, data = saved(report, tmp_path / "hostile")
    page = Page(text)
    # The same kinds of elements and attributes as with harmless names, and no others.
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags} | {"li"}
    assert [tag for tag, _ in page.tags].count("script") == 1
    for tag, attributes in page.tags:
        assert tag not in {"iframe", "object", "link", "base", "form", "embed", "math"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name != "xlink:href"
            if name == "src":
                assert re.fullmatch("data:image/jpeg;base64,[A-Za-z0-9+/=]*", value or "")
            if name == "href":
                assert (value or "").startswith("#")
    assert "49" not in re.findall(r"alert\(4\) (\S+)", page.text)  # not rendered a second time
    for char in ("\u202e", "\x00", "\x1b", "\udcff"):
        assert char not in text
        assert char not in markdown
    assert "\\u202e" in page.text
    assert "日本" in page.text
    assert data["images"]["classes"] == sorted(names)  # JSON keeps the names as they are


def test_the_page_is_one_file_that_asks_for_nothing(
    build: Callable[..., Report], tmp_path: Path
) -> None:
    text = saved(build(), tmp_path)[0]
    page = Page(text)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    # One script, and the policy knows it by its hash: none that a name brings along can run.
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert not re.findall(r"(?:https?:)?//[\w.]+\.\w+|url\(|@import|fetch\(|import\(", text)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {(a["href"] or "")[1:] for t, a in page.tags if t == "a"}
    assert targets <= set(ids)


def test_the_page_can_be_used_without_seeing_or_pointing(
    build: Callable[..., Report], tmp_path: Path
) -> None:
    page = Page(saved(build(), tmp_path)[0])
    assert ("html", {"lang": "en"}) in page.tags
    for tag, attributes in page.tags:
        if tag == "svg" and attributes.get("role") == "img":
            assert attributes["aria-labelledby"]
        elif tag == "svg" and attributes.get("role") == "application":
            assert attributes["tabindex"] == "0"
            assert "Arrow keys" in (attributes["aria-label"] or "")
        elif tag == "svg":
            assert attributes["aria-hidden"] == "true"
        if attributes.get("role") == "region":  # what scrolls can be reached by keyboard
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in {"row", "col"}


def test_markdown_keeps_names_inside_their_cells(
    build: Callable[..., Report], tmp_path: Path
) -> None:
    report = build(
        [*HOSTILE[:2], HOSTILE[6], "```\nend"], remarks=["a | b <b>@x</b>"], baseline=False
    )
    text = saved(report, tmp_path)[1]
    assert "- a \\| b &lt;b&gt;@&zwj;x&lt;/b&gt;" in text
    fences = re.findall(r"^(`{3,})(?:text)?$", text, flags=re.MULTILINE)
    assert len(fences) == 4
    assert fences[0] == fences[1]
    table = [line for line in text[: text.index("<details>")].splitlines() if line[:1] == "|"]
    widths = {line.replace("\\|", "").count("|") for line in table}
    assert len(widths) == 1


@pytest.mark.parametrize(
    ("text", "live"),
    [
        ("x@someone", "@s"),
        ("owner/repo#12", "#1"),
        ("gh-12", "gh-1"),
        ("http://evil.example", "://"),
        ("_www.evil.example", "www."),
        ("WWW.evil.example", "WWW."),
    ],
)
def test_markdown_neither_links_nor_calls(text: str, live: str) -> None:
    shown = html.unescape(re.sub(r"\\(?=[#_])", "", formatting.markdown(text)))
    assert live not in shown
    assert shown.replace("\u200d", "") == text  # and a reader sees the same


@pytest.mark.parametrize("differ", [4, 5])
def test_verdict_says_so_where_interval_and_test_part(
    build: Callable[..., Report], differ: int
) -> None:
    report = build(n=50)
    gap = intervals.compare(np.arange(50) < 45, np.arange(50) < 45 - differ)
    assert gap.interval.low > 0
    assert gap.p_value > 0.05
    head = next(one for one in report.summaries if one.chosen)
    object.__setattr__(head, "versus", gap)
    said = report.verdict.points[0].text
    assert f"rests on {differ} images that only one of the two got right, too few" in said
    assert "The interval leaves out 0" in said
    assert "no larger than chance" not in said
    assert report.verdict.real is False


@pytest.mark.parametrize(
    ("shares", "words", "real"),
    [
        ((0.95, 0.7, 0.6), "That is better than the Keras baseline with", True),
        ((0.6, 0.5, 0.95), "That is worse than the Keras baseline with", True),
        ((0.8, 0.6, 0.8), "the two cannot be told apart", False),
    ],
)
def test_verdict_says_whether_the_difference_is_real(
    build: Callable[..., Report], shares: tuple[float, float, float], words: str, real: bool
) -> None:
    verdict = build(shares=shares).verdict
    assert words in verdict.points[0].text
    assert verdict.real is real
    assert verdict.headline.startswith("Logistic regression gets ")
    assert "of 240 test images right (95 % interval " in verdict.headline


def test_verdict_follows_the_choice_on_training_data_not_the_test_score(
    build: Callable[..., Report],
) -> None:
    scores = {("net", "logistic"): 0.7, ("net", "linear_svm"): 0.9}
    report = build(selection=Selection(3, scores, 4.0))
    best, svm = report.summaries[0], next(one for one in report.summaries if one.chosen)
    assert best.method == "logistic"
    assert svm.method == "linear_svm"
    assert report.verdict.headline.startswith("Linear SVM gets ")
    said = report.verdict.points[-1].text
    assert "3-fold cross-validation on the training images alone (90.0 % there)" in said


def test_verdict_admits_that_the_choice_flatters_where_it_does(
    build: Callable[..., Report],
) -> None:
    report = build(selection=Selection(0, {}, 0.0), shares=(0.8, 0.6, 0.8))
    assert "a little flattered" in report.verdict.points[-1].text
    assert "adjusted for the number of heads" in report.verdict.points[0].text
    chosen = next(one for one in report.summaries if one.chosen)
    assert chosen.versus is not None
    assert chosen.adjusted_p is not None
    assert chosen.adjusted_p >= chosen.versus.p_value


def test_verdict_without_a_baseline_claims_no_difference(build: Callable[..., Report]) -> None:
    verdict = build(baseline=False).verdict
    assert verdict.real is None
    assert "nothing is said of a difference" in verdict.points[0].text


def test_verdict_warns_of_untrained_weights_and_skipped_images(
    build: Callable[..., Report], tmp_path: Path
) -> None:
    images = Images(
        "a", "b", 0, ("daisy", "rose", "tulip"), {}, {"daisy": 99},
        (SkippedImage("test", Failure("x.jpg", "TruncatedImageError", "ends early")),),
    )  # fmt: skip
    report = build(done=dataclasses.replace(MEASURED, untrained=True), images=images)
    images.n_train.update(dict.fromkeys(images.classes, 1))  # type: ignore[attr-defined]
    images.n_test.update(dict.fromkeys(images.classes, 33))  # type: ignore[attr-defined]
    untrained, skipped, few = report.verdict.cautions
    assert untrained.startswith("Untrained weights: net ran with random weights")
    assert skipped.startswith("1 image could not be used and was left out")
    assert few.startswith("With 99 images tested, one image is 1.0 points")
    text, markdown, _ = saved(report, tmp_path)
    assert text.index("Untrained weights") < text.index('id="verdict"')
    assert "Untrained weights" in markdown.splitlines()[2]
    assert "ends early" in Page(text).text


def test_costs_by_hand(build: Callable[..., Report]) -> None:
    head = costs.costs(build().rows, [MEASURED])["net", "logistic"]
    # Pass 10, fit 1, predict 0.1; baseline 8 epochs of 10, predict 4.
    assert head.total == pytest.approx(11.1)
    assert head.ratio == pytest.approx(84 / 11.1)
    assert head.ratio_each == pytest.approx(84 / 1.1)
    assert head.break_even_trainings == 1
    assert head.break_even_epochs == pytest.approx((10 + 1.1 - 4) / 10)
    baseline = costs.costs(build().rows, [MEASURED])["net", "keras_baseline"]
    assert baseline.total == 84
    assert baseline.epoch_seconds == 10


def test_a_long_pass_pays_later(build: Callable[..., Report]) -> None:
    slow = dataclasses.replace(MEASURED, cost=200.0)
    head = costs.costs(build().rows, [slow])["net", "logistic"]
    assert head.break_even_trainings == 3  # 200 / (84 - 1.1) = 2.4
    assert head.ratio is not None
    assert head.ratio < 1
    words = build(done=slow).verdict.points[1].text
    assert "which is less" in words
    assert "the pass has paid for itself after 3 trainings" in words


def test_a_head_slower_than_the_baseline_never_pays(build: Callable[..., Report]) -> None:
    rows = [
        dataclasses.replace(row, fit_seconds=500.0) if row.kind == "head" else row
        for row in build().rows
    ]
    head = costs.costs(rows, [MEASURED])["net", "logistic"]
    assert head.break_even_trainings is None
    assert head.ratio_each is not None
    assert head.ratio_each < 1


def test_folds_count_as_trainings(build: Callable[..., Report]) -> None:
    rows = [dataclasses.replace(row, fold=fold) for row in build().rows for fold in range(1, 6)]
    found = costs.costs(rows, [MEASURED])
    assert found["net", "logistic"].total == pytest.approx(10 + 5 * 1.1)
    assert found["net", "keras_baseline"].total == pytest.approx(5 * 84)


def test_a_pass_that_did_not_happen_is_never_free(build: Callable[..., Report]) -> None:
    alone = build(done=KEPT, baseline=False)
    head = next(one for one in alone.summaries if one.chosen)
    assert head.cost.total is None
    assert "What the pass itself costs is not known" in alone.verdict.points[1].text
    beside = next(one for one in build(done=KEPT).summaries if one.chosen)
    assert beside.cost.pass_seconds == pytest.approx(10.0 * 850 / 600)  # the baseline's epochs
    assert beside.cost.pass_source.startswith("estimated from the seconds an epoch")
    words = build(done=KEPT).verdict.points[1].text
    assert words.startswith("No image went through the network in this run")
    assert "A first run costs about 15 s" in words


def test_several_seeds_show_their_spread(build: Callable[..., Report], tmp_path: Path) -> None:
    report = build(seeds=3)
    one = report.summaries[0]
    assert one.seeds == (0, 1, 2)
    assert one.spread[0] <= one.accuracy <= one.spread[1]
    assert one.versus is not None
    assert one.versus.test.startswith("sign-flip")
    assert "seeds " in Page(saved(report, tmp_path)[0]).text


def test_many_classes_list_their_confusions_instead(
    build: Callable[..., Report], tmp_path: Path
) -> None:
    names = [f"class {n:03d}" for n in range(60)]
    page = Page(saved(build(names, n=600), tmp_path)[0])
    assert "The most frequent confusions" in page.text
    assert not [a for t, a in page.tags if t == "table" and a.get("class") == "confusion"]


def test_no_mistakes_and_no_probabilities_make_a_page_too(
    build: Callable[..., Report], schema: Any, tmp_path: Path
) -> None:
    report = build(shares=(1.0, 1.0, 1.0))
    report.predictions = [
        dataclasses.replace(one, proba=None, y_pred=one.y_true) for one in report.predictions
    ]
    text, _, data = saved(report, tmp_path)
    assert Page(text).text.count("No image was given a wrong class.") == 1
    assert data["methods"][0]["calibration"] is None
    assert data["methods"][0]["interval"]["low"] < 1
    jsonschema.validate(data, schema)


def test_mistakes_stand_the_most_confident_first(build: Callable[..., Report]) -> None:
    from featx.evaluation.report import pages

    report = build()
    head = next(one for one in report.summaries if one.chosen)
    page = Page(pages.html(report)).text
    wrong = np.flatnonzero(head.first.y_true != head.first.y_pred)
    assert f"{len(wrong)} of 240 images are wrong" in page
    assert head.first.proba is not None
    first = wrong[head.first.proba[wrong].max(axis=1).argmax()]
    table = page[page.index("The baseline says") :]
    assert head.first.ids[first] in table[:60]


def test_saving_is_all_or_nothing(
    build: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = build().save(tmp_path / "a" / "report")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == ["report.html", "report.json", "report.md"]
    real = os.fsync
    calls = iter(range(100))

    def fails_at_the_third(handle: int) -> None:
        if next(calls) == 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fails_at_the_third)
    with pytest.raises(FeatxError, match="No space left on device.*is unchanged"):
        build(shares=(0.5, 0.5, 0.5)).save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_in_the_way_is_named(build: Callable[..., Report], tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    with pytest.raises(FeatxError, match="cannot be written to '.*report'"):
        build().save(tmp_path / "report")
    assert (tmp_path / "report").read_text() == "mine"


def test_the_same_results_make_the_same_bytes(build: Callable[..., Report], tmp_path: Path) -> None:
    one, two = (build().save(tmp_path / name) for name in ("one", "two"))
    for name in ("report.html", "report.md", "report.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_table_fits_a_terminal_of_80_columns(build: Callable[..., Report]) -> None:
    out = StringIO()
    Console(file=out, width=80).print(build(seeds=2).table())
    lines = out.getvalue().splitlines()
    for words in ("logistic", "keras_baseline", "11.1", "84.0"):
        assert any(words in line for line in lines)
    assert "…" not in out.getvalue()


def test_markup_in_a_name_stays_text_in_the_terminal(build: Callable[..., Report]) -> None:
    report = build()
    report.predictions = [
        dataclasses.replace(one, method="[red]mine[/red]\x1b[2J")
        if one.method == "logistic"
        else one
        for one in report.predictions
    ]
    report.rows = [
        dataclasses.replace(row, method="[red]mine[/red]\x1b[2J")
        if row.method == "logistic"
        else row
        for row in report.rows
    ]
    out = StringIO()
    Console(file=out, width=200).print(report.table())
    assert "[red]mine[/red]\\x1b[2J" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, 6), (0, 513, 6), (0.7, 0.9, 5), (1, 8, 4), (0, 0.003, 4), (0, 1e6, 6)],
)
def test_ticks_are_few_round_and_inside(low: float, high: float, expected: int) -> None:
    found = charts.ticks(low, high)
    assert len(found) == expected
    assert low - 1e-9 <= found[0] <= found[-1] <= high + 1e-9


@pytest.mark.parametrize("interval", [(0.804, 0.892), (0.97, 1.0), (0.3, 0.9), (0.0, 0.01)])
def test_a_forest_s_ticks_stand_where_their_figures_say(interval: tuple[float, float]) -> None:
    found = charts.forest([interval])
    assert len(found.ticks) >= 3
    for tick in found.ticks:
        at = found.low + tick.at / 100 * (found.high - found.low)
        assert 100 * at == pytest.approx(float(tick.text.removesuffix(" %")))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00 s"),
        (0.004, "< 0.01 s"),
        (0.996, "1.0 s"),
        (9.96, "10 s"),
        (119.6, "2 min 0 s"),
        (7300, "2 h 1 min"),
    ],
)
def test_seconds_in_words(value: float, text: str) -> None:
    assert formatting.seconds(value) == text


def test_missing_figures_are_a_dash() -> None:
    for write in (formatting.percent, formatting.number, formatting.seconds, formatting.times):
        assert write(None) == write(float("nan")) == "–"
