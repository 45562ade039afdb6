"""The heads on many embeddings: seconds, accuracy, loss and memory, against another checkout.

    python benchmarks/heads.py make SET --images FOLDER [FOLDER ...]   # embeddings of real images
    python benchmarks/heads.py make SET                                # made rows, without images
    python benchmarks/heads.py compare SET [--against CHECKOUT] [--head NAME ...]
    python benchmarks/heads.py growth SET [--head NAME ...]

`make` writes a folder of arrays: MobileNetV2's embeddings of small crops, half of them mirrored,
with test rows of photographs that gave no training row. Without images it draws rows from a
mixture of Gaussians, and says so. Each fit runs in a process of its own, and those of two checkouts
take turns. Seconds are shown by the clock and of the processors, since a shared machine's clock
says little; memory is the peak of what the process does not read from files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SIDE = 64
"""Pixels along each edge of a crop: what keeps 60,000 of them a matter of minutes."""


def make(folder: Path, images: list[Path], rows: int, test: int, classes: int, dim: int) -> None:
    """Write `rows` training and `test` test embeddings of some classes to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if images:
        parts = _of_images(images, rows, test, classes)
        origin = "MobileNetV2 of crops of " + ", ".join(f"{i.parent.name}/{i.name}" for i in images)
    else:
        parts = _drawn(rows, test, classes, dim)
        origin = "made rows: a mixture of Gaussians"
    for name, values in zip(("X", "y", "X_test", "y_test"), parts, strict=True):
        np.save(folder / f"{name}.npy", values)
    about = {"origin": origin, "rows": rows, "test": test, "classes": classes}
    (folder / "about.json").write_text(json.dumps(about))
    print(f"{folder}: {origin}, {parts[0].shape}")


def _of_images(images: list[Path], rows: int, test: int, classes: int) -> tuple[np.ndarray, ...]:
    from images import Crops

    import featx

    drawn = Crops(images, classes, SIDE)
    backbone = featx.Backbone("mobilenet_v2", image_size=SIDE)
    found: list[np.ndarray] = []
    for count, held in ((rows, False), (test, True)):
        crops = drawn.draw(count, test=held)
        labels: list[str] = []
        features = []
        while part := list(islice(crops, 5000)):  # no more crops in memory than these
            labels += [name for name, _ in part]
            pixels = np.stack([crop for _, crop in part])
            with tempfile.TemporaryDirectory() as cache:
                features.append(featx.extract(pixels, backbone, cache=cache).X)
        found += [np.concatenate(features), np.array(labels)]
    return tuple(found)


