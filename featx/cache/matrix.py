"""A matrix of embeddings that stays in the cache, and is read by blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from featx.cache.store import Store
from featx.errors import CacheCorruptError


class CachedMatrix:
    """The embeddings of some images, read and verified when they are asked for.

    They are taken as NumPy's rows are: by a position, a slice, positions or a mask.
    ``numpy.asarray`` reads all of them.

    Parameters
    ----------
    store : Store
    sha256 : numpy.ndarray of shape (n, 32) and dtype uint8
        The images; repeats are allowed.
    dim : int
        The width of an embedding.

    Attributes
    ----------
    shape : tuple of int
        (n, dim).
    dtype : numpy.dtype
        float32.
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, store: Store, sha256: np.ndarray, dim: int) -> None:
        self._store = store
        self._sha256 = sha256
        self.shape = (len(sha256), dim)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """What all of it would take in memory, in bytes."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, tuple):
            first, *others = rows
            return self[first][(..., *others) if np.ndim(first) == 0 else (slice(None), *others)]
        wanted = self._sha256[rows]
        return self._read(wanted) if wanted.ndim == 2 else self._read(wanted[None])[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks():
            yield from block

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the embeddings are in the cache: an array of them is a copy.")
        found = self._read(self._sha256)
        return found if dtype is None else found.astype(dtype, copy=False)

    def __repr__(self) -> str:
        n, dim = self.shape
        return f"<{n:,} x {dim:,} float32 in {self._store.location()}, read by blocks>"

    def blocks(self, rows: int = 8192) -> Iterator[np.ndarray]:
        """Yield the matrix in blocks of so many rows, in order."""
        for start in range(0, len(self), rows):
            yield self[start : start + rows]

    def _read(self, sha256: np.ndarray) -> np.ndarray:
        X, missing = self._store.gather(sha256, self.shape[1])
        if missing.any():
            raise CacheCorruptError(
                f"{int(missing.sum()):,} embeddings in {self._store.location()} were damaged or "
                "removed since they were extracted: call extract again, which computes them anew."
            )
        return X
