"""Processes that decode what could hold a decoder up: unlike a thread, they can be stopped.

Each is started as `python -m featx.images` (``__main__``) when an image needs one and none is idle,
and is kept for the next. A request is the image's bytes and how it shall be decoded; the answer is
its pixels, or the code of an ImageError and its sentence. Both are plain bytes, led by their
lengths and a header in JSON, so that nothing is unpickled.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from io import RawIOBase
from pathlib import Path
from typing import Any, cast

from featx import forking
from featx.errors import ImageError, ImageLimitError, ImageReadError

SECONDS = 2.0
"""Seconds of a processor that decoding an image may take, and ..."""
SECONDS_A_MEGAPIXEL = 0.6
"""... as many more by its size: JPEG 2000 without loss, the slowest, takes up to 0.5 s each."""
MEGABYTES = 600
"""Memory that decoding an image may take, in MB, and ..."""
MEGABYTES_A_MEGAPIXEL = 24
"""... as much more by its size: a WebP with alpha takes five copies of four bytes a pixel."""
CLOCK_SECONDS = 120.0
"""An image that is not decoded by then, by the clock, is given up: its process may be suspended.

On a busy machine the limit above takes many times as long by the clock."""

Answer = tuple[dict[str, Any], bytearray]

_LENGTHS = struct.Struct(">II")


def write(stream: RawIOBase, header: Mapping[str, Any], body: Any = b"") -> None:
    """Write a header and the bytes that follow it.

    Parameters
    ----------
    stream : io.RawIOBase
        Without a buffer, and so without a lock that a forked process could find held.
    header : mapping
        Of what JSON knows.
    body : bytes-like
        Contiguous.
    """
    text = json.dumps(header).encode()
    view = memoryview(body).cast("B")
    for part in (memoryview(_LENGTHS.pack(len(text), len(view)) + text), view):
        while len(part):
            part = part[stream.write(part) :]


def read(stream: RawIOBase) -> Answer:
    """Return a header and the bytes that follow it.

    Raises
    ------
    EOFError
        The other process is gone.
    """
    text, body = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    return json.loads(_exactly(stream, text)), _exactly(stream, body)


def _exactly(stream: RawIOBase, size: int) -> bytearray:
    found = bytearray(size)
    view = memoryview(found)
    while len(view):
        count = stream.readinto(view)
        if not count:
            raise EOFError
        view = view[count:]
    return found


class _Worker:
    """One process, and what it was stopped for."""

    def __init__(self) -> None:
        self.late = False
        self.process = subprocess.Popen(
            # -P: the working folder, which may hold a stranger's files, is not searched for modules
            [sys.executable, "-P", "-m", "featx.images"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=_environment(),
            # Ctrl-C in a terminal is for its parent, which closes it.
            process_group=0 if os.name == "posix" else None,
        )

    def answer(
        self, request: Mapping[str, Any], content: bytes, clock_seconds: float
    ) -> tuple[dict[str, Any], bytearray]:
        """Return what the process answers within seconds by the clock.

        Raises
        ------
        ImageError
            It came to its end.
        """
        watch = threading.Timer(clock_seconds, self._stop_late)
        watch.daemon = True
        watch.start()
        try:
            write(cast(RawIOBase, self.process.stdin), request, content)
            return read(cast(RawIOBase, self.process.stdout))
        except (EOFError, OSError, ValueError) as error:
            raise self._end(clock_seconds) from error
        finally:
            watch.cancel()
            watch.join()

    def _stop_late(self) -> None:
        self.late = True
        self.process.kill()

    def _end(self, clock_seconds: float) -> ImageError:
        """Return the error for the image at which the process ended."""
        code = self.process.wait()
        if self.late:
            return ImageLimitError(
                f"not decoded within {clock_seconds:.0f} seconds; run again when the machine is "
                "less busy, or save it as PNG or JPEG"
            )
        if code > 0:
            return ImageReadError(
                f"the process that decodes it ended (exit code {code}); `{sys.executable} -m "
                "featx.images` says why"
            )
        if -code == getattr(signal, "SIGPROF", None):
            return ImageLimitError(
                f"decoding takes longer than an image of its size may ({SECONDS:g} s and "
                f"{SECONDS_A_MEGAPIXEL:g} s a megapixel); save it as PNG or JPEG"
            )
        return ImageLimitError(
            f"its decoder was ended by signal {-code} ({signal.strsignal(-code)}); save it as PNG "
            "or JPEG"
        )

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        self._close_pipes()

    def forget(self) -> None:
        """Let go of a process that is the child of another."""
        self._close_pipes()
        self.process.returncode = 0

    def _close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def _environment() -> dict[str, str]:
    """Return the environment of a worker: it finds what this process found, and has one thread."""
    own = str(Path(__file__).resolve().parents[2])
    paths = [path for path in sys.path if os.path.isabs(path)]
    found = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    return {
        **found,
        "PYTHONPATH": os.pathsep.join(paths if own in paths else [*paths, own]),
        # Each thread would ask for address space, which is limited.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }


_lock = forking.lock()
_workers: set[_Worker] = set()
_idle: list[_Worker] = []


def ask(request: Mapping[str, Any], content: bytes, clock_seconds: float = CLOCK_SECONDS) -> Answer:
    """Return the answer of an idle process, or of a new one.

    Parameters
    ----------
    request : mapping
        The arguments of ``decoding.decode_here``.
    content : bytes
        The image's file.
    clock_seconds : float
        How long it is waited for.

    Raises
    ------
    ImageError
        The process came to its end, at a limit or otherwise; nothing is said about the image.
    """
    worker = _take()
    try:
        answer = worker.answer(request, content, clock_seconds)
    except BaseException:
        with _lock:
            _workers.discard(worker)
        worker.close()
        raise
    with _lock:
        if worker in _workers and not (worker.late or answer[0]["last"]):
            _idle.append(worker)
            return answer
        _workers.discard(worker)
    worker.close()
    return answer


def _take() -> _Worker:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.process.poll() is None:
                return worker
            _workers.discard(worker)
            worker.close()
    try:
        worker = _Worker()
    except OSError as error:
        raise ImageReadError(
            f"the process that decodes it cannot be started ({sys.executable}): {error}"
        ) from error
    with _lock:
        _workers.add(worker)
    return worker


def close() -> None:
    """End all processes; the image that one is at fails in the thread that asked for it."""
    with _lock:
        found = list(_workers)
        _workers.clear()
        _idle.clear()
    for worker in found:
        worker.close()


def _forget() -> None:
    for worker in _workers:
        worker.forget()
    _workers.clear()
    _idle.clear()


atexit.register(close)
if hasattr(os, "register_at_fork"):  # a worker answers one process only
    os.register_at_fork(after_in_child=_forget)
