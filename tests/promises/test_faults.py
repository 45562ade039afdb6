"""Disks that fail, fill up or may not be written: a typed error, nothing half, and it goes on."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest

import featx
from featx import errors, machine
from featx.cache.stat_index import KnownFiles
from featx.cache.store import Store
from featx.extraction import probe
from featx.extraction.settings import DEFAULT, Settings
from featx.storage import atomic

from . import faults, oracle, stub
from .processes import Processes


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub, "SETTINGS", Settings(block=32))


def test_t5_every_call_fails_once_and_for_ever(
    tmp_path: Path,
    rng: random.Random,
    scale: Callable[[int, int], int],
    note: Callable[..., None],
    small_blocks: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: 0)  # rows go to a file
    images = tmp_path / "images"
    rows = stub.draw(images, 40, seed=5)
    truth = oracle.truth_of_files(images, rows)
    listed = featx.Dataset.from_folder(images)  # the cache's calls shall fail, not the listing's
    names = faults.count_calls(lambda: stub.extract(listed, tmp_path / "calm"))
    calm = oracle.shards(tmp_path / "calm")
    (probes,) = (
        name
        for name, content in calm.items()
        if {digest for digest, _ in oracle.kept(content)} == set(probe.digests())
    )
    cases = list(faults.cases(names))
    chosen = cases if scale(0, 1) else rng.sample(cases, 120)
    outcomes: Counter[str] = Counter()
    for at, error, for_ever in chosen:
        cache = tmp_path / "cache"
        about = f"call {at}, {errno.errorcode.get(error, 'short')}, {for_ever=}"
        faulty = faults.failing(at, error, for_ever=for_ever)
        try:
            with faults.in_place(faulty), warnings.catch_warnings():
                warnings.simplefilter("ignore", errors.CacheCorruptWarning)
                features = stub.extract(listed, cache)
        except errors.CacheError as raised:
            outcomes[type(raised).__name__] += 1
            full = (errno.ENOSPC, errno.EDQUOT)
            if isinstance(raised, errors.CacheSpaceError):
                assert error in full, about
            elif isinstance(raised, errors.CacheWriteError):
                assert error not in (*full, 0), about
        else:
            outcomes["done"] += 1
            np.testing.assert_array_equal(features.X, rows, err_msg=about)
        # Two blocks are on their way at a time: the call of a number is not the same each time.
        failed = faulty.names[at] if at < len(faulty.names) else "none"
        about = f"{about}: {failed}"
        assert not oracle.judge(oracle.shards(cache), truth), about
        if failed != "unlink":
            assert not oracle.leftovers(cache), about
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.CacheCorruptWarning)
            np.testing.assert_array_equal(stub.extract(listed, cache).X, rows, err_msg=about)
        found = oracle.shards(cache)
        assert {**calm, **found} == calm, about
        # Probe images that were quarantined are computed when the network runs again.
        assert calm.keys() - found.keys() <= {probes}, about
        shutil.rmtree(cache)
    note("T5", calls=len(names), cases=len(chosen), **outcomes)
    assert outcomes["CacheWriteError"]
    assert outcomes["CacheSpaceError"]


def test_a_failed_fsync_is_followed_by_a_new_file(tmp_path: Path) -> None:
    opened: list[str] = []
    failed: list[int] = []

    def hook(number: int, name: str, args: tuple[object, ...]) -> None:
        if name == "open":
            opened.append(os.path.basename(str(args[0])))
        if name == "fsync" and not failed:
            failed.append(number)
            raise OSError(errno.EIO, "Input/output error")

    with faults.in_place(faults.FaultyOs(hook)):
        assert atomic.publish(tmp_path / "x", b"content")
    first, second = (name for name in opened if name.startswith(".tmp-"))
    assert first != second
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(
    "error", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES]
)
def test_without_hard_links_a_rename_publishes(tmp_path: Path, error: int) -> None:
    def hook(number: int, name: str, args: tuple[object, ...]) -> None:
        if name == "link":
            raise OSError(error, os.strerror(error))

    drawn = stub.pixels(40, seed=6)
    with faults.in_place(faults.FaultyOs(hook)) as shim:
        features = stub.extract(drawn, tmp_path / "cache")
        assert atomic.publish(tmp_path / "x", b"first")
        assert not atomic.publish(tmp_path / "x", b"second")
    assert "rename" in shim.names
    assert (tmp_path / "x").read_bytes() == b"first"
    np.testing.assert_array_equal(features.X, stub.rows(drawn))
    assert not oracle.leftovers(tmp_path)


def test_a_link_that_was_made_and_reported_as_failed_counts(tmp_path: Path) -> None:
    """A network file system's answer is lost; the repeated request finds the link it made."""

    def hook(number: int, name: str, args: tuple[object, ...]) -> None:
        if name == "link":
            os.link(str(args[0]), str(args[1]))
            raise FileExistsError(errno.EEXIST, "File exists")

    with faults.in_place(faults.FaultyOs(hook)):
        assert atomic.publish(tmp_path / "x", b"content")
    assert os.listdir(tmp_path) == ["x"]


