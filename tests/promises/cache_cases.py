"""Cases 86-106, caches: damaged, foreign, full, removed, locked, forked."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featx.cache import locks, stat_index
from featx.cache.location import find_root
from featx.cache.shards import EMBEDDING, Block
from featx.cache.store import Store
from featx.errors import CacheCorruptWarning
from featx.maintenance import gc
from featx.storage import atomic
from tests.promises import faults, hostile, oracle, stub
from tests.promises.cases import case
from tests.promises.jobs import spec

QUARANTINED = "quarantined"  # moved to quarantine/ with a warning that has the reason
Extracted = tuple[Path, Path, np.ndarray]


def shard_of(cache: Path) -> Path:
    return next(cache.glob("k-*/shards/*.h5"))


def extracted(kept: Extracted, computed: int = 0) -> None:
    """Extract: the rows are as before, and so many images met the network for it."""
    runtime = stub.Thumbnail()
    np.testing.assert_array_equal(stub.extract(kept[0], kept[1], runtime).X, kept[2])
    assert runtime.seen == computed


def quarantined(kept: Extracted, path: Path) -> str:
    """Extract where this shard is none: it is named and moved, and the rows are as before."""
    with pytest.warns(CacheCorruptWarning) as seen:
        np.testing.assert_array_equal(stub.extract(kept[0], kept[1]).X, kept[2])
    (message,) = (str(each.message) for each in seen)
    moved = list(kept[1].glob("k-*/quarantine/*"))
    assert str(path) in message
    assert str(moved[0]) in message
    assert moved[0].name.startswith(path.name)
    return QUARANTINED


def rewritten(kept: Extracted, content: bytes) -> str:
    path = shard_of(kept[1])
    path.write_bytes(content)
    return quarantined(kept, path)


@case(86, QUARANTINED)
def an_empty_shard(kept: Extracted) -> str:
    return rewritten(kept, b"")


@case(87, QUARANTINED, variants=(1, 39, 40, 1000, -41, -40, -1))
def a_shard_cut_short(kept: Extracted, variant: int) -> str:
    """At some bytes; T8 cuts at random ones."""
    return rewritten(kept, shard_of(kept[1]).read_bytes()[:variant])


@case(88, QUARANTINED, variants=(0.0, 0.3, 0.6, 0.99))
def a_flipped_bit(kept: Extracted, variant: float) -> str:
    """At some places; T8 flips at random ones."""
    content = bytearray(shard_of(kept[1]).read_bytes())
    content[int(variant * len(content))] ^= 16
    return rewritten(kept, bytes(content))


@case(89, QUARANTINED)
def a_shard_of_another_key(kept: Extracted) -> str:
    return rewritten(kept, hostile.of_another_key("", Path()))


@case(90, QUARANTINED)
def a_renamed_shard(kept: Extracted) -> str:
    path = shard_of(kept[1])
    other = path.rename(path.with_name(f"{7:032x}.h5"))
    return quarantined(kept, other)


@case(91, QUARANTINED, variants=("text without a seal", "sealed zip", "sealed pickle"))
def a_file_of_another_kind(kept: Extracted, tmp_path: Path, variant: str) -> str:
    return rewritten(kept, hostile.SHARDS[variant][0]("", tmp_path / "secret"))


def hostile_shard(kept: Extracted, tmp_path: Path, variant: str) -> str:
    """Add one with a fitting name; that its target is never opened is shown by strace (T17)."""
    key = Store(kept[1], spec()).key
    path = shard_of(kept[1]).with_name(hostile.name_of(key) + ".h5")
    path.write_bytes(hostile.SHARDS[variant][0](key, tmp_path / "secret"))
    return quarantined(kept, path)


case(
    92, QUARANTINED, title="links and storage outside",
    variants=("external link", "soft link", "external storage", "virtual dataset"),
)(hostile_shard)  # fmt: skip
case(93, QUARANTINED, title="4 TB declared", variants=("4 TB declared", "256 MB in a few kB"))(
    hostile_shard
)


@case(94, QUARANTINED, variants=tuple(hostile.ODD_FILES.values()))
def no_file_for_a_shard(
    kept: Extracted, tmp_path: Path, variant: Callable[[Path, Path], None]
) -> str:
    secret, path = tmp_path / "secret", shard_of(kept[1])
    secret.write_bytes(b"secret")
    path.unlink()
    variant(path, secret)
    assert quarantined(kept, path)
    assert secret.read_bytes() == b"secret"
    return QUARANTINED


@case(95)
def temporary_files_of_the_dead(kept: Extracted) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    name = f".tmp-{atomic.this_host()}-{ended.pid}-{1:016x}"
    shard_of(kept[1]).with_name(name).write_bytes(b"half")
    extracted(kept)
    assert [piece.path.name for piece in gc.find(kept[1])] == [name]


@case(96, "CacheWriteError", variants=("a file", "closed"))
def no_folder_to_write_to(tmp_path: Path, variant: str) -> None:
    """A folder that may be read only is used so (T30)."""
    (tmp_path / "file").write_bytes(b"a stranger's")
    cache = {"a file": tmp_path / "file", "closed": Path("/proc/featx")}[variant]
    stub.extract(stub.pixels(2, seed=1), cache)


@case(97, "CacheSpaceError", variants=(errno.ENOSPC, errno.EDQUOT))
def no_space(kept: Extracted, variant: int) -> None:
    """And the next run goes on; T9 fills a real disk."""
    shutil.rmtree(kept[1])
    writes = faults.count_calls(lambda: stub.extract(kept[0], kept[1])).index("write")
    shutil.rmtree(kept[1])
    full = faults.failing(writes, variant, for_ever=True)
    try:
        with faults.in_place(full):
            stub.extract(kept[0], kept[1])
    finally:
        assert not oracle.leftovers(kept[1])
        extracted(kept, computed=14)


@case(98, "CacheVersionError")
def a_later_format(kept: Extracted) -> None:
    mark = kept[1] / "FEATX-CACHE.json"
    mark.write_text('{"format": 99}\n')
    before = {path: path.stat().st_mtime_ns for path in kept[1].rglob("*")}
    try:
        stub.extract(*kept[:2])
    finally:
        assert {path: path.stat().st_mtime_ns for path in kept[1].rglob("*")} == before


@case(99, why="rebuilt always: the folder's name is the hash of what stood there, and proves it")
def a_damaged_key(kept: Extracted) -> None:
    path = shard_of(kept[1]).parents[1] / "key.json"
    before = path.read_bytes()
    path.write_bytes(b"{")
    extracted(kept)  # the rows do not depend on it
    shutil.rmtree(path.parent / "shards")
    extracted(kept, computed=14)
    assert path.read_bytes() == before


@case(100, variants=("statindex/*", "k-*/index"))
def a_damaged_accelerator(kept: Extracted, variant: str) -> None:
    (path,) = kept[1].glob(variant)
    before = path.read_bytes()
    path.write_bytes(os.urandom(1000))
    extracted(kept)
    assert len(path.read_bytes()) == len(before)


@case(101, variants=("TRUE", "FALSE", "BEST_EFFORT", "nonsense"))
def hdf5_locks(kept: Extracted, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", variant)
    extracted(kept)
    shutil.rmtree(kept[1])
    extracted(kept, computed=14)


@case(102, variants=("a file", "no right", "no locks"))
def no_claims(kept: Extracted, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    """Locks that always succeed or never answer are T10."""
    folder = shard_of(kept[1]).parents[1]
    for path in (folder / "shards", folder / "claims"):
        shutil.rmtree(path, ignore_errors=True)
    if variant == "a file":
        (folder / "claims").write_bytes(b"")
    elif variant == "no right":

        def refuse(*_: object) -> int:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(locks.Claims, "_opened", refuse)
    else:
        answer = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        monkeypatch.setattr(locks, "_lock", lambda *_: answer)
    extracted(kept, computed=14)


@case(103)
def a_clock_set_back(kept: Extracted, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read in the clock's past is read again; no row depends on it."""
    year = 365 * 24 * 3600 * 10**9
    now = stat_index.now_ns
    monkeypatch.setattr("featx.extraction.scan.now_ns", lambda: now() - year)
    shutil.rmtree(kept[1] / "statindex")
    extracted(kept)
    known = stat_index.KnownFiles(kept[1], kept[0])
    assert [known.find(path) for path in kept[0].rglob("*.bmp")] == [None] * len(kept[2])


