"""Small JPEG copies of images, to be shown to a person."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

SIDE = 96
"""Pixels of the longer edge of a small copy: enough to recognise a flower in, 2 to 4 kB."""


def small(pixels: np.ndarray, side: int = SIDE) -> bytes:
    """Return the picture as a JPEG with `side` pixels along its longer edge."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def encoded(picture: Image.Image, quality: int) -> bytes:
    """Return a picture as a JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()
