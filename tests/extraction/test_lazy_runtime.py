"""The runtime of an extraction: started once, and again with smaller batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx import runtimes
from featx.cache.location import find_root
from featx.cache.store import Store
from featx.datasets.dataset import as_dataset
from featx.errors import OutOfMemoryError
from featx.extraction.lazy_runtime import MAX_HALVINGS, LazyRuntime
from featx.runtimes import Runtime
from tests.fakes import TINY, CountingRuntime

SHORTAGE = OutOfMemoryError("no memory")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the batch sizes that runtimes are started with."""
    sizes: list[int] = []

    def start(backbone: Any, batch_size: int | None, *_: Any) -> Runtime:
        sizes.append(batch_size or 256)
        return CountingRuntime(sizes[-1])

    monkeypatch.setattr(runtimes, "start", start)
    return sizes


def lazy(folder: Path, asked: str | Runtime = "auto", batch_size: int | None = None) -> LazyRuntime:
    store = Store(find_root(folder), TINY.spec())
    dataset = as_dataset(np.ones((1, 32, 32, 3), np.uint8))
    return LazyRuntime(TINY, batch_size, asked, store, dataset)


def test_nothing_is_started_or_made_before_it_is_needed(tmp_path: Path, started: list[int]) -> None:
    runtime = lazy(tmp_path)
    assert (started, runtime.name) == ([], None)
    assert not list(tmp_path.glob("k-*"))
    assert runtime.start() is runtime.start()
    assert (started, runtime.name) == ([256], "counting")


def test_each_shortage_halves_the_batch_until_no_smaller_one_is_tried(
    tmp_path: Path, started: list[int]
) -> None:
    runtime = lazy(tmp_path)
    for _ in range(MAX_HALVINGS):
        runtime.start()
        runtime.shrink(SHORTAGE)
    runtime.start()
    with pytest.raises(OutOfMemoryError):
        runtime.shrink(SHORTAGE)
    assert started == [256, 128, 64, 32, 16, 8, 4]


def test_a_batch_of_one_and_the_users_own_runtime_are_not_halved(
    tmp_path: Path, started: list[int]
) -> None:
    for runtime in (lazy(tmp_path, batch_size=1), lazy(tmp_path, CountingRuntime())):
        runtime.start()
        with pytest.raises(OutOfMemoryError):
            runtime.shrink(SHORTAGE)
    assert started == [1]
