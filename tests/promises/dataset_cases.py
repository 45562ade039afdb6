"""Cases 67-85, data sets and arguments: what cannot be meant is refused, with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import ImageFile

import featx
from featx.datasets.dataset import as_dataset
from featx.errors import ExtractionError, NonFiniteError, TooManyBadImagesError
from featx.images import decoding
from tests.fakes import TINY, CountingRuntime
from tests.promises import images as made
from tests.promises.cases import case

DATASET = "DatasetError"


def folder_of(folder: Path, **counts: int) -> Path:
    """Write so many images of each class, no two alike."""
    for number, (label, count) in enumerate(counts.items()):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            content = made.encoded(made.pixels(20, 24, seed=number), "PNG") + b"%d" % i
            (folder / label / f"{i}.png").write_bytes(content)
    return folder


def extract(dataset: Any, **options: Any) -> featx.Features:
    options = {"runtime": CountingRuntime(), "progress": False, **options}
    return featx.extract(dataset, options.pop("backbone", TINY), **options)


@case(67, "EmptyDatasetError", says="/empty. ")
def empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    extract(tmp_path / "empty")


@case(68, DATASET, says="does not exist")
def missing_folder(tmp_path: Path) -> None:
    extract(tmp_path / "nothing")


@case(69, DATASET, says="is a single image")
def a_file_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(made.png())
    extract(tmp_path / "x.png")


@case(70, DATASET, says="one class only, 'only'")
def one_class_only(tmp_path: Path) -> None:
    features = extract(folder_of(tmp_path / "d", only=4))
    assert features.classes == ["only"]
    with pytest.raises(ValueError, match=r"one class"):
        featx.heads.logistic().fit(features.X, features.y)
    featx.benchmark(tmp_path / "d", backbones=[TINY], baseline=False, progress=False)


@case(71)
def a_class_without_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(tmp_path / "d", a=2, b=2)
    (folder / "empty").mkdir()
    dataset = featx.Dataset.from_folder(folder)
    assert dataset.classes == ["a", "b"]
    assert any("not a class: 'empty'" in note for note in dataset.notes)
    assert "'empty'" in caplog.text


@case(72, DATASET, says=r"'single' \(1\)")
def a_class_with_one_image(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d", many=6, single=1)
    featx.benchmark(folder, backbones=[TINY], baseline=False, progress=False)


@case(73, DATASET, says="[13] labels? for 2 images", variants=(["a"], ["a", "b", "c"]))
def other_numbers_of_labels(variant: list[str]) -> None:
    as_dataset(["x.png", "y.png"], variant)


@case(
    74, DATASET, says="counted from 0, is (None|nan|''|NaT)|several kinds|a label of type list",
    variants=(
        ["a", None], [1.0, float("nan")], ["a", ""], ["a", 7], ["a", pd.NaT], [["a"], ["b"]],
    ),
)  # fmt: skip
def labels_missing_or_mixed(variant: list[Any]) -> None:
    as_dataset(["x.png", "y.png"], variant)


@case(75)
def a_path_given_twice(tmp_path: Path) -> None:
    one, two = sorted((folder_of(tmp_path / "d", a=2) / "a").iterdir())
    features = extract(as_dataset([one, two, one], ["u", "v", "u"]))
    assert features.ids == [one.as_posix(), two.as_posix(), one.as_posix()]
    assert list(features.y) == ["u", "v", "u"]
    np.testing.assert_array_equal(features.X[0], features.X[2])
    assert features.report is not None
    assert features.report.computed == 2


@case(76, "InputRangeError", says="before any division", variants=(1.0, 0.5))
def pixels_from_0_to_1(variant: float) -> None:
    pixels = np.linspace(0, variant, 2 * 32 * 32 * 3, dtype=np.float32).reshape(2, 32, 32, 3)
    extract(pixels)


@case(77, DATASET, says="np.moveaxis")
def channels_first() -> None:
    extract(np.zeros((2, 3, 32, 32), np.uint8))


@case(
    78, DATASET, says="NaN",
    why="refused as a whole, not row by row: an array has no file that could be named",
)  # fmt: skip
def nan_in_pixels() -> None:
    pixels = np.full((2, 32, 32, 3), 100.0)
    pixels[1, 3, 3, 0] = np.nan
    extract(pixels)


@case(79, "UnknownBackboneError", says="Did you mean 'resnet50'")
def a_backbone_by_a_wrong_name() -> None:
    featx.Backbone("resnet5O")


@case(
    80, "WeightsIntegrityError", says="/a.h5",
    why="other weights than Keras's are no error but another key; only damaged ones are refused",
)  # fmt: skip
def other_weights(tmp_path: Path) -> None:
    first, second = tmp_path / "a.h5", tmp_path / "b.h5"
    first.write_bytes(b"these are no weights")
    second.write_bytes(b"and neither are these")
    one = featx.Backbone("mobilenet_v2", weights=first, image_size=32)
    other = featx.Backbone("mobilenet_v2", weights=second, image_size=32)
    assert one.spec() != other.spec()
    one.build()


@case(81, "WeightsUnavailableError", says="resnet50_weights_tf_dim")
def weights_that_cannot_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a network, and without the file: it is named, and nothing is left half there."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    try:
        extract(np.zeros((1, 8, 8, 3), np.uint8), backbone=featx.Backbone("resnet50"))
    finally:
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


class Overflowing(CountingRuntime):
    def run(self, pixels: np.ndarray) -> np.ndarray:
        rows = super().run(pixels)
        rows[pixels[:, 0, 0, 0] == 7] = np.inf
        return rows


@case(82, "NonFiniteError")
def a_row_that_is_not_finite(tmp_path: Path) -> str:
    pixels = np.full((3, 32, 32, 3), 100, np.uint8)
    pixels[:, 1, 1, 1] = range(3)
    pixels[1, 0, 0, 0] = 7
    with pytest.raises(NonFiniteError, match=r"1 images .such as 1.*not cached") as caught:
        extract(pixels, runtime=Overflowing(), cache=tmp_path)
    assert "bfloat16" in str(caught.value)
    again = CountingRuntime()
    features = extract(pixels, runtime=again, cache=tmp_path)
    assert features.report is not None
    assert (features.report.computed, features.report.cached) == (1, 2)
    return type(caught.value).__name__


@case(83, "ExtractionError", says="LOAD_TRUNCATED_IMAGES")
def pillow_told_to_fill_cut_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ExtractionError, match="LOAD_TRUNCATED_IMAGES"):
        decoding.decode(made.jpeg())
    extract(folder_of(tmp_path / "d", a=2))


@case(84, "ValueError", says="from 1 to 16,384", variants=(0, -1, 2**40, 1.5, "32"))
def batch_sizes_that_are_none(variant: Any) -> None:
    extract(np.zeros((1, 8, 8, 3), np.uint8), batch_size=variant)


@case(85, "TooManyBadImagesError", variants=("raise", "skip"))
def half_of_the_images_are_bad(tmp_path: Path, variant: str) -> str:
    """Stopped early: the fault is elsewhere. What was computed until then is kept."""
    folder = folder_of(tmp_path / "d", a=1200)
    for number in range(0, 1200, 2):
        (folder / "a" / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(TooManyBadImagesError, match="check the folder, the disk") as caught:
        extract(folder, on_error=variant, cache=tmp_path / "c")
    assert 60 < len(caught.value.failures) < 70
    assert list((tmp_path / "c").glob("k-*/shards/*.h5"))
    return type(caught.value).__name__
