"""Which files are decoded in threads, and which by a process with limits; both give one result."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from featx.errors import ImageDecodeError, ImageError
from featx.images import bounds, decoding, formats, worker
from tests.promises import images as made
from tests.promises.hostile_images import (
    bmp,
    gif_with,
    jpeg_with,
    png_with,
    profile_as_text,
    scans_behind,
    segment,
)
from tests.promises.mutations import mutant

SEED = int(os.environ["FEATX_SEED"])
RGB = made.pixels()
SMALL = Image.fromarray(RGB)


def with_exif(form: str, tags: int = 1, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    for tag in range(tags):
        exif[0x9C9B + tag] = b"x"
    return made.encoded(RGB, form, exif=exif, **options)


def tiff(**changed: int) -> bytes:
    """Return a deflated TIFF of one strip, with other values in tags of one number."""
    content = bytearray(made.encoded(RGB, "TIFF", compression="tiff_deflate"))
    (at,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, at)
    places = {
        struct.unpack_from("<H", content, at + 2 + 12 * i)[0]: at + 2 + 12 * i for i in range(count)
    }
    for name, value in changed.items():
        tag = {"height": 257, "compression": 259, "rows": 278, "bytes": 279}[name]
        struct.pack_into("<HII", content, places[tag] + 2, 4, 1, value)
    return bytes(content)


def text(key: str, value: str, zip: bool = False) -> bytes:
    about = PngImagePlugin.PngInfo()
    about.add_text(key, value, zip=zip)
    return made.png(pnginfo=about)


BOUNDED: dict[str, bytes] = {
    "baseline.jpg": made.jpeg(),
    "progressive.jpg": made.jpeg(progressive=True),
    "exif.jpg": with_exif("JPEG"),
    "profile.jpg": made.jpeg(icc_profile=bytes(200_000)),
    "cmyk.jpg": made.cmyk(),
    "restarts.jpg": made.jpeg(restart_marker_blocks=1, progressive=True),
    "x.png": made.png(),
    "exif.png": with_exif("PNG"),
    "text.png": text("Comment", "a" * 100_000, zip=True),
    "palette.png": made.palette_with_transparency(),
    "16.png": made.png_rgb16(),
    "lossy.webp": made.encoded(RGB, "WEBP"),
    "exif.webp": with_exif("WEBP"),
    "x.bmp": made.encoded(RGB, "BMP"),
    "1.bmp": made.encoded(SMALL.convert("1"), "BMP"),
    "x.gif": made.animated("GIF"),
    "raw.tif": made.encoded(RGB, "TIFF"),
    "lzw.tif": made.encoded(RGB, "TIFF", compression="tiff_lzw"),
    "deflate.tif": tiff(),
    "pages.tif": made.tiff_pages(),
    "x.ppm": made.encoded(RGB, "PPM"),
    "1000.pgm": made.pnm("P5", 1000, RGB[..., 0].astype(int) * 3),
    "x.tga": made.tga(),
    "text.txt": b"no image",
    "page.jpg": b"<html>",
    "video.jpg": b"\0\0\0\x20ftypisom" + bytes(99),
}
UNBOUNDED: dict[str, bytes] = {
    # good files of formats that nothing short bounds
    "x.avif": made.encoded(RGB, "AVIF"),
    "x.jp2": made.encoded(RGB, "JPEG2000"),
    "x.j2k": made.encoded(RGB, "JPEG2000", no_jp2=True),
    "lossless.webp": made.encoded(RGB, "WEBP", lossless=True),
    "alpha.webp": made.encoded(made.transparent(99), "WEBP"),
    "animated.webp": made.animated("WEBP"),
    "digits.ppm": made.pnm("P3", 255, RGB),
    "jpeg.tif": made.encoded(RGB, "TIFF", compression="jpeg"),
    "g4.tif": made.encoded(SMALL.convert("1"), "TIFF", compression="group4"),
    # good or nearly good files with something without end
    "segments.jpg": jpeg_with(*[segment(0xE5, b"")] * 300),
    "exif twice.jpg": jpeg_with(*[segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0")] * 2),
    "exif of many tags.jpg": jpeg_with(
        segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 5000) + bytes(60_000))
    ),
    "fill bytes.jpg": jpeg_with(b"\xff" * 9),
    "end markers.jpg": jpeg_with(b"\xff\xd9" * 9),
    "other bytes.jpg": jpeg_with(bytes(9)),
    "header.jpg": jpeg_with(*[segment(0xE2, bytes(60_000))] * 20),
    "arithmetic.jpg": made.jpeg().replace(b"\xff\xc0\0\x11", b"\xff\xc9\0\x11"),
    "cut.jpg": made.jpeg()[:100],
    "chunks.png": png_with(*[made.chunk(b"teSt", b"")] * 100),
    "data chunks.png": png_with(*[made.chunk(b"IDAT", b"")] * 17_000),
    "exif as text.png": text("Raw profile type exif", "\nexif\n4\n" + "00" * 20_000, zip=True),
    "exif.png": png_with(made.chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(99))),
    "tall.png": made.declared_png(1, 80_000_000),
    "rle.bmp": bmp(4, 1, 1, b"\4\5\0\1"),
    "tall.bmp": bmp(1, 80_000_000, 0, b""),
    "parts.gif": gif_with(*[b"\1x"] * 5_000),
    "comment.ppm": b"P6\n#" + b"x" * 5_000 + b"\n1 1\n255\n\0\0\0",
    "tall.ppm": b"P5 1 80000000 255\n",
    "zstd.tif": tiff(compression=50000),
    "rows.tif": tiff(rows=1 << 30),
    "strip of more than the file.tif": tiff(bytes=1 << 28),
    "tall.tif": tiff(height=80_000_000),
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that a process was asked for; it goes on answering."""
    found: list[str] = []
    ask = worker.ask

    def noted(request: Any, content: bytes) -> Any:
        found.append(request["name"])
        return ask(request, content)

    monkeypatch.setattr(worker, "ask", noted)
    return found


