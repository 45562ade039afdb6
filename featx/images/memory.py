"""Memory for decoding, bounded over all threads of a process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from featx import machine

# What the images that are decoded at one time may take of the machine's memory; the network and
# its batches need the rest.
SHARE = 0.25
# Bytes a pixel: Pillow keeps 4, a progressive JPEG's coefficients take 6 beside them, and a
# conversion to RGB 4 once more.
PER_PIXEL = 12


class Memory:
    """An amount of memory that threads share: each waits until its part is there.

    A part that is larger than all of it is given to one thread alone.

    Parameters
    ----------
    size : int
        In bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free_all()
        if hasattr(os, "register_at_fork"):  # a process made by fork has none of these threads
            os.register_at_fork(after_in_child=self._free_all)

    def _free_all(self) -> None:
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def part(self, size: int) -> Iterator[None]:
        """Wait for a part of so many bytes, and hold it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + size <= self._size)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()


DECODING = Memory(int(SHARE * machine.memory()))
