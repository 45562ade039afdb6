"""The size of a run of the promises, and where its figures go."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.promises import stub
from tests.promises.processes import Processes

pytest.register_assert_rewrite(
    *(f"tests.promises.{kind}_cases" for kind in ("content", "file", "dataset", "cache"))
)

SEED = int(os.environ["FEATX_SEED"])  # drawn once a run, in the conftest above
LONG = os.environ.get("FEATX_PROMISES") == "long"


@pytest.fixture
def rng() -> random.Random:
    return random.Random(SEED)


@pytest.fixture
def scale() -> Callable[[int, int], int]:
    """Return the number for this run: the first in the quick form, the second in the long."""
    return lambda quick, long: long if LONG else quick


@pytest.fixture
def note() -> Callable[..., None]:
    """Keep a promise's figures for RESULTS.md."""

    def keep(promise: str, **figures: Any) -> None:
        out = os.environ.get("FEATX_PROMISES_OUT")
        if out:
            with Path(out).open("a") as file:
                file.write(json.dumps({"promise": promise, "figures": figures}) + "\n")

    return keep


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    with Processes() as warm:
        yield warm


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    """Return a data set, a cache that holds its rows, and the rows."""
    expected = stub.draw(tmp_path / "d", 12, seed=1)
    stub.extract(tmp_path / "d", tmp_path / "c")
    return tmp_path / "d", tmp_path / "c", expected


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Yield a folder that every user can reach, as pytest's own cannot."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
