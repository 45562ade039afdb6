"""Groups of images: by a column, a pattern, a function or a list."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from featx.datasets.dataset import Dataset, as_dataset
from featx.datasets.groups import groups_of
from featx.errors import DatasetError

PATHS = ["benign/p01_v0.png", "benign/p01_v1.png", "malignant/p02_v0.png"]


@pytest.fixture
def images() -> Dataset:
    return Dataset.from_paths(PATHS)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (re.compile(r"/(p\d+)_"), ["p01", "p01", "p02"]),
        (re.compile(r"p\d+"), ["p01", "p01", "p02"]),
        (lambda name: name.split("/")[1][:3], ["p01", "p01", "p02"]),
        (lambda name: len(name), ["17", "17", "20"]),
        (["a", "b", "b"], ["a", "b", "b"]),
        ((7, 7, 3), ["7", "7", "3"]),
        (np.array([7, 7, 3]), ["7", "7", "3"]),
        (pd.Series(["x", "x", "y"]), ["x", "x", "y"]),
    ],
)
def test_each_form(groups: Any, expected: list[str], images: Dataset) -> None:
    assert groups_of(groups, PATHS, images).tolist() == expected


def test_a_column_of_a_csv_file_and_of_a_data_frame(tmp_path: Path) -> None:
    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    paths = [(tmp_path / path).as_posix() for path in PATHS]
    frame = pd.DataFrame({"path": paths, "label": ["b", "b", "m"], "patient": ["007", "007", "8"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    for source in (frame, tmp_path / "t.csv", str(tmp_path / "t.csv")):
        assert groups_of("patient", source, as_dataset(source)).tolist() == ["007", "007", "8"]
    with pytest.raises(DatasetError, match="no column 'site' to group by; it has 'path', 'label'"):
        groups_of("site", frame, as_dataset(frame))
    frame.loc[1, "patient"] = None
    with pytest.raises(DatasetError, match="1 image has no group.*benign/p01_v1"):
        groups_of("patient", frame, as_dataset(frame))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("patient", r"is the name of a column, and list is not a table.*--groups-pattern"),
        (["a", "b"], "2 groups for 3 images"),
        (["a", "b", ""], "1 image has no group .such as 'malignant/p02_v0.png'"),
        (["a", "b", float("nan")], "1 image has no group"),
        (re.compile("site_(.)"), r"finds no group in 'benign/p01_v0.png'.*patient_"),
        (lambda name: None, "3 images have no group"),
        (5, "groups=5: expected the name of a column"),
        (b"abc", "expected the name of a column"),
    ],
)
def test_groups_that_cannot_be(groups: Any, message: str, images: Dataset) -> None:
    with pytest.raises(DatasetError, match=message):
        groups_of(groups, PATHS, images)


def test_names_in_two_unicode_forms_are_one_group() -> None:
    groups = ["Ren\u00e9", "Rene\u0301", "Ren\u00e9e"]
    found = groups_of(groups, PATHS, Dataset.from_paths(PATHS))
    assert found[0] == found[1] != found[2]


def test_a_function_that_fails_is_named_with_the_id() -> None:
    with pytest.raises(DatasetError, match="fails for the id 'benign/.*IndexError"):
        groups_of(lambda name: name.split("/")[5], PATHS, Dataset.from_paths(PATHS))
