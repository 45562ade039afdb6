from __future__ import annotations

import os
from pathlib import Path

import pytest

from featx.datasets.dataset import Dataset
from featx.datasets.listing import Listing
from featx.errors import DatasetError
from featx.maintenance.inventory import size_of
from tests.promises import images as made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.png", "b/deep/er/1.png", "a/1.JPG", "a/10.png", "a/9.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(made.png())
    return tmp_path


def test_order_is_that_of_the_bytes_of_the_paths(folder: Path) -> None:
    dataset = Dataset.from_folder(folder)
    assert dataset.ids == ["a/1.JPG", "a/10.png", "a/9.png", "b/2.png", "b/deep/er/1.png"]
    assert dataset.labels is not None
    assert dataset.labels.tolist() == ["a", "a", "a", "b", "b"]


def test_notes_count_what_was_left_out(folder: Path) -> None:
    (folder / "a" / ".hidden.png").write_bytes(made.png())
    (folder / "a" / "notes.txt").write_text("words")
    (folder / "a" / "more.txt").write_text("words")
    (folder / "empty" / "deep").mkdir(parents=True)
    listing = Listing(folder, follow_links=False)
    paths = listing.in_classes(sorted(listing.images()))
    assert listing.notes(paths) == [
        "2 files that are not images (.txt), skipped.",
        "1 folder without an image, not a class: 'empty'.",
        "1 hidden or system files and folders, skipped.",
        "1 images deeper than one level, of the class of the top folder "
        "(such as b/deep/er/1.png: 'b').",
    ]


def test_foreign_images_are_listed_so_that_they_are_told(folder: Path) -> None:
    (folder / "a" / "x.heic").write_bytes(b"\0\0\0\x18ftypheic")
    assert "a/x.heic" in Dataset.from_folder(folder).ids


def test_loose_images_beside_classes(folder: Path) -> None:
    (folder / "loose.png").write_bytes(made.png())
    dataset = Dataset.from_folder(folder)
    assert "loose.png" not in dataset.ids
    assert any("loose.png" in note for note in dataset.notes)


def test_a_folder_that_may_not_be_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("featx.datasets.listing.os.scandir", refuse)
    with pytest.raises(DatasetError, match="cannot be listed: Permission denied"):
        Dataset.from_folder(folder)


def test_folders_may_be_deeper_than_pythons_stack(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "a")
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    Path("last.png").write_bytes(made.png())
    monkeypatch.chdir(folder)
    assert Dataset.from_folder(folder).ids[3] == f"a/{'d/' * 1200}last.png"
    assert size_of(folder) == 6 * len(made.png())
