"""Which images train and which test: the same for every method, checked before any work."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from featx.datasets import content, places
from featx.datasets.dataset import Dataset
from featx.datasets.parts import Folder, inner_folder, parts_of
from featx.datasets.table import is_table
from featx.datasets.tree import TreeFolder
from featx.errors import DatasetError
from featx.evaluation.results import Images, SkippedImage
from featx.features import Features
from featx.formatting import capitalized, counted
from featx.labels import as_text, class_order, labels_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class EmbeddedImages:
    """A labelled data set and its features: the same images in the same order.

    Attributes
    ----------
    groups : ndarray of str objects, shape (n,), or None
        The group of each image, such as its patient; None where none were given.
    """

    images: Dataset
    features: Features
    groups: np.ndarray | None = None

    @property
    def labels(self) -> np.ndarray:
        """The label of each image, shape (n,)."""
        return labels_of(self.features.y)


@dataclass(frozen=True, eq=False)
class Split:
    """One training and test set, as features for the heads and as images for the baseline.

    Attributes
    ----------
    fold : int or None
        From 1; None where a test set was given.
    positions : ndarray of int, shape (n_test,)
        Where the test images stand among all that are tested.
    groups : ndarray of str objects, shape (n_train,), or None
        The groups of the training images, for heads that hold some of them out.
    """

    fold: int | None
    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    positions: np.ndarray
    train: Dataset
    test: Dataset
    groups: np.ndarray | None = None


def parts(train: Any, test: Any, *, progress: bool = False) -> tuple[Any, Any, list[str]]:
    """Return what trains and what tests of a folder or archive that holds both, and a note on it.

    What is not such a folder comes back as it is, and so does `train` where `test` is given.
    """
    if test is not None or not isinstance(train, str | Path) or is_table(train):
        return train, test, []
    opened = places.folders_at(train, progress=progress)
    if opened is None and not Path(train).is_dir():
        return train, test, []
    folder: Folder = Path(train)
    if opened is not None:
        if len(opened) > 1:
            return train, test, []
        train = folder = opened[0]
    found = parts_of(inner_folder(folder))
    if found is None:
        return train, test, []
    for note in found.notes():
        logger.warning("%s", note)
    return found.train, found.test, found.notes()


def named(dataset: Dataset, notes: Sequence[str] = ()) -> Dataset:
    """Return the images with their labels as text: a report speaks of class names alone."""
    items = [
        replace(item, label=as_text(item.label)) if isinstance(item.label, int | float) else item
        for item in dataset.items
    ]
    return Dataset(items, (*notes, *dataset.notes), dataset.location)


def check(train: Dataset, test: Dataset | None, folds: int) -> None:
    """Raise DatasetError where these labels cannot be compared on.

    Raises
    ------
    DatasetError
        No labels; one class only; a class of the test set that the training set lacks; without a
        test set, a class with fewer images than folds.
    """
    classes = Counter(map(str, labels_of(train.labels, "the training set has")))
    if len(classes) < 2:
        raise DatasetError(
            f"the training set has one class only, {next(iter(classes))!r}; a comparison needs at "
            "least two. A folder data set has one sub-folder per class: did you mean the "
            "parent folder?"
        )
    if test is None:
        _check_folds(classes, folds)
        return
    unseen = class_order({*map(str, labels_of(test.labels, "the test set has"))} - {*classes})
    if unseen:
        raise DatasetError(
            f"the test set has {counted(len(unseen), 'class', 'classes')} that the training set "
            f"lacks: {_listed(unseen)}. The training set has: {_listed(class_order(classes))}. "
            "Give both sets the same class names, or leave those images out."
        )


def _check_folds(classes: Counter[str], folds: int) -> None:
    if folds < 2:
        raise DatasetError(f"folds must be 2 or more where no test set is given; got {folds}.")
    small = [f"{name!r} ({n})" for name, n in sorted(classes.items()) if n < folds]
    if small:
        raise DatasetError(
            f"{folds}-fold cross-validation needs {folds} images of every class; too few of: "
            f"{_listed(small)}. Add images, leave the class out, pass folds="
            f"{max(2, min(classes.values()))}{'' if min(classes.values()) > 1 else ' (and more)'}"
            ", or give a test set."
        )


def _listed(names: list[str], shown: int = 20) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def without_failures(dataset: Dataset, features: Features) -> Dataset:
    """Return the images that were embedded, so that the baseline sees the same ones."""
    bad = {failure.id for failure in features.failures}
    if not bad:
        return dataset
    return dataset.subset([number for number, name in enumerate(dataset.ids) if name not in bad])


def groups_without_failures(
    groups: np.ndarray | None, dataset: Dataset, features: Features
) -> np.ndarray | None:
    """Return the groups of the images that were embedded."""
    bad = {failure.id for failure in features.failures}
    if groups is None or not bad:
        return groups
    return groups[[name not in bad for name in dataset.ids]]


def splits(
    train: EmbeddedImages,
    test: EmbeddedImages | None,
    folds: int,
    seed: int,
    *,
    groups: np.ndarray | None = None,
) -> Iterator[Split]:
    """Yield the one split of a test set, or `folds` stratified splits shuffled by `seed`.

    Folds never divide the groups that the images have of their own.

    Parameters
    ----------
    groups : ndarray of int, shape (n,), optional
        Copies of one image, which are not divided between folds either, where that can be.
    """
    X, y = train.features.X, train.labels
    if test is not None:
        positions = np.arange(len(test.images))
        yield Split(
            None,
            X,
            y,
            test.features.X,
            test.labels,
            positions,
            train.images,
            test.images,
            train.groups,
        )
        return
    cuts = folds_of(y, folds, seed, groups, train.groups)
    for number, (fit, score) in enumerate(cuts, start=1):
        yield Split(
            number,
            X[fit],
            y[fit],
            X[score],
            y[score],
            score,
            train.images.subset(list(fit)),
            train.images.subset(list(score)),
            None if train.groups is None else train.groups[fit],
        )


def check_groups(y: np.ndarray, groups: np.ndarray, folds: int) -> None:
    """Raise DatasetError where images with these labels and groups cannot be folded by group.

    Parameters
    ----------
    groups : ndarray of str objects, shape (n,)
    """
    names = np.unique(groups)
    if len(names) < folds:
        remedy = f"pass folds={len(names)}" if len(names) > 1 else "give images of more groups"
        there = f"there {'is' if len(names) == 1 else 'are'} {len(names)}"
        raise DatasetError(
            f"{folds}-fold cross-validation by group needs {folds} groups, and {there} "
            f"({_listed([str(name) for name in names], 5)}). "
            f"{capitalized(remedy)}, or give a test set."
        )
    labels = y.astype(str)
    lonely = {
        str(label): found[0]
        for label in np.unique(labels)
        if len(found := np.unique(groups[labels == label])) < 2
    }
    if lonely:
        listed = _listed([f"{label!r} (all in {group!r})" for label, group in lonely.items()], 5)
        raise DatasetError(
            f"by group a class must be in two groups or more, one that trains and one that is "
            f"tested; not so: {listed}. Add images of other groups, leave the class out, or give a "
            "test set."
        )


# How often folds by group are drawn until each class trains in every one.
_DRAWS = 100


def group_folds(
    y: np.ndarray, folds: int, seed: int, groups: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return positions that train and that are scored, per fold, no group in two of them.

    Raises
    ------
    DatasetError
        As `check_groups`, or where no such folds are found in which every class trains each time.
    """
    check_groups(y, groups, folds)
    labels, nothing = y.astype(str), np.zeros(len(y))
    for draw in range(_DRAWS):
        # The first draw is that of the seed itself; seeds of users are small.
        state = seed if draw == 0 else seed + 1_000_003 * draw
        cut = StratifiedGroupKFold(folds, shuffle=True, random_state=state)
        with warnings.catch_warnings():
            # A class with fewer images than folds was named before.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            found = list(cut.split(nothing, labels, groups))
        if all(len(score) and set(labels[score]) <= set(labels[fit]) for fit, score in found):
            return found
    raise DatasetError(
        f"no {folds} folds by group were found in which every class trains each time: the classes "
        "are in too few groups. Pass fewer folds, or give a test set."
    )


