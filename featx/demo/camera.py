"""The image of a drawn pipe: its surface rolled up, lit, put before a wall and photographed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from featx.demo.surface import LENGTH, Array, Surface, noise, smoothstep

SIDE = 256  # height and width of an image in pixels
# Concrete, earth, leaves and dark (RGB, 0-1).
WALLS = np.array([[0.45, 0.44, 0.42], [0.30, 0.24, 0.19], [0.20, 0.24, 0.18], [0.13, 0.14, 0.16]])


def photograph(surface: Surface, rng: np.random.Generator, radius: float) -> Image.Image:
    """Roll the surface up, light it, put it before a wall and photograph it."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) - SIDE / 2
    turn = rng.normal(0, 0.22) + (0.0 if surface.runs_around else np.pi / 2)
    along = x * np.cos(turn) + y * np.sin(turn)
    across = -x * np.sin(turn) + y * np.cos(turn) + rng.normal(0, 18)
    v = across / (radius * (1 + rng.normal(0, 0.0006) * along))
    inside = np.clip(v, -0.999, 0.999)
    rows = np.clip(radius * np.arcsin(inside) + surface.shape[0] / 2, 0, surface.shape[0] - 2)
    cols = np.clip(along + LENGTH / 2, 0, LENGTH - 2)
    sample = _sampler(rows, cols)
    slope_around, slope_along = np.gradient(surface.height)
    lit = _light(
        rng,
        sample(surface.colour),
        inside - 0.35 * sample(slope_around),
        -0.35 * sample(slope_along),
        sample(surface.gloss),
    )
    wall = _wall(rng, v)
    edge = smoothstep(np.abs(v), 1.0, 1.0 - 1.5 / radius)[..., None]
    return _camera(rng, wall * (1 - edge) + lit * edge)


def _sampler(rows: Array, cols: Array) -> Callable[[Array], Array]:
    """Return the function that looks a texture up at these places, between its texels."""
    top, left = rows.astype(np.intp), cols.astype(np.intp)
    down, right = (rows - top).astype(np.float32), (cols - left).astype(np.float32)

    def sample(texture: Array) -> Array:
        d, r = (down, right) if texture.ndim == 2 else (down[..., None], right[..., None])
        upper = texture[top, left] * (1 - r) + texture[top, left + 1] * r
        lower = texture[top + 1, left] * (1 - r) + texture[top + 1, left + 1] * r
        return upper * (1 - d) + lower * d

    return sample


def _light(
    rng: np.random.Generator, colour: Array, across: Array, along: Array, gloss: Array
) -> Array:
    """Return the lit colours: one lamp, the sky, and what a shiny pipe mirrors."""
    depth = np.sqrt(np.clip(1 - np.clip(across, -1, 1) ** 2, 0.0, 1)) + 0.05
    norm = np.sqrt(across**2 + along**2 + depth**2)
    lamp = np.array([rng.uniform(-0.75, 0.25), rng.normal(0, 0.25), 0.8])
    lamp /= np.linalg.norm(lamp)
    facing = (across * lamp[0] + along * lamp[1] + depth * lamp[2]) / norm
    half = lamp + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    shine = np.clip((across * half[0] + along * half[1] + depth * half[2]) / norm, 0, 1)
    profile = noise(rng, (256, 1), (70, 1), 3)[:, 0]
    mirrored = profile[np.clip((across / norm + 1) * 127.5, 0, 255).astype(int)]
    ambient = rng.uniform(0.22, 0.42)
    diffuse = ambient * (0.65 + 0.35 * depth) + (1.15 - ambient) * np.clip(facing, 0, None)
    sheen = gloss * (0.10 * mirrored + rng.uniform(0.3, 0.7) * shine ** rng.uniform(18, 60))
    return colour * (diffuse * (1 + 0.25 * gloss * mirrored))[..., None] + sheen[..., None]


def _wall(rng: np.random.Generator, v: Array) -> Array:
    tone = WALLS[rng.integers(len(WALLS))] * rng.uniform(0.7, 1.2)
    cloud = 1 + 0.16 * noise(rng, v.shape, (70, 90), 4)
    shadow = 1 - 0.55 * np.exp(-np.clip(np.abs(v - 0.12) - 0.9, 0, None) * 5)
    return tone * (cloud * shadow)[..., None]


def _camera(rng: np.random.Generator, scene: Array) -> Image.Image:
    """Expose, colour, blur and add the sensor's noise; some images come out poor."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    if rng.random() < 0.3:
        cable = np.abs(x * np.cos(a := rng.uniform(0, 3)) + y * np.sin(a) - rng.normal(0, 0.4))
        scene = scene * (1 - rng.uniform(0.2, 0.5) * np.exp(-((cable / 0.05) ** 2)))[..., None]
    vignette = 1 - rng.uniform(0.05, 0.35) * (x**2 + y**2) / 2
    gain = np.exp(rng.normal(0.05, 0.18)) * (1 + rng.normal(0, 0.04, 3))
    pixels = np.clip(scene * vignette[..., None] * gain, 0, 1) ** (1 / 1.15)
    image = Image.fromarray((pixels * 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(abs(rng.normal(0, 0.6))))
    grain = rng.normal(0, rng.uniform(1, 5), (SIDE, SIDE, 1)) + rng.normal(0, 1, (SIDE, SIDE, 3))
    noisy = np.clip(np.asarray(image, np.float32) + grain, 0, 255)
    return Image.fromarray(noisy.astype(np.uint8))
