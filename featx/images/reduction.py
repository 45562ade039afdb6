"""Which JPEGs their decoder makes smaller while it decodes, and the address of what they become.

A block of 8 x 8 pixels is decoded to 4 x 4, 2 x 2 or one pixel from its lowest frequencies: of a
photograph of 12 megapixels in a fifth of the time. The rule is a function of the file's bytes and
the network's side alone.

The key of a cache stays that of full decoding, so that an image which the rule leaves alone has the
address that it always had: key and sha256. A reduced one has another sha256 in the place of its
own, so that the embedding of one way of decoding is never served for the other.
"""

from __future__ import annotations

import hashlib
import struct
from itertools import islice

import numpy as np

from featx.images import formats
from featx.images.content_hash import Digest
from featx.images.preparation import Preparation

LEAST_PIXELS = 1_000_000
"""Smaller images are decoded in full: in 10 ms or less."""
SPARE = 2
"""A reduced image keeps so many times the side along each edge, for the resizing after it."""
# With whatever the rule changes, this must.
_REDUCED = b"featx reduced JPEG 1\n"
# A header that is longer than this is read as that of no JPEG.
_MAX_SEGMENTS = 256
_FRAME = struct.Struct(">BHHB")
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive; Huffman codes
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}

Edges = tuple[int, int]


def edges_of(content: bytes | np.ndarray) -> Edges:
    """Return width and height of a JPEG whose decoder can reduce it; (0, 0) of all else."""
    if isinstance(content, np.ndarray) or not content.startswith(b"\xff\xd8\xff"):
        return 0, 0
    try:
        for kind, at, _ in islice(formats.jpeg_segments(content), _MAX_SEGMENTS):
            if kind in _OTHER_FRAMES:
                break
            if kind in _FRAMES:
                bits, height, width, _ = _FRAME.unpack_from(content, at + 4)
                return (width, height) if bits == 8 else (0, 0)
    except struct.error:  # cut short
        pass
    return 0, 0


def divisor(edges: Edges, side: int, how: Preparation) -> int:
    """Return by how much a JPEG is reduced: 8, 4, 2, or 1 for one that is decoded in full."""
    width, height = edges
    if how.decode != "auto" or width * height < LEAST_PIXELS:
        return 1
    least = min(width, height) // (SPARE * side)
    return next((by for by in (8, 4, 2) if by <= least), 1)


def address(digest: Digest, edges: Edges, side: int, how: Preparation) -> Digest:
    """Return under what an embedding is cached: the content's sha256, or another if reduced."""
    return reduced(digest) if divisor(edges, side, how) > 1 else digest


def reduced(digest: Digest) -> Digest:
    """Return what stands for a content that is reduced while it is decoded."""
    return hashlib.sha256(_REDUCED + digest).digest()
