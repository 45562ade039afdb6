"""T14: mutated images give pixels or an ImageError, and never hang, swell or crash."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from featx.images import formats
from tests.promises import images as made
from tests.promises.conftest import SEED
from tests.promises.images import seeds
from tests.promises.mutations import HANG_SECONDS, mutant

ROOT = Path(__file__).resolve().parents[2]


def test_seeds_of_each_kind() -> None:
    assert {made.opened(seed).format for seed in seeds()} == set(formats.PILLOW_FORMATS) | {"TGA"}
    assert mutant(seeds(), 1, 2) == mutant(seeds(), 1, 2)


def test_only_image_errors(
    tmp_path: Path, scale: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    count = scale(2_000, 20_000)
    progress = tmp_path / "progress"
    done = subprocess.run(
        [sys.executable, "-m", "tests.promises.mutations", str(SEED), str(count), progress],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (at,) = struct.unpack("q", progress.read_bytes())
    assert done.returncode == 0, (
        f"FEATX_SEED={SEED}: mutant {at} ended the process ({done.returncode}; -27: it took over "
        f"{HANG_SECONDS} s)\n{done.stderr}"
    )
    result: dict[str, Any] = json.loads(done.stdout)
    assert not result["strange"], f"FEATX_SEED={SEED}: {result['strange'][:5]}"
    assert sum(result["outcomes"].values()) == count
    # Mutants that all fail at the first byte would try nothing.
    assert result["outcomes"]["handled"] > count / 20
    note("T14", mutants=count, **result)
