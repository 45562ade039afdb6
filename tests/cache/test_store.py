"""The store: what is published is found, by whoever asks, and nothing else is."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx import errors
from featx.cache.index import ShardIndex
from featx.cache.location import MARKER, find_root
from featx.cache.shards import EMBEDDING, Block, block_id
from featx.cache.store import Store
from featx.storage.interface import Stat, Storage
from featx.storage.local import FolderStorage
from featx.storage.memory import MemoryStorage
from featx.storage.objects import ObjectStorage
from tests.promises import hostile

SPEC = {"backbone": "none"}


def draw(first: int, n: int = 6, dim: int = 5, environment: str = "here") -> Block:
    sha256 = np.frombuffer(
        b"".join(hashlib.sha256(bytes([first + i])).digest() for i in range(n)), np.uint8
    ).reshape(-1, 32)
    rows = np.random.default_rng(first).standard_normal((n, dim), dtype=np.float32)
    return Block(rows, sha256, np.full(n, EMBEDDING, np.uint8), [], 4, {"runtime": environment})


class Place:
    """A cache of one kind of storage, opened as often as there are processes that use it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.storage: Storage
        if kind == "folder":
            self.root = find_root(folder / "cache")
            self.storage = FolderStorage(self.root)
        else:
            self.root = folder / "nowhere"
            self.storage = MemoryStorage()
            if kind == "objects":
                store = pytest.importorskip("obstore.store")
                self.storage = ObjectStorage(store.MemoryStore(), "memory://bucket", self.root)
            self.storage.publish(MARKER, b'{"format": 1}\n')

    def open(self, spec: dict[str, Any] = SPEC, dim: int | None = None) -> Store:
        return Store(self.storage, spec, dim)

    def list(self, folder: str = "shards", spec: dict[str, Any] = SPEC) -> list[str]:
        """Return the full names of what may be used in a folder of the key, sorted."""
        prefix = self.open(spec).folder.name
        names = self.storage.stats(f"{prefix}/{folder}", f"{prefix}/quarantine")
        return sorted(f"{prefix}/{folder}/{name}" for name in names)


