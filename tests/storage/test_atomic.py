"""Files that are whole and durable, or not there: what the promises do not reach."""

from __future__ import annotations

import errno
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featx import errors
from featx.storage import atomic, folders, reading
from featx.storage.checksummed import seal
from featx.storage.local import FolderStorage


def test_publish_never_replaces(tmp_path: Path) -> None:
    assert atomic.publish(tmp_path / "x", b"first")
    assert not atomic.publish(tmp_path / "x", b"second")
    assert (tmp_path / "x").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["x"]


def test_replace_replaces_even_a_link(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "x").symlink_to(tmp_path / "other")
    atomic.replace(tmp_path / "x", b"new")
    assert not (tmp_path / "x").is_symlink()
    assert (tmp_path / "other").read_bytes() == b"other"


def test_an_accelerator_makes_no_folder(tmp_path: Path) -> None:
    """Such as a converted network, whose key was removed while it was converted."""
    FolderStorage(tmp_path / "removed" / "k-0").try_replace("openvino", b"network")
    assert not list(tmp_path.iterdir())
    FolderStorage(tmp_path).try_replace("openvino", b"network")
    assert (tmp_path / "openvino").read_bytes() == b"network"


def test_only_the_owner_may_enter(tmp_path: Path) -> None:
    folders.make(tmp_path / "a" / "b")
    atomic.publish(tmp_path / "a" / "b" / "x", b"")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "b" / "x").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(errors.CacheSecurityError):
        reading.read(path)
    assert FolderStorage(tmp_path).try_read("x") is None


def test_read_gives_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    assert bytes(reading.read(tmp_path / "x")) == b"content"
    with pytest.raises(FileNotFoundError):
        reading.read(tmp_path / "y")
    assert FolderStorage(tmp_path).try_read("y") is None


def test_no_space_is_an_error_before_a_byte_is_written(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    storage.check_space("", 1)
    with pytest.raises(errors.CacheSpaceError, match=r"has [\d,]+ bytes left.*needs 1,152"):
        storage.check_space("", 1 << 60)


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, errors.CacheSpaceError, "Free some space"),
        (errno.EDQUOT, errors.CacheSpaceError, "Free some space"),
        (errno.EFBIG, errors.CacheSpaceError, "Free some space"),
        (errno.EACCES, errors.CacheWriteError, "owner and permissions"),
        (errno.EROFS, errors.CacheWriteError, "Read-only file system"),
        (errno.EIO, errors.CacheWriteError, "FEATX_CACHE"),
    ],
)
def test_a_refusal_names_the_remedy(number: int, kind: type[Exception], words: str) -> None:
    refusal = atomic.refusal(OSError(number, os.strerror(number)), Path("/some/cache"))
    assert type(refusal) is kind
    assert words in str(refusal)
    assert "/some/cache" in str(refusal)


def test_the_state_of_a_file_shows_a_change(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1")
    before = atomic.stat_of(path)
    assert atomic.stat_of(path) == before
    path.write_bytes(b"22")
    assert atomic.stat_of(path) != before
    assert atomic.is_gone(FileNotFoundError(errno.ENOENT, ""))
    assert not atomic.is_gone(PermissionError(errno.EACCES, ""))


def test_a_large_file_without_a_seal_takes_no_memory(tmp_path: Path) -> None:
    with open(tmp_path / "x", "wb") as file:
        file.truncate(1 << 30)  # all holes
    tracemalloc.start()
    try:
        with pytest.raises(errors.CacheCorruptError, match="x has no checksum at its end"):
            reading.read(tmp_path / "x")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    content = seal(bytes(1000))
    (tmp_path / "x").write_bytes(content)
    assert reading.read(tmp_path / "x", plain_bytes=1000) == content


def test_a_file_fills_the_parts_it_is_read_into(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abcdefgh")
    parts = [bytearray(3), bytearray(), bytearray(5)]
    reading.read_into(tmp_path / "x", list(map(memoryview, parts)))
    assert parts == [b"abc", b"", b"defgh"]
    for size in (7, 9):
        with pytest.raises(errors.CacheCorruptError, match="another size"):
            reading.read_into(tmp_path / "x", [memoryview(bytearray(size))])


@pytest.mark.parametrize("write", [atomic.publish, atomic.replace], ids=["publish", "replace"])
def test_ctrl_c_while_a_file_is_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, bytes], object]
) -> None:
    made = os.open

    def interrupted(*args: Any, **kwargs: Any) -> int:
        os.close(made(*args, **kwargs))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "x", b"content")
    assert list(tmp_path.iterdir()) == []


def test_of_several_files_all_take_their_places_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name for name in "abc"]
    atomic.replace_all({path: b"before" for path in paths})
    written = os.write
    calls = iter(range(3))

    def full_at_the_third(descriptor: int, content: memoryview) -> int:
        if next(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "write", full_at_the_third)
        with pytest.raises(OSError, match="No space left"):
            atomic.replace_all({path: b"after" for path in paths})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name: b"before" for name in "abc"
    }
    atomic.replace_all({path: memoryview(b"after") for path in paths})
    assert [path.read_bytes() for path in paths] == [b"after"] * 3
    umask = os.umask(0)
    os.umask(umask)
    assert paths[0].stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_is_raised_while_a_file_is_replaced_leaves_it_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"before")

    def interrupted() -> None:
        with atomic.replacing(tmp_path / "x") as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]
