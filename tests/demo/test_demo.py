"""The drawn data set, the choice of weights, and the whole demonstration at a small size."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featx import demo
from featx.backbones.backbone import Backbone
from featx.demo import weights
from featx.errors import WeightsUnavailableError


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.jpg"))
    }


def test_same_seed_same_bytes_another_seed_others(tmp_path: Path) -> None:
    first = digests(demo.write_images(tmp_path / "first", 6))
    again = digests(demo.write_images(tmp_path / "again", 6))
    other = digests(demo.write_images(tmp_path / "other", 6, seed=1))
    assert first == again
    assert len(set(first.values())) == 18
    assert set(other) == set(first)
    assert not set(other.values()) & set(first.values())


def test_more_images_begin_with_the_same(tmp_path: Path) -> None:
    few = digests(demo.write_images(tmp_path / "few", 3))
    many = digests(demo.write_images(tmp_path / "many", 6))
    assert few.items() <= many.items()


def test_a_third_of_each_class_is_for_testing(tmp_path: Path) -> None:
    folder = demo.write_images(tmp_path, 9)
    for label in demo.CLASSES:
        assert len(list((folder / "train" / label).iterdir())) == 6
        assert len(list((folder / "test" / label).iterdir())) == 3


def test_images_are_rgb_jpeg_of_one_size(tmp_path: Path) -> None:
    for path in demo.write_images(tmp_path, 3).rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (256, 256))


def _mean_image(label: str, measure: str) -> float:
    """Return a measure over 12 images: how rusty (red over blue) or how dark the darkest are."""
    values = []
    for number in range(12):
        pixels = np.asarray(demo.draw(label, np.random.default_rng([7, number])), float)
        if measure == "rust":
            rusty = (pixels[..., 0] > 1.5 * pixels[..., 2]) & (pixels[..., 0] < 200)
            values.append(rusty.mean())
        else:
            grey = pixels.mean(axis=2)
            values.append(np.abs(np.diff(grey, axis=1)).mean())
    return float(np.mean(values))


def test_classes_differ_in_what_they_are_named_for() -> None:
    # The same lots are drawn for each class, so that only the damage differs.
    assert _mean_image("corroded", "rust") > _mean_image("healthy", "rust") + 0.05
    assert _mean_image("cracked", "edges") > _mean_image("healthy", "edges")


# Addresses of files stand for those of a server: a machine without any network has not even one
# of its own to talk to.
@pytest.mark.parametrize(("size", "expected"), [(3000, True), (10, True), (0, False)])
def test_fetchable(tmp_path: Path, size: int, expected: bool) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    assert weights.fetchable((tmp_path / "file").as_uri(), sample=1000) is expected


def test_what_is_not_there_is_not_fetchable(tmp_path: Path) -> None:
    assert not weights.fetchable((tmp_path / "absent").as_uri())
    assert not weights.fetchable("http://127.0.0.1:9/closed")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_silent_line_counts_as_none_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "silent")
    started = time.monotonic()
    assert not weights.fetchable((tmp_path / "silent").as_uri(), patience=0.3)
    assert time.monotonic() - started < 10
    # Let the thread that was left behind go home.
    os.close(os.open(tmp_path / "silent", os.O_WRONLY | os.O_NONBLOCK))


def test_address_is_the_one_keras_fetches_from() -> None:
    from keras.src.applications import mobilenet_v2

    assert mobilenet_v2.BASE_WEIGHT_PATH == weights.URL


def test_untrained_network_is_chosen_and_named_if_there_are_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    asked = []
    monkeypatch.setattr(weights, "fetchable", lambda url: bool(asked.append(url)))
    chosen, line = weights.choose(Backbone("mobilenet_v2", image_size=96))
    assert asked == [weights.URL + chosen_file(96)]
    assert (chosen.weights, chosen.image_size) == (None, 96)
    assert line.startswith("Untrained weights: ImageNet weights are not on disk")
    assert "\n" not in line


def chosen_file(side: int) -> str:
    return f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_{side}_no_top.h5"


def test_a_download_that_fails_half_way_is_not_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Backbone) -> str:
        raise WeightsUnavailableError("the line broke")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(weights, "fetchable", lambda url: True)
    monkeypatch.setattr(Backbone, "weights_digest", fail)
    chosen, line = weights.choose(Backbone("mobilenet_v2"))
    assert chosen.weights is None
    assert "download of the ImageNet weights failed" in line


@pytest.mark.weights
def test_weights_on_disk_are_used_without_asking_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "fetchable", lambda url: pytest.fail("asked the network"))
    chosen, line = weights.choose(Backbone("mobilenet_v2"))
    assert (chosen, line) == (Backbone("mobilenet_v2"), "")


def test_whole_run_at_a_small_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr(weights, "fetchable", lambda url: False)
    lines: list[str] = []
    report = demo.run(
        tmp_path / "out", n_per_class=15, image_size=32, epochs=1, progress=False, log=lines.append
    )
    assert any("Untrained weights" in line for line in lines)
    kinds = {row.kind for row in report.results}
    assert kinds == {"head", "baseline"}
    page = (tmp_path / "out" / "report" / "report.html").read_text(encoding="utf-8")
    assert "ran with random weights" in page
    assert all(label in page for label in demo.CLASSES)
    json.loads((tmp_path / "out" / "report" / "report.json").read_text(encoding="utf-8"))
    assert (tmp_path / "out" / "cache").is_dir()
