"""The commands that look after a cache: what they print, what they do, their exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import featx
from featx.cache.location import find_root
from featx.cache.shards import Block
from featx.cache.store import Store
from featx.cli import app
from featx.images.preparation import Preparation
from featx.maintenance.inventory import key_folders
from featx.runtimes import networks
from featx.storage import atomic
from featx.storage.checksummed import pack
from tests.conftest import draw_folder

TINY = featx.Backbone("mobilenet_v2", weights=None, image_size=32)


def run(*args: str | Path, answer: str = "") -> Any:
    result = CliRunner().invoke(app.app, [str(arg) for arg in args], input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def fill(cache: Path, images: Path) -> Path:
    for label in ("blue", "green", "red"):
        featx.extract(images / label, TINY, cache=cache, progress=False)
    return cache


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache that no test changes: 24 images in three shards, and that of the probes."""
    return fill(
        tmp_path_factory.mktemp("filled") / "cache",
        draw_folder(tmp_path_factory.mktemp("images") / "images"),
    )


@pytest.fixture
def cache(own_cache: Path, filled: Path) -> Path:
    """Return a copy of the filled cache."""
    return shutil.copytree(filled, own_cache)


def shards_of(cache: Path) -> list[Path]:
    (folder,) = key_folders(cache)
    return sorted((folder / "shards").glob("*.h5"))


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("command", ["ls", "verify", "gc", "compact"])
def test_where_there_is_no_cache_none_is_made(command: str, own_cache: Path) -> None:
    result = run("cache", command)
    assert result.exit_code == 0
    assert str(own_cache) in result.stdout
    assert result.stdout.startswith("Nothing")
    assert not own_cache.exists()


