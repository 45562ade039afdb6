"""A tf.data.Dataset, by a stand-in that has what featx uses of one; and a real one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from featx.datasets.dataset import as_dataset
from featx.datasets.tf_data import Stream
from featx.errors import DatasetError, EmptyDatasetError, InputRangeError


class Shape(tuple[Any, ...]):
    @property
    def rank(self) -> int:
        return len(self)


class Spec:
    def __init__(self, *shape: Any) -> None:
        self.shape = Shape(shape)


class Source:
    """Has element_spec and as_numpy_iterator."""

    def __init__(self, spec: Any, elements: list[Any], names: list[str] | None = None) -> None:
        self.element_spec = spec
        self.elements = elements
        if names is not None:
            self.class_names = names

    def as_numpy_iterator(self) -> Iterator[Any]:
        return iter(self.elements)


BATCH = np.full((2, 4, 5, 3), 200, np.float32)


def test_batches_with_labels_as_names() -> None:
    spec = (Spec(None, 4, 5, 3), Spec(None))
    source = Source(spec, [(BATCH, np.array([1, 0]))] * 2, ["cat", "dog"])
    dataset = as_dataset(source)
    assert dataset.known_length is None
    assert [item.label for item in dataset] == ["dog", "cat"] * 2
    assert dataset.ids == ["0", "1", "2", "3"]
    assert dataset[0].source.dtype == np.uint8  # type: ignore[union-attr]


def test_single_images_without_labels() -> None:
    dataset = as_dataset(Source(Spec(4, 5, 3), [BATCH[0], BATCH[1]]))
    assert (len(dataset), dataset.labels) == (2, None)


def test_a_dark_image_among_light_ones_is_none_that_was_divided() -> None:
    dark = np.full((4, 5, 3), 0.6, np.float32)
    items = list(Stream(Source(Spec(4, 5, 3), [BATCH[0], dark])))
    np.testing.assert_array_equal(items[1].source, np.ones((4, 5, 3), np.uint8))
    with pytest.raises(InputRangeError):
        list(Stream(Source(Spec(4, 5, 3), [dark])))


@pytest.mark.parametrize("spec", [(Spec(4), Spec(4), Spec(4)), Spec(4, 5), (Spec(4, 5), Spec())])
def test_elements_that_are_no_images(spec: Any) -> None:
    with pytest.raises(DatasetError, match="expected"):
        Stream(Source(spec, []))


def test_a_stream_that_gives_nothing() -> None:
    with pytest.raises(EmptyDatasetError):
        list(Stream(Source(Spec(4, 5, 3), [])))


def test_a_real_one() -> None:
    tf = pytest.importorskip("tensorflow")
    source = tf.data.Dataset.from_tensor_slices((BATCH, ["x", "y"])).batch(2)
    dataset = as_dataset(source)
    assert [item.label for item in dataset] == ["x", "y"]
    assert dataset.known_length is None
