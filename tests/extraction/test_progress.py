"""The progress bar: it counts rows that are there, and no image that only waits for its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tqdm.auto

import featx
from featx.cache.locks import Claims
from featx.cache.store import Store, find_root
from featx.extraction import blocks
from featx.extraction.blocks import BlockWriter
from featx.images.content_hash import of_content
from tests.fakes import TINY, CountingRuntime


def drawn(count: int, seed: int = 0) -> list[np.ndarray]:
    pixels = np.random.default_rng(seed).integers(1, 255, (count, 32, 32, 3), dtype=np.uint8)
    return list(pixels)


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every bar that was made, the real ones."""
    made: list[Any] = []

    class Noted(tqdm.auto.tqdm):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(tqdm.auto, "tqdm", Noted)
    return made


def save(folder: Path, images: list[np.ndarray]) -> None:
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for number, one in enumerate(images):
        Image.fromarray(one).save(folder / f"{len(list(folder.iterdir())):03}-{number}.png")


def test_a_image_counts_when_its_row_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bars: list[Any]
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 12)
    monkeypatch.setattr(blocks, "AHEAD", 4)
    kept, new = drawn(8), drawn(41, seed=1)
    save(tmp_path / "p", kept)
    options: dict[str, Any] = {"cache": tmp_path / "c", "on_error": "skip"}
    featx.extract(tmp_path / "p", TINY, **options, runtime=CountingRuntime(), progress=False)
    save(tmp_path / "p", [*new, new[3], new[3]])
    for name in ("0-bad.png", "999-bad.png"):
        (tmp_path / "p" / name).write_bytes(b"\x89PNG no more")
    shown: list[int] = []

    class Watching(CountingRuntime):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            if bars:
                shown.append(bars[-1].n - 4 * len(shown))
            return super().run(pixels)

    featx.extract(tmp_path / "p", TINY, **options, runtime=Watching())
    # Before each batch no more than what was computed, kept, bad, or there twice.
    assert len(shown) >= 41 // 4
    assert max(shown) <= 8 + 2 + 2
    assert shown[0] <= 8 + 1
    (bar,) = bars
    assert (bar.n, bar.total) == (53, 53)
    assert bar.postfix == f"{41 * 1280 * 4 / 1e6:.1f} MB to keep"


def test_streams_that_count_at_once_lose_none(tmp_path: Path, bars: list[Any]) -> None:
    runtime = CountingRuntime(1)
    runtime.streams = 4
    featx.extract(np.stack(drawn(1024)), TINY, runtime=runtime, cache=tmp_path)
    assert bars[0].n == 1024


def test_what_others_compute_counts_when_it_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 8)
    monkeypatch.setattr(blocks, "AHEAD", 4)
    store = Store(find_root(tmp_path / "cache"), {"backbone": "counting"})
    images = drawn(6)
    counted: list[int] = []
    monkeypatch.setattr(Claims, "take", lambda self, name: None)

    def writer(claims: Claims | None) -> BlockWriter:
        return BlockWriter(
            store, CountingRuntime, 32, claims=claims, done=lambda count: counted.append(count)
        )

    def give(writer: BlockWriter) -> None:
        for number, one in enumerate(images):
            assert writer.add(str(number), of_content(one), one)

    waiting = writer(Claims(store.folder / "claims"))
    waiting._known.set()
    give(waiting)
    other = writer(None)
    give(other)
    other.finish()
    other.close()
    assert counted == [4, 2]

    waiting.finish()
    waiting.close()
    assert sum(counted) == 12
