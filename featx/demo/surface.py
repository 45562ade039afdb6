"""The unrolled surface of a drawn pipe: metal or paint, seams, dust, stains and scratches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray

LENGTH = 360  # texels along the axis: a little less than the diagonal of an image

# Colours (RGB, 0-1) of common finishes, and how much each shines.
FINISHES = (
    ((0.55, 0.56, 0.57), 0.75),  # bare steel
    ((0.63, 0.65, 0.66), 0.55),  # galvanised
    ((0.34, 0.34, 0.35), 0.25),  # cast iron
    ((0.74, 0.74, 0.70), 0.30),  # off-white paint
    ((0.42, 0.46, 0.48), 0.25),  # grey paint
    ((0.26, 0.40, 0.33), 0.30),  # green paint
    ((0.22, 0.34, 0.48), 0.35),  # blue paint
    ((0.72, 0.58, 0.20), 0.30),  # yellow paint
    ((0.45, 0.27, 0.22), 0.20),  # red-brown primer
)


@dataclass
class Surface:
    """The unrolled pipe: arrays of shape (around, along), and the direction in which water runs."""

    colour: Array  # (around, along, 3), 0-1
    height: Array  # texels above the bare metal
    gloss: Array  # 0-1
    runs_around: bool  # a lying pipe: water runs around it; a standing one: along it

    @property
    def shape(self) -> tuple[int, int]:
        """Texels around and along the pipe."""
        return self.height.shape[0], self.height.shape[1]

    def blend(self, colour: Array | tuple[float, float, float], mask: Array) -> None:
        """Cover the surface with `colour` where `mask` is 1, and in part where it is below."""
        mask = np.asarray(mask, np.float32)[..., None]
        self.colour += (np.asarray(colour, np.float32) - self.colour) * mask


def noise(
    rng: np.random.Generator, shape: tuple[int, int], grain: tuple[float, float], octaves: int = 4
) -> Array:
    """Return smooth random heights (mean 0, deviation 1) whose largest bumps measure `grain`."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        cells = [max(2, round(n * 2**octave / g) + 2) for n, g in zip(shape, grain, strict=True)]
        grid = Image.fromarray(rng.standard_normal(cells).astype(np.float32))
        total += np.asarray(grid.resize(shape[::-1], Image.Resampling.BICUBIC)) * 0.55**octave
    return (total - total.mean()) / (total.std() + 1e-6)