@pytest.mark.parametrize("command", ["ls", "verify", "gc", "compact"])
def test_a_folder_that_is_not_a_cache(command: str, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    result = run("cache", command, "--cache", tmp_path)
    assert result.exit_code == 1
    assert "not a featx cache" in result.stderr
    assert (tmp_path / "mine").exists()


def test_ls(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run("cache", "ls")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["key", "network", "options", "embeddings", "MB", "used"]
    assert re.search(r"mobilenet_v2 +32 px  untrained +26 +\d+\.\d +\d{4}-\d\d-\d\d$", lines[1])
    assert any("computed by" in line and "pillow" in line for line in lines)
    assert max(map(len, lines[:2])) <= 80


def test_verify_finds_a_flipped_bit_and_the_embeddings_come_back(
    cache: Path, image_folder: Path
) -> None:
    before = featx.extract(image_folder, TINY, progress=False).X
    assert run("cache", "verify").exit_code == 0
    damage(shards_of(cache)[0])
    result = run("cache", "verify")
    assert result.exit_code == 1
    assert "3 shards intact, 1 damaged" in result.stdout
    assert "not have the content that was sealed" in result.stdout
    assert run("cache", "verify").exit_code == 0
    np.testing.assert_allclose(
        featx.extract(image_folder, TINY, progress=False).X, before, rtol=1e-4, atol=1e-5
    )


def test_verify_does_not_print_that_it_moved_what_it_could_not(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    damage(shards_of(cache)[0])
    monkeypatch.setattr(atomic, "quarantine", refuse)
    result = run("cache", "verify")
    assert result.exit_code == 1
    assert "3 shards intact, 1 damaged" in result.stdout
    assert "cannot be quarantined" in result.stdout
    assert "  quarantined;" not in result.stdout


def test_verify_recomputes_embeddings(cache: Path) -> None:
    result = run("cache", "verify", "--recompute", "5", "--seed", "1")
    assert result.exit_code == 0, result.output
    assert "--seed 1" in result.stdout
    assert "5 of 26 embeddings recomputed, 0 differ" in result.stdout


def test_verify_prints_which_embeddings_it_cannot_recompute(
    own_cache: Path, image_folder: Path, tmp_path: Path
) -> None:
    fill(own_cache, image_folder)
    image_folder.rename(tmp_path / "moved")
    result = run("cache", "verify", "--recompute", "5")
    assert result.exit_code == 1, result.output
    assert "none of 26 embeddings was recomputed" in result.stderr
    assert "24 are missing or changed; name their folder" in result.stderr
    assert run("cache", "verify").exit_code == 0
    named = run("cache", "verify", tmp_path / "moved", "--recompute", "99")
    assert "24 of 26 embeddings recomputed" in named.stdout
    assert "the images of 2 embeddings are unknown" in named.stdout


def test_verify_finds_embeddings_of_another_network(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Well sealed, and wrong: only recomputing can show it."""
    from featx.runtimes import Runtime

    class Wrong(Runtime):
        name = "wrong"
        batch_size = 4

        def run(self, pixels: np.ndarray) -> np.ndarray:
            return np.ones((4, 1280), np.float32)

    monkeypatch.setattr("featx.maintenance.recompute.runtimes.start", lambda *a, **k: Wrong())
    monkeypatch.setattr(
        "featx.maintenance.recompute.recompute.__defaults__", (lambda *a, **k: Wrong(),)
    )
    result = run("cache", "verify", "--recompute", "3")
    assert result.exit_code == 1
    assert "3 of 26 embeddings recomputed, 3 differ" in result.stdout
    assert ".png: " in result.stdout


def test_verify_names_weights_it_lacks(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("featx.backbones.keras_models.UNTRAINED", "another scheme")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    result = run("cache", "verify", "--recompute", "3")
    assert result.exit_code == 1
    assert "no embedding was recomputed: its weights are not on disk" in result.stderr


def test_verify_of_a_key_with_missing_fields(own_cache: Path) -> None:
    store = Store(find_root(own_cache), {"backbone": "resnet50", "pixels": Preparation().policy()})
    store.publish(Block(np.ones((1, 4), np.float32), np.ones((1, 32), np.uint8),
                        np.zeros(1, np.uint8), [], 4))  # fmt: skip
    result = run("cache", "verify", "--recompute", "3")
    assert result.exit_code == 1
    assert "does not say its weights and layer and pooling and side" in result.stderr


def test_verify_of_no_embeddings(own_cache: Path) -> None:
    Store(find_root(own_cache), {"backbone": "resnet50"}).prepare(0)
    assert run("cache", "verify", "--recompute", "3").exit_code == 0


def leftovers(cache: Path) -> list[Path]:
    (folder,) = key_folders(cache)
    made = [
        folder / "shards" / f".tmp-{atomic.this_host()}-4194305-0123456789abcdef",
        folder / "quarantine" / "x.h5-1234",
    ]
    for path in made:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(1000))
    return made


@pytest.mark.parametrize(("answer", "stays"), [("n\n", True), ("y\n", False)])
def test_gc_shows_and_asks(cache: Path, answer: str, stays: bool) -> None:
    made = leftovers(cache)
    result = run("cache", "gc", answer=answer)
    assert result.exit_code == 0
    for path in made:
        assert path.name in result.stdout
        assert path.exists() is stays
    assert ("Nothing was removed." if stays else "Freed") in result.stdout
    assert len(shards_of(cache)) == 4


def test_gc_without_an_answer_removes_nothing(cache: Path) -> None:
    made = leftovers(cache)
    assert run("cache", "gc").exit_code == 1
    assert all(path.exists() for path in made)
    assert run("cache", "gc", "--yes").exit_code == 0
    assert not any(path.exists() for path in made)
    assert run("cache", "gc").stdout.startswith("Nothing to remove")


def test_gc_of_a_network_long_unused(cache: Path) -> None:
    (folder,) = key_folders(cache)
    assert run("cache", "gc", "--unused-days", "30", "--yes").stdout.startswith("Nothing")
    for path in folder.rglob("*"):
        os.utime(path, (10**9, 10**9))
    result = run("cache", "gc", "--unused-days", "30", "--yes")
    assert "key not used for" in result.stdout
    assert key_folders(cache) == []


@pytest.fixture
def kept(own_networks: Path) -> Path:
    """Return the file of a network that this machine keeps."""
    about = networks.about(networks.network_of(TINY))
    networks.keep("a" * 64, lambda: pack({}, {"made": about}))
    return own_networks / ("a" * 64)


def test_ls_lists_the_networks_that_this_machine_keeps(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("cache", "ls").stdout.splitlines()
    assert lines[0].startswith("Nothing is cached in")
    assert lines[1].split() == ["kept", "network", "options", "MB", "used"]
    assert re.search(r"mobilenet_v2 +32 px  untrained +0\.0 +\d{4}-\d\d-\d\d$", lines[2])
    assert "for all caches of this machine" in lines[3]
    found = json.loads(run("cache", "ls", "--json").stdout)["networks"]
    assert found["folder"] == str(kept.parent)
    (one,) = found["kept"]
    assert (one["file"], one["network"]) == (kept.name, "mobilenet_v2")
    assert one["versions"]["keras"]


def test_gc_of_networks_that_this_machine_keeps(kept: Path, cache: Path) -> None:
    os.utime(kept, (10**9, 10**9))
    assert run("cache", "gc", "--yes").stdout.startswith("Nothing to remove")
    result = run("cache", "gc", "--unused-days", "30", answer="n\n")
    assert f"Remove these from {kept.parent} (" in result.stdout
    assert kept.exists()
    found = json.loads(run("cache", "gc", "--unused-days", "30", "--json", "--yes").stdout)
    assert [Path(one["path"]) for one in found["found"]] == [kept]
    assert found["freed"] == found["found"][0]["bytes"]
    assert not kept.exists()
    assert key_folders(cache), "the cache itself was in use"


def test_gc_of_networks_where_there_is_no_cache(kept: Path, own_cache: Path) -> None:
    os.utime(kept, (10**9, 10**9))
    assert "network not used for" in run("cache", "gc", "--unused-days", "30", "--yes").stdout
    assert not kept.exists()
    assert not own_cache.exists()


def test_compact(cache: Path, image_folder: Path) -> None:
    before = featx.extract(image_folder, TINY, progress=False).X
    result = run("cache", "compact", "--grace", "0")
    assert result.exit_code == 0, result.output
    assert "1 shards written, 4 removed, 1 in total" in result.stdout
    features = featx.extract(image_folder, TINY, progress=False)
    np.testing.assert_array_equal(features.X, before)
    assert features.report is not None
    assert features.report.computed == 0
    assert "0 shards written, 0 removed" in run("cache", "compact", "--grace", "0").stdout


def test_a_damaged_key_is_reported(cache: Path, tmp_path: Path) -> None:
    (folder,) = key_folders(cache)
    (folder / "key.json").write_text("x")
    assert "is damaged" in run("cache", "ls").stderr
    assert run("cache", "verify").exit_code == 1
    featx.extract(draw_folder(tmp_path / "more", 1), TINY, progress=False)
    assert run("cache", "verify").exit_code == 0


@pytest.mark.parametrize("command", ["verify", "compact --grace 0"])
def test_one_network_that_cannot_be_read_does_not_hide_the_others(
    command: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featx.cache.store import Store
    from featx.errors import CacheVersionError

    featx.extract(np.full((2, 32, 32, 3), 7, np.uint8), replace(TINY, image_size=48),
                  progress=False)  # fmt: skip
    later = min(folder.name for folder in key_folders(cache))
    check = Store.verify

    def refuse(store: Store) -> None:
        if store.folder.name == later:
            raise CacheVersionError("a shard has format 2")
        check(store)

    monkeypatch.setattr(Store, "verify", refuse)
    result = run("cache", *command.split())
    assert result.exit_code == 1
    assert "format 2" in result.stderr
    assert re.search(r"shards intact, 0 damaged|in total", result.stdout)


def test_an_embedding_that_cannot_be_recomputed_is_reported(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featx.errors import RuntimeUnavailableError
    from featx.maintenance import recompute

    def refuse(*_: Any) -> None:
        raise RuntimeUnavailableError("no runtime here")

    monkeypatch.setattr(recompute, "recompute", refuse)
    result = run("cache", "verify", "--recompute", "2")
    assert result.exit_code == 1
    assert "no embedding was recomputed: no runtime here" in result.stderr


def test_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featx.maintenance.doctor import Finding

    monkeypatch.setattr(
        "featx.maintenance.doctor.examine", lambda place: [Finding("flock", "good", "yes")]
    )
    result = run("doctor", tmp_path)
    assert result.exit_code == 0
    assert result.stdout == f"ok    flock: yes\n{tmp_path}: fit.\n"
    monkeypatch.setattr(
        "featx.maintenance.doctor.examine", lambda place: [Finding("fsync", "poor", "no")]
    )
    result = run("doctor", tmp_path)
    assert result.exit_code == 1
    assert result.stdout.startswith("FAIL  fsync: no\n")
