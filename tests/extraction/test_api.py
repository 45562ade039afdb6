"""extract: every image meets the backbone once, and what it gives back is what is kept."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import featx
from featx import Backbone, Features, errors, runtimes
from featx.datasets.dataset import as_dataset
from featx.extraction.settings import DEFAULT
from featx.images import decoding
from featx.runtimes.speeds import known_speeds
from tests.conftest import ROOT, draw_folder
from tests.fakes import TINY, CountingRuntime

# The two probe images that a new key may begin with are no images of the dataset.
PROBES = 2


def extract(dataset: Any, runtime: CountingRuntime | None = None, **options: Any) -> featx.Features:
    options.setdefault("progress", False)
    return featx.extract(dataset, TINY, runtime=runtime or CountingRuntime(), **options)


def test_rows_labels_and_ids_are_aligned(image_folder: Path) -> None:
    features = extract(image_folder)
    assert features.X.shape == (24, 1280)
    assert features.X.dtype == np.float32
    assert features.ids == sorted(features.ids)
    assert features.y is not None
    assert [id_.split("/")[0] for id_ in features.ids] == list(features.y)
    assert features.classes == ["blue", "green", "red"]
    one = decoding.load(image_folder / features.ids[5], 32)
    alone = CountingRuntime(batch_size=1).run(one[None])
    np.testing.assert_allclose(features.X[5], alone[0], rtol=1e-4, atol=1e-4)


def test_second_call_computes_nothing_and_is_silent(
    image_folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    first = extract(image_folder)
    assert first.report is not None
    assert (first.report.computed, first.report.cached) == (24, 0)
    again = CountingRuntime()
    with caplog.at_level(logging.DEBUG):
        second = extract(image_folder, again, progress=True)
    assert second.report is not None
    assert again.batches == 0
    assert (second.report.computed, second.report.cached) == (0, 24)
    np.testing.assert_array_equal(first.X, second.X)
    assert capsys.readouterr() == ("", "")
    assert not caplog.records


def test_the_speed_of_a_run_is_remembered_if_most_images_were_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (600, 32, 32, 3), dtype=np.uint8)
    extract(pixels[:300], cache=tmp_path / "own")
    assert known_speeds() == [], "a runtime of the user's own"
    monkeypatch.setattr(runtimes, "start", lambda *args, **options: CountingRuntime())
    ran = {"cache": tmp_path / "cache", "progress": False}
    report = featx.extract(pixels[:300], TINY, **ran).report
    (speed,) = known_speeds()
    assert report is not None
    assert report.images_per_second is not None
    assert speed.of == ("mobilenet_v2", 32, "float32", "counting")
    assert (speed.images, speed.images_per_second) == (300, round(report.images_per_second, 1))
    featx.extract(pixels, TINY, **ran)
    assert known_speeds() == [speed], "of 600 images half were cached"


def test_a_progress_bar_is_shown_and_can_be_turned_off(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(image_folder, cache=tmp_path / "one", progress=True)
    shown = capsys.readouterr()
    assert "24/24" in shown.err
    assert shown.out == ""
    extract(image_folder, cache=tmp_path / "two", progress=False)
    assert capsys.readouterr() == ("", "")


def test_ten_new_images_cost_ten_rows(image_folder: Path, tmp_path: Path) -> None:
    extract(image_folder)
    draw_folder(tmp_path / "more", n_per_class=4, seed=1)
    for path in list((tmp_path / "more").rglob("*.png"))[:10]:
        path.rename(image_folder / path.parent.name / f"new-{path.name}")
    runtime = CountingRuntime()
    features = extract(image_folder, runtime)
    assert runtime.seen == 10
    assert len(features) == 34


def test_renaming_moving_and_relabelling_cost_nothing(image_folder: Path) -> None:
    before = extract(image_folder)
    renamed = image_folder.rename(image_folder.parent / "renamed")
    (renamed / "red").rename(renamed / "crimson")
    (renamed / "blue" / "00.png").rename(renamed / "green" / "moved.png")
    runtime = CountingRuntime()
    after = extract(renamed, runtime)
    assert runtime.batches == 0
    assert after.classes == ["blue", "crimson", "green"]
    row = after.X[after.ids.index("green/moved.png")]
    np.testing.assert_array_equal(row, before.X[before.ids.index("blue/00.png")])


# 64 pixels leave a 2 x 2 map, in which maximum and mean differ.
AT_64: dict[str, Any] = {"name": "mobilenet_v2", "weights": None, "image_size": 64}


@pytest.fixture(scope="module")
def kept_at_64(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Features]:
    """Return a cache with the images of `draw_folder`, and their features."""
    folder = tmp_path_factory.mktemp("kept")
    images = draw_folder(folder / "images")
    cache = folder / "cache"
    return cache, featx.extract(images, Backbone(**AT_64), cache=cache, progress=False)


@pytest.mark.parametrize(
    "options",
    [
        {"layer": "block_6_expand_relu"},
        {"pooling": "max"},
        {"image_size": 48},
        {"precision": "bfloat16"},
        {"name": "mobilenet"},
    ],
    ids=str,
)
def test_each_option_of_the_backbone_misses(
    image_folder: Path, options: dict[str, Any], kept_at_64: tuple[Path, Features]
) -> None:
    """With the real network: another option must give other numbers, and not the kept ones."""
    cache, first = kept_at_64
    backbone = Backbone(**(AT_64 | options))
    other = featx.extract(image_folder, backbone, cache=cache, progress=False)
    assert other.report is not None
    assert other.report.computed == 24
    assert first.spec["key"] != other.spec["key"]
    assert not np.array_equal(first.X, other.X)


def test_other_weights_miss(image_folder: Path, tmp_path: Path) -> None:
    model = TINY.build().get_layer("network")
    featx.extract(image_folder, TINY, progress=False)
    model.weights[0].assign(model.weights[0] * 2)
    model.save_weights(tmp_path / "own.weights.h5")
    own = Backbone("mobilenet_v2", weights=tmp_path / "own.weights.h5", image_size=32)
    first = featx.extract(image_folder, own, progress=False)
    assert first.report is not None
    assert first.report.computed == 24
    # The same file rewritten with other numbers is another key, too.
    model.weights[0].assign(model.weights[0] * 2)
    model.save_weights(tmp_path / "own.weights.h5")
    again = featx.extract(image_folder, own, progress=False)
    assert again.report is not None
    assert again.report.computed == 24


def test_changed_labels_cost_nothing() -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (6, 40, 40, 3), dtype=np.uint8)
    first = extract(as_dataset(pixels, labels=list("aabbcc")))
    runtime = CountingRuntime()
    second = extract(as_dataset(pixels, labels=list("xyzxyz")), runtime)
    assert runtime.batches == 0
    assert second.y is not None
    assert list(second.y) == list("xyzxyz")
    np.testing.assert_array_equal(first.X, second.X)


def test_equal_images_are_computed_once(image_folder: Path) -> None:
    content = (image_folder / "red" / "00.png").read_bytes()
    for number in range(5):
        (image_folder / "blue" / f"copy{number}.png").write_bytes(content)
    runtime = CountingRuntime()
    features = extract(image_folder, runtime)
    assert len(features) == 29
    assert runtime.seen <= 24 + PROBES
    copies = [i for i, id_ in enumerate(features.ids) if "copy" in id_]
    original = features.X[features.ids.index("red/00.png")]
    np.testing.assert_array_equal(features.X[copies], np.tile(original, (5, 1)))


def spoil(folder: Path) -> dict[str, str]:
    """Add the four kinds of bad file; return the error that each must get."""
    good = (folder / "red" / "00.png").read_bytes()
    jpeg = folder / "red" / "cut.jpg"
    Image.open(folder / "red" / "00.png").save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:400])
    (folder / "blue" / "text.jpg").write_text("these are words")
    (folder / "blue" / "empty.jpg").write_bytes(b"")
    header = bytearray(good[:33])
    header[16:24] = (20000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    (folder / "green" / "huge.png").write_bytes(bytes(header) + good[33:])
    return {
        "blue/empty.jpg": "NotAnImageError",
        "blue/text.jpg": "NotAnImageError",
        "green/huge.png": "ImageTooLargeError",
        "red/cut.jpg": "TruncatedImageError",
    }


def test_bad_images_are_named_and_good_rows_kept(image_folder: Path) -> None:
    bad = spoil(image_folder)
    with pytest.raises(errors.BadImagesError) as caught:
        extract(image_folder)
    assert {failure.id: failure.error for failure in caught.value.failures} == bad
    for id_ in bad:
        assert id_ in str(caught.value)
    assert "on_error='skip'" in str(caught.value)

    runtime = CountingRuntime()
    features = extract(image_folder, runtime, on_error="skip")
    assert runtime.batches == 0
    assert len(features) == len(features.ids) == 24
    assert {failure.id: failure.error for failure in features.failures} == bad
    assert not set(bad) & set(features.ids)


def test_bad_images_do_not_move_their_neighbours(image_folder: Path, tmp_path: Path) -> None:
    clean = extract(image_folder, cache=tmp_path / "clean")
    spoil(image_folder)
    spoiled = extract(image_folder, cache=tmp_path / "spoiled", on_error="skip")
    assert spoiled.ids == clean.ids
    np.testing.assert_allclose(spoiled.X, clean.X, rtol=1e-5, atol=1e-5)


def test_too_many_bad_images_stop_the_run(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "images", n_per_class=100)
    for path in (folder / "red").iterdir():
        path.write_bytes(b"")
    with pytest.raises(errors.TooManyBadImagesError, match="check the folder, the disk"):
        extract(folder, on_error="skip")
    runtime = CountingRuntime()
    kept = extract(folder / "blue", runtime)
    assert runtime.batches == 0
    assert len(kept) == 100


def test_a_row_that_is_not_finite_is_never_kept(image_folder: Path) -> None:
    class Overflowing(CountingRuntime):
        def run(self, pixels: np.ndarray) -> np.ndarray:
            rows = super().run(pixels)
            rows[0] = np.inf
            return rows

    with pytest.raises(errors.NonFiniteError, match="bfloat16"):
        extract(image_folder, Overflowing())
    features = extract(image_folder)
    assert np.isfinite(features.X).all()


def test_a_runtime_of_another_width_is_refused(image_folder: Path) -> None:
    extract(image_folder / "red")
    with pytest.raises(errors.ExtractionError, match=r"expected float32 of shape \(4, 1280\)"):
        extract(image_folder / "blue", CountingRuntime(dim=5))


def test_a_damaged_shard_is_set_aside_and_computed_again(
    image_folder: Path, own_cache: Path
) -> None:
    first = extract(image_folder)
    shard = max(own_cache.glob("k-*/shards/*.h5"), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    runtime = CountingRuntime()
    with pytest.warns(errors.CacheCorruptWarning, match="quarantine"):
        second = extract(image_folder, runtime)
    assert runtime.batches > 0
    np.testing.assert_array_equal(first.X, second.X)
    assert len(list(own_cache.glob("k-*/quarantine/*"))) == 1


def test_a_file_rewritten_at_once_with_equal_size_is_seen(image_folder: Path) -> None:
    path = image_folder / "red" / "00.png"
    pixels = np.random.default_rng(5).integers(1, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path.with_suffix(".bmp"))
    extract(image_folder)
    times = os.stat(path.with_suffix(".bmp"))
    Image.fromarray(255 - pixels).save(path.with_suffix(".bmp"))
    os.utime(path.with_suffix(".bmp"), ns=(times.st_atime_ns, times.st_mtime_ns))
    runtime = CountingRuntime()
    extract(image_folder, runtime)
    assert runtime.seen == 1


KILLED = """
import os, sys
import featx
from tests.fakes import TINY, CountingRuntime

