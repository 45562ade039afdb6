"""Which images a model was trained on, by the first 8 bytes of their digests.

8 bytes an image: of a million images and a million others two agree by chance with a probability of
one in 18 million. Whoever has a model file and an image can tell by them whether the image was in
the training, and nothing else of it, so a model without examples has none of them either.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from featx.errors import ModelFormatError

MEMBER = "training/digests.npy"


def compact(digests: np.ndarray | None) -> np.ndarray:
    """Return digests as a model keeps them, sorted and distinct; none where they are not known.

    Parameters
    ----------
    digests : ndarray of shape (n, 32) and dtype uint8, or None
        As in `Features.digests`.

    Returns
    -------
    ndarray of shape (m,) and dtype uint64
    """
    return np.unique(_short(digests)) if digests is not None else np.empty(0, np.uint64)


def among(digests: np.ndarray | None, trained_on: np.ndarray) -> np.ndarray | None:
    """Return which images the model was trained on, (n,) bool; None where that is not known."""
    if digests is None or not len(trained_on):
        return None
    return np.isin(_short(digests), trained_on)


def of_members(arrays: Mapping[str, np.ndarray], images: int) -> np.ndarray:
    """Return the digests of a model file; none where it was written without.

    Raises
    ------
    ModelFormatError
        They are not what `compact` returns for so many images.
    """
    found = arrays.get(MEMBER)
    if found is None:
        return np.empty(0, np.uint64)
    fits = found.dtype == np.uint64 and found.ndim == 1 and len(found) <= images
    if not fits or not bool((found[:-1] < found[1:]).all()):
        raise ModelFormatError("the digests of its training images are damaged.")
    return found


def _short(digests: np.ndarray) -> np.ndarray:
    first = np.ascontiguousarray(digests[:, :8]).view("<u8")
    return first.reshape(-1).astype(np.uint64)
