"""The report: an outcome that can be saved as JSON and pages, and shown in the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.evaluation.report import command, document, files, pages, tensorboard, terminal, wording
from featx.evaluation.report.outcome import Outcome
from featx.evaluation.report.plots import Plots

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


@dataclass(repr=False)
class Report(Outcome):
    """What a comparison found; everything shown is rendered from its document, `to_dict()`.

    Examples
    --------
    >>> import featx
    >>> report = featx.benchmark("flowers/train", "flowers/test")  # doctest: +SKIP
    >>> report.save("report")                                      # doctest: +SKIP
    """

    def __repr__(self) -> str:
        return f"<featx.Report: {self.verdict.headline}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the headline, every caution and a compact table."""
        return pages.fragment(self.to_dict())

    @property
    def plot(self) -> Plots:
        """Drawings with matplotlib: `.confusion()`, `.calibration()` and others."""
        return Plots(self.to_dict())

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with a row per method, in the order of the tables.

        Index: backbone and method. Shares are 0 to 1, costs in seconds; what does not apply is NaN.
        """
        import pandas as pd

        rows = [
            {
                "backbone": one["backbone"],
                "method": one["method"],
                "chosen": one["chosen"],
                "accuracy": one["accuracy"],
                "low": one["interval"]["low"],
                "high": one["interval"]["high"],
                "balanced_accuracy": one["balanced_accuracy"],
                "macro_f1": one["macro_f1"],
                "log_loss": one["log_loss"],
                "ece": one["ece"],
                "to_baseline": (one["versus_baseline"] or {}).get("difference"),
                "p_value": (one["versus_baseline"] or {}).get("p_value"),
                "first_prediction_seconds": one["cost"]["total"],
                "each_more_seconds": one["cost"]["each"],
            }
            for one in wording.methods(self.to_dict())
        ]
        frame = pd.DataFrame(rows).set_index(["backbone", "method"])
        return frame.astype({name: float for name in frame.columns if name != "chosen"})

    @cached_property
    def verdict(self) -> wording.Verdict:
        """The findings in plain words."""
        return wording.verdict(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data that strict JSON can hold: a missing figure is None.

        The form is `templates/report.schema.json` (JSON Schema, draft 2020-12); `version` counts
        its changes.
        """
        return document.document(self)

    def save(self, directory: str | Path, *, images: bool = True) -> Path:
        """Write report.html, report.md and report.json into a folder and return the folder.

        The two pages are rendered from what report.json holds, so `featx report` can render them
        again. Each file is written aside, brought to the disk and moved over the old one, after
        all three have been made: an error leaves the old report as it was.

        Parameters
        ----------
        images : bool
            Whether it holds small copies of images: of mistakes, of copies across the split and
            of the map. Names and figures are in it either way.

        Raises
        ------
        FeatxError
            The folder cannot be made or written.
        """
        data = self.to_dict()
        data["command"] = command.saved_in(data["command"], Path(directory), images)
        data = data if images else document.without_images(data)
        texts = {**pages.both(data), "report.json": files.strict(data)}
        return files.publish(Path(directory), texts)

    def save_tensorboard(self, directory: str | Path) -> Path:
        """Write what `tensorboard --logdir DIRECTORY` shows, and return the folder.

        The baseline's training curves and the learning curves as scalars, and the tested images
        with their embeddings for the projector.

        Raises
        ------
        FeatxError
            Nothing to show (neither a baseline nor evidence), or the folder cannot be written.
        """
        shown = None if self.evidence is None else self.evidence.map
        vectors = None if shown is None else shown.embeddings
        return tensorboard.save(self.to_dict(), Path(directory), vectors)

    def table(self) -> Table:
        """Return the comparison as a table for the terminal."""
        return terminal.table(self.to_dict())
