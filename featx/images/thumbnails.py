"""Small JPEG copies of images, to be shown to a person."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

SIDE = 96
"""Pixels of the longer edge of a small copy: enough to recognise a flower in, 2 to 4 kB."""


def thumbnail(pixels: np.ndarray, side: int = SIDE) -> bytes:
    """Return the image as a JPEG with at most `side` pixels along its longer edge."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    return encoded(image)


def encoded(image: Image.Image, quality: int = 80) -> bytes:
    """Return an image as a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()
