"""The table of slow tests names tests that exist, and the mark reaches them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SLOW

TESTS = Path(__file__).resolve().parent


@pytest.mark.parametrize("entry", SLOW)
def test_what_is_slow_exists(entry: str) -> None:
    path, _, name = entry.partition("::")
    text = (TESTS / path).read_text(encoding="utf-8")
    assert not name or re.search(rf"^def {name}\(", text, re.MULTILINE)


def test_what_has_not_begun_in_time_is_skipped_by_name() -> None:
    one = "tests/test_labels.py"
    words = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-rs", "-p", "no:cacheprovider", one]
    done = subprocess.run(
        words,
        cwd=TESTS.parent,
        env={**os.environ, "FEATX_TESTS_MINUTES": "0", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "not begun within the 0 minutes of FEATX_TESTS_MINUTES" in done.stdout
    assert " passed" not in done.stdout
