"""Rendering the pages of a saved report again, from its report.json alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featx.evaluation.report import files, pages, saved


def render(folder: Path, out: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """Write report.html and report.md from a saved report.json, which is only read.

    Parameters
    ----------
    folder : Path
        A folder with a report.json, or that file.
    out : Path, optional
        Gets the two pages; the folder of report.json unless given.

    Returns
    -------
    tuple of Path and dict
        The folder that was written, and the report's document.

    Raises
    ------
    FeatxError
        The report cannot be read, is of another version or was changed, or the folder cannot be
        written.
    """
    document = saved.read(folder)
    with saved.checked():
        texts = pages.both(document)
    home = folder if folder.is_dir() else folder.parent
    return files.publish(out or home, texts), document
