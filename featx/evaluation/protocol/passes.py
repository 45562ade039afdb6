"""One backbone's pass over the images of a comparison, and what such a pass costs."""

from __future__ import annotations

import time

from featx.backbones.backbone import Backbone
from featx.datasets.dataset import Dataset
from featx.evaluation.protocol import splits
from featx.evaluation.protocol.plan import Plan
from featx.evaluation.results import Pass
from featx.extraction.api import extract
from featx.features import Features

Rows = tuple[Dataset, Features]


def take(
    asked: Plan, backbone: Backbone, train: Dataset, test: Dataset | None
) -> tuple[Rows, Rows | None, Pass]:
    """Return the images that have a row, with their rows, of both sets, and what it took."""
    parts: list[Rows] = []
    seconds, start, computing = 0.0, 0.0, 0.0
    computed, reused, total = 0, 0, 0
    runtimes = set()
    for images in (train, test):
        if images is None:
            continue
        started = time.perf_counter()
        rows = extract(images, backbone, **asked.extraction)
        seconds += time.perf_counter() - started
        parts.append((splits.without_failures(images, rows), rows))
        if rows.report is not None:
            computed += rows.report.computed
            reused += rows.report.reused
            total += rows.report.images
            start += rows.report.start_seconds
            computing += rows.report.compute_seconds
            runtimes.add(rows.report.runtime)
    cost, source = _cost(computed, reused, seconds, start)
    done = Pass(
        backbone=asked.label(backbone),
        images=total,
        computed=computed,
        reused=reused,
        seconds=seconds,
        runtime=", ".join(sorted(name for name in runtimes if name)),
        cost=cost,
        source=source,
        dim=int(parts[0][1].X.shape[1]),
        untrained=not backbone.trained,
        start_seconds=start,
        images_per_second=computed / (computing - start) if computing > start else None,
    )
    return parts[0], parts[1] if test is not None else None, done


def _cost(computed: int, reused: int, seconds: float, start: float) -> tuple[float | None, str]:
    """Return what a whole pass costs, as far as this run shows it, and in words how it does.

    A part of the images stands for all only if it is the larger part: the first batches after
    the network's start are slower than the others.
    """
    if computed and not reused:
        return seconds, "measured in this run"
    if computed > reused:
        return (
            start + (seconds - start) * (computed + reused) / computed,
            f"scaled from the {computed} of {computed + reused} that were computed in this run",
        )
    return None, "not measured in this run, since the rows were kept from before"
