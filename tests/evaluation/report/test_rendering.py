from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from featx.cli import app
from featx.errors import Failure, FeatxError
from featx.evaluation.report.rendering import render
from featx.evaluation.report.report import Report
from featx.evaluation.results import Images, MethodFailure, Selection, SkippedImage
from tests.evaluation.report.conftest import CACHED, HOSTILE, leaks_of, make

PAGES = ("report.html", "report.md")


def full() -> Report:
    """Return a report in which hostile names stand wherever a name can."""
    names = sorted(HOSTILE)
    counts = dict.fromkeys(names, 24)
    skipped = tuple(SkippedImage("test", Failure(name, name, name)) for name in names)
    images = Images(
        HOSTILE[0], HOSTILE[1], 0, tuple(names), counts, counts, skipped, tuple(names), "0" * 64
    )
    report = make(
        names,
        seeds=2,
        images=images,
        warnings=names,
        method_failures=[MethodFailure(name, name, 0, 1, name, name) for name in names],
    )
    report.leaks = leaks_of(report.predictions[0].ids, names[0])
    return report


def folds() -> Report:
    counts = dict.fromkeys(("daisy", "rose", "tulip"), 80)
    images = Images("flowers", None, 5, tuple(counts), counts, counts)
    report = make(images=images, selection=Selection(0, {}, 0.0), done=CACHED)
    ids = report.predictions[0].ids
    report.leaks = leaks_of(ids, "daisy", leaked=(), divided=0.99)
    return report


def bare() -> Report:
    return make(baseline=False, evidence=False)


@pytest.mark.parametrize("made", [full, folds, bare])
def test_pages_rendered_again_are_those_saved_at_first(
    made: Callable[[], Report], tmp_path: Path
) -> None:
    folder = made().save(tmp_path / "report")
    first = {name: (folder / name).read_bytes() for name in PAGES}
    for name in PAGES:
        (folder / name).unlink()
    source = folder / "report.json"
    before = source.read_bytes(), os.stat(source)
    assert render(folder)[0] == folder
    assert {name: (folder / name).read_bytes() for name in PAGES} == first
    after = source.read_bytes(), os.stat(source)
    assert after[0] == before[0]
    assert (after[1].st_ino, after[1].st_mtime_ns) == (before[1].st_ino, before[1].st_mtime_ns)


def test_one_folder_on_the_command_line_is_rendered_again(tmp_path: Path) -> None:
    folder = bare().save(tmp_path / "report")
    page = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    answer = CliRunner().invoke(app.app, ["report", str(folder)])
    assert answer.exit_code == 0, answer.output
    assert (folder / "report.html").read_bytes() == page
    assert "logistic" in answer.output
    assert "report.html" in answer.output


@pytest.mark.parametrize("name", ["", "report.json"])
def test_pages_alone_go_to_another_folder(tmp_path: Path, name: str) -> None:
    folder = bare().save(tmp_path / "report")
    out = tmp_path / "out"
    answer = CliRunner().invoke(app.app, ["report", str(folder / name), "--out", str(out)])
    assert answer.exit_code == 0, answer.output
    assert sorted(path.name for path in out.iterdir()) == sorted(PAGES)
    for page in PAGES:
        assert (out / page).read_bytes() == (folder / page).read_bytes()


def changed(folder: Path, change: Callable[[Any], Any]) -> Path:
    data = json.loads((folder / "report.json").read_text())
    change(data)
    (folder / "report.json").write_text(json.dumps(data))
    for name in PAGES:
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize(
    ("version", "remedy"),
    [(5, "run the benchmark again"), (1, "run the benchmark again"), (7, "update featx")],
)
def test_a_report_of_another_version_is_refused_with_what_to_do(
    tmp_path: Path, version: int, remedy: str
) -> None:
    folder = changed(bare().save(tmp_path / "r"), lambda data: data.update(version=version))
    with pytest.raises(FeatxError, match=f"version {version}, and .* version 6: .*{remedy}"):
        render(folder)
    assert [path.name for path in folder.iterdir()] == ["report.json"]
    assert CliRunner().invoke(app.app, ["report", str(folder)]).exit_code == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("findings"),
        lambda data: data["findings"]["difference"].update(standing="splendid"),
        lambda data: data["methods"][0]["cost"].update(each="<b>"),
        lambda data: data["extractions"][0].update(basis="guessed"),
    ],
)
def test_a_changed_report_is_refused_and_nothing_is_written(
    tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    folder = changed(bare().save(tmp_path / "r"), change)
    with pytest.raises(FeatxError, match="not as `featx benchmark` writes it"):
        render(folder)
    assert [path.name for path in folder.iterdir()] == ["report.json"]
