"""A report as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featx.evaluation.report import wording
from featx.evaluation.report.findings import Standing
from featx.formatting import number, points, printable

if TYPE_CHECKING:
    from rich.table import Table

Data = Mapping[str, Any]


def table(document: Data) -> Table:
    """Return the methods of a report's document as a table of at most 80 columns.

    Below it stand the headline and every caution: no figure is shown without them.
    """
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    methods = wording.methods(document)
    several = len({one["backbone"] for one in methods}) > 1
    difference = document["findings"]["difference"]
    learned = difference is None or difference["standing"] != Standing.BASELINE_AT_CHANCE
    versus = learned and any(one["versus_baseline"] for one in methods)
    verdict = wording.verdict(document)
    names = ["method", *(["backbone"] if several else []), "accu-\nracy %", "95 %\ninterval"]
    names += ["balan-\nced %", "macro\nF1", "log\nloss"]
    names += [*(["to\nbase"] if versus else []), "first\nans. s", "each\nmore s"]
    found = RichTable(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0, 0, 1),
        caption=printable(
            "\n".join([verdict.headline, *map(_caution, verdict.cautions)]), multiline=True
        ),
        caption_justify="left",
    )
    for name in names:
        found.add_column(
            name,
            justify="left" if name in {"method", "backbone"} else "right",
            no_wrap=True,
            min_width=None if name == "backbone" else max(map(len, name.split("\n"))),
        )
    for one in methods:
        style = "bold" if one["chosen"] else ("dim" if one["kind"] == "baseline" else "")
        cells = _cells(one, several, versus)
        found.add_row(*(Text(printable(cell)) for cell in cells), style=style)
    return found


def _caution(text: str) -> str:
    return f"Caution: {text}"


def _cells(one: Data, several: bool, versus: bool) -> list[str]:
    test, low, high = one["versus_baseline"], one["interval"]["low"], one["interval"]["high"]
    each = one["cost"]["each"]
    return [
        one["method"],
        *([one["backbone"]] if several else []),
        f"{100 * one['accuracy']:.1f}",
        f"{100 * low:.1f}-{100 * high:.1f}",
        f"{100 * one['balanced_accuracy']:.1f}",
        number(one["macro_f1"]),
        number(one["log_loss"]),
        *([points(test["difference"]) if test else ""] if versus else []),
        number(one["cost"]["total"], 1),
        number(each, 1 if each >= 0.95 else 2),
    ]
