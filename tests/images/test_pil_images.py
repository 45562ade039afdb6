"""A PIL image gives what its file would, pixels or error, and is left as it was."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from featx.errors import ExtractionError, ImageError, ImageReadError, UnsupportedImageError
from featx.images import decoding
from featx.images.content_hash import of_content
from tests.images.test_kinds import EXACT, UNREAD
from tests.promises import images as made

# Pillow remarks on damaged EXIF.
pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF data")

GREY = made.pixels()[..., 0].astype(np.uint16)
HALF = len(made.jpeg()) // 2

# What is behind the image, and the name of its file.
FILES: dict[str, bytes] = {
    "16-bit.png": made.png_grey16(),
    "16-bit-big-endian.tif": made.encoded(Image.fromarray(GREY * 200).convert("I;16B"), "TIFF"),
    "twelve.png": made.encoded(Image.fromarray(GREY * 16), "PNG"),
    "I.tif": made.encoded(Image.fromarray(GREY.astype(np.int32) * 70_000), "TIFF"),
    "F.tif": made.tiff_float(),
    "palette.png": made.png("P"),
    "palette-transparent.png": made.palette_with_transparency(),
    "cmyk.jpg": made.cmyk(),
    "ycck.jpg": made.ycck(),
    "grey-alpha.png": made.png("LA"),
    "alpha.png": made.encoded(made.transparent(77), "PNG"),
    "bits.png": made.png("1"),
    "lab.tif": made.encoded(Image.new("LAB", (40, 30)), "TIFF"),
    "turned.jpg": made.exif_jpeg(6),
    "turned.tif": made.encoded(
        made.pixels(), "TIFF", tiffinfo={0x0112: 6}),
    "mirrored.jpg": made.exif_jpeg(5),
    "cut-exif.jpg": made.cut_exif(),
    "cut.jpg": made.jpeg()[:HALF],
    "header.jpg": made.jpeg_header(),
    "cut.png": made.png()[:100],
    "checksum.png": made.wrong_idat(),
    "scans.jpg": made.progressive_scans(60),
    "pages.tif": made.tiff_pages(),
    "animated.gif": made.animated("GIF"),
    "animated.webp": made.animated("WEBP"),
    "raw.nef": made.raw_photograph(made.MAKE, made.SUBIFDS),
    "raw.tif": made.raw_photograph(made.DNG),
    "x.dds": UNREAD["x.dds"][0],
    **{f"kind-{name}": content for name, (content, _) in EXACT.items()},
}  # fmt: skip


def outcome(make: Callable[[], Any]) -> tuple[str, Any]:
    """Return the error's name and text, or the pixels."""
    try:
        return "pixels", make()
    except ImageError as error:
        return type(error).__name__, str(error)


def assert_same(found: tuple[str, Any], expected: tuple[str, Any]) -> None:
    assert found[0] == expected[0], (found, expected)
    np.testing.assert_array_equal(found[1], expected[1])


