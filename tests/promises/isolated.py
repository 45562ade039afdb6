"""Read images one by one in processes of their own, with their time and memory.

Run as a program, it reads a request a line (JSON: path, side, mutations) and answers a line. It
forks for each request, so that a reader that crashes, hangs or swells is seen and stays alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from featx.errors import FeatxError
from featx.images import decoding, worker

LIMIT_SECONDS = 300


class Reader:
    """A helper process that reads images on request.

    >>> with Reader() as reader:
    ...     reader.read(Path("no such file"))["outcome"]
    'ImageReadError'
    """

    def __enter__(self) -> Reader:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.promises.isolated"],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def read(self, path: Path, side: int = 224) -> dict[str, Any]:
        """Return `outcome` ("handled" or an error's name), `reason`, `seconds`, `rss_mb`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"path": os.fspath(path), "side": side}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def _load(path: str, side: int) -> dict[str, str]:
    try:
        pixels = decoding.load(Path(path), side)
    except FeatxError as error:
        return {"outcome": type(error).__name__, "reason": str(error)}
    except BaseException as error:
        return {"outcome": f"crash: {type(error).__name__}", "reason": str(error)}
    assert pixels.shape == (side, side, 3)
    assert pixels.dtype == "uint8"
    return {"outcome": "handled", "reason": ""}


def _apart(path: str, side: int) -> dict[str, Any]:
    """Load the image in a fork and return what came of it."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(LIMIT_SECONDS)
        os.write(theirs, json.dumps(_load(path, side)).encode())
        worker.close()  # so that what it took is counted
        os._exit(0)
    os.close(theirs)
    _, status, usage = os.wait4(child, 0)
    # Of a processor, with what a process that decodes takes to start.
    seconds = usage.ru_utime + usage.ru_stime
    with open(ours, "rb") as pipe:
        answer = pipe.read()
    result = json.loads(answer) if status == 0 and answer else {"outcome": f"died: {status}"}
    return {"reason": "", **result, "seconds": seconds, "rss_mb": usage.ru_maxrss / 1024}


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        sys.stdout.write(json.dumps(_apart(request["path"], request["side"])) + "\n")
        sys.stdout.flush()
