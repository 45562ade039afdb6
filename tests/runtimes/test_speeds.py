"""What networks reached on this machine: noted when it says something, believed if one's own."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import featx
from featx.runtimes import speeds
from featx.runtimes.speeds import ENOUGH, known_speeds, note_speed

MOBILE = featx.Backbone("mobilenet_v2", weights=None)


def rates() -> list[tuple[str, int, float]]:
    return [(one.backbone, one.image_size, one.images_per_second) for one in known_speeds()]


def test_the_last_speed_of_each_is_kept(own_networks: Path) -> None:
    assert known_speeds() == []
    note_speed(MOBILE, "keras", 1000, 10.0)
    note_speed(replace(MOBILE, image_size=96), "keras", 1000, 2.0)
    note_speed(MOBILE, "openvino", 1000, 5.0)
    note_speed(MOBILE, "keras", 1000, 8.0)
    name = "mobilenet_v2"
    assert rates() == [(name, 96, 500.0), (name, 224, 200.0), (name, 224, 125.0)]
    assert [one.runtime for one in known_speeds()] == ["keras", "openvino", "keras"]
    assert (own_networks / "FEATX-NETWORKS.json").is_file()
    if os.name == "posix":
        assert stat.S_IMODE((own_networks / "speeds.json").stat().st_mode) & 0o022 == 0


def test_what_says_nothing_is_not_noted(own_networks: Path) -> None:
    note_speed(MOBILE, "keras", ENOUGH - 1, 1.0)
    note_speed(MOBILE, "keras", ENOUGH, 0.0)
    note_speed(replace(MOBILE, layer="block_16_project"), "keras", ENOUGH, 1.0)
    assert not own_networks.exists()
    note_speed(MOBILE, "keras", ENOUGH, 1.0)
    assert rates() == [("mobilenet_v2", 224, float(ENOUGH))]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": 2, "speeds": []}',
        b'{"format": 1, "speeds": 7}',
        b'{"format": 1, "speeds": [1, {}, {"backbone": "vgg16"}]}',
        b"[" * 100_000,
        b'{"format": 1, "speeds": [], "x": NaN}',
        b" " * (2 << 20),
    ],
    ids=["empty", "cut", "a list", "another format", "no list", "entries", "deep", "NaN", "large"],
)
def test_a_damaged_file_is_empty_and_written_anew(own_networks: Path, content: bytes) -> None:
    note_speed(MOBILE, "keras", 1000, 10.0)
    (own_networks / "speeds.json").write_bytes(content)
    assert known_speeds() == []
    note_speed(MOBILE, "keras", 1000, 10.0)
    assert rates() == [("mobilenet_v2", 224, 100.0)]


def test_good_entries_survive_bad_ones(own_networks: Path) -> None:
    note_speed(MOBILE, "keras", 1000, 10.0)
    path = own_networks / "speeds.json"
    found = json.loads(path.read_text())
    good = found["speeds"][0]
    found["speeds"] += [{**good, "images_per_second": "fast"}, {**good, "runtime": None}]
    path.write_text(json.dumps(found))
    assert [one.of for one in known_speeds()] == [("mobilenet_v2", 224, "float32", "keras")]


@pytest.mark.skipif(os.name != "posix", reason="owners and modes")
def test_what_everybody_may_write_is_not_believed(own_networks: Path) -> None:
    note_speed(MOBILE, "keras", 1000, 10.0)
    path = own_networks / "speeds.json"
    path.chmod(0o666)
    assert known_speeds() == []
    path.chmod(0o600)
    assert len(known_speeds()) == 1
    os.replace(path, own_networks / "elsewhere")
    path.symlink_to(own_networks / "elsewhere")
    assert known_speeds() == []


def test_nothing_is_kept_where_that_is_not_possible(
    own_networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_networks.mkdir()
    (own_networks / "letter.txt").write_text("mine")
    note_speed(MOBILE, "keras", 1000, 10.0)
    assert [path.name for path in own_networks.iterdir()] == ["letter.txt"]

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("FEATX_NETWORKS", str(own_networks.parent / "other"))
    monkeypatch.setattr(speeds.FolderStorage, "replace", full)
    note_speed(MOBILE, "keras", 1000, 10.0)
    assert known_speeds() == []
    monkeypatch.setenv("FEATX_NETWORKS", "none")
    note_speed(MOBILE, "keras", 1000, 10.0)
    assert known_speeds() == []
