"""`featx doctor`: whether this machine and a disk can hold a cache."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from featx.cli.options import AsJson
from featx.cli.terminal import print_json, print_line


def doctor(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder of the cache; by default the one that would be used."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine and a folder's file system; takes a few seconds.

    Exit code 1: featx cannot work here as it is.
    """
    from featx.cache.location import chosen
    from featx.maintenance.doctor import examine, verdict

    root = folder.expanduser().absolute() if folder is not None else chosen()
    findings = []
    for finding in examine(root):
        findings.append(finding)
        if as_json:
            continue
        mark = {"good": "ok", "fair": "note", "poor": "FAIL"}[finding.state]
        print_line(f"{mark:<4}  {finding.name}: {finding.text}")
    fit, sentence = verdict(findings)
    if as_json:
        checks = [dataclasses.asdict(finding) for finding in findings]
        print_json({"folder": str(root), "fit": fit, "verdict": sentence, "checks": checks})
    else:
        print_line(f"{root}: {sentence}.")
    if not fit:
        raise typer.Exit(1)
