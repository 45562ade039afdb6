"""Which mistakes to look at: the most confident, and the images that most methods get wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from featx.datasets.items import Item
from featx.errors import ImageError
from featx.evaluation.results import Predictions
from featx.images import decoding
from featx.images.thumbnails import encoded

# Of each kind: two rows of five on a wide page, five of two on a phone.
SHOWN = 10
SIDE = 200


def most_confident(answers: Predictions) -> list[int]:
    """Return the positions of the errors of one method, the most confident first."""
    wrong = np.flatnonzero(answers.y_true != answers.y_pred)
    if answers.proba is not None:
        wrong = wrong[np.argsort(-answers.proba[wrong].max(axis=1), kind="stable")]
    return [int(position) for position in wrong[:SHOWN]]


def worst(
    everyone: Sequence[Predictions], classes: Sequence[str], besides: Iterable[int] = ()
) -> list[int]:
    """Return the positions of the images that most methods get wrong.

    Among those that equally many get wrong, the least probability of the true class comes first,
    a mean over the methods that give one.

    Parameters
    ----------
    everyone : sequence of Predictions
        One prediction per method, all of the same images.
    besides : iterable of int
        Positions to leave out, since they are shown already.
    """
    wrong = np.sum([one.y_true != one.y_pred for one in everyone], axis=0)
    place = {name: column for column, name in enumerate(classes)}
    true = np.asarray([place[str(name)] for name in everyone[0].y_true])
    rows = np.arange(len(true))
    claimed = [one.proba[rows, true] for one in everyone if one.proba is not None]
    trust = np.mean(claimed, axis=0) if claimed else np.zeros(len(true))
    order = np.lexsort((trust, -wrong))
    left = set(besides)
    return [int(n) for n in order if wrong[n] and int(n) not in left][:SHOWN]


def images(items: Sequence[Item], positions: Iterable[int]) -> dict[int, bytes]:
    """Return small JPEGs of the images at these positions; one that is gone is left out."""
    found = {}
    for position in positions:
        try:
            pixels = decoding.thumbnail(items[position].source, SIDE)
        except ImageError:
            continue
        found[position] = encoded(Image.fromarray(pixels), 78)
    return found
