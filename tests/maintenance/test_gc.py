from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from featx.cache.location import DAY, find_root
from featx.maintenance import gc
from featx.maintenance.inventory import key_folders
from featx.runtimes import networks
from featx.storage import atomic
from featx.storage.checksummed import seal
from tests.promises import stub


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a cache with the rows of four images."""
    stub.extract(stub.pixels(4, seed=1), tmp_path / "c")
    return find_root(tmp_path / "c")


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(pieces: list[gc.Piece]) -> list[str]:
    return [piece.path.name for piece in pieces]


def test_a_cache_in_order_has_none(root: Path) -> None:
    assert gc.find(root) == []
    assert gc.remove(root, []) == (0, [])


def test_temporary_files_of_the_dead_and_of_nobody_else(root: Path) -> None:
    (key,) = key_folders(root)
    here, dead = atomic.this_host(), dead_pid()
    expected = []
    for number, place in enumerate((root, key, key / "shards", root / "statindex")):
        place.mkdir(exist_ok=True)
        ended = place / f".tmp-{here}-{dead}-{number:016x}"
        running = place / f".tmp-{here}-{os.getpid()}-{number:016x}"
        elsewhere = place / f".tmp-{'0' * 8}-{dead}-{number:016x}"
        old = place / f".tmp-{'1' * 8}-1-{number:016x}"
        for path in (ended, running, elsewhere, old):
            path.write_bytes(b"1234")
        os.utime(old, (time.time() - 2 * DAY,) * 2)
        expected += [ended.name, old.name]
    found = gc.find(root)
    assert sorted(names(found)) == sorted(expected)
    assert {piece.what for piece in found} == {"temporary file of a process that ended"}
    assert gc.remove(root, found) == (4 * len(expected), [])
    assert gc.find(root) == []
    assert (key / "shards" / f".tmp-{here}-{os.getpid()}-{2:016x}").exists()


def test_quarantine_and_old_claims(root: Path) -> None:
    (key,) = key_folders(root)
    (key / "quarantine").mkdir()
    (key / "quarantine" / "x.h5-1234").write_bytes(b"12345")
    (key / "claims").mkdir(exist_ok=True)
    for name, age in (("new.lock", 0), ("old.lock", 2 * DAY)):
        (key / "claims" / name).touch()
        os.utime(key / "claims" / name, (time.time() - age,) * 2)
    assert names(gc.find(root)) == ["x.h5-1234", "old.lock"]


def test_keys_long_unused_go_only_when_asked(root: Path, tmp_path: Path) -> None:
    (key,) = key_folders(root)
    now = time.time() + 40 * DAY
    assert gc.find(root, now=now) == []
    assert gc.find(root, unused_days=41, now=now) == []
    (piece,) = gc.find(root, unused_days=30, now=now)
    assert (piece.path, piece.what) == (key, "key not used for 40 days")
    assert piece.bytes > next((key / "shards").iterdir()).stat().st_size
    freed, refused = gc.remove(root, [piece])
    assert (freed, refused) == (piece.bytes, [])
    assert key_folders(root) == []
    # And the cache goes on as if new.
    assert len(stub.extract(stub.pixels(4, seed=1), root)) == 4


def age(folder: Path, days: float) -> None:
    """Set everything in a key's folder, and the folder, back by so many days."""
    then = time.time() - days * DAY
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (then, then))


def test_use_is_noted_at_each_run_that_only_reads(root: Path) -> None:
    (key,) = key_folders(root)
    for days in (40, 23.5 / 24, 0.1):
        age(key, days)
        stub.extract(stub.pixels(4, seed=1), root)
        assert gc.find(root, unused_days=days / 2) == []


def test_a_run_of_days_keeps_its_key(root: Path) -> None:
    (key,) = key_folders(root)
    for kept in (key / "shards", next((key / "shards").iterdir())):
        age(key, 3)
        (piece,) = gc.find(root, unused_days=2)
        os.utime(kept)  # a shard came while it was asked
        assert gc.find(root, unused_days=2) == []
        assert gc.remove(root, [piece]) == (0, [])


def test_removal_that_was_interrupted_goes_on(root: Path) -> None:
    (key,) = key_folders(root)
    key.rename(root / ".trash-0123")
    (piece,) = gc.find(root)
    assert piece.what == "key that was being removed"
    gc.remove(root, [piece])
    assert not (root / ".trash-0123").exists()


def test_a_link_is_removed_and_not_what_it_leads_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").touch()
    (key,) = key_folders(root)
    (key / "quarantine").mkdir()
    (key / "quarantine" / "link").symlink_to(tmp_path / "outside")
    gc.remove(root, gc.find(root))
    assert (tmp_path / "outside" / "x").exists()
    assert not os.path.lexists(key / "quarantine" / "link")


def test_what_cannot_be_removed_is_reported(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / f".tmp-{'0' * 8}-1-00").touch()
    os.utime(root / f".tmp-{'0' * 8}-1-00", (0, 0))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    freed, (sentence,) = gc.remove(root, gc.find(root))
    assert freed == 0
    assert "Permission denied" in sentence


