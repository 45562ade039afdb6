"""Folders of train and test, folders around a data set, and folders below a class."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from featx.datasets.dataset import Dataset, as_dataset
from featx.datasets.parts import Parts, parts_of
from featx.errors import DatasetError
from featx.evaluation.protocol import splits


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (len(name) * 5 % 256, 90, 90)).save(path)
    return root


@pytest.mark.parametrize(
    "names",
    [
        ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png"),
        ("Train/cat/1.png", "VALID/cat/1.png"),
        ("train/cat/1.png", "train/dog/1.png", "test/1.png"),  # a test set without labels
        ("training/a/1.png", "testing/a/1.png"),
        ("dev/a/1.png", "test/a/1.png", "others/1.png"),
        ("pets/train/cat/1.png", "pets/val/cat/1.png"),  # one folder deeper
        ("training_set/cat/1.png", "test_set/cat/1.png"),
        ("images/train/cat/1.png", "images/test/cat/1.png", "annotations/1.png"),
    ],
)
def test_parts_are_not_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = make(tmp_path / "pets", *names)
    with pytest.raises(DatasetError, match=r"holds parts of a data set, not classes.*benchmark"):
        Dataset.from_folder(root)
    assert len(as_dataset(root, labelled=False)) == len(names)  # a prediction takes every image


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("train/1.png", "test/1.png"), ["test", "train"]),  # two classes of things on rails
        (("train/a/1.png", "bus/1.png"), ["bus", "train"]),
        (("trained/a/1.png", "tested/a/1.png"), ["tested", "trained"]),
    ],
)
def test_classes_that_are_called_so(
    tmp_path: Path, names: tuple[str, ...], classes: list[str]
) -> None:
    assert Dataset.from_folder(make(tmp_path, *names)).classes == classes


def test_the_only_folder_that_holds_the_classes_is_entered(tmp_path: Path) -> None:
    root = make(tmp_path, "flowers/flowers/daisy/1.png", "flowers/flowers/rose/1.png")
    (root / "flowers" / "LICENSE.txt").write_text("CC-BY")
    found = Dataset.from_folder(root / "flowers")
    assert (found.classes, found.ids) == (["daisy", "rose"], ["daisy/1.png", "rose/1.png"])
    inner = root / "flowers" / "flowers"
    assert found.notes == (f"The classes are the sub-folders of {inner}, the only folder there.",)
    assert Dataset.from_folder(root).classes == ["daisy", "rose"]  # two levels, too


@pytest.mark.parametrize("beside", ["1.png", "inner/1.png"])
def test_a_folder_with_images_beside_is_not_entered(tmp_path: Path, beside: str) -> None:
    root = make(tmp_path, "inner/a/1.png", "inner/b/1.png", beside)
    assert Dataset.from_folder(root).classes == ["inner"]


def test_images_deeper_than_one_level_belong_to_the_top_folder(tmp_path: Path) -> None:
    root = make(tmp_path, "cat/indoor/1.png", "cat/outdoor/2.png", "dog/3.png")
    found = Dataset.from_folder(root)
    assert [item.label for item in found] == ["cat", "cat", "dog"]
    assert found.notes == (
        "2 images deeper than one level, of the class of the top folder "
        "(such as cat/indoor/1.png: 'cat').",
    )


def test_unicode_forms_of_one_name_are_one_class(tmp_path: Path) -> None:
    root = make(tmp_path, "Caf\u00e9/1.png", "Cafe\u0301/2.png", "tea/3.png", "Tea/4.png")
    found = Dataset.from_folder(root)
    assert found.classes == ["Caf\u00e9", "Tea", "tea"]
    assert [note for note in found.notes if "'Tea', 'tea'" in note]


def test_numbered_folders_sort_by_value(tmp_path: Path) -> None:
    root = make(tmp_path, *(f"{n}/1.png" for n in (10, 9, 1, 2)))
    assert Dataset.from_folder(root).classes == ["1", "2", "9", "10"]
    make(root, "007/1.png")
    assert Dataset.from_folder(root).classes == ["007", "1", "10", "2", "9"]


def test_classes_that_are_divided_themselves_stay_classes(tmp_path: Path) -> None:
    root = make(tmp_path, "cat/train/1.png", "cat/test/2.png", "dog/train/1.png")
    assert Dataset.from_folder(root).classes == ["cat", "dog"]


def test_what_a_benchmark_takes_from_parts(tmp_path: Path) -> None:
    names = ("train/a/1.png", "train/b/1.png", "Valid/a/1.png", "test/a/1.png", "unlabeled/1.png")
    root = make(tmp_path, *names)
    train, test, (note,) = splits.parts(root, None)
    assert (train, test) == (root / "train", root / "test")
    assert "trained on 'train', tested on 'test'; left out: 'Valid', 'unlabeled'." in note
    assert splits.parts(root, "other")[:2] == (root, "other")  # both were named
    assert splits.parts([1], None) == ([1], None, [])


@pytest.mark.parametrize(
    ("names", "test", "said"),
    [
        (("train/a/1.png", "val/a/1.png"), "val", "tested on 'val'."),
        (("train/a/1.png", "test/1.png"), None, "tested by folds of it; left out: 'test'."),
        (("train/a/1.png", "val/a/1.png", "test/1.png"), "val", "left out: 'test'."),
    ],
)
def test_the_part_that_tests(
    tmp_path: Path, names: tuple[str, ...], test: str | None, said: str
) -> None:
    found = parts_of(make(tmp_path, *names))
    assert isinstance(found, Parts)
    assert found.test == (None if test is None else tmp_path / test)
    assert said in found.notes()[0]


def test_no_part_to_train_on(tmp_path: Path) -> None:
    make(tmp_path, "test/a/1.png", "val/a/1.png")
    with pytest.raises(DatasetError, match="no folder 'train'"):
        splits.parts(tmp_path, None)
