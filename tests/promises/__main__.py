"""Run the long form of the promises and write RESULTS.md: ``python -m tests.promises``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run the tests in the long form, write what they showed, and return pytest's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.promises", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("tests", nargs="*", help="pytest arguments; all promises if not given")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures"
        environment = {
            **os.environ,
            "FEATX_PROMISES": "long",
            "FEATX_PROMISES_OUT": str(out),
            "FEATX_SEED": str(options.seed),
        }
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-n0",
            "--timeout=0",
            *(options.tests or [str(HERE)]),
        ]
        code = subprocess.run(command, cwd=HERE.parents[1], env=environment, check=False).returncode
        figures = [json.loads(line) for line in out.read_text().splitlines()]
    minutes = (time.monotonic() - began) / 60
    if not options.tests:
        text = "\n".join(_report(figures, options.seed, minutes, code)) + "\n"
        (HERE / "RESULTS.md").write_text(text)
    return code


def _report(figures: list[dict[str, Any]], seed: int, minutes: float, code: int) -> Iterator[str]:
    yield "# What the promises showed"
    yield ""
    yield f"- Date: {datetime.now(UTC):%Y-%m-%d}"
    yield f"- Command: `python -m tests.promises --seed {seed}`, {minutes:.0f} minutes"
    yield f"- Hardware: {os.cpu_count()} processors ({_processor()}), {platform.system()}"
    yield f"- Versions: {', '.join(f'{name} {number}' for name, number in _versions())}"
    yield f"- Outcome: {'every test passed' if code == 0 else f'pytest ended with code {code}'}"
    yield ""
    yield "| promise | figures |"
    yield "|---|---|"
    for entry in sorted(figures, key=lambda entry: _order(entry["promise"])):
        shown = " · ".join(
            f"{name.replace('_', ' ')} {value}" for name, value in entry["figures"].items()
        )
        yield f"| {entry['promise']} | {shown} |"


def _order(promise: str) -> tuple[int, str]:
    number = promise.split()[0].removeprefix("T")
    return (int(number) if number.isdigit() else 99), promise


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def _versions() -> Iterator[tuple[str, str]]:
    from importlib.metadata import version

    yield "Python", platform.python_version()
    for name in ("numpy", "h5py", "Pillow", "keras", "tensorflow"):
        yield name, version(name)


if __name__ == "__main__":
    sys.exit(main())
