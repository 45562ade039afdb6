"""Features: embeddings, labels and ids stay together, in memory and in one file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from featx import Features
from featx.errors import DatasetError, Failure, ModelFileError, ModelVersionError


def some() -> Features:
    return Features(
        np.arange(6, dtype=np.float32).reshape(3, 2),
        np.array(["roses", "daisy", "roses"], object),
        ["a/é.jpg", "b/\udcff.jpg", "c/<i>.jpg"],
        failures=[Failure("d.jpg", "NotAnImageError", "the file is empty")],
        spec={"backbone": "resnet50", "layer": None},
    )


def test_classes_are_sorted_and_length_is_that_of_x() -> None:
    features = some()
    assert features.classes == ["daisy", "roses"]
    assert len(features) == 3
    assert np.asarray(features).dtype == np.float32
    assert "3 x 2" in repr(features)


def test_saved_and_loaded_is_equal(tmp_path: Path) -> None:
    features = some()
    features.save(tmp_path / "x.h5")
    loaded = Features.load(tmp_path / "x.h5")
    np.testing.assert_array_equal(loaded.X, features.X)
    np.testing.assert_array_equal(loaded.y, features.y)
    assert loaded.ids == features.ids
    assert loaded.classes == features.classes
    assert loaded.failures == features.failures
    assert loaded.spec == features.spec


def test_without_labels(tmp_path: Path) -> None:
    features = Features(np.zeros((2, 3), np.float32), None, ["0", "1"])
    features.save(tmp_path / "x.h5")
    loaded = Features.load(tmp_path / "x.h5")
    assert loaded.y is None
    assert loaded.classes == []
    assert list(loaded.to_frame().columns) == ["f0", "f1", "f2"]


def test_the_file_is_plain_hdf5_for_other_tools(tmp_path: Path) -> None:
    some().save(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        assert set(file) == {"features", "ids", "labels", "classes", "failures"}
        assert file["features"].shape == (3, 2)
        assert file["labels"][1] == b"daisy"


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.h5"
    some().save(path)
    before = path.read_bytes()
    broken = some()
    broken.spec["layer"] = object()
    with pytest.raises(TypeError):
        broken.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_to_frame_has_ids_labels_and_numbers() -> None:
    frame = some().to_frame()
    assert list(frame.columns) == ["label", "f0", "f1"]
    assert frame.loc["a/é.jpg", "f1"] == 1


def test_features_and_labels_must_agree() -> None:
    with pytest.raises(DatasetError, match="2 embeddings, 1 ids and no labels"):
        Features(np.zeros((2, 3), np.float32), None, ["0"])


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n"])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="x.h5 is not a features file of featx"):
        Features.load(path)


@pytest.mark.parametrize(("version", "remedy"), [(1, "extract the images again"), (4, "a later")])
def test_a_file_of_another_version_is_refused(tmp_path: Path, version: int, remedy: str) -> None:
    path = tmp_path / "x.h5"
    some().save(path)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = version
        if version == 1:  # as featx 0.1 wrote it
            file.attrs["recipe"] = file.attrs["spec"]
            del file.attrs["spec"]
    with pytest.raises(ModelVersionError, match=rf"x.h5 .* version {version}, .*{remedy}"):
        Features.load(path)


@pytest.mark.parametrize("spec", ['{"side": NaN}', '{"side": 1e999}', "[" * 50_000, "{"])
def test_a_spec_that_is_not_strict_json_is_refused(tmp_path: Path, spec: str) -> None:
    path = tmp_path / "x.h5"
    some().save(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["spec"]
        file.attrs["spec"] = np.bytes_(spec.encode())
    with pytest.raises(ModelFileError, match="x.h5 is not a features file of featx"):
        Features.load(path)


@pytest.mark.parametrize("name", ["format", "version", "spec", "sha256"])
def test_texts_of_any_length_are_not_read(tmp_path: Path, name: str) -> None:
    """HDF5 goes round for ever in the heap that holds them, where a bit of that is flipped."""
    path = tmp_path / "x.h5"
    some().save(path)
    with h5py.File(path, "r+") as file:
        file.attrs[name] = "text"
    with pytest.raises(ModelFileError, match=f"damaged: its attribute '{name}' is of object"):
        Features.load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_spec_that_could_not_be_loaded_is_not_saved(tmp_path: Path, value: float) -> None:
    features = some()
    features.spec["side"] = value
    with pytest.raises(ValueError, match="not JSON compliant"):
        features.save(tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == []


def test_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no features file at"):
        Features.load(tmp_path / "x.h5")


@pytest.mark.parametrize("trick", ["external link", "soft link", "external storage", "virtual"])
def test_what_points_elsewhere_is_not_followed(tmp_path: Path, trick: str) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["features"] = np.full((3, 2), 7, np.float32)
    raw = tmp_path / "secret.raw"
    raw.write_bytes(bytes(24))
    path = tmp_path / "x.h5"
    some().save(path)
    with h5py.File(path, "r+") as file:
        del file["features"]
        if trick == "external link":
            file["features"] = h5py.ExternalLink(str(secret), "/features")
        elif trick == "soft link":
            file["features"] = h5py.SoftLink("/ids")
        elif trick == "external storage":
            file.create_dataset("features", (3, 2), "<f4", external=[(str(raw), 0, 24)])
        else:
            layout = h5py.VirtualLayout((3, 2), "<f4")
            layout[:] = h5py.VirtualSource(str(secret), "features", (3, 2))
            file.create_virtual_dataset("features", layout)
    with pytest.raises(
        ModelFileError, match="'features' (is a link|stores its data outside the file)"
    ):
        Features.load(path)


def test_a_shape_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    some().save(path)
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_dataset("features", (1 << 30, 1 << 10), "<f4", chunks=(1, 1024))
    with pytest.raises(ModelFileError, match="declares more than the file holds"):
        Features.load(path)


def test_an_id_with_a_tab_comes_back_as_it_was(tmp_path: Path) -> None:
    failed = Failure("a\tb.png", "NotAnImageError", "it is\tno image")
    features = Features(np.zeros((1, 2), np.float32), None, ["x\ty"], failures=[failed])
    features.save(tmp_path / "f.h5")
    loaded = Features.load(tmp_path / "f.h5")
    assert loaded.ids == ["x\ty"]
    assert loaded.failures == [Failure("a\tb.png", "NotAnImageError", "it is no image")]


def test_other_files_are_named_as_what_they_are(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.featx", "w") as archive:
        archive.writestr("manifest.json", "{}")
    with pytest.raises(ModelFileError, match=r"it is a zip, such as a model, which featx\.load"):
        Features.load(tmp_path / "model.featx")
    with pytest.raises(ModelFileError, match="it is a folder"):
        Features.load(tmp_path)
