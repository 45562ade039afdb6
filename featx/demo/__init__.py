"""The demonstration: drawn images of healthy, cracked and corroded pipes, and a run on them.

Each image is a cylinder seen by a camera: its unrolled surface is painted with metal or paint,
seams, dirt and damage, then rolled up, lit, blurred and saved as JPEG. Healthy pipes have
scratches, stains, cable shadows and a little rust too, so that a single dark line or brown spot
does not reveal the class. No image is downloaded or read from a file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from featx.demo.camera import photograph
from featx.demo.damage import cracks, rust
from featx.demo.surface import dirt, plain_surface, seams

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from featx.evaluation.report.report import Report

CLASSES = ("corroded", "cracked", "healthy")
EPOCHS = 5  # of the Keras baseline: with these the whole run stays under 3 minutes on 2 cores


def run(
    directory: str | Path,
    *,
    n_per_class: int = 100,
    image_size: int | None = None,
    epochs: int = EPOCHS,
    progress: bool = True,
    log: Callable[[str], None] = logger.info,
) -> Report:
    """Draw the images, extract, train the heads and the Keras baseline, save the report.

    Parameters
    ----------
    directory
        Receives `images/`, `cache/` and `report/`; a second run reuses the cached features.
    n_per_class
        Images of each of the three classes, at least 15 so that folds can be made.
    image_size
        Pixels along each edge for MobileNetV2, at least 32; its own 224 unless given.
    epochs
        Epochs of the baseline.
    log
        Called with one line for the user at each stage.

    Returns
    -------
    Report
        As saved in `directory / "report"`.
    """
    from featx.backbones.backbone import Backbone
    from featx.demo.weights import choose
    from featx.evaluation.comparison import benchmark

    directory = Path(directory)
    log(f"Drawing {3 * n_per_class} images of pipes into {directory / 'images'}")
    images = write_images(directory / "images", n_per_class)
    backbone, warning = choose(Backbone("mobilenet_v2", image_size=image_size))
    if warning:
        log(warning)
    log("Extracting once, then training the heads, then the Keras baseline")
    report = benchmark(
        images / "train",
        images / "test",
        backbones=[backbone],
        epochs=epochs,
        cache=directory / "cache",
        progress=progress,
    )
    report.save(directory / "report")
    return report


def write_images(directory: str | Path, n_per_class: int = 100, seed: int = 0) -> Path:
    """Draw the data set into `directory`: `train/<class>/*.jpg` and `test/<class>/*.jpg`.

    Parameters
    ----------
    directory
        Created if absent; images of the same names are overwritten.
    n_per_class
        Images of each of the three classes, at least 3; every third one goes to `test`.
    seed
        At least 0. The same seed gives the same bytes (with the same numpy and Pillow), and a
        larger `n_per_class` begins with the same images.

    Returns
    -------
    Path
        `directory`.

    Examples
    --------
    >>> folder = write_images("pipes", n_per_class=3)
    >>> sorted(path.as_posix() for path in folder.glob("test/*/*.jpg"))
    ['pipes/test/corroded/0002.jpg', 'pipes/test/cracked/0002.jpg', 'pipes/test/healthy/0002.jpg']
    """
    directory = Path(directory)
    for split, label in product(("train", "test"), CLASSES):
        (directory / split / label).mkdir(parents=True, exist_ok=True)

    def write(label: str, number: int) -> None:
        # A generator of its own for each image: the order of the threads changes nothing.
        rng = np.random.default_rng([seed, CLASSES.index(label), number])
        split = "test" if number % 3 == 2 else "train"
        image = draw(label, rng)
        quality = int(rng.integers(80, 94))
        image.save(directory / split / label / f"{number:04d}.jpg", quality=quality)

    jobs = list(product(CLASSES, range(n_per_class)))
    with ThreadPoolExecutor() as threads:
        list(threads.map(write, *zip(*jobs, strict=True)))
    return directory


def draw(label: str, rng: np.random.Generator) -> Image.Image:
    """Draw one 256 x 256 image of a pipe of class `label`, one of `CLASSES`."""
    radius = rng.uniform(80, 165)
    surface = plain_surface(rng, radius)
    seams(surface, rng)
    dirt(surface, rng)
    if label == "corroded":
        rust(surface, rng, cover=rng.choice([0.07, 0.18, 0.35, 0.55], p=[0.2, 0.3, 0.3, 0.2]))
    elif rng.random() < 0.2:
        rust(surface, rng, cover=rng.uniform(0.003, 0.015))
    if label == "cracked":
        cracks(surface, rng)
    return photograph(surface, rng, radius)
