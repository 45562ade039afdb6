"""Does a model leave the house whole? Save, load in another process, export, on real images.

`python benchmarks/models.py TRAIN TEST` trains each head of featx on TRAIN, saves it, lets a new
process load it and score TEST, and compares every bit; then exports and compares every image of
TEST with each file's own runtime. It writes results/models-<date>.json and the table of README.md.
Exit code 1: a score is not the same.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import featx

HERE = Path(__file__).resolve().parent
SUFFIXES = {"keras": ".keras", "savedmodel": "", "onnx": ".onnx", "tflite": ".tflite"}
EXPORTS = {
    "logistic": tuple(SUFFIXES),
    "ridge": tuple(SUFFIXES),
    "mlp": ("onnx",),
    "xgboost": ("onnx",),
    "dense": ("onnx",),
    "linear_svm": ("onnx",),
}

# Neither the training process's memory nor its network: only the file and the images.
OTHER = """
import sys, numpy, featx
_, model, images, digest, out = sys.argv
numpy.save(out, featx.load(model, sha256=digest).predict_proba(images))
"""


def saved(model: featx.ImageClassifier, test: str, folder: Path) -> dict[str, Any]:
    """Return what a new process makes of the model's file."""
    path, out = folder / "model.featx", folder / "scores.npy"
    before = model.predict_proba(test)
    digest = model.save(path)
    words = [sys.executable, "-c", OTHER, str(path), test, digest, str(out)]
    subprocess.run(words, check=True, cwd=HERE.parent)
    after = np.load(out)
    return {
        "accuracy": model.score(test),
        "images": len(after),
        "bit_equal": before.dtype == after.dtype and before.tobytes() == after.tobytes(),
        "bytes": path.stat().st_size,
    }


def exported(
    model: featx.ImageClassifier, test: str, folder: Path, formats: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Yield how far each exported file is from the model, by the file's own runtime."""
    for name in formats:
        path = folder / f"exported{SUFFIXES[name]}"
        model.export(path, format=name)
        loaded, network = _network(path, name)
        parity = featx.verify_parity(model, test, network)
        del loaded
        yield {
            "format": name,
            "largest": parity.largest,
            "same_class": parity.same_class,
            "images": parity.images,
            "holds": parity.holds,
        }
        print(f"  {name}: {parity}", flush=True)


def _network(path: Path, name: str) -> tuple[Any, Any]:
    """Return what must stay referenced, and what runs the file."""
    if name == "keras":
        import keras

        model = keras.saving.load_model(path)
        return model, model
    if name == "savedmodel":
        import tensorflow as tf

        module = tf.saved_model.load(path)
        return module, module.serve
    return None, path


def table(about: dict[str, Any], heads: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the Markdown table."""
    yield f"`{about['command']}`, {about['backbone']}, {about['date']}"
    yield ""
    yield "| head | accuracy | file | scores of another process | exported: largest difference |"
    yield "|---|--:|--:|---|---|"
    for row in heads:
        equal = "bit-equal" if row["bit_equal"] else "**not equal**"
        files = "; ".join(
            f"{one['format']} {one['largest']:.1e}{'' if one['holds'] else ' **too large**'}"
            for one in row["exported"]
        )
        yield (
            f"| {row['head']} | {row['accuracy']:.1%} | {row['bytes'] / 1e6:.1f} MB "
            f"| {equal}, {row['images']} images | {files or 'no layers of a network'} |"
        )


def write(about: dict[str, Any], heads: list[dict[str, Any]]) -> None:
    """Write the JSON file, and the table into README.md."""
    path = HERE / "results" / f"models-{about['date']}.json"
    path.write_text(json.dumps({**about, "heads": heads}, indent=1) + "\n", encoding="utf-8")
    readme = HERE / "README.md"
    begin, end = "<!-- models table -->", "<!-- end of models table -->"
    head, rest = readme.read_text(encoding="utf-8").split(begin)
    shown = "\n".join(table(about, heads))
    readme.write_text(f"{head}{begin}\n{shown}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def main() -> int:
    """Train, save, export, compare; 1 where something is not the same."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("train", help="labelled images")
    parser.add_argument("test", help="labelled images that no head was trained on")
    parser.add_argument("--backbone", "-b", default="mobilenet_v2")
    parser.add_argument("--head", action="append", choices=list(featx.HEADS))
    parser.add_argument("--cache", help="cache folder; by default the usual one")
    asked = parser.parse_args()
    if asked.cache:
        os.environ["FEATX_CACHE"] = asked.cache
    heads = []
    for name in asked.head or featx.HEADS:
        model = featx.ImageClassifier(asked.backbone, name).fit(asked.train)
        with tempfile.TemporaryDirectory() as folder:
            row = {"head": name, **saved(model, asked.test, Path(folder))}
            print(json.dumps(row), flush=True)
            files = exported(model, asked.test, Path(folder), EXPORTS.get(name, ()))
            heads.append({**row, "exported": list(files)})
    command = f"python benchmarks/models.py {_short(asked.train)} {_short(asked.test)}"
    about = {"command": command, "backbone": asked.backbone}
    about |= {"date": datetime.date.today().isoformat(), "featx": featx.__version__}
    if not asked.head:
        write(about, heads)
    whole = all(row["bit_equal"] and all(one["holds"] for one in row["exported"]) for row in heads)
    return 0 if whole else 1


def _short(folder: str) -> str:
    # The folder of the images is private.
    return "/".join(Path(folder).parts[-2:])


if __name__ == "__main__":
    sys.exit(main())
