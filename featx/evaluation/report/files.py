"""Writing the files of a report: all of them or none, and strict JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from featx.errors import FeatxError
from featx.storage import atomic


def strict(data: dict[str, Any]) -> str:
    """Return JSON without NaN or infinities, which the standard does not know."""
    return json.dumps(data, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def publish(folder: Path, texts: dict[str, str]) -> Path:
    """Write files (name -> text) into a folder, which is made, and return it.

    Each is written aside, brought to the disk and moved over the old one, after all have been
    made: an error leaves the old ones as they were.

    Raises
    ------
    FeatxError
        The folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A lone surrogate (a file name that is not UTF-8) becomes \udcff, which is also JSON's own
        # escape for it.
        atomic.replace_all(
            {
                folder / name: text.encode("utf-8", "backslashreplace")
                for name, text in texts.items()
            }
        )
    except OSError as error:
        raise FeatxError(
            f"the report cannot be written to {str(folder)!r}: {error.strerror or error}. Give "
            "a folder that can be written; a report that was there before is unchanged."
        ) from error
    return folder
