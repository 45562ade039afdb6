"""The sha256 that stands for an image: of its encoded bytes, or of its pixels and their shape."""

from __future__ import annotations

import hashlib

import numpy as np

Digest = bytes


def of_content(content: bytes | np.ndarray) -> Digest:
    """Return the sha256 of an encoded image, or of pixels together with their shape."""
    if isinstance(content, np.ndarray):
        digest = hashlib.sha256(f"featx pixels {content.shape} {content.dtype.str}\n".encode())
        digest.update(np.ascontiguousarray(content).data)
        return digest.digest()
    return hashlib.sha256(content).digest()
