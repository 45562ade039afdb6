"""The images that are measured: real ones when they are here, as many as asked for."""

from __future__ import annotations

import os
import random
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def real(name: str) -> Path | None:
    """Return the folder of a real data set (`$FEATX_DATASETS`, ../shared/datasets) or None."""
    folder = Path(os.environ.get("FEATX_DATASETS", SHARED / "datasets")) / name
    return folder if folder.is_dir() else None


def use_shared_weights() -> bool:
    """Point Keras at weights beside this checkout; return whether MobileNetV2 has some."""
    if (SHARED / "keras").is_dir():
        os.environ.setdefault("KERAS_HOME", str(SHARED / "keras"))
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    return any((home / "models").glob("mobilenet_v2_weights_*_1.0_224_no_top.h5"))


def drawn(folder: Path, per_class: int = 120, classes: int = 5, seed: int = 0) -> Path:
    """Write noise of a photograph's size and smoothness, one sub-folder per class."""
    rng = np.random.default_rng(seed)
    for part, count in (("train", per_class), ("test", max(10, per_class * 5 // 12))):
        for label in range(classes):
            place = folder / part / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                small = rng.integers(0, 256, (47, 63, 3), dtype=np.uint8)
                small[..., label % 3] //= 2
                image = Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC)
                image.save(place / f"{number:04d}.jpg", quality=90)
    return folder


def repeated(sources: list[Path], folder: Path, count: int) -> Path:
    """Write `count` images under new names; each copy is new content, a byte after its end.

    Decoders stop at a JPEG's end, so a copy costs as much as its original. The order is drawn, so
    that few images and many are of the same mixture: those of one set cost less than another's.
    """
    jpegs = [path for source in sources for path in sorted(source.rglob("*.jp*g"))]
    random.Random(0).shuffle(jpegs)
    for number, path in enumerate(islice(cycle(jpegs), count)):
        place = folder / f"class{number % 10}"
        if number < 10:
            place.mkdir(parents=True, exist_ok=True)
        turn = number // len(jpegs)
        tail = turn.to_bytes(2, "big") if turn else b""
        (place / f"{number:06d}.jpg").write_bytes(path.read_bytes() + tail)
    return folder
