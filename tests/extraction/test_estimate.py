"""The estimate: it counts what is kept, tries the network, and keeps nothing."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import featx
from featx.cli.app import app
from featx.extraction.estimate import SAMPLE, estimate
from featx.runtimes import forget

TINY = featx.Backbone("mobilenet_v2", weights=None, image_size=32)


@pytest.fixture
def anew() -> None:
    """Let no network of another test serve this one."""
    forget()
    gc.collect()


def test_nothing_is_kept_and_nothing_is_made(
    image_folder: Path, own_cache: Path, own_networks: Path
) -> None:
    cost = estimate(image_folder, TINY)
    assert (cost.images, cost.cached, cost.exact) == (24, 0, True)
    assert cost.seconds > 0
    assert cost.start_seconds > 0
    assert cost.images_per_second == pytest.approx(24 / (cost.seconds - cost.start_seconds))
    assert 24 * 1280 * 4 <= cost.bytes_to_cache <= 1.1 * 24 * 1280 * 4
    assert cost.features_bytes == 24 * 1280 * 4
    assert (cost.device, cost.cache) == ("cpu", str(own_cache))
    assert not own_cache.exists()
    assert not own_networks.exists()


def test_what_is_told_is_what_the_disk_gets(
    image_folder: Path, own_networks: Path, anew: None
) -> None:
    cost = estimate(image_folder, TINY)
    featx.extract(image_folder, TINY, progress=False)
    kept = [path.stat().st_size for path in own_networks.glob("*") if len(path.name) == 64]
    assert cost.network_bytes == pytest.approx(sum(kept), rel=1e-3)
    assert bool(cost.network_bytes) == bool(kept)
    again = estimate(image_folder, TINY)
    assert (again.bytes_to_cache, again.network_bytes, again.start_seconds) == (0, 0, 0.0)


def test_a_network_that_is_kept_is_not_kept_again(image_folder: Path, anew: None) -> None:
    featx.extract(image_folder / "blue", TINY, progress=False)
    assert estimate(image_folder, TINY).network_bytes == 0
    forget()
    gc.collect()
    assert estimate(image_folder, TINY).network_bytes == 0


def test_an_empty_folder_becomes_a_cache_and_a_foreign_one_does_not(
    image_folder: Path, tmp_path: Path
) -> None:
    empty, foreign, file = tmp_path / "empty", tmp_path / "foreign", tmp_path / "file"
    empty.mkdir()
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("dear to somebody")
    file.write_text("a file")
    assert estimate(image_folder, TINY, cache=empty).images == 24
    assert not list(empty.iterdir())
    for cache in (foreign, file, file / "below"):
        with pytest.raises(featx.errors.CacheError) as told:
            estimate(image_folder, TINY, cache=cache)
        with pytest.raises(featx.errors.CacheError) as refused:
            featx.extract(image_folder, TINY, cache=cache, progress=False)
        assert type(told.value) is type(refused.value)


def test_a_folder_that_cannot_be_written_is_refused_before_the_network_starts(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write anywhere: what the system says of others is said for it.
    asked: list[object] = []
    monkeypatch.setattr("os.access", lambda path, mode: bool(asked.append(path)))
    monkeypatch.setattr("featx.runtimes.start", None)
    with pytest.raises(featx.errors.CacheWriteError, match="cannot be written at"):
        estimate(image_folder, TINY, cache=tmp_path / "a" / "b")
    assert asked == [tmp_path]


def test_a_disk_that_is_too_small_is_told_with_the_figures(
    image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.storage.folders.free_bytes", lambda folder: 1_000_000)
    arguments = ["extract", str(image_folder), "-b", "mobilenet_v2", "--weights", "none"]
    answer = CliRunner().invoke(app, [*arguments, "--image-size", "32", "--dry-run"])
    assert "1.0 MB free" in answer.stdout
    assert answer.exit_code == 1
    assert answer.stderr.startswith("Error: the disk of the cache")
    assert "has 1.0 MB left, and" in answer.stderr


def test_what_is_kept_is_found_under_any_name(image_folder: Path, tmp_path: Path) -> None:
    featx.extract(image_folder / "blue", TINY, progress=False)
    cost = estimate(image_folder, TINY)
    assert (cost.images, cost.cached) == (24, 8)


def test_all_kept_costs_nothing_and_starts_no_network(
    image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    featx.extract(image_folder, TINY, progress=False)
    monkeypatch.setattr("featx.runtimes.start", None)
    cost = estimate(image_folder, TINY)
    assert (cost.cached, cost.seconds, cost.bytes_to_cache, cost.runtime) == (24, 0.0, 0, None)


def test_many_unread_files_are_sampled(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    featx.extract(pixels[:10], TINY, progress=False)
    cost = estimate(np.tile(pixels, (20, 1, 1, 1)), TINY)
    assert SAMPLE < 600
    assert not cost.exact
    assert 150 <= cost.cached <= 250


def test_bad_images_are_no_obstacle(image_folder: Path) -> None:
    (image_folder / "red" / "bad.png").write_bytes(b"\x89PNG no more")
    assert estimate(image_folder, TINY).images == 25


def test_the_command_prints_it_and_stops(image_folder: Path, own_cache: Path) -> None:
    arguments = ["extract", str(image_folder), "-b", "mobilenet_v2", "--weights", "none"]
    answer = CliRunner().invoke(app, [*arguments, "--image-size", "32", "--dry-run"])
    assert answer.exit_code == 0, answer.output
    for text in (
        "images      24",
        "cached      0",
        "to compute  24",
        "to start the network, then",
        "images/s",
        "on cpu",
    ):
        assert text in answer.stdout
    assert not own_cache.exists()


def test_the_bar_shows_what_the_cache_will_grow_by(capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 16, 16, 3), dtype=np.uint8)
    featx.extract(pixels, TINY, progress=True)
    shown = capsys.readouterr().err
    assert "img/s" in shown
    assert f"{1500 * 1280 * 4 / 1e6:,.1f} MB to cache" in shown
