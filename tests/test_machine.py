"""featx.machine: memory of the machine, and of a container with less."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from featx import machine


def test_free_memory_is_below_all_memory() -> None:
    everything = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < machine.free_memory() <= machine.memory() <= everything


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    limit, used = tmp_path / "max", tmp_path / "current"
    limit.write_text("1000\n")
    used.write_text("300\n")
    containers = ((str(limit), str(used)),)
    assert machine.memory(containers) == 1000
    assert machine.free_memory(containers) == 700
    limit.write_text("max\n")
    assert machine.memory(containers) > 1000
    assert machine.free_memory(containers) > 1000


def test_a_system_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert machine.memory([]) == 8 << 30
