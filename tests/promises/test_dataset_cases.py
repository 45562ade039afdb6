"""Data set and argument cases 67-85: what cannot be meant is refused, and the message says why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import ImageFile

import featx
from featx import images
from featx.datasets import as_dataset
from featx.errors import (
    DatasetError,
    EmptyDatasetError,
    ExtractionError,
    InputRangeError,
    NonFiniteError,
    TooManyBadImagesError,
    UnknownBackboneError,
    WeightsIntegrityError,
    WeightsUnavailableError,
)
from tests.fakes import TINY, CountingRuntime
from tests.promises import pictures as made


def folder_of(folder: Path, **counts: int) -> Path:
    """Write so many pictures of each class, no two alike."""
    for number, (label, count) in enumerate(counts.items()):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            content = made.encoded(made.pixels(20, 24, seed=number), "PNG") + b"%d" % i
            (folder / label / f"{i}.png").write_bytes(content)
    return folder


def extract(dataset: Any, **options: Any) -> featx.Features:
    options = {"runtime": CountingRuntime(), "progress": False, **options}
    return featx.extract(dataset, options.pop("backbone", TINY), **options)


def test_every_case_is_here() -> None:
    found = {int(name.split("_")[1]) for name in globals() if re.match(r"test_\d", name)}
    assert found == set(range(67, 86))


def test_67_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match=re.escape(str(tmp_path))):
        extract(tmp_path)


def test_68_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        extract(tmp_path / "nothing")


def test_69_a_file_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(made.png())
    with pytest.raises(DatasetError, match="is a file, not a folder"):
        extract(tmp_path / "x.png")


def test_70_one_class_only(tmp_path: Path) -> None:
    features = extract(folder_of(tmp_path / "d", only=4))
    assert features.classes == ["only"]
    with pytest.raises(ValueError, match=r"one class"):
        featx.heads.logistic().fit(features.X, features.y)
    with pytest.raises(DatasetError, match="one class only, 'only'"):
        featx.benchmark(tmp_path / "d", backbones=[TINY], baseline=False, progress=False)


def test_71_a_class_without_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(tmp_path / "d", a=2, b=2)
    (folder / "empty").mkdir()
    dataset = featx.Dataset.from_folder(folder)
    assert dataset.classes == ["a", "b"]
    assert any("no class: 'empty'" in note for note in dataset.notes)
    assert "'empty'" in caplog.text


def test_72_a_class_with_one_picture(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d", many=6, single=1)
    with pytest.raises(DatasetError, match=r"'single' \(1\)"):
        featx.benchmark(folder, backbones=[TINY], baseline=False, progress=False)


@pytest.mark.parametrize("labels", [["a"], ["a", "b", "c"]])
def test_73_other_numbers_of_labels(labels: list[str]) -> None:
    with pytest.raises(DatasetError, match=f"{len(labels)} labels for 2 pictures"):
        as_dataset(["x.png", "y.png"], labels)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a", None], "row 1 is None"),
        ([1.0, float("nan")], "row 1 is nan"),
        (["a", ""], "row 1 is ''"),
        (["a", 7], "several kinds"),
        (["a", pd.NaT], "row 1 is NaT"),
        ([["a"], ["b"]], "a label of type list"),
    ],
)
def test_74_labels_missing_or_mixed(labels: list[Any], said: str) -> None:
    with pytest.raises(DatasetError, match=re.escape(said)):
        as_dataset(["x.png", "y.png"], labels)


def test_75_a_path_given_twice(tmp_path: Path) -> None:
    one, two = sorted((folder_of(tmp_path / "d", a=2) / "a").iterdir())
    features = extract(as_dataset([one, two, one], ["u", "v", "u"]))
    assert features.ids == [one.as_posix(), two.as_posix(), one.as_posix()]
    assert list(features.y) == ["u", "v", "u"]
    np.testing.assert_array_equal(features.X[0], features.X[2])
    assert features.report is not None
    assert features.report.computed == 2


@pytest.mark.parametrize("high", [1.0, 0.5])
def test_76_pixels_from_0_to_1(high: float) -> None:
    pixels = np.linspace(0, high, 2 * 32 * 32 * 3, dtype=np.float32).reshape(2, 32, 32, 3)
    with pytest.raises(InputRangeError, match="before any division"):
        extract(pixels)


def test_77_channels_first() -> None:
    with pytest.raises(DatasetError, match="np.moveaxis"):
        extract(np.zeros((2, 3, 32, 32), np.uint8))


def test_78_nan_in_pixels() -> None:
    """Decided: refused as a whole, since an array has no file that could be named."""
    pixels = np.full((2, 32, 32, 3), 100.0)
    pixels[1, 3, 3, 0] = np.nan
    with pytest.raises(DatasetError, match="NaN"):
        extract(pixels)


def test_79_a_backbone_by_a_wrong_name() -> None:
    with pytest.raises(UnknownBackboneError, match="Did you mean 'resnet50'"):
        featx.Backbone("resnet5O")


def test_80_other_weights(tmp_path: Path) -> None:
    """A damaged file is refused. One of other content is another key: rows are never mixed."""
    first, second = tmp_path / "a.h5", tmp_path / "b.h5"
    first.write_bytes(b"these are no weights")
    second.write_bytes(b"and neither are these")
    one = featx.Backbone("mobilenet_v2", weights=first, image_size=32)
    other = featx.Backbone("mobilenet_v2", weights=second, image_size=32)
    assert one.recipe() != other.recipe()
    with pytest.raises(WeightsIntegrityError, match=re.escape(str(first))):
        one.build()


def test_81_weights_that_cannot_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a network, and without the file: it is named, and nothing is left half there."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(WeightsUnavailableError, match="resnet50_weights_tf_dim"):
        extract(np.zeros((1, 8, 8, 3), np.uint8), backbone=featx.Backbone("resnet50"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


class Overflowing(CountingRuntime):
    def run(self, pixels: np.ndarray) -> np.ndarray:
        rows = super().run(pixels)
        rows[pixels[:, 0, 0, 0] == 7] = np.inf
        return rows


def test_82_a_row_that_is_not_finite(tmp_path: Path) -> None:
    pixels = np.full((3, 32, 32, 3), 100, np.uint8)
    pixels[:, 1, 1, 1] = range(3)
    pixels[1, 0, 0, 0] = 7
    with pytest.raises(NonFiniteError, match=r"1 pictures .such as 1.*not kept") as caught:
        extract(pixels, runtime=Overflowing(), cache=tmp_path)
    assert "bfloat16" in str(caught.value)
    again = CountingRuntime()
    features = extract(pixels, runtime=again, cache=tmp_path)
    assert features.report is not None
    assert (features.report.computed, features.report.reused) == (1, 2)


def test_83_pillow_told_to_fill_cut_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ExtractionError, match="LOAD_TRUNCATED_IMAGES"):
        extract(folder_of(tmp_path / "d", a=2))
    with pytest.raises(ExtractionError, match="LOAD_TRUNCATED_IMAGES"):
        images.decode(made.jpeg())


@pytest.mark.parametrize("batch_size", [0, -1, 2**40, 1.5, "32"])
def test_84_batch_sizes_that_are_none(batch_size: Any) -> None:
    with pytest.raises(ValueError, match="from 1 to 16,384"):
        extract(np.zeros((1, 8, 8, 3), np.uint8), batch_size=batch_size)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_85_half_of_the_pictures_are_bad(tmp_path: Path, on_error: str) -> None:
    """Stopped early: the fault is elsewhere. What was computed until then is kept."""
    folder = folder_of(tmp_path / "d", a=1200)
    for number in range(0, 1200, 2):
        (folder / "a" / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(TooManyBadImagesError, match="check the folder, the disk") as caught:
        extract(folder, on_error=on_error, cache=tmp_path / "c")
    assert 60 < len(caught.value.failures) < 70
    assert list((tmp_path / "c").glob("k-*/shards/*.h5"))


def test_85_a_few_bad_ones_do_not_stop_a_small_set(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d", a=24)
    for number in range(20):
        (folder / "a" / f"{number}.png").write_bytes(b"no picture")
    assert len(extract(folder, on_error="skip")) == 4
