"""Data sets of other libraries: Hugging Face's `datasets`, PyTorch and torchvision."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import featx
from featx import Dataset
from featx.datasets import torch_data
from featx.datasets.dataset import as_dataset
from featx.errors import DatasetError, InputRangeError
from tests.conftest import draw_folder
from tests.fakes import TINY, CountingRuntime


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "pets", 3)


@pytest.fixture
def library() -> Any:
    return pytest.importorskip("datasets")


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def rows_of(library: Any, folder: Path, *, embedded: bool) -> Any:
    """Return a Hugging Face data set of a folder: its files, or their bytes."""
    images = sorted(folder.rglob("*.png"))
    names = sorted({path.parent.name for path in images})
    cells = [
        {
            "path": path.name if embedded else str(path),
            "bytes": path.read_bytes() if embedded else None,
        }
        for path in images
    ]
    return library.Dataset.from_dict(
        {"photo": cells, "kind": [names.index(path.parent.name) for path in images]},
        features=library.Features(
            {"photo": library.Image(), "kind": library.ClassLabel(names=names)}
        ),
    )


@pytest.mark.parametrize("embedded", [True, False])
def test_a_hugging_face_data_set_gives_what_the_folder_gives(
    library: Any, folder: Path, tmp_path: Path, embedded: bool
) -> None:
    runtime = CountingRuntime()
    options = {"cache": tmp_path / "c", "progress": False, "runtime": runtime}
    expected = featx.extract(folder, TINY, **options)
    seen = runtime.seen
    rows = rows_of(library, folder, embedded=embedded)
    found = featx.extract(rows, TINY, **options)
    assert runtime.seen == seen
    assert np.array_equal(found.X, expected.X)
    assert found.y.tolist() == expected.y.tolist()
    # The same names in each class: positions then, else paths.
    assert found.ids == ([str(n) for n in range(9)] if embedded else expected.ids)
    turned = featx.extract(rows.select([8, 0]), TINY, **options)
    assert np.array_equal(turned.X, expected.X[[8, 0]])
    assert turned.y.tolist() == ["red", "blue"]


def test_hugging_face_data_sets_that_are_not_taken(library: Any, folder: Path) -> None:
    rows = rows_of(library, folder, embedded=True)
    with pytest.raises(DatasetError, match=r"the parts 'train', 'test'; pass one of them"):
        as_dataset(library.DatasetDict({"train": rows, "test": rows}))
    with pytest.raises(DatasetError, match="without streaming=True"):
        as_dataset(rows.to_iterable_dataset())
    with pytest.raises(DatasetError, match="no column of images; it has 'kind'"):
        as_dataset(rows.remove_columns("photo"))
    with pytest.raises(DatasetError, match="several columns of class labels"):
        as_dataset(rows.add_column("other", [0] * 9).cast_column("other", rows.features["kind"]))
    assert as_dataset(rows.remove_columns("kind")).labels is None


def test_torchvision_image_folder_and_a_part_of_it(
    torch: Any, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        pytest.skip(f"torchvision cannot be imported: {error}")
    runtime = CountingRuntime()
    options = {"cache": tmp_path / "c", "progress": False, "runtime": runtime}
    expected = featx.extract(folder, TINY, **options)
    seen = runtime.seen
    images = torchvision.datasets.ImageFolder(
        str(folder), transform=torchvision.transforms.ToTensor()
    )
    found = featx.extract(images, TINY, **options)
    assert "the transform of the ImageFolder is left out" in caplog.text
    assert found.ids == expected.ids
    assert found.y.tolist() == expected.y.tolist()
    assert np.array_equal(found.X, expected.X)
    part = torch.utils.data.Subset(torch.utils.data.Subset(images, [5, 7, 1]), [2, 0])
    assert as_dataset(part).ids == [expected.ids[1], expected.ids[5]]
    assert runtime.seen == seen


def test_what_has_the_attributes_of_an_image_folder(folder: Path) -> None:
    images = sorted(map(str, folder.rglob("*.png")))
    classes = ["blue", "green", "red"]
    made = SimpleNamespace(
        root=str(folder),
        classes=classes,
        samples=[(path, classes.index(Path(path).parent.name)) for path in images],
    )
    found = torch_data.files_of(made)
    assert found is not None
    items, root = found
    assert root == folder
    assert [item.id for item in items] == Dataset.from_folder(folder).ids
    assert [item.label for item in items] == ["blue"] * 3 + ["green"] * 3 + ["red"] * 3
    assert [str(item.source) for item in items] == images


class Pixels:
    """What a data set of PyTorch is, for tests without it: its base class has this name."""

    classes = ("blue", "green", "red")

    def __init__(self, folder: Path, change: Any) -> None:
        self.paths, self.change = sorted(folder.rglob("*.png")), change

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Any:
        path = self.paths[number]
        return self.change(Image.open(path)), self.classes.index(path.parent.name)


def data_set(torch: Any, folder: Path, change: Any) -> Any:
    kind = type("Own", (Pixels, torch.utils.data.Dataset), {})
    return kind(folder, change)


def test_other_data_sets_of_pytorch_give_pixels(torch: Any, folder: Path, tmp_path: Path) -> None:
    expected = featx.extract(
        folder, TINY, cache=tmp_path / "c", progress=False, runtime=CountingRuntime()
    )

    def tensor(image: Image.Image) -> Any:
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)

    changes = {
        "PIL": lambda image: image,
        "uint8": tensor,
        "float": lambda image: tensor(image).float() / 255,
    }
    for change in changes.values():
        runtime = CountingRuntime()
        options = {"cache": tmp_path / "c", "progress": False, "runtime": runtime}
        found = featx.extract(data_set(torch, folder, change), TINY, **options)
        assert np.array_equal(found.X, expected.X)
        assert found.y.tolist() == expected.y.tolist()
        loader = torch.utils.data.DataLoader(data_set(torch, folder, tensor), batch_size=4)
        assert [len(featx.extract(loader, TINY, **options))] == [9]
    normalised = data_set(torch, folder, lambda image: tensor(image).float() / 255 - 0.5)
    with pytest.raises(InputRangeError, match="Leave Normalize out"):
        list(as_dataset(normalised))


def test_elements_of_other_shapes(torch: Any, folder: Path) -> None:
    three = type("Three", (torch.utils.data.Dataset,), {
        "__len__": lambda self: 1, "__getitem__": lambda self, i: (1, 2, 3),
    })()  # fmt: skip
    with pytest.raises(DatasetError, match=r"gives a tuple of 3 parts; expected \(image, label\)"):
        list(Dataset.from_torch(three))
