"""The report: a pure function of a comparison's results, as pages, Markdown, JSON and a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.evaluation.evidence.evidence import Evidence
from featx.evaluation.leaks.leakage import Leaks
from featx.evaluation.report import json_document, pages, tensorboard, writing
from featx.evaluation.report.verdict import Verdict, verdict
from featx.evaluation.results import (
    Circumstances,
    ExtractionCost,
    History,
    Images,
    MethodFailure,
    Predictions,
    Result,
    Selection,
)
from featx.evaluation.scores.costs import costs
from featx.evaluation.scores.summary import Summary, summaries
from featx.formatting import number, points, printable

if TYPE_CHECKING:
    from rich.table import Table


@dataclass
class Report:
    """What a comparison found; everything shown is computed from these fields alone.

    Attributes
    ----------
    rows : list of Result
        One a training: backbone, method, seed and fold.
    predictions : list of Predictions
        One a backbone, method and seed: what was said of each image.
    passes : list of ExtractionCost
        One a backbone.
    remarks : list of str
        Warnings that methods gave while training, such as a solver that did not converge.
    baseline : str
        The baseline in words; empty without one.
    leaks : Leaks or None
        Copies, small classes and shortcuts; None where they were not sought.
    evidence : Evidence or None
        What stands behind the figures: learning curves, parity and the like.

    Examples
    --------
    >>> import featx
    >>> report = featx.benchmark("flowers/train", "flowers/test")  # doctest: +SKIP
    >>> report.save("report")                                      # doctest: +SKIP
    """

    images: Images
    rows: list[Result]
    predictions: list[Predictions]
    passes: list[ExtractionCost]
    circumstances: Circumstances
    selection: Selection
    histories: list[History] = field(default_factory=list)
    method_failures: list[MethodFailure] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    baseline: str = ""
    leaks: Leaks | None = None
    evidence: Evidence | None = None

    @cached_property
    def summaries(self) -> list[Summary]:
        """One line a method, the best accuracy first."""
        spent = costs(self.rows, self.passes)
        return summaries(self.predictions, self.images.classes, spent, self.selection)

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict in plain words."""
        return verdict(self.summaries, self.passes, self.selection, self.images, self.leaks)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data that strict JSON can hold: a missing figure is None.

        The form is `templates/report.schema.json` (JSON Schema, draft 2020-12); `version` counts
        its changes.
        """
        return json_document.document(self)

    def save(self, directory: str | Path) -> Path:
        """Write report.html, report.md and report.json into a folder and return the folder.

        Each file is written aside, brought to the disk and moved over the old one, after all
        three have been made: an error leaves the old report as it was.

        Raises
        ------
        FeatxError
            The folder cannot be made or written.
        """
        data = self.to_dict()
        texts = {
            "report.html": pages.html(self),
            "report.md": pages.markdown(self),
            "report.json": writing.strict(data),
        }
        return writing.publish(Path(directory), texts)

    def save_tensorboard(self, directory: str | Path) -> Path:
        """Write what `tensorboard --logdir DIRECTORY` shows, and return the folder.

        The baseline's training curves and the learning curves as scalars, and the tested images
        with their rows for the embedding projector.

        Raises
        ------
        FeatxError
            Nothing to show (neither a baseline nor evidence), or the folder cannot be written.
        """
        return tensorboard.save(self, Path(directory))

    def table(self) -> Table:
        """Return the comparison as a table for the terminal."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        several = len({one.backbone for one in self.summaries}) > 1
        versus = any(one.versus for one in self.summaries)
        names = ["method", *(["backbone"] if several else []), "accu-\nracy %", "95 %\ninterval"]
        names += ["balan-\nced %", "macro\nF1", "log\nloss"]
        names += [*(["to\nbase"] if versus else []), "first\nans. s", "each\nmore s"]
        table = RichTable(
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 0, 0, 1),
            caption=printable(self.verdict.headline),
            caption_justify="left",
        )
        for name in names:
            words = name in {"method", "backbone"}
            table.add_column(
                name,
                justify="left" if words else "right",
                no_wrap=True,
                min_width=None if name == "backbone" else max(map(len, name.split("\n"))),
            )
        for one in self.summaries:
            cells = self._cells(one, several, versus)
            style = "bold" if one.chosen else ("dim" if one.kind == "baseline" else "")
            table.add_row(*(Text(printable(cell)) for cell in cells), style=style)
        return table

    @staticmethod
    def _cells(one: Summary, several: bool, versus: bool) -> list[str]:
        gap = points(one.versus.difference) if one.versus else ""
        return [
            one.method,
            *([one.backbone] if several else []),
            f"{100 * one.accuracy:.1f}",
            f"{100 * one.interval.low:.1f}-{100 * one.interval.high:.1f}",
            f"{100 * one.balanced_accuracy:.1f}",
            number(one.macro_f1),
            number(one.log_loss),
            *([gap] if versus else []),
            number(one.cost.total, 1),
            number(one.cost.each, 1 if one.cost.each >= 0.95 else 2),
        ]
