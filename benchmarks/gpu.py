"""Extraction on the device that KERAS_BACKEND=torch or jax computes on; see gpu.sh."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import by_hand
import images
import numpy as np

import featx

NOISE = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)


def extract(folder: str, name: str, precision: str, batch_size: int | None) -> dict[str, Any]:
    """Time the extraction of a folder, after a warm-up that compiles the network."""
    backbone = featx.Backbone(name, weights=None, precision=precision)
    with tempfile.TemporaryDirectory() as cache:
        options: dict[str, Any] = {"batch_size": batch_size, "progress": False, "cache": cache}
        featx.extract(NOISE, backbone, **options)
        began = time.perf_counter()
        features = featx.extract(folder, backbone, **options)
        seconds = time.perf_counter() - began
    assert "tensorflow" not in sys.modules
    assert features.report is not None
    return {
        "images": len(features),
        "seconds": seconds,
        "runtime": features.report.runtime,
        "device": device(),
        "peak_device_bytes": peak(),
    }


def by_keras(folder: str, name: str, batch_size: int | None) -> dict[str, Any]:
    """Time Pillow in the main thread and `predict_on_batch`, as a plain script does."""
    from PIL import Image

    model = featx.Backbone(name, weights=None).build()
    size = batch_size or 256
    model.predict_on_batch(np.zeros((size, 224, 224, 3), np.float32))
    paths = sorted(Path(folder).rglob("*.jpg"))
    began = time.perf_counter()
    for start in range(0, len(paths), size):
        batch = [
            np.asarray(Image.open(path).convert("RGB").resize((224, 224)), np.float32)
            for path in paths[start : start + size]
        ]
        model.predict_on_batch(np.stack(batch))
    return {"images": len(paths), "seconds": time.perf_counter() - began}


def forward(name: str, precision: str, batch_size: int | None) -> dict[str, Any]:
    """Time images that are in memory at the network's size: no decoder, little else."""
    backbone = featx.Backbone(name, weights=None, precision=precision)
    count = 8 * (batch_size or 256)
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as cache:
        options: dict[str, Any] = {"batch_size": batch_size, "progress": False, "cache": cache}
        featx.extract(NOISE, backbone, **options)
        began = time.perf_counter()
        featx.extract(pixels, backbone, **options)
        return {"images": count, "seconds": time.perf_counter() - began}


def features(name: str, out: str) -> dict[str, Any]:
    """Write the float32 embeddings of a few images, to compare devices."""
    with tempfile.TemporaryDirectory() as cache:
        backbone = featx.Backbone(name, weights=None)
        np.save(out, featx.extract(NOISE, backbone, cache=cache, progress=False).X)
    return {"device": device()}


def device() -> str:
    """Return the name of what the backend computes on."""
    if os.environ["KERAS_BACKEND"] == "torch":
        import torch

        return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"
    import jax

    return str(jax.devices()[0].device_kind)


def peak() -> int | None:
    """Return the most memory the device's allocator held, if the backend reports it."""
    if os.environ["KERAS_BACKEND"] == "torch":
        import torch

        return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None
    import jax

    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "extract": extract,
    "by_keras": by_keras,
    "forward": forward,
    "features": features,
    "decode": by_hand.decode,
}


def run(task: str, *, on_cpu: bool = False, **arguments: Any) -> dict[str, Any]:
    """Run a task in a process of its own."""
    hidden = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"} if on_cpu else {}
    done = subprocess.run(
        [sys.executable, __file__, "--task", task, json.dumps(arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **hidden},
    )
    if done.returncode:
        print(f"{task} {arguments} failed: {done.stderr.strip()[-800:]}", flush=True)
        return {}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    speed = f"{answer['images'] / answer['seconds']:10,.0f} images/s" if "seconds" in answer else ""
    print(f"{task:<9} {json.dumps(arguments)[:100]:<100} {speed}", flush=True)
    return answer


def main() -> None:
    """Measure both networks in both precisions at some batch sizes; print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, action="append", help="repeat for several")
    parser.add_argument("--backbone", action="append", help="repeat for several")
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(TASKS[options.task[0]](**json.loads(options.task[1]))))
        return
    found: list[dict[str, Any]] = []

    def measure(task: str, **arguments: Any) -> dict[str, Any]:
        answer = run(task, **arguments)
        found.append({"task": task, "arguments": arguments, "answer": answer})
        return answer

    with tempfile.TemporaryDirectory(prefix="featx-gpu-") as folder:
        work = Path(folder)
        source = images.real("flowers") or images.drawn(work / "drawn")
        many = str(images.repeated([source], work / "many", options.images))
        here = measure("features", name="resnet50", out=str(work / "device.npy")).get("device", "?")
        measure("features", name="resnet50", out=str(work / "cpu.npy"), on_cpu=True)
        ours, plain = (np.load(work / f"{name}.npy") for name in ("device", "cpu"))
        apart = float(np.linalg.norm(ours - plain) / np.linalg.norm(plain))
        print(f"float32 embeddings on {here} and on the CPU are {apart:.1e} apart (relative)")
        measure("decode", folder=many)
        for name in options.backbone or ("mobilenet_v2", "resnet50"):
            for size in options.batch_size or (None, 64, 1024):
                for precision in ("float32", "bfloat16"):
                    about = {"name": name, "precision": precision, "batch_size": size}
                    measure("forward", **about)
                    measure("extract", folder=many, **about)
            measure("by_keras", folder=many, name=name, batch_size=options.batch_size and size)
    short = re.sub(r"[^a-z0-9]+", "-", f"{os.environ['KERAS_BACKEND']} {here}".lower()).strip("-")
    date = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    path = Path(__file__).parent / "results" / f"gpu-{date[:10]}-{short}.json"
    path.parent.mkdir(exist_ok=True)
    about = {
        "command": " ".join(["benchmarks/gpu.sh", os.environ["KERAS_BACKEND"], *sys.argv[1:]]),
        "date": date,
        "device": here,
        "float32_distance_to_cpu": apart,
        "runs": found,
    }
    path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
