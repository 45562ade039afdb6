"""Every door takes every kind of image and label alike, or says in a sentence why it does not."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, features
from typer.testing import CliRunner

import featx
from featx import Dataset, ImageClassifier
from featx.cli.app import app
from featx.errors import BadImagesError, DatasetError
from featx.images import decoding
from featx.serving.answers import Answers
from tests.fakes import TINY, CountingRuntime
from tests.promises import images as made

HEIC = Path(__file__).parent / "data" / "heic"


def colour(number: int) -> Image.Image:
    """Return one of two kinds of images, red for even numbers and blue for odd ones."""
    noise = np.random.default_rng(number).integers(0, 40, (40, 48, 3))
    tint = (200, 30, 30) if number % 2 == 0 else (30, 30, 200)
    return Image.fromarray((noise + tint).clip(0, 255).astype(np.uint8))


def _palette(image: Image.Image) -> Image.Image:
    return image.quantize(64)


def _turned(image: Image.Image) -> Image.Image:
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    return turned


def _deep(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


# Suffix, and how the image is changed before it is written.
IMAGES: dict[str, tuple[str, Callable[[Image.Image], Image.Image]]] = {
    "png": (".png", lambda image: image),
    "jpeg": (".jpg", lambda image: image),
    "cmyk": (".jpg", lambda image: image.convert("CMYK")),
    "transparent": (".png", lambda image: image.convert("RGBA")),
    "palette": (".gif", _palette),
    "16 bits": (".png", _deep),
    "turned": (".jpg", _turned),
    "webp": (".webp", lambda image: image),
    "bmp": (".bmp", lambda image: image),
    "tiff": (".tif", lambda image: image),
    "pnm": (".ppm", lambda image: image),
    "16 bits, grey map": (".pgm", _deep),
    "tga": (".tga", lambda image: image),
    "jpeg 2000": (".j2k", lambda image: image),
    "jp2": (".jp2", lambda image: image),
    "avif": (".avif", lambda image: image),
    "animated gif": (".gif", _palette),
    "animated webp": (".webp", lambda image: image),
    "pages": (".tif", lambda image: image),
}
# Written with more frames, of which the first one counts.
_SEVERAL = {"animated gif", "animated webp", "pages"}
_CODECS = {"avif": "avif", "jpeg 2000": "jpg_2000", "jp2": "jpg_2000"}
LABELS: dict[str, tuple[Any, Any]] = {
    "text": ("cat", "dog"),
    "codes": ("007", "7"),
    "integers": (3, 12),
    "floats": (0.0, 1.0),
    "booleans": (False, True),
    "numbers as text": ("3", "12"),
    "decomposed": ("Cafe\u0301", "The\u0301"),
    "spaces": (" cat", "cat"),
    "case": ("Cat", "cat"),
    "numpy's integers": (np.int64(3), np.int64(12)),
    "numpy's booleans": (np.False_, np.True_),
    "negative": (-1, 1),
}
# What the labels are where they are not what was given: Unicode's NFC.
EXPECTED = {"decomposed": ("Caf\u00e9", "Th\u00e9")}
N = 8


@pytest.fixture(params=IMAGES)
def paths(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    suffix, change = IMAGES[request.param]
    if request.param in _CODECS and not features.check(_CODECS[request.param]):
        pytest.skip(f"Pillow was built without {_CODECS[request.param]}")
    found = []
    for number in range(N):
        path = tmp_path / "images" / f"{number}{suffix}"
        path.parent.mkdir(exist_ok=True)
        image = change(colour(number))
        more: dict[str, Any] = {}
        if request.param in _SEVERAL:
            more = {"save_all": True, "append_images": [change(colour(number + 1))]}
        image.save(path, exif=image.getexif(), **more)
        found.append(path)
    return found


class Stream:
    """What featx uses of a tf.data.Dataset; each image is a batch of its own."""

    def __init__(self, images: list[np.ndarray], y: list[Any] | None) -> None:
        shape = type("Shape", (tuple,), {"rank": property(len)})
        spec = type("Spec", (), {"shape": shape((None, None, None, 3))})
        self.element_spec = spec if y is None else (spec, spec)
        self._images, self._y = images, y

    def cardinality(self) -> int:
        return len(self._images)

    def as_numpy_iterator(self) -> Iterator[Any]:
        for number, image in enumerate(self._images):
            yield image[None] if self._y is None else (image[None], np.array([self._y[number]]))


def doors(paths: list[Path], y: list[Any] | None) -> dict[str, Any]:
    """Return the same images, with their labels where `y` has them, through each door."""
    labelled = [] if y is None else [y]
    frame = pd.DataFrame({"path": list(map(str, paths)), **({} if y is None else {"label": y})})
    label_column = None if y is None else "label"
    pil = {}
    if all(path.suffix.lower() != ".heic" for path in paths):  # which Pillow alone does not open
        images = [Image.open(io.BytesIO(path.read_bytes())) for path in paths]
        pil = {"list of PIL images": Dataset.from_paths(images, *labelled)}
    return {
        **pil,
        "list of paths": Dataset.from_paths(paths, *labelled),
        "list of text": Dataset.from_paths(list(map(str, paths)), *labelled),
        "list of bytes": Dataset.from_paths([path.read_bytes() for path in paths], *labelled),
        "list of pixels": Dataset.from_paths([decoding.pixels(path) for path in paths], *labelled),
        "array": Dataset.from_array(np.stack([decoding.pixels(path) for path in paths]), *labelled),
        "table": Dataset.from_table(frame, label_column=label_column),
        "stream": Dataset.from_tf(Stream([decoding.pixels(path) for path in paths], y)),
        "series": Dataset.from_paths(list(pd.Series(frame["path"])), *labelled),
    }


def extract(dataset: Any, **options: Any) -> featx.Features:
    return featx.extract(dataset, TINY, runtime=CountingRuntime(), progress=False, **options)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ImageClassifier:
    """Return a model on a real network, which a service starts for itself."""
    model = ImageClassifier(TINY, "logistic", cache=tmp_path_factory.mktemp("served") / "cache")
    pixels = np.stack([np.asarray(colour(number)) for number in range(N)])
    return model.fit(pixels, ["even", "odd"] * (N // 2))


def test_every_door_gives_the_same_embeddings(
    paths: list[Path], tmp_path: Path, served: ImageClassifier
) -> None:
    expected = extract(paths).X
    folder = tmp_path / "classes"
    for number, path in enumerate(paths):
        target = folder / ("even" if number % 2 == 0 else "odd") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    for door, dataset in doors(paths, None).items():
        np.testing.assert_allclose(extract(dataset).X, expected, rtol=1e-5, err_msg=door)
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    np.testing.assert_array_equal(extract(folder).X, expected[order])

    model = ImageClassifier(TINY, "nearest", runtime=CountingRuntime()).fit(folder)
    for number, path in enumerate(paths):
        label = "even" if number % 2 == 0 else "odd"
        with Image.open(path) as opened:
            for one in (path, str(path), path.read_bytes(), opened, decoding.pixels(path)):
                assert model.predict(one).tolist() == [label], type(one)
    ((label, probability), *_) = served.predict_top_k(paths[0], 1)[0]
    (answer,) = Answers(served, 1).answer(paths[0].read_bytes())["top"]
    assert (answer["label"], answer["probability"]) == (label, pytest.approx(probability, abs=1e-3))


@pytest.mark.parametrize("kind", LABELS)
def test_every_door_keeps_labels(tmp_path: Path, kind: str) -> None:
    given, values = LABELS[kind], EXPECTED.get(kind, LABELS[kind])
    y = [values[number % 2] for number in range(N)]
    paths = []
    for number in range(N):
        path = tmp_path / f"{number}.png"
        colour(number).save(path)
        paths.append(path)
    for door, dataset in doors(paths, [given[number % 2] for number in range(N)]).items():
        embedded = extract(dataset)
        assert embedded.y is not None
        assert embedded.y.tolist() == y, door
        assert list(map(type, embedded.y.tolist())) == [type(np.array(one).item()) for one in y]
        model = ImageClassifier(TINY, "nearest", runtime=CountingRuntime()).fit(dataset)
        assert model.classes_.tolist() == list(values), door
        assert model.predict(paths).tolist() == y, door
        assert model.score(dataset) == model.score(paths, y) == model.score(embedded) == 1.0, door
    pd.DataFrame({"path": list(map(str, paths)), "label": y}).to_csv(tmp_path / "t.csv")
    by_file = extract(tmp_path / "t.csv")
    assert by_file.classes == sorted(map(str, values), key=lambda text: (len(text), text)) or (
        by_file.classes == sorted(map(str, values))
    )


BAD: dict[str, tuple[str, bytes, str]] = {
    "truncated": (".jpg", b"", "TruncatedImageError"),
    "empty": (".png", b"", "NotAnImageError"),
    "text": (".jpg", b"not an image at all", "NotAnImageError"),
    "floating point": (".tif", b"", "UnsupportedImageError"),
    "a path": (".jpg", b"folder/images/1.jpg", "NotAnImageError"),
    "another kind": (".psd", b"8BPS\0\1" + bytes(99), "UnsupportedImageError"),
    "RAW": (".nef", made.raw_photograph(made.MAKE, made.SUBIFDS), "UnsupportedImageError"),
}


def bad(kind: str) -> bytes:
    content = BAD[kind][1]
    file = io.BytesIO()
    if kind == "truncated":
        colour(0).resize((400, 400)).save(file, "JPEG")
        content = file.getvalue()[: len(file.getvalue()) // 2]
    elif kind == "floating point":
        Image.fromarray(np.random.default_rng(0).random((8, 8), np.float32)).save(file, "TIFF")
        content = file.getvalue()
    return content


@pytest.mark.parametrize("kind", BAD)
def test_every_door_names_a_bad_image(tmp_path: Path, kind: str) -> None:
    suffix, _, error = BAD[kind]
    paths = []
    for number in range(4):
        path = tmp_path / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        colour(number).save(path)
        paths.append(path)
    broken = tmp_path / "images" / f"9{suffix}"
    broken.write_bytes(bad(kind))
    contents = [path.read_bytes() for path in [*paths, broken]]
    sources: dict[str, Any] = {
        "folder": tmp_path / "images",
        "paths": [*paths, broken],
        "bytes": contents,
        "table": Dataset.from_table(
            pd.DataFrame({"path": [*map(str, paths), str(broken)]}), label_column=None
        ),
    }
    if kind == "RAW":  # beside readable images one note, and no bad file
        assert Dataset.from_folder(sources.pop("folder")).notes[0].startswith("1 RAW photograph ")
    if kind in ("truncated", "floating point"):  # Pillow itself opens no others
        sources["PIL images"] = [Image.open(io.BytesIO(content)) for content in contents]
    for door, source in sources.items():
        found = extract(source, on_error="skip")
        assert (len(found), [f.error for f in found.failures]) == (4, [error]), door
        with pytest.raises(BadImagesError, match=error):
            extract(source)
    if kind == "a path":
        with pytest.raises(BadImagesError, match=r"the path 'folder/images/1.jpg'.*path.decode"):
            extract([contents[-1]])


def test_the_command_line_is_a_door(tmp_path: Path) -> None:
    folder, cache = tmp_path / "pets", tmp_path / "cache"
    for number in range(12):
        path = folder / ("9" if number % 2 == 0 else "10") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour(number).save(path)
    (folder / "9" / "bad.png").write_bytes(b"no")
    options = ["-b", "mobilenet_v2", "--weights", "none", "--image-size", "32", "--cache"]
    model = tmp_path / "m.featx"
    run = CliRunner().invoke
    args = ["train", str(folder), *options, str(cache), "--out", str(model), "--head", "nearest"]
    refused = run(app, args)
    assert refused.exit_code == 1
    assert "bad.png" in refused.output
    assert run(app, [*args, "--on-error", "skip"]).exit_code == 0
    assert featx.load(model).classes_.tolist() == ["9", "10"]
    found = run(
        app,
        ["predict", str(model), str(folder), "--json", "--on-error", "skip", "--cache", str(cache)],
    )
    assert found.exit_code == 0, found.output
    answers = json.loads(found.stdout)
    for answer in answers:
        expected = None if "bad" in answer["image"] else Path(answer["image"]).parent.name
        assert answer["label"] == expected
    assert len(answers) == 13


def test_what_is_not_a_door_says_so() -> None:
    for source in (3, None, {"a": 1}, {1, 2}, (n for n in "ab")):
        with pytest.raises(DatasetError, match="a dataset cannot be made of"):
            extract(source)


@pytest.mark.skipif(importlib.util.find_spec("pi_heif") is None, reason="pip install '.[heic]'")
def test_every_door_takes_the_photographs_of_an_iphone(
    tmp_path: Path, served: ImageClassifier
) -> None:
    """The files were written without losses by an encoder that featx does not install."""
    paths = [HEIC / "upright.heic", HEIC / "upright.heic"]
    expected = extract([decoding.pixels(path) for path in paths]).X
    for door, dataset in doors(paths, None).items():
        np.testing.assert_allclose(extract(dataset).X, expected, rtol=1e-5, err_msg=door)
    folder = tmp_path / "heic" / "a"
    folder.mkdir(parents=True)
    (folder / "IMG_1.HEIC").write_bytes(paths[0].read_bytes())
    np.testing.assert_array_equal(extract(folder.parent).X, expected[:1])
    ((label, probability), *_) = served.predict_top_k(paths[0], 1)[0]
    (answer,) = Answers(served, 1).answer(paths[0].read_bytes())["top"]
    assert (answer["label"], answer["probability"]) == (label, pytest.approx(probability, abs=1e-3))
