"""Decoding and resizing by format, size and decoder: ms of one core, and peak memory.

`python benchmarks/decoding.py --out benchmarks/results/decoding.json` makes images of each format
and size out of real photographs (or draws them), and has each decoder that is installed make
(224, 224, 3) of them, each decoder and format in a process of its own. Processor time, not the
clock: the table of a busy machine is that of an idle one but for its caches.

featx is measured through `featx.extract` with a runtime that averages pixels, less what the same
call takes for images of 8 x 8 pixels: checks of the file, reading, hashing and the passing between
processes are in it. The others only decode and resize.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
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
# Small images are measured several at a time, so that their milliseconds can be told from nothing.
_TOGETHER_MEGAPIXELS = 4


def mosaic(megapixels: float, turn: int = 0) -> Image.Image:
    """Return photographs side by side, enlarged twice, in the shape 4:3."""
    width, height = round((megapixels * 1e6 * 4 / 3) ** 0.5), round((megapixels * 7.5e5) ** 0.5)
    folder = images.real("flowers")
    paths = sorted(folder.rglob("*.jpg")) if folder else []
    found, at = Image.new("RGB", (width, height)), 97 * turn
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


def written(folder: Path, name: str, megapixels: float) -> list[Path]:
    """Write mosaics in a format: one, or several small ones."""
    suffix, options = FORMATS[name]
    paths = []
    for turn in range(max(1, min(20, int(_TOGETHER_MEGAPIXELS / megapixels)))):
        path = folder / f"{turn:02d}.{suffix}"
        image = mosaic(megapixels, turn)
        if name == "PNG 16 grey":
            image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
        image.save(path, **options)
        paths.append(path)
    return paths


Decoder = Callable[[Sequence[Path]], None]
"""Makes (224, 224, 3) uint8 of each file; raises where it does not know the format."""


def one_by_one(decode: Callable[[bytes], Any]) -> Decoder:
    """Return a decoder of files from one of bytes, whose answers are looked at."""

    def decoder(paths: Sequence[Path]) -> None:
        for path in paths:
            shape = np.asarray(decode(path.read_bytes())).shape
            if shape != (SIDE, SIDE, 3):
                raise ValueError(f"{path.name} became {shape}")

    return decoder


def featx(how: str) -> Decoder:
    """Return featx's own; `how` is a value of `decode`."""
    from featx import Backbone, Runtime, extract

    class Averages(Runtime):
        name, batch_size = "averages", 4

        def run(self, pixels: np.ndarray) -> np.ndarray:
            return np.repeat(pixels.mean((1, 2)), 427, 1)[:, :1280].astype(np.float32)

    backbone = Backbone("mobilenet_v2", weights=None, decode=how)

    def decoder(paths: Sequence[Path]) -> None:
        with tempfile.TemporaryDirectory(prefix="featx-") as cache:
            extract(list(paths), backbone, cache=cache, runtime=Averages(), progress=False)

    return decoder


def opencv(flag: str) -> Decoder:
    """Return OpenCV's, with the mean over areas, its only antialiased one."""
    import cv2

    cv2.setNumThreads(1)

    def decode(content: bytes) -> Any:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), getattr(cv2, flag))
        small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(small, cv2.COLOR_BGR2RGB)

    return one_by_one(decode)


def simplejpeg() -> Decoder:
    """Return libjpeg-turbo without Pillow, reduced to twice the side, and Pillow's resizing."""
    import simplejpeg

    def decode(content: bytes) -> Any:
        least = {"min_height": 2 * SIDE, "min_width": 2 * SIDE}
        pixels = Image.fromarray(simplejpeg.decode_jpeg(content, "RGB", **least))
        return pixels.resize((SIDE, SIDE), Image.Resampling.BILINEAR)

    return one_by_one(decode)


def libvips() -> Decoder:
    """Return libvips's thumbnail, which reduces while it decodes."""
    import pyvips

    pyvips.cache_set_max(0)

    def decode(content: bytes) -> Any:
        small = pyvips.Image.thumbnail_buffer(content, SIDE, height=SIDE, size="force")
        return small.colourspace("srgb").numpy()[..., :3]

    return one_by_one(decode)


def torchvision() -> Decoder:
    """Return torchvision's, in full."""
    import torch
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms.v2.functional import resize

    torch.set_num_threads(1)

    def decode(content: bytes) -> Any:
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        small = resize(decode_image(data, ImageReadMode.RGB), [SIDE, SIDE], antialias=True)
        return small.permute(1, 2, 0)

    return one_by_one(decode)