@pytest.fixture(params=["folder", "memory", "objects"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path)


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Place("folder", tmp_path).open()


def test_embeddings_come_back_in_any_order_with_repeats(store: Store) -> None:
    first, second = draw(0), draw(10)
    store.publish(first)
    store.publish(second)
    store.refresh()
    wanted = np.concatenate([second.sha256[::-1], first.sha256, second.sha256[:1]])
    X, missing = store.gather(wanted, 5)
    assert not missing.any()
    np.testing.assert_array_equal(
        X, np.concatenate([second.features[::-1], first.features, second.features[:1]])
    )
    _, missing = store.gather(draw(20).sha256, 5)
    assert missing.all()


def test_another_process_finds_them_and_another_key_does_not(place: Place) -> None:
    block = draw(0)
    place.open().publish(block)
    assert (place.open().find(block.sha256) >= 0).all()
    assert (place.open({"backbone": "other"}).find(block.sha256) < 0).all()


def test_a_block_is_published_once(place: Place, store: Store) -> None:
    other = place.open()
    store.publish(draw(0))
    (name,) = place.list()
    before = place.storage.stat(name)
    other.publish(draw(0))
    assert place.storage.stat(name)._replace(version=0) == before._replace(version=0)
    other.refresh()
    assert (other.find(draw(0).sha256) >= 0).all()


def test_the_saved_index_spares_reading_shards(place: Place, store: Store) -> None:
    store.publish(draw(0))
    store.save_index()
    read = []

    class Watched(type(place.storage)):
        def read(self, name: str) -> bytearray:
            read.append(name.split("/")[-1])
            return super().read(name)

    place.storage.__class__ = Watched
    assert (place.open().find(draw(0).sha256) >= 0).all()
    assert read == ["index"]


def test_a_damaged_shard_of_another_process_gives_way(place: Place, store: Store) -> None:
    block = draw(0)
    store.publish(block)
    (name,) = place.list()
    place.storage.replace(name, b"damaged")
    with pytest.warns(errors.CacheCorruptWarning, match="quarantined as"):
        other = place.open()
    place.storage.replace(name, b"damaged again")
    with pytest.warns(errors.CacheCorruptWarning, match="quarantined as"):
        other.publish(block)
    other.refresh()
    np.testing.assert_array_equal(other.gather(block.sha256, 5)[0], block.features)
    moved = [bytes(place.storage.read(each)) for each in place.list("quarantine")]
    if isinstance(place.storage, ObjectStorage):  # a list of which state of which is damaged
        assert len(moved) == 2
    else:
        assert sorted(moved) == [b"damaged", b"damaged again"]


def test_a_shard_that_cannot_be_moved_away_is_looked_past_and_named(
    place: Place, store: Store
) -> None:
    block = draw(0)
    store.publish(block)
    (name,) = place.list()
    place.storage.replace(name, b"damaged")

    class Closed(type(place.storage)):
        def quarantine(self, name: str, stat: Stat, folder: str) -> str | None:
            raise PermissionError(13, "Permission denied")

    place.storage.__class__ = Closed
    with pytest.warns(errors.CacheCorruptWarning, match=r"cannot be moved.*Permission denied"):
        other = place.open()
    assert other.ignored == {name.split("/")[-1]}
    with (
        pytest.warns(errors.CacheCorruptWarning),
        pytest.raises(errors.CacheWriteError, match="is damaged and cannot be moved away"),
    ):
        other.publish(block)


@pytest.mark.parametrize("step", [1, -1], ids=["in one piece", "one by one"])
def test_what_is_gathered_is_verified_whatever_the_index_believes(
    place: Place, store: Store, step: int
) -> None:
    block = draw(0)
    store.publish(block)
    store.refresh()
    (name,) = place.list()
    content = place.storage.read(name)
    content[len(content) // 2] ^= 1
    place.storage.replace(name, bytes(content))
    with pytest.warns(errors.CacheCorruptWarning, match="quarantined as"):
        _, missing = store.gather(block.sha256[::step], 5)
    assert missing.all()
    assert len(place.list("quarantine")) == 1


@pytest.mark.parametrize(
    "how", ["another key", "another name", "text", "external link", "unsealed"]
)
def test_a_shard_that_is_not_this_keys_is_quarantined(place: Place, store: Store, how: str) -> None:
    block = draw(0)
    store.publish(block)
    (good,) = place.list()
    content = bytes(place.storage.read(good))
    foreign = good[:-35] + f"{7:032x}.h5"
    if how == "another key":
        other = place.open({"backbone": "other"})
        other.publish(draw(30))
        (name,) = place.list(spec={"backbone": "other"})
        foreign = good[:-35] + name[-35:]
        content = bytes(place.storage.read(name))
    elif how == "text":
        content = b"text"
    elif how == "external link":
        content = hostile.SHARDS["external link"][0](store.key, Path("/etc/passwd"))
        foreign = good[:-35] + hostile.name_of(store.key) + ".h5"
    elif how == "unsealed":
        content = content[:-40]
    place.storage.publish(foreign, content)
    with pytest.warns(errors.CacheCorruptWarning, match="quarantined as"):
        again = place.open()
    assert place.list() == [good]
    assert list(again.damaged) == [foreign.split("/")[-1]]
    np.testing.assert_array_equal(again.gather(block.sha256, 5)[0], block.features)


def test_a_block_of_another_process_can_be_loaded(place: Place, store: Store) -> None:
    block = draw(0)
    name = block_id(store.key, 4, block.sha256)
    assert store.load(name) is None
    place.open().publish(block)
    shard = store.load(name)
    assert shard is not None
    assert shard.environment == {"runtime": "here"}
    np.testing.assert_array_equal(store.read(f"{name}.h5").features, block.features)


def test_a_withdrawn_block_is_gone(place: Place, store: Store) -> None:
    store.publish(draw(0))
    for _ in range(2):
        store.withdraw(block_id(store.key, 4, draw(0).sha256))
    assert place.list() == []
    store.refresh()
    assert (store.find(draw(0).sha256) < 0).all()


def test_environments_are_named_once_each(store: Store) -> None:
    assert store.environments() == []
    for first, where in ((0, "here"), (10, "there"), (20, "here")):
        store.publish(draw(first, environment=where))
    assert sorted(each["runtime"] for each in store.environments()) == ["here", "there"]


def test_embeddings_of_two_widths_are_refused(store: Store) -> None:
    store.publish(draw(0))
    store.publish(draw(10, dim=7))
    with pytest.raises(errors.CacheCorruptError, match=r"embeddings of \[7\] numbers where 5"):
        store.gather(draw(0).sha256, 5)


@pytest.mark.parametrize("dim", [5, None])
def test_a_shard_of_another_width_is_quarantined(
    place: Place, store: Store, dim: int | None
) -> None:
    """Well sealed, with embeddings that this network cannot have given: the others are served."""
    for first in (0, 10, 20):
        store.publish(draw(first))
    store.publish(draw(30, dim=7))
    store.save_index()
    with pytest.warns(errors.CacheCorruptWarning, match="embeddings of 7 numbers.*quarantined as"):
        again = place.open(dim=dim)
    np.testing.assert_array_equal(again.gather(draw(10).sha256, 5)[0], draw(10).features)
    assert len(again.damaged) == 1
    assert place.open(dim=dim).damaged == {}


def test_the_width_of_the_network_decides_and_not_the_number_of_embeddings(
    place: Place, store: Store
) -> None:
    store.publish(draw(0))
    with pytest.warns(errors.CacheCorruptWarning, match="embeddings of 5 numbers"):
        again = place.open(dim=7)
    assert again.dim is None


def test_an_index_that_lies_costs_no_shard(place: Place, store: Store) -> None:
    """The index says that a shard holds other images: the shard is asked, and stays."""
    block = draw(0)
    store.publish(block)
    store.save_index()
    name = f"{store.folder.name}/index"
    (shard,) = ShardIndex.unpack(place.storage.read(name)).shards
    place.storage.replace(name, ShardIndex([replace(shard, sha256=draw(50).sha256)]).pack())
    liar = place.open()
    _, missing = liar.gather(draw(50).sha256, 5)
    assert missing.all()
    X, missing = liar.gather(block.sha256, 5)
    assert not missing.any()
    np.testing.assert_array_equal(X, block.features)
    assert place.list("quarantine") == []


def test_a_damaged_key_file_is_written_anew(
    place: Place, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.publish(draw(0))
    name = f"{store.folder.name}/key.json"
    whole = place.storage.read(name)
    place.storage.replace(name, b"damaged")
    store.publish(draw(10))
    assert place.storage.read(name) == whole
    assert "was damaged and is rewritten" in caplog.text


def test_a_cache_that_was_removed_is_not_made_anew(place: Place, store: Store) -> None:
    place.storage.remove(MARKER)
    with pytest.raises(errors.CacheWriteError, match="removed while it was used"):
        store.publish(draw(0))
    assert place.list() == []


def test_too_little_space_is_an_error_before_a_byte_is_written(place: Place, store: Store) -> None:
    class Small(type(place.storage)):
        def free_bytes(self, folder: str) -> int:
            return 1000

    place.storage.__class__ = Small
    store.prepare(1000)
    with pytest.raises(errors.CacheSpaceError, match="7 new images need 1,001"):
        store.prepare(1001, "7 new images need")
    with pytest.raises(errors.CacheSpaceError, match="the next shard needs"):
        store.publish(draw(0))
    assert place.list() == []


def test_a_folder_that_featx_did_not_mark_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(errors.CacheError, match="holds other files and no FEATX-CACHE.json"):
        find_root(tmp_path)
    assert os.listdir(tmp_path) == ["holiday.jpg"]


def test_a_folder_that_is_being_marked_is_none_of_these(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1-0123").write_bytes(b"")
    assert (find_root(tmp_path) / MARKER).is_file()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(errors.CacheWriteError, match="is a file; expected a folder"):
        find_root(tmp_path / "x")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1]"])
def test_a_damaged_marker_is_an_error_with_its_right_content(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / MARKER).write_bytes(content)
    with pytest.raises(errors.CacheError, match="format"):
        find_root(tmp_path)
    assert (tmp_path / MARKER).read_bytes() == content


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "named"))
    assert find_root() == tmp_path / "named"
    assert find_root("given") == tmp_path / "given"
    monkeypatch.delenv("FEATX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert str(find_root()).startswith(str(tmp_path / "home"))
    find_root("cache")
    assert find_root() == tmp_path / "cache"


@pytest.mark.parametrize("step", ["sync", "check_space", "rehearse", "publish"])
def test_a_key_tidied_away_at_any_moment_is_made_again(local: Store, step: str) -> None:
    """As ``gc --unused-days`` does beside a run."""
    tidied: list[str] = []

    class Tidied(FolderStorage):
        def __getattribute__(self, name: str) -> Any:
            if name == step and len(tidied) < 2:
                tidied.append(name)
                shutil.rmtree(local.folder, ignore_errors=True)
            return super().__getattribute__(name)

    local.storage = Tidied(local.root)
    if step == "publish":
        local.publish(draw(0))
    else:
        local.prepare(1)
    assert tidied == [step] * 2
    assert (local.folder / "key.json").is_file()


def test_a_key_tidied_away_again_and_again_is_an_error(local: Store) -> None:
    class Tidied(FolderStorage):
        def rehearse(self, folder: str) -> None:
            shutil.rmtree(local.folder)
            super().rehearse(folder)

    local.storage = Tidied(local.root)
    with pytest.raises(errors.CacheWriteError, match="cannot be written"):
        local.prepare(1)


def test_what_was_loaded_may_be_tidied_away(local: Store) -> None:
    Store(local.root, SPEC).publish(draw(0))
    local.load(block_id(local.key, 4, draw(0).sha256))
    shutil.rmtree(local.folder)
    local.save_index()
    assert not local.folder.exists()  # and an index alone is no key
    local.refresh()
    assert (local.find(draw(0).sha256) < 0).all()
