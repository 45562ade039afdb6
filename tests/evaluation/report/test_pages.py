from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from scipy import stats

from featx.errors import Failure
from featx.evaluation.report import document, pages, view
from featx.evaluation.report import saved as saved_document
from featx.evaluation.report.report import Report
from featx.evaluation.results import (
    Environment,
    Images,
    MethodFailure,
    SkippedImage,
)
from tests.evaluation.report.conftest import HOSTILE, Page, leaks_of, make, saved


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


def test_a_pair_shows_what_was_matched(tmp_path: Path) -> None:
    report = make(evidence=False)
    report.leaks = leaks_of(report.predictions[0].ids, "daisy")
    text, _, data = saved(report, tmp_path)
    section = text[text.index('<section id="leaks">') :]
    section = section[: section.index("</section>")]
    assert "same photograph" in section
    assert "40 points agree, 97 % of the overlap" in section
    page = Page(section)
    circles = [(a["cx"], a["cy"], a["fill"]) for tag, a in page.tags if tag == "circle"]
    places = data["leaks"]["matched"][0]["places"]
    assert [circle[0] for circle in circles] == ["25.0%", "10.0%", "75.0%", "90.0%"]
    assert len(places) == 2
    # Equal colours belong together.
    assert circles[0][2] == circles[2][2] != circles[1][2] == circles[3][2]
    assert "40 of 50, the most promising first, pairs" in page.text
    assert "2 of these images are too plain" in page.text


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
        warnings=names,
        method_failures=[MethodFailure(name, name, 0, 1, name, name) for name in names],
    )
    report.environment = Environment(
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
        [*HOSTILE[:2], HOSTILE[6], "```\nend"], warnings=["a | b <b>@x</b>"], baseline=False
    )
    text = saved(report, tmp_path)[1]
    assert "- a \\| b &lt;b&gt;@&zwj;x&lt;/b&gt;" in text
    fences = re.findall(r"^(`{3,})(?:text)?$", text, flags=re.MULTILINE)
    assert len(fences) == 4
    assert fences[0] == fences[1]
    table = [line for line in text[: text.index("<details>")].splitlines() if line[:1] == "|"]
    widths = {line.replace("\\|", "").count("|") for line in table}
    assert len(widths) == 1


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


def test_mistakes_stand_the_most_confident_first(build: Callable[..., Report]) -> None:
    report = build()
    head = next(one for one in report.summaries if one.chosen)
    page = Page(pages.both(report.to_dict())["report.html"]).text
    wrong = np.flatnonzero(head.first.y_true != head.first.y_pred)
    assert f"{len(wrong)} of 240 images are wrong" in page
    assert head.first.proba is not None
    first = wrong[head.first.proba[wrong].max(axis=1).argmax()]
    table = page[page.index("The baseline's answer") :]
    assert head.first.ids[first] in table[:60]


@pytest.mark.parametrize("baseline", [True, False])
def test_a_temperature_is_missed_only_of_a_baseline_that_was_run(
    baseline: bool, build: Callable[..., Report], tmp_path: Path
) -> None:
    text, _, _ = saved(build(baseline=baseline), tmp_path)
    assert ("not for the baseline, which would have to be trained again" in text) is baseline


def test_one_order_everywhere(build: Callable[..., Report], tmp_path: Path) -> None:
    report = build(shares=(0.9, 0.8, 0.7))
    assert [one.method for one in report.summaries][1] == "linear_svm"  # better than the baseline
    text, markdown, _ = saved(report, tmp_path)
    order = ["logistic regression", "Keras baseline", "linear SVM"]
    table = [line for line in markdown.splitlines() if line.startswith("| ")][2:]
    assert [line.split("|")[1].strip(" *") for line in table] == order
    for part in ("results", "cost"):
        section = text[text.index(f'<section id="{part}">') :]
        section = section[section.index("<tbody>") : section.index("</tbody>")]
        found = [
            Page(row).text.strip() for row in re.findall(r'<th scope="row">(.*?)</th>', section)
        ]
        assert [name.removesuffix(" verdict") for name in found] == order


def test_reliability_is_drawn_in_few_bins_with_their_intervals(
    build: Callable[..., Report],
) -> None:
    report = build()
    (one, *_) = report.to_dict()["methods"]
    found = view.merged(one["calibration"])
    assert len(found) <= 5
    assert sum(each["count"] for each in found) == 240
    share = sum(each["accuracy"] * each["count"] for each in found) / 240
    assert share == pytest.approx(one["accuracy"])
    for each in found:
        right = round(each["accuracy"] * each["count"])
        exact = stats.binomtest(right, each["count"]).proportion_ci(0.95, "exact")
        assert (each["from"], each["to"]) == pytest.approx((exact.low, exact.high))
        assert each["low"] <= each["confidence"] <= each["high"]
    page = pages.both(report.to_dict())["report.html"]
    assert page.count('<line class="whisker head"') >= len(found)


def test_a_report_may_be_saved_without_images(build: Callable[..., Report], tmp_path: Path) -> None:
    report = build()
    report.leaks = leaks_of(report.predictions[0].ids, "daisy")
    held = document.images_in(report.to_dict())
    assert held == 120 + 3 + 2  # the map, mistakes, a pair of copies
    report.save(tmp_path, images=False)
    for name in ("report.html", "report.json", "report.md"):
        assert "/9j/" not in (tmp_path / name).read_text()  # how a JPEG begins in base64
    data = saved_document.read(tmp_path)
    assert document.images_in(data) == 0
    assert data["tested"] == report.to_dict()["tested"]
    with (
        resources.files("featx.evaluation.report")
        .joinpath("templates/report.schema.json")
        .open() as schema
    ):
        jsonschema.validate(data, json.load(schema))
