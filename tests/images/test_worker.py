"""The process that decodes within limits: stopped, replaced, closed, and started from anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featx.errors import ImageLimitError, ImageMemoryError, ImageReadError
from featx.images import decoding, worker
from tests.promises import images as made
from tests.promises.hostile_images import HOSTILE

ROOT = Path(__file__).resolve().parents[2]
RGB = made.pixels()
GOOD = made.encoded(RGB, "JPEG2000", irreversible=False)
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")


@pytest.fixture(autouse=True)
def none_before() -> None:
    worker.close()


@on_linux
def test_an_image_that_takes_too_long_is_stopped_and_the_next_is_decoded() -> None:
    with pytest.raises(ImageLimitError, match="decoding takes longer than an image of its size"):
        decoding.decode(HOSTILE["runs of a BMP"]["going nowhere.bmp"].make())
    assert not ImageLimitError.permanent
    np.testing.assert_array_equal(decoding.decode(GOOD), RGB)


@on_linux
def test_an_image_that_takes_too_much_memory_is_named_and_the_next_is_decoded() -> None:
    with pytest.raises(ImageMemoryError, match="more than the 600 MB that an image of its size"):
        decoding.decode(HOSTILE["EXIF"]["30 million numbers.tif"].make())
    np.testing.assert_array_equal(decoding.decode(GOOD), RGB)


def test_an_image_whose_process_is_suspended_is_given_up() -> None:
    decoding.decode(GOOD)
    (only,) = worker._workers
    os.kill(only.process.pid, signal.SIGSTOP)
    with pytest.raises(ImageLimitError, match="not decoded within 1 seconds"):
        worker.ask({}, GOOD, clock_seconds=1.0)
    np.testing.assert_array_equal(decoding.decode(GOOD), RGB)


def test_one_process_is_used_again_and_replaced_when_it_is_gone() -> None:
    decoding.decode(GOOD)
    (first,) = worker._workers
    decoding.decode(GOOD)
    assert worker._workers == {first}
    first.process.kill()
    first.process.wait()
    np.testing.assert_array_equal(decoding.decode(GOOD), RGB)
    assert worker._workers != {first}


def test_threads_have_a_process_each() -> None:
    started, found = threading.Barrier(3), []

    def decode() -> None:
        started.wait()
        found.append(decoding.decode(GOOD))

    threads = [threading.Thread(target=decode) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one, RGB) for one in found)
    assert len(found) == 3
    assert len(worker._workers) <= 3
    assert set(worker._idle) == worker._workers


def test_a_decoder_that_crashes_is_named() -> None:
    decoding.decode(GOOD)
    (only,) = worker._workers
    os.kill(only.process.pid, signal.SIGSTOP)  # so that it is sent an image first
    ending = threading.Timer(0.5, only.process.send_signal, [signal.SIGSEGV])
    going_on = threading.Timer(1, only.process.send_signal, [signal.SIGCONT])
    for timer in (ending, going_on):
        timer.start()
    with pytest.raises(ImageLimitError, match="ended by signal 11"):
        decoding.decode(GOOD)
    for timer in (ending, going_on):
        timer.join()


def test_a_process_that_cannot_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ImageReadError, match="cannot be started .*/no/such/python"):
        decoding.decode(GOOD)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ImageReadError, match=r"ended \(exit code 1\)"):
        decoding.decode(GOOD)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_made_by_fork_has_its_own() -> None:
    decoding.decode(GOOD)
    (mine,) = worker._workers
    child = os.fork()
    if not child:
        try:
            right = not worker._workers and np.array_equal(decoding.decode(GOOD), RGB)
            right = right and mine not in worker._workers
            worker.close()
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(decoding.decode(GOOD), RGB)
    assert worker._workers == {mine}


CODE = """
import os, sys
from featx.images import decoding, worker
assert decoding.decode(open(sys.argv[1], "rb").read()).shape == (60, 80, 3)
(only,) = worker._workers
print(only.process.pid, "tensorflow" in sys.modules, flush=True)
"""
# As a notebook runs a cell: `__main__` is no file, the streams are objects without a descriptor,
# and a loop is running.
NOTEBOOK = f"""
import asyncio, io, sys, types
real = sys.stdout
sys.stdin, sys.stdout, sys.stderr = io.StringIO(), io.StringIO(), io.StringIO()
sys.modules["__main__"] = types.ModuleType("__main__")
async def cell():
    exec({CODE!r}, vars(sys.modules["__main__"]))
asyncio.run(cell())
real.write(sys.stdout.getvalue())
"""


def run(*words: str | Path, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=folder, input=stdin, capture_output=True, text=True,
        check=False, timeout=300, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


WAYS: dict[str, Callable[[Path], tuple[list[str | Path], str]]] = {
    "script": lambda script: ([script], ""),
    "script, warnings are errors": lambda script: (["-W", "error", script], ""),
    "standard input": lambda script: (["-P", "-"], CODE),
    "notebook": lambda script: (["-P", "-c", NOTEBOOK], ""),
}


def is_gone(pid: int) -> bool:
    """Return whether a process ends within half a minute, or has."""
    for _ in range(300):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":  # its parent is gone, and nobody asks for it
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("way", WAYS)
def test_it_starts_from_anywhere_and_ends_with_its_parent(way: str, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "script.py"
    script.write_text(CODE)
    # The working folder may be that of a stranger's images.
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "x.jp2").write_bytes(GOOD)
    for name in ("numpy", "PIL", "featx", "json"):
        (folder / f"{name}.py").write_text("raise SystemExit('a module of the working folder')\n")
    words, stdin = WAYS[way](script)
    done = run(*words, "x.jp2", folder=folder, stdin=stdin)
    assert done.returncode == 0, done.stderr
    pid, tensorflow = done.stdout.split()
    assert tensorflow == "False"
    assert is_gone(int(pid))


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "x.jp2").write_bytes(GOOD)
    parent = subprocess.Popen(
        [sys.executable, "-c", CODE + "import time; time.sleep(600)", tmp_path / "x.jp2"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert parent.stdout is not None
    pid = int(parent.stdout.readline().split()[0])
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert is_gone(pid)
