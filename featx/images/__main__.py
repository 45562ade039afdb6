"""The process that decodes images within limits, started as `python -m featx.images`."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import ImageError, ImageMemoryError
from featx.images import decoding, worker

try:
    import resource
except ImportError:  # Windows: its parent's clock is the only limit
    resource = None  # type: ignore[assignment]


class _Limits:
    """Processor time and memory, by the size of the image."""

    def __init__(self) -> None:
        self._own = _address_space()
        self._pixels = 0
        self._caller = (0, 0) if resource is None else resource.getrlimit(resource.RLIMIT_AS)

    def begin(self) -> None:
        """Set what any image may take."""
        self._pixels = 0
        self._set_time(worker.SECONDS)
        self._set_memory(1)

    def know_size(self, pixels: int) -> None:
        """Add what an image of so many pixels may take."""
        added = max(0, pixels - self._pixels) / 1e6 * worker.SECONDS_A_MEGAPIXEL
        self._pixels = max(self._pixels, pixels)
        if hasattr(signal, "setitimer"):
            self._set_time(signal.getitimer(signal.ITIMER_PROF)[0] + added)
        self._set_memory(1)

    def doubt(self) -> None:
        """Set twice as much for another attempt, if it is to be had: memory may have been short."""
        self._set_time(worker.SECONDS + self._pixels / 1e6 * worker.SECONDS_A_MEGAPIXEL)
        self._set_memory(2)
        np.empty(self.memory, np.uint8)

    @property
    def memory(self) -> int:
        """Bytes beside what the process has of itself."""
        megabytes = worker.MEGABYTES + self._pixels / 1e6 * worker.MEGABYTES_A_MEGAPIXEL
        return int(megabytes * 1e6)

    def end(self) -> None:
        """Set no limit of time."""
        self._set_time(0)

    def are_worn(self, held: int) -> bool:
        """Return whether earlier images left so much behind that later ones would lack it.

        Parameters
        ----------
        held : int
            Bytes that the present image still has.
        """
        return _address_space() > self._own + held + _LEFT_BEHIND

    def _set_time(self, seconds: float) -> None:
        # Of the processor, so that a busy machine is not the image's fault; the signal, left as it
        # is, ends the process wherever it is.
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, seconds)

    def _set_memory(self, times: int) -> None:
        if resource is None or not self._own:
            return
        soft = self._own + times * self.memory
        if self._caller[0] != resource.RLIM_INFINITY:  # a limit of the caller's stays one
            soft = min(soft, self._caller[0])
        resource.setrlimit(resource.RLIMIT_AS, (soft, self._caller[1]))


# An allocator keeps some of what it was given back.
_LEFT_BEHIND = 100 << 20


def _address_space() -> int:
    """Return the bytes of address space that this process has; 0 where limits of it do nothing."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _answer(request: dict[str, Any], content: bytes, limits: _Limits) -> tuple[dict[str, Any], Any]:
    limits.begin()
    try:
        wanted = decoding.Wanted(**request)
        found = decoding.decode_here(
            content, wanted, know_size=limits.know_size, doubt=limits.doubt
        )
        pixels = np.ascontiguousarray(np.asarray(found.upright))
        return {"shape": pixels.shape, "remarks": found.remarks}, pixels.data.cast("B")
    except (MemoryError, ImageMemoryError):
        error: ImageError = ImageMemoryError(
            f"not enough memory to decode it now, or more than the {limits.memory / 1e6:,.0f} MB "
            "that an image of its size may take; run again where there is more, or save it as PNG "
            "or JPEG"
        )
    except ImageError as found_error:
        error = found_error
    finally:
        limits.end()
    return {"error": error.code, "reason": str(error)}, b""


def main() -> None:
    """Answer one request after the other until there are no more."""
    questions = os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is not an answer
    warnings.simplefilter("ignore")
    decoding.load_decoders()
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limits = _Limits()
    while True:
        try:
            request, content = worker.read(questions)
        except EOFError:
            return
        answer, pixels = _answer(request, bytes(content), limits)
        last = limits.are_worn(2 * len(content) + len(pixels))
        worker.write(answers, {**answer, "last": last}, pixels)


if __name__ == "__main__":
    main()
