from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from featx.datasets.items import Item, with_labels
from featx.errors import DatasetError
from featx.labels import (
    as_targets,
    class_order,
    label_array,
    notes_on,
    positions_in,
)


def labelled(labels: Any, n: int = 2) -> list[Any]:
    items = with_labels([Item(str(number), None, b"") for number in range(n)], labels)
    return [item.label for item in items]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["b", "a"], ["b", "a"]),
        ([b"x", "y"], ["x", "y"]),
        (["007", "7"], ["007", "7"]),
        ([1, 0], [1, 0]),
        ([1.0, 0.5], [1.0, 0.5]),
        ([1, 2.5], [1, 2.5]),
        (np.array([3, 4], np.int8), [3, 4]),
        (np.array([[3], [4]]), [3, 4]),
        (np.array([True, False]), [True, False]),
        (np.array(["a", "b"]), ["a", "b"]),
        (pd.Series([5, 6], index=[9, 8]), [5, 6]),
        (pd.Series([5, 6], dtype="Int64"), [5, 6]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (pd.DataFrame({"label": ["a", "b"]}), ["a", "b"]),
        (
            ["Caf\N{LATIN SMALL LETTER E WITH ACUTE}", "Cafe\N{COMBINING ACUTE ACCENT}"],
            ["Café"] * 2,
        ),
    ],
)
def test_labels_keep_their_type(labels: Any, expected: list[Any]) -> None:
    found = labelled(labels)
    assert found == expected
    assert [type(one) for one in found] == [type(one) for one in expected]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a", None], "1 label is missing .that of image '1'.* is None"),
        (["a", ""], "is ''"),
        ([1.0, float("nan")], "is nan"),
        (pd.Series(["a", None], dtype="string"), "is <NA>"),
        (pd.Series([1, None], dtype="Int64"), "is <NA>"),
        (pd.to_datetime(["2026-01-01", None]), "is NaT"),
        (["a", 1], "several kinds: numbers, text"),
        ([True, 1], "several kinds: booleans, numbers"),
        ([[0, 1], [1, 0]], "one-hot"),
        (np.eye(2), "one-hot"),
        ([1j, 2j], "type complex"),
        (["a"], "1 label for 2 images"),
    ],
)
def test_labels_that_are_none(labels: Any, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        labelled(labels)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["b", "a", "b"], ["a", "b"]),
        (["10", "9", "1"], ["1", "9", "10"]),
        (["-2", "10", "0"], ["-2", "0", "10"]),
        (["010", "9"], ["010", "9"]),  # a code, not a number
        (["10", "9", "ten"], ["10", "9", "ten"]),
        (["٣", "2"], ["2", "٣"]),  # digits of another script are text
        (["9" * 30, "1"], ["1", "9" * 30]),
        ([10, 9, 1], [1, 9, 10]),
        ([1.0, 10.0, 9.0], [1.0, 9.0, 10.0]),
        ([True, False], [False, True]),
    ],
)
def test_order_of_classes_and_of_what_heads_train_on(labels: Any, expected: Any) -> None:
    assert class_order(labels) == expected
    array = label_array(labels)
    assert array is not None
    targets = as_targets(array)
    back = np.unique(targets).astype(str if array.dtype == object else array.dtype)
    assert back.tolist() == expected


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [(["a"], object), ([1, 2], np.int64), ([1.0], np.float64), ([True], np.bool_), ([], object)],
)
def test_label_array(labels: Any, dtype: Any) -> None:
    array = label_array(labels)
    assert array is not None
    assert (array.dtype, array.tolist()) == (dtype, labels)
    assert label_array([*labels, None]) is None


@pytest.mark.parametrize(
    ("classes", "labels", "expected"),
    [
        (["a", "b"], ["b", "c", "a"], [1, -1, 0]),
        (["007", "7"], ["7", "007", "07"], [1, 0, -1]),  # text is compared as text
        (["1", "2"], [2, 1.0, 3], [1, 0, -1]),
        (["1.0", "2.0"], [2, 1], [1, 0]),
        ([1, 2], ["2", "1.0", "x"], [1, 0, -1]),
        ([1.0, 2.0], [2, 1], [1, 0]),
        ([False, True], ["True", "False"], [1, 0]),
        ([False, True], [1, 0], [1, 0]),
    ],
)
def test_positions_by_value(classes: Any, labels: Any, expected: list[int]) -> None:
    arrays = [
        np.array(one, object if isinstance(one[0], str) else None) for one in (classes, labels)
    ]
    assert positions_in(*arrays).tolist() == expected


def test_names_that_look_like_slips_get_a_note() -> None:
    (note,) = notes_on(["cat", " cat", "Cat", "dog", "cat"])
    assert "' cat', 'Cat', 'cat'" in note
    assert "dog" not in note
    assert notes_on(["a", "b", 1, None]) == []


@pytest.mark.parametrize("labels", [[0.5, 1.0], [1.0, float("inf")], np.float32([0.1, 2])])
def test_real_numbers_are_not_classes(labels: Any) -> None:
    with pytest.raises(DatasetError, match="are real numbers, and featx trains classifiers"):
        as_targets(np.asarray(labels))


def test_odd_text_and_long_numbers() -> None:
    assert labelled([b"K\xfche", "x"]) == ["K\udcfche", "x"]
    long = [str(2**53), str(2**53 + 1)]
    arrays = np.array(long, object), np.array([2**53, 2**53 + 1])
    assert positions_in(*arrays).tolist() == [0, 1]
    assert positions_in(np.array(["1e1", "2"], object), np.array([10, 2])).tolist() == [-1, 1]
