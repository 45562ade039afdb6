"""Each kind of image file gives the pixels that were written, and those that Pillow reads."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from featx.errors import (
    ImageDecodeError,
    ImageTooLargeError,
    MissingDecoderError,
    NotAnImageError,
    TruncatedImageError,
    UnsupportedImageError,
)
from featx.images import decoding, formats
from tests.promises import images as made

HEIC = Path(__file__).parents[1] / "data" / "heic"
RGB = made.pixels()
GREY = RGB[..., 0].astype(np.uint16)
needs_heif = pytest.mark.skipif(
    importlib.util.find_spec("pi_heif") is None, reason="pip install 'featx[heic]'"
)


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def exactly(maxval: int, highest: int) -> np.ndarray:
    """Return GREY as 8 bits, from values that were scaled to `maxval` and are read by Pillow."""
    values = (GREY.astype(np.uint32) * maxval // 255).astype(float)
    scaled = np.rint(values / maxval * highest).astype(np.uint32)
    return three(scaled if highest == 255 else (scaled + 128) // 257)


def scaled(maxval: int) -> np.ndarray:
    return (GREY.astype(np.uint32) * maxval // 255).astype(np.uint16)


EXACT: dict[str, tuple[bytes, np.ndarray]] = {
    "x.ppm": (made.encoded(RGB, "PPM"), RGB),
    "P3.ppm": (made.pnm("P3", 255, RGB), RGB),
    "x.pgm": (made.encoded(Image.fromarray(RGB[..., 0]), "PPM"), three(GREY)),
    "P2.pgm": (made.pnm("P2", 255, GREY), three(GREY)),
    "7.pgm": (made.pnm("P5", 7, scaled(7)), exactly(7, 255)),
    "100.pnm": (made.pnm("P6", 100, RGB // 3), np.rint(RGB // 3 / 100 * 255).astype(np.uint8)),
    "1000.pgm": (made.pnm("P5", 1000, scaled(1000)), exactly(1000, 65535)),
    "4095.pgm": (made.pnm("P5", 4095, scaled(4095)), exactly(4095, 65535)),
    "65535.pgm": (made.pnm("P5", 65535, GREY * 257), three(GREY)),
    "P2-65535.pgm": (made.pnm("P2", 65535, GREY * 257), three(GREY)),
    "x.pbm": (made.encoded(Image.fromarray(RGB).convert("1"), "PPM"),
              np.asarray(Image.fromarray(RGB).convert("1").convert("RGB"))),
    "x.tga": (made.encoded(RGB, "TGA"), RGB),
    "rle.TGA": (made.encoded(RGB, "TGA", compression="tga_rle"), RGB),
    "grey.tga": (made.encoded(Image.fromarray(RGB[..., 0]), "TGA"), three(GREY)),
    "alpha.tga": (made.encoded(made.transparent(99), "TGA"), RGB),
    "x.jp2": (made.encoded(RGB, "JPEG2000", irreversible=False), RGB),
    "x.j2k": (made.encoded(RGB, "JPEG2000", no_jp2=True), RGB),
    "16.jp2": (made.encoded(Image.fromarray(GREY * 257), "JPEG2000"), three(GREY)),
    "lossless.avif": (made.encoded(RGB, "AVIF", quality=100, subsampling="4:4:4"), RGB),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_the_pixels_are_those_that_were_written(name: str, tmp_path: Path) -> None:
    content, expected = EXACT[name]
    (tmp_path / name).write_bytes(content)
    by_path = decoding.pixels(tmp_path / name)
    off = 3 if name.endswith(".avif") else 0  # its colours pass through YCbCr
    assert by_path.shape == expected.shape
    assert np.abs(by_path.astype(int) - expected).max() <= off
    np.testing.assert_array_equal(decoding.decode(content), by_path)
    decoded = decoding.at_side_with_remarks(content, 60, name)
    np.testing.assert_array_equal(decoded.pixels, decoding.resize(by_path, 60))
    assert "misnamed" not in decoded.remarks


@pytest.mark.parametrize("name", [name for name in EXACT if "65535" not in name])
def test_the_pixels_are_pillows_own(name: str) -> None:
    content, _ = EXACT[name]
    image = made.opened(content)
    if image.mode in ("I", "I;16"):
        grey = np.asarray(image).astype(np.uint32)
        expected = three((grey + 128) // 257)
    else:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decoding.decode(content, name), expected)


@pytest.mark.parametrize("maxval", [1, 3, 99, 254, 256, 1023, 65534])
@pytest.mark.parametrize("bands", [1, 3])
def test_any_largest_value_of_a_pnm_as_pillow_scales_it(maxval: int, bands: int) -> None:
    values = np.random.default_rng(maxval).integers(0, maxval + 1, (20, 30, bands))
    content = made.pnm("P5" if bands == 1 else "P6", maxval, values)
    image = made.opened(content)
    pixels = decoding.decode(content)
    if image.mode == "I":
        expected = (np.asarray(image).astype(np.uint32) + 128) // 257
        np.testing.assert_array_equal(pixels[..., 0], expected)
    else:
        np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


def test_avif_is_turned_as_it_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = made.encoded(RGB, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(made.opened(content)).convert("RGB"))
    assert upright.shape == (80, 60, 3)
    np.testing.assert_array_equal(decoding.decode(content), upright)
    assert np.abs(upright.astype(int) - np.rot90(RGB, -1)).max() <= 3


@needs_heif
@pytest.mark.parametrize(
    ("name", "expected"), [("upright.heic", RGB), ("turned.heic", np.rot90(RGB, -1))]
)
def test_heic(name: str, expected: np.ndarray) -> None:
    """The files were written without losses by an encoder that featx does not install."""
    before = set(Image.registered_extensions())
    np.testing.assert_array_equal(decoding.load(HEIC / name, 70), decoding.resize(expected, 70))
    np.testing.assert_array_equal(decoding.pixels(HEIC / name), expected)
    assert decoding.header(HEIC / name) == ("HEIF RGB", *expected.shape[1::-1])
    assert set(Image.registered_extensions()) == before


@needs_heif
def test_a_heic_over_the_limit_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.images.heif.decoded", lambda image: pytest.fail("was decoded"))
    with pytest.raises(ImageTooLargeError, match="80 x 60 pixels; the limit is 4,799"):
        decoding.decode((HEIC / "upright.heic").read_bytes(), max_pixels=4799)


@needs_heif
def test_a_cut_heic_is_truncated() -> None:
    content = (HEIC / "upright.heic").read_bytes()
    for end in (40, 300, 800, len(content) - 100):
        with pytest.raises(TruncatedImageError):
            decoding.decode(content[:end])


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDecoderError, match=r"pip install 'featx\[heic\]'") as caught:
        decoding.decode_here((HEIC / "upright.heic").read_bytes(), decoding.Wanted())
    assert not caught.value.permanent
    assert isinstance(caught.value, UnsupportedImageError)


@pytest.mark.parametrize(
    ("form", "codec"), [("AVIF", "avif"), ("WEBP", "webp"), ("JPEG2000", "jpg_2000")]
)
def test_a_pillow_without_the_codec(form: str, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As such a Pillow answers: the file is not identified, or its decoder is missing."""
    content = made.encoded(RGB, form)
    plugin = sys.modules[f"PIL.{ {'AVIF': 'Avif', 'WEBP': 'WebP'}.get(form, 'Jpeg2K') }ImagePlugin"]
    monkeypatch.setattr(features, "check", lambda name: name != codec)
    if form == "JPEG2000":
        monkeypatch.delattr(Image.core, "jpeg2k_decoder")
    else:
        monkeypatch.setattr(plugin, "SUPPORTED", False)
    with pytest.raises(MissingDecoderError, match="Pillow was built without"):
        decoding.decode_here(content, decoding.Wanted())


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


