"""Several processes with one request: the work is shared, and never depends on a lock."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from featx.cache.locks import Claims
from featx.extraction.settings import Settings

from . import oracle, stub
from .processes import Processes, digest

PROBES = 2
WRITERS = 8


# On a busy machine a lock may answer after more than two seconds, and is then gone without.
Patient = partial(Claims, answer_seconds=60.0)


def run_together(
    folder: Path, processes: Processes, n: int, locks: str = ""
) -> tuple[float, int, int]:
    """Return seconds, forward rows and right answers of 8 processes with one request."""
    rows = stub.draw(folder / "images", n, seed=12)
    cache, log = folder / "cache", folder / "log"
    began = time.time() + 0.5
    pids = [
        processes.start(
            "extract",
            dataset=str(folder / "images"),
            cache=str(cache),
            log=str(log),
            out=str(folder / f"out{i}"),
            locks=locks,
            block=64,
            begin=began,
        )
        for i in range(WRITERS)
    ]
    assert [processes.wait(pid) for pid in pids] == [0] * WRITERS
    seconds = time.time() - began
    outs = [json.loads((folder / f"out{i}").read_text()) for i in range(WRITERS)]
    same = sum(out == {"X": digest(rows), "ids": n} for out in outs)
    truth = oracle.truth_of_files(folder / "images", rows)
    assert not oracle.judge(oracle.shards(cache), truth)
    assert not oracle.leftovers(cache)
    return seconds, stub.logged(log), same


def test_t11_one_request_is_computed_once(
    tmp_path: Path,
    processes: Processes,
    scale: Callable[[int, int], int],
    note: Callable[..., None],
) -> None:
    n = scale(1000, 3000)
    _, forward, same = run_together(tmp_path, processes, n)
    note(
        "T11", processes=WRITERS, right=same, images=n, forward_rows=forward,
        ratio=round(forward / n, 3),
    )  # fmt: skip
    assert same == WRITERS
    assert forward <= 1.10 * n
    assert not list((tmp_path / "cache").rglob("*.lock"))


@pytest.mark.parametrize("locks", ["always", "unknown", "hang"])
def test_t10_locks_that_do_not_lock(
    tmp_path: Path,
    processes: Processes,
    scale: Callable[[int, int], int],
    note: Callable[..., None],
    locks: str,
) -> None:
    n = scale(500, 2000)
    seconds, forward, same = run_together(tmp_path, processes, n, locks)
    note(
        f"T10 (flock: {locks})",
        processes=WRITERS,
        right=same,
        seconds=round(seconds, 1),
        work=round(forward / n, 2),
    )
    assert same == WRITERS
    assert forward <= WRITERS * (n + PROBES)
    # A lock that never answers is asked once a process, for two seconds.
    assert seconds < 60


def test_a_block_whose_process_was_killed_is_taken_over(
    tmp_path: Path, processes: Processes
) -> None:
    rows = stub.draw(tmp_path / "images", 600, seed=13)
    options = {
        "dataset": str(tmp_path / "images"),
        "cache": str(tmp_path / "cache"),
        "log": str(tmp_path / "log"),
    }
    pid = processes.start("extract", **options, die_at=60)
    assert processes.wait(pid) in (0, 9)
    features = stub.extract(tmp_path / "images", tmp_path / "cache")
    np.testing.assert_array_equal(features.X, rows)


def test_a_block_that_another_process_has_is_waited_for(tmp_path: Path) -> None:
    """The claim is held by no process that works: after the patience it is computed here."""
    drawn = stub.pixels(40, seed=14)
    calm = stub.extract(drawn, tmp_path / "calm")
    block = next((tmp_path / "calm").rglob("shards/*.h5")).stem
    key = next((tmp_path / "calm").glob("k-*")).name
    (tmp_path / "cache" / key).mkdir(parents=True)
    claim = Patient(tmp_path / "cache" / key / "claims").take(block)
    assert claim is not None
    (tmp_path / "cache" / "FEATX-CACHE.json").write_text('{"format": 1}\n')
    features = stub.extract(
        drawn, tmp_path / "cache", settings=Settings(patience_seconds=0.3, lock_seconds=60.0)
    )
    claim.release()
    np.testing.assert_array_equal(features.X, calm.X)


def test_a_claim_is_taken_by_one(tmp_path: Path) -> None:
    first = Patient(tmp_path / "claims").take("block")
    assert first is not None
    assert Patient(tmp_path / "claims").take("block") is None
    other = Patient(tmp_path / "claims").take("other")
    assert other is not None
    first.release()
    again = Patient(tmp_path / "claims").take("block")
    assert again is not None
    again.release()
    again.release()
    other.release()
    assert not list((tmp_path / "claims").iterdir())


def test_claims_in_a_folder_that_cannot_be_written_are_all_granted() -> None:
    closed = Patient(Path("/proc/featx/claims"))
    assert closed.take("block") is not None
    assert closed.take("block") is not None


def test_a_claim_makes_no_cache_where_there_is_none(tmp_path: Path) -> None:
    """As where the cache was removed while it was used: nothing unmarked is made in its place."""
    claim = Patient(tmp_path / "removed" / "k-0" / "claims").take("block")
    assert claim is not None  # and the work goes on without it
    claim.release()
    assert not list(tmp_path.iterdir())


HOLD = """
import sys, time
from pathlib import Path
from featx.cache.locks import Claims
claim = Claims(Path(sys.argv[1])).take("block")
print("taken" if claim is not None else "left", flush=True)
time.sleep(300)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that has the claim on a block, and works."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "claims")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
        process.kill()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="who is suspended is read there")
def test_a_suspended_process_is_not_waited_for(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    ours = Patient(tmp_path / "claims")
    assert ours.take("block") is None
    holder.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    while (claim := ours.take("block")) is None:
        assert time.monotonic() < began + 60
        time.sleep(0.05)
    claim.release()
    again = ours.take("block")
    assert again is not None
    assert [record.message for record in caplog.records] == [
        f"process {holder.pid} is suspended (Ctrl-Z?) and has blocks that are needed here: they "
        "are computed again"
    ]
    holder.send_signal(signal.SIGCONT)
    while ours.take("block") is not None:
        assert time.monotonic() < began + 120
        time.sleep(0.05)


def test_who_is_waited_for_is_said(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    ours = Patient(tmp_path / "claims", silent_seconds=0.1)
    ours.wait({"block"}, lambda name: False, patience=1.0)
    name = f"process {holder.pid} on {socket.gethostname()}"
    assert [record.message for record in caplog.records] == [
        f"waiting for {name}, which computes 1 blocks that are needed here"
    ]
    (tmp_path / "claims" / "block.lock").write_bytes(b"\x1b]0;x\x07 \xff")
    assert ours.holder("block") == ours.holder("no such") == "another process"
