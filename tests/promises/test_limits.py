"""Limits of memory, open files and time while blocks are published (T35)."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from . import oracle, stub
from .processes import Processes, digest

pytest.importorskip("resource", reason="this system has no limits on a process")

# Megabytes beyond what the process has when it begins; files; milliseconds.
AMOUNTS = {
    "memory": [0, 1, 4, 9, 18, 34, 66, 130],
    "files": [*range(12)],
    "time": [*range(0, 600, 30)],
}
# What an extraction may end in: done, an error of featx, no memory for anything, or a signal. Where
# memory is nearly gone Python 3.11 and HDF5 have ends of their own, which are as good as a kill: a
# crash at an allocation that is not checked, and waiting for a thread that could not begin.
ENDS = {
    0: "done", 3: "FeatxError", 4: "no memory", -14: "ended by SIGALRM", -11: "ended by SIGSEGV",
    -9: "ended by us, since it hung",
}  # fmt: skip
HANGS_SECONDS = 20.0


@pytest.mark.parametrize("limit", AMOUNTS)
def test_t35_a_limit_leaves_nothing_half_and_the_next_run_is_whole(
    limit: str,
    tmp_path: Path,
    processes: Processes,
    rng: random.Random,
    scale: Callable[[int, int], int],
    note: Callable[..., None],
) -> None:
    rows = stub.draw(tmp_path / "images", 200, seed=35)
    truth = oracle.truth_of_files(tmp_path / "images", rows)
    least, *amounts = AMOUNTS[limit]
    outcomes: Counter[str] = Counter()
    # The least amount always: with the others alone every run of a quick form may be done.
    for amount in [least, *sorted(rng.sample(amounts, scale(5, len(amounts))))]:
        cache = tmp_path / f"{limit}-{amount}"
        options = {
            "dataset": str(tmp_path / "images"),
            "cache": str(cache),
            "log": str(cache) + ".log",
        }
        pid = processes.start("limited", limit=limit, amount=amount, **options)
        code = processes.wait(pid, within=HANGS_SECONDS)
        assert code in ENDS, f"{limit} {amount}"
        assert code not in (-11, -9) or limit == "memory", f"{limit} {amount}"
        outcomes[ENDS[code]] += 1
        shards = oracle.shards(cache)
        assert not oracle.judge(shards, truth), f"{limit} {amount}"
        if code >= 0:
            assert not oracle.leftovers(cache), f"{limit} {amount}"
        out = tmp_path / "out"
        assert processes.run("extract", out=str(out), block=32, **options) == 0
        assert json.loads(out.read_text())["X"] == digest(rows)
        # What was published before the limit was reached is not computed again.
        assert shards.items() <= oracle.shards(cache).items()
    note(f"T35 ({limit})", tried=sum(outcomes.values()), **outcomes)
    assert set(outcomes) != {"done"}
