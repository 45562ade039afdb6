"""Processes that extract with the stub and can be killed: forked from one that is warm.

Run as a program, it reads a job a line (JSON) and forks for it, so that a start costs 10 ms and
not a second of imports. Standard output carries the process ids and exit codes.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

JOBS = "tests.promises.jobs"


class Processes:
    """A warm process that forks for each job."""

    def __enter__(self) -> Processes:
        self._warm = subprocess.Popen(
            [sys.executable, "-m", "tests.promises.processes"],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "error"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        self._warm.stdin.close()
        self._warm.wait(timeout=60)
        self._warm.stdout.close()

    def start(self, job: str, **options: Any) -> int:
        """Start a function of ``jobs`` with JSON options; return its process id."""
        return int(self._ask({"job": job, "options": options}))

    def wait(self, pid: int, within: float = 120) -> int:
        """Return the exit code of a process, minus the signal if one ended it.

        A process that is not over in time is killed, and -9 says so.
        """
        return int(self._ask({"wait": pid, "within": within}))

    def kill(self, pid: int) -> int:
        """Kill a process, wait for its end and return its exit code: -9, or 0 if it was done."""
        os.kill(pid, signal.SIGKILL)  # the warm process has not waited for it: the id is its own
        return self.wait(pid)

    def run(self, job: str, **options: Any) -> int:
        """Run a job to its end and return its exit code."""
        return self.wait(self.start(job, **options))

    def _ask(self, question: dict[str, Any]) -> str:
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        self._warm.stdin.write(json.dumps(question) + "\n")
        self._warm.stdin.flush()
        answer = self._warm.stdout.readline()
        assert answer, "the warm process is gone"
        return answer


def digest(array: Any) -> str:
    """Return a digest of an array's bytes."""
    return hashlib.sha256(array.tobytes()).hexdigest()


def _serve() -> None:
    from tests.promises import jobs

    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            _answer(_waited(question["wait"], question["within"]))
            continue
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                # Where the tests run in the background of a shell, Ctrl-C comes ignored.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                os.close(0)
                os.dup2(2, 1)
                code = getattr(jobs, question["job"])(**question["options"]) or 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _answer(pid)


def _waited(pid: int, within: float) -> int:
    end = time.monotonic() + within
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve()
