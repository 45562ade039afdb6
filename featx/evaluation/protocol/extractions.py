"""One backbone's extraction of the images of a comparison, and what it costs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from featx.backbones.backbone import Backbone
from featx.datasets.dataset import Dataset
from featx.evaluation.protocol import splits
from featx.evaluation.protocol.plan import Plan
from featx.evaluation.protocol.splits import EmbeddedImages, without_failures
from featx.evaluation.results import ExtractionCost
from featx.extraction.api import extract


@dataclass(frozen=True, eq=False)
class Extraction:
    """The embeddings of one backbone, and their cost.

    Attributes
    ----------
    test : EmbeddedImages or None
        None where there is no test set, and folds of `train` are tested.
    """

    backbone: Backbone
    train: EmbeddedImages
    test: EmbeddedImages | None
    cost: ExtractionCost

    @property
    def tested(self) -> EmbeddedImages:
        """The images that are tested: those of the test set, else those of all folds."""
        return self.train if self.test is None else self.test


def run(
    asked: Plan,
    backbone: Backbone,
    train: Dataset,
    test: Dataset | None,
    groups: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> Extraction:
    """Return the embeddings of both sets, without the images that failed, and their cost.

    Parameters
    ----------
    groups : pair of ndarray of str objects or None
        Of the training and of the test images.
    """
    sets, seconds = [], 0.0
    for images, names in zip((train, test), groups, strict=True):
        if images is not None:
            started = time.perf_counter()
            features = extract(images, backbone, **asked.extraction)
            seconds += time.perf_counter() - started
            kept = splits.groups_without_failures(names, images, features)
            sets.append(EmbeddedImages(without_failures(images, features), features, kept))
    label = asked.label(backbone)
    return Extraction(
        backbone, sets[0], sets[1] if len(sets) > 1 else None, _cost(label, backbone, sets, seconds)
    )


def _cost(
    label: str, backbone: Backbone, sets: list[EmbeddedImages], seconds: float
) -> ExtractionCost:
    reports = [one.features.report for one in sets if one.features.report is not None]
    computed = sum(report.computed for report in reports)
    cached = sum(report.cached for report in reports)
    start = sum(report.start_seconds for report in reports)
    computing = sum(report.compute_seconds for report in reports) - start
    return ExtractionCost(
        backbone=label,
        images=sum(report.images for report in reports),
        computed=computed,
        cached=cached,
        seconds=seconds,
        runtime=", ".join(sorted({report.runtime for report in reports if report.runtime})),
        cost=_whole(computed, cached, seconds, start),
        dim=int(sets[0].features.X.shape[1]),
        untrained=not backbone.trained,
        start_seconds=start,
        images_per_second=computed / computing if computing > 0 else None,
    )


def _whole(computed: int, cached: int, seconds: float, start: float) -> float | None:
    """Return the seconds that extracting all images costs; None where this run does not show it.

    A part of the images stands for all only if it is the larger part: the first batches after
    the network's start are slower than the others.
    """
    if computed and not cached:
        return seconds
    if computed > cached:
        return start + (seconds - start) * (computed + cached) / computed
    return None
