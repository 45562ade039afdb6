"""The table of slow tests names tests that exist, and the mark reaches them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import SLOW

TESTS = Path(__file__).resolve().parent


@pytest.mark.parametrize("entry", SLOW)
def test_what_is_slow_exists(entry: str) -> None:
    path, _, name = entry.partition("::")
    text = (TESTS / path).read_text(encoding="utf-8")
    assert not name or re.search(rf"^def {name}\(", text, re.MULTILINE)
