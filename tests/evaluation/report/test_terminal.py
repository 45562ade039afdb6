from __future__ import annotations

import dataclasses
from collections.abc import Callable
from io import StringIO

from rich.console import Console

from featx.evaluation.report.report import Report
from featx.evaluation.results import Predictions


def test_table_fits_a_terminal_of_80_columns(build: Callable[..., Report]) -> None:
    out = StringIO()
    Console(file=out, width=80).print(build(seeds=2).table())
    lines = out.getvalue().splitlines()
    for words in ("logistic", "keras_baseline", "11.1", "84.0"):
        assert any(words in line for line in lines)
    assert "…" not in out.getvalue()


def test_markup_in_a_name_stays_text_in_the_terminal(build: Callable[..., Report]) -> None:
    def renamed(one: Predictions) -> Predictions:
        hostile = one.method == "logistic"
        return dataclasses.replace(one, method="[red]mine[/red]\x1b[2J") if hostile else one

    report = build(changed=renamed)
    out = StringIO()
    Console(file=out, width=200).print(report.table())
    assert "[red]mine[/red]\\x1b[2J" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
