"""Decoding and resizing by format, size and decoder: ms of one core, and peak memory.

`python benchmarks/decoding.py --megapixels 0.2 2 12 48 --out results/decoding.json` makes one image
of each format and size out of real photographs (or draws it), and has each decoder that is
installed make (224, 224, 3) of it, each in a process of its own. Processor time, not the clock:
the table of a busy machine is that of an idle one but for its caches.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import images
import numpy as np
from PIL import Image

SIDE = 224
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG": ("jpg", {"quality": 90}),
    "JPEG progressive": ("jpg", {"quality": 90, "progressive": True}),
    "PNG 8": ("png", {}),
    "PNG 16 grey": ("png", {}),
    "WebP": ("webp", {"quality": 85}),
    "AVIF": ("avif", {"quality": 80, "speed": 10}),
    "TIFF deflate": ("tif", {"compression": "tiff_adobe_deflate"}),
    "BMP": ("bmp", {}),
}


def mosaic(megapixels: float) -> Image.Image:
    """Return photographs side by side, enlarged twice, in the shape 4:3."""
    width, height = round((megapixels * 1e6 * 4 / 3) ** 0.5), round((megapixels * 7.5e5) ** 0.5)
    folder = images.real("flowers")
    paths = sorted(folder.rglob("*.jpg")) if folder else []
    found, at = Image.new("RGB", (width, height)), 0
    for top in range(0, height, 600):
        for left in range(0, width, 800):
            if paths:
                tile = Image.open(paths[at % len(paths)]).convert("RGB")
            else:
                rng = np.random.default_rng(at)
                tile = Image.fromarray(rng.integers(0, 256, (75, 100, 3), dtype=np.uint8))
            found.paste(tile.resize((800, 600), Image.Resampling.BICUBIC), (left, top))
            at += 1
    return found


def written(folder: Path, name: str, megapixels: float) -> Path:
    """Write the mosaic in a format."""
    suffix, options = FORMATS[name]
    path = folder / f"{megapixels:g}-{name.replace(' ', '-')}.{suffix}"
    image = mosaic(megapixels)
    if name == "PNG 16 grey":
        image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    image.save(path, **options)
    return path


Decoder = Callable[[bytes, str], np.ndarray]
"""From a file's bytes and name to (224, 224, 3) uint8; raises where it does not know the format."""


def featx(how: str) -> Decoder:
    """Return featx's own; `how` is a value of `decode`."""
    from featx.images import decoding
    from featx.images.preparation import Preparation

    return lambda content, name: decoding.at_side(content, SIDE, name, how=Preparation(how))


def opencv(flag: str) -> Decoder:
    """Return OpenCV's, with the mean over areas, its only antialiased one."""
    import cv2

    def decode(content: bytes, name: str) -> np.ndarray:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), getattr(cv2, flag))
        small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))

    return decode


def simplejpeg() -> Decoder:
    """Return libjpeg-turbo without Pillow, reduced to twice the side, and Pillow's resizing."""
    import simplejpeg

    from featx.images import decoding

    def decode(content: bytes, name: str) -> np.ndarray:
        least = {"min_height": 2 * SIDE, "min_width": 2 * SIDE}
        return decoding.resize(simplejpeg.decode_jpeg(content, "RGB", **least), SIDE)

    return decode


def libvips() -> Decoder:
    """Return libvips's thumbnail, which reduces while it decodes."""
    import pyvips

    pyvips.cache_set_max(0)

    def decode(content: bytes, name: str) -> np.ndarray:
        small = pyvips.Image.thumbnail_buffer(content, SIDE, height=SIDE, size="force")
        return np.asarray(small.numpy())

    return decode


def torchvision() -> Decoder:
    """Return torchvision's, in full."""
    import torch
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms.v2.functional import resize

    torch.set_num_threads(1)

    def decode(content: bytes, name: str) -> np.ndarray:
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        small = resize(decode_image(data, ImageReadMode.RGB), [SIDE, SIDE], antialias=True)
        return np.asarray(small.permute(1, 2, 0))

    return decode


def tensorflow() -> Decoder:
    """Return TensorFlow's, in full."""
    import tensorflow as tf

    def decode(content: bytes, name: str) -> np.ndarray:
        pixels = tf.io.decode_image(content, 3, expand_animations=False)
        return np.asarray(tf.image.resize(pixels, (SIDE, SIDE), antialias=True))

    return decode


DECODERS: dict[str, tuple[str, Callable[[], Decoder]]] = {
    "featx, auto": ("featx", partial(featx, "auto")),
    "featx, full": ("featx", partial(featx, "full")),
    "OpenCV, area": ("cv2", partial(opencv, "IMREAD_COLOR")),
    "OpenCV, 1/4": ("cv2", partial(opencv, "IMREAD_REDUCED_COLOR_4")),
    "simplejpeg, reduced": ("simplejpeg", simplejpeg),
    "libvips, thumbnail": ("pyvips", libvips),
    "torchvision": ("torchvision", torchvision),
    "tf.io, antialiased": ("tensorflow", tensorflow),
}


def measured(decoder: str, path: Path, turns: int) -> dict[str, Any]:
    """Return ms of one core, the least of some turns, and how much memory it took at its peak."""
    decode, content = DECODERS[decoder][1](), path.read_bytes()
    tiny = io.BytesIO()
    Image.new("RGB", (16, 16)).save(tiny, "JPEG")
    decode(tiny.getvalue(), "tiny.jpg")  # what starts once
    before, best = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, float("inf")
    for _ in range(turns):
        began = time.process_time()
        shape = decode(content, path.name).shape
        best = min(best, time.process_time() - began)
    if shape != (SIDE, SIDE, 3):
        raise ValueError(f"{decoder} gave {shape}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"ms": round(1000 * best, 1), "peak_mb": round(peak / 1024, 0)}


def table(rows: list[dict[str, Any]]) -> str:
    """Return Markdown: ms of one core (peak MB) of each decoder."""
    names = list(dict.fromkeys(row["decoder"] for row in rows))
    lines = [f"| format | megapixels | {' | '.join(names)} |", "|---|--:|" + "--:|" * len(names)]
    for kind, size in dict.fromkeys((row["format"], row["megapixels"]) for row in rows):
        found = {
            row["decoder"]: f"{row['ms']:g} ({row['peak_mb']:g})" if "ms" in row else "-"
            for row in rows
            if (row["format"], row["megapixels"]) == (kind, size)
        }
        cells = " | ".join(found.get(name, "-") for name in names)
        lines.append(f"| {kind} | {size:g} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.2, 2, 12, 48])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, help="Write the rows as JSON.")
    parser.add_argument("--one", nargs=2, metavar=("DECODER", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        decoder, path = options.one
        print(json.dumps(measured(decoder, Path(path), options.turns)))
        return
    installed = [name for name, (module, _) in DECODERS.items() if find_spec(module)]
    rows = []
    with tempfile.TemporaryDirectory(prefix="featx-") as folder:
        for kind in options.formats:
            for size in options.megapixels:
                path = written(Path(folder), kind, size)
                for decoder in installed:
                    command = [sys.executable, __file__, "--turns", str(options.turns)]
                    done = subprocess.run(
                        [*command, "--one", decoder, str(path)], capture_output=True, text=True
                    )
                    # One that does not know the format ends with an error.
                    found = json.loads(done.stdout.splitlines()[-1]) if not done.returncode else {}
                    about = {"format": kind, "megapixels": size, "decoder": decoder}
                    rows.append({**about, **found})
                path.unlink()
    print(table(rows))
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
