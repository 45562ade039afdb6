"""Explanations of a prediction: training images like this one, and an activation map."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featx.backbones.backbone import find_backbone
from featx.classifier.activation_maps import Activation, Missing
from featx.classifier.examples import Examples
from featx.classifier.predictions import Prediction
from featx.images import decoding
from featx.images.thumbnails import thumbnail
from featx.labels import as_text

SHOWN = 224
"""Pixels of the longer edge of an image that is shown."""

AT_ONCE = 12
"""Images that the page shows at once; those after them are folded, so many at a time."""


# How featx knows its own files again: a comment of a JPEG, and one of the page.
_MADE = b"activation map of featx"
_MARK = b"\xff\xfe" + (len(_MADE) + 2).to_bytes(2, "big") + _MADE
_PAGE = b"<!-- made by featx predict -->"


@dataclass(frozen=True, eq=False)
class Near:
    """A training image near to one that is explained."""

    id: str
    label: str
    cosine: float
    image: bytes | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """The explanation of a prediction.

    Attributes
    ----------
    near : list of Near
        The nearest training images, nearest first.
    image : bytes or None
        A small JPEG of the image.
    activation : bytes or None
        The same JPEG with the places that count for the class in red.
    note : str
        Why there is no activation map; empty where there is one.
    """

    near: list[Near] = field(default_factory=list)
    image: bytes | None = None
    activation: bytes | None = None
    note: str = ""


class Explainer:
    """Explains the predictions of one classifier.

    Parameters
    ----------
    classifier : ImageClassifier
        Fitted.
    k : int
        Training images shown with a prediction.
    """

    def __init__(self, classifier: Any, k: int = 5) -> None:
        self.k = k
        self._classes = [str(name) for name in classifier.classes_]
        self._examples: Examples = classifier.examples_.with_copies()
        backbone = find_backbone(classifier.backbone)
        self._activation = Activation(backbone, classifier.head_)
        self._cropped = backbone.resize == "crop"

    def explain(self, source: Any, embedding: np.ndarray, label: str) -> Explanation:
        """Return the explanation of a class for an image.

        Parameters
        ----------
        source : Path, bytes, pixels or PIL image
        embedding : ndarray of shape (dim,)
        label : str
            The class that is explained, most often the predicted one.
        """
        found = self._activation.map(source, embedding, self._classes.index(label))
        pixels = decoding.pixels(source)
        shown, note = None, ""
        if isinstance(found, Missing):
            note = f"No activation map: {found.reason}."
        else:
            shown = thumbnail(_overlaid(pixels, found, self._cropped), SHOWN)
        return Explanation(self.near(embedding), thumbnail(pixels, SHOWN), shown, note)

    def near(self, embedding: np.ndarray) -> list[Near]:
        """Return the training images nearest to an embedding."""
        one = self._examples
        (found,) = one.nearest(embedding[None], self.k)
        images = [(p if isinstance(p := one.images[i], bytes) else None) for i, _ in found]
        return [
            Near(one.ids[i], as_text(one.labels[i]), cosine, image)
            for (i, cosine), image in zip(found, images, strict=True)
        ]


def save(
    explained: Iterable[tuple[Prediction, Explanation | None]], folder: str | os.PathLike[str]
) -> Path:
    """Write `index.html`, with all images inside it; return its path.

    The activation maps also stand beside it as JPEG files, numbered in the page's order. Those of
    an older page in the folder are removed, and no other file.

    Raises
    ------
    FileExistsError
        The folder holds files of these names that featx did not write.
    """
    folder = Path(folder)
    predictions = list(explained)
    older = check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for path in older:
        path.unlink()
    for number, (_, explanation) in enumerate(predictions, 1):
        if explanation is not None and explanation.activation is not None:
            jpeg = explanation.activation
            (folder / f"{number:05d}.jpg").write_bytes(jpeg[:2] + _MARK + jpeg[2:])
    page = folder / "index.html"
    text = _template().render(predictions=predictions, inline=inline, shown=AT_ONCE)
    page.write_text(text, encoding="utf-8", errors="backslashreplace")
    return page


def check_folder(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the activation maps that an older page left in a folder.

    Raises
    ------
    FileExistsError
        Files of their names, or a page, that featx did not write: they are left alone.
    """
    folder = Path(folder)
    maps = sorted(p for p in folder.glob("*.jpg") if re.fullmatch(r"\d{5,}", p.stem, re.ASCII))
    page = folder / "index.html"
    strange = [path for path in maps if not _starts(path, b"\xff\xd8" + _MARK)]
    if os.path.lexists(page) and not _starts(page, b"<!doctype html>\n" + _PAGE):
        strange.insert(0, page)
    if strange:
        raise FileExistsError(
            f"{strange[0]} was not written by featx, and was left alone; name another folder."
        )
    return maps


def _starts(path: Path, start: bytes) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(start)) == start


def inline(jpeg: bytes) -> str:
    """Return a JPEG as a data URL."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


@lru_cache(maxsize=1)
def _template() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    return jinja2.Environment(loader=loader, autoescape=True).get_template("explained.html")


def _overlaid(pixels: np.ndarray, weights: np.ndarray, cropped: bool) -> np.ndarray:
    """Return the image in grey, in red where the places count for the class.

    Where the image was cropped, they are of the square at its centre.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, SHOWN / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    heat = np.maximum(weights, 0) / max(float(weights.max()), 1e-12)
    seen = (min(size), min(size)) if cropped else size
    soft = Image.new("L", size)
    soft.paste(
        Image.fromarray((255 * heat).astype(np.uint8)).resize(seen, Image.Resampling.BICUBIC),
        ((size[0] - seen[0]) // 2, (size[1] - seen[1]) // 2),
    )
    share = 0.65 * np.asarray(soft, np.float32)[..., None] / 255
    grey = np.asarray(image.convert("L"), np.float32)[..., None]
    red = np.array([220, 30, 30], np.float32)
    return (grey * (1 - share) + red * share).astype(np.uint8)