class Killed(CountingRuntime):
    def run(self, pixels):
        if self.batches == 100:
            os.kill(os.getpid(), 9)
        return super().run(pixels)

featx.extract(sys.argv[1], TINY, runtime=Killed(), cache=sys.argv[2], progress=False)
"""


def test_killed_and_run_again_is_bit_identical(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "images", n_per_class=150)
    whole = extract(folder, cache=tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(folder), str(tmp_path / "killed")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    runtime = CountingRuntime()
    resumed = extract(folder, runtime, cache=tmp_path / "killed")
    # Of the 400 images computed before the kill at most a block is computed again.
    assert runtime.seen <= 450 + PROBES - (400 - DEFAULT.block)
    assert resumed.X.tobytes() == whole.X.tobytes()


def test_a_stream_of_tensorflow_is_read_once() -> None:
    import tensorflow as tf

    pixels = np.random.default_rng(0).integers(1, 255, (10, 40, 40, 3), dtype=np.uint8)
    stream = tf.data.Dataset.from_tensor_slices((pixels, [0, 1] * 5))
    batched = extract(stream.shuffle(10, seed=3).batch(4))
    assert batched.X.shape == (10, 1280)
    plain = extract(pixels)
    order = [int(np.flatnonzero((row == plain.X).all(axis=1))[0]) for row in batched.X]
    assert batched.y is not None
    assert [i % 2 for i in order] == batched.y.tolist()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"on_error": "ignore"}, ValueError, "on_error='ignore': expected 'raise' or 'skip'"),
        ({"batch_size": 0}, ValueError, "batch_size=0: expected a whole number from 1"),
        ({"batch_size": 2**40}, ValueError, "expected a whole number from 1 to 16,384"),
        ({"runtime": "fast"}, errors.RuntimeUnavailableError, "runtime='fast': expected one of"),
        ({"cache": __file__}, errors.CacheWriteError, "is a file; expected a folder"),
        ({"cache": Path(__file__).parent}, errors.CacheError, "holds other files"),
    ],
)
def test_wrong_arguments_say_what_was_expected(
    image_folder: Path, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        featx.extract(image_folder, TINY, progress=False, **options)


# Frameworks take seconds to import; the others tens of milliseconds each, of some 400 in all.
UNNEEDED = {
    "keras", "tensorflow", "jax", "torch", "openvino", "pandas", "sklearn", "scipy", "h5py", "tqdm",
    "urllib.request", "asyncio", "featx.datasets.web", "featx.extraction.cluster",
    "featx.extraction.engines", "featx.runtimes.openvino_runtime", "featx.storage.objects",
}  # fmt: skip


def test_a_cached_call_imports_nothing_that_it_does_not_need(
    image_folder: Path, own_cache: Path
) -> None:
    featx.extract(image_folder, TINY, progress=False)
    code = (
        "import sys, featx\n"
        "tiny = featx.Backbone('mobilenet_v2', weights=None, image_size=32)\n"
        f"features = featx.extract({str(image_folder)!r}, tiny)\n"
        f"loaded = {UNNEEDED!r} & set(sys.modules)\n"
        "print(features.report.computed, sorted(loaded))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout == "0 []\n"


@pytest.mark.weights
def test_real_weights_on_real_images_reach_the_reference(datasets: Path) -> None:
    """0.848: an independent script's accuracy with StandardScaler and C = 0.01."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = featx.extract(datasets / "flowers" / "train", "mobilenet_v2", progress=False)
    test = featx.extract(datasets / "flowers" / "test", "mobilenet_v2", progress=False)
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    assert head.fit(train.X, train.y).score(test.X, test.y) == pytest.approx(0.848, abs=0.01)


