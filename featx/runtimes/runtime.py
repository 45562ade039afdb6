"""What computes embeddings: one compiled function, one shape of batch."""

from __future__ import annotations

import os
import platform
from abc import ABC, abstractmethod
from functools import cache

import numpy as np

from featx.errors import OptionError, OutOfMemoryError
from featx.versions import installed

MAX_BATCH = 1 << 14

# All that touches an image between its bytes and its embedding.
_PACKAGES = ("featx", "pillow", "numpy", "keras", "tensorflow", "jax", "torch", "openvino")


class Runtime(ABC):
    """What computes embeddings; a subclass of your own may be passed as ``extract(runtime=...)``.

    Attributes
    ----------
    name : str
        Shown in reports and in the provenance of each shard.
    batch_size : int
        Images per call of ``run``, always the same.
    streams : int
        Calls of ``run`` that may be under way at the same time, each in a thread of its own.
    """

    name: str
    batch_size: int
    streams: int = 1

    @abstractmethod
    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the embeddings of one batch.

        Parameters
        ----------
        pixels : numpy.ndarray of shape (batch_size, side, side, 3) and dtype uint8
            RGB 0-255.

        Returns
        -------
        numpy.ndarray of shape (batch_size, dim) and dtype float32
        """

    def environment(self) -> dict[str, str]:
        """Return what, besides the spec, may change the last digits of an embedding."""
        return {"runtime": self.name, **versions()}


def check_batch_size(batch_size: int | None) -> None:
    """Raise OptionError unless the batch size is None or from 1 to 16,384."""
    if batch_size is None:
        return
    if not isinstance(batch_size, int | np.integer) or not 1 <= batch_size <= MAX_BATCH:
        raise OptionError(
            f"batch_size={batch_size!r}: expected a whole number from 1 to {MAX_BATCH:,}, or None."
        )


def out_of_memory(batch_size: int, error: Exception) -> OutOfMemoryError:
    """Return the error for a batch that found no memory, with the remedy."""
    return OutOfMemoryError(
        f"no memory for a batch of {batch_size} images ({error}). "
        "Pass a smaller batch_size (--batch-size).",
        batch_size,
    )


def versions() -> dict[str, str]:
    """Return the versions of all that touches an image between its bytes and its embedding."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    return found | installed(_PACKAGES)


def cpu_count() -> int:
    """Return the processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
