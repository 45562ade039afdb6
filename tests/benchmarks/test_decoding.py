"""The table of decoding: measured in a tiny form, through public names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")
def test_a_tiny_table(tmp_path: Path) -> None:
    out = tmp_path / "decoding.json"
    done = subprocess.run(
        [
            sys.executable, "benchmarks/decoding.py", "--megapixels", "0.02", "0.3", "--turns", "1",
            "--formats", "JPEG", "AVIF", "PNG 16 grey",
            "--decoders", "featx, auto", "OpenCV, area", "OpenCV, 1/4", "--out", str(out),
        ],
        cwd=ROOT, env={**os.environ, "FEATX_DATASETS": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0] == "| format | megapixels | featx, auto | OpenCV, area | OpenCV, 1/4 |"
    assert [line.split("|")[1:3] for line in lines[2:]] == [
        [f" {kind} ", f" {size} "]
        for kind in ("JPEG", "AVIF", "PNG 16 grey")
        for size in ("0.02", "0.3")
    ]
    report = json.loads(out.read_text())
    assert report["photographs"] is False
    assert report["versions"]["pillow"]
    for row in report["rows"]:
        if row["decoder"] == "featx, auto":
            assert row["ms"] >= 0, row
            assert row["peak_mb"] >= 0, row
