"""A network in 8-bit integers: OpenVINO's, its ranges measured by NNCF on drawn images."""

from __future__ import annotations

import contextlib
import io
import logging
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from featx.errors import RuntimeUnavailableError

IMAGES = 160

# How far the embeddings of drawn images may be from those in float32, relative. MobileNetV2's are
# 0.17 apart (those of photographs 0.10 to 0.16), and heads on them are as good as on bfloat16's.
# With ranges measured on steel, those of flowers were 0.8 apart, and the accuracy fell by 8 points.
LIMIT = 0.3


def quantized(model: Any, core: Any, side: int, name: str) -> Any:
    """Return an OpenVINO model whose convolutions compute in 8-bit integers.

    Ranges of activations are measured on images drawn from one seed, so that the result depends
    on the network alone and those of all datasets can be compared. Fast bias correction and mixed
    symmetric and asymmetric ranges as in NNCF's post-training quantisation (Kozlov et al. 2020,
    arXiv 2002.08679).

    Parameters
    ----------
    model : openvino.Model
        Takes (n, side, side, 3) uint8 images; left as it is.
    core : openvino.Core
    side : int
    name : str
        Of the network, for messages.

    Raises
    ------
    RuntimeUnavailableError
        NNCF is missing, or the embeddings would be too far from those in float32.
    """
    state = random.getstate()  # the import sets the seed of a generator that is not ours
    try:
        import nncf
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"precision='int8' needs the package nncf, once per network, to measure its ranges "
            f"({error}): pip install 'featx[int8]', or use precision='bfloat16'."
        ) from error
    finally:
        random.setstate(state)
    images = drawn(IMAGES, side)
    held = len(images) // 10
    with _hushed():
        found = nncf.quantize(
            model.clone(),
            nncf.Dataset([image[None] for image in images[held:]]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=IMAGES - held,
        )
    _check(model, found, core, images[:held], name)
    return found


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Hold back NNCF's log and its progress bar, which it writes to standard output."""
    # Not by its own set_log_level, which also sets handlers that others share with it.
    log = logging.getLogger("nncf")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        log.setLevel(level)


def _check(model: Any, found: Any, core: Any, images: np.ndarray, name: str) -> None:
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    expected, found = (
        np.concatenate([compiled([image[None]])[0] for image in images])
        for compiled in (core.compile_model(each, "CPU", options) for each in (model, found))
    )
    distance = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    if not distance <= LIMIT:  # NaN, too
        raise RuntimeUnavailableError(
            f"{name} in int8 gives embeddings that are {distance:.2g} apart from those in float32 "
            f"(relative; {LIMIT:g} is allowed): it does not tolerate 8-bit integers. Use "
            "precision='bfloat16' or 'float32'."
        )


def drawn(count: int, side: int) -> np.ndarray:
    """Return images with the spectra, contrasts and colours of photographs, and sharp edges.

    Natural images have amplitudes that fall with about 1 / frequency (Field 1987, "Relations
    between the statistics of natural images and the response properties of cortical cells").

    Returns
    -------
    numpy.ndarray of shape (count, side, side, 3) and dtype uint8
    """
    generator = np.random.default_rng(1)
    return np.stack([_image(generator, side) for _ in range(count)])


def _image(generator: np.random.Generator, side: int) -> np.ndarray:
    falloff = generator.uniform(0.4, 0.8)  # of the amplitude, an octave
    total = np.zeros((side, side, 3), np.float32)
    for octave in range(8):
        cells = generator.standard_normal((3, 2**octave + 2, 2**octave + 2)).astype(np.float32)
        for channel, grid in enumerate(cells):
            image = Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC)
            total[..., channel] += np.asarray(image) * falloff**octave
    # Channels that mostly agree, as those of photographs do.
    mixed = total @ (
        generator.uniform(0.3, 1.0) + 0.5 * generator.standard_normal((3, 3)) * np.eye(3)
    )
    mixed = (mixed - mixed.mean()) / (mixed.std() + 1e-6) * generator.uniform(25, 80)
    mixed += generator.uniform(70, 190) + generator.normal(0, 20, 3)
    image = Image.fromarray(mixed.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(generator.integers(0, 12)):
        x, y, width, height = (generator.uniform(-0.2, 1, 4) * side).astype(int)
        box = [int(x), int(y), int(x + abs(width)), int(y + abs(height))]
        colour = tuple(int(value) for value in generator.integers(0, 256, 3))
        (draw.ellipse, draw.rectangle)[generator.integers(0, 2)](box, fill=colour)
    return np.asarray(image)