@pytest.mark.parametrize("name", BOUNDED)
def test_what_headers_bound_is_decoded_here(name: str, asked: list[str]) -> None:
    assert bounds.holds(BOUNDED[name])
    try:
        decoding.decode(BOUNDED[name], name)
    except ImageError:
        assert name in ("text.txt", "page.jpg", "video.jpg")
    assert not asked


@pytest.mark.parametrize("name", UNBOUNDED)
def test_what_they_do_not_is_decoded_by_a_process(name: str, asked: list[str]) -> None:
    assert not bounds.holds(UNBOUNDED[name])
    results: list[Any] = []
    decoders: list[Callable[[], Any]] = [
        lambda: decoding.decode(UNBOUNDED[name], name),
        lambda: np.asarray(
            decoding.decode_here(UNBOUNDED[name], decoding.Wanted(name)).upright
        ),
    ]  # fmt: skip
    for decode in decoders if "tall" not in name else decoders[:1]:
        try:
            results.append(decode())
        except ImageError as error:
            results.append((type(error), str(error)))
    assert asked == [name]
    if len(results) == 2:
        np.testing.assert_equal(*results)


@pytest.mark.parametrize("seed", range(len(made.seeds())))
def test_a_process_gives_the_same_pixels_and_remarks(seed: int) -> None:
    content = made.seeds()[seed]
    for wanted in (
        decoding.Wanted("x.tga", 20, remarks=True),
        decoding.Wanted("x.tga", least=10),
    ):
        outcomes = []
        for apart in (False, True):
            try:
                found = decoding._open(content, wanted, apart=apart)
                outcomes.append((np.asarray(found.upright), found.remarks))
            except ImageError as error:
                outcomes.append((type(error), str(error)))
        np.testing.assert_equal(*outcomes)