def state(image: Image.Image) -> tuple[Any, ...]:
    tile = list(getattr(image, "tile", ()))
    return image.mode, image.size, dict(image.info), tile, image.tell(), image.format


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("way", ["path", "stream", "open file"])
def test_an_image_that_is_not_loaded(name: str, way: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    if way == "stream" and path.suffix == ".nef":
        pytest.skip("a stream has no name")
    expected = outcome(lambda: decoding.pixels(path))
    with open(path, "rb") as file:
        file.seek(7)
        opened = {"path": path, "stream": io.BytesIO(FILES[name]), "open file": file}[way]
        image = Image.open(opened)
        before, at = state(image), image.fp.tell()
        assert_same(outcome(lambda: decoding.pixels(image)), expected)
        assert_same(
            outcome(lambda: decoding.load(image, 32)), outcome(lambda: decoding.load(path, 32))
        )
        assert state(image) == before
        assert image.fp.tell() == at
        if expected[0] == "pixels":
            image.load()  # the caller can still use it
            again = Image.open(path)
            assert image.tobytes() == again.tobytes()
            again.close()
        image.close()


# Those that Pillow itself does not load, or reads without a word on what is wrong with them.
UNLOADABLE = ("cut.", "header", "checksum", "scans", "x.")


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(UNLOADABLE)])
def test_an_image_that_is_loaded(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    expected = outcome(lambda: decoding.pixels(path))
    with Image.open(path) as image:
        image.load()
        before, content = state(image), image.tobytes()
        assert_same(outcome(lambda: decoding.pixels(image)), expected)
        assert (state(image), image.tobytes()) == (before, content)


def test_made_in_memory() -> None:
    rgb = Image.fromarray(made.pixels())
    np.testing.assert_array_equal(decoding.pixels(rgb), made.pixels())
    table: dict[str, Any] = {
        "L": rgb.convert("L"), "1": rgb.convert("1"), "P": rgb.convert("P"),
        "CMYK": rgb.convert("CMYK"), "YCbCr": rgb.convert("YCbCr"), "HSV": rgb.convert("HSV"),
        "RGBX": rgb.convert("RGBX"),
    }  # fmt: skip
    for mode, image in table.items():
        expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(decoding.pixels(image), expected, err_msg=mode)
    grey = decoding.pixels(Image.fromarray(GREY * 257))
    np.testing.assert_array_equal(grey, np.repeat(made.pixels()[..., :1], 3, axis=2))
    premultiplied = made.transparent(255).convert("RGBa")
    np.testing.assert_array_equal(decoding.pixels(premultiplied), made.pixels())
    for bad in (Image.new("I", (9, 9), 70_000), Image.new("F", (9, 9)), Image.new("LAB", (9, 9))):
        with pytest.raises(UnsupportedImageError):
            decoding.pixels(bad)


def test_the_frame_at_which_it_stands() -> None:
    for form in ("GIF", "WEBP", "TIFF"):
        frames = [made.pixels(seed=seed) for seed in range(3)]
        content = made.encoded(
            frames[0], form, save_all=True, append_images=[Image.fromarray(f) for f in frames[1:]],
            **({"lossless": True} if form == "WEBP" else {}),
        )  # fmt: skip
        for load in (False, True):
            image = Image.open(io.BytesIO(content))
            if load:
                image.load()
            image.seek(2)
            with Image.open(io.BytesIO(content)) as other:
                other.seek(2)
                expected = np.asarray(other.convert("RGB"))
            np.testing.assert_array_equal(decoding.pixels(image), expected, err_msg=form)
            assert image.tell() == 2


def test_a_closed_image_is_read_by_its_name_or_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(made.png())
    with Image.open(tmp_path / "x.png") as by_name:
        pass
    np.testing.assert_array_equal(decoding.pixels(by_name), made.pixels())
    nameless = Image.open(io.BytesIO(made.png()))
    nameless.close()
    with pytest.raises(ImageReadError, match=r"call its load\(\) before"):
        decoding.pixels(nameless)


def test_a_loaded_copy_that_was_cut_before(tmp_path: Path) -> None:
    """Loading failed in the caller's hands once: it fails here with a reason, too."""
    image = Image.open(io.BytesIO(made.jpeg()[:HALF]))
    with pytest.raises(OSError, match="truncated"):
        image.load()
    with pytest.raises(ImageError, match="ends before"):
        decoding.pixels(image)


def test_its_content_is_its_pixels() -> None:
    image = Image.open(io.BytesIO(made.jpeg()))
    assert of_content(decoding.content_of(image)) == of_content(decoding.decode(made.jpeg()))


def test_cut_files_filled_with_grey_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ExtractionError, match="LOAD_TRUNCATED_IMAGES"):
        decoding.pixels(Image.new("RGB", (9, 9)))


def test_one_image_in_many_threads(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(made.jpeg())
    expected = decoding.pixels(tmp_path / "x.jpg")
    found: list[np.ndarray] = []
    with Image.open(tmp_path / "x.jpg") as image:
        threads = [
            threading.Thread(target=lambda: found.append(decoding.pixels(image))) for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 16
    assert all(np.array_equal(one, expected) for one in found)
