"""What goes wrong with a drawn pipe: rust that blotches, pits and runs, and cracks that fork."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from featx.demo.surface import Array, Line, Surface, drawn, noise, smoothstep, streaks

# From black-brown over orange to dusty tan (RGB, 0-1).
RUST = np.array([[0.20, 0.10, 0.06], [0.38, 0.18, 0.08], [0.58, 0.29, 0.11], [0.70, 0.45, 0.22]])


def rust(surface: Surface, rng: np.random.Generator, cover: float) -> None:
    """Corrode about the fraction `cover` of the surface: blotches, pits, flaked edges, drips."""
    shape = surface.shape
    blotches = noise(rng, shape, (110, 130), 6)
    # Over what the camera sees, so that a corroded pipe does not hide its only spot behind it.
    seen = blotches[shape[0] // 4 : -shape[0] // 4, 60:-60]
    level = float(np.quantile(seen, 1 - cover))
    depth = blotches - level
    mask = smoothstep(depth, -0.04, 0.12)
    halo = smoothstep(depth, -0.45, 0.05)
    mottle = 0.7 * noise(rng, shape, (rng.uniform(14, 50),) * 2, 5)
    mottle += 0.3 * rng.standard_normal(shape, np.float32) + rng.uniform(0.8, 1.9)
    flesh = _rust_colour(rng, mottle)
    surface.blend((0.50, 0.33, 0.18), 0.35 * halo)
    drips = smoothstep(streaks(rng, surface), 0.6, 2.2) * _run_down(mask, surface.runs_around)
    surface.blend((0.42, 0.22, 0.10), np.clip(0.85 * drips, 0, 0.8))
    surface.blend(flesh, 0.94 * mask)
    pits = smoothstep(noise(rng, shape, (9, 9), 2), 1.1, 2.0) * mask
    surface.blend((0.10, 0.06, 0.05), 0.7 * pits)
    scale = noise(rng, shape, (16, 16), 4) * mask
    flake = smoothstep(depth, -0.02, 0.05) - smoothstep(depth, -0.12, -0.03)
    surface.height += 1.1 * scale - 2.0 * pits + 1.6 * flake
    surface.gloss *= 1 - 0.95 * np.maximum(mask, 0.6 * halo)


def _rust_colour(rng: np.random.Generator, shade: Array) -> Array:
    """Return the colours of rust, from black-brown (0) over orange to dusty tan (3)."""
    palette = RUST * rng.normal(1, 0.08, (4, 3)) * rng.uniform(0.75, 1.15)
    palette += rng.uniform(0, 0.35) * (palette.mean(axis=1, keepdims=True) - palette)
    ramp = np.stack([np.interp(np.linspace(0, 3, 256), range(4), palette[:, c]) for c in range(3)])
    return ramp.T.astype(np.float32)[np.clip(shade * 85, 0, 255).astype(np.uint8)]


def _run_down(mask: Array, runs_around: bool) -> Array:
    """Return how much of the rust above has run past each place, fading as it goes."""
    flow = mask if runs_around else mask.T
    wet = np.empty_like(flow)
    carried = np.zeros(flow.shape[1], np.float32)
    for row, source in enumerate(flow):
        carried = np.maximum(source, carried * 0.985)
        wet[row] = carried
    return wet if runs_around else wet.T


def cracks(surface: Surface, rng: np.random.Generator) -> None:
    """Add a crack that forks, dark inside, with one lit lip, fine at its ends."""
    shape = surface.shape
    width = rng.choice([1.0, 1.9, 3.2], p=[0.2, 0.4, 0.4]) * rng.uniform(0.8, 1.2)
    lines = []
    for _ in range(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15])):
        trunk = _jagged(rng, rng.uniform(0.35, 0.65, 2) * shape[::-1], rng.uniform(0, 2 * np.pi))
        lines += _tapered(trunk, width)
        for _ in range(rng.integers(2, 7)):
            fork = rng.integers(4, len(trunk) - 1)
            ahead = trunk[fork] - trunk[fork - 3]
            angle = np.arctan2(ahead[1], ahead[0]) + rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
            lines += _tapered(_jagged(rng, trunk[fork], angle, rng.uniform(0.2, 0.5)), width * 0.65)
    dark = drawn(shape, lines)
    lip = np.roll(dark, (2, 1), (0, 1)) * (1 - dark)
    surface.blend((0.75, 0.74, 0.72), 0.25 * lip)
    if rng.random() < 0.3:  # water comes out of it and leaves a little rust
        blur = Image.fromarray((dark * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(4))
        surface.blend((0.40, 0.24, 0.13), np.clip(np.asarray(blur) / 128, 0, 0.5))
    surface.blend((0.05, 0.045, 0.04), rng.uniform(0.7, 0.97) * dark)
    surface.height -= 2.5 * dark
    surface.gloss *= 1 - dark


def _jagged(rng: np.random.Generator, start: Array, angle: float, size: float = 1.0) -> Array:
    """Return the points of a crack: it keeps its direction and shies at every grain."""
    steps = int(rng.uniform(40, 85) * size) + 6
    heading = angle + np.cumsum(rng.normal(0, 0.12, steps)) + rng.normal(0, 0.55, steps)
    stride = rng.uniform(1.5, 5.0, (steps, 1))
    return start + np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * stride, axis=0)


def _tapered(points: Array, width: float) -> list[Line]:
    """Return the pieces of a line that narrows towards its far end."""
    ends = np.linspace(0, len(points) - 1, 5).astype(int)
    pieces = zip(ends[:-1], ends[1:], strict=True)
    return [Line(points[a : b + 1], width * (1 - 0.2 * n)) for n, (a, b) in enumerate(pieces)]
