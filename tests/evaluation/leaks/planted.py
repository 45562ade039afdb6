"""Images and their copies: turned, sheared, cropped, zoomed, framed, toned, mirrored.

Also distinct images on one background, of which none is a copy of another.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

FILLS = ("black", "white", "reflected")
KINDS = ("rotated", "sheared", "zoomed", "cropped", "framed", "toned", "brightness", "mirrored")
SYNTHETIC = ("coins", "cells", "tiles", "texture")
# Copies whose image is moved no farther than the promised recall of 0.95 reaches.
GEOMETRIC = {"rotated", "sheared", "zoomed"}


def copied(  # noqa: PLR0911 - a table of kinds
    image: Image.Image, kind: str, rng: np.random.Generator
) -> Image.Image:
    """Return a changed copy of an RGB image."""
    width, height = image.size
    match kind:
        case "rotated":
            angle = np.deg2rad(rng.uniform(-45, 45))
            turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
            return _moved(image, np.array(turn), str(rng.choice(FILLS)))
        case "sheared":
            shear = rng.uniform(0.05, 0.2) * rng.choice([-1, 1])
            return _moved(image, np.array([[1, shear], [0, 1]]), str(rng.choice(FILLS)))
        case "zoomed":
            zoom = rng.uniform(1.05, 1.3)
            if rng.random() < 0.5:
                zoom = 1 / zoom
            return _moved(image, np.eye(2) * zoom, str(rng.choice(FILLS)))
        case "cropped":
            # A quarter of the area.
            across, down = width // 2, height // 2
            left, top = int(rng.integers(width - across)), int(rng.integers(height - down))
            return image.crop((left, top, left + across, top + down))
        case "framed":
            edge = int(rng.uniform(0.03, 0.1) * min(width, height))
            colour = tuple(int(value) for value in rng.integers(0, 256, 3))
            return ImageOps.expand(image, edge, colour)
        case "toned":
            if rng.random() < 0.5:
                low = tuple(int(value) for value in rng.integers(0, 60, 3))
                high = tuple(int(value) for value in rng.integers(190, 256, 3))
                return ImageOps.colorize(image.convert("L"), low, high)
            gamma = float(np.exp(rng.uniform(-0.5, 0.5)))
            return image.point([int(255 * (value / 255) ** gamma) for value in range(256)] * 3)
        case "brightness":
            brighter = ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.6, 1.4)))
            return ImageEnhance.Contrast(brighter).enhance(float(rng.uniform(0.7, 1.3)))
        case "mirrored":
            return ImageOps.mirror(image) if rng.random() < 0.7 else ImageOps.flip(image)
        case "scene":
            # Something else stands in the middle: a piece of the image's own edge, turned over.
            across, down = int(0.5 * width), int(0.5 * height)
            piece = image.crop((0, 0, across, down)).transpose(Image.Transpose.ROTATE_180)
            changed = image.copy()
            left, top = int(rng.uniform(0.2, 0.3) * width), int(rng.uniform(0.2, 0.3) * height)
            changed.paste(piece, (left, top))
            return changed
    raise ValueError(kind)


def _moved(image: Image.Image, linear: np.ndarray, fill: str) -> Image.Image:
    """Return the image moved about its middle, in its own frame."""
    width, height = image.size
    middle = np.array([width / 2, height / 2])
    inverse = np.linalg.inv(linear)
    source, offset = image, middle - inverse @ middle
    if fill == "reflected":
        across, down = width - 1, height - 1
        pixels = np.pad(np.asarray(image), ((down, down), (across, across), (0, 0)), "reflect")
        source, offset = Image.fromarray(pixels), offset + [across, down]
    data = (*inverse[0], offset[0], *inverse[1], offset[1])
    return source.transform(
        image.size,
        Image.Transform.AFFINE,
        tuple(float(value) for value in data),
        Image.Resampling.BICUBIC,
        fillcolor=fill if fill != "reflected" else None,
    )


def encoded(image: Image.Image, quality: int) -> bytes:
    """Return an image as a JPEG."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return content.getvalue()


