"""Tables as people publish them: other columns, folders, separators, one column per class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from featx.datasets.dataset import Dataset, as_dataset
from featx.errors import DatasetError, EmptyDatasetError

IDS = ["a1", "b2", "c3"]


@pytest.fixture
def aptos(tmp_path: Path) -> Path:
    """Return a folder with a table of names without suffix, and the images in a folder beside."""
    (tmp_path / "train_images").mkdir()
    for name in IDS:
        Image.new("RGB", (8, 8)).save(tmp_path / "train_images" / f"{name}.png")
    write(
        tmp_path / "train.csv",
        ["id_code,diagnosis", *(f"{name},{i}" for i, name in enumerate(IDS))],
    )
    return tmp_path


def write(path: Path, lines: list[str], encoding: str = "utf-8") -> Path:
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def paths(dataset: Dataset) -> list[str]:
    return [os.fspath(item.source) for item in dataset if isinstance(item.source, Path)]


def test_names_without_suffix_in_another_folder(aptos: Path) -> None:
    columns = {"path_column": "id_code", "label_column": "diagnosis"}
    found = Dataset.from_table(
        aptos / "train.csv", folder=aptos / "train_images", suffix=".png", **columns
    )
    assert paths(found) == [os.fspath(aptos / "train_images" / f"{name}.png") for name in IDS]
    assert (found.ids, found.classes) == (["a1.png", "b2.png", "c3.png"], ["0", "1", "2"])
    by_path = as_dataset(
        str(aptos / "train.csv"), image_folder=aptos / "train_images", suffix=".png", **columns
    )
    assert paths(by_path) == paths(found)


@pytest.mark.parametrize(
    ("folder", "names", "said"),
    [
        (None, IDS, "train_images/a1.png does: pass folder='{}/train_images', suffix='.png'"),
        ("train_images", IDS, "a1.png does: pass suffix='.png'"),
        (None, [f"{name}.png" for name in IDS], "a1.png does: pass folder='{}/train_images' to"),
        (None, ["x"], "In {} are: train.csv, train_images. Pass folder=..."),
        (None, ["deep/x"], "In {} are: "),
    ],
)
def test_the_error_says_what_lies_near(
    aptos: Path, folder: str | None, names: list[str], said: str
) -> None:
    table = write(aptos / "train.csv", ["path,label", *(f"{name},1" for name in names)])
    with pytest.raises(DatasetError) as raised:
        Dataset.from_table(table, folder=None if folder is None else aptos / folder)
    message = str(raised.value)
    assert f"{aptos / (folder or '') / names[0]} does not exist" in message
    assert said.format(aptos) in message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "C:\\photos\\train_images\\a1.png",
            "{}/train_images/a1.png does: the table's paths are those of another machine or "
            "folder. Keep the last 2 parts of each, in Python with "
            "[\"/\".join(PureWindowsPath(path).parts[-2:]) for path in table['path']].",
        ),
        (
            "C:\\photos\\a1.png",
            "{}/train_images/a1.png does: the table's paths are those of another machine or "
            "folder. Keep the last part of each, in Python with "
            "[\"/\".join(PureWindowsPath(path).parts[-1:]) for path in table['path']], and pass "
            "folder='{}/train_images' to featx.Dataset.from_table (--image-folder "
            "{}/train_images on the command line).",
        ),
        ("\\\\nas\\share\\a1.png", "Keep the last part of each"),
        ("/home/anna/photos/a1", "pass folder='{}/train_images', suffix='.png' to"),
        ("old/train_images/b2.png", "{}/train_images/b2.png does: the table's paths are"),
        ("C:\\photos\\gone.png", "In {} are: t.csv, train.csv, train_images. Pass folder=..."),
    ],
)
def test_the_error_says_what_lies_near_for_paths_of_another_machine(
    aptos: Path, name: str, said: str
) -> None:
    table = write(aptos / "t.csv", ["path,label", f"{name},1"])
    with pytest.raises(DatasetError) as raised:
        Dataset.from_table(table)
    assert said.format(*[aptos] * 3) in str(raised.value)


def test_some_missing_images_are_left_to_the_extraction(aptos: Path) -> None:
    table = write(aptos / "t.csv", ["path,label", "gone.png,x", "train_images/a1.png,y"])
    assert len(Dataset.from_table(table)) == 2


@pytest.mark.parametrize("frame", [True, False])
def test_windows_separators(aptos: Path, frame: bool) -> None:
    table: Any = write(aptos / "w.csv", ["path,label", *(f"train_images\\{n}.png,1" for n in IDS)])
    if frame:
        table = pd.read_csv(table)
    found = Dataset.from_table(table, folder=aptos)
    assert found.ids == [f"train_images/{name}.png" for name in IDS]


def test_a_backslash_in_a_real_name_stays(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a\\b.png")
    found = Dataset.from_table(write(tmp_path / "t.csv", ["path,label", "a\\b.png,x"]))
    assert found.ids == ["a\\b.png"]


@pytest.mark.parametrize(
    ("lines", "encoding"),
    [
        (["path;label", "train_images/a1.png;Käfer"], "utf-8"),
        (["path\tlabel", "train_images/a1.png\tKäfer"], "utf-8"),
        (["path,label", "train_images/a1.png,Käfer"], "utf-8-sig"),
        (["path,label", '"train_images/a1.png","Käfer"'], "utf-8"),
    ],
)
def test_separators_and_byte_order_marks(aptos: Path, lines: list[str], encoding: str) -> None:
    found = Dataset.from_table(write(aptos / "t.csv", lines, encoding))
    assert (found.ids, found.classes) == (["train_images/a1.png"], ["Käfer"])


HAM = ["image,MEL,NV,BCC", "a1,1.0,0.0,0.0", "b2,0.0,1.0,0.0", "c3,0.0,0.0,1.0"]


@pytest.mark.parametrize("column", [["MEL", "NV", "BCC"], "MEL,NV,BCC", "MEL, NV, BCC"])
@pytest.mark.parametrize("frame", [True, False])
def test_one_column_per_class(aptos: Path, column: Any, frame: bool) -> None:
    table: Any = write(aptos / "ham.csv", HAM)
    if frame:
        table = pd.read_csv(table)
    found = Dataset.from_table(
        table,
        path_column="image",
        label_column=column,
        folder=aptos / "train_images",
        suffix=".png",
    )
    assert [item.label for item in found] == ["MEL", "NV", "BCC"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["image,MEL,NV", "a1,1,1"], "1 row does not have one 1"),
        (["image,MEL,NV", "a1,0,0"], "1 row does not have one 1"),
        (["image,MEL,NV", "a1,0.5,0.5"], "1 row does not have one 1"),
        (["image,MEL,NV", "a1,yes,no"], "other values than 0 and 1"),
    ],
)
def test_columns_that_are_not_one_hot(aptos: Path, lines: list[str], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        Dataset.from_table(
            write(aptos / "t.csv", lines), path_column="image", label_column=["MEL", "NV"],
            folder=aptos / "train_images", suffix=".png",
        )  # fmt: skip


def test_a_missing_label_column_names_what_may_be_meant(aptos: Path) -> None:
    where: dict[str, Any] = {"folder": aptos / "train_images", "suffix": ".png"}
    with pytest.raises(DatasetError, match="--label-column MEL,NV,BCC"):
        Dataset.from_table(write(aptos / "ham.csv", HAM), path_column="image", **where)
    with pytest.raises(DatasetError, match="no column 'path'; it has 'id_code', 'diagnosis'"):
        Dataset.from_table(aptos / "train.csv", **where)
    with pytest.raises(DatasetError, match="Did you mean 'diagnosis'"):
        Dataset.from_table(
            aptos / "train.csv", path_column="id_code", label_column="diagnosys", **where
        )


def test_labels_of_a_table(aptos: Path) -> None:
    where: dict[str, Any] = {"folder": aptos / "train_images", "suffix": ".png"}
    frame = pd.DataFrame({"path": IDS, "label": [10, 9, 1]})
    assert Dataset.from_table(frame, **where).classes == [1, 9, 10]
    assert Dataset.from_table(frame.astype({"label": float}), **where).classes == [1.0, 9.0, 10.0]
    assert Dataset.from_table(frame.astype({"label": str}), **where).classes == ["1", "9", "10"]
    flags = frame.assign(label=[True, False, True])
    assert Dataset.from_table(flags, **where).classes == [False, True]
    missing = frame.assign(label=pd.array([1, None, 2], dtype="Int64"))
    with pytest.raises(DatasetError, match="1 label is missing"):
        Dataset.from_table(missing, **where)
    text = write(aptos / "t.csv", ["path,label", "a1,007", "b2,NA", "c3,nan"])
    assert Dataset.from_table(text, **where).classes == ["007", "NA", "nan"]


def test_polars_frames(aptos: Path) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    where: dict[str, Any] = {"folder": aptos / "train_images", "suffix": ".png"}
    frame = polars.DataFrame({"path": IDS, "label": [3, 2, 1]})
    assert Dataset.from_table(frame, **where).classes == [1, 2, 3]
    assert [item.label for item in as_dataset(frame["path"].to_list(), frame["label"])] == [3, 2, 1]
    with pytest.raises(DatasetError, match="1 label is missing"):
        Dataset.from_table(polars.DataFrame({"path": IDS, "label": [3, None, 1]}), **where)


def test_tables_without_labels(aptos: Path) -> None:
    frame = pd.DataFrame({"path": [str(aptos / "train_images" / f"{name}.png") for name in IDS]})
    assert as_dataset(frame, labelled=False).labels is None
    assert as_dataset(frame, [1, 2, 1]).classes == [1, 2]
    with pytest.raises(DatasetError, match="no column 'label'"):
        as_dataset(frame)


def test_an_empty_table(aptos: Path) -> None:
    with pytest.raises(EmptyDatasetError, match="no image"):
        Dataset.from_table(write(aptos / "t.csv", ["path,label"]))
    with pytest.raises(DatasetError, match="not a folder, or does not exist"):
        Dataset.from_table(aptos / "train.csv", folder=aptos / "nowhere")


def test_names_that_are_numbers_and_paths_of_several_kinds(aptos: Path) -> None:
    for name in ("10", "11"):
        Image.new("RGB", (8, 8)).save(aptos / "train_images" / f"{name}.png")
    where: dict[str, Any] = {"folder": aptos / "train_images", "suffix": ".png"}
    frame = pd.DataFrame({"path": [10, 11], "label": [0, 1]})
    assert Dataset.from_table(frame, **where).ids == ["10.png", "11.png"]
    frame = pd.DataFrame({"path": [Path("a1"), "b2"], "label": [0, 1]})
    assert Dataset.from_table(frame, **where).ids == ["a1.png", "b2.png"]
    mixed = write(
        aptos / "t.csv", ["path,label", "train_images/a1.png,1", "train_images\\b2.png,2"]
    )
    assert Dataset.from_table(mixed).ids == ["train_images/a1.png", "train_images/b2.png"]
    frame = pd.DataFrame({"path": ["a1", None], "label": [0, 1]})
    with pytest.raises(DatasetError, match=r"row 1 of the table, counted from 0, has (None|nan)"):
        Dataset.from_table(frame, **where)


def test_one_hot_columns_of_words_and_other_encodings(aptos: Path) -> None:
    lines = ["image,MEL,NV", "a1,True,False", "b2,FALSE,TRUE"]
    found = Dataset.from_table(
        write(aptos / "t.csv", lines), path_column="image", label_column="MEL,NV",
        folder=aptos / "train_images", suffix=".png",
    )  # fmt: skip
    assert [item.label for item in found] == ["MEL", "NV"]
    table = write(aptos / "t.csv", ["path,label", "train_images/a1.png,Kühe"], "latin-1")
    with pytest.raises(DatasetError, match="not UTF-8.*save it as CSV in UTF-8"):
        Dataset.from_table(table)