def test_any_beginning_of_a_file_is_judged() -> None:
    for content in (*made.seeds(), *made.heic()):
        for end in range(2, len(content), 1 + len(content) // 300):
            assert bounds.holds(content[:end]) in (True, False)


def test_any_mutant_is_judged() -> None:
    """One had a tag of no values."""
    seeds = made.seeds() + made.heic()
    for number in range(3_000):
        content = mutant(seeds, SEED, number)
        assert bounds.holds(content) in (True, False), f"FEATX_SEED={SEED}: mutant {number}"
    assert bounds.holds(mutant(seeds, 20261129, 4461)) in (True, False)


def test_the_size_of_a_webp_is_told_without_decoding() -> None:
    for content in (
        made.encoded(RGB, "WEBP"),
        made.encoded(RGB, "WEBP", lossless=True),
        made.animated("WEBP"),
    ):
        assert formats.webp_size(content) == SMALL.size
        assert formats.webp_size(content[:20]) is None
    assert formats.webp_size(made.png()) is None


def test_another_frame_is_decoded_by_a_process(asked: list[str]) -> None:
    image = Image.open(io.BytesIO(made.tiff_pages()))
    image.seek(1)
    np.testing.assert_array_equal(decoding.content_of(image), 255 - RGB)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "marker",
    [b"", b"\xff\x01", b"\xff\xd3", b"\xff\xff\xff", b"junk", b"\xff\0", b"\xff\xfe\0\x02"],
)
def test_scans_are_counted_as_the_decoder_finds_them(marker: bytes) -> None:
    plain = formats.jpeg_scans(scans_behind(b"", 1))
    assert formats.jpeg_scans(scans_behind(marker, 9)) == plain + 8
    made.opened(scans_behind(marker, 9))  # the decoder passes over these bytes
    with pytest.raises(ImageDecodeError, match="over 32 scans"):
        decoding.decode(scans_behind(marker, 40))


def test_scans_after_the_end_do_not_count() -> None:
    content = made.jpeg(progressive=True)
    assert formats.jpeg_scans(content + content * 9) == formats.jpeg_scans(content) <= 12
    assert formats.jpeg_scans(made.jpeg() + made.jpeg() * 40) == 1


@pytest.mark.parametrize("filler", [b"\xff\xd9", b"\xff\xda", b"\xff\xff", b"\xff\x01", b"\xff\0"])
def test_megabytes_of_markers(filler: bytes) -> None:
    """featx's own search for them once took 24 s and 900 MB."""
    content = made.jpeg(progressive=True)[:-2] + filler * (4 << 20) + b"\xff\xd9"
    assert formats.jpeg_scans(content) <= formats.MAX_SCANS + 1


def test_a_flood_of_exif_blocks_is_refused() -> None:
    block = segment(0xE1, b"Exif\0\0x")
    with pytest.raises(ImageDecodeError, match="4,096 segments"):
        decoding.decode(jpeg_with(*[block] * 100_000))


def test_a_png_whose_text_is_an_exif_block_of_many_values() -> None:
    """Entries of a directory may all have the same bytes as their value."""
    content = profile_as_text(19_000, 200_000)
    assert len(content) < 1 << 20
    assert not bounds.holds(content)
    assert decoding.decode(content).shape == RGB.shape


def test_data_of_a_png_in_many_chunks_is_good() -> None:
    whole = made.png(compress_level=0)
    at = whole.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", whole, at)
    data = whole[at + 8 : at + 8 + length]
    chunks = b"".join(made.chunk(b"IDAT", data[i : i + 10]) for i in range(0, length, 10))
    content = whole[:at] + chunks + whole[at + 12 + length :]
    assert bounds.holds(content)
    np.testing.assert_array_equal(decoding.decode(content), RGB)


@pytest.mark.parametrize("name", formats.PILLOW_FORMATS)
def test_every_format_that_is_read_has_a_walk_or_is_left_to_the_process_with_limits(
    name: str,
) -> None:
    """A format that is added without either would be decoded in this process without limits."""
    Image.init()
    if name not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {name}")
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (9, 8, 7)).save(file, name)
    content = file.getvalue()
    assert content[4:8] == bounds._FTYP or content[:2] in bounds._WALKS