@pytest.mark.parametrize("inside", ["quarantine", "shards", "claims"])
def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(
    inside: str, root: Path, tmp_path: Path
) -> None:
    """Between the look and the removal: what the link leads to stays."""
    (key,) = key_folders(root)
    (tmp_path / "precious").mkdir()
    for folder in (key / inside, tmp_path / "precious"):
        folder.mkdir(exist_ok=True)
        (folder / "x").write_text("x")
        (folder / "deep" / "deeper").mkdir(parents=True)

    def swap() -> bool:
        (key / inside).rename(tmp_path / "moved")
        (key / inside).symlink_to(tmp_path / "precious")
        return True

    for name in ("x", "deep"):
        freed, refused = gc.remove(root, [gc.Piece(key / inside / name, "x", 1, swap)])
        assert freed == 0
        assert len(refused) == 1
        assert sorted(path.name for path in (tmp_path / "precious").iterdir()) == ["deep", "x"]
        (key / inside).unlink()
        (tmp_path / "moved").rename(key / inside)
    assert gc.remove(root, [gc.Piece(key / inside / "deep", "x", 1)]) == (1, [])
    assert not (key / inside / "deep").exists()


def test_gone_meanwhile_is_no_failure(root: Path) -> None:
    piece = gc.Piece(root / "nothing", "x", 5)
    assert gc.remove(root, [piece]) == (0, [])


def test_what_was_used_while_it_was_asked_about_stays(root: Path) -> None:
    (key,) = key_folders(root)
    old, here = time.time() - 40 * DAY, atomic.this_host()
    claim = key / "claims" / "x.lock"
    claim.parent.mkdir(exist_ok=True)
    claim.touch()
    left = root / f".tmp-{'0' * 8}-1-{1:016x}"
    left.touch()
    age(key, 40)
    gone = root / f".tmp-{here}-{dead_pid()}-{2:016x}"
    gone.touch()
    for path in (key / "key.json", claim, left):
        os.utime(path, (old, old))
    pieces = [*gc.find(root, unused_days=30), *gc.find(root)]
    assert {key.name, claim.name, left.name, gone.name} == set(names(pieces))
    for path in (key / "key.json", claim, left):
        os.utime(path)  # used, held and written again before the answer came
    assert gc.remove(root, pieces) == (0, [])
    assert key.is_dir()
    assert claim.exists()
    assert left.exists()
    assert not gone.exists()


def test_a_key_of_a_later_format_is_left_alone(root: Path) -> None:
    (key,) = key_folders(root)
    later = root / ("k-" + "0" * 32)
    (later / "quarantine").mkdir(parents=True)
    (later / "key.json").write_text('{"format": 2, "backbone": "of tomorrow"}')
    (later / "quarantine" / "x").touch()
    (later / f".tmp-{'0' * 8}-1-{1:016x}").touch()
    for path in later.rglob("*"):
        os.utime(path, (10**9, 10**9))
    assert gc.find(root, unused_days=1) == []
    # And a key that another version made anew while it was asked about.
    age(key, 40)
    pieces = gc.find(root, unused_days=1)
    assert names(pieces) == [key.name]
    (key / "key.json").write_text('{"format": 2}')
    os.utime(key / "key.json", (10**9, 10**9))
    assert gc.remove(root, pieces) == (0, [])
    assert sorted(key_folders(root)) == sorted([key, later])


def test_the_network_that_version_0_1_kept_beside_the_embeddings(root: Path) -> None:
    (key,) = key_folders(root)
    (key / "openvino").write_bytes(b"a network")
    assert len(stub.extract(stub.pixels(4, seed=1), root)) == 4
    found = gc.find(root)
    assert [(piece.path, piece.what) for piece in found] == [
        (key / "openvino", "network of version 0.1")
    ]
    assert gc.remove(root, found) == (9, [])
    assert gc.find(root) == []
    (key / "openvino").symlink_to(root)
    assert gc.find(root) == [], "it is not what featx made"


@pytest.fixture
def kept(own_networks: Path) -> Path:
    """Return the file of a network that is kept."""
    networks.keep("a" * 64, lambda: seal(b'{"about": {}}\n'))
    return own_networks / ("a" * 64)


def test_networks_long_unused_go_only_when_asked(kept: Path) -> None:
    now = time.time() + 40 * DAY
    assert gc.find_networks(now=now) == []
    assert gc.find_networks(41, now) == []
    (piece,) = gc.find_networks(30, now)
    assert (piece.path, piece.what) == (kept, "network not used for 40 days")
    assert gc.remove(kept.parent, [piece]) == (piece.bytes, [])
    assert os.listdir(kept.parent) == [networks.MARKER]


def test_a_network_that_was_used_since_stays(kept: Path) -> None:
    os.utime(kept, (1, 1))
    (piece,) = gc.find_networks(1)
    assert networks.read(kept.name) is not None
    assert gc.remove(kept.parent, [piece]) == (0, [])
    assert kept.exists()


def test_temporary_files_among_networks(kept: Path) -> None:
    name = f".tmp-{atomic.this_host()}-{dead_pid()}-{0:016x}"
    (kept.parent / name).write_bytes(b"1234")
    found = gc.find_networks()
    assert names(found) == [name]
    assert gc.remove(kept.parent, found) == (4, [])


def test_nothing_else_among_networks_is_removed(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (kept.parent / "thesis.txt").write_text("dear to somebody")
    (kept.parent / ("b" * 64)).symlink_to(tmp_path / "precious")
    (kept.parent / ("c" * 64)).mkdir()
    for path in kept.parent.iterdir():
        os.utime(path, (1, 1), follow_symlinks=False)
    found = gc.find_networks(0)
    assert [piece.path for piece in found] == [kept]
    kept.unlink()
    kept.symlink_to(tmp_path / "precious")
    assert gc.remove(kept.parent, found) == (0, [])
    assert (tmp_path / "precious").read_bytes() == b"precious"
    (kept.parent / networks.MARKER).unlink()
    assert gc.find_networks(0) == [], "without its mark the folder is not looked at"
