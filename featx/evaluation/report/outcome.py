"""What a comparison found: results, scores and findings, before anything is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from featx.evaluation.evidence.evidence import Evidence
from featx.evaluation.leaks.leakage import Leaks
from featx.evaluation.report.findings import Findings, findings
from featx.evaluation.results import (
    Environment,
    ExtractionCost,
    Grouping,
    History,
    Images,
    Incomplete,
    MethodFailure,
    Predictions,
    Result,
    Selection,
)
from featx.evaluation.scores.summary import Summary


@dataclass
class Outcome:
    """The results of a comparison and their summaries; findings are computed from them alone.

    Attributes
    ----------
    results : list of Result
        One per training: backbone, method, seed and fold.
    predictions : list of Predictions
        One per backbone, method and seed: the answer for each image.
    summaries : list of Summary
        One per method, the best accuracy first.
    extractions : list of ExtractionCost
        One per backbone.
    warnings : list of str
        Warnings of methods while training, such as a solver that did not converge.
    baseline : str
        The baseline in words; empty without one.
    leaks : Leaks or None
        Copies, small classes and shortcuts; None where they were not sought.
    evidence : Evidence or None
        What stands behind the figures: learning curves, parity and the like.
    groups : Grouping or None
        The groups of the images, with what folds by image and folds by group say; None without.
    incomplete : Incomplete or None
        What is missing; None where nothing is.
    taken : int
        Methods and choices that were taken from an earlier run that was stopped.
    """

    images: Images
    results: list[Result]
    predictions: list[Predictions]
    summaries: list[Summary]
    extractions: list[ExtractionCost]
    environment: Environment
    selection: Selection
    histories: list[History] = field(default_factory=list)
    method_failures: list[MethodFailure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    baseline: str = ""
    leaks: Leaks | None = None
    evidence: Evidence | None = None
    groups: Grouping | None = None
    incomplete: Incomplete | None = None
    taken: int = 0

    @cached_property
    def findings(self) -> Findings:
        """What the results mean, as types."""
        return findings(
            self.summaries,
            self.extractions,
            self.selection,
            self.images,
            self.leaks,
            self.evidence,
            self.groups,
            self.histories,
            self.incomplete,
        )