def test_a_folder_that_cannot_be_synced_for_want_of_the_call_is_no_failure(tmp_path: Path) -> None:
    def hook(number: int, name: str, args: tuple[object, ...]) -> None:
        if name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    with faults.in_place(faults.FaultyOs(hook)):
        assert atomic.publish(tmp_path / "x", b"content")


def test_a_temporary_file_that_somebody_removed_is_written_again(tmp_path: Path) -> None:
    removed: list[str] = []

    def hook(number: int, name: str, args: tuple[object, ...]) -> None:
        if name == "link" and not removed:
            removed.append(str(args[0]))
            os.unlink(str(args[0]))

    drawn = stub.pixels(40, seed=21)
    with faults.in_place(faults.FaultyOs(hook)):
        features = stub.extract(drawn, tmp_path / "cache")
    assert removed
    np.testing.assert_array_equal(features.X, stub.rows(drawn))
    removed.clear()
    with faults.in_place(faults.FaultyOs(hook)):
        assert atomic.publish(tmp_path / "x", b"content")
    assert (tmp_path / "x").read_bytes() == b"content"
    assert sorted(os.listdir(tmp_path)) == ["cache", "x"]


def test_a_key_folder_that_was_tidied_away_is_made_again(tmp_path: Path) -> None:
    """As when a network that could not be built takes its empty folder away beside us."""
    removed: list[Path] = []

    def hook(number: int, name: str, args: tuple[object, ...]) -> None:
        if name == "link" and str(args[1]).endswith(".h5") and not removed:
            removed.append(Path(str(args[1])).parents[1])
            shutil.rmtree(removed[0])

    drawn = stub.pixels(40, seed=22)
    with faults.in_place(faults.FaultyOs(hook)):
        np.testing.assert_array_equal(stub.extract(drawn, tmp_path / "cache").X, stub.rows(drawn))
    assert (removed[0] / "key.json").is_file()


@pytest.mark.parametrize("all_of_it", [True, False])
@pytest.mark.parametrize(
    ("place", "name"),
    [(stub.Thumbnail, "run"), (KnownFiles, "remember"), (Store, "gather")],
)
def test_a_cache_that_was_removed_under_way_can_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: type, name: str, all_of_it: bool
) -> None:
    """Nothing is left in its place that would be somebody else's files to the next run."""
    cache = tmp_path / "cache"
    expected = stub.draw(tmp_path / "images", 40, seed=24)
    if place is not stub.Thumbnail:
        stub.extract(tmp_path / "images", cache)
    step = getattr(place, name)
    one_at_a_time = Lock()

    def removed(*args: Any) -> Any:
        with one_at_a_time:
            shutil.rmtree(cache, ignore_errors=True)
            if not all_of_it:
                cache.mkdir(exist_ok=True)
        return step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, removed)
        with suppress(errors.CacheError):
            stub.extract(tmp_path / "images", cache)
    assert not cache.exists() or not os.listdir(cache)
    np.testing.assert_array_equal(stub.extract(tmp_path / "images", cache).X, expected)


