from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from featx.cli import app
from featx.errors import FeatxError
from featx.evaluation.report import wording
from featx.evaluation.report.joined import join
from featx.evaluation.report.report import Report
from featx.evaluation.scores import intervals
from tests.evaluation.report.conftest import HOSTILE, Page


@pytest.fixture(scope="module")
def saved(build: Callable[..., Report], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    build(shares=(0.9, 0.8, 0.7)).save(folder / "first")
    build(shares=(0.7, 0.6, 0.7)).save(folder / "second")
    build(["ant", "bee"], baseline=False, shares=(0.6, 0.7, 0.5)).save(folder / "third")
    return folder


@pytest.fixture
def folders(saved: Path, tmp_path: Path) -> list[Path]:
    """Return two runs on the same images, and one on others without a baseline."""
    return [shutil.copytree(saved / name, tmp_path / name) for name in ("first", "second", "third")]


def test_runs_stand_side_by_side(folders: list[Path], tmp_path: Path) -> None:
    joined = join(folders)
    assert [run.name for run in joined.runs] == [
        f"flowers/train → flowers/test ({name})" for name in ("first", "second", "third")
    ]
    out = joined.save(tmp_path / "joined")
    data = json.loads((out / "comparison.json").read_text(), parse_constant=pytest.fail)
    single = json.loads((folders[0] / "report.json").read_text())
    assert data["runs"][0]["methods"] == single["methods"]
    assert "sheet" not in (out / "comparison.json").read_text()
    page = Page((out / "comparison.html").read_text())
    for run in joined.runs:
        assert wording.verdict(run.data).headline in page.text
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {(a["href"] or "")[1:] for tag, a in page.tags if tag == "a"}
    assert targets <= set(ids)
    grid = page.text[page.text.index("Every method on all images") :]
    assert "Keras baseline" in grid[: grid.index("Runs on the same images")]
    markdown = (out / "comparison.md").read_text()
    tables = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in tables[:5]}) == 1
    assert len({line.count("|") for line in tables[5:]}) == 1


def test_runs_on_the_same_images_are_compared_in_pairs(folders: list[Path]) -> None:
    joined = join(folders)
    (match,) = joined.matches  # the third has other images
    right = []
    for folder in folders[:2]:
        data = json.loads((folder / "report.json").read_text())
        chosen = next(one for one in data["methods"] if one["chosen"])
        answers = next(a for a in data["predictions"] if a["method"] == chosen["method"])
        right.append(np.array(answers["y_pred"]) == np.array(data["tested"]["y_true"]))
    assert match.test == intervals.compare(*right)
    assert match.test.p_value < 0.01


def test_other_images_of_the_same_names_are_not_compared(folders: list[Path]) -> None:
    def other(content: str | None) -> Callable[[Any], None]:
        return lambda data: data["tested"].update(content=content)

    _changed(folders[1], other("1" * 64))
    assert not join(folders[:2]).matches
    for folder in folders[:2]:  # of images that were gone nothing is known
        _changed(folder, other(None))
    assert not join(folders[:2]).matches


def test_no_two_runs_share_a_name(folders: list[Path], tmp_path: Path) -> None:
    copies = [shutil.copytree(folders[0], tmp_path / side / "report") for side in ("x", "y")]
    names = [run.name for run in join([*copies, folders[1]]).runs]
    assert [name.partition(" (")[2] for name in names] == [
        "x/report)",
        "y/report)",
        f"{_tail(folders[1])})",
    ]
    (match,) = join(copies).matches
    assert match.first != match.second
    assert len({run.name for run in join([copies[0]] * 3).runs}) == 3


def _tail(folder: Path) -> str:
    return "/".join(folder.parts[-2:])


def test_the_parity_shown_is_that_of_the_verdict(folders: list[Path]) -> None:
    (run,) = join(folders[:1]).runs
    assert run.proof["method"] == run.subject["method"]
    _changed(folders[0], lambda data: data["evidence"]["parity"].reverse())
    assert join(folders[:1]).runs[0].proof == run.proof


