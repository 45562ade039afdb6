"""A comparison that is stopped keeps what is finished, and goes on from there."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from featx.evaluation.comparison import benchmark
from featx.evaluation.protocol import progress
from featx.evaluation.protocol.trials import Setting, Trial
from featx.evaluation.report import command, saved
from featx.evaluation.report.report import Report
from featx.evaluation.results import ExtractionCost, History, Predictions
from featx.storage import checksummed
from tests.evaluation.seam import QUICK, TEST, TINY, TRAIN, Seam, images


class Counted(LogisticRegression):
    """Counts its fits by C, and raises what it is told to at the fit of all images."""

    fits: ClassVar[list[float]] = []
    ends: ClassVar[dict[float, BaseException]] = {}

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Counted:
        Counted.fits.append(self.C)
        if len(y) == sum(TRAIN.values()) and self.C in Counted.ends:
            raise Counted.ends[self.C]
        super().fit(X, y)
        return self


OPTIONS = {**QUICK, "leaks": False}
HEADS = {f"lr{n}": Counted(C=float(n)) for n in (1, 2, 3)}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "fits", [])
    monkeypatch.setattr(Counted, "ends", {})


def run(out: Path | None, **options: Any) -> Report:
    return benchmark(
        images(TRAIN), images(TEST, seed=1), **{**OPTIONS, "heads": HEADS, "out": out, **options}
    )


def stop_in_the_third(out: Path) -> None:
    """Run until the third head is stopped, and forget what was counted."""
    Counted.ends[3.0] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(out)
    Counted.ends.clear()
    Counted.fits.clear()


def schema() -> Any:
    folder = Path(saved.__file__).parent / "templates"
    return json.loads((folder / "report.schema.json").read_text())


def figures(report: Report) -> Any:
    found = report.to_dict()
    return [{key: value for key, value in one.items() if key != "cost"} for one in found["methods"]]


def test_ctrl_c_leaves_a_report_of_what_is_done_and_the_same_call_goes_on(
    seam: Seam, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    Counted.ends[3.0] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(out, leaks=True)
    assert len(Counted.fits) == 3 * 3 + 3
    found = saved.read(out)
    jsonschema.validate(found, schema())
    assert [one["method"] for one in found["methods"]] == ["lr1", "lr2"]
    assert found["incomplete"] == {
        "reason": "interrupted",
        "error": None,
        "methods": [{"backbone": "mobilenet_v2", "method": "lr3", "seed": 0}],
        "parts": ["leaks"],
        "kept": True,
    }
    page, markdown = ((out / name).read_text() for name in ("report.html", "report.md"))
    for text in (page, markdown):
        assert "This report is incomplete: the run was stopped. Missing: lr3, the search" in text
        assert "To go on, run the call at its end" in text
    assert f"out={str(out)!r}" in found["command"]

    Counted.ends.clear()
    Counted.fits.clear()
    again = run(out, leaks=True)
    assert Counted.fits == [3.0]  # the choice and two heads were taken
    assert again.taken == 5
    assert "5 finished trainings and choices of an earlier run" in (out / "report.md").read_text()
    assert not (out / progress.FOLDER).exists()
    assert again.incomplete is None
    assert not saved.is_incomplete(out)
    jsonschema.validate(saved.read(out), schema())
    assert figures(again) == figures(run(None))
    assert again.selection.scores == run(None).selection.scores


def test_a_stop_while_the_head_is_chosen_keeps_the_choices(seam: Seam, tmp_path: Path) -> None:
    stopping = {**HEADS, "lr4": Stops()}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "report", heads=stopping)
    assert not (tmp_path / "report" / "report.json").exists()
    Counted.fits.clear()
    report = run(tmp_path / "report")
    assert Counted.fits == [1.0, 2.0, 3.0]
    assert report.taken == 3


class Stops(LogisticRegression):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Stops:
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", [MemoryError("no room"), ValueError("odd")])
def test_a_head_that_fails_is_named_and_only_it_is_tried_again(
    seam: Seam, tmp_path: Path, error: Exception
) -> None:
    Counted.ends[2.0] = error
    report = run(tmp_path / "report")
    assert {one.method for one in report.summaries} == {"lr1", "lr3"}
    assert report.method_failures[0].error == type(error).__name__
    assert report.incomplete is not None
    assert report.verdict.cautions[0].startswith(
        "This report is incomplete: methods gave no result, for reasons that the report lists. "
        "Missing: lr2."
    )
    Counted.ends.clear()
    Counted.fits.clear()
    again = run(tmp_path / "report")
    assert Counted.fits == [2.0]
    assert again.incomplete is None


def test_an_error_outside_of_a_method_loses_no_method(
    seam: Seam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report"

    def fails(*_: Any) -> None:
        raise RuntimeError("the search broke")

    with monkeypatch.context() as patched:
        patched.setattr("featx.evaluation.comparison._leaks", fails)
        with pytest.raises(RuntimeError, match="the search broke"):
            run(out)
    assert saved.read(out)["incomplete"]["error"] == "RuntimeError: the search broke"
    Counted.fits.clear()
    run(out)
    assert Counted.fits == []


def test_a_complete_report_is_not_replaced_by_an_incomplete_one(
    seam: Seam, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "report"
    run(out)
    before = (out / "report.json").read_bytes()
    Counted.ends[3.0] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(out)
    assert (out / "report.json").read_bytes() == before
    assert "stays as it was" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"heads": {**HEADS, "lr1": Counted(C=1.0, tol=0.1)}},
        {"seeds": [5]},
        {"groups": lambda name: name[-1]},
        {"backbones": [TINY], "test": images(TEST, seed=2)},
    ],
    ids=["head", "seed", "groups", "images"],
)
def test_what_would_be_another_result_is_not_taken(
    seam: Seam, tmp_path: Path, change: dict[str, Any]
) -> None:
    out = tmp_path / "report"
    stop_in_the_third(out)
    test = change.get("test", images(TEST, seed=1))
    options = {name: value for name, value in change.items() if name != "test"}
    benchmark(images(TRAIN), test, **{**OPTIONS, "heads": HEADS, "out": out, **options})
    assert 1.0 in Counted.fits


def test_folds_and_the_curves_of_a_baseline_are_kept(
    seam: Seam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {**OPTIONS, "heads": {"lr1": HEADS["lr1"]}, "out": tmp_path / "r"}
    options |= {"baseline": True, "folds": 3}
    with monkeypatch.context() as patched:
        patched.setattr("featx.evaluation.comparison._leaks", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            benchmark(images(TRAIN), **options)
    first = saved.read(tmp_path / "r")
    seam.fitted.clear()
    again = benchmark(images(TRAIN), **options)
    assert seam.fitted == []
    assert again.taken == 2
    found = again.to_dict()
    for part in ("histories", "predictions", "tested"):
        assert found[part] == first[part]
    for one, before in zip(found["trainings"], first["trainings"], strict=True):
        # The extraction is this run's own.
        assert {**one, "extract_seconds": 0} == {**before, "extract_seconds": 0}
    assert len(found["histories"]) == 3


def test_a_loss_that_is_no_number_is_kept(tmp_path: Path) -> None:
    cost = ExtractionCost("net", 2, 2, 0, 1.0, "fake", 1.0, 1, False, 0.0, 6.0)
    setting = Setting("x", ("a", "b"), ("0", "1"), cost, "featx 0")
    y = np.array(["a", "b"], dtype=object)
    trial = Trial(
        "net",
        "base",
        0,
        (),
        Predictions("net", "base", "baseline", 0, ("0", "1"), y, y[::-1], None),
        (History("net", 0, None, {"loss": (1.0, float("nan"))}),),
        None,
        ("odd",),
    )
    kept = progress.Progress(tmp_path / "progress")
    kept.keep_trial("a" * 64, trial, setting.classes)
    found = kept.trial("a" * 64, "base", 0, setting)
    assert found is not None
    assert np.isnan(found.histories[0].curves["loss"][1])
    assert found.predictions is not None
    assert found.predictions.y_pred.tolist() == ["b", "a"]
    assert found.remarks == ("odd",)
    assert kept.trial("b" * 64, "base", 0, setting) is None
    assert progress.Progress(None).trial("a" * 64, "base", 0, setting) is None


@pytest.mark.parametrize("damage", ["cut", "changed", "other", "link", "shape"])
def test_damaged_files_are_left_aside(
    seam: Seam, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "report"
    stop_in_the_third(out)
    for path in (out / progress.FOLDER).iterdir():
        content = path.read_bytes()
        if damage == "cut":
            path.write_bytes(content[:-3])
        elif damage == "changed":
            path.write_bytes(content[:60] + b"?" + content[61:])
        elif damage == "link":
            path.rename(tmp_path / path.name)
            os.symlink(tmp_path / path.name, path)
        else:
            arrays, about = checksummed.unpack(content, path.name)
            if damage == "other":
                about["key"] = "0" * 64
            else:
                arrays = {name: np.asarray(one)[:-1] for name, one in arrays.items()}
                if "positions" in arrays:
                    arrays["positions"] = arrays["positions"][:-1]
            path.write_bytes(checksummed.pack(arrays, about))
    with caplog.at_level(logging.WARNING):
        report = run(out)
    assert len(Counted.fits) == 12
    assert report.taken == 0
    assert report.incomplete is None


def test_the_call_that_a_report_names_has_its_folder() -> None:
    from featx.evaluation.protocol.options import Options

    options = Options(heads=[LogisticRegression()], out="there", images=False)
    text = command.command(images(TRAIN), None, [TINY], options)
    assert "out='there', images=False)" in text
    assert "save(" not in text