def test_a_damaged_shard_that_cannot_be_moved_has_a_reason(tmp_path: Path) -> None:
    drawn = stub.pixels(40, seed=23)
    stub.extract(drawn, tmp_path / "cache")
    shard = next((tmp_path / "cache").rglob("shards/*.h5"))
    shard.write_bytes(b"damaged")

    def hook(number: int, name: str, args: tuple[object, ...]) -> None:
        if name == "rename":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with (
        faults.in_place(faults.FaultyOs(hook)),
        pytest.warns(errors.CacheCorruptWarning, match=r"cannot be moved.*Input/output error"),
        pytest.raises(errors.CacheWriteError, match="remove it"),
    ):
        stub.extract(drawn, tmp_path / "cache")


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("again", [False, True])
def test_a_good_shard_that_comes_as_a_damaged_one_goes_stays(
    tmp_path: Path, links: bool, again: bool
) -> None:
    """Another process set the damaged one aside, and published: between our look and our move."""
    drawn = stub.pixels(40, seed=25)
    stub.extract(drawn, tmp_path / "cache")
    shard = next((tmp_path / "cache").rglob("shards/*.h5"))
    good = shard.read_bytes()
    shard.write_bytes(b"damaged")
    meanwhile: list[str] = []

    def hook(number: int, name: str, args: tuple[Any, ...]) -> None:
        if name == "rename" and name not in meanwhile:
            os.rename(shard, tmp_path / "damaged")
            shard.write_bytes(good)
        if name == "link" and "quarantine" in str(args[0]):
            if again:  # and a third process publishes it, before ours is back
                shard.write_bytes(good)
            if not links:
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        meanwhile.append(name)

    state = atomic.stat_of(shard)
    with faults.in_place(faults.FaultyOs(hook)):
        quarantine = shard.parents[1] / "quarantine"
        assert atomic.quarantine(tmp_path / "cache", shard, state, quarantine) is None
    assert shard.read_bytes() == good
    assert len(list((tmp_path / "cache").rglob("quarantine/*"))) == again
    runtime = stub.Thumbnail()
    stub.extract(drawn, tmp_path / "cache", runtime)
    assert runtime.seen == 0


def can_mount() -> bool:
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


def test_t9_a_full_disk_is_an_error_and_no_loss(tmp_path: Path, note: Callable[..., None]) -> None:
    """A small tmpfs is filled by some of the rows; then it grows."""
    if not can_mount():
        pytest.skip("no right to mount a tmpfs here; the limit on file sizes is tried instead")
    images = tmp_path / "images"
    rows = stub.draw(images, 5000, seed=7)
    mount, log, out = tmp_path / "mount", tmp_path / "log", tmp_path / "out.h5"
    mount.mkdir()
    cache = mount / "cache"
    job = (
        "import sys; from tests.promises import jobs; "
        f"sys.exit(jobs.fill_up({str(images)!r}, {str(cache)!r}, "
        f"{str(log)!r}, save={str(mount / 'out.h5')!r}))"
    )
    # After each run: its exit code, the temporary files and shards that are there, the rows that
    # the network gave so far.
    script = f"""
        look() {{
            echo $1 $2 $(ls -a {cache}/k-*/shards | grep -c tmp) $(ls {cache}/k-*/shards | wc -l) \
                 $(awk '{{n += $2}} END {{print n}}' {log}) \
                 $(ls -a {mount} | grep -c -e out.h5 -e tmp)
        }}
        mount -t tmpfs -o size=3500k tmpfs {mount}
        $1 -c "{job}"; look during $?
        $1 -c "{job}"; look before $?
        mount -o remount,size=6500k {mount}
        $1 -c "{job}"; look saving $?
        mount -o remount,size=64m {mount}
        $1 -c "{job}"; look done $?
        cp {mount}/out.h5 {out}
    """
    answer = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, "-", sys.executable],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    said = {
        line.split()[0]: list(map(int, line.split()[1:])) for line in answer.stdout.splitlines()
    }
    from featx import Features

    same = out.exists() and np.array_equal(Features.load(out).X, rows)
    during, before, saving, done = (said[name] for name in ("during", "before", "saving", "done"))
    note(
        "T9", exit_codes=[during[0], before[0], saving[0], done[0]], left_half=during[1],
        shards_kept=during[2], rows_before_the_second_refusal=before[3] - during[3],
        rows_computed_twice=done[3] - len(rows), same_after_resume=same,
    )  # fmt: skip
    assert [during[0], before[0], saving[0], done[0]] == [3, 3, 4, 0], answer.stderr
    assert during[2] > 0
    # Most of the request is still missing: that is said before anything is computed.
    assert before[1:4] == during[1:4]
    assert [each[1] for each in said.values()] == [0, 0, 0, 0]
    assert saving[4] == 0
    assert same
    assert done[3] - len(rows) <= DEFAULT.block + 2


