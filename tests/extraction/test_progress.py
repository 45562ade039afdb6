"""The progress bar: it counts embeddings that are there, and no image that waits for its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tqdm.auto

import featx
from featx.cache.location import find_root
from featx.cache.locks import Claims
from featx.cache.store import Store
from featx.extraction import pipeline
from featx.extraction.api import extract_with
from featx.extraction.assembler import Entry
from featx.extraction.guard import EnvironmentGuard
from featx.extraction.progress import ProgressBar
from featx.extraction.settings import Settings
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


def test_an_image_counts_when_its_embedding_is_there(tmp_path: Path, bars: list[Any]) -> None:
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

    small = Settings(block=12, ahead=4)
    extract_with(small, tmp_path / "p", TINY, **options, runtime=Watching())
    # Before each batch no more than what was computed, kept, bad, or there twice.
    assert len(shown) >= 41 // 4
    assert max(shown) <= 8 + 2 + 2
    assert shown[0] <= 8 + 1
    (bar,) = bars
    assert (bar.n, bar.total) == (53, 53)
    assert bar.postfix == f"{41 * 1280 * 4 / 1e6:.1f} MB to cache"


def test_streams_that_count_at_once_lose_none(tmp_path: Path, bars: list[Any]) -> None:
    runtime = CountingRuntime(1)
    runtime.streams = 4
    featx.extract(np.stack(drawn(1024)), TINY, runtime=runtime, cache=tmp_path)
    assert bars[0].n == 1024


class Counted(ProgressBar):
    """Notes the counts of embeddings that are there."""

    def __init__(self) -> None:
        super().__init__(None, wanted=False)
        self.counts: list[int] = []

    def done(self, count: int, dim: int | None = None) -> None:
        self.counts.append(count)


def test_what_others_compute_counts_when_it_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(find_root(tmp_path / "cache"), {"backbone": "counting"})
    images = drawn(6)
    monkeypatch.setattr(Claims, "take", lambda self, name: None)
    waiting, working = Counted(), Counted()

    def compute(bar: Counted, claims: Claims | None) -> pipeline.Computation:
        misses = ((Entry(str(i), of_content(one), place=i), one) for i, one in enumerate(images))
        guard = EnvironmentGuard(store, 32, "float32")
        return pipeline.compute(
            misses, CountingRuntime, store, 32, guard,
            claims=claims, bar=bar, settings=Settings(block=8, ahead=4),
        )  # fmt: skip

    def others(self: Claims, names: dict[str, int], arrived: Any, patience: float) -> None:
        assert waiting.counts == []
        assert compute(working, None).computed == 6
        assert all(map(arrived, list(names)))

    monkeypatch.setattr(Claims, "wait", others)
    assert compute(waiting, Claims(store.folder / "claims")).computed == 0
    assert sum(working.counts) == sum(waiting.counts) == 6
