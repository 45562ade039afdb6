"""`featx doctor`: whether a disk keeps what the cache needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featx.cli.terminal import say


def doctor(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Where rows shall be kept; the default cache if not given."),
    ] = None,
) -> None:
    """Look at this machine and a folder's file system, and give a verdict; takes some seconds.

    Exit code 1: featx cannot work here as it is.
    """
    from featx.cache.location import chosen
    from featx.maintenance import doctor as examination

    place = folder.expanduser().absolute() if folder is not None else chosen()
    findings = []
    for finding in examination.examine(place):
        findings.append(finding)
        mark = {"good": "ok", "fair": "note", "poor": "FAIL"}[finding.state]
        say(f"{mark:<4}  {finding.name}: {finding.text}")
    fit, sentence = examination.verdict(findings)
    say(f"{place}: {sentence}.")
    if not fit:
        raise typer.Exit(1)
