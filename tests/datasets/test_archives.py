"""Images in archives: the same as in the folder, wherever they lie, and nothing that harms."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import pickle
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import featx
from featx import Dataset, ImageClassifier, runtimes
from featx.cli.app import app
from featx.datasets import archives
from featx.datasets.dataset import as_dataset
from featx.errors import DatasetError, EmptyDatasetError, ImageError
from featx.images import decoding
from featx.images.elsewhere import Elsewhere
from tests.conftest import draw_folder
from tests.fakes import TINY, CountingRuntime
from tests.promises import images as made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "pets", 3)


def zipped(folder: Path, suffix: str = ".zip", top: str = "") -> Path:
    """Pack a folder: its content, or the folder itself under the name `top`."""
    target = folder.with_name(folder.name + suffix)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{top}{path.relative_to(folder).as_posix()}")
    return target


def tarred(folder: Path, suffix: str = ".tar", top: str = ".") -> Path:
    target = folder.with_name(folder.name + suffix)
    mode = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}
    with tarfile.open(target, mode[suffix]) as archive:  # type: ignore[call-overload]
        archive.add(folder, top)
    return target


def age(path: Path) -> None:
    """Give a file times that are old enough to be believed, and not of a whole millisecond."""
    os.utime(path, ns=(1_600_000_000_123_456_789,) * 2)


PACKED: dict[str, Callable[[Path], Path]] = {
    "zip": zipped,
    "zip, the folder in it": lambda folder: zipped(folder, top="pets/"),
    "tar": tarred,
    "tar, the folder in it": lambda folder: tarred(folder, top="pets"),
    "tar.gz": lambda folder: tarred(folder, ".tar.gz"),
    "tgz": lambda folder: tarred(folder, ".tgz", "pets"),
    "tar.bz2": lambda folder: tarred(folder, ".tar.bz2"),
    "tar.xz": lambda folder: tarred(folder, ".tar.xz"),
}


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_an_archive_is_listed_and_read_as_its_folder(
    folder: Path, pack: Callable[[Path], Path], tmp_path: Path
) -> None:
    runtime = CountingRuntime()
    expected = featx.extract(folder, TINY, cache=tmp_path / "c", runtime=runtime, progress=False)
    seen = runtime.seen
    packed = pack(folder)
    found = featx.extract(packed, TINY, cache=tmp_path / "c", runtime=runtime, progress=False)
    assert runtime.seen == seen  # the content is known, whatever it is packed in
    assert found.ids == expected.ids
    assert found.y.tolist() == expected.y.tolist()
    assert np.array_equal(found.X, expected.X)


@pytest.mark.parametrize("name", ["zip", "tar", "tar.gz"])
def test_an_archive_that_is_unchanged_is_not_read_again(
    folder: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = PACKED[name](folder)
    monkeypatch.setattr(archives, "are_settled", lambda *times: True)  # not to wait for 2 s

    def extract() -> np.ndarray:
        options = {"cache": tmp_path / "c", "runtime": CountingRuntime(), "progress": False}
        return featx.extract(packed, TINY, **options).X

    first = featx.extract(
        packed, TINY, cache=tmp_path / "c", runtime=CountingRuntime(), progress=False
    )
    read = []
    known = archives.Archive.read
    monkeypatch.setattr(
        archives.Archive,
        "read",
        lambda self, path, most: read.append(path) or known(self, path, most),
    )
    again = featx.extract(
        packed, TINY, cache=tmp_path / "c", runtime=CountingRuntime(), progress=False
    )
    assert not read
    assert np.array_equal(first, again)
    # The same names and sizes, other bytes: told by the archive's times.
    images = sorted(folder.rglob("*.png"))
    contents = [path.read_bytes() for path in images]
    for path, content in zip(images, [*contents[1:], contents[0]], strict=True):
        path.write_bytes(content)
    PACKED[name](folder)
    turned = featx.extract(
        packed, TINY, cache=tmp_path / "c", runtime=CountingRuntime(), progress=False
    )
    assert len(read) == len(images)
    assert np.array_equal(turned, np.roll(first, -1, axis=0))


def test_times_that_are_not_settled_are_not_believed(folder: Path) -> None:
    item = as_dataset(zipped(folder))[0]
    assert isinstance(item.source, Elsewhere)
    assert item.source.listed_version() is None


def test_a_folder_in_an_archive_and_one_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    outer = zipped(folder, top="data/train/")
    found = as_dataset(f"{outer}/data/train")
    assert found.labels is not None
    assert found.ids == Dataset.from_folder(folder).ids
    with pytest.raises(DatasetError, match=r"no folder 'trian' in .*Did you mean 'train'"):
        as_dataset(f"{zipped(folder, '2.zip', 'train/')}/trian")


def test_parts_of_a_data_set_in_an_archive(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "set.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        for part in ("train", "test"):
            for path in sorted(folder.rglob("*.png")):
                archive.write(path, f"set/{part}/{path.relative_to(folder).as_posix()}")
    with pytest.raises(DatasetError, match=r"holds parts of a data set.*set.zip/set/train"):
        as_dataset(whole)
    report = featx.benchmark(
        str(whole), backbones=[TINY], heads=["nearest"], baseline=False, evidence=False,
        cache=tmp_path / "c", runtime=CountingRuntime(), progress=False, leaks=False,
    )  # fmt: skip
    assert any("trained on 'train', tested on 'test'" in note for note in report.images.notes)
    assert report.to_dict()["command"]


def test_shards_of_a_web_dataset(folder: Path, tmp_path: Path) -> None:
    images = sorted(folder.rglob("*.png"))
    for shard in range(2):
        with tarfile.open(tmp_path / f"train-{shard:03d}.tar", "w") as archive:
            for number, path in enumerate(images[shard::2]):
                content, label = path.read_bytes(), path.parent.name.encode()
                for suffix, part in ((".png", content), (".cls", label), (".json", b"{}")):
                    info = tarfile.TarInfo(f"{number:06d}{suffix}")
                    info.size = len(part)
                    archive.addfile(info, io.BytesIO(part))
    found = as_dataset(tmp_path / "train-{000..001}.tar")
    assert found.ids[0] == "train-000.tar/000000.png"
    assert [item.label for item in found] == [
        path.parent.name for shard in range(2) for path in images[shard::2]
    ]
    assert [decoding.content_of(item.source) for item in found] == [
        path.read_bytes() for shard in range(2) for path in images[shard::2]
    ]
    assert as_dataset(str(tmp_path / "train-*.tar")).ids == found.ids
    with pytest.raises(DatasetError, match=r"3 archives, of which 1 do not exist"):
        as_dataset(tmp_path / "train-{000..002}.tar")


def test_a_label_file_is_missing(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("1.png", made.png()), ("1.cls", b"cat"), ("2.png", made.png())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(DatasetError, match=r"none for 2\.png"):
        as_dataset(tmp_path / "a.tar")


@pytest.mark.parametrize("name", ["../../etc/1.png", "/etc/1.png", "a/../../1.png", "C:/1.png"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_paths_that_lead_out(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("cat/1.png", made.png())
            archive.writestr(zipfile.ZipInfo(name), made.png())
    else:
        with tarfile.open(path, "w") as archive_:
            info = tarfile.TarInfo(name)
            archive_.addfile(info, io.BytesIO(b""))
    with pytest.raises(DatasetError, match="leads out of it"):
        as_dataset(path)


@pytest.mark.parametrize("kind", ["symbolic", "hard", "zip"])
def test_links_are_never_followed(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(made.png())
    path = tmp_path / ("a.zip" if kind == "zip" else "a.tar")
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("1.png", made.png())
            info = zipfile.ZipInfo("2.png")
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, str(secret))
    else:
        with tarfile.open(path, "w") as archive_:
            one = tarfile.TarInfo("1.png")
            one.size = len(made.png())
            archive_.addfile(one, io.BytesIO(made.png()))
            link = tarfile.TarInfo("2.png")
            link.type = tarfile.SYMTYPE if kind == "symbolic" else tarfile.LNKTYPE
            link.linkname = str(secret)
            archive_.addfile(link)
    found = as_dataset(path)
    assert found.ids == ["1.png"]
    assert any("link that leads to another file, not followed" in note for note in found.notes)


def test_devices_in_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("1.png", tarfile.REGTYPE), ("2.png", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            info.size = len(made.png()) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(made.png()))
    found = as_dataset(tmp_path / "a.tar")
    assert found.ids == ["1.png"]
    assert any("1 entry of the archive that is not a file" in note for note in found.notes)


def test_a_zip_that_unpacks_to_far_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_SPARE", 2**20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.bmp", bytes(500_000))
    with pytest.raises(DatasetError, match="over 100 times its size"):
        as_dataset(tmp_path / "a.zip")


def test_a_tar_that_unpacks_to_far_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_SPARE", 2**20)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(bytes(3_000_000)))
    (tmp_path / "b.tar.bz2").write_bytes(bz2.compress(bytes(3_000_000)))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DatasetError, match="over 100 times its size"):
            as_dataset(path)


def test_a_file_of_a_zip_that_is_larger_than_it_says(tmp_path: Path) -> None:
    content = made.png() + bytes(10_000_000)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", content)
    packed = bytearray(path.read_bytes())
    for at in (packed.find(b"PK\x03\x04") + 22, packed.find(b"PK\x01\x02") + 24):
        assert struct.unpack_from("<I", packed, at)[0] == len(content)
        struct.pack_into("<I", packed, at, 100)
    path.write_bytes(packed)
    with pytest.raises(ImageError, match="archive is damaged"):
        decoding.content_of(as_dataset(path)[0].source)


def test_files_that_overlap(tmp_path: Path) -> None:
    """As in the bombs of Fifield, 2019: many entries of the directory name one kernel."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.png", made.png())
    packed = path.read_bytes()
    start = packed.find(b"PK\x01\x02")
    end = packed.find(b"PK\x05\x06")
    entry = packed[start:end]
    second = bytearray(entry)
    second[-5:] = b"2.png"
    tail = bytearray(packed[end:])
    struct.pack_into("<HHI", tail, 8, 2, 2, 2 * len(entry))
    path.write_bytes(packed[:end] + bytes(second) + bytes(tail))
    with pytest.raises(DatasetError, match="overlap"):
        as_dataset(path)


