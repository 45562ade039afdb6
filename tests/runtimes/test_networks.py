"""Converted networks: kept once a machine, believed only if they are whole and one's own."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featx
from featx.runtimes import forget, networks, openvino_runtime, start
from featx.runtimes.openvino_runtime import OpenVINORuntime
from featx.storage.checksummed import pack, unpack

pytest.importorskip("openvino")

ROOT = Path(__file__).resolve().parents[2]
TINY = featx.Backbone("mobilenet_v2", weights=None, image_size=32)
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away"
)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def anew() -> Iterator[None]:
    """Let no network of another test serve this one."""
    forget()
    gc.collect()
    yield
    forget()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """Return the name and the bytes of the file of a network that was kept."""
    folder = tmp_path_factory.mktemp("kept") / "networks"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATX_NETWORKS", str(folder))
        OpenVINORuntime(TINY, 4).keep()
    (path,) = networks_in(folder)
    return path.name, path.read_bytes()


@pytest.fixture
def kept(own_networks: Path, network: tuple[str, bytes]) -> Path:
    """Return the file of a kept network in this test's own folder."""
    networks.keep(network[0], lambda: network[1])
    return own_networks / network[0]


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what was converted since, which is most of what a first start takes."""
    converted, done = openvino_runtime._converted, []

    def noted(backbone: featx.Backbone, core: object) -> object:
        done.append(backbone.name)
        return converted(backbone, core)

    monkeypatch.setattr(openvino_runtime, "_converted", noted)
    return done


def networks_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if len(path.name) == 64)


def test_a_new_process_and_a_new_cache_start_no_tensorflow(
    tmp_path: Path, own_networks: Path, pixels: np.ndarray, anew: None
) -> None:
    first = featx.extract(pixels, TINY, cache=tmp_path / "one", progress=False).X
    assert len(networks_in(own_networks)) == 1
    assert not list((tmp_path / "one").glob("k-*/openvino")), "none lies beside the embeddings"
    np.save(tmp_path / "pixels.npy", pixels)
    script = (
        "import sys, numpy as np, featx\n"
        "tiny = featx.Backbone('mobilenet_v2', weights=None, image_size=32)\n"
        "pixels = np.load(sys.argv[1] + '/pixels.npy')\n"
        "rows = featx.extract(pixels, tiny, cache=sys.argv[1] + '/two', progress=False)\n"
        "assert rows.report.computed == 4 and rows.report.runtime == 'openvino', rows.report\n"
        "np.save(sys.argv[1] + '/rows.npy', rows.X)\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=True)
    assert np.load(tmp_path / "rows.npy").tobytes() == first.tobytes()


def test_another_cache_in_one_process_pays_no_second_start(
    tmp_path: Path, pixels: np.ndarray, conversions: list[str], anew: None
) -> None:
    for cache in ("one", "two", "three"):
        featx.extract(pixels, TINY, cache=tmp_path / cache, progress=False)
    assert conversions == ["mobilenet_v2"]


def test_options_of_images_and_lower_precision_share_a_network(
    own_networks: Path, conversions: list[str], kept: Path, anew: None
) -> None:
    start(replace(TINY, decode="scaled", resize="crop", filter="bicubic"), 4, "openvino")
    half = replace(TINY, precision="bfloat16")
    if openvino_runtime.refusal(half) is None:
        start(half, 4, "openvino")
    assert (conversions, networks_in(own_networks)) == ([], [kept])
    start(replace(TINY, layer="block_16_project"), 4, "openvino")
    assert len(conversions) == 1
    assert len(networks_in(own_networks)) == 2


def test_another_version_is_another_network(
    kept: Path, monkeypatch: pytest.MonkeyPatch, conversions: list[str]
) -> None:
    installed = networks.installed
    monkeypatch.setattr(networks, "installed", lambda names: {**installed(names), "keras": "9"})
    OpenVINORuntime(TINY, 4).keep()
    assert len(conversions) == 1
    assert len(networks_in(kept.parent)) == 2


def test_weights_that_were_trained_since_are_another_network(own_networks: Path) -> None:
    keras = pytest.importorskip("keras")
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, name="conv")(image))
    backbone = featx.Backbone.register("trained-since", model)
    pixels = np.full((2, 8, 8, 3), 200, np.uint8)
    before = start(backbone, 2, "openvino").run(pixels)
    model.set_weights([2 * weight for weight in model.get_weights()])
    np.testing.assert_allclose(start(backbone, 2, "openvino").run(pixels), 2 * before, rtol=1e-4)
    assert len(networks_in(own_networks)) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "of another", "no network"])
def test_a_kept_network_that_is_not_whole_is_converted_anew(
    kept: Path, pixels: np.ndarray, damage: str, conversions: list[str]
) -> None:
    expected = OpenVINORuntime(TINY, 4).run(pixels)
    assert not conversions
    whole = kept.read_bytes()
    arrays, about = unpack(whole, kept.name)
    zeroed = dict(arrays, weights=np.zeros_like(arrays["weights"]))
    kept.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "flipped": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
            "foreign": b"PK\x03\x04 not ours",
            # Were what it is of not looked at, rows of zeros would come out.
            "of another": pack(zeroed, {**about, "made": {**about["made"], "format": 0}}),
            "no network": pack(dict(arrays, graph=np.frombuffer(b"<xml/>", np.uint8)), about),
        }[damage]
    )
    runtime = OpenVINORuntime(TINY, 4)
    assert np.array_equal(runtime.run(pixels), expected)
    assert len(conversions) == 1
    runtime.keep()
    assert unpack(kept.read_bytes(), kept.name)[1] == about


def test_a_link_in_its_place_is_neither_followed_nor_written_through(
    kept: Path, tmp_path: Path, conversions: list[str]
) -> None:
    kept.rename(tmp_path / "aside")
    before = (tmp_path / "aside").read_bytes()
    kept.symlink_to(tmp_path / "aside")
    OpenVINORuntime(TINY, 4)
    assert len(conversions) == 1
    assert (tmp_path / "aside").read_bytes() == before


def test_an_empty_folder_that_was_made_for_it_is_taken(
    own_networks: Path, network: tuple[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    own_networks.mkdir()
    assert networks.read(network[0]) is None
    networks.keep(network[0], lambda: network[1])
    assert networks.read(network[0]) == network[1]
    assert not caplog.records


def test_the_folder_says_what_it_is(kept: Path) -> None:
    mark = (kept.parent / networks.MARKER).read_text()
    assert "featx" in mark
    assert "may be removed" in mark
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert kept.stat().st_mode & 0o777 == 0o600


@needs_root
@pytest.mark.parametrize("part", ["folder", "marker", "file"])
@pytest.mark.parametrize("how", ["owner", "mode"])
def test_what_others_may_have_written_is_not_believed(
    part: str, how: str, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = {"folder": kept.parent, "marker": kept.parent / networks.MARKER, "file": kept}[part]
    if how == "owner":
        os.chown(path, 1234, -1)
    else:
        path.chmod(path.stat().st_mode | 0o002)
    with caplog.at_level(logging.WARNING, "featx"):
        assert networks.read(kept.name) is None
        assert networks.read(kept.name) is None
    said = {"owner": "belongs to another user (uid 1234)", "mode": "is writable for everybody"}
    assert len(caplog.records) == 1
    assert said[how] in caplog.text
    if part == "file":  # one's own takes its place
        networks.keep(kept.name, lambda: b"mine")
        assert networks.read(kept.name) == b"mine"
    else:
        networks.keep(kept.name, lambda: b"mine")
        assert kept.read_bytes() != b"mine"
        assert list(networks.list_kept()) == []


@needs_root
def test_a_link_to_a_folder_of_another_user_is_not_believed(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(kept.parent)
    monkeypatch.setenv("FEATX_NETWORKS", str(tmp_path / "link"))
    assert networks.read(kept.name) is not None
    os.chown(kept.parent, 1234, -1)
    assert networks.read(kept.name) is None


@pytest.mark.parametrize("content", ["a thesis", "a later format"])
def test_a_folder_that_is_not_featxs_stays_as_it_is(
    own_networks: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    own_networks.mkdir()
    name = "thesis.txt" if content == "a thesis" else networks.MARKER
    (own_networks / name).write_text('{"format": 99}')
    networks.keep("0" * 64, lambda: b"network")
    networks.keep("0" * 64, lambda: b"network")
    assert os.listdir(own_networks) == [name]
    assert networks.read("0" * 64) is None
    assert len(caplog.records) == 1
    assert "FEATX_NETWORKS" in caplog.text


@pytest.mark.parametrize("place", ["below a file", "read-only", "none", "full"])
def test_where_nothing_can_be_kept_nothing_is(
    place: str,
    own_networks: Path,
    tmp_path: Path,
    pixels: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(model: object) -> None:
        raise RuntimeError("Could not serialize the model: No space left on device")

    (tmp_path / "file").write_bytes(b"")
    if place == "read-only":  # root may write anywhere: what the system says of others
        monkeypatch.setattr(networks.os, "access", lambda path, mode: False)
    elif place == "full":
        monkeypatch.setattr(openvino_runtime, "_serialized", full)
    else:
        where = {"below a file": tmp_path / "file" / "networks", "none": "none"}[place]
        monkeypatch.setenv("FEATX_NETWORKS", str(where))
        monkeypatch.chdir(tmp_path)
    runtime = OpenVINORuntime(TINY, 4)
    assert runtime.run(pixels).shape == (4, 1280)
    runtime.keep()
    assert networks_in(own_networks) == []
    assert not caplog.records
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_where_the_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATX_NETWORKS", "~/networks")
    assert networks.folder() == Path.home() / "networks"
    monkeypatch.delenv("FEATX_NETWORKS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert networks.folder() == tmp_path / "featx-networks"
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *a, **k: "~/.cache/featx-networks")
    assert networks.folder() is None, "there is no home"


def test_what_is_kept_is_listed_by_its_first_line(kept: Path) -> None:
    (kept.parent / "thesis.txt").write_text("x")
    (kept.parent / ("0" * 64)).write_bytes(b"not JSON")
    (kept.parent / ("1" * 64)).symlink_to(kept)
    (kept.parent / ("2" * 64)).mkdir()
    unknown, found = networks.list_kept()
    assert (found.path, found.bytes) == (kept, kept.stat().st_size)
    assert found.network["backbone"] == "mobilenet_v2"
    assert {"keras", "openvino"} <= set(found.versions)
    assert (unknown.network, unknown.versions) == ({}, {})


def test_use_is_noted(kept: Path) -> None:
    os.utime(kept, (1, 1))
    assert networks.read(kept.name) is not None
    assert kept.stat().st_mtime > 1e9
