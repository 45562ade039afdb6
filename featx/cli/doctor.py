"""`featx doctor`: whether this machine and a disk or an object store can hold a cache."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from featx.cli.options import AsJson
from featx.cli.terminal import print_json, print_line


def doctor(
    cache: Annotated[
        str | None,
        typer.Argument(
            help="The cache: a folder or s3://bucket/prefix; by default the one that would be used."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine and a folder's file system or an object store; takes a few seconds.

    Exit code 1: featx cannot work here as it is.
    """
    from featx.cache.location import chosen
    from featx.maintenance.doctor import examine, verdict

    place = chosen(cache)
    findings = []
    for finding in examine(place):
        findings.append(finding)
        if as_json:
            continue
        mark = {"good": "ok", "fair": "note", "poor": "FAIL"}[finding.state]
        print_line(f"{mark:<4}  {finding.name}: {finding.text}")
    fit, sentence = verdict(findings)
    if as_json:
        checks = [dataclasses.asdict(finding) for finding in findings]
        print_json({"folder": str(place), "fit": fit, "verdict": sentence, "checks": checks})
    else:
        print_line(f"{place}: {sentence}.")
    if not fit:
        raise typer.Exit(1)
