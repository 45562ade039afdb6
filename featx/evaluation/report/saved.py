"""Reading a saved report back: its document, or a refusal that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from featx.errors import FeatxError
from featx.evaluation.report.document import SCHEMA, VERSION
from featx.storage import strict_json

NAME = "report.json"


def is_incomplete(folder: Path) -> bool:
    """Return whether a folder holds the report of a run that did not finish all it was asked for.

    What cannot be read as a report is not: it is not ours to replace.
    """
    try:
        return read(folder).get("incomplete") is not None
    except FeatxError:
        return False


def read(folder: Path) -> dict[str, Any]:
    """Return the document of a saved report.

    Parameters
    ----------
    folder : Path
        A folder with a report.json, or that file.

    Raises
    ------
    FeatxError
        No report.json, or one that is damaged, not a report, or of another version.
    """
    path = folder / NAME if folder.is_dir() else folder
    try:
        data = strict_json.loads(path.read_bytes())
    except OSError as error:
        raise FeatxError(
            f"{str(path)!r} cannot be read: {error.strerror or error}. Give a folder that "
            "`featx benchmark --out` wrote."
        ) from error
    except (ValueError, RecursionError) as error:
        raise FeatxError(
            f"{str(path)!r} is not JSON ({error}): run the benchmark again."
        ) from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise FeatxError(f"{str(path)!r} is not a report of featx; expected its report.json.")
    version = data.get("version")
    if version != VERSION:
        remedy = (
            "use the version of featx that wrote it, or update featx"
            if isinstance(version, int) and version > VERSION
            else "run the benchmark again (its command is in the file, under 'command'); what is "
            "cached is not computed again"
        )
        raise FeatxError(
            f"{str(path)!r} is a report of version {version!r}, and this featx reads version "
            f"{VERSION}: {remedy}."
        )
    return data


@contextmanager
def checked() -> Iterator[None]:
    """Turn what a report.json that somebody changed leads to into one error that says so."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, TemplateError) as error:
        raise FeatxError(
            f"a report.json is not as `featx benchmark` writes it ({type(error).__name__}: "
            f"{error}): run the benchmark again."
        ) from error
