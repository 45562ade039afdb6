from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.evaluation.scores import intervals


def hits(right: int, wrong: int) -> np.ndarray:
    return np.array([True] * right + [False] * wrong)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(150):
        found = intervals.accuracy_interval(rng.random(120) < 0.8)
        inside += found.low <= 0.8 <= found.high
    # 95 % of 150 with its own error; an interval of half the width would cover about 0.67.
    assert 0.89 <= inside / 150 <= 1.0


def test_interval_is_that_of_the_binomial() -> None:
    # The bootstrap of a share is a binomial draw: its normal form is a reference of its own.
    found = intervals.accuracy_interval(hits(200, 50))
    half = 1.96 * np.sqrt(0.8 * 0.2 / 250)
    assert (found.low, found.high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.01)
    assert found.method.startswith("percentile bootstrap, widened to the exact binomial")


def test_interval_is_the_same_each_time() -> None:
    assert intervals.accuracy_interval(hits(30, 9)) == intervals.accuracy_interval(hits(30, 9))


@pytest.mark.parametrize("right", [0, 60])
def test_without_a_single_exception_the_interval_claims_no_certainty(right: int) -> None:
    found = intervals.accuracy_interval(hits(right, 60 - right))
    width = 1 - 0.025 ** (1 / 60)  # Clopper-Pearson in closed form
    expected = (0.0, width) if right == 0 else (1 - width, 1.0)
    assert (found.low, found.high) == pytest.approx(expected)
    assert "exact" in found.method


@pytest.mark.parametrize("n", [25, 50, 100, 250])
def test_one_more_right_answer_never_lowers_the_interval(n: int) -> None:
    found = [intervals.accuracy_interval(hits(right, n - right)) for right in range(n - 6, n + 1)]
    assert np.all(np.diff([one.low for one in found]) > 0)
    assert np.all(np.diff([one.high for one in found]) >= 0)
    # One image that one of three seeds gets wrong lies between all right and one wrong.
    seeds = np.stack([hits(n, 0), hits(n, 0), hits(n - 1, 1)])
    between = intervals.accuracy_interval(seeds)
    assert found[-2].low < between.low < found[-1].low
    assert intervals.crossed_interval(seeds).low <= between.low + 1e-9


def test_several_seeds_share_their_images() -> None:
    one = hits(80, 20)
    alone, thrice = (
        intervals.accuracy_interval(one),
        intervals.accuracy_interval(np.stack([one] * 3)),
    )
    assert alone == thrice  # three times the same answers are no new evidence


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (6, 0, 2 * 0.5**6),
        (10, 2, 2 * sum((1, 12, 66)) / 2**12),
        (5, 5, 1.0),
    ],
)
def test_mcnemar_by_hand(first: int, second: int, p: float) -> None:
    assert intervals.mcnemar(first, second) == pytest.approx(p)
    assert intervals.mcnemar(second, first) == pytest.approx(p)


def test_comparison_counts_who_alone_is_right() -> None:
    first = np.array([1, 1, 1, 1, 0, 0, 1, 1], dtype=bool)
    second = np.array([1, 0, 0, 0, 1, 0, 1, 1], dtype=bool)
    found = intervals.compare(first, second)
    assert (found.only_first, found.only_second) == (3, 1)
    assert found.difference == pytest.approx(2 / 8)
    assert found.interval.low <= found.difference <= found.interval.high
    assert found.p_value == pytest.approx(intervals.mcnemar(3, 1))
    assert found.test == "exact McNemar test"


def test_comparison_is_paired() -> None:
    # 84 % against 80 % of 200: unpaired nobody could tell; the same 160 images and 8 more can.
    first, second = hits(168, 32), hits(160, 40)
    found = intervals.compare(first, second)
    assert found.p_value < 0.01
    assert found.interval.low > 0


def test_interval_of_the_difference_is_that_of_the_pairs() -> None:
    first = np.repeat([True, True, False, False], [300, 40, 20, 40])
    second = np.repeat([True, False, True, False], [300, 40, 20, 40])
    found = intervals.compare(first, second)
    assert found.difference == pytest.approx(0.05)
    # In closed form: the differences are 1, -1 and 0 with shares 0.1, 0.05 and the rest.
    half = 1.96 * np.sqrt((0.15 - 0.05**2) / 400)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (0.05 - half, 0.05 + half), abs=0.004
    )


def test_equal_methods_are_not_told_apart() -> None:
    found = intervals.compare(hits(50, 50), hits(50, 50))
    assert found.difference == 0
    assert found.p_value == 1
    assert (found.interval.low, found.interval.high) == (-0.03, 0.03)


def test_one_seed_repeated_tests_as_that_seed() -> None:
    first, second = hits(168, 32), hits(160, 40)
    found = intervals.compare(np.stack([first] * 2), np.stack([second] * 2))
    assert found.test.startswith("sign-flip permutation")
    assert found.p_value == pytest.approx(intervals.mcnemar(8, 0), abs=0.005)


def test_comparison_wants_the_same_images() -> None:
    with pytest.raises(ValueError, match="3 and 4 images.*same images"):
        intervals.compare(hits(2, 1), hits(3, 1))


def test_holm_by_hand() -> None:
    assert intervals.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert intervals.holm([0.9, 0.8]) == [1.0, 1.0]
    assert intervals.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_holm_never_lowers_and_keeps_the_order(values: list[float]) -> None:
    adjusted = intervals.holm(values)
    assert all(a >= p for a, p in zip(adjusted, values, strict=True))
    assert max(adjusted) <= 1
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)