def test_one_run_alone_keeps_its_name(folders: list[Path]) -> None:
    (run,) = join(folders[:1]).runs
    assert run.name == "flowers/train → flowers/test"
    assert join([folders[0] / "report.json"]).runs[0].name == run.name


def _changed(folder: Path, change: Callable[[Any], Any]) -> Path:
    path = folder / "report.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(change(data) or data))
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda data: data.update(version=5),
            "version 5, and this featx reads version 6: run the benchmark",
        ),
        (lambda data: data.update(schema="other"), "is not a report of featx"),
        (lambda data: [1, 2], "is not a report of featx"),
        (lambda data: data.update(seconds=float("nan")), "NaN is not a number of JSON"),
        (lambda data: data.pop("findings") and None, "not as `featx benchmark` writes it"),
        (lambda data: data.update(images=None), "not as `featx benchmark` writes it"),
        (lambda data: data["methods"][0].update(accuracy="<b>"), "not as `featx benchmark`"),
        (lambda data: data["evidence"]["map"].update(x=["<b>"]), "not as `featx benchmark`"),
    ],
)
def test_what_is_no_whole_report_is_refused_by_name(
    folders: list[Path], tmp_path: Path, change: Callable[[Any], Any], words: str
) -> None:
    _changed(folders[0], change)
    with pytest.raises(FeatxError, match=re.escape(words)):
        join(folders).save(tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_a_folder_without_a_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(FeatxError, match=r"report\.json' cannot be read: No such file"):
        join([tmp_path])
    with pytest.raises(FeatxError, match="nothing to join"):
        join([])


def test_a_report_that_somebody_wrote_cannot_make_the_page_act(
    folders: list[Path], tmp_path: Path
) -> None:
    bad = HOSTILE[1]
    caution = dict.fromkeys(("images", "different", "largest", "accuracy", "scored"))
    caution["kind"] = "untrained"

    def change(data: Any) -> None:
        data["findings"]["cautions"] = [{**caution, "backbones": [bad]}]
        data["command"] = bad
        data["images"].update(train=bad, classes=[bad, HOSTILE[0], HOSTILE[2]])
        data["evidence"]["images"][0]["jpeg"] = '" onerror="alert(1)'
        data["evidence"]["map"]["sheet"] = "//evil.example/x.jpg"
        data["versions"] = {bad: bad}

    out = join([_changed(folders[0], change), *folders[1:]]).save(tmp_path / "joined")
    page = Page((out / "comparison.html").read_text())
    assert [tag for tag, _ in page.tags].count("script") == 1
    for tag, attributes in page.tags:
        assert tag not in {"iframe", "object", "link", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        if "src" in attributes:
            assert re.fullmatch("data:image/jpeg;base64,[A-Za-z0-9+/=]*", attributes["src"] or "")


def test_from_the_command_line(folders: list[Path], tmp_path: Path) -> None:
    answer = CliRunner().invoke(
        app.app, ["report", *map(str, folders), "--out", str(tmp_path / "j")]
    )
    assert answer.exit_code == 0, answer.output
    assert "comparison.html" in answer.output
    assert answer.output.count("Caution (flowers/train → flowers/test") == 3
    assert answer.output.count("Copies were not looked for") == 3
    assert answer.output.count("flowers/train → flowers/test") == 6
    again = ["report", *map(str, folders), "--out", str(tmp_path / "j")]
    refused = CliRunner().invoke(app.app, again)
    assert refused.exit_code == 1
    assert "is there already and was left as it is" in refused.output
    assert CliRunner().invoke(app.app, [*again, "--force"]).exit_code == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("mine", encoding="utf-8")
    one = ["report", str(folders[0]), "--out", str(tmp_path / "mine")]
    assert CliRunner().invoke(app.app, one).exit_code == 1
    assert (tmp_path / "mine" / "report.html").read_text(encoding="utf-8") == "mine"
    assert CliRunner().invoke(app.app, ["report", str(folders[0])]).exit_code == 0, "its own"
    wrong = CliRunner().invoke(app.app, ["report", str(tmp_path / "nowhere")])
    assert wrong.exit_code == 1