def augmented(
    paths: Sequence[Path], folder: Path, copies: int, seed: int
) -> list[tuple[Path, int, str]]:
    """Write so many copies of each image; return (path, number of the original, kinds joined)."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, path in enumerate(paths):
        with Image.open(path) as opened:
            original = opened.convert("RGB")
        original.thumbnail((640, 640))
        for turn in range(copies):
            first = "scene" if turn >= copies - 2 else KINDS[turn % len(KINDS)]
            kinds = [first]
            # Every other round something more is done that changes tones or sides.
            if (turn // len(KINDS)) % 2:
                more = [k for k in ("toned", "brightness", "mirrored") if k != first]
                kinds.append(str(rng.choice(more)))
            image = original
            for kind in kinds:
                image = copied(image, kind, rng)
            target = folder / f"{number:04d}_{turn:02d}_{'+'.join(kinds)}.jpg"
            target.write_bytes(encoded(image, int(rng.integers(70, 96))))
            made.append((target, number, "+".join(kinds)))
    return made


def distinct(kind: str, folder: Path, n: int, seed: int) -> list[Path]:
    """Write different images on one background: coins on black, cells on white, tiles, texture."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    draw = {"coins": _coin, "cells": _cells, "tiles": _tile}
    written = []
    large = _noise(rng, 288 * 12) if kind == "texture" else None
    # The grout and the print that all tiles have in common.
    common = np.random.default_rng(seed + 1)
    print_ = _noise(common, 96)
    for number in range(n):
        if large is not None:
            row, column = divmod(number % 144, 12)
            cut = large[row * 288 : row * 288 + 256, column * 288 : column * 288 + 256]
            image = Image.fromarray(cut)
        else:
            image = draw[kind](rng, print_)
        target = folder / f"{number:04d}.jpg"
        target.write_bytes(encoded(image, int(rng.integers(80, 96))))
        written.append(target)
    return written


def _noise(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return grey noise at several scales as RGB, (side, side, 3) uint8."""
    total = np.zeros((side, side), np.float32)
    for step, strength in ((2, 12), (6, 18), (20, 16)):
        small = rng.normal(size=(side // step + 2, side // step + 2)).astype(np.float32)
        large = Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
        total += strength * np.asarray(large)
    grey = np.clip(128 + total, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _coin(rng: np.random.Generator, _: np.ndarray) -> Image.Image:
    image = Image.new("RGB", (256, 256), "black")
    paint = ImageDraw.Draw(image)
    radius = int(rng.uniform(70, 110))
    x, y = (int(value) for value in rng.integers(115, 142, 2))
    base = rng.integers(120, 200, 3)

    def shade(by: int) -> tuple[int, ...]:
        return tuple(int(value) for value in np.clip(base + by, 0, 255))

    paint.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade(0))
    inner = radius - 8
    paint.ellipse((x - inner, y - inner, x + inner, y + inner), outline=shade(-60), width=2)
    for _mark in range(int(rng.integers(8, 20))):
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.7 * radius)
        u, v = x + far * np.cos(angle), y + far * np.sin(angle)
        size = rng.uniform(4, 20)
        box = (u - size, v - size * rng.uniform(0.4, 1), u + size, v + size)
        tone = shade(int(rng.integers(-70, 50)))
        if rng.random() < 0.5:
            paint.ellipse(box, fill=tone)
        else:
            paint.arc(box, 0, float(rng.uniform(90, 360)), fill=tone, width=3)
    return image.filter(ImageFilter.GaussianBlur(0.7))


def _cells(rng: np.random.Generator, _: np.ndarray) -> Image.Image:
    image = Image.new("RGB", (256, 256), (245, 240, 245))
    paint = ImageDraw.Draw(image)
    for _cell in range(int(rng.integers(3, 14))):
        x, y = rng.uniform(10, 246, 2)
        across, down = rng.uniform(12, 26, 2)
        tone = tuple(int(v) for v in (rng.integers(190, 225), rng.integers(130, 180), 200))
        paint.ellipse((x - across, y - down, x + across, y + down), fill=tone)
        near = rng.uniform(0.3, 0.5)
        paint.ellipse(
            (x - near * across, y - near * down, x + near * across, y + near * down),
            fill=(110, 50, 140),
        )
    return image.filter(ImageFilter.GaussianBlur(1.5))


def _tile(rng: np.random.Generator, print_: np.ndarray) -> Image.Image:
    image = Image.new("RGB", (256, 256), (200, 195, 185))
    image.paste(Image.fromarray(print_), (80, 80))
    paint = ImageDraw.Draw(image)
    for place in (0, 128, 255):
        paint.line((place, 0, place, 255), fill=(90, 90, 90), width=4)
        paint.line((0, place, 255, place), fill=(90, 90, 90), width=4)
    for _crack in range(int(rng.integers(3, 9))):
        x, y = rng.uniform(0, 256, 2)
        line = [(x, y)]
        for _step in range(int(rng.integers(2, 8))):
            x, y = x + rng.uniform(-30, 30), y + rng.uniform(-30, 30)
            line.append((x, y))
        tone = int(rng.integers(30, 120))
        paint.line(line, fill=(tone, tone, tone), width=int(rng.integers(1, 4)))
    pixels = np.asarray(image, np.float32) + rng.normal(0, 4, (256, 256, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def known(path: Path) -> list[tuple[str, str, str, str]]:
    """Return the listed pairs of the data sets themselves: (set, first, second, grade)."""
    with path.open(encoding="utf-8", newline="") as lines:
        return [(r["set"], r["first"], r["second"], r["grade"]) for r in csv.DictReader(lines)]