def test_other_ways_of_packing_are_a_failure_of_the_image(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = tmp_path / f"{method}.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("1.png", made.png())
        with pytest.raises(ImageError, match=f"method {method}; pack the archive with deflate"):
            decoding.content_of(as_dataset(path)[0].source)


def test_an_encrypted_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.png", made.png())
    packed = bytearray(path.read_bytes())
    for at in (packed.find(b"PK\x03\x04") + 6, packed.find(b"PK\x01\x02") + 8):
        packed[at] |= 1
    path.write_bytes(packed)
    with pytest.raises(ImageError, match="encrypted"):
        decoding.content_of(as_dataset(path)[0].source)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_damage(folder: Path, name: str, tmp_path: Path) -> None:
    for content in (b"", b"not an archive at all" * 100):
        (tmp_path / name).write_bytes(content)
        with pytest.raises((DatasetError, EmptyDatasetError), match=name):
            as_dataset(tmp_path / name)
    whole = (zipped if name == "a.zip" else tarred)(folder, name[1:]).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises((DatasetError, ImageError), match="archive"):
        list(map(decoding.content_of, (item.source for item in as_dataset(tmp_path / name))))


def test_an_archive_that_changes_while_it_is_read(folder: Path) -> None:
    path = tarred(folder)
    found = as_dataset(path)
    path.write_bytes(path.read_bytes()[:-512] + b"x" * 512)
    with pytest.raises(ImageError, match="changed since it was listed"):
        decoding.content_of(found[0].source)


def test_duplicates_of_a_name_and_the_separators_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat\\1.png", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("cat\\1.png", made.png())
    found = as_dataset(path)
    assert found.ids == ["cat/1.png"]
    assert decoding.content_of(found[0].source) == made.png()


def test_hidden_and_foreign_files_as_in_a_folder(folder: Path) -> None:
    (folder / ".hidden.png").write_bytes(made.png())
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._1.png").write_bytes(b"x")
    (folder / "blue" / "notes.txt").write_text("words")
    (folder / "blue" / "no_suffix").write_bytes(made.png())
    expected = Dataset.from_folder(folder)
    for path in (zipped(folder), tarred(folder)):
        found = as_dataset(path)
        assert found.ids == expected.ids
        assert found.notes == expected.notes


def test_every_door_takes_an_archive(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "start", lambda *asked: CountingRuntime())
    path = zipped(folder)
    model = ImageClassifier(TINY, "ridge", cache=tmp_path / "c").fit(path)
    images = sorted(folder.rglob("*.png"))
    assert model.predict(path).tolist() == model.predict(images).tolist()
    assert model.score(path) == 1
    assert all(image is not None for image in model.examples_.images)
    model.save(tmp_path / "m.featx")
    options = ["--cache", str(tmp_path / "c")]
    asked = ["predict", str(tmp_path / "m.featx"), str(path), "--csv", *options]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 1 + len(images)
    assert lines[1].startswith(f"{path}/blue/")
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "m.featx"), str(path), *options])
    assert result.exit_code == 0, result.output
    assert "100.0 % of 9 images" in result.stdout.replace("\u00a0", " ")


