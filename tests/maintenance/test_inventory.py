from __future__ import annotations

import json
from pathlib import Path

import pytest

from featx.cache.location import chosen, existing_root, find_root
from featx.cache.store import Store
from featx.errors import CacheCorruptError, CacheError, CacheKeyMismatchError, CacheVersionError
from featx.maintenance.inventory import key_folders, list_keys, open_key, options_of, size_of
from tests.promises import stub


@pytest.fixture
def root(tmp_path: Path) -> Path:
    stub.extract(stub.pixels(4, seed=1), tmp_path / "c")
    return find_root(tmp_path / "c")


def test_stock_of_one_key(root: Path) -> None:
    (kept,) = list_keys(root)
    assert kept.store is not None
    assert (kept.embeddings, kept.bad, kept.problem) == (6, 0, "")  # four, and the two of the probe
    assert [e["runtime"] for e in kept.environments] == ["thumbnail"]
    assert kept.bytes == sum(p.stat().st_size for p in kept.folder.rglob("*") if p.is_file())
    assert kept.last_used == (kept.folder / "shards").stat().st_mtime


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", CacheCorruptError),
        (b"[]", CacheCorruptError),
        (b"{}", CacheCorruptError),
        (b"[" * 100_000, CacheCorruptError),
        (b"x" * (2 << 20), CacheCorruptError),
        (b'{"format": 99}', CacheVersionError),
        (b'{"format": 1, "backbone": "other"}', CacheKeyMismatchError),
        (None, CacheError),
    ],
)
def test_key_that_cannot_be_used(root: Path, text: bytes | None, error: type[CacheError]) -> None:
    (folder,) = key_folders(root)
    (folder / "key.json").unlink()
    if text is not None:
        (folder / "key.json").write_bytes(text)
    with pytest.raises(error):
        open_key(folder)
    (kept,) = list_keys(root)
    assert kept.store is None
    assert kept.problem
    assert kept.embeddings == kept.bad == 0
    assert kept.environments == []


def test_links_and_files_are_no_keys(root: Path, tmp_path: Path) -> None:
    (folder,) = key_folders(root)
    (root / "k-link").symlink_to(folder)
    (root / "k-file").touch()
    assert key_folders(root) == [folder]


def test_looking_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert existing_root(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "named"))
    assert chosen() == tmp_path / "named"
    assert existing_root() is None
    with pytest.raises(CacheError, match="not a featx cache"):
        existing_root(tmp_path)


@pytest.mark.parametrize(
    ("mark", "error"),
    [({"format": 99}, CacheVersionError), ("[", CacheCorruptError)],
)
def test_marks_that_are_not_known(root: Path, mark: object, error: type[CacheError]) -> None:
    text = mark if isinstance(mark, str) else json.dumps(mark)
    (root / "FEATX-CACHE.json").write_text(text)
    with pytest.raises(error):
        existing_root(root)


def test_size_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(bytes(10))
    (tmp_path / "d" / "self").symlink_to(tmp_path / "d")
    assert size_of(tmp_path / "d") == 10 + (tmp_path / "d" / "self").lstat().st_size
    assert size_of(tmp_path / "nothing") == 0


def test_a_key_of_another_hand_is_listed_or_named(root: Path) -> None:
    assert (
        options_of({"backbone": "golden", "weights": "none", "side": 32}) == "32 px  weights none"
    )
    assert options_of({"weights": 5, "side": [], "precision": 7}) == "[] px  weights 5  7"
    (folder,) = key_folders(root)
    nameless = Store(root, {})
    nameless.prepare(0)
    assert [bool(kept.problem) for kept in list_keys(root)] == [
        path == nameless.folder for path in key_folders(root)
    ]
    assert nameless.folder != folder
