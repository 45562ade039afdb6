"""Whether a class can be told from the file alone: its format, its size in pixels, its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from featx.datasets.items import Item
from featx.images import decoding

# A warning is due where so much more of a class is found than others are taken for it (Youden's
# index, 1950: 0 for guessing, 1 for certainty).
WARNED = 0.5
# Fewer images of a class than this cannot be told from chance.
FEWEST = 10


@dataclass(frozen=True)
class Shortcut:
    """Something about the files that tells the class without a look at a pixel.

    Attributes
    ----------
    what : str
        "file format", "size in pixels" or "folder".
    label : str
        The class that it gives away most.
    found, mistaken : float
        Share of that class which a small decision tree finds by it alone, cross-validated, and
        share of the other images which it takes for that class.
    example : str
        The most telling value, in words.
    """

    what: str
    label: str
    found: float
    mistaken: float
    example: str

    @property
    def strength(self) -> float:
        """Youden's index: 0 for guessing, 1 for certainty."""
        return self.found - self.mistaken


def shortcuts(items: Sequence[Item], labels: Sequence[str]) -> list[Shortcut]:
    """Return what about the files predicts the class, the strongest first.

    Classes with fewer than `FEWEST` images are left out. A network that learns the camera, the
    scanner or the download instead of the object scores well on such images and fails elsewhere
    (Geirhos et al. 2020, "Shortcut Learning in Deep Neural Networks").
    """
    counts = Counter(labels)
    kept = [n for n, label in enumerate(labels) if counts[label] >= FEWEST]
    y = np.asarray([labels[n] for n in kept], dtype=str)
    if len(np.unique(y)) < 2:
        return []
    facts = [_header(items[n]) for n in kept]
    formats = [fact[0] for fact in facts]
    sizes = [(fact[1], fact[2]) for fact in facts]
    folders = [_folder(items[n]) for n in kept]
    found = [
        _judged("file format", _one_hot(formats), formats, y),
        _judged("size in pixels", np.asarray(sizes, float), [f"{w} x {h}" for w, h in sizes], y),
        _judged("folder", _one_hot(folders), folders, y),
    ]
    worth = [one for one in found if one is not None and one.strength >= WARNED]
    return sorted(worth, key=lambda one: -one.strength)


def _judged(what: str, X: np.ndarray, names: list[str], y: np.ndarray) -> Shortcut | None:
    if X.shape[1] == 0 or not np.ptp(X, axis=0).any():
        return None
    tree = DecisionTreeClassifier(
        max_depth=12, min_samples_leaf=3, class_weight="balanced", random_state=0
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    predicted = cross_val_predict(tree, X, y, cv=folds)
    found = [
        Shortcut(
            what,
            str(label),
            float(np.mean(predicted[y == label] == label)),
            float(np.mean(predicted[y != label] == label)),
            _example(names, y, str(label)),
        )
        for label in np.unique(y)
    ]
    return max(found, key=lambda one: one.strength)


def _example(names: list[str], y: np.ndarray, label: str) -> str:
    """Return the value that singles the class out: most images of it, fewest of others."""
    inside = Counter(name for name, own in zip(names, y, strict=True) if own == label)
    everywhere = Counter(names)
    size, rest = inside.total(), max(1, len(y) - inside.total())
    name = max(inside, key=lambda n: inside[n] / size - (everywhere[n] - inside[n]) / rest)
    return f"{name}: {inside[name]} of {everywhere[name]} are {label}, which has {size}"


def _one_hot(values: Sequence[str]) -> np.ndarray:
    """Return a column for each value that ten images or more share."""
    common = sorted(value for value, count in Counter(values).items() if count >= FEWEST)
    return np.asarray([[value == one for one in common] for value in values], float).reshape(
        len(values), len(common)
    )


def _header(item: Item) -> tuple[str, int, int]:
    """Return format and colour mode, width and height; read from the header alone."""
    try:
        return decoding.header(item.source)
    except Exception:  # it had an embedding once; extraction will name what it is now
        return "unreadable", 0, 0


def _folder(item: Item) -> str:
    """Return the image's folder, the one that names its class left out."""
    parts = PurePosixPath(item.id).parts[:-1]
    return "/".join(part for part in parts if part != item.label)
