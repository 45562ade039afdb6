"""What a run shows: a line a way of doing it, with its interval, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from benchmarks.published.system import Parts


@dataclass(frozen=True)
class Line:
    """One way of doing it, on the same test images."""

    way: str
    accuracy: float
    low: float
    high: float
    seconds: float
    epochs: int | None
    claimed: float | None = None
    claimed_how: str = ""


@dataclass(frozen=True)
class Against:
    """Two ways on the same images: McNemar's test in its exact binomial form (1947)."""

    one: str
    other: str
    difference: float
    only_one: int
    only_other: int
    p_value: float

    @property
    def p(self) -> str:
        """The p-value with its sign of relation, three digits."""
        return "< 0.001" if self.p_value < 0.001 else f"= {self.p_value:.3f}"

    def __str__(self) -> str:
        """Return the test in words."""
        return (
            f"{self.one} against {self.other}: {100 * self.difference:+.1f} points "
            f"({self.only_one} images only the first got right, {self.only_other} only the "
            f"second; p {self.p})"
        )


def against(one: str, right: np.ndarray, other: str, theirs: np.ndarray) -> Against:
    """Compare two ways image by image; `right` and `theirs` are of the same images."""
    only_one, only_other = int((right & ~theirs).sum()), int((theirs & ~right).sum())
    differ = only_one + only_other
    p_value = float(binomtest(only_one, differ).pvalue) if differ else 1.0
    apart = float(right.mean() - theirs.mean())
    return Against(one, other, apart, only_one, only_other, p_value)


def interval(right: np.ndarray) -> tuple[float, float]:
    """Return the exact 95 % interval of a share (Clopper & Pearson 1934)."""
    found = binomtest(int(right.sum()), len(right)).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def shown(lines: Sequence[Line]) -> str:
    """Return the lines of one system as a Markdown table."""
    return table(
        ("way", "test accuracy", "95 %", "seconds", "epochs", "as it scored itself"),
        [
            (
                line.way,
                f"{line.accuracy:.3f}",
                f"{line.low:.3f} to {line.high:.3f}",
                f"{line.seconds:.1f}",
                line.epochs or "",
                "" if line.claimed is None else f"{line.claimed:.3f} ({line.claimed_how})",
            )
            for line in lines
        ],
    )


def sizes(parts: Parts) -> str:
    """Return in words how many images there are of what."""
    watch = "" if parts.validation is None else f"{len(parts.validation)} to watch the training, "
    return (
        f"{len(parts.train)} images to train on, {watch}{len(parts.test)} to test; "
        f"{len(parts.train.classes)} classes."
    )
