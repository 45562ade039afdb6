from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from featx.errors import FeatxError
from featx.evaluation.report.report import Report


def test_saving_is_all_or_nothing(
    build: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = build().save(tmp_path / "a" / "report")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == ["report.html", "report.json", "report.md"]
    real = os.fsync
    calls = iter(range(100))

    def fails_at_the_third(handle: int) -> None:
        if next(calls) == 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fails_at_the_third)
    with pytest.raises(FeatxError, match="No space left on device.*is unchanged"):
        build(shares=(0.5, 0.5, 0.5)).save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_in_the_way_is_named(build: Callable[..., Report], tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    with pytest.raises(FeatxError, match="cannot be written to '.*report'"):
        build().save(tmp_path / "report")
    assert (tmp_path / "report").read_text() == "mine"


def test_the_same_results_make_the_same_bytes(build: Callable[..., Report], tmp_path: Path) -> None:
    one, two = (build().save(tmp_path / name) for name in ("one", "two"))
    for name in ("report.html", "report.md", "report.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
