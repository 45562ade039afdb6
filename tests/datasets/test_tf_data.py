"""A tf.data.Dataset, by a stand-in that has what featx uses of one; and a real one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from featx.datasets.dataset import Dataset, as_dataset
from featx.datasets.items import Item
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
    """Has element_spec, cardinality (unknown unless given) and as_numpy_iterator."""

    def __init__(
        self, spec: Any, elements: Any, names: list[str] | None = None, cardinality: int = -2
    ) -> None:
        self.element_spec = spec
        self.elements = elements
        self.cardinality = lambda: cardinality
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
    assert dataset[0].source.dtype == np.uint8


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


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array([[1.0], [0.0]], np.float32), [1, 0]),  # label_mode="binary"
        (np.eye(3, dtype=np.float32)[[2, 0]], [2, 0]),  # label_mode="categorical"
        (np.array([2, 0], np.int32), [2, 0]),  # label_mode="int"
    ],
)
def test_label_modes_of_keras(labels: np.ndarray, expected: list[int]) -> None:
    spec = (Spec(None, 4, 5, 3), Spec(*labels.shape))
    found = as_dataset(Source(spec, [(BATCH, labels)])).classes
    assert found == sorted(expected)
    names = ["ant", "bee", "cow"]
    named = as_dataset(Source(spec, [(BATCH, labels)], names))
    assert [item.label for item in named] == [names[i] for i in expected]


@pytest.mark.parametrize("labels", [np.full((2, 3), 0.5), np.ones((2, 3)), np.zeros((2, 2, 2))])
def test_soft_labels_are_refused(labels: np.ndarray) -> None:
    spec = (Spec(None, 4, 5, 3), Spec(*labels.shape))
    with pytest.raises(DatasetError, match="one class name or number per image"):
        list(as_dataset(Source(spec, [(BATCH, labels)])))


def images(period: int) -> Iterator[np.ndarray]:
    for number in itertools.count():
        yield np.full((4, 5, 3), number % period % 256, np.uint8) + np.uint8(number % period // 256)


def test_a_stream_that_says_that_it_has_no_end_is_refused_at_once() -> None:
    with pytest.raises(DatasetError, match=r"no end: its cardinality is infinite.*take\(n\)"):
        as_dataset(Source(Spec(4, 5, 3), images(9), cardinality=-1))


@pytest.mark.parametrize("period", [2, 7, 250])
def test_a_stream_that_begins_again_is_stopped(period: int) -> None:
    stream = as_dataset(Source(Spec(4, 5, 3), images(period)))
    read = list(itertools.islice(stream, 1000 + period))
    assert len(read) == 1000 + period
    with pytest.raises(DatasetError, match=f"no end: after {period:,} images its first 1,000"):
        list(itertools.islice(stream, 1001 + period))
    with pytest.raises(DatasetError, match="no end"):
        len(as_dataset(Source(Spec(4, 5, 3), images(period))))


def test_what_comes_twice_is_not_endless() -> None:
    """Oversampling repeats images, a camera at night sends black ones, and a set may be doubled."""
    once = list(itertools.islice(images(250), 999))
    for elements in ([*once, *once], [BATCH[0]] * 3000):
        assert len(as_dataset(Source(Spec(4, 5, 3), elements))) == len(elements)
    doubled = [*once, BATCH[0]] * 2  # TensorFlow knows the length after repeat(2)
    assert len(as_dataset(Source(Spec(4, 5, 3), doubled, cardinality=2000))) == 2000


def test_an_iterator_is_read_once_and_an_endless_iterable_is_stopped() -> None:
    item = Item("0", "a", BATCH[0].astype(np.uint8))
    once = Dataset(iter([item, item]))
    assert (len(list(once)), len(list(once))) == (2, 2)

    class Endless:
        def __iter__(self) -> Iterator[Item]:
            return (Item(str(n), "a", image) for n, image in enumerate(images(5)))

    with pytest.raises(DatasetError, match="no end"):
        list(Dataset(Endless()))
