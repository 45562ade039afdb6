"""One measurement a process: `python benchmarks/tasks.py NAME '{"argument": ...}'` prints JSON."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import by_hand
import numpy as np
import peers

import featx

WARM_UP = np.random.default_rng(0).integers(0, 256, (4, 300, 300, 3), dtype=np.uint8)

REST = 3.0  # seconds


def extract(
    folder: str,
    name: str,
    weights: str | None,
    precision: str = "float32",
    runtime: str = "auto",
    image_size: int | None = None,
) -> dict[str, Any]:
    """Send a folder through the network into a cache that knows the network and no image."""
    backbone = featx.Backbone(name, weights=weights, precision=precision, image_size=image_size)
    with tempfile.TemporaryDirectory() as cache:
        featx.extract(WARM_UP, backbone, cache=cache, runtime=runtime, progress=False)
        began, cpu = time.perf_counter(), time.process_time()
        features = featx.extract(folder, backbone, cache=cache, runtime=runtime, progress=False)
        seconds = time.perf_counter() - began
    return {
        "images": len(features),
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "runtime": features.report.runtime,
    }


def memory(folder: str, name: str, weights: str | None, image_size: int) -> dict[str, Any]:
    """Return the peak memory of Python and numpy during an extraction, features and list excluded.

    The list is that of the images' names, which the caller makes.
    As they were asked for: what the process gets from the system moves by 30 MB from run to run,
    which is more than a small leak in 20,000 images.
    """
    backbone = featx.Backbone(name, weights=weights, precision="bfloat16", image_size=image_size)
    with tempfile.TemporaryDirectory() as cache:
        featx.extract(WARM_UP, backbone, cache=cache, progress=False)
        images = featx.Dataset.from_folder(folder)
        tracemalloc.start()
        features = featx.extract(images, backbone, cache=cache, progress=False)
        _, peak = tracemalloc.get_traced_memory()
    return {"images": len(features), "peak_bytes_without_features": peak - features.X.nbytes}


def whole(folder: str, weights: str | None, cache: str, precision: str) -> dict[str, Any]:
    """One extraction in a process of its own; the caller times the process."""
    backbone = featx.Backbone("mobilenet_v2", weights=weights, precision=precision)
    features = featx.extract(folder, backbone, cache=cache, progress=False)
    heavy = {"keras", "tensorflow", "openvino", "sklearn", "pandas"} & set(sys.modules)
    return {
        "images": len(features),
        "computed": features.report.computed,
        "seconds_in_extract": features.report.seconds,
        "loaded": sorted(heavy),
    }


def one_extraction(train: str, test: str, weights: str | None, precision: str) -> dict[str, Any]:
    """Extract train and test, tune and fit the logistic head, predict; then every other head."""
    backbone = featx.Backbone("mobilenet_v2", weights=weights, precision=precision)
    warm_up_heads()
    with tempfile.TemporaryDirectory() as cache:
        featx.extract(WARM_UP, backbone, cache=cache, progress=False)
        began = time.perf_counter()
        known, asked = (
            featx.extract(folder, backbone, cache=cache, progress=False) for folder in (train, test)
        )
        extracted = time.perf_counter() - began
    heads = {}
    for name in featx.HEADS:
        began = time.perf_counter()
        accuracy = float(featx.HEADS[name]().fit(known.X, known.y).score(asked.X, asked.y))
        heads[name] = {"seconds": time.perf_counter() - began, "accuracy": accuracy}
    return {
        "seconds": extracted + heads["logistic"]["seconds"],
        "extract_seconds": extracted,
        "accuracy": heads["logistic"]["accuracy"],
        "heads": heads,
    }


def warm_up_heads() -> None:
    """Import what heads need, as the Keras script too is timed after its imports."""
    X = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    for name in featx.HEADS:
        featx.HEADS[name]().fit(X, ["a", "b"] * 10)


def heads(folders: list[str], weights: str | None, cache: str) -> dict[str, Any]:
    """Time XGBoost's head and defaults, the sweep of C and one fit: medians of three."""
    import xgboost
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import LabelEncoder

    backbone = featx.Backbone("mobilenet_v2", weights=weights)
    parts = [featx.extract(folder, backbone, cache=cache, progress=False) for folder in folders]
    X = np.concatenate([part.X for part in parts])
    y = np.concatenate([part.y for part in parts]).astype(str)
    names, counts = np.unique(y, return_counts=True)
    chosen = np.isin(y, names[np.argsort(counts)[::-1][:10]])
    train, test, y_train, y_test = train_test_split(
        X[chosen], y[chosen], test_size=0.25, random_state=0, stratify=y[chosen]
    )
    codes = LabelEncoder().fit(y_train)
    warm_up_heads()
    answers: dict[str, Any] = {
        "rows": len(train),
        "columns": train.shape[1],
        "classes": len(codes.classes_),
    }

    sides: dict[str, Callable[[], Any]] = {
        "xgboost_default": lambda: xgboost.XGBClassifier().fit(train, codes.transform(y_train)),
        "xgboost_head": lambda: featx.heads.xgboost().fit(train, y_train),
        "logistic_one_fit": lambda: featx.heads.logistic(C=0.01).fit(train, y_train),
        "logistic_20_values": lambda: featx.heads.logistic().fit(train, y_train),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(3):
        for name, fit in sides.items():
            began = time.perf_counter()
            fitted = fit()
            if name == "logistic_20_values":
                answers["values_fitted"] = len(fitted.losses_)
            seconds[name].append(time.perf_counter() - began)
            found = np.asarray(fitted.predict(test))
            if name == "xgboost_default":
                found = codes.inverse_transform(found)
            answers[name] = {
                "seconds": statistics.median(seconds[name]),
                "accuracy": float((found == y_test).mean()),
            }
    return answers


class _FreeRuntime(featx.Runtime):
    """A runtime that costs nothing, to fill a cache with many long embeddings."""

    name, batch_size, streams = "free", 256, 1

    def run(self, pixels: np.ndarray) -> np.ndarray:
        seeds = pixels[:, :2, :2].reshape(len(pixels), -1).astype(np.float32)
        return np.resize(seeds, (len(pixels), 2048)) + np.arange(2048, dtype=np.float32)

    def environment(self) -> dict[str, str]:
        return {"runtime": "free"}


def gather(count: int) -> dict[str, Any]:
    """Read many cached embeddings, and the same bytes with np.load; medians of five turns."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    backbone = featx.Backbone("resnet50", weights=None, image_size=32)
    with tempfile.TemporaryDirectory() as folder:
        cache, plain = Path(folder, "cache"), Path(folder, "features.npy")
        options = {"cache": cache, "runtime": _FreeRuntime(), "progress": False}
        first = featx.extract(pixels, backbone, **options)
        np.save(plain, first.X)
        del first
        ours, theirs = [], []
        for _ in range(5):
            # Memory that was freed this moment is had again for little: of 0.8 GB np.load took
            # 0.12 s after itself, and 0.5 to 1.0 s a few seconds later. Both sides come later.
            time.sleep(REST)
            features = featx.extract(pixels, backbone, **options)
            ours.append(features.report.gather_seconds)
            del features
            time.sleep(REST)
            began = time.perf_counter()
            loaded = np.load(plain)
            theirs.append(time.perf_counter() - began)
            del loaded
    return {
        "rows": count,
        "gather_seconds": statistics.median(ours),
        "np_load_seconds": statistics.median(theirs),
    }


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "extract": extract,
    "whole": whole,
    "memory": memory,
    "one_extraction": one_extraction,
    "heads": heads,
    "gather": gather,
    "hand_extract": by_hand.extract,
    "hand_head": by_hand.head,
    "decode": by_hand.decode,
    "forward": by_hand.forward,
    "thingsvision": peers.thingsvision,
    "embetter": peers.embetter,
}


def run(task: str, *, python: str = sys.executable, **arguments: Any) -> Any:
    """Run a task in a process of its own and return its answer, `wall_seconds` added.

    Raises
    ------
    RuntimeError
        The process failed; the message ends with what it said last.
    """
    began = time.perf_counter()
    done = subprocess.run(
        [python, __file__, task, json.dumps(arguments)],
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{task} {arguments}: {done.stderr.strip()[-600:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "wall_seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](**json.loads(sys.argv[2]))))