def tensorflow() -> Decoder:
    """Return TensorFlow's, in full."""
    import tensorflow as tf

    def decode(content: bytes) -> Any:
        pixels = tf.io.decode_image(content, 3, expand_animations=False)
        return tf.image.resize(pixels, (SIDE, SIDE), antialias=True)

    return one_by_one(decode)


# The package that each needs, and how it is had.
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


def children() -> list[Path]:
    """Return /proc's folders of this process's children: featx decodes some formats in one."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(stat.parent)
        except (OSError, ValueError, IndexError):
            continue
    return found


def spent() -> float:
    """Return the seconds of a core that this process and its children have used."""
    ended = os.times()
    total = time.process_time() + ended.children_user + ended.children_system
    for child in children():
        ticks = (child / "stat").read_text().rpartition(")")[2].split()[11:13]
        total += sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return total


def peak() -> int:
    """Return the most kB of memory that this process had, and those of its children that run."""
    total = 0
    for process in (Path("/proc/self"), *children()):
        for line in (process / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1])
    return total


def measured(decoder: str, folders: Sequence[Path], turns: int) -> list[dict[str, Any]]:
    """Return ms an image and peak MB for the images of each folder, from small ones to large.

    The least of some turns; the memory is over what the process had when it had decoded tiny ones.
    """
    decode = DECODERS[decoder][1]()
    with tempfile.TemporaryDirectory(prefix="featx-") as folder:
        tiny = []
        for number, (suffix, options) in enumerate((("bmp", {}), ("avif", {}), ("jpg", {}))):
            path = Path(folder, f"tiny.{suffix}")
            Image.new("RGB", (8, 8), (number, 0, 0)).save(path, **options)
            tiny.append(path)
        for path in tiny:  # what starts once
            try:
                decode([path])
            except Exception:  # noqa: S112 - it does not know that format
                continue
        empty = float("inf")
        if decoder.startswith("featx"):
            for _ in range(turns):
                began = spent()
                decode(tiny[:1])
                empty = min(empty, spent() - began)
        else:
            empty = 0.0
    before, found = peak(), []
    for folder in folders:
        paths = sorted(Path(folder).iterdir())
        best = float("inf")
        try:
            for _ in range(turns):
                began = spent()
                decode(paths)
                best = min(best, spent() - began)
        except Exception as error:  # whatever it raises, the row says that it did
            found.append({"refused": type(error).__name__})
            continue
        ms = 1000 * max(best - empty, 0) / len(paths)
        found.append({"ms": round(ms, 1), "peak_mb": round((peak() - before) / 1024)})
    return found


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


def in_process(decoder: str, folders: Sequence[Path], turns: int) -> list[dict[str, Any]]:
    """Return what ``measured`` does, from a process of its own."""
    command = [sys.executable, __file__, "--turns", str(turns), "--one", decoder, *folders]
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return [{"refused": f"its process ended with {done.returncode}"}] * len(folders)
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def about() -> dict[str, Any]:
    """Return where and with what it was measured."""
    names = (
        "featx", "pillow", "opencv-python-headless", "simplejpeg", "pyvips", "pyvips-binary",
        "torchvision", "tensorflow",
    )  # fmt: skip
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "command": " ".join(["python", "benchmarks/decoding.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "photographs": images.real("flowers") is not None,
        "versions": versions,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.2, 2, 12, 48])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--decoders", nargs="+", choices=DECODERS, default=list(DECODERS))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    parser.add_argument("--one", nargs="+", metavar="DECODER FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        decoder, *folders = options.one
        print(json.dumps(measured(decoder, [Path(each) for each in folders], options.turns)))
        return
    if not sys.platform.startswith("linux"):
        parser.error("memory and processor time of processes are read from /proc, as on Linux")
    found = about()
    installed = [name for name in options.decoders if find_spec(DECODERS[name][0])]
    rows = []
    for kind in options.formats:
        with tempfile.TemporaryDirectory(prefix="featx-decoding-") as work:
            sizes = {size: Path(work, f"{size:g}") for size in sorted(options.megapixels)}
            for size, folder in sizes.items():
                folder.mkdir()
                written(folder, kind, size)
            for decoder in installed:
                answers = in_process(decoder, list(sizes.values()), options.turns)
                for size, answer in zip(sizes, answers, strict=True):
                    place = {"format": kind, "megapixels": size, "decoder": decoder}
                    rows.append({**place, **answer})
    print(table(rows))
    if options.out:
        report = {**found, "rows": rows}
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
