"""Reports as one HTML page that asks for nothing, and as Markdown for a pull request."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from featx import formatting
from featx.evaluation.report import wording
from featx.evaluation.report.view import view

_UNIT = re.compile(
    r"(?<=\d) (?=(?:%|s|min|h|points|×)(?!\w))|(?<=≈) |(?<=\bp) (?=[<=])|(?<=[<=]) (?=\d)"
)
_BACKTICKS = re.compile("`+")


def both(document: Mapping[str, Any]) -> dict[str, str]:
    """Return report.html and report.md, by name, of a report's document.

    The page has one script of featx's own and no external address; every name is escaped. The
    Markdown is GitHub's, short enough for a pull request.
    """
    values = view(document)
    return {
        "report.html": page("report.html.j2", values),
        "report.md": text("report.md.j2", values),
    }


def evaluation_fragment(document: Mapping[str, Any]) -> str:
    """Return what a notebook shows of an evaluation: headline, cautions, the classes."""
    return _environment(True).get_template("evaluation_notebook.html.j2").render(one=document)


def page(template: str, values: dict[str, Any]) -> str:
    """Return an HTML template of this package, filled in."""
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    # The policy names the script by its hash, so that no other one runs, whatever a name may hold.
    own = {"script": Markup(script), "script_hash": Markup(digest)}
    return _environment(True).get_template(template).render(**values, **own)


def text(template: str, values: dict[str, Any]) -> str:
    """Return a Markdown template of this package, filled in."""
    return _environment(False).get_template(template).render(**values)


def fragment(document: Mapping[str, Any]) -> str:
    """Return what a notebook shows of a report: headline, cautions, a compact table."""
    found = wording.methods(document)
    values = {
        "found": found,
        "verdict": wording.verdict(document),
        "rival": any(one["versus_baseline"] for one in found),
        "several": len({one["backbone"] for one in found}) > 1,
    }
    return _environment(True).get_template("notebook.html.j2").render(**values)


@cache
def _script() -> str:
    return (
        resources.files("featx.evaluation.report")
        .joinpath("templates/report.js")
        .read_text("utf-8")
    )


@cache
def _environment(page: bool) -> Environment:
    """Return jinja2 set up so that no text of a template's values reaches the output raw.

    `finalize` sees every value that is printed, so one forgotten filter cannot let a name through;
    jinja2's own escaping then runs on what it returns.
    """
    environment = Environment(
        loader=PackageLoader("featx.evaluation.report", "templates"),
        autoescape=page,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable if page else _markdown,
    )
    environment.filters.update(
        label=formatting.label,
        percent=formatting.percent,
        points=formatting.points,
        number=formatting.number,
        seconds=formatting.seconds,
        pace=formatting.pace,
        epochs=formatting.epochs,
        times=formatting.times,
        faster=wording.faster,
        p_value=formatting.p_value,
        fenced=_fenced,
        capitalize_first=formatting.capitalized,
    )
    return environment


def _printable(value: Any) -> Any:
    """Return text fit for the page, with no line break between a figure and its unit."""
    if type(value) is not str:
        return value
    return _UNIT.sub("\N{NO-BREAK SPACE}", formatting.printable(value))


def _markdown(value: Any) -> Any:
    return formatting.markdown(value) if type(value) is str else value


def _fenced(text: Sequence[str]) -> Markup:
    """Return lines as a Markdown code block that nothing inside it can close."""
    plain = "\n".join(formatting.printable(line) for line in text)
    longest = max((len(run) for run in _BACKTICKS.findall(plain)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}text\n{plain}\n{fence}")
