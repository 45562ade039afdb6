"""Kills: what was published stays, what was not is computed again, and nobody can tell."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featx
from featx.extraction.settings import DEFAULT

from . import faults, oracle, stub
from .processes import Processes

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"

# The two images of featx/extraction/probe.py that the first block of a key begins with.
PROBES = 2


class Course:
    """A folder of images, the run that nobody disturbed, and fresh caches to disturb."""

    def __init__(self, folder: Path, processes: Processes, n: int) -> None:
        self.folder = folder
        self.processes = processes
        self.images = folder / "images"
        self.n = n
        self.rows = stub.draw(self.images, n, seed=3)
        self.truth = oracle.truth_of_files(self.images, self.rows)
        self.calm = self.cache("calm")
        began = time.monotonic()
        assert self.extract(self.calm, "calm") == 0
        self.seconds = time.monotonic() - began
        self.result = self.out("calm")
        self.shards = oracle.shards(self.calm)

    def cache(self, name: str) -> Path:
        return self.folder / f"cache-{name}"

    def log(self, name: str) -> Path:
        return self.folder / f"log-{name}"

    def out(self, name: str) -> Any:
        return json.loads((self.folder / f"out-{name}").read_text())

    def options(self, cache: Path, name: str, **more: Any) -> dict[str, Any]:
        return {
            "dataset": str(self.images),
            "cache": str(cache),
            "log": str(self.log(name)),
            "out": str(self.folder / f"out-{name}"),
            **more,
        }

    def extract(self, cache: Path, name: str, **more: Any) -> int:
        return self.processes.run("extract", **self.options(cache, name, **more))

    def forget(self, name: str) -> None:
        shutil.rmtree(self.cache(name), ignore_errors=True)
        self.log(name).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory, processes: Processes) -> Course:
    return Course(tmp_path_factory.mktemp("course"), processes, n=2000)


def test_t1_a_kill_costs_one_block_and_no_bit(
    course: Course, rng: random.Random, scale: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    kills, identical, unreadable, worst = 0, 0, 0, 0
    while kills < scale(12, 200):
        cache = course.cache("killed")
        pid = course.processes.start("extract", **course.options(cache, "killed"))
        time.sleep(rng.uniform(0, course.seconds))
        if course.processes.kill(pid) == -9:
            kills += 1
            left = oracle.shards(cache)
            unreadable += sum(not oracle.is_whole(content) for content in left.values())
            assert course.extract(cache, "killed") == 0
            same = oracle.shards(cache) == course.shards
            identical += same and course.out("killed") == course.result
            worst = max(worst, stub.logged(course.log("killed")) - course.n - PROBES)
        course.forget("killed")
    note("T1", kills=kills, identical=identical, unreadable=unreadable, most_rows_lost=worst)
    assert (identical, unreadable) == (kills, 0)
    assert worst <= DEFAULT.block


def test_t2_writers_are_killed_and_readers_never_notice(
    course: Course, rng: random.Random, scale: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    files = sorted(map(str, course.images.rglob("*.bmp")))
    np.savez(
        course.folder / "truth.npz",
        digests=np.frombuffer(b"".join(course.truth), np.uint8).reshape(-1, 32),
        rows=np.stack(list(course.truth.values())),
    )
    kills, wrong, passes, served = [0] * 4, 0, 0, 0
    raised: list[str] = []
    while min(kills) < scale(2, 50):
        cache, until = course.cache("shared"), course.folder / "until"
        readers = [
            course.processes.start(
                "read_on",
                cache=str(cache),
                truth=str(course.folder / "truth.npz"),
                out=str(course.folder / f"out-reader{i}"),
                until=str(until),
            )
            for i in range(2)
        ]
        jobs = []
        for i in range(4):  # each in an order of its own, so that their blocks differ
            order = rng.sample(files, len(files))
            jobs.append(course.options(cache, f"w{i}") | {"dataset": order})
        pids = [course.processes.start("extract", **job) for job in jobs]
        for _ in range(5):
            for i in rng.sample(range(4), 4):
                time.sleep(rng.uniform(0, course.seconds / 2))
                kills[i] += course.processes.kill(pids[i]) == -9
                pids[i] = course.processes.start("extract", **jobs[i])
        assert [course.processes.wait(pid) for pid in pids] == [0] * 4
        until.touch()
        assert [course.processes.wait(pid) for pid in readers] == [0, 0]
        until.unlink()
        wrong += len(oracle.judge(oracle.shards(cache), course.truth))
        for i in range(2):
            report = course.out(f"reader{i}")
            wrong += report["wrong"]
            passes, served = passes + report["passes"], served + report["served"]
            raised += report["raised"]
        assert not list(cache.rglob("quarantine/*"))
        course.forget("shared")
    note(
        "T2", kills=sum(kills), wrong_rows=wrong, reader_exceptions=len(raised),
        reader_passes=passes, rows_read=served,
    )  # fmt: skip
    assert not raised, raised[0]
    assert wrong == 0
    assert served > 0


def test_ctrl_c_drops_the_block_and_leaves_nothing_half(
    course: Course, rng: random.Random, scale: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    stopped = left = identical = 0
    signals = scale(4, 20)
    for _ in range(signals):
        cache = course.cache("stopped")
        pid = course.processes.start("extract", **course.options(cache, "stopped"))
        time.sleep(rng.uniform(0.1, course.seconds))
        os.kill(pid, signal.SIGINT)
        began = time.monotonic()
        code = course.processes.wait(pid)
        assert code in (0, 1)
        stopped += code == 1
        assert time.monotonic() - began < 10
        left += len(oracle.leftovers(cache))
        assert course.extract(cache, "stopped") == 0
        identical += oracle.shards(cache) == course.shards
        course.forget("stopped")
    note("Ctrl-C (stub)", signals=signals, stopped=stopped, left_half=left, identical=identical)
    assert (left, identical) == (0, signals)
    assert stopped


@pytest.mark.weights
def test_ctrl_c_and_a_polite_end_of_the_real_command(
    tmp_path: Path, rng: random.Random, scale: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    """SIGINT and SIGTERM to `featx extract` on real images; the next run finishes the work."""
    if not scale(0, 1):
        pytest.skip("in the long form only: FEATX_PROMISES=long")
    images = SHARED / "datasets" / "flowers" / "train"
    if not images.is_dir():
        pytest.skip(f"no real images at {images}")
    files = sorted(images.rglob("*.jpg"))
    for file in files:
        copy = tmp_path / "images" / file.parent.name / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "featx", "extract", str(tmp_path / "images"), "-b",
                   "mobilenet_v2", "--cache", str(tmp_path / name), "--out",
                   str(tmp_path / f"{name}.h5")]  # fmt: skip
        # Where the tests run in the background of a shell, Ctrl-C is ignored, and by children, too.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        signal.signal(signal.SIGINT, before)
        return process

    def finish(process: subprocess.Popen[str], within: float) -> str:
        said = process.communicate(timeout=within)[1]
        return "" if process.returncode == 0 else said or "no word"

    assert not finish(start("calm"), 600)
    expected = featx.Features.load(tmp_path / "calm.h5").X
    sent: dict[str, int] = {}
    left = identical = kept = 0
    for number in (signal.SIGINT, signal.SIGTERM) * 5:
        name = f"run{sum(sent.values())}"
        process = start(name)
        shards_there = rng.randrange(1, len(files) // DEFAULT.block + 1)
        while len(oracle.shards(tmp_path / name)) < shards_there and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        said = finish(process, 60)
        assert said, "the run was over before the signal came"
        assert "Traceback" not in said
        sent[number.name] = sent.get(number.name, 0) + 1
        left += len(oracle.leftovers(tmp_path / name))
        kept += len(oracle.shards(tmp_path / name))
        assert not finish(start(name), 600)
        identical += np.array_equal(featx.Features.load(tmp_path / f"{name}.h5").X, expected)
    note("Ctrl-C (featx extract)", images=len(files), **sent, left_half=left,
         shards_kept_before=kept, identical=identical)  # fmt: skip
    assert (left, identical) == (0, sum(sent.values()))


def test_the_command_line_takes_a_polite_end_for_ctrl_c() -> None:
    script = (
        "import signal; from featx.cli import app\n"
        "app.app = lambda **_: (print('ready', flush=True), signal.pause())\n"
        "try: app.main()\n"
        "except KeyboardInterrupt: print('stopped')"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
                               cwd=Path(__file__).resolve().parents[2])  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate(timeout=30)[0] == "stopped\n"
    assert process.returncode == 0


def test_t4_the_end_may_come_at_any_call(
    course: Course, scale: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    """Every point of the protocol: before each call to the disk, and in the midst of each write."""
    few = course.folder / "few"
    rows = stub.draw(few, 40, seed=4)
    truth = oracle.truth_of_files(few, rows)
    options = {"dataset": str(few), "block": 32}
    calm = course.cache("few")
    names = faults.count_calls(lambda: stub.extract(few, course.cache("count")))
    assert course.extract(calm, "few", **options) == 0
    reached = passed = 0
    for at in range(0, 3 * len(names), scale(5, 1)):
        cache = course.cache(f"at{at}")
        code = course.extract(cache, "at", die_at=at, **options)
        assert code in (0, 9)
        assert not oracle.judge(oracle.shards(cache), truth)
        assert course.extract(cache, "at", **options) == 0
        same = oracle.shards(cache) == oracle.shards(calm)
        same &= course.out("at") == course.out("few")
        course.forget(f"at{at}")
        if code == 0:
            assert same
            break
        reached, passed = reached + 1, passed + same
    else:
        pytest.fail("the last call was never reached")
    note("T4", points=reached, passed=passed)
    assert passed == reached
