"""Two worker processes on this machine against the local engine: seconds of the same images.

`python benchmarks/workers.py --images 3000` prints each round and the ratio local / dask. Networks
are started before anything is measured; every round has a cache of its own.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path

import images
from distributed import Client, LocalCluster

import featx


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-b", "--backbone", default="mobilenet_v2")
    asked = parser.parse_args()
    weights = "imagenet" if images.use_shared_weights() else None
    backbone = featx.Backbone(asked.backbone, weights=weights)
    sources = [found for name in ("flowers", "trashnet") if (found := images.real(name))]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sources = sources or [images.drawn(place / "drawn")]
        data = images.repeated(sources, place / "images", asked.images)
        few = images.repeated(sources, place / "few", 64 * asked.workers)
        with (
            LocalCluster(
                n_workers=asked.workers, processes=True, threads_per_worker=1,
                dashboard_address=None, silence_logs=logging.ERROR,
            ) as cluster,
            Client(cluster),
        ):  # fmt: skip
            ratios = []
            for number in range(-1, asked.rounds):
                took = {}
                for engine in ("local", "dask"):
                    started = time.perf_counter()
                    featx.extract(
                        few if number < 0 else data, backbone, engine=engine,
                        cache=place / f"{engine}{number}", progress=False,
                    )  # fmt: skip
                    took[engine] = time.perf_counter() - started
                if number < 0:
                    continue
                ratios.append(took["local"] / took["dask"])
                print(
                    f"{asked.images} images, {backbone.name}: local {took['local']:.1f} s, "
                    f"{asked.workers} workers {took['dask']:.1f} s, ratio {ratios[-1]:.2f}",
                    flush=True,
                )
            print(f"ratio local / workers: median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
