from __future__ import annotations

import os
from pathlib import Path

import pytest

from featx.datasets.dataset import Dataset, as_dataset
from featx.datasets.listing import Listing
from featx.errors import DatasetError, EmptyDatasetError
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
        "1 hidden or system file or folder, skipped.",
        "1 image deeper than one level, of the class of the top folder "
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
    deepest = os.open(".", os.O_RDONLY)
    monkeypatch.chdir(folder)
    try:
        assert Dataset.from_folder(folder).ids[3] == f"a/{'d/' * 1200}last.png"
        assert size_of(folder) == 6 * len(made.png())
    finally:  # what pytest removes later must not be deeper than Python's stack
        os.fchdir(deepest)
        os.close(deepest)
        os.unlink("last.png")
        for _ in range(1200):
            os.chdir("..")
            os.rmdir("d")


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


RAW = made.raw_photograph(made.MAKE, made.SUBIFDS)
THUMBNAILS = {
    f"{cat}@eaDir/{i}.jpg/SYNOPHOTO_THUMB_{size}.jpg": made.jpeg()
    for cat in ("a/", "b/", "")
    for i in range(2)
    for size in ("SM", "M")
}


@pytest.mark.parametrize(
    ("files", "note"),
    [
        (THUMBNAILS, "3 folders in which a NAS or an operating system keeps"),
        (
            {"a/#recycle/old.png": made.png(), "$RECYCLE.BIN/x/1.png": made.png()},
            "2 folders in which a NAS or an operating system keeps thumbnails, deleted files or "
            "snapshots (#recycle, $RECYCLE.BIN), skipped.",
        ),
        ({"lost+found/1.png": made.png(), "a/.thumbnails/1.png": made.png()}, "2 folders in which"),
        ({"a/@Recycle/1.png": made.png(), ".@__thumb/1.png": made.png()}, "2 folders in which"),
        ({"a/1.nef": RAW, "b/2.NEF": RAW, "c/3.dng": RAW}, "3 RAW photographs (.dng, .nef), skip"),
        ({"a/1.cr3": b"\0\0\0\x18ftypcrx ", "a/2.arw": b"", "a/3.x3f": b"FOVb"}, "3 RAW photo"),
        ({"a/of-a-camera": RAW, "a/1.bak": RAW}, "2 RAW photographs (.bak, no suffix), skipped"),
        ({"a/1.xyz": b"8BPS\0\1"}, "1 file of a kind of image that featx does not read: Photo"),
    ],
)
def test_images_in_form_only_are_one_note(
    files: dict[str, bytes], note: str, folder: Path, tmp_path: Path
) -> None:
    alone = Dataset.from_folder(folder).ids
    dataset = Dataset.from_folder(written(folder, files))
    assert dataset.ids == alone
    assert dataset.classes == ["a", "b"]
    assert len([found for found in dataset.notes if found.startswith(note)]) == 1
    others = [found for found in dataset.notes if "not a class" not in found]
    assert len([found for found in others if "deeper than one level" not in found]) == 1


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"1.nef": RAW, "2.nef": RAW}, r"no image in .*2 RAW photographs \(.nef\)"),
        ({"a/1.dng": RAW, "b/2.dng": RAW}, r"no image in .*2 RAW photographs \(.dng\)"),
        (THUMBNAILS, r"no image in .*1 folder in which a NAS .* keeps .*\(@eaDir\)"),
        ({"#recycle/1.png": made.png()}, r"no image in .*deleted files .*\(#recycle\)"),
    ],
)
def test_alone_they_are_an_error_that_says_what_they_are(
    files: dict[str, bytes], said: str, tmp_path: Path
) -> None:
    if files is THUMBNAILS:
        files = {name: content for name, content in files.items() if name.startswith("@")}
    with pytest.raises(EmptyDatasetError, match=said):
        Dataset.from_folder(written(tmp_path, files))


def test_what_only_looks_like_it_stays(tmp_path: Path) -> None:
    plain = made.encoded(made.pixels(), "TIFF")
    names = ["recycle/1.png", "snapshot/1.png", "lost/1.tif", "found/x.nef", "found/1.raw"]
    contents = [made.png(), made.png(), plain, made.png(), plain]
    written(tmp_path, dict(zip(names, contents, strict=True)))
    (tmp_path / "recycle" / "@eaDir.png").write_bytes(made.png())  # a file
    dataset = Dataset.from_folder(tmp_path)
    assert dataset.ids == sorted([*names, "recycle/@eaDir.png"])
    assert not dataset.notes


@pytest.mark.parametrize(
    "suffix", [".ppm", ".pgm", ".pbm", ".tga", ".avif", ".jp2", ".heic", ".hif"]
)
def test_kinds_that_are_read_are_listed(suffix: str, folder: Path) -> None:
    (folder / "a" / f"x{suffix}").write_bytes(b"whatever it holds")
    assert f"a/x{suffix}" in Dataset.from_folder(folder).ids


@pytest.mark.parametrize("form", ["PPM", "AVIF", "JPEG2000"])
def test_kinds_that_are_read_are_told_by_their_content(form: str, folder: Path) -> None:
    (folder / "a" / "without").write_bytes(made.encoded(made.pixels(), form))
    (folder / "a" / "words.txt").write_bytes(b"P3 and P4 are words")
    dataset = Dataset.from_folder(folder)
    assert "a/without" in dataset.ids
    assert "a/words.txt" not in dataset.ids


def test_links_and_how_to_follow_them(tmp_path: Path) -> None:
    home = written(tmp_path / "home", {"x.png": made.png()})
    (tmp_path / "links" / "a").mkdir(parents=True)
    (tmp_path / "links" / "a" / "x.png").symlink_to(home / "x.png")
    with pytest.raises(EmptyDatasetError, match=r"--follow-links.*follow_links=True"):
        Dataset.from_folder(tmp_path / "links")
    assert as_dataset(tmp_path / "links", follow_links=True).ids == ["a/x.png"]
