"""Several saved reports joined into one comparison: a page, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import FeatxError
from featx.evaluation.report import (
    charts,
    document,
    evidence_view,
    files,
    pages,
    saved,
    wording,
)
from featx.evaluation.scores import intervals
from featx.evaluation.scores.intervals import PairedTest

VERSION = 2
# Of a run, what the joined JSON leaves out: it is in the run's own report.json.
_LEFT_OUT = {"trainings", "histories", "tested", "predictions", "evidence", "leaks"}
_EVIDENCE_KEPT = ("learning", "temperatures", "parity")
_LEAKS_LEFT_OUT = {"thumbnails", "matched", "groups"}


@dataclass(frozen=True, eq=False)
class Run:
    """One saved report.

    Attributes
    ----------
    name : str
        The images, and what sets it apart from other runs on them.
    folder : str
        Where it was read, as it was given.
    data : dict
        Its document.
    """

    name: str
    folder: str
    data: dict[str, Any]

    @property
    def subject(self) -> Any:
        """The method of its verdict."""
        return wording.subject(self.data)

    @property
    def cautions(self) -> tuple[str, ...]:
        """What to know before its figures are believed."""
        return wording.verdict(self.data).cautions

    @property
    def rival(self) -> Any:
        """The baseline on the same backbone, or None."""
        return wording.rival(self.data)

    @property
    def temperature(self) -> Any:
        """Of its verdict's method, or None."""
        return self._own("temperatures")

    @property
    def proof(self) -> Any:
        """The parity of its verdict's method, or None."""
        return self._own("parity")

    def _own(self, part: str) -> Any:
        key = (self.subject["backbone"], self.subject["method"])
        found = (self.data["evidence"] or {}).get(part, ())
        return next((one for one in found if (one["backbone"], one["method"]) == key), None)

    @property
    def right(self) -> np.ndarray:
        """Whether the verdict's method was right on each tested image, first seed."""
        answers = evidence_view.answers(self.data, self.subject)
        return np.asarray(answers["y_pred"]) == np.asarray(self.data["tested"]["y_true"])


@dataclass(frozen=True)
class Match:
    """Two runs that were tested on the same images."""

    first: str
    second: str
    test: PairedTest


@dataclass(frozen=True, eq=False)
class Joined:
    """Several runs, in the order they were given."""

    runs: tuple[Run, ...]

    @cached_property
    def matches(self) -> list[Match]:
        """The verdicts of runs on the same images, compared image by image."""
        return [
            Match(one.name, two.name, intervals.compare(one.right, two.right))
            for one, two in combinations(self.runs, 2)
            if _tested(one) is not None and _tested(one) == _tested(two)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data that strict JSON can hold."""
        whole = {
            "schema": "featx-comparison",
            "version": VERSION,
            "runs": [
                {"name": run.name, "folder": run.folder, **_short(run.data)} for run in self.runs
            ],
            "matches": self.matches,
        }
        return document.plain(whole)

    def save(self, directory: str | Path) -> Path:
        """Write comparison.html, comparison.md and comparison.json, and return the folder.

        Raises
        ------
        FeatxError
            The folder cannot be written.
        """
        with saved.checked():
            values = _view(self)
            texts = {
                "comparison.html": pages.page("comparison.html.j2", values),
                "comparison.md": pages.text("comparison.md.j2", values),
                "comparison.json": files.strict(self.to_dict()),
            }
        return files.publish(Path(directory), texts)


def join(folders: Sequence[str | Path]) -> Joined:
    """Return saved reports as one comparison.

    Parameters
    ----------
    folders : sequence of str or Path
        Folders that hold a report.json, or such files.

    Raises
    ------
    FeatxError
        No folder; no report.json, or one that is damaged, not a report, or of another version.
    """
    if not folders:
        raise FeatxError("nothing to join: give the folders of saved reports.")
    read = [(Path(folder), saved.read(Path(folder))) for folder in folders]
    with saved.checked():
        names = _apart([_name(data) for _, data in read], [folder for folder, _ in read])
    return Joined(
        tuple(
            Run(name, folder.as_posix(), data)
            for (folder, data), name in zip(read, names, strict=True)
        )
    )


def _apart(names: list[str], folders: list[Path]) -> list[str]:
    """Return names of which no two are the same: each with as much of its folder as that takes."""
    deepest = max(len(folder.parts) for folder in folders)
    for parts in range(deepest + 1):
        tails = ["/".join(folder.parts[len(folder.parts) - parts :]) for folder in folders]
        found = [
            f"{name} ({tail})" if names.count(name) > 1 and tail else name
            for name, tail in zip(names, tails, strict=True)
        ]
        if len(set(found)) == len(found):
            return found
    # One folder twice, perhaps.
    return [f"{name}, {number}" for number, name in enumerate(found, start=1)]


def _name(data: dict[str, Any]) -> str:
    parts = [data["images"]["train"], data["images"]["test"]]
    return " → ".join("/".join(part.split("/")[-2:]) for part in parts if part is not None)


def _tested(run: Run) -> tuple[str, list[str]] | None:
    """Return what the tested images hold, and their labels by name; None where it is unknown.

    These make two runs comparable. The names of the files do not: other images may have the
    same ones.
    """
    classes, tested = run.data["images"]["classes"], run.data["tested"]
    if tested["content"] is None:
        return None
    return tested["content"], [classes[number] for number in tested["y_true"]]


def _short(data: dict[str, Any]) -> dict[str, Any]:
    """Return of a run what the joined JSON holds: nothing that counts single images."""
    evidence, leaks = data["evidence"], data["leaks"]
    return {
        **{key: value for key, value in data.items() if key not in _LEFT_OUT},
        "evidence": None if evidence is None else {key: evidence[key] for key in _EVIDENCE_KEPT},
        "leaks": None
        if leaks is None
        else {key: value for key, value in leaks.items() if key not in _LEAKS_LEFT_OUT},
    }


def _view(joined: Joined) -> dict[str, Any]:
    subjects = [run.subject for run in joined.runs]
    keys = list(
        dict.fromkeys(
            (m["backbone"], m["method"]) for run in joined.runs for m in run.data["methods"]
        )
    )
    return {
        "runs": [
            {
                "run": run,
                "data": run.data,
                "verdict": wording.verdict(run.data),
                "leaks": wording.leaks(run.data),
                "evidence": evidence_view.evidence(run.data),
            }
            for run in joined.runs
        ],
        "matches": joined.matches,
        "grid": [_grid_row(joined, key) for key in keys],
        "several": len({backbone for backbone, _ in keys}) > 1,
        "forest": charts.forest([(m["interval"]["low"], m["interval"]["high"]) for m in subjects]),
        "WIDTH": charts.WIDTH,
        "HEIGHT": charts.HEIGHT,
        "edges": (charts.LEFT, charts.RIGHT, charts.TOP, charts.BOTTOM),
    }


def _grid_row(joined: Joined, key: tuple[str, str]) -> dict[str, Any]:
    """Return one method's accuracy in every run, and whether it is the best there."""
    cells = []
    for run in joined.runs:
        methods = run.data["methods"]
        one = next((m for m in methods if (m["backbone"], m["method"]) == key), None)
        best = one is not None and one["accuracy"] == max(m["accuracy"] for m in methods)
        cells.append({"one": one, "best": best})
    return {"backbone": key[0], "method": key[1], "cells": cells}
