"""A cache that someone else wrote is refused file by file; nothing is followed."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from featx.cache import shards
from featx.cache.index import ShardIndex
from featx.cache.locks import Claims
from featx.cache.stat_index import KnownFiles
from featx.errors import CacheCorruptError, CacheCorruptWarning, CacheSecurityError
from featx.images.content_hash import of_content
from featx.maintenance import gc
from featx.storage import atomic
from tests.promises import hostile, stub

ROOT = Path(__file__).resolve().parents[2]
KEY = "k" * 64


@pytest.mark.parametrize("what", hostile.SHARDS)
def test_shard_is_refused(what: str, tmp_path: Path) -> None:
    make, error = hostile.SHARDS[what]
    content = make(KEY, tmp_path / "secret.h5")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CacheCorruptError) as caught:
        shards.decode(content, KEY, hostile.name_of(KEY))
    assert type(caught.value).__name__ == error, caught.value
    assert hostile.name_of(KEY) in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert not (tmp_path / "secret.h5.executed").exists()


@pytest.mark.parametrize("content", hostile.PIECES.values(), ids=hostile.PIECES)
def test_accelerator_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(CacheCorruptError):
        ShardIndex.unpack(content)
    assert not known_with(content, tmp_path)._known


@pytest.mark.parametrize("content", hostile.indexes().values(), ids=hostile.indexes())
def test_index_that_lies_is_refused(content: bytes) -> None:
    with pytest.raises(CacheCorruptError):
        ShardIndex.unpack(content)


def known_with(content: bytes, root: Path) -> KnownFiles:
    path = KnownFiles(root, root)._path
    assert path is not None
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return KnownFiles(root, root)


@pytest.mark.parametrize("content", hostile.known_files().values(), ids=hostile.known_files())
def test_known_files_that_lie_are_harmless(content: bytes, tmp_path: Path) -> None:
    known = known_with(content, tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x")
    names = [name for name in known._known if "\0" not in name]
    for path in [tmp_path / "a" / "b", *map(Path, names)]:
        assert known.find(path) is None


def key_folder(cache: Path) -> Path:
    (folder,) = cache.glob("k-*")
    return folder


@pytest.mark.parametrize("make", hostile.ODD_FILES.values(), ids=hostile.ODD_FILES)
@pytest.mark.parametrize("place", ["index", "statindex", "key.json"])
def test_odd_file_is_not_followed(
    place: str, make: Callable[[Path, Path], None], kept: tuple[Path, Path, np.ndarray]
) -> None:
    """As shards in case 94: neither read through nor waited for; the rows are those of before."""
    dataset, cache, expected = kept
    secret = cache.parent / "secret"
    secret.write_bytes(b"secret")
    path = {
        "index": key_folder(cache) / "index",
        "statindex": next((cache / "statindex").iterdir()),
        "key.json": key_folder(cache) / "key.json",
    }[place]
    path.unlink()
    make(path, secret)
    np.testing.assert_array_equal(stub.extract(dataset, cache).X, expected)
    assert secret.read_bytes() == b"secret"


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """Return a folder with files of the names that featx tidies away, all of them long old."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = (f".tmp-{atomic.this_host()}-{ended.pid}-{1:016x}", f"{0:032x}.h5", "index", "old.lock",
             f"{1:032x}.h5-1234", "holiday.jpg", "key.json")  # fmt: skip
    for name in names:
        (folder / name).write_bytes(b"a stranger's")
        os.utime(folder / name, (10**9, 10**9))
    return folder


def link_to(stranger: Path, cache: Path, place: str) -> Path:
    """Put a link to a stranger's folder in the place of one of the cache's own."""
    path = key_folder(cache) / place.removeprefix("k-*/") if place != "k-*" else key_folder(cache)
    path = cache / place if place == "statindex" else path
    if path.exists():
        path.rename(cache.parent / "moved")
    path.symlink_to(stranger)
    return path


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in folder.iterdir()}


@pytest.mark.parametrize("place", hostile.LINKED_FOLDERS)
@pytest.mark.parametrize("damaged", [False, True])
def test_linked_folder_is_refused(
    place: str, damaged: bool, kept: tuple[Path, Path, np.ndarray], stranger: Path
) -> None:
    """94: an extraction neither reads, writes nor moves anything through a link."""
    dataset, cache, expected = kept
    if damaged:
        next(key_folder(cache).glob("shards/*.h5")).write_bytes(b"damaged")
    path, before = link_to(stranger, cache, place), contents(stranger)
    with pytest.raises(CacheSecurityError, match="is a link.*Remove the link") as caught:
        stub.extract(dataset, cache)
    assert str(path) in str(caught.value)
    assert contents(stranger) == before
    path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheCorruptWarning)
        np.testing.assert_array_equal(stub.extract(dataset, cache).X, expected)