def smoothstep(values: Array, low: float, high: float) -> Array:
    """Return 0 up to `low`, 1 from `high` on, and a smooth rise between."""
    ramp = np.clip((values - low) / (high - low), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


@dataclass
class Line:
    """A line to be drawn on the surface."""

    points: Array  # (n, 2) of (along, around)
    width: float  # texels
    strength: float = 1.0  # 0-1


def drawn(shape: tuple[int, int], lines: list[Line]) -> Array:
    """Return the mask (0-1) of the lines, drawn at three times the size so that they are smooth."""
    canvas = Image.new("L", (shape[1] * 3, shape[0] * 3))
    pencil = ImageDraw.Draw(canvas)
    for line in lines:
        points = [tuple(point) for point in line.points * 3]
        pencil.line(points, fill=round(255 * line.strength), width=max(1, round(line.width * 3)))
    return np.asarray(canvas.reduce(3), np.float32) / 255


def plain_surface(rng: np.random.Generator, radius: float) -> Surface:
    """Return a clean pipe of a random finish: clouded, brushed and grained."""
    shape = (int(np.pi * radius) + 8, LENGTH)
    base, gloss = FINISHES[rng.integers(len(FINISHES))]
    tint = np.array(base) * rng.uniform(0.8, 1.15) + rng.normal(0, 0.02, 3)
    cloud = noise(rng, shape, (120, 160))
    brushed = noise(rng, shape, (3, 90), 2) if rng.random() < 0.5 else noise(rng, shape, (60, 3), 2)
    grain = rng.standard_normal(shape).astype(np.float32)
    tone = 1 + 0.06 * cloud + (0.05 * gloss) * brushed + 0.025 * grain
    height = 0.35 * noise(rng, shape, (14, 14), 3) * (1 - gloss) + 0.10 * brushed
    return Surface(
        colour=(tint * tone[..., None]).astype(np.float32),
        height=height.astype(np.float32),
        gloss=np.full(shape, gloss * rng.uniform(0.6, 1.2), np.float32),
        runs_around=bool(rng.random() < 0.6),
    )


def seams(surface: Surface, rng: np.random.Generator) -> None:
    """Add, now and then, a weld around the pipe, a clamp, or a seam along it."""
    around, along = surface.shape
    t, s = np.mgrid[0:around, 0:along].astype(np.float32)
    if rng.random() < 0.45:
        wobble = 2.0 * noise(rng, (around, 1), (60, 1), 2)
        distance = (s - rng.uniform(80, along - 80) - wobble) / rng.uniform(6, 11)
        bead = np.exp(-(distance**2))
        ripples = 0.8 + 0.2 * np.cos((t + 5 * distance**2) * 2 * np.pi / rng.uniform(7, 11))
        surface.height += 3.0 * bead * ripples
        surface.blend((0.36, 0.36, 0.37), rng.uniform(0.2, 0.8) * bead)
        heat = np.exp(-((np.abs(distance) - 2.2) ** 2))
        surface.blend((0.36, 0.29, 0.27), rng.uniform(0.1, 0.4) * heat)
    if rng.random() < 0.2:
        distance = np.abs(s - rng.uniform(40, along - 40)) / rng.uniform(14, 24)
        band = smoothstep(distance, 1.06, 0.98)
        surface.height += 5 * band
        surface.blend(np.array((0.5, 0.5, 0.5)) * rng.uniform(0.4, 1.2), band)
    if rng.random() < 0.25:
        line = np.exp(-(((t - rng.uniform(0.2, 0.8) * around) / 3.0) ** 2))
        surface.height += 2.0 * line


def dirt(surface: Surface, rng: np.random.Generator) -> None:
    """Add dust, water stains, scratches and pen marks: what healthy pipes have as well."""
    shape = surface.shape
    dust = smoothstep(noise(rng, shape, (90, 110), 5), 0.3, 2.2)
    surface.blend((0.40, 0.36, 0.30), rng.uniform(0.1, 0.6) * dust)
    surface.gloss *= 1 - 0.7 * dust
    if rng.random() < 0.5:
        stain = smoothstep(streaks(rng, surface), 0.8, 2.4)
        surface.blend((0.24, 0.20, 0.16), rng.uniform(0.2, 0.55) * stain)
    for tone in (0.85, 0.12):
        scratches = [
            Line(_stroke(rng, shape), rng.uniform(0.4, 1.3), rng.uniform(0.15, 0.6))
            for _ in range(rng.poisson(1.3))
        ]
        mask = drawn(shape, scratches)
        surface.blend((tone, tone, tone), mask)
        surface.height -= 0.6 * mask
    if rng.random() < 0.12:
        _handwriting(surface, rng)


def streaks(rng: np.random.Generator, surface: Surface) -> Array:
    """Return noise drawn out in the direction in which water runs."""
    return noise(rng, surface.shape, (260, 14) if surface.runs_around else (14, 260), 3)


def _stroke(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Return the points of a scratch: nearly straight."""
    steps = int(rng.uniform(8, 55))
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.02, steps))
    start = rng.uniform(0.2, 0.8, 2) * shape[::-1]
    return start + np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * 4, axis=0)


def _handwriting(surface: Surface, rng: np.random.Generator) -> None:
    """Write a number on the pipe with a paint pen, as inspectors do."""
    text = f"{rng.choice(list('ABKRT'))}{rng.integers(1, 99)}"
    canvas = Image.new("L", surface.shape[::-1])
    place = rng.uniform(0.3, 0.5, 2) * surface.shape[::-1]
    size = float(rng.uniform(24, 44))
    ImageDraw.Draw(canvas).text(tuple(place), text, fill=255, font=ImageFont.load_default(size))
    canvas = canvas.rotate(float(rng.normal(0, 8)), Image.Resampling.BICUBIC, center=tuple(place))
    worn = smoothstep(noise(rng, surface.shape, (12, 12), 3), -1.6, -0.2)
    ink = ((0.90, 0.90, 0.86), (0.08, 0.08, 0.10), (0.62, 0.12, 0.10))[rng.integers(3)]
    surface.blend(ink, 0.85 * worn * np.asarray(canvas, np.float32) / 255)
