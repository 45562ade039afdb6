"""What every storage promises, on each implementation; a new one is added to `storage`."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from featx import errors
from featx.storage.interface import Storage
from featx.storage.local import FolderStorage
from featx.storage.memory import MemoryStorage
from featx.storage.objects import ObjectStorage


def objects(tmp_path: Path) -> Storage:
    store = pytest.importorskip("obstore.store")
    return ObjectStorage(store.MemoryStore(), "memory://bucket", tmp_path / "scratch")


@pytest.fixture(params=["folder", "memory", "objects"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    made: Storage
    if request.param == "folder":
        made = FolderStorage(tmp_path / "root")
    else:
        made = MemoryStorage() if request.param == "memory" else objects(tmp_path)
    made.make("k/shards")
    return made


def test_a_published_entry_is_read_as_it_was_written(storage: Storage) -> None:
    assert storage.publish("k/shards/a", b"content")
    content = storage.read("k/shards/a")
    assert content == b"content"
    content[0] = 0  # the reader's own
    assert storage.read("k/shards/a") == b"content"
    assert storage.publish("k/shards/empty", b"")
    assert storage.read("k/shards/empty") == b""


def test_publish_never_replaces(storage: Storage) -> None:
    assert storage.publish("k/shards/a", b"first")
    before = storage.stat("k/shards/a")
    assert not storage.publish("k/shards/a", b"second")
    assert storage.read("k/shards/a") == b"first"
    assert storage.stat("k/shards/a")[:2] == before[:2]
    assert storage.names("k/shards") == ["a"]


def test_of_many_at_once_one_publishes(storage: Storage) -> None:
    won: list[int] = []
    start = threading.Barrier(8)

    def publish(number: int) -> None:
        start.wait()
        if storage.publish("k/shards/a", bytes([number]) * 1000):
            won.append(number)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = won
    assert storage.read("k/shards/a") == bytes([winner]) * 1000
    assert storage.names("k/shards") == ["a"]


def test_names_are_those_in_the_folder_alone(storage: Storage) -> None:
    assert storage.names("absent") == []
    assert storage.names("k/shards") == []
    for name in ("k/shards/b", "k/shards/a", "k/index"):
        storage.publish(name, b"")
    assert sorted(storage.names("k/shards")) == ["a", "b"]
    assert sorted(storage.names("k")) == ["index", "shards"]


def test_what_exists(storage: Storage) -> None:
    assert not storage.exists("k/shards/a")
    storage.publish("k/shards/a", b"")
    for name in ("k/shards/a", "k/shards", "k"):
        assert storage.exists(name)
    assert not storage.exists("k/sh")


def test_an_absent_entry_is_a_file_not_found_error(storage: Storage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read("k/shards/a")
    with pytest.raises(FileNotFoundError):
        storage.read_into("k/shards/a", [memoryview(bytearray(1))])
    with pytest.raises(FileNotFoundError):
        storage.stat("k/shards/a")
    storage.remove("k/shards/a")


def test_the_token_changes_with_the_entry_and_only_then(storage: Storage) -> None:
    storage.publish("k/shards/a", b"content")
    before = storage.stat("k/shards/a")
    assert before.size == 7
    assert storage.stat("k/shards/a") == before
    storage.replace("k/shards/a", b"CONTENT")
    assert storage.stat("k/shards/a") != before
    assert all(0 <= number < 2**63 for number in before)  # an index saves them as int64


def test_parts_are_filled_one_after_the_other(storage: Storage) -> None:
    storage.publish("k/shards/a", b"abcdefgh")
    parts = [bytearray(3), bytearray(), bytearray(5)]
    storage.read_into("k/shards/a", list(map(memoryview, parts)))
    assert parts == [b"abc", b"", b"defgh"]
    for size in (7, 9):
        with pytest.raises(errors.CacheCorruptError, match="another size"):
            storage.read_into("k/shards/a", [memoryview(bytearray(size))])


def test_replace_replaces(storage: Storage) -> None:
    for content in (b"first", b"second"):
        storage.replace("k/index", content)
        assert storage.read("k/index") == content
    assert sorted(storage.names("k")) in (["index"], ["index", "shards"])


def test_the_tokens_of_a_folder_are_those_of_its_entries(storage: Storage) -> None:
    assert storage.stats("absent", "nowhere") == {}
    for name in ("k/shards/b", "k/shards/a", "k/index"):
        storage.publish(name, b"content")
    stats = storage.stats("k/shards", "k/quarantine")
    assert stats == {name: storage.stat(f"k/shards/{name}") for name in ("a", "b")}


def test_a_touch_changes_no_content(storage: Storage) -> None:
    storage.touch("k/key.json")
    assert not storage.exists("k/key.json")
    storage.publish("k/key.json", b"content")
    storage.touch("k/key.json")
    assert storage.read("k/key.json") == b"content"


def test_a_removed_entry_is_gone(storage: Storage) -> None:
    storage.publish("k/shards/a", b"first")
    storage.remove("k/shards/a")
    assert storage.names("k/shards") == []
    assert storage.publish("k/shards/a", b"second")
    assert storage.read("k/shards/a") == b"second"


def test_what_is_in_quarantine_is_absent_and_can_be_published_anew(storage: Storage) -> None:
    storage.publish("k/shards/a", b"damaged")
    storage.publish("k/shards/b", b"content")
    moved = storage.quarantine("k/shards/a", storage.stat("k/shards/a"), "k/quarantine")
    assert list(storage.stats("k/shards", "k/quarantine")) == ["b"]
    with pytest.raises(FileNotFoundError):
        storage.stat("k/shards/a")
    (name,) = storage.names("k/quarantine")
    assert name.startswith("a-")
    assert moved == storage.location(f"k/quarantine/{name}")
    assert storage.publish("k/shards/a", b"whole")
    assert storage.read("k/shards/a") == b"whole"
    stats = storage.stats("k/shards", "k/quarantine")
    assert sorted(stats) == ["a", "b"]
    assert stats["a"] == storage.stat("k/shards/a")
    assert not storage.publish("k/shards/a", b"another")


def test_a_folder_or_memory_moves_what_is_damaged(tmp_path: Path) -> None:
    folder = FolderStorage(tmp_path)
    folder.make("k/shards")
    for storage in (folder, MemoryStorage()):
        storage.publish("k/shards/a", b"damaged")
        storage.quarantine("k/shards/a", storage.stat("k/shards/a"), "k/quarantine")
        (name,) = storage.names("k/quarantine")
        assert storage.read(f"k/quarantine/{name}") == b"damaged"
        assert storage.names("k/shards") == []


def test_quarantine_leaves_what_was_published_since(storage: Storage) -> None:
    storage.publish("k/shards/a", b"damaged")
    before = storage.stat("k/shards/a")
    storage.remove("k/shards/a")
    assert storage.quarantine("k/shards/a", before, "k/quarantine") is None
    storage.publish("k/shards/a", b"content")
    assert storage.quarantine("k/shards/a", before, "k/quarantine") is None
    assert storage.read("k/shards/a") == b"content"
    assert storage.names("k/quarantine") == []


def test_what_only_saves_time_is_no_error(storage: Storage) -> None:
    assert storage.try_read("k/index") is None
    storage.try_replace("k/index", b"content")
    assert storage.try_read("k/index") == b"content"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("read", "replace"):

            def refuse(*_: object) -> None:
                raise PermissionError(13, "Permission denied")

            patch.setattr(storage, name, refuse)
        assert storage.try_read("k/index") is None
        storage.try_replace("k/index", b"other")
    assert storage.read("k/index") == b"content"


def test_space_is_checked(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.check_space("k", 1)
    monkeypatch.setattr(storage, "free_bytes", lambda folder: 10)
    storage.check_space("k", 10)
    with pytest.raises(errors.CacheSpaceError, match="has 10 bytes left; 3 images need 11"):
        storage.check_space("k", 11, "3 images need")


def test_the_hooks_are_harmless_where_all_is_well(storage: Storage) -> None:
    storage.refuse_links("k", "k/shards", "absent")
    storage.sync("k", "k/shards")
    storage.rehearse("k/shards")
    assert storage.names("k/shards") == []


def test_a_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "index").write_bytes(b"foreign")
    os.symlink(tmp_path / "elsewhere", tmp_path / "k")
    with pytest.raises(errors.CacheSecurityError, match="is a link"):
        storage.refuse_links("k")
    assert storage.try_read("k/index") is None
    storage.try_replace("k/index", b"ours")
    assert (tmp_path / "elsewhere" / "index").read_bytes() == b"foreign"
