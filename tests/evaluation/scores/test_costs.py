from __future__ import annotations

import dataclasses

import pytest

from featx.evaluation.scores import costs
from tests.evaluation.report.conftest import MEASURED, make


def test_costs_by_hand() -> None:
    head = costs.costs(make().results, [MEASURED])["net", "logistic"]
    # Pass 10, fit 1, predict 0.1; baseline 8 epochs of 10, predict 4.
    assert head.total == pytest.approx(11.1)
    assert head.ratio == pytest.approx(84 / 11.1)
    assert head.ratio_each == pytest.approx(84 / 1.1)
    assert head.break_even_trainings == 1
    assert head.break_even_epochs == pytest.approx((10 + 1.1 - 4) / 10)
    baseline = costs.costs(make().results, [MEASURED])["net", "keras_baseline"]
    assert baseline.total == 84
    assert baseline.epoch_seconds == 10


def test_a_head_slower_than_the_baseline_never_pays() -> None:
    rows = [
        dataclasses.replace(row, fit_seconds=500.0) if row.kind == "head" else row
        for row in make().results
    ]
    head = costs.costs(rows, [MEASURED])["net", "logistic"]
    assert head.break_even_trainings is None
    assert head.ratio_each is not None
    assert head.ratio_each < 1


def test_folds_count_as_trainings() -> None:
    rows = [dataclasses.replace(row, fold=fold) for row in make().results for fold in range(1, 6)]
    found = costs.costs(rows, [MEASURED])
    assert found["net", "logistic"].total == pytest.approx(10 + 5 * 1.1)
    assert found["net", "keras_baseline"].total == pytest.approx(5 * 84)