def test_images_of_an_archive_reach_other_processes(folder: Path) -> None:
    for path in (zipped(folder), tarred(folder, ".tar.gz")):
        items = list(as_dataset(path))
        copied = pickle.loads(pickle.dumps(items))
        assert [item.id for item in copied] == [item.id for item in items]
        assert decoding.content_of(copied[0].source) == decoding.content_of(items[0].source)
        archive = {id(item.source.archive) for item in copied}
        assert len(archive) == 1


def test_archives_that_are_not_read_are_named(tmp_path: Path) -> None:
    for name in ("a.7z", "a.rar", "a.tar.zst"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DatasetError, match=r"unpack it, or pack it as \.zip or \.tar"):
            as_dataset(tmp_path / name)
    with pytest.raises(DatasetError, match="does not exist"):
        as_dataset(tmp_path / "none.zip")
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "folder.zip" / "1.png").write_bytes(made.png())
    assert as_dataset(tmp_path / "folder.zip").ids == ["1.png"]


def test_a_header_that_asks_for_much_memory(tmp_path: Path) -> None:
    """A pax header of 6 GB in a file with holes: `tarfile` would read it whole."""
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    header.size = 6 * 2**30
    path = tmp_path / "a.tar"
    with open(path, "wb") as file:
        file.write(header.tobuf())
        file.truncate(6 * 2**30 + 1024)
    with pytest.raises(DatasetError, match="header"):
        as_dataset(path)


def test_crc_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.png", made.png())
    packed = bytearray(path.read_bytes())
    at = packed.find(made.png()) + 40
    packed[at] ^= 1
    path.write_bytes(packed)
    assert zlib.crc32(bytes(packed)) != 0
    with pytest.raises(ImageError, match="damaged"):
        decoding.content_of(as_dataset(path)[0].source)
