"""Another environment on a kept key: two constant images tell whether it computes the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from featx import errors
from featx.cache.location import find_root
from featx.cache.store import Store
from featx.extraction import probe
from featx.extraction.settings import Settings

from . import stub
from .jobs import spec


class Elsewhere(stub.Thumbnail):
    """Another environment, whose rows differ by a factor."""

    def __init__(self, factor: float, keras: str = "9.9.9") -> None:
        super().__init__()
        self._factor = np.float32(factor)
        self._keras = keras

    def run(self, pixels: np.ndarray) -> np.ndarray:
        return super().run(pixels) * self._factor

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "keras": self._keras}


def test_rows_that_differ_too_much_are_refused_and_both_environments_named(tmp_path: Path) -> None:
    stub.extract(stub.pixels(40, seed=1), tmp_path)
    before = sorted(tmp_path.rglob("*.h5"))
    with pytest.raises(errors.CacheEnvironmentError) as raised:
        stub.extract(stub.pixels(40, seed=2), tmp_path, Elsewhere(1.01))
    said = str(raised.value)
    assert "keras 9.9.9" in said.split("here:")[1]
    assert "cached: keras 3." in said
    assert "0.01" in said
    assert "0.001 is allowed for float32" in said
    assert "another cache folder" in said
    assert sorted(tmp_path.rglob("*.h5")) == before


def test_rows_within_the_tolerance_are_added_and_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stub.pixels(40, seed=1)
    stub.extract(first, tmp_path)
    near = Elsewhere(1.0001)
    features = stub.extract(stub.pixels(40, seed=2), tmp_path, near)
    np.testing.assert_allclose(features.X, stub.rows(stub.pixels(40, seed=2)), rtol=1e-3)
    assert features.report is not None
    assert features.report.computed == 40
    store = Store(find_root(tmp_path), spec())
    assert sorted(each["keras"] == "9.9.9" for each in store.environments()) == [False, True]
    asked: list[object] = []
    gather = Store.gather

    def counted(self: Store, sha256: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(len(sha256))
        return gather(self, sha256, dim)

    monkeypatch.setattr(Store, "gather", counted)
    stub.extract(stub.pixels(40, seed=3), tmp_path, Elsewhere(1.0001))
    assert asked == [40]  # no two rows more: a shard by this environment is there


def test_not_a_number_is_no_match(tmp_path: Path) -> None:
    stub.extract(stub.pixels(40, seed=1), tmp_path)
    with pytest.raises(errors.CacheEnvironmentError, match="nan"):
        stub.extract(stub.pixels(40, seed=2), tmp_path, Elsewhere(np.nan))


@pytest.mark.parametrize("same", [True, False], ids=["same block", "other images"])
def test_two_that_begin_at_once_on_a_new_key_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """The one that keeps its first rows last finds out, and takes them back."""
    monkeypatch.setattr(stub, "SETTINGS", Settings(block=32))
    began, go = threading.Event(), threading.Event()

    class Slow(stub.Thumbnail):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            began.set()
            assert go.wait(60)
            return super().run(pixels)

    outcomes: list[object] = []

    def attempt(pixels: np.ndarray, runtime: stub.Thumbnail) -> None:
        try:
            outcomes.append(stub.extract(pixels, tmp_path, runtime))
        except errors.CacheEnvironmentError as error:
            outcomes.append(error)

    slow = threading.Thread(target=attempt, args=(stub.pixels(40, seed=1), Slow()))
    slow.start()
    assert began.wait(60)
    pixels = stub.pixels(40, seed=2)
    if same:  # the first block of both is one, and leads with the two images
        pixels = np.concatenate([stub.pixels(40, seed=1), pixels])
    fast = threading.Thread(target=attempt, args=(pixels, Elsewhere(2.0)))
    fast.start()
    fast.join(0.5 if same else 60)  # then it waits for the slow one's first rows
    go.set()
    slow.join(60)
    fast.join(60)
    assert sum(isinstance(each, errors.CacheEnvironmentError) for each in outcomes) == 1
    assert len(outcomes) == 2
    assert len(Store(find_root(tmp_path), spec()).environments()) == 1


class _Kill(BaseException):
    pass


def killed_before_it_compared(cache: Path) -> tuple[list[Path], Path]:
    """Keep a block of one environment, and the two images of another that was killed then.

    It began at the same time: it found nothing to compare with before.

    Returns
    -------
    tuple of (list of Path, Path)
        The first's shards, and the other's.
    """
    stub.extract(stub.pixels(40, seed=1), cache)
    before = sorted(cache.rglob("*.h5"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "check", lambda *_, **__: None)
        patch.setattr(probe, "check_others", mock.Mock(side_effect=_Kill))
        with pytest.raises(_Kill):
            stub.extract(stub.pixels(40, seed=2), cache, Elsewhere(2.0))
    (foreign,) = {*cache.rglob("*.h5")} - {*before}
    return before, foreign


def test_a_kill_between_keeping_and_comparing_is_found_by_its_own_environment(
    tmp_path: Path,
) -> None:
    before, _ = killed_before_it_compared(tmp_path)
    with pytest.raises(errors.CacheEnvironmentError, match="keras 9.9.9"):
        stub.extract(stub.pixels(40, seed=3), tmp_path, Elsewhere(2.0))
    assert sorted(tmp_path.rglob("*.h5")) == before


def test_a_kill_between_keeping_and_comparing_is_found_by_another_environment(
    tmp_path: Path,
) -> None:
    _, foreign = killed_before_it_compared(tmp_path)
    with pytest.raises(errors.CacheEnvironmentError, match=f"shards/{foreign.name}"):
        stub.extract(stub.pixels(40, seed=3), tmp_path)
    foreign.unlink()
    assert len(stub.extract(stub.pixels(40, seed=3), tmp_path)) == 40


@pytest.mark.parametrize("factor", [2.0, 1.0])
def test_an_environment_whose_two_rows_were_damaged_is_compared_when_it_adds_rows(
    tmp_path: Path, factor: float
) -> None:
    stub.extract(stub.pixels(40, seed=1), tmp_path)
    leading = min(tmp_path.rglob("*.h5"), key=lambda path: path.stat().st_size)
    stub.extract(stub.pixels(40, seed=4), tmp_path)
    leading.write_bytes(b"damaged")
    with pytest.warns(errors.CacheCorruptWarning):
        stub.extract(stub.pixels(40, seed=2), tmp_path, Elsewhere(factor))
    before = sorted(tmp_path.rglob("*.h5"))
    if factor == 1.0:
        stub.extract(stub.pixels(40, seed=3), tmp_path)
        return
    with pytest.raises(errors.CacheEnvironmentError, match="keras 9.9.9"):
        stub.extract(stub.pixels(40, seed=3), tmp_path)
    assert sorted(tmp_path.rglob("*.h5")) == before


def test_each_environment_keeps_the_two_images_in_a_shard_of_their_own(tmp_path: Path) -> None:
    for number, runtime in enumerate([stub.Thumbnail(), Elsewhere(1.0001)]):
        for seed in (10 * number, 10 * number + 1):
            features = stub.extract(stub.pixels(40, seed), tmp_path, runtime)
            assert features.report is not None
            assert (features.report.images, features.report.computed) == (40, 40)
    shards = Store(find_root(tmp_path), spec()).index.shards
    both = list(probe.digests())
    own = [shard for shard in shards if shard.sha256[0].tobytes() in both]
    assert len(shards) == 6
    found = sorted([digest.tobytes() for digest in shard.sha256] for shard in own)
    assert found == sorted([both, both * 2])
    assert {shard.environment.get("keras") == "9.9.9" for shard in own} == {True, False}


def test_a_hit_in_another_environment_asks_nothing(
    tmp_path: Path, note: Callable[..., None]
) -> None:
    drawn = stub.pixels(40, seed=1)
    stub.extract(drawn, tmp_path)
    runtime = Elsewhere(2.0)
    np.testing.assert_array_equal(stub.extract(drawn, tmp_path, runtime).X, stub.rows(drawn))
    assert runtime.seen == 0


def test_a_verdict_of_another_pillow_is_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import featx
    from featx.cache import shards

    folder = tmp_path / "images"
    stub.draw(folder, 40, seed=1)
    (folder / "a" / "bad.bmp").write_bytes(b"BM no bitmap at all")

    def skip() -> featx.Features:
        return stub.extract(folder, tmp_path / "cache", on_error="skip")

    def decoded() -> list[bool]:
        from featx.images import decoding

        calls: list[bool] = []
        at_side = decoding.at_side_with_remarks

        def counted(*arguments: Any, **options: Any) -> decoding.Decoded:
            calls.append(True)
            return at_side(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(decoding, "at_side_with_remarks", counted)
            assert [failure.id for failure in skip().failures] == ["a/bad.bmp"]
        return calls

    assert len(skip().failures) == 1
    assert not decoded()
    monkeypatch.setattr(shards, "PILLOW", "99.0")
    assert len(decoded()) == 1


def test_what_an_older_pillow_refused_alone_in_its_block_gets_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import featx
    from featx.cache import shards
    from featx.images import decoding

    monkeypatch.setattr(stub, "SETTINGS", Settings(block=32))
    drawn = stub.draw(tmp_path / "p", 31, seed=1)  # with the two images: a block, and the last
    last = max((tmp_path / "p").rglob("*.bmp")).read_bytes()
    at_side = decoding.at_side_with_remarks

    def refusing(content: bytes, *rest: Any, **options: Any) -> decoding.Decoded:
        if content == last:
            raise errors.ImageDecodeError("not yet")
        return at_side(content, *rest, **options)

    def skip() -> featx.Features:
        return stub.extract(tmp_path / "p", tmp_path / "c", on_error="skip")

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "at_side_with_remarks", refusing)
        patch.setattr(shards, "PILLOW", "99.0")  # what is kept here is of another one later on
        assert len(skip().failures) == 1
    monkeypatch.setattr(shards, "PILLOW", "99.1")
    np.testing.assert_array_equal(skip().X, drawn)
