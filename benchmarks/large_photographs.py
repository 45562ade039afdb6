"""Reduced decoding of large JPEGs against full decoding: embeddings, predictions and speed.

    python benchmarks/large_photographs.py [--network FILE.keras] [--per-class 9]

Each large photograph is a mosaic of four test photographs of one class, enlarged to 7 to 20
megapixels; every fifth is progressive. A logistic regression is trained on the small photographs
as they are, and predicts the large ones from embeddings of both decodings. Without real images
(`$FEATX_DATASETS`) drawn ones are used, which say something of the time only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import images
import numpy as np
from PIL import Image

SIZES = ((4000, 3000), (4032, 3024), (3001, 2251), (5471, 3647))


def write_mosaics(photographs: Path, folder: Path, per_class: int) -> int:
    """Write JPEGs of 7 to 20 megapixels, one sub-folder per class; return how many."""
    rng = np.random.default_rng(0)
    count = 0
    for source in sorted(path for path in photographs.iterdir() if path.is_dir()):
        files = sorted(source.glob("*.jp*g"))
        (folder / source.name).mkdir(parents=True)
        for number in range(per_class):
            width, height = SIZES[count % len(SIZES)]
            mosaic = Image.new("RGB", (width, height))
            for corner, at in enumerate(rng.choice(len(files), 4, replace=False)):
                left, top = corner % 2 * (width // 2), corner // 2 * (height // 2)
                size = (width - width // 2, height - height // 2)
                with Image.open(files[at]) as small:
                    mosaic.paste(small.convert("RGB").resize(size), (left, top))
            mosaic.save(
                folder / source.name / f"{number:03d}.jpg", quality=90, progressive=count % 5 == 4
            )
            count += 1
    return count


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", type=Path, help="a .keras file instead of MobileNetV2")
    parser.add_argument("--per-class", type=int, default=9)
    options = parser.parse_args()
    trained = images.use_shared_weights()

    import featx

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        photographs = images.real("flowers") or images.drawn(folder / "drawn")
        count = write_mosaics(photographs / "test", folder / "large", options.per_class)
        name, weights = "mobilenet_v2", "imagenet" if trained else None
        if options.network:
            import keras

            name, weights = "benchmarked", "imagenet"
            featx.Backbone.register(name, keras.models.load_model(options.network))
        full = featx.Backbone(name, weights=weights, decode="full")
        auto = featx.Backbone(name, weights=weights, decode="auto")
        train = featx.extract(photographs / "train", full, cache=folder / "cache")
        head = featx.heads.logistic().fit(train.X, train.y)
        X, seconds, right, proba = {}, {}, {}, {}
        for how, backbone in (("full", full), ("auto", auto)):
            began = time.perf_counter()
            large = featx.extract(folder / "large", backbone, cache=folder / "cache")
            seconds[how] = time.perf_counter() - began
            X[how], proba[how] = large.X, head.predict_proba(large.X)
            right[how] = int((head.predict(large.X) == large.y).sum())

    far = np.linalg.norm(X["auto"] - X["full"], axis=1) / np.linalg.norm(X["full"], axis=1)
    moved = np.abs(proba["auto"] - proba["full"]).max()
    print(f"{name}, {count} photographs of 7 to 20 megapixels\n")
    print("| | full | auto |\n|---|--:|--:|")
    print("| extraction, images/s |", " | ".join(f"{count / s:.1f}" for s in seconds.values()), "|")
    print("| right class |", " | ".join(f"{n} of {count}" for n in right.values()), "|")
    print(f"| relative distance of embeddings, median | | {np.median(far):.3f} |")
    print(f"| the same, largest | | {far.max():.3f} |")
    print(f"| largest change of a probability | | {moved:.3f} |")


if __name__ == "__main__":
    main()
