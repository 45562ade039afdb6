"""The decoder: bytes to upright RGB pixels. The odd and bad images stand in tests/promises."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from featx.errors import ImageDecodeError, ImageReadError, ImageTooLargeError, TruncatedImageError
from featx.images import decoding
from featx.images.preparation import Preparation
from tests.promises import images as made


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000"])
def test_decode_gives_the_pixels(form: str) -> None:
    options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {}
    image = Image.fromarray(made.pixels()).quantize(64).convert("RGB")
    decoded = decoding.decode(made.encoded(image, form, **options))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, np.asarray(image))


def test_resize_is_pillows_bilinear_with_antialiasing() -> None:
    checks = np.indices((64, 64)).sum(0)[..., None].repeat(3, 2) % 2 * 255
    small = decoding.resize(checks.astype(np.uint8), 16)
    assert small.shape == (16, 16, 3)
    assert np.abs(small[2:-2, 2:-2].astype(int) - 127).max() < 12  # not a coarser pattern
    expected = Image.fromarray(made.pixels()).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decoding.resize(made.pixels(), 32), np.asarray(expected))


def test_the_same_image_as_path_bytes_and_pixels(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(made.png())
    loaded = [
        decoding.load(source, 24) for source in (tmp_path / "x.png", made.png(), made.pixels())
    ]
    np.testing.assert_array_equal(loaded[0], loaded[1])
    np.testing.assert_array_equal(loaded[0], loaded[2])


def test_an_image_of_the_side_is_not_touched() -> None:
    square = made.pixels(32, 32)
    np.testing.assert_array_equal(decoding.load(square, 32), square)


def test_remarks_are_on_the_image_as_it_was_in_the_file() -> None:
    decoded = decoding.at_side_with_remarks(made.cmyk(), 32, "x.png")
    assert decoded.remarks == ("cmyk", "misnamed")
    np.testing.assert_array_equal(decoded.pixels, decoding.at_side(made.cmyk(), 32))
    assert decoding.at_side_with_remarks(made.pixels(), 32, "x.png").remarks == ()


def test_read_limits(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(100))
    assert decoding.read(tmp_path / "x") == bytes(100)
    content, stat = decoding.read_with_stat(tmp_path / "x")
    assert (content, stat.st_size) == (bytes(100), 100)
    with pytest.raises(ImageTooLargeError, match="100 bytes; the limit is 99"):
        decoding.read(tmp_path / "x", max_bytes=99)
    with pytest.raises(ImageReadError, match="a folder"):
        decoding.read(tmp_path)
    with pytest.raises(ImageReadError, match="cannot be read: No such file"):
        decoding.read(tmp_path / "y")


def test_pixels_over_the_limit() -> None:
    with pytest.raises(ImageTooLargeError, match="80 x 60 pixels; the limit is 4,799"):
        decoding.decode(made.png(), max_pixels=60 * 80 - 1)


@pytest.mark.parametrize(("count", "fits"), [(22, True), (40, False)])
def test_scans_of_a_jpeg(count: int, fits: bool) -> None:
    whole = made.encoded(Image.new("RGB", (32, 32)), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    content = whole[:last] + whole[last:-2] * count + whole[-2:]
    if fits:
        assert decoding.decode(content).shape == (32, 32, 3)
    else:
        with pytest.raises(ImageDecodeError, match="over 32 scans"):
            decoding.decode(content)


def test_bytes_like_scans_behind_a_jpeg_are_none() -> None:
    """As in a photograph with a film behind it: the walk ends where the image does."""
    content = made.jpeg() + b"\xff\xda\0\2" * 1000
    np.testing.assert_array_equal(decoding.decode(content), decoding.decode(made.jpeg()))


def test_bytes_like_scans_in_a_comment_are_none() -> None:
    comment = b"\xff\xda" * 1000
    content = made.jpeg(comment=comment)
    assert content.count(b"\xff\xda") > 1000
    assert decoding.decode(content).shape == (60, 80, 3)


@pytest.mark.parametrize("action", ["ignore", "error"])
def test_the_verdict_does_not_depend_on_pythons_warnings(action: Any) -> None:
    """Pillow warns of a damaged EXIF block; the pixels are good all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        assert decoding.decode(made.cut_exif()).shape == (60, 80, 3)
        with pytest.raises(ImageTooLargeError):
            decoding.decode(made.declared_png(12_000, 10_000))


def test_a_cut_file_is_not_a_damaged_one() -> None:
    with pytest.raises(TruncatedImageError, match="ends before the image does"):
        decoding.decode(made.png()[:100])
    with pytest.raises(ImageDecodeError, match="wrong checksum"):
        decoding.decode(made.wrong_idat())


@pytest.mark.parametrize(
    ("size", "decoded"), [((4000, 3000), (500, 375)), ((1000, 800), (250, 200)), ((300, 200), None)]
)
def test_scaled_decoding_keeps_twice_the_side(
    size: tuple[int, int], decoded: tuple[int, int] | None
) -> None:
    small = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(content, "JPEG", quality=95)
    scaled = decoding.at_side(content.getvalue(), 100, how=Preparation("scaled"))
    full = decoding.load(content.getvalue(), 100)
    wanted = decoding.Wanted(least=200)
    assert decoding.decode_here(content.getvalue(), wanted).upright.size == (decoded or size)
    assert np.abs(scaled.astype(int) - full.astype(int)).mean() < 1.5
    assert np.array_equal(scaled, full) == (decoded is None)


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (61, 90), (32, 45), (20, 10), (50, 50)])
@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
def test_a_crop_is_the_square_at_the_centre(size: tuple[int, int], filter: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    found = decoding.resize(pixels, 32, Preparation(resize="crop", filter=filter))
    kind = Image.Resampling[filter.upper()]
    expected = ImageOps.fit(Image.fromarray(pixels), (32, 32), kind)
    np.testing.assert_array_equal(found, np.asarray(expected))
    squashed = decoding.resize(pixels, 32, Preparation(filter=filter))
    assert np.array_equal(found, squashed) == (size[0] == size[1])


def test_a_crop_of_a_turned_photograph_is_of_what_is_seen() -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = (0, 255, 0)  # the square at the centre
    turned = Image.Exif()
    turned[0x0112] = 6
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", exif=turned)
    cropped = decoding.load(content.getvalue(), 8, how=Preparation(resize="crop"))
    # The filter reaches beyond the square at its edges, as if the whole image were resized first.
    assert (cropped[1:-1, 1:-1] == (0, 255, 0)).all()
    assert cropped[..., 1].min() > 100
    squashed = decoding.load(content.getvalue(), 8)
    assert (squashed[[0, -1]] == 0).all()  # its long edge is the vertical one