def _drawn(rows: int, test: int, classes: int, dim: int) -> tuple[np.ndarray, ...]:
    """Return non-negative rows of correlated columns, uneven in scale, as embeddings are."""
    rng = np.random.default_rng(0)
    scale = np.exp(rng.normal(0, 0.6, dim)).astype(np.float32)
    mixing = rng.standard_normal((dim // 4, dim)).astype(np.float32) / np.float32(dim**0.5)
    centres = rng.standard_normal((classes, dim // 4)).astype(np.float32) * np.float32(0.35)
    found: list[np.ndarray] = []
    for count in (rows, test):
        codes = rng.integers(0, classes, count)
        X = np.empty((count, dim), np.float32)
        for begin in range(0, count, 10_000):
            part = codes[begin : begin + 10_000]
            inner = centres[part] + rng.standard_normal((len(part), dim // 4), dtype=np.float32)
            noise = rng.standard_normal((len(part), dim), dtype=np.float32)
            X[begin : begin + 10_000] = np.maximum(inner @ mixing + 0.3 * noise + 0.4, 0) * scale
        found += [X, codes]
    return tuple(found)


class _Peak:
    """The largest anonymous resident memory of this process while it is watched."""

    def __init__(self) -> None:
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.bytes = max(self.bytes, anonymous())


def anonymous() -> int:
    """Return the bytes of resident memory that no file backs; all of it outside Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(one for one in status.read_text().splitlines() if one.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def fit(folder: Path, name: str, rows: int | None, mapped: bool) -> dict[str, Any]:
    """Fit one head on the first rows of a set; return its seconds, accuracy, loss and memory."""
    import featx

    mode = "r" if mapped else None
    X, y = (np.load(folder / f"{part}.npy", mmap_mode=mode)[:rows] for part in ("X", "y"))
    X_test, y_test = (np.load(folder / f"{part}_test.npy") for part in ("X", "y"))
    head, _, C = name.partition("=")
    options: dict[str, Any] = {"C": float(C)} if C else {}
    few = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    featx.heads.HEADS[head]().fit(few, ["a", "b"] * 10)  # imports are not what is measured
    made = featx.heads.HEADS[head](**options)
    before = anonymous()
    found: dict[str, Any] = {"head": name, "rows": len(X), "load": os.getloadavg()[0]}
    with _Peak() as peak:
        began, used = time.perf_counter(), time.process_time()
        made.fit(X, y)
        found |= {"seconds": time.perf_counter() - began, "cpu": time.process_time() - used}
    found["peak_mb"] = (peak.bytes - before) / 2**20
    with _Peak() as peak:
        began, used = time.perf_counter(), time.process_time()
        scores = made.predict_proba(X_test)
        found |= {"predict": time.perf_counter() - began, "predict_cpu": time.process_time() - used}
    found["predict_mb"] = (peak.bytes - before) / 2**20
    codes = np.searchsorted(made.classes_, y_test)
    own = scores[np.arange(len(codes)), codes].astype(np.float64)
    found["accuracy"] = float((scores.argmax(axis=1) == codes).mean())
    found["loss"] = float(-np.log(np.maximum(own, 1e-15)).mean())
    for name in ("C_", "n_iter_"):
        if hasattr(made, name):
            found[name] = float(getattr(made, name))
    return found


def measured(checkout: Path, folder: Path, name: str, *more: str) -> dict[str, Any]:
    """Return what `fit` returns in a process that imports featx from a checkout."""
    command = [sys.executable, __file__, "fit", os.fspath(folder), "--head", name, *more]
    environment = {**os.environ, "PYTHONPATH": os.fspath(checkout), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=checkout, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        return {"head": name, "error": last[0]}
    return json.loads(done.stdout.splitlines()[-1])


COLUMNS = "head  rows  seconds  cpu s  accuracy  loss  fit MB  10,000 answers s  cpu s  MB"


def line(which: str, found: dict[str, Any]) -> str:
    """Return one line of a table."""
    if "error" in found:
        return f"| {which} {found['head']} | {found['error'][:100]} |"
    return (
        f"| {which} {found['head']} | {found['rows']:,} | {found['seconds']:.1f} | "
        f"{found['cpu']:.1f} | {found['accuracy']:.4f} | {found['loss']:.4f} | "
        f"{found['peak_mb']:.0f} | {found['predict']:.2f} | {found['predict_cpu']:.2f} | "
        f"{found['predict_mb']:.0f} |"
    )


def compare(folder: Path, names: list[str], against: Path | None, turns: int) -> list[Any]:
    """Print a line for each head and checkout, which take turns, and the ratio of their times."""
    sides = {"": ROOT} if against is None else {"other": against, "this": ROOT}
    print((folder / "about.json").read_text())
    print("| " + COLUMNS.replace("  ", " | ") + " |")
    every = []
    for name in names:
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for _ in range(turns):
            for side, checkout in sides.items():
                runs[side].append(measured(checkout, folder, name) | {"side": side})
                print(line(side, runs[side][-1]), flush=True)
        every += [run for side in runs.values() for run in side]
        if against is not None and not any(
            "error" in run for side in runs.values() for run in side
        ):
            clock, cpu = (
                np.median([o[k] / t[k] for o, t in zip(*runs.values(), strict=True)])
                for k in ("seconds", "cpu")
            )
            print(f"| {name}: {clock:.2f}x by the clock, {cpu:.2f}x of the processors |")
    return every


def growth(folder: Path, names: list[str]) -> list[Any]:
    """Print the seconds and memory of each head for ever more rows, and the slope between them."""
    total = len(np.load(folder / "y.npy", mmap_mode="r"))
    counts = [n for n in (5_000, 20_000, 50_000, 200_000, 500_000, 2_000_000) if n <= total]
    print((folder / "about.json").read_text())
    print("| " + COLUMNS.replace("  ", " | ") + " |")
    every = []
    for name in names:
        runs = [measured(ROOT, folder, name, "--mapped", "--rows", str(n)) for n in counts]
        for run in runs:
            print(line("", run), flush=True)
        every += runs
        good = [run for run in runs if "error" not in run]
        if len(good) > 1:
            n, cpu = (np.log([run[key] for run in good]) for key in ("rows", "cpu"))
            print(f"| {name}: processor seconds grow with rows ** {np.polyfit(n, cpu, 1)[0]:.2f} |")
    return every


def main() -> None:
    """Make a set, or measure heads on one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("make", "compare", "growth", "fit"))
    parser.add_argument("set", type=Path)
    parser.add_argument("--images", type=Path, nargs="*", default=[])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--dim", type=int, default=1280, help="columns of made rows")
    parser.add_argument("--head", action="append", help="NAME, or NAME=C; all by default")
    parser.add_argument("--against", type=Path, help="another checkout of featx")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--mapped", action="store_true", help="rows are read from the file")
    parser.add_argument("--json", type=Path, help="where every single run is written")
    asked = parser.parse_args()
    if asked.what != "fit":  # which is given the checkout that it measures
        sys.path.insert(0, os.fspath(ROOT))
    if asked.what == "make":
        rows = asked.rows or 50_000
        make(asked.set, asked.images, rows, asked.test, asked.classes, asked.dim)
        return
    if asked.what == "fit":
        print(json.dumps(fit(asked.set, asked.head[0], asked.rows, asked.mapped)))
        return
    from featx import HEADS

    names = asked.head or list(HEADS)
    if asked.what == "compare":
        every = compare(asked.set, names, asked.against, asked.turns)
    else:
        every = growth(asked.set, names)
    if asked.json:
        machine = {"processor": platform.processor(), "cores": os.cpu_count()}
        asked.json.write_text(json.dumps({"machine": machine, "runs": every}, indent=1))


if __name__ == "__main__":
    main()
