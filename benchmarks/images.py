"""The images that are measured: real ones when they are here, as many as asked for.

`python benchmarks/images.py FOLDER --images PHOTOGRAPHS` writes 60,000 small crops of photographs.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Iterator
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


class Crops:
    """Small square crops of photographs, half of them mirrored, as many of each class as wanted.

    Every fifth photograph of a class gives test crops alone, so that no test crop is of a
    photograph that trains.

    Parameters
    ----------
    folders : list of Path
        A photograph's class is the name of the folder that it is in.
    """

    def __init__(self, folders: list[Path], classes: int, side: int) -> None:
        found: dict[str, list[Path]] = {}
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
                    found.setdefault(path.parent.name, []).append(path)
        self.names = sorted(found, key=lambda name: -len(found[name]))[:classes]
        if len(self.names) < classes:
            raise SystemExit(
                f"{len(self.names)} classes in {folders}; expected {classes}: give more folders"
            )
        self.side = side
        self._photographs = {
            name: [
                np.asarray(Image.open(path).convert("RGB").resize((256, 256)))
                for path in found[name]
            ]
            for name in self.names
        }
        self._rng = np.random.default_rng(0)

    def draw(self, count: int, *, test: bool) -> Iterator[tuple[str, np.ndarray]]:
        """Yield so many crops with their classes, which take turns."""
        rng = self._rng
        for number in range(count):
            name = self.names[number % len(self.names)]
            own = self._photographs[name]
            part = own[::5] if test else [one for i, one in enumerate(own) if i % 5]
            pixels = part[rng.integers(len(part))]
            edge = int(rng.integers(80, 200))
            top, left = rng.integers(0, 256 - edge, 2)
            crop = pixels[top : top + edge, left : left + edge]
            crop = crop[:, ::-1] if rng.random() < 0.5 else crop
            yield name, np.asarray(Image.fromarray(crop).resize((self.side, self.side)))

    def write(self, folder: Path, train: int, test: int) -> None:
        """Write PNGs into `folder/train/CLASS` and `folder/test/CLASS`."""
        for part, count in (("train", train), ("test", test)):
            for name in self.names:
                (folder / part / name).mkdir(parents=True)
            for number, (name, crop) in enumerate(self.draw(count, test=part == "test")):
                Image.fromarray(crop).save(folder / part / name / f"{number:06d}.png")


def main() -> None:
    """Write many small images of real photographs: a training and a test folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="photographs")
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--side", type=int, default=32)
    asked = parser.parse_args()
    crops = Crops(asked.images, asked.classes, asked.side)
    crops.write(asked.folder, asked.train, asked.test)
    print(f"{asked.folder}: {asked.train:,} + {asked.test:,} images of {asked.side} pixels")


if __name__ == "__main__":
    main()