def test_t9_files_that_may_not_grow(
    tmp_path: Path, processes: Processes, note: Callable[..., None]
) -> None:
    images = tmp_path / "images"
    stub.draw(images, 300, seed=8)
    options = {
        "dataset": str(images),
        "cache": str(tmp_path / "cache"),
        "log": str(tmp_path / "log"),
    }
    code = processes.run("fill_up", limit=100_000, **options)
    # The shard of the probe images is small enough.
    shards = oracle.shards(tmp_path / "cache")
    left = [name for name, content in shards.items() if not oracle.is_whole(content)]
    left += oracle.leftovers(tmp_path / "cache")
    assert len(shards) == 1
    note("T9 (file size limit)", exit_code=code, left_half=len(left))
    assert (code, left) == (3, [])
    assert processes.run("fill_up", **options) == 0
    save = str(tmp_path / "out.h5")
    assert processes.run("fill_up", limit=100_000, save=save, **options) == 4
    assert not [*tmp_path.glob("*out.h5*"), *tmp_path.glob(".tmp-*")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_t30_read_only_and_foreign_caches(
    open_folder: Path, processes: Processes, note: Callable[..., None]
) -> None:
    images, more = open_folder / "images", open_folder / "more"
    stub.draw(images, 40, seed=9)
    stub.draw(more, 40, seed=10)
    cache = open_folder / "cache"
    stub.extract(images, cache)
    shutil.rmtree(cache / "statindex", ignore_errors=True)
    foreign = {"cache": str(cache), "log": ""}
    # Root's cache, which only root may enter.
    closed = processes.run("as_nobody", dataset=str(images), **foreign)
    for path in [cache, *cache.rglob("*")]:
        os.chown(path, 65534, 65534)
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in [cache, *cache.rglob("*")]}
    read = processes.run("as_nobody", dataset=str(images), **foreign)
    written = processes.run("as_nobody", dataset=str(more), **foreign)
    untouched = {path: path.stat().st_mtime_ns for path in [cache, *cache.rglob("*")]} == before
    # A damaged shard that cannot be moved away is looked past; its rows cannot be kept.
    shard = next(cache.rglob("shards/*.h5"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    os.chown(shard, 65534, 65534)
    damaged = processes.run("as_nobody", dataset=str(images), **foreign)
    name = {0: "done", 3: "CacheWriteError", 4: "CacheError"}
    note(
        "T30", foreign_and_closed=name[closed], read_only_hit=name[read],
        read_only_miss=name[written], read_only_damaged=name[damaged], untouched=untouched,
    )  # fmt: skip
    assert closed in (3, 4)
    assert (read, written, untouched) == (0, 3, True)
    assert damaged in (3, 4)


def test_t30_without_a_folder_to_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATX_CACHE", "/proc/featx")
    with pytest.raises(errors.CacheWriteError, match="FEATX_CACHE"):
        stub.extract(stub.pixels(2, seed=0), None)


def test_a_cache_removed_while_it_is_used(tmp_path: Path, small_blocks: None) -> None:
    cache = tmp_path / "cache"

    class Remover(stub.Thumbnail):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            while cache.exists():  # the next block's claim may come between two of its steps
                shutil.rmtree(cache, ignore_errors=True)
            return super().run(pixels)

    with pytest.raises(errors.CacheWriteError, match="removed while it was used"):
        stub.extract(stub.pixels(100, seed=1), cache, Remover())
    assert not cache.exists()
