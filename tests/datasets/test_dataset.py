from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from featx.datasets.dataset import Dataset, as_dataset
from featx.errors import DatasetError, EmptyDatasetError
from tests.promises import images as made


def test_folder_without_sub_folders_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(made.png())
    dataset = as_dataset(str(tmp_path))
    assert (dataset.ids, dataset.labels, dataset.classes) == (["x.png"], None, [])
    assert dataset[0].source == tmp_path / "x.png"


def test_labels_may_be_given_or_replaced(image_folder: Path) -> None:
    dataset = as_dataset(image_folder)
    renamed = as_dataset(dataset, ["x"] * 12 + ["y"] * 12)
    assert renamed.classes == ["x", "y"]
    assert dataset.classes == ["blue", "green", "red"]
    assert renamed.location == dataset.location


def test_table(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "sub/a.png"):
        (tmp_path / name).write_bytes(made.png())
    (tmp_path / "list.csv").write_text("path,label\nb.png,NA\nsub/a.png,007\n")
    dataset = as_dataset(tmp_path / "list.csv")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == ["NA", "007"]  # as they stand there
    assert [item.source for item in dataset] == [tmp_path / "b.png", tmp_path / "sub" / "a.png"]
    frame = pd.DataFrame({"file": [(tmp_path / "b.png").as_posix()], "kind": [3]})
    named = as_dataset(frame, path_column="file", label_column="kind")
    assert (named.ids, named.classes) == (frame["file"].tolist(), [3])
    assert as_dataset(frame, path_column="file", label_column=None).labels is None


@pytest.mark.parametrize(
    ("options", "said"),
    [({"path_column": "x"}, "no column 'x'"), ({"label_column": "y"}, "where there are no labels")],
)
def test_columns_that_are_not_there(options: dict[str, str], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        as_dataset(pd.DataFrame({"path": ["a"], "label": ["b"]}), **options)


def test_a_label_that_is_missing_in_a_table(image_folder: Path) -> None:
    paths = sorted(map(str, image_folder.rglob("*.png")))[:2]
    with pytest.raises(DatasetError, match="labels? (is|are) missing"):
        as_dataset(pd.DataFrame({"path": paths, "label": ["x", None]}))


def test_list_of_all_kinds(tmp_path: Path) -> None:
    image = Image.fromarray(made.pixels())
    dataset = as_dataset(["a.png", tmp_path / "b.png", made.png(), made.pixels(), image])
    kinds = [type(item.source) for item in dataset]
    assert [issubclass(kind, Path) for kind in kinds] == [True, True, False, False, False]
    assert dataset.ids == ["a.png", (tmp_path / "b.png").as_posix(), "2", "3", "4"]
    np.testing.assert_array_equal(dataset[4].source, made.pixels())


def test_array(image_folder: Path) -> None:
    dataset = as_dataset(np.zeros((3, 4, 5, 3), np.uint8), [1, 0, 1])
    assert (dataset.ids, dataset.classes) == (["0", "1", "2"], [0, 1])
    names = np.array(["a.png", "b.png"])
    assert as_dataset(names).ids == ["a.png", "b.png"]


@pytest.mark.parametrize(
    "source",
    [[], np.zeros((0, 4, 5, 3), np.uint8), pd.DataFrame({"path": [], "label": []})],
    ids=["list", "array", "table"],
)
def test_nothing_is_refused(source: Any) -> None:
    with pytest.raises(EmptyDatasetError):
        as_dataset(source)


@pytest.mark.parametrize("source", [7, None, b"bytes", object(), [None], [3.5], [""]])
def test_what_is_no_data_set(source: Any) -> None:
    with pytest.raises(DatasetError, match="expected|Expected"):
        as_dataset(source)


def test_a_path_is_no_items(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected items; see Dataset\.from_folder"):
        Dataset(str(tmp_path))


def test_a_column_of_paths() -> None:
    dataset = as_dataset(pd.Series(["a.png", "b.png"]), pd.Series([True, False]))
    assert (dataset.ids, dataset.classes) == (["a.png", "b.png"], [False, True])


def test_subset_keeps_order_and_repeats(image_folder: Path) -> None:
    dataset = as_dataset(image_folder)
    part = dataset.subset([3, 0, 3])
    assert part.ids == [dataset.ids[3], dataset.ids[0], dataset.ids[3]]
    assert len(part) == 3
    assert "24 images" in repr(dataset)


def test_nothing_is_opened_before_it_is_needed(image_folder: Path) -> None:
    dataset = as_dataset(image_folder)
    for path in image_folder.rglob("*.png"):
        path.unlink()
    assert len(dataset.ids) == 24


def test_an_iterable_without_a_length_is_read_once() -> None:
    class Once:
        begun = 0

        def __iter__(self) -> Any:
            self.begun += 1
            return iter(as_dataset(["a.png", "b.png"]).items)

    source = Once()
    dataset = Dataset(source)
    assert dataset.known_length is None
    assert "a stream of" in repr(dataset)
    assert len(dataset) == len(dataset.ids) == 2
    assert source.begun == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            "https://example.org/photos",
            "https://example.org/photos is the address of a single file",
        ),
        ("ftp://host/photos", "the address ftp://host/photos is not followed"),
        ("s3://", "is not the address of a bucket: expected s3://bucket/prefix"),
        ("http://[photos", "'http://[photos' is not an address"),
        ("photos.7z", "is packed in a way that featx does not read: unpack it"),
        ("photo.JPG", "is a single image: give the folder that it is in, or a list with its path"),
        ("notes.txt", "is a file, not a folder"),
        ("absent.zip", "does not exist"),
    ],
)
def test_what_is_no_folder_is_named_as_what_it_is(
    given: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "//" not in given and given != "absent.zip":
        Path(given).write_bytes(b"x")
    with pytest.raises(DatasetError, match=re.escape(words)):
        as_dataset(given)
