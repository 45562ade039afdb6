from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.datasets.items import FolderItems, as_pixels
from featx.errors import DatasetError, InputRangeError

PIXELS = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)


def test_uint8_is_passed_through_without_a_copy() -> None:
    assert as_pixels(PIXELS, ndim=4) is PIXELS


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float32, np.float64])
def test_other_numbers_are_rounded(dtype: Any) -> None:
    np.testing.assert_array_equal(as_pixels(PIXELS.astype(dtype), ndim=4), PIXELS)


def test_halves_are_rounded() -> None:
    assert as_pixels(np.full((1, 1, 3), 200.6), ndim=3)[0, 0, 0] == 201


@pytest.mark.parametrize(
    ("array", "ndim", "said"),
    [
        (PIXELS.transpose(0, 3, 1, 2), 4, "np.moveaxis"),
        (PIXELS[0], 4, "pass x[None]"),
        (PIXELS[..., 0], 4, "np.repeat"),
        (PIXELS[..., :1], 4, "np.repeat"),
        (np.zeros((2, 4, 5, 4), np.uint8), 4, "x[..., :3]"),
        (np.zeros((2, 4), np.uint8), 4, "expected (n, height, width, 3)"),
        (np.zeros((2, 2, 3), complex), 3, "dtype complex128"),
        (np.zeros((2, 2, 3), bool), 3, "dtype bool"),
    ],
)
def test_shapes_and_types_that_are_none(array: np.ndarray, ndim: int, said: str) -> None:
    with pytest.raises(DatasetError, match=said.replace("[", r"\[").replace("(", r"\(")
                       .replace(")", r"\)").replace(".", r"\.")):  # fmt: skip
        as_pixels(array, ndim=ndim)


@pytest.mark.parametrize("values", [[-1.0, 5.0], [0.0, 256.0], [0.2, 0.9], [0.0, np.inf]])
def test_values_outside_0_to_255(values: list[float]) -> None:
    with pytest.raises(InputRangeError, match="expected RGB 0-255"):
        as_pixels(np.resize(values, (2, 2, 3)), ndim=3)


def test_a_black_image_of_floats_is_no_mistake() -> None:
    assert not as_pixels(np.zeros((2, 2, 3)), ndim=3).any()


def test_images_of_a_folder_are_made_when_they_are_asked_for() -> None:
    items = FolderItems(Path("/photos"), ["a/1.jpg", "b/2.jpg", "b/3.jpg"], ["a", "b", "b"])
    assert [(item.id, item.label) for item in items] == [
        ("a/1.jpg", "a"), ("b/2.jpg", "b"), ("b/3.jpg", "b"),
    ]  # fmt: skip
    assert items[-1].source == Path("/photos/b/3.jpg")
    assert [item.id for item in items[1:]] == ["b/2.jpg", "b/3.jpg"]
    with pytest.raises(IndexError):
        items[3]
