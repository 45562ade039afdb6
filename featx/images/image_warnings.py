"""Remarks on images that were used all the same: how many of each kind, with one example."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.formatting import printable
from featx.images.formats import FORMAT_OF_SUFFIX

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

TINY = 16
SLENDER = 16
TWELVE_BITS = 4095
"""The largest value of a camera or scanner of 12 bits."""

_WHAT = {
    "tiny": f"smaller than {TINY} pixels along an edge, enlarged",
    "slender": f"over {SLENDER} times as long as wide (distorted by resizing to a square)",
    "transparent": "with transparent parts: the transparency was dropped, and colours hidden "
    "under it show",
    "invisible": "wholly transparent: the colours hidden under it were used",
    "cmyk": "in CMYK colours, converted without their colour profile",
    "frames": "animated or with several pages: the first was used",
    "twelve_bits": f"of 16 bits whose values are all below {TWELVE_BITS + 1:,}, as of a 12-bit "
    "camera: nearly black; multiply the values by 16",
    "misnamed": "of another format than their names say: the content decided",
}


def of_image(image: Image, name: str, format: str | None = None) -> list[str]:
    """Return the kinds of remarks on a decoded image, as it was before it became RGB.

    Parameters
    ----------
    image : PIL.Image.Image
        Loaded, its mode that of the file.
    name : str
        The file's name, for its suffix.
    format : str, optional
        That of the file; by default the one that the image names.
    """
    format = format or image.format
    short, long = sorted(image.size)
    kinds = []
    if short < TINY:
        kinds.append("tiny")
    if long > SLENDER * short:
        kinds.append("slender")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        low, high = image.getchannel(image.getbands()[-1]).getextrema()
        if low != 255:
            kinds.append("transparent" if high else "invisible")
    elif "transparency" in image.info:
        kinds.append("transparent")
    if image.mode == "CMYK":
        kinds.append("cmyk")
    if _has_more(image):
        kinds.append("frames")
    if _has_16_bits(image, format) and 0 < np.asarray(image).max() <= TWELVE_BITS:
        kinds.append("twelve_bits")
    expected = FORMAT_OF_SUFFIX.get(os.path.splitext(name)[1].lower())
    # An MPO is a JPEG with more images behind it, as phones write them.
    if expected is not None and format not in (expected, "MPO"):
        kinds.append("misnamed")
    return kinds


def _has_16_bits(image: Image, format: str | None) -> bool:
    """Return whether an image is grey with 16 bits, which Pillow opens as 32 in a PNM file."""
    return image.mode.startswith("I;16") or (image.mode == "I" and format == "PPM")


def _has_more(image: Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a second frame that is damaged says nothing about the first
        return False


class Remarks:
    """The remarks of one run: how many images of each kind, and the first one's id."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, id: str, kinds: Iterable[str]) -> None:
        """Count an image under each of the kinds."""
        for kind in kinds:
            self._counts[kind] += 1
            self._first.setdefault(kind, id)

    def update(self, other: Remarks) -> None:
        """Add the remarks of a later run."""
        self._counts.update(other._counts)
        self._first = {**other._first, **self._first}

    def sentences(self) -> list[str]:
        """Return one sentence per kind."""
        return [
            f"{_images(self._counts[kind], 'newly read ')} {what} "
            f"(such as {printable(self._first[kind])})."
            for kind, what in _WHAT.items()
            if self._counts[kind]
        ]

    def log(self, digests: np.ndarray, labels: Sequence[Any], ids: Sequence[str]) -> list[str]:
        """Log all sentences, with one on labels that contradict each other; return them."""
        sentences = self.sentences() + label_conflicts(digests, labels, ids)
        for sentence in sentences:
            logger.warning("%s", sentence)
        return sentences


def label_conflicts(digests: np.ndarray, labels: Sequence[Any], ids: Sequence[str]) -> list[str]:
    """Return a sentence if images of the same content have different labels, else none.

    Parameters
    ----------
    digests : numpy.ndarray of shape (n, 32) and dtype uint8
        The content digests; 64 bits of them are compared.
    labels : sequence
    ids : sequence of str
        One each per image.
    """
    if not len(digests) or any(label is None for label in labels):
        return []
    prefixes = np.ascontiguousarray(digests[:, :8]).view(np.uint64).ravel()
    order = np.argsort(prefixes, kind="stable")
    # Runs of equal content are neighbours now; only those with two labels matter.
    same = prefixes[order][1:] == prefixes[order][:-1]
    pairs = [
        (int(order[i]), int(order[i + 1]))
        for i in np.flatnonzero(same)
        if labels[order[i]] != labels[order[i + 1]]
    ]
    if not pairs:
        return []
    a, b = pairs[0]
    return [
        f"{_images(len(pairs))} of the same content as another and with a different label "
        f"(such as {printable(ids[a])} and {printable(ids[b])}); correct the label, or remove both."
    ]


def _images(count: int, which: str = "") -> str:
    return f"{count:,} {which}image{'' if count == 1 else 's'}"