@case(104)
def two_writers_of_one_block(tmp_path: Path) -> None:
    block = Block(hostile.ROWS, hostile.SHA256, np.full(hostile.N, EMBEDDING, np.uint8), [], 4)
    first, second = (Store(find_root(tmp_path), {"backbone": "x"}) for _ in range(2))
    first.publish(block)
    (path,) = tmp_path.glob("k-*/shards/*")
    before = path.read_bytes(), path.stat().st_ino
    second.publish(block)
    assert (path.read_bytes(), path.stat().st_ino) == before


@case(105, "CacheWriteError", says="removed while it was used")
def a_cache_removed_while_it_is_used(kept: Extracted) -> None:
    shutil.rmtree(kept[1])

    class Remover(stub.Thumbnail):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            shutil.rmtree(kept[1], ignore_errors=True)
            return super().run(pixels)

    stub.extract(kept[0], kept[1], Remover())


@case(106)
def a_fork_with_a_reader_open(kept: Extracted) -> None:
    store = Store(kept[1], spec())
    wanted = np.concatenate([shard.sha256 for shard in store.index.shards])
    rows, _ = store.gather(wanted, stub.DIM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads run: that is the case
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            again, missing = store.gather(wanted, stub.DIM)
            code = int(missing.any() or not np.array_equal(again, rows))
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    np.testing.assert_array_equal(store.gather(wanted, stub.DIM)[0], rows)
