"""What a notebook shows of a report."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable

import numpy as np
import pytest

from featx.errors import FeatxError
from featx.evaluation.report.report import Report
from tests.evaluation.report.conftest import HOSTILE, Page, leaks_of, make


def test_a_report_is_one_line_and_a_compact_table(build: Callable[..., Report]) -> None:
    report = build(HOSTILE[:3])
    report.leaks = leaks_of(report.predictions[0].ids, HOSTILE[0])
    assert "\n" not in repr(report)
    assert len(repr(report)) < 200
    shown = report._repr_html_()
    assert len(shown) < 6000
    page = Page(shown)
    assert {tag for tag, _ in page.tags} <= {
        "div", "p", "b", "table", "thead", "tbody", "tr", "th", "td"
    }  # fmt: skip
    assert report.verdict.headline in page.text
    for caution in report.verdict.cautions:
        assert html.escape(caution[:20]) in shown
    assert "also in the training set" in page.text
    assert page.text.index("logistic") < page.text.index("keras_baseline")


def test_frame(build: Callable[..., Report]) -> None:
    frame = build().to_frame()
    assert frame.index.tolist() == [
        ("net", "logistic"), ("net", "keras_baseline"), ("net", "linear_svm")
    ]  # fmt: skip
    first = frame.loc[("net", "logistic")]
    assert first.low <= first.accuracy <= first.high
    assert frame.chosen.tolist() == [True, False, False]
    assert np.isnan(frame.to_baseline["net", "keras_baseline"])
    assert set(map(str, frame.drop(columns="chosen").dtypes)) == {"float64"}


def test_plots_draw_the_figures_of_the_report() -> None:
    figure = pytest.importorskip("matplotlib.figure", reason="matplotlib is not installed").Figure
    report = make()
    document = report.to_dict()
    method = document["methods"][0]

    def axes() -> object:
        return figure().add_subplot()

    confusion = report.plot.confusion(ax=axes())
    texts = [int(text.get_text()) for text in confusion.texts]
    assert texts == np.ravel(method["confusion"]).tolist()
    assert [tick.get_text() for tick in confusion.get_yticklabels()] == ["daisy", "rose", "tulip"]
    calibration = report.plot.calibration("linear_svm", ax=axes())
    assert calibration.get_title().startswith("linear SVM")
    curve = report.plot.learning_curve(ax=axes())
    assert curve.lines[0].get_xdata().tolist() == [2, 5, 10]
    shown = report.plot.map(ax=axes())
    drawn = sum(len(part.get_offsets()) for part in shown.collections[:-1])
    assert drawn == len(document["evidence"]["map"]["positions"])
    tested, answers = document["tested"]["y_true"], document["predictions"][0]["y_pred"]
    wrong = sum(tested[n] != answers[n] for n in document["evidence"]["map"]["positions"])
    assert len(shown.collections[-1].get_offsets()) == wrong
    with pytest.raises(FeatxError, match=r"expected one of .*Did you mean 'logistic'\?"):
        report.plot.confusion("logistik")
    with pytest.raises(FeatxError, match="evidence=True"):
        make(evidence=False).plot.map()


def test_without_matplotlib_the_extra_is_named(
    build: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(FeatxError, match=r"pip install 'featx\[plot\]'"):
        build().plot.confusion()