def folds_of(
    y: np.ndarray,
    folds: int,
    seed: int,
    groups: np.ndarray | None = None,
    given: np.ndarray | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return positions that train and that are scored, per fold; groups stay together.

    Parameters
    ----------
    groups : ndarray of int, shape (n,), optional
        Copies of one image; they are divided where they cannot be kept together.
    given : ndarray of shape (n,), optional
        Groups that the user named; they are never divided.

    Raises
    ------
    DatasetError
        The groups given are too few.
    """
    if given is not None:
        check_groups(y, given, folds)
        both = joined_groups(given, groups)
        try:
            return group_folds(y, folds, seed, both)
        except DatasetError:
            # Copies may tie all groups together; the groups themselves are what was asked for.
            return group_folds(y, folds, seed, given)
    nothing = np.zeros(len(y))
    if groups is None or not folds <= len(np.unique(groups)) < len(groups):
        plain = StratifiedKFold(folds, shuffle=True, random_state=seed)
        return list(plain.split(nothing, y))
    together = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    found = list(together.split(nothing, y, groups))
    # Copies of one image may be all there is of a class: a class that never trains, or an empty
    # fold, is worse than copies on both sides.
    if all(len(score) and set(y[score]) <= set(y[fit]) for fit, score in found):
        return found
    return folds_of(y, folds, seed)


def joined_groups(first: np.ndarray, second: np.ndarray | None) -> np.ndarray:
    """Return groups (n,) of int that divide none of both.

    Images of one patient stay together, and so do those of two patients who share an image.
    """
    one = np.unique(first, return_inverse=True)[1]
    if second is None:
        return one
    two = np.unique(second, return_inverse=True)[1] + one.max() + 1
    size = int(two.max()) + 1
    links = coo_array((np.ones(len(one)), (one, two)), shape=(size, size))
    return connected_components(links, directed=False)[1][one]


def classes_of(train: EmbeddedImages) -> tuple[str, ...]:
    """Return the names of the classes that train, in order: the columns of all probabilities."""
    return tuple(class_order(train.labels.tolist()))


def describe(
    names: tuple[str, str | None],
    train: EmbeddedImages,
    test: EmbeddedImages | None,
    folds: int,
    networks: Sequence[str] = (),
) -> Images:
    """Return what the report says of the images: counts per class, skipped ones, notes.

    `networks` are notes on the networks, which belong to neither part.
    """
    parts = [("train", train)] + ([] if test is None else [("test", test)])
    scored = train if test is None else test
    n_train, n_test = (Counter(map(str, one.labels)) for one in (train, scored))
    classes = classes_of(train)
    absent = [name for name in classes if n_test[name] == 0]
    notes = list(networks) + [
        f"{part} set: {note}" if test is not None else note
        for part, one in parts
        for note in one.features.notes
        if note not in networks
    ]
    if absent:
        notes.append(f"No test image of: {_listed(absent)}; their recall is not known.")
    return Images(
        train=names[0],
        test=names[1],
        folds=0 if test is not None else folds,
        classes=classes,
        n_train={name: n_train[name] for name in classes},
        n_test={name: n_test[name] for name in classes},
        skipped=tuple(
            SkippedImage(part, failure) for part, one in parts for failure in one.features.failures
        ),
        notes=tuple(notes),
        content=content.contents(scored.images.items),
    )


def name_of(source: Any) -> str:
    """Return what to call a data set: its path where it has one, else its kind and size.

    >>> name_of("flowers/train")
    'flowers/train'
    """
    if isinstance(source, TreeFolder) or places.scheme_of(source) is not None:
        return str(source)
    if isinstance(source, (str, Path)):
        return Path(source).as_posix()
    if isinstance(source, Dataset) and source.location is not None:
        return str(source.location)
    size = f" of {len(source)} images" if hasattr(source, "__len__") else ""
    return f"{type(source).__name__}{size}"
