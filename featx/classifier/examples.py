"""Training images that a model stores: their embeddings, and small copies to show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from sklearn.preprocessing import normalize

from featx.datasets.dataset import Dataset
from featx.datasets.items import Item
from featx.errors import ImageError, ModelFormatError
from featx.features import Features
from featx.images import decoding
from featx.images.thumbnails import thumbnail
from featx.labels import Label, as_targets, as_text


@dataclass(frozen=True, eq=False)
class Examples:
    """Training images with their embeddings.

    Attributes
    ----------
    embeddings : ndarray of shape (n, dim) and dtype float32
    ids : list of str
        As in the training set.
    labels : list of str, int, float or bool
        As in the training set, and as `classes_` has them.
    images : list of Path, bytes or None
        A file, or a small JPEG copy; None where there is none to show.
    of : int
        Images in the training set that these were chosen from.
    """

    embeddings: np.ndarray
    ids: list[str]
    labels: list[Label]
    images: list[Path | bytes | None]
    of: int

    def __len__(self) -> int:
        return len(self.ids)

    def with_copies(self) -> Examples:
        """Return the same examples with a small copy in place of each file that can be read."""
        return replace(
            self,
            images=[_copied(image) if isinstance(image, Path) else image for image in self.images],
        )

    def nearest(self, X: np.ndarray, k: int = 5) -> list[list[tuple[int, float]]]:
        """Return for each embedding the positions of the `k` examples nearest to it, nearest first.

        Returns
        -------
        list of list of (int, float)
            The number is the cosine of the angle between the embeddings: 1 for the same direction.
        """
        if not len(self):
            return [[] for _ in X]
        cosines = normalize(X) @ normalize(self.embeddings).T
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return [
            [(int(i), float(cosine[i])) for i in order]
            for order, cosine in zip(best, cosines, strict=True)
        ]


@dataclass(frozen=True)
class SmallCopy:
    """A small JPEG, as a model stores it."""

    jpeg: bytes


class CopiedInPassing:
    """A stream whose images are copied small as they pass, since it may not come again the same.

    Attributes
    ----------
    copies : dict of str to SmallCopy
        By the id that the image had in the latest pass.
    """

    def __init__(self, stream: Iterable[Item], *, wanted: bool = True) -> None:
        self._stream = stream
        self._wanted = wanted
        self._ids: list[str] = []
        self.copies: dict[str, SmallCopy] = {}

    def seen(self) -> Dataset:
        """Return the images of the latest pass, with nothing but their ids."""
        return Dataset([Item(id, None, b"") for id in self._ids])

    def __iter__(self) -> Iterator[Item]:
        self._ids.clear()
        self.copies.clear()
        for item in self._stream:
            self._ids.append(item.id)
            if self._wanted and (copy := _copied(item.source)) is not None:
                self.copies[item.id] = SmallCopy(copy)
            yield item


def sources_of(images: Dataset, ids: Sequence[str]) -> list[Any]:
    """Return the sources of the images with these ids, which are in the dataset's order."""
    sources: list[Any] = []
    for item in images:
        if len(sources) < len(ids) and item.id == ids[len(sources)]:
            sources.append(item.source)
    return sources


def choose(most: int, features: Features, labels: np.ndarray, sources: Sequence[Any]) -> Examples:
    """Return at most `most` examples, each class in its share; which ones does not vary.

    Parameters
    ----------
    sources : sequence of n Path, bytes, ndarray, SmallCopy or None
        What the images were; a path is stored as it is, and copied when the model is saved.
    """
    count = len(features)
    chosen = np.arange(count)
    if most < count:
        # Ordered by class, then every n-th: each class has its share, whatever the order.
        by_class = np.argsort(as_targets(labels), kind="stable")
        chosen = np.sort(by_class[np.linspace(0, count - 1, most).round().astype(int)])
    return Examples(
        np.array(features.X[chosen], np.float32),
        [_short(features.ids[i]) for i in chosen],
        labels[chosen].tolist(),
        # A path costs nothing to store; pixels and bytes are copied small at once.
        [_shown(sources[int(i)]) for i in chosen],
        count,
    )


def as_members(examples: Examples) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return examples as a model file holds them: arrays by member name, and strict JSON."""
    copies = [p if isinstance(p, bytes) else b"" for p in examples.images]
    ends = np.cumsum([len(copy) for copy in copies], dtype=np.int64)
    arrays = {
        "examples/embeddings.npy": examples.embeddings,
        "examples/images.npy": np.frombuffer(b"".join(copies), np.uint8),
        "examples/ends.npy": ends,
    }
    labels = [as_text(label) for label in examples.labels]
    return arrays, {"ids": examples.ids, "labels": labels, "of": examples.of}


def of_members(
    metadata: dict[str, Any], arrays: dict[str, np.ndarray], dim: int, classes: np.ndarray
) -> Examples:
    """Return the examples of a model file, their labels as its classes have them.

    Raises
    ------
    ModelFormatError
        They do not fit together.
    """
    embeddings, ends = arrays["examples/embeddings.npy"], arrays["examples/ends.npy"]
    blob = arrays["examples/images.npy"]
    ids, labels = metadata["ids"], metadata["labels"]
    lists = isinstance(ids, list) and isinstance(labels, list)
    fits = lists and all(isinstance(text, str) for text in (*ids, *labels))
    fits = fits and embeddings.shape == (len(ids), dim) and ends.shape == (len(ids),)
    known = {as_text(one): one for one in classes.tolist()}
    fits = fits and set(labels) <= known.keys()
    fits = fits and len(labels) == len(ids) <= int(metadata["of"])
    fits = fits and embeddings.dtype == np.float32 and blob.dtype == np.uint8 and blob.ndim == 1
    # Compared, not subtracted: a difference of int64 may wrap, and images then overlap.
    starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1] if fits else ends
    fits = fits and ends.dtype == np.int64 and bool((starts <= ends).all())
    if not fits or int(ends[-1] if len(ends) else 0) != len(blob):
        raise ModelFormatError("the examples are damaged.")
    images = [bytes(blob[a:b]) or None for a, b in zip(starts, ends, strict=True)]
    return Examples(
        embeddings, list(ids), [known[one] for one in labels], list(images), int(metadata["of"])
    )


def _short(name: str) -> str:
    """Return the last two parts of an absolute path: a model must not describe its machine."""
    path = PurePath(name)
    return "/".join(path.parts[-2:]) if path.is_absolute() else name


def _shown(source: Any) -> Path | bytes | None:
    if isinstance(source, SmallCopy):
        return source.jpeg
    return source if isinstance(source, Path) else _copied(source)


def _copied(source: Any) -> bytes | None:
    if source is None:
        return None
    try:
        return thumbnail(decoding.pixels(source))
    except ImageError:  # gone or changed since the training: the embedding is still an example
        return None
