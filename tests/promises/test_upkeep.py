"""`compact` and `gc` on disks that fail or lose their power: an error or done, and no row less."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from featx import errors
from featx.cache.location import find_root
from featx.cache.shards import EMBEDDING, Block
from featx.cache.store import Store
from featx.extraction import probe
from featx.maintenance import compaction, gc
from featx.maintenance.inventory import key_folders, list_keys
from featx.storage import atomic

from . import faults, oracle, stub
from .power import Disk, Recorder

DRAWN = stub.pixels(60, seed=31)
ROWS = stub.rows(DRAWN)
OLD = (10**9, 10**9)


def upkeep(cache: Path) -> list[str]:
    """Compact every key, then remove all that may go; return what could not be removed."""
    root = find_root(cache)
    for kept in list_keys(root):
        if kept.store is not None:
            compaction.compact(kept.store, grace=0, sleep=lambda seconds: None)
    return gc.remove(root, gc.find(root, unused_days=1))[1]


def fill(cache: Path) -> None:
    """Keep rows in three small shards, and leave one thing of each kind that gc removes."""
    for begin in range(0, 60, 20):
        stub.extract(DRAWN[begin : begin + 20], cache)
    (key,) = key_folders(cache)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    # By featx's own calls, so that a recorder sees them.
    for place, name in (
        ("shards", f".tmp-{atomic.this_host()}-{ended.pid}-0123456789abcdef"),
        ("quarantine", "damaged.h5-01234567"),
        ("claims", "abandoned.lock"),
        ("../.trash-0123456789abcdef/shards", "a.h5"),
    ):
        atomic.folders.make(key / place)
        atomic.publish(key / place / name, b"remains")
        os.utime(key / place / name, OLD)
    unused = Store(cache, {"backbone": "unused"})
    status = np.full(4, EMBEDDING, np.uint8)
    unused.publish(Block(np.ones((4, 6), np.float32), np.ones((4, 32), np.uint8), status, [], 4))
    for path in (unused.folder, *unused.folder.rglob("*")):
        os.utime(path, OLD)


def remains(cache: Path) -> list[str]:
    """Return what lies in a cache besides its mark, its keys, their shards and their indexes."""
    usual = {"FEATX-CACHE.json", "key.json", "shards", "index", "quarantine", "claims"}
    usual |= {key.name for key in key_folders(cache)}
    return [
        path.name
        for path in cache.rglob("*")
        if path.name not in usual and not path.name.endswith(".h5")
    ]


def computed_again(cache: Path, about: str = "") -> int:
    """Extract all images; return how many of them the network met."""
    runtime = stub.Thumbnail()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.CacheCorruptWarning)
        np.testing.assert_array_equal(stub.extract(DRAWN, cache, runtime).X, ROWS, err_msg=about)
    return runtime.seen


def digests(shards: dict[str, bytes]) -> set[bytes]:
    """Return the digests of the images whose embeddings are in shards."""
    return {digest for content in shards.values() for digest, _ in oracle.kept(content)}


def test_upkeep_removes_what_may_go_and_no_embedding(tmp_path: Path) -> None:
    fill(tmp_path)
    assert len(oracle.shards(tmp_path)) == 5
    assert not upkeep(tmp_path)
    assert len(oracle.shards(tmp_path)) == 1
    assert not remains(tmp_path)
    assert len(key_folders(tmp_path)) == 1
    assert computed_again(tmp_path) == 0


def test_t5_every_call_of_upkeep_fails_once_and_for_ever(
    tmp_path: Path,
    rng: random.Random,
    scale: Callable[[int, int], int],
    note: Callable[..., None],
) -> None:
    fill(tmp_path / "filled")
    truth = oracle.truth_of_pixels(DRAWN, ROWS)

    def copied(name: str) -> Path:
        return shutil.copytree(tmp_path / "filled", tmp_path / name)

    names = faults.count_calls(lambda: upkeep(copied("calm")))
    calm = oracle.shards(tmp_path / "calm")
    cases = list(faults.cases(names))
    chosen = cases if scale(0, 1) else rng.sample(cases, 40)
    outcomes: Counter[str] = Counter()
    for at, error, for_ever in chosen:
        cache = copied("cache")
        about = f"call {at} ({names[at]}), {errno.errorcode.get(error, 'short')}, {for_ever=}"
        faulty = faults.failing(at, error, for_ever=for_ever)
        try:
            with faults.in_place(faulty), warnings.catch_warnings():
                warnings.simplefilter("ignore", errors.CacheCorruptWarning)
                outcomes["said" if upkeep(cache) else "done"] += 1
        except errors.CacheError as raised:
            outcomes[type(raised).__name__] += 1
        assert not oracle.judge(oracle.shards(cache), truth), about
        stuck = "unlink" in (names[at], *faulty.names[at : at + 1])
        assert stuck or len(oracle.leftovers(cache)) <= 1, about  # the one that was there
        # And the next upkeep ends what this one began.
        assert not upkeep(cache), about
        assert stuck or not remains(cache), about
        # Setting a shard aside is a use of its key, too.
        assert len(key_folders(cache)) == 1 or error == errno.EIO, about
        left = oracle.shards(cache)
        # What cannot be read is quarantined as damaged; nothing else costs an embedding.
        lost = digests(calm) - digests(left)
        again = computed_again(cache, about)
        outcomes["unreadable"] += again > 0
        assert not lost or error == errno.EIO, about
        assert lost or left == calm, about
        # The network meets what was lost and, when it runs for that, probe images that were.
        images, probes = lost - set(probe.digests()), lost & set(probe.digests())
        assert again == (len(images | probes) if images else 0), about
        shutil.rmtree(cache)
    note("T5 (compact, gc)", calls=len(names), cases=len(chosen), **outcomes)
    assert outcomes["done"] < len(chosen)


def test_t6_upkeep_after_a_loss_of_power(
    tmp_path: Path, rng: random.Random, scale: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    recorder = Recorder(tmp_path / "top")
    (tmp_path / "top").mkdir()
    with faults.in_place(recorder.os):
        fill(tmp_path / "top" / "cache")
        begin = len(recorder.steps)
        upkeep(tmp_path / "top" / "cache")
    losses, again, after = scale(25, 500), 0, tmp_path / "after"
    for _ in range(losses):
        built = Disk()
        for step in recorder.steps[: rng.randrange(begin, len(recorder.steps) + 1)]:
            assert callable(step)
            step(built)
        built.lose_power(after, rng)
        again += computed_again(after / "cache")
        assert not upkeep(after / "cache")
        again += computed_again(after / "cache")
        shutil.rmtree(after)
    note("T6 (compact, gc)", losses=losses, steps=len(recorder.steps) - begin, rows_lost=again)
    assert again == 0
