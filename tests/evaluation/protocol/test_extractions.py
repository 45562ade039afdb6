from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from featx.backbones.backbone import Backbone
from featx.datasets.dataset import Dataset
from featx.errors import RuntimeUnavailableError
from featx.evaluation import comparison
from featx.evaluation.comparison import benchmark
from featx.evaluation.protocol import extractions
from featx.evaluation.report import wording
from featx.features import Features
from tests.evaluation.seam import QUICK, TEST, TINY, TRAIN, Seam, images


def test_each_image_meets_the_backbone_once_for_all_methods_and_seeds(seam: Seam) -> None:
    report = benchmark(
        images(TRAIN), images(TEST), heads=["logistic", "nearest"], seeds=3, epochs=4,
        backbones=["mobilenet_v2"], progress=False,
    )  # fmt: skip
    assert seam.extracted == [36, 18]
    assert len(report.results) == 9
    assert {(row.method, row.seed) for row in report.results} == {
        (method, seed) for method in ("logistic", "nearest", "keras_baseline") for seed in range(3)
    }
    assert {row.epochs for row in report.results} == {None, 4}
    assert {row.epoch_seconds for row in report.results} == {None, 2.0}


@pytest.mark.parametrize(
    ("cached", "cost", "words"),
    [
        (0, 1.0, "measured in this run"),
        (9, 4 / 3, "scaled from the 36 of 54"),
        (99, None, "not measured in this run"),
    ],
)
def test_the_cost_of_an_extraction_has_its_source(
    seam: Seam, monkeypatch: pytest.MonkeyPatch, cached: int, cost: float | None, words: str
) -> None:
    clock: Iterator[float] = iter(np.arange(0.0, 1e6, 0.5))
    monkeypatch.setattr(comparison.time, "perf_counter", lambda: next(clock))
    seam.cached = cached
    report = benchmark(images(TRAIN), images(TEST), heads=["nearest"], **QUICK)
    assert report.extractions[0].cost == (None if cost is None else pytest.approx(cost, rel=0.2))
    assert wording.basis(report.to_dict()["extractions"][0]).startswith(words)


def test_the_start_of_the_network_is_told_apart_from_the_pace(
    seam: Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock: Iterator[float] = iter(np.arange(0.0, 1e6, 0.5))
    monkeypatch.setattr(comparison.time, "perf_counter", lambda: next(clock))
    seam.start, seam.cached = 0.25, 9
    report = benchmark(images(TRAIN), images(TEST), heads=["nearest"], **QUICK)
    done = report.extractions[0]
    assert (done.seconds, done.start_seconds) == (1.0, 0.5)
    assert done.images_per_second == 36 / (1.0 - 0.5)
    assert done.cost == 0.5 + 0.5 * 54 / 36  # the start is there once, whatever the share


def test_a_backbone_that_is_refused_is_so_before_anything_is_trained(
    seam: Seam, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(dataset: Dataset, backbone: Backbone, **options: Any) -> Features:
        if backbone.precision == "int8":
            raise RuntimeUnavailableError("runtime='openvino' needs the package openvino")
        return seam.extract(dataset, backbone, **options)

    monkeypatch.setattr(extractions, "extract", refusing)
    with pytest.raises(RuntimeUnavailableError):
        benchmark(
            images(TRAIN), images(TEST), backbones=[TINY], precisions=["float32", "int8"],
            heads=["nearest"], evidence=False, progress=False,
        )  # fmt: skip
    assert seam.extracted == [36, 18]
    assert not seam.fitted
