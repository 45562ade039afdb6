"""The image contents of the table as a user meets them, and what stands beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import featx
from featx.errors import BadImagesError, ImageError
from featx.images import decoding
from tests.fakes import TINY, CountingRuntime
from tests.promises import images as made
from tests.promises.cases import HANDLED
from tests.promises.content_cases import CONTENTS, Content, written


@pytest.mark.parametrize("case", CONTENTS, ids=str)
def test_what_the_user_sees(
    case: Content, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A good image beside it keeps its row; the bad one is named by its path and reason."""
    written(case, tmp_path / "d" / "a")
    (tmp_path / "d" / "b").mkdir()
    (tmp_path / "d" / "b" / "good.png").write_bytes(made.encoded(made.pixels(seed=3), "PNG"))

    def extract(on_error: str) -> featx.Features:
        return featx.extract(
            tmp_path / "d", TINY, cache=tmp_path / "c", runtime=CountingRuntime(),
            on_error=on_error, progress=False,
        )  # fmt: skip

    features = extract("skip")
    assert features.ids[-1] == "b/good.png"
    if case.outcome == HANDLED:
        assert len(features) == 2
        assert len([note for note in features.notes if f"a/{case.name}" in note]) == len(case.kinds)
        assert [record.message for record in caplog.records] == list(features.notes)
        return
    (failure,) = features.failures
    assert (failure.id, failure.error) == (f"a/{case.name}", case.outcome)
    with pytest.raises(BadImagesError) as caught:
        extract("raise")
    assert f"a/{case.name}: {failure.reason}" in str(caught.value)
    assert "on_error='skip'" in str(caught.value)


def test_all_eight_orientations_give_the_same_pixels() -> None:
    upright = decoding.decode(made.exif_jpeg(1)).astype(int)
    for orientation in range(2, 9):
        turned = decoding.decode(made.exif_jpeg(orientation)).astype(int)
        assert np.abs(turned - upright).mean() < 2, orientation


def test_a_progressive_jpeg_of_20_scans_is_read() -> None:
    """Only hundreds of them are refused (case 43)."""
    assert decoding.decode(made.progressive_scans(10)).shape == (2000, 2000, 3)


def test_a_few_bad_ones_do_not_stop_a_small_set(tmp_path: Path) -> None:
    """Only half of many images stop it (case 85)."""
    image_set(tmp_path / "d", set(range(20)), 24)
    features = featx.extract(
        tmp_path / "d", TINY, runtime=CountingRuntime(), on_error="skip", progress=False
    )
    assert len(features) == 4


def test_no_ghostscript_for_eps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ImageError):
        decoding.decode(made.encoded(made.pixels(), "EPS"))
    assert not (tmp_path / "called").exists()


def test_the_declared_size_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "x.jpg", "wb") as file:
        file.truncate(10_000_000_000)
    before = os.times()
    with pytest.raises(ImageError, match="10,000,000,000 bytes"):
        decoding.read(tmp_path / "x.jpg")
    after = os.times()
    assert after.user + after.system - before.user - before.system < 0.5


def image_set(folder: Path, bad: set[int], total: int) -> None:
    """Write images in one order; the bad ones stand where their numbers say."""
    (folder / "a").mkdir(parents=True)
    # Not 6, a JPEG that lacks nothing but its end: with bytes behind it, it is read.
    broken = [case.make() for case in CONTENTS if case.id in range(1, 6)]
    good = [made.encoded(made.pixels(20, 24, seed=seed), "PNG") for seed in range(17)]
    for number in range(total):
        content = broken[number % len(broken)] if number in bad else good[number % len(good)]
        # What stands behind the end of an image makes it another file, and changes no pixel.
        (folder / "a" / f"{number:06d}.png").write_bytes(content + b"%d" % number)


@pytest.mark.parametrize(("count", "total"), [(1, 30), (37, 900), (500, 10_500)])
def test_bad_files_never_shift_others(
    count: int,
    total: int,
    tmp_path: Path,
    scale: Callable[[int, int], int],
    note: Callable[..., None],
) -> None:
    """T15: the good rows are those of the same images without the bad ones, and aligned."""
    if total > scale(1000, total):
        pytest.skip("in the long form only: FEATX_PROMISES=long")
    bad = set(np.random.default_rng(count).choice(total, count, replace=False).tolist())
    kept = [number for number in range(total) if number not in bad]
    image_set(tmp_path / "d", bad, total)
    mixed = featx.Dataset.from_folder(tmp_path / "d")

    def extract(dataset: featx.Dataset, name: str) -> featx.Features:
        return featx.extract(
            dataset, TINY, cache=tmp_path / name, runtime=CountingRuntime(32, 8),
            on_error="skip", progress=False,
        )  # fmt: skip

    features, alone = extract(mixed, "c1"), extract(mixed.subset(kept), "c2")
    assert features.ids == [f"a/{number:06d}.png" for number in kept]
    assert [f.id for f in features.failures] == [f"a/{number:06d}.png" for number in sorted(bad)]
    assert len(features.X) == len(features.y) == total - count
    # Bad images keep their slots, so the batches differ; rounding may differ with them.
    shifted = int((~np.isclose(features.X, alone.X, rtol=1e-5, atol=1e-4)).any(axis=1).sum())
    note("T15", bad=count, images=total, shifted=shifted)
    assert shifted == 0
