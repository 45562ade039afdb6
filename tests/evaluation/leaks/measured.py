"""Which copies are found, and which images are taken for copies? On sets made for it.

`python -m tests.evaluation.leaks.measured DATASETS --onnx efficientnet_lite0.onnx` makes 32 copies
each of 8 images of each set in DATASETS (see planted.py), divides them at random, by original, and
so that training has one copy of each, and lets the detector name pairs; then different images on
one background, of which no pair may be named. Embeddings are those of MobileNetV2 and of the
network in the ONNX file. The images are others than those on which the thresholds were chosen
(`--chosen`).
It writes benchmarks/results/copies-<date>.json and the table of benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

import featx
from featx import Features
from featx.datasets.dataset import as_dataset
from featx.evaluation.leaks import copies, geometry
from featx.evaluation.leaks.geometry import Grade
from featx.evaluation.protocol.splits import EmbeddedImages
from tests.evaluation.leaks import planted as copied

HERE = Path(__file__).resolve().parent
BENCHMARKS = HERE.parents[2] / "benchmarks"
SETS = {
    "flowers": "flowers/train",
    "trashnet": "trashnet/all",
    "steel": "steel/all",
    "magnetic_tile": "magnetic_tile/all",
}
MARKS = ("<!-- copies table -->", "<!-- end of copies table -->")


def lite0(paths: list[Path], network: str) -> np.ndarray:
    """Return what an ONNX file makes of images at 224 pixels, RGB 0-255."""
    import onnxruntime

    session = onnxruntime.InferenceSession(network)
    name = session.get_inputs()[0].name
    found = []
    for start in range(0, len(paths), 32):
        batch = [
            np.asarray(Image.open(path).convert("RGB").resize((224, 224), 2), np.float32)
            for path in paths[start : start + 32]
        ]
        found.append(session.run(None, {name: np.stack(batch)})[0].reshape(len(batch), -1))
    return np.concatenate(found)


def originals(folder: Path, name: str, n: int, chosen: bool) -> tuple[list[Path], np.ndarray]:
    """Return images of a set, and a number per image, equal for those that are listed as copies."""
    root = folder / SETS[name]
    paths = sorted(
        p for p in root.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".bmp"}
    )
    random.Random(0).shuffle(paths)
    paths = paths[:n] if chosen else paths[24 : 24 + n]
    place = {path.relative_to(root).as_posix(): number for number, path in enumerate(paths)}
    # By the whole set: two images may be joined by a third that was not drawn.
    ids = sorted(
        {x for s, a, b, _ in copied.known(HERE / "own_copies.csv") if s == name for x in (a, b)}
        | place.keys()
    )
    number = {id_: n for n, id_ in enumerate(ids)}
    listed = [
        (number[a], number[b]) for s, a, b, _ in copied.known(HERE / "own_copies.csv") if s == name
    ]
    joined = copies.groups(len(ids), listed)
    return paths, np.array([joined[number[id_]] for id_ in place])


def found(paths: list[Path], X: np.ndarray, train: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return the copies, the places of the pairs' images among `paths`."""
    parts = []
    for chosen in (np.flatnonzero(train), np.flatnonzero(~train)):
        ids = [str(paths[n]) for n in chosen]
        images = as_dataset(ids, labels=["a"] * len(ids))
        parts.append((chosen, EmbeddedImages(images, Features(X[chosen], images.labels, ids))))
    result = copies.find(parts[0][1], parts[1][1] if len(parts[1][0]) else None)
    place = {"train": parts[0][0], "test": parts[1][0]}
    pairs = [[place[r.part][r.position] for r in (p.first, p.second)] for p in result.pairs]
    return result, np.array(pairs, int).reshape(-1, 2)


