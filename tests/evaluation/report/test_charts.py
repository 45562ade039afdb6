from __future__ import annotations

import pytest

from featx.evaluation.report import charts


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, 6), (0, 513, 6), (0.7, 0.9, 5), (1, 8, 4), (0, 0.003, 4), (0, 1e6, 6)],
)
def test_ticks_are_few_round_and_inside(low: float, high: float, expected: int) -> None:
    found = charts.ticks(low, high)
    assert len(found) == expected
    assert low - 1e-9 <= found[0] <= found[-1] <= high + 1e-9


@pytest.mark.parametrize("interval", [(0.804, 0.892), (0.97, 1.0), (0.3, 0.9), (0.0, 0.01)])
def test_a_forest_s_ticks_stand_where_their_figures_say(interval: tuple[float, float]) -> None:
    found = charts.forest([interval])
    assert len(found.ticks) >= 3
    for tick in found.ticks:
        at = found.low + tick.at / 100 * (found.high - found.low)
        assert 100 * at == pytest.approx(float(tick.text.removesuffix(" %")))