@pytest.mark.parametrize(
    "name",
    ["x.ppm", "P3.ppm", "1000.pgm", "65535.pgm", "x.pbm", "x.tga", "rle.TGA", "lossless.avif"],
)
def test_a_cut_file_is_truncated(name: str) -> None:
    with pytest.raises(TruncatedImageError):
        decoding.decode(cut(EXACT[name][0]), name)


@pytest.mark.parametrize("name", ["x.jp2", "x.j2k"])
def test_a_cut_file_is_an_error(name: str) -> None:
    with pytest.raises((TruncatedImageError, ImageDecodeError)):
        decoding.decode(cut(EXACT[name][0]), name)


SIZES = {
    "x.ppm": b"P6 20000 20000 255\n" + bytes(99),
    "x.pgm": b"P5 20000 20000 1000\n" + bytes(99),
    "x.tga": bytes([0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 24, 0])
    + bytes(99),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_judged_before_decoding(name: str) -> None:
    with pytest.raises(ImageTooLargeError):
        decoding.decode(SIZES[name], name)


def test_a_jpeg2000_whose_data_is_larger_than_it_says() -> None:
    content = bytearray(EXACT["x.jp2"][0])
    at = content.index(b"\xff\x4f\xff\x51")
    content[at + 8 : at + 16] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(ImageDecodeError, match="its header says 80 x 60 pixels, its data 60000"):
        decoding.decode(bytes(content))


def test_a_large_image_in_digits_is_refused() -> None:
    content = EXACT["P3.ppm"][0].ljust(formats.MAX_TEXT_BYTES + 1)
    with pytest.raises(ImageTooLargeError, match="written in digits"):
        decoding.decode_here(content, decoding.Wanted())


@pytest.mark.parametrize("name", ["", "x.bin", "x.jpg"])
def test_a_tga_is_one_by_its_footer_or_its_name(name: str) -> None:
    content = EXACT["x.tga"][0]
    np.testing.assert_array_equal(decoding.decode(content, name), RGB)
    without = content[: -len(formats.TGA_FOOTER) - 8]
    np.testing.assert_array_equal(decoding.decode(without, "x.tga"), RGB)
    with pytest.raises(NotAnImageError, match="TGA file without a footer, only a name that ends"):
        decoding.decode(without, name)
    with pytest.raises(NotAnImageError, match="bytes of another kind"):
        decoding.decode(b"no header at all" + formats.TGA_FOOTER, name)
    np.testing.assert_array_equal(decoding.decode(made.png(), "x.tga"), RGB)  # the content decides


@pytest.mark.parametrize(
    ("at", "value"), [(1, 2), (2, 0), (2, 4), (2, 32), (12, 0), (16, 17), (17, 255)]
)
def test_a_tga_with_an_impossible_header(at: int, value: int) -> None:
    content = bytearray(EXACT["x.tga"][0])
    content[at : at + 1 + (at == 12)] = bytes([value] * (1 + (at == 12)))
    with pytest.raises(NotAnImageError, match="not that of a TGA file"):
        decoding.decode(bytes(content), "x.tga")


UNREAD: dict[str, tuple[bytes, str]] = {
    "codestream.jxl": (b"\xff\x0a" + bytes(99), "JPEG XL"),
    "x.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "JPEG XL"),
    "x.psd": (b"8BPS\0\1" + bytes(99), "Photoshop"),
    "x.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "x.png": (b'<?xml version="1.0"?>\n<!-- a logo -->\n<svg width="3"/>', "SVG"),
    "x.eps": (made.encoded(RGB, "EPS"), "EPS"),
    "x.dds": (made.encoded(RGB, "DDS"), "DirectDraw Surface"),
    "x.ico": (made.encoded(Image.fromarray(RGB).resize((32, 32)), "ICO"), "icon"),
    "x.sgi": (made.encoded(RGB, "SGI"), "SGI"),
    "x.dcm": (bytes(128) + b"DICM" + bytes(99), "DICOM"),
    "x.exr": (b"v/1\x01" + bytes(99), "OpenEXR"),
    "x.qoi": (b"qoif" + bytes(99), "QOI"),
    "colour.pfm": (b"PF\n2 2\n-1.0\n" + bytes(48), "PFM"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_an_image_of_another_kind_is_called_that(name: str) -> None:
    content, kind = UNREAD[name]
    with pytest.raises(UnsupportedImageError, match=f"does not read .{kind}") as caught:
        decoding.decode(content, name)
    assert "not an image" not in str(caught.value)


@pytest.mark.parametrize("brand", [b"isom", b"mp42", b"qt  "])
def test_a_video_is_called_one(brand: bytes) -> None:
    with pytest.raises(NotAnImageError, match="a video"):
        decoding.decode(b"\0\0\0\x18ftyp" + brand + bytes(99))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((GREY * 16).clip(0, 4095), True),
        (GREY, True),
        (GREY * 257, False),
        (GREY * 0 + 4095, True),
        (GREY * 0 + 4096, False),
        (GREY * 0, False),  # a black image is black
    ],
)
def test_twelve_bits_in_sixteen(values: np.ndarray, said: bool) -> None:
    image = Image.fromarray(values.astype(np.uint16))
    contents: list[tuple[bytes, str]] = [
        (made.encoded(image, "PNG"), "x.png"),
        (made.encoded(image, "TIFF"), "x.tif"),
        (made.pnm("P5", 65535, values), "x.pgm"),
    ]
    for content, name in contents:
        remarks: Any = decoding.at_side_with_remarks(content, 32, name).remarks
        assert ("twelve_bits" in remarks) is said, name
