"""How the bad, odd and good images of the promises are made; every one from a few lines."""

from __future__ import annotations

import gzip
import importlib.util
import io
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin


def pixels(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """Return smooth colours with a bright corner: upright shows, and JPEG keeps them well."""
    down, right = np.mgrid[0:height, 0:width]
    shade = np.stack([down * 2, right * 2, 200 - down - right], axis=-1) + 7 * seed
    shade[: height // 4, : width // 4] = 250
    return np.clip(shade, 0, 255).astype(np.uint8)


def encoded(image: Any, form: str, **options: Any) -> bytes:
    """Return a PIL image, or pixels, as an encoded file."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def jpeg(**options: Any) -> bytes:
    return encoded(pixels(), "JPEG", **{"quality": 95, **options})


def png(mode: str = "RGB", **options: Any) -> bytes:
    return encoded(Image.fromarray(pixels()).convert(mode), "PNG", **options)


def jpeg_header() -> bytes:
    whole = jpeg()
    return whole[: whole.index(b"\xff\xda")]


def damaged_middle() -> bytes:
    whole = bytearray(jpeg())
    middle = (whole.index(b"\xff\xda") + len(whole)) // 2
    whole[middle : middle + 16] = bytes(range(16, 32))
    return bytes(whole)


def progressive_scans(count: int) -> bytes:
    """Return a progressive JPEG whose last scan stands in it `count` times."""
    whole = encoded(Image.new("RGB", (2000, 2000), (120, 30, 200)), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + whole[-2:]


def exif_jpeg(orientation: Any) -> bytes:
    """Return a JPEG that is upright once this EXIF orientation is applied."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    image = Image.fromarray(pixels())
    exif = Image.Exif()
    exif[0x0112] = orientation
    if undo is not None:
        image = image.transpose(Image.Transpose(undo))
    return encoded(image, "JPEG", quality=95, exif=exif)


def exif_text() -> bytes:
    """Return a JPEG whose orientation is of the type text: the 3 (short) becomes a 2."""
    return exif_jpeg(1).replace(b"\x12\x01\x03\0", b"\x12\x01\x02\0").replace(
        b"\x01\x12\0\x03", b"\x01\x12\0\x02"
    )  # fmt: skip


def cut_exif() -> bytes:
    """Return a JPEG whose EXIF block ends in the middle of its table."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    block = exif.tobytes()[:20]
    whole = jpeg()
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + whole[2:]


def cmyk() -> bytes:
    """Return a CMYK JPEG, inverted and with an Adobe marker, as Pillow and Adobe write it."""
    return encoded(Image.fromarray(pixels()).convert("CMYK"), "JPEG", quality=95)


def ycck() -> bytes:
    """Return the same as YCCK: its first three channels as YCbCr, the Adobe marker says so."""
    inks = Image.fromarray(255 - pixels()).convert("YCbCr")
    # Pillow inverts what it writes as CMYK; black (the fourth ink) is not used.
    channels = np.dstack([255 - np.asarray(inks), np.zeros(inks.size[::-1], np.uint8)])
    whole = bytearray(encoded(Image.fromarray(channels, mode="CMYK"), "JPEG", quality=95))
    whole[whole.index(b"\xff\xee") + 15] = 2
    return bytes(whole)


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )  # fmt: skip


def declared_png(width: int, height: int) -> bytes:
    """Return a PNG that promises a size and holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def wrong_idat() -> bytes:
    whole = bytearray(png())
    whole[whole.index(b"IDAT") + 40] ^= 1
    return bytes(whole)


def png_rgb16() -> bytes:
    """Return a PNG of 16 bits a channel; Pillow cannot write one, so it is written here."""
    height, width = pixels().shape[:2]
    rows = (pixels().astype(">u2") * 257).reshape(height, -1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_grey16() -> bytes:
    return encoded(Image.fromarray(pixels()[..., 0].astype(np.uint16) * 257), "PNG")


@cache
def png_with_text() -> bytes:
    """Return a PNG with a compressed text of 100 MB before its pixels."""
    about = PngImagePlugin.PngInfo()
    about.add_text("Comment", "a" * (100 << 20), zip=True)
    return png(pnginfo=about)


def tiff_float() -> bytes:
    return encoded(Image.fromarray(pixels()[..., 0].astype(np.float32) / 255), "TIFF")


def tiff_pages() -> bytes:
    other = Image.fromarray(255 - pixels())
    return encoded(pixels(), "TIFF", save_all=True, append_images=[other])


def animated(form: str) -> bytes:
    frames = [Image.fromarray(255 - pixels(seed=i)) for i in range(3)]
    return encoded(pixels(), form, save_all=True, append_images=frames, **(
        {"lossless": True} if form == "WEBP" else {}))  # fmt: skip


def gif_frames(count: int) -> bytes:
    """Return a GIF that shows its one image `count` times."""
    whole = encoded(Image.fromarray(pixels()).quantize(64), "GIF")
    # Screen descriptor and colour table; then the frame, from its descriptor to before the end.
    table = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
    return whole[:table] + whole[table:-1] * count + whole[-1:]


def transparent(alpha: int) -> Image.Image:
    image = Image.fromarray(pixels()).convert("RGBA")
    image.putalpha(alpha)
    return image


def palette_with_transparency() -> bytes:
    return encoded(Image.fromarray(pixels()).quantize(64), "PNG", transparency=0)


def broken_profile() -> bytes:
    return jpeg(icc_profile=b"\0\1 no profile " * 20)


def gzipped() -> bytes:
    return gzip.compress(jpeg())


def opened(content: bytes) -> Image.Image:
    """Return what Pillow alone makes of a file, with its pixels."""
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


MAKE, SUBIFDS, DNG = 271, 330, 50706


def raw_photograph(
    *tags: int,
    order: str = "<",
    preview: bool = True,
    photometric: int = 2,
    sub_photometric: int = 32803,
) -> bytes:
    """Return a TIFF of the shape of a RAW photograph: an RGB image, and a sensor's data behind it.

    Parameters
    ----------
    tags : int
        Which of MAKE, SUBIFDS and DNG its first directory has.
    order : {"<", ">"}
    preview : bool
        Whether the first image is marked as a smaller copy.
    photometric, sub_photometric : int
        2 is RGB, 32803 a colour filter array.
    """
    shown = pixels()
    height, width = shown.shape[:2]
    body = shown.tobytes()
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    maker, bits = 8 + len(body), 8 + len(body) + 16
    sub, main = bits + 6, bits + 6 + 2 + 12 * 6 + 4

    def directory(entries: list[tuple[int, int, int, int | bytes]]) -> bytes:
        lines = b""
        for tag, kind, count, value in sorted(entries):
            # More than four bytes stand elsewhere, and their place here.
            form = "I" if count > 1 and kind != 1 else {1: "4s", 3: "Hxx", 4: "I"}[kind]
            lines += struct.pack(order + "HHI", tag, kind, count) + struct.pack(order + form, value)
        return struct.pack(order + "H", len(entries)) + lines + bytes(4)

    behind = directory([
        (254, 4, 1, 0), (256, 4, 1, 6000), (257, 4, 1, 4000), (258, 3, 1, 12),
        (259, 3, 1, 1), (262, 3, 1, sub_photometric),
    ])  # fmt: skip
    own: dict[int, tuple[int, int, int, int | bytes]] = {
        MAKE: (MAKE, 2, 16, maker), SUBIFDS: (SUBIFDS, 4, 1, sub), DNG: (DNG, 1, 4, b"\1\4\0\0"),
    }  # fmt: skip
    first = directory([
        (254, 4, 1, int(preview)), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits),
        (259, 3, 1, 1), (262, 3, 1, photometric), (273, 4, 1, 8), (277, 3, 1, 3),
        (278, 4, 1, height), (279, 4, 1, len(body)), *(own[tag] for tag in tags),
    ])  # fmt: skip
    start = head + struct.pack(order + "I", main) + body
    middle = b"NIKON".ljust(16, b"\0") + struct.pack(order + "HHH", 8, 8, 8) + behind
    assert len(start) == maker
    assert len(start + middle) == main
    return start + middle + first


def tga(mode: str = "RGB", **options: Any) -> bytes:
    return encoded(Image.fromarray(pixels(24, 32)).convert(mode), "TGA", **options)


def pnm(kind: str, maxval: int, values: np.ndarray) -> bytes:
    """Return an image of 1 or 3 channels as PNM, of any largest value, which Pillow cannot write.

    Parameters
    ----------
    kind : {"P2", "P3", "P5", "P6"}
        The first two in digits.
    """
    height, width = values.shape[:2]
    head = f"{kind}\n# of a camera\n{width} {height}\n{maxval}\n".encode()
    if kind in ("P2", "P3"):
        return head + b"\n".join(b" ".join(b"%d" % v for v in row.ravel()) for row in values)
    return head + values.astype("u1" if maxval < 256 else ">u2").tobytes()


def pgm16() -> bytes:
    return pnm("P5", 65535, pixels()[..., 0].astype(np.uint16) * 257)


def heic() -> list[bytes]:
    """Return small HEIC files, where the package that reads them is installed."""
    if importlib.util.find_spec("pi_heif") is None:
        return []
    folder = Path(__file__).parents[1] / "data" / "heic"
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def seeds() -> list[bytes]:
    """Return small good images, one of each kind that featx reads, to be mutated."""
    small = Image.fromarray(pixels(24, 32))
    alpha = small.convert("RGBA")
    alpha.putalpha(99)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    return [
        encoded(small, "JPEG", exif=exif),
        encoded(small, "JPEG", progressive=True),
        encoded(small.convert("CMYK"), "JPEG"),
        encoded(small, "PNG"),
        encoded(small.quantize(16), "PNG", transparency=0),
        encoded(Image.fromarray(pixels(24, 32)[..., 0].astype(np.uint16) * 257), "PNG"),
        encoded(small, "WEBP"),
        encoded(alpha, "WEBP", lossless=True),
        encoded(small, "BMP"),
        encoded(small.quantize(16), "GIF", save_all=True, append_images=[small.quantize(16)]),
        encoded(small, "TIFF", compression="tiff_lzw"),
        encoded(small, "TIFF", compression="jpeg"),
        encoded(small, "PPM"),
        pnm("P5", 1000, pixels(24, 32)[..., 0] * 3),
        pnm("P3", 255, pixels(24, 32)),
        encoded(small.convert("1"), "PPM"),
        encoded(small, "JPEG2000"),
        encoded(Image.fromarray(pixels(24, 32)[..., 0].astype(np.uint16) * 257), "JPEG2000",
                no_jp2=True),
        encoded(small, "AVIF"),
        tga(),
        tga("P", compression="tga_rle"),
        raw_photograph(MAKE, SUBIFDS),
    ]  # fmt: skip
