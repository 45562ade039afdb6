"""The store: what is published is found, by whoever asks, and nothing else is."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx import errors
from featx.cache.location import MARKER
from featx.cache.shards import ROW, Block, block_id
from featx.cache.store import Store, find_root
from featx.storage import atomic, folders

RECIPE = {"backbone": "none"}


def draw(first: int, n: int = 6, dim: int = 5, environment: str = "here") -> Block:
    sha256 = np.frombuffer(
        b"".join(hashlib.sha256(bytes([first + i])).digest() for i in range(n)), np.uint8
    ).reshape(-1, 32)
    rows = np.random.default_rng(first).standard_normal((n, dim), dtype=np.float32)
    return Block(rows, sha256, np.full(n, ROW, np.uint8), [], 4, {"runtime": environment})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(find_root(tmp_path / "cache"), RECIPE)


def test_rows_come_back_in_any_order_with_repeats(store: Store) -> None:
    first, second = draw(0), draw(10)
    store.publish(first)
    store.publish(second)
    store.refresh()
    wanted = np.concatenate([second.sha256[::-1], first.sha256, second.sha256[:1]])
    rows, missing = store.gather(wanted, 5)
    assert not missing.any()
    np.testing.assert_array_equal(
        rows, np.concatenate([second.features[::-1], first.features, second.features[:1]])
    )
    _, missing = store.gather(draw(20).sha256, 5)
    assert missing.all()


def test_another_process_finds_them_and_another_key_does_not(store: Store) -> None:
    block = draw(0)
    store.publish(block)
    assert (Store(store.root, RECIPE).find(block.sha256) >= 0).all()
    assert (Store(store.root, {"backbone": "other"}).find(block.sha256) < 0).all()


def test_a_block_is_published_once(store: Store) -> None:
    other = Store(store.root, RECIPE)
    store.publish(draw(0))
    before = os.stat(next(store.folder.rglob("*.h5")))
    other.publish(draw(0))
    after = os.stat(next(store.folder.rglob("*.h5")))
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    other.refresh()
    assert (other.find(draw(0).sha256) >= 0).all()


def test_a_damaged_shard_of_another_process_gives_way(store: Store) -> None:
    block = draw(0)
    store.publish(block)
    path = next(store.folder.rglob("*.h5"))
    path.write_bytes(b"damaged")
    other = Store.__new__(Store)
    with pytest.warns(errors.CacheCorruptWarning, match="moved to"):
        other.__init__(store.root, RECIPE)  # type: ignore[misc]
    path.write_bytes(b"damaged again")
    with pytest.warns(errors.CacheCorruptWarning, match="moved to"):
        other.publish(block)
    other.refresh()
    np.testing.assert_array_equal(other.gather(block.sha256, 5)[0], block.features)
    assert len(list(store.folder.rglob("quarantine/*"))) == 2


def test_adopt(store: Store) -> None:
    block = draw(0)
    name = block_id(store.key, 4, block.sha256)
    assert store.adopt(name) is None
    Store(store.root, RECIPE).publish(block)
    facts = store.adopt(name)
    assert facts is not None
    assert facts.environment == {"runtime": "here"}


def test_environments_are_named_once_each(store: Store) -> None:
    assert store.environments() == []
    for first, where in ((0, "here"), (10, "there"), (20, "here")):
        store.publish(draw(first, environment=where))
    assert sorted(each["runtime"] for each in store.environments()) == ["here", "there"]


def test_rows_of_two_widths_are_refused(store: Store) -> None:
    store.publish(draw(0))
    store.publish(draw(10, dim=7))
    with pytest.raises(errors.CacheCorruptError, match=r"rows of \[7\] numbers where 5"):
        store.gather(draw(0).sha256, 5)


@pytest.mark.parametrize("dim", [5, None])
def test_a_shard_of_another_width_is_set_aside(store: Store, dim: int | None) -> None:
    """Well sealed, with rows that this network cannot have given: the others are served."""
    for first in (0, 10, 20):
        store.publish(draw(first))
    store.publish(draw(30, dim=7))
    store.save_index()
    with pytest.warns(errors.CacheCorruptWarning, match="rows of 7 numbers.*moved to"):
        again = Store(store.root, RECIPE, dim)
    np.testing.assert_array_equal(again.gather(draw(10).sha256, 5)[0], draw(10).features)
    assert len(again.damaged) == 1
    assert Store(store.root, RECIPE, dim).damaged == {}


def test_the_width_of_the_network_decides_and_not_the_number_of_rows(store: Store) -> None:
    store.publish(draw(0))
    with pytest.warns(errors.CacheCorruptWarning, match="rows of 5 numbers"):
        again = Store(store.root, RECIPE, 7)
    assert again.dim is None


def test_an_index_that_lies_costs_no_shard(store: Store) -> None:
    """The index says that a shard holds other images: the shard is asked, and stays."""
    from dataclasses import replace

    block = draw(0)
    store.publish(block)
    name, facts = next(iter(store._shards.items()))
    store._shards[name] = replace(facts, sha256=draw(50).sha256)
    store.save_index()
    liar = Store(store.root, RECIPE)
    _, missing = liar.gather(draw(50).sha256, 5)
    assert missing.all()
    rows, missing = liar.gather(block.sha256, 5)
    assert not missing.any()
    np.testing.assert_array_equal(rows, block.features)
    assert not list(store.folder.rglob("quarantine/*"))


def test_a_damaged_key_file_is_written_anew(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.publish(draw(0))
    path = store.folder / "key.json"
    whole = path.read_bytes()
    path.write_bytes(b"damaged")
    store.publish(draw(10))
    assert path.read_bytes() == whole
    assert "was damaged and is written anew" in caplog.text


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
def test_a_damaged_mark_says_what_belongs_there(tmp_path: Path, content: bytes) -> None:
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


def test_a_key_tidied_away_at_any_moment_is_made_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``gc --unused-days`` does beside a run."""
    for name, module in (("make_durable", folders), ("check_space", folders), ("rehearse", atomic)):
        step = getattr(module, name)

        def tidied(*args: Any, step: Any = step, name: str = name) -> None:
            monkeypatch.setattr(atomic if name == "rehearse" else folders, name, step)
            shutil.rmtree(store.folder)
            step(*args)

        monkeypatch.setattr(module, name, tidied)
        store.prepare(1)
        assert (store.folder / "key.json").is_file()


def test_what_was_adopted_may_be_tidied_away(store: Store) -> None:
    Store(store.root, RECIPE).publish(draw(0))
    store.adopt(block_id(store.key, 4, draw(0).sha256))
    shutil.rmtree(store.folder)
    store.save_index()
    assert not store.folder.exists()  # and an index alone is no key
    store.refresh()
    assert (store.find(draw(0).sha256) < 0).all()