def test_scaled_decoding_is_another_key_and_other_rows(tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    Image.fromarray(small).resize((800, 600)).save(tmp_path / "photo.jpg")
    full = featx.extract(tmp_path, TINY, progress=False)
    scaled = featx.extract(tmp_path, replace(TINY, decode="scaled"), progress=False)
    assert scaled.report is not None
    assert scaled.report.computed == 1
    assert scaled.spec["key"] != full.spec["key"]
    difference = np.linalg.norm(scaled.X - full.X) / np.linalg.norm(full.X)
    assert 0 < difference < 0.05


def test_a_network_that_cannot_be_built_leaves_no_key(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featx import runtimes

    def refuse(*_: Any) -> None:
        raise errors.BackboneError("it cannot be built")

    pixels = np.full((3, 40, 40, 3), 9, np.uint8)
    pixels[:, 0, 0, 0] = range(3)
    monkeypatch.setattr(runtimes, "start", refuse)
    with pytest.raises(errors.BackboneError, match="cannot be built"):
        featx.extract(pixels, TINY, progress=False)
    assert not list(own_cache.glob("k-*"))
    extract(pixels[:1])
    kept = sorted(own_cache.rglob("*"))
    with pytest.raises(errors.BackboneError, match="cannot be built"):
        featx.extract(pixels, TINY, progress=False)
    assert sorted(own_cache.rglob("*")) == kept


def test_a_request_that_the_disk_cannot_hold_is_refused_before_it_is_computed(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for some shards, so only the whole request tells."""
    from featx.storage import folders

    pixels = np.zeros((2000, 4, 4, 3), np.uint8)
    pixels.reshape(2000, -1)[:, :2] = np.array(np.divmod(np.arange(2000), 256)).T
    pixels[:, 3] = 255

    class Small:
        f_frsize, f_bavail = 1, 3 * 256 * 1280 * 4

    monkeypatch.setattr(folders.os, "statvfs", lambda folder: Small)
    runtime = CountingRuntime(batch_size=32)
    with pytest.raises(errors.CacheSpaceError, match=r"2,000 new images need 10,240,000"):
        extract(pixels, runtime)
    assert runtime.batches == 0
    extract(np.tile(pixels[:20], (100, 1, 1, 1)), runtime)
    assert runtime.seen == 20 + PROBES  # 2,000 are listed, and twenty need a row
    extract(pixels[:300], runtime)
    assert runtime.seen == 300 + PROBES


def test_copies_that_were_read_before_are_asked_room_for_once(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featx.storage import folders

    for i in range(600):
        image = np.full((32, 32, 3), 10 + 10 * (i % 20), np.uint8)
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    monkeypatch.setattr(
        "featx.extraction.scan.now_ns", lambda: time.time_ns() + 10**12
    )  # as if they were of long ago
    extract(tmp_path)

    class Small:
        f_frsize, f_bavail = 1, 550 * 1280 * 4

    monkeypatch.setattr(folders.os, "statvfs", lambda folder: Small)
    runtime = CountingRuntime(batch_size=32)
    other = replace(TINY, pooling="max")
    featx.extract(tmp_path, other, runtime=runtime, progress=False)
    assert runtime.seen == 4 * 20 + PROBES  # once in each of four blocks


def test_small_images_of_an_old_cache_are_served_and_large_ones_computed_as_the_rule_says(
    tmp_path: Path,
) -> None:
    images, cache = tmp_path / "images", tmp_path / "cache"
    images.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("large.jpg", (1203, 1001)), ("small.jpg", (300, 200))):
        small = Image.fromarray(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8))
        small.resize(size, Image.Resampling.BICUBIC).save(images / name, quality=90)
        os.utime(images / name, (1e9, 1e9))

    def extracted(decode: str) -> tuple[int, np.ndarray, str]:
        features = featx.extract(images, replace(TINY, decode=decode), cache=cache, progress=False)
        assert features.report is not None
        return features.report.computed, features.X, features.spec["key"]

    computed, full, key = extracted("full")  # as version 0.1 did
    assert computed == 2
    computed, auto, same_key = extracted("auto")
    assert (computed, same_key) == (1, key)
    np.testing.assert_array_equal(auto[1], full[1])
    assert 0 < np.linalg.norm(auto[0] - full[0]) < 0.05 * np.linalg.norm(full[0])
    for decode, expected in (("full", full), ("auto", auto)):
        computed, found, _ = extracted(decode)
        assert computed == 0
        np.testing.assert_array_equal(found, expected)