def measured(
    made: list[tuple[Path, int, str]], X: np.ndarray, groups: np.ndarray, split: str
) -> dict[str, Any]:
    """Return what is found of copies under a split."""
    paths, original = [one[0] for one in made], np.array([one[1] for one in made])
    kinds = [one[2] for one in made]
    truth = groups[original]
    rng = np.random.default_rng(5)
    if split == "random":
        train = rng.permutation(len(made)) < len(made) // 2
    elif split == "by original":
        train = np.isin(truth, rng.permutation(np.unique(truth))[: len(np.unique(truth)) // 2])
    else:
        # One copy of each, whose tones alone are changed.
        train = np.array([path.name.split("_")[1] == "05" for path in paths])
    result, pairs = found(paths, X, train)
    right = truth[pairs[:, 0]] == truth[pairs[:, 1]]
    across = train[pairs[:, 0]] != train[pairs[:, 1]]
    leaked = np.zeros(len(made), bool)
    leaked[~train] = np.isin(result.test_groups, result.groups)
    copied_ = ~train & np.isin(truth, truth[train])
    # Images with too few local features are counted apart.
    views = [geometry.view(item) for item in as_dataset([str(path) for path in paths]).items]
    plain = np.array([one is not None and one.plain for one in views])

    def recall(of: set[str]) -> float | None:
        asked = copied_ & ~plain & np.array([kind.split("+")[0] in of for kind in kinds])
        return float(leaked[asked].mean()) if asked.any() else None

    graded = [
        (pair.grade is Grade.SCENE) == ("scene" in kinds[i] or "scene" in kinds[j])
        for pair, (i, j) in zip(result.pairs, pairs, strict=True)
        # A quarter of an image may lie beside what was changed in it.
        if original[i] == original[j] and "cropped" not in kinds[i] + kinds[j]
    ]
    return {
        "split": split,
        "images": len(made),
        "pairs": len(pairs),
        "precision": float(right.mean()) if len(pairs) else None,
        "wrong across": int((across & ~right).sum()),
        "recall geometric": recall(copied.GEOMETRIC),
        "recall cropped": recall({"cropped"}),
        "recall others": recall({"framed", "toned", "brightness", "mirrored", "scene"}),
        "grade": float(np.mean(graded)) if graded else None,
        "plain": result.plain,
        "plain found": [int((leaked & copied_ & plain).sum()), int((copied_ & plain).sum())],
        "looked at": [result.looked_at, result.candidates],
        "wrong": [
            [paths[i].name, paths[j].name, pair.points, round(pair.explained, 2), pair.grade]
            for pair, (i, j), good in zip(result.pairs, pairs, right, strict=True)
            if not good
        ][:10],
    }


def table(rows: list[dict[str, Any]], command: str) -> str:
    """Return the table of README.md."""

    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    lines = [
        f"`{command}`, {datetime.date.today()}",
        "",
        "| images | network | split | images | pairs | precision | wrong across | recall: turned, "
        "sheared, zoomed | quarters | others | right grade | plain images | found of these |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in rows:
        cells = [one["set"], one["network"], one["split"], f"{one['images']:,}"]
        cells += [f"{one['pairs']:,}", share(one["precision"]), str(one["wrong across"])]
        cells += [share(one[f"recall {kind}"]) for kind in ("geometric", "cropped", "others")]
        found_of = "{} of {}".format(*one["plain found"]) if one["plain found"][1] else ""
        cells += [share(one["grade"]), str(one["plain"]), found_of]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _remember() -> None:
    """Let images and pairs be compared once: splits and networks have most of them in common."""
    views: dict[Any, Any] = {}
    view, compare = geometry.view, functools.cache(geometry.compare)

    def once(item: Any) -> Any:
        if item.source not in views:
            views[item.source] = view(item)
        return views[item.source]

    geometry.view, geometry.compare = once, compare


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", type=Path)
    parser.add_argument("--onnx", help="a second network")
    parser.add_argument("--originals", type=int, default=8, help="of each set")
    parser.add_argument("--chosen", action="store_true", help="images the thresholds are from")
    parser.add_argument("--seed", type=int, default=1, help="of the changes")
    parser.add_argument("--only", action="append", help="sets to measure")
    options = parser.parse_args()
    _remember()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        seed = 0 if options.chosen else options.seed
        for name in options.only or [*SETS, *copied.SYNTHETIC]:
            folder = Path(scratch) / name
            if name in SETS:
                paths, groups = originals(options.datasets, name, options.originals, options.chosen)
                made = copied.augmented(paths, folder, 32, seed)
                splits: tuple[str, ...] = ("random", "by original", "one copy in training")
            else:
                paths = copied.distinct(name, folder, 144, seed)
                made = [(path, number, "different") for number, path in enumerate(paths)]
                groups, splits = np.arange(len(paths)), ("by original",)
            files = [one[0] for one in made]
            networks = {"MobileNetV2": lambda f: featx.extract(f, "mobilenet_v2", progress=False).X}
            if options.onnx:
                networks["EfficientNet-Lite0"] = lambda f: lite0(f, options.onnx)
            for network, embed in networks.items():
                X = embed(files)
                for split in splits:
                    row = {"set": name, "network": network, **measured(made, X, groups, split)}
                    rows.append(row)
                    print(json.dumps(row), flush=True)  # noqa: T201 - a script
    if options.only or options.chosen:
        return
    today = datetime.date.today()
    target = BENCHMARKS / "results" / f"copies-{today}.json"
    target.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    command = (
        "python -m tests.evaluation.leaks.measured ../shared/datasets "
        f"--onnx efficientnet_lite0.onnx --originals {options.originals}"
    )
    page = BENCHMARKS / "README.md"
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    page.write_text(
        f"{before}{MARKS[0]}\n{table(rows, command)}\n{MARKS[1]}{after}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
