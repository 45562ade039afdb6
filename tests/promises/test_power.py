"""A loss of power at any moment: what was acknowledged is there, what is there is true."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx import errors
from featx.cache.location import find_root
from featx.cache.shards import block_id
from featx.cache.store import Store
from featx.extraction.settings import Settings
from featx.storage import atomic, folders
from featx.storage.local import FolderStorage

from . import faults, oracle, stub
from .jobs import spec
from .power import Disk, Recorder


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Recorder, np.ndarray]:
    """Return the record of two runs on one cache, the second with more images and a bad shard."""
    monkeypatch.setattr(stub, "SETTINGS", Settings(block=32))
    top = tmp_path / "top"
    top.mkdir()
    recorder = Recorder(top)
    publish = Store.publish

    def acknowledged(store: Store, block: Any) -> None:
        publish(store, block)
        name = block_id(store.key, block.batch_size, block.sha256)
        recorder.mark("acknowledged", (name, block.sha256))

    monkeypatch.setattr(Store, "publish", acknowledged)
    drawn = stub.pixels(120, seed=11)
    with faults.in_place(recorder.os):
        stub.extract(drawn[:80], top / "cache")
        shard = sorted(top.rglob("shards/*.h5"))[0]
        content = shard.read_bytes()
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        recorder.mark("spoilt", shard.stem)
        recorder.steps.append(lambda disk: _spoil(disk, shard.relative_to(top)))
        with pytest.warns(errors.CacheCorruptWarning):
            stub.extract(drawn, top / "cache")
    monkeypatch.undo()
    return recorder, drawn


def _spoil(disk: Disk, shard: Path) -> None:
    file = disk.find(str(shard))
    file.content = file.synced = file.content[:-1] + bytes([file.content[-1] ^ 1])


def test_t6_after_a_loss_of_power(
    record: tuple[Recorder, np.ndarray],
    tmp_path: Path,
    rng: Any,
    scale: Callable[[int, int], int],
    note: Callable[..., None],
) -> None:
    recorder, drawn = record
    truth = oracle.truth_of_pixels(drawn, stub.rows(drawn))
    syncs = lost = wrong = refused = 0
    losses = scale(120, 1000)
    for _ in range(losses):
        moment = rng.randrange(len(recorder.steps) + 1)
        disk = Disk()
        promised: dict[Any, Any] = {}
        for step in recorder.steps[:moment]:
            if callable(step):
                step(disk)
            elif step[0] == "acknowledged":
                promised.update([step[1]])
            else:
                del promised[step[1]]
        after = tmp_path / "after"
        disk.lose_power(after, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.CacheCorruptWarning)
            store = Store(find_root(after / "cache"), spec())
            digests = np.frombuffer(b"".join(truth), np.uint8).reshape(-1, 32)
            rows, missing = store.gather(digests, stub.DIM)
        expected = np.stack(list(truth.values()))
        wrong += int((rows[~missing] != expected[~missing]).any(axis=1).sum())
        there = {digest.tobytes() for digest in digests[~missing]}
        for block in promised.values():
            lost += any(d.tobytes() in truth and d.tobytes() not in there for d in block)
        refused += len(list((after / "cache").rglob("quarantine/*")))
        # And it goes on as if nothing had been.
        np.testing.assert_array_equal(stub.extract(drawn, after / "cache").X, expected)
        shutil.rmtree(after)
    syncs = sum(name == "fsync" for name in recorder.os.names)
    note("T6", losses=losses, syncs=syncs, blocks_lost=lost, wrong_rows=wrong, quarantined=refused)
    assert (lost, wrong) == (0, 0)


def test_t6_the_simulation_finds_a_missing_sync(tmp_path: Path, rng: Any) -> None:
    """Without the sync of the folder an acknowledged file must get lost now and then."""
    top = tmp_path / "top"
    top.mkdir()
    recorder = Recorder(top)
    with faults.in_place(recorder.os), pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "sync", lambda folder: None)
        atomic.publish(top / "x", b"content" * 1000)
    lost = 0
    for _ in range(50):
        disk = Disk()
        for step in recorder.steps:
            assert callable(step)
            step(disk)
        disk.lose_power(tmp_path / "after", rng)
        lost += not (tmp_path / "after" / "x").exists()
        shutil.rmtree(tmp_path / "after")
    assert lost


def test_t6_what_another_process_published_is_durable_when_it_is_relied_on(
    tmp_path: Path, rng: Any
) -> None:
    """That process linked a shard and has not synced the folder yet; then the power goes."""
    top = tmp_path / "top"
    top.mkdir()
    recorder = Recorder(top)
    drawn = stub.pixels(40, seed=24)
    with faults.in_place(recorder.os):
        with pytest.MonkeyPatch.context() as patch:
            sync = folders.sync_opened
            name = "/proc/self/fd/{}".format
            patch.setattr(
                folders,
                "sync_opened",
                lambda at: os.readlink(name(at)).endswith("/shards") or sync(at),
            )
            patch.setattr(FolderStorage, "try_replace", lambda self, name, content: None)
            stub.extract(drawn, top / "cache")
        runtime = stub.Thumbnail()
        stub.extract(drawn, top / "cache", runtime)
        assert runtime.seen == 0
    lost = 0
    for _ in range(50):
        disk = Disk()
        for step in recorder.steps:
            assert callable(step)
            step(disk)
        disk.lose_power(tmp_path / "after", rng)
        lost += not list((tmp_path / "after").rglob("shards/*.h5"))
        shutil.rmtree(tmp_path / "after")
    assert lost == 0


def can_trace() -> bool:
    return (
        shutil.which("strace") is not None
        and not subprocess.run(
            ["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, check=False
        ).returncode
    )


def test_t7_the_order_of_calls_of_one_commit(tmp_path: Path, note: Callable[..., None]) -> None:
    if not can_trace():
        pytest.skip("strace is not installed, or may not trace here")
    script = (
        "from pathlib import Path; from tests.promises import stub; import sys\n"
        "stub.extract(stub.pixels(40, seed=1), Path(sys.argv[1]))\n"
        "open(sys.argv[1] + '/acknowledged', 'w').close()"
    )
    trace = tmp_path / "trace"
    calls = "trace=openat,write,fsync,fdatasync,link,linkat,rename,unlink,unlinkat"
    subprocess.run(
        ["strace", "-f", "-y", "-o", str(trace), "-e", calls, sys.executable, "-c", script,
         str(tmp_path / "cache")],
        cwd=Path(__file__).resolve().parents[2],
        check=True,
    )  # fmt: skip
    lines = [line for line in trace.read_text().splitlines() if "cache" in line]
    shards = re.escape(str(next((tmp_path / "cache").rglob("shards"))))
    at = rf"\d+<{shards}>, "  # by the descriptor of the folder
    expected = {
        "open": rf"openat\({at}\"\.tmp-[^\"]+\", O_WRONLY\|O_CREAT\|O_EXCL\|O_NOFOLLOW",
        "write": rf"write\(\d+<{shards}/\.tmp-",
        "fsync(file)": rf"fsync\(\d+<{shards}/\.tmp-",
        "link": rf"linkat\({at}\"\.tmp-.*, {at}\"[0-9a-f]{{32}}\.h5\"",
        "fsync(folder)": rf"fsync\(\d+<{shards}>",
        "unlink": rf"unlinkat\({at}\"\.tmp-",
        "acknowledged": r"openat\(.*acknowledged",
    }
    found = {}
    for name, pattern in expected.items():
        these = [i for i, line in enumerate(lines) if re.search(pattern, line)]
        assert these, f"no call like {pattern} in\n" + "\n".join(lines)
        found[name] = these[-1]
        if name == "fsync(folder)":  # whoever opens the store anew syncs it once more, later
            found[name] = min(i for i in these if i > found["link"])
    order = sorted(found, key=lambda name: found[name])
    note("T7", order=", ".join(order))
    assert order == list(expected)
    assert not oracle.leftovers(tmp_path / "cache")
