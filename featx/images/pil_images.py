"""A caller's PIL image: the file behind it while it is not loaded; it is left as it is."""

from __future__ import annotations

import io
import os
import threading
from typing import Any

from PIL import Image, ImageFile
from PIL._util import DeferredError

from featx.errors import ImageReadError

_LOCK = threading.Lock()


def is_loaded(image: Image.Image) -> bool:
    """Return whether pixels of the image, perhaps of another frame, are in memory."""
    # A closed one has an object there that raises whatever is asked of it.
    return not isinstance(image, ImageFile.ImageFile) or not (
        image._im is None or isinstance(image._im, DeferredError)
    )


def name_of(image: Image.Image) -> str:
    """Return the name of the file behind an image, for its suffix; empty where it has none."""
    name = getattr(image, "filename", "")
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""


def file_of(image: Any, max_bytes: int) -> bytes | None:
    """Return the bytes of the file behind an image that is not loaded; None if it was closed.

    A closed one has a name by which it can be read. Neither the image nor the position in its file
    changes.

    Parameters
    ----------
    image : PIL.ImageFile.ImageFile
    max_bytes : int
        No more than one byte over it is read.

    Raises
    ------
    ImageReadError
        The file cannot be read, or was closed and has no name.
    """
    file = image.fp
    try:
        if isinstance(file, io.BytesIO) and not file.closed:
            return file.getvalue()
        if file is not None and not getattr(file, "closed", False):
            with _LOCK:
                before = file.tell()
                try:
                    file.seek(0)
                    content: bytes = file.read(max_bytes + 1)
                finally:
                    file.seek(before)
                return content
    except (OSError, ValueError, AttributeError) as error:
        raise ImageReadError(f"the file behind the PIL image cannot be read: {error}") from error
    if name_of(image):
        return None
    raise ImageReadError(
        "a PIL image whose file was closed before its pixels were read; call its load() before "
        "the file is closed"
    )


def load(image: Image.Image) -> None:
    """Have the pixels of the frame at which an image stands in memory; most often they are."""
    with _LOCK:
        image.load()
