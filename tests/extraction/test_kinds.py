"""Kinds of images through `extract`: all sources give the same; no stale refusal is served."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import featx
from featx.errors import BadImagesError
from featx.images import decoding, formats, raw, worker
from tests.fakes import TINY, CountingRuntime
from tests.images.test_kinds import EXACT, HEIC, needs_heif
from tests.promises import images as made

GOOD = made.encoded(made.pixels(seed=3), "PNG")


def extract(dataset: Any, cache: Path, **options: Any) -> featx.Features:
    return featx.extract(
        dataset, TINY, cache=cache, runtime=options.pop("runtime", CountingRuntime()),
        on_error=options.pop("on_error", "skip"), progress=False, **options,
    )  # fmt: skip


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Image.Image]]:
    """Open PIL images as a user does, and close them after the test."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(Image.open(path))


def rows_of(pixels: np.ndarray) -> np.ndarray:
    return CountingRuntime(1).run(decoding.resize(pixels, 32)[None])[0]


@pytest.mark.parametrize("name", EXACT)
def test_path_folder_bytes_and_pil_give_one_embedding(
    name: str, tmp_path: Path, opened: Callable[[Path], Image.Image]
) -> None:
    content, _ = EXACT[name]
    path = tmp_path / "d" / "a" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    expected = rows_of(decoding.pixels(path))
    sources: list[Any] = [
        tmp_path / "d",
        [path],
        [opened(path)],
        [Image.open(io.BytesIO(content))],
        [decoding.pixels(path)],
        [content],
    ]
    for number, source in enumerate(sources):
        features = extract(source, tmp_path / f"cache{number}")
        assert len(features) == 1, features.failures
        np.testing.assert_allclose(features.X[0], expected, rtol=1e-4, atol=1e-4)


def test_bad_pil_images_are_skipped_as_their_files_are(
    tmp_path: Path, opened: Callable[[Path], Image.Image]
) -> None:
    contents = {
        "cut.jpg": made.jpeg()[: len(made.jpeg()) // 2],
        "float.tif": made.tiff_float(),
        "checksum.png": made.wrong_idat(),
        "raw.nef": made.raw_photograph(made.MAKE, made.SUBIFDS),
    }
    paths = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        paths.append(tmp_path / name)
    good = Image.open(io.BytesIO(made.png_grey16()))
    images = [opened(path) for path in paths]
    by_path = extract(paths, tmp_path / "cache")
    features = extract([*images, good], tmp_path / "cache")
    assert [(f.error, f.reason) for f in features.failures] == [
        (f.error, f.reason) for f in by_path.failures
    ]
    assert features.ids == ["4"]
    np.testing.assert_allclose(
        features.X[0], rows_of(made.pixels()[..., :1].repeat(3, 2)), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(BadImagesError, match="4 of 5 images"):
        extract([*images, good], tmp_path / "cache", on_error="raise")


def test_a_pil_image_is_found_again_by_its_pixels(tmp_path: Path) -> None:
    extract([Image.open(io.BytesIO(made.png()))], tmp_path)
    runtime = CountingRuntime()
    again = [Image.fromarray(made.pixels()), made.pixels()]
    assert len(extract(again, tmp_path, runtime=runtime)) == 2
    assert runtime.seen == 0


@needs_heif
def test_a_missing_package_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The good image beside it is computed and published; its neighbour waits for the package."""
    (tmp_path / "good.png").write_bytes(GOOD)
    paths = [tmp_path / "good.png", HEIC / "upright.heic"]
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    with monkeypatch.context() as without:
        for name in ("pi_heif", "pillow_heif"):
            without.setitem(sys.modules, name, None)
            # In the process that decodes, too, which looks where this one does.
            (hidden / f"{name}.py").write_text("raise ImportError")
        without.syspath_prepend(str(hidden))
        worker.close()
        for _ in range(2):
            (failure,) = extract(paths, tmp_path / "cache").failures
            assert "pip install 'featx[heic]'" in failure.reason
    worker.close()
    features = extract(paths, tmp_path / "cache")
    assert not features.failures
    np.testing.assert_allclose(features.X[1], rows_of(made.pixels()), rtol=1e-4, atol=1e-4)


def test_what_an_older_version_refused_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As version 0.1 did: with the same Pillow, it published that PNM is not an image."""
    (tmp_path / "good.png").write_bytes(GOOD)
    (tmp_path / "x.ppm").write_bytes(EXACT["x.ppm"][0])
    paths = [tmp_path / "good.png", tmp_path / "x.ppm"]
    with monkeypatch.context() as older:
        older.setattr(formats, "PILLOW_FORMATS", ("PNG", "JPEG"))
        (failure,) = extract(paths, tmp_path / "cache").failures
        assert failure.error == "NotAnImageError"
    monkeypatch.setattr(
        "featx.extraction.scan.now_ns", lambda: time.time_ns() + 10**12
    )  # found by its stat
    features = extract(paths, tmp_path / "cache")
    assert not features.failures
    np.testing.assert_allclose(features.X[1], rows_of(made.pixels()), rtol=1e-4, atol=1e-4)
    runtime = CountingRuntime()
    extract(paths, tmp_path / "cache", runtime=runtime)
    assert runtime.batches == 0


def test_a_name_may_make_readable_what_was_refused(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(GOOD)
    for name in ("x.bin", "x.tga"):
        # Without its footer only the name of a TGA file tells what it is.
        (tmp_path / name).write_bytes(EXACT["x.tga"][0][:-26])
    (failure,) = extract([tmp_path / "good.png", tmp_path / "x.bin"], tmp_path / "c").failures
    assert failure.error == "NotAnImageError"
    assert len(extract([tmp_path / "x.tga"], tmp_path / "c")) == 1


def test_other_refusals_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good.png").write_bytes(GOOD)
    (tmp_path / "cut.png").write_bytes(made.png()[:100])
    paths = [tmp_path / "good.png", tmp_path / "cut.png"]
    extract(paths, tmp_path / "cache")
    monkeypatch.setattr(decoding, "at_side_with_remarks", lambda *_, **__: pytest.fail("decoded"))
    (failure,) = extract(paths, tmp_path / "cache").failures
    assert failure.error == "TruncatedImageError"


@pytest.mark.parametrize("name", ["1.nef", "1.DNG"])
def test_the_preview_that_an_older_version_embedded_is_not_served(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.extraction.scan.now_ns", lambda: time.time_ns() + 10**12)
    (tmp_path / name).write_bytes(made.raw_photograph(made.MAKE, made.SUBIFDS))
    with monkeypatch.context() as older:
        older.setattr(raw, "kind_of", lambda *_: None)
        assert len(extract([tmp_path / name], tmp_path / "cache")) == 1
    (failure,) = extract([tmp_path / name], tmp_path / "cache").failures
    assert "a RAW photograph" in failure.reason


def test_images_of_a_nas_listed_by_name(tmp_path: Path) -> None:
    path = tmp_path / "cat" / "@eaDir" / "1.jpg" / "SYNOPHOTO_THUMB_M.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(GOOD)
    (tmp_path / "cat" / "1.png").write_bytes(GOOD)
    features = extract([tmp_path / "cat" / "1.png", path], tmp_path / "cache")
    (failure,) = features.failures
    assert "in @eaDir, a folder in which a NAS" in failure.reason
    assert len(features) == 1
    assert not extract([tmp_path / "cat" / "1.png"], tmp_path / "cache").failures