@pytest.mark.parametrize("place", hostile.LINKED_FOLDERS)
@pytest.mark.parametrize("command", ["ls", "verify", "gc", "compact"])
def test_commands_leave_what_a_link_leads_to_alone(
    command: str, place: str, kept: tuple[Path, Path, np.ndarray], stranger: Path
) -> None:
    from typer.testing import CliRunner

    from featx.cli import app

    _, cache, _ = kept
    link_to(stranger, cache, place)
    before = contents(stranger)
    options = {"gc": ["--yes", "--unused-days", "1"], "compact": ["--grace", "0"]}
    result = CliRunner().invoke(
        app.app, ["cache", command, "--cache", str(cache), *options.get(command, [])]
    )
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert contents(stranger) == before
    if place != "k-*":  # a linked key is no key: it is not listed at all
        assert "is a link" in result.output


def test_a_link_made_while_gc_asks_is_not_followed(
    kept: tuple[Path, Path, np.ndarray], stranger: Path
) -> None:
    _, cache, _ = kept
    folder = key_folder(cache) / "quarantine"
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"damaged")
    pieces = gc.find(cache)
    link_to(stranger, cache, "k-*/quarantine")
    before = contents(stranger)
    freed, (sentence,) = gc.remove(cache, pieces)
    assert (freed, "is a link" in sentence) == (0, True)
    assert contents(stranger) == before


def test_claims_go_without_a_linked_folder(tmp_path: Path, stranger: Path) -> None:
    (tmp_path / "claims").symlink_to(stranger)
    before = contents(stranger)
    claim = Claims(tmp_path / "claims").take("old")
    assert claim is not None
    claim.release()
    assert contents(stranger) == before


def test_the_cache_folder_itself_may_be_a_link(
    kept: tuple[Path, Path, np.ndarray], tmp_path: Path
) -> None:
    dataset, cache, expected = kept
    (tmp_path / "link").symlink_to(cache)
    runtime = stub.Thumbnail()
    np.testing.assert_array_equal(stub.extract(dataset, tmp_path / "link", runtime).X, expected)
    assert runtime.seen == 0
    assert gc.find(tmp_path / "link") == []


READ_ALL = """
import resource, sys, warnings, hashlib
from pathlib import Path
from tests.promises import stub
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    features = stub.extract(Path(sys.argv[1]), Path(sys.argv[2]))
print(hashlib.sha256(features.X.tobytes()).hexdigest())
print(len(seen), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_the_secret_is_never_opened(
    kept: tuple[Path, Path, np.ndarray], note: Callable[..., None]
) -> None:
    """92, 93: all hostile shards in one cache, watched by strace: the target is never named."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    dataset, cache, expected = kept
    secret = cache.parent / "the-secret.h5"
    with h5py.File(secret, "w") as file:
        file["features"] = np.ones((hostile.N, hostile.DIM), np.float32)
    (true_key,) = (features.spec["key"] for features in [stub.extract(dataset, cache)])
    folder = key_folder(cache) / "shards"
    for number, (make, _) in enumerate(hostile.SHARDS.values()):
        (folder / f"{number:032x}.h5").write_bytes(make(true_key, secret))
    (folder / f"{999:032x}.h5").symlink_to(secret)
    log = cache.parent / "calls"
    watched = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=file", "-o", log, sys.executable, "-c", READ_ALL,
         dataset, cache],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if "ptrace" in watched.stderr:
        pytest.skip(f"strace may not trace here: {watched.stderr.strip()}")
    assert watched.returncode == 0, watched.stderr
    digest, told, rss_mb = watched.stdout.split()
    calls = log.read_text()
    assert f"{0:032x}.h5" in calls  # strace saw the reading
    opened = calls.replace(f'readlink("{secret}', "").count("the-secret")
    assert opened == 0
    assert int(told) == len(hostile.SHARDS) + 1
    assert int(rss_mb) < 600
    assert len(list((key_folder(cache) / "quarantine").iterdir())) == len(hostile.SHARDS) + 1
    same = digest == of_content(expected.tobytes()).hex()
    note(
        "T17", hostile_shards=int(told), secret_opened=opened, rows_as_before=same,
        rss_mb=int(rss_mb),
    )  # fmt: skip
    assert same
