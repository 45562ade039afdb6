"""StratifiedFolds: as many folds as the smallest class can fill."""

from __future__ import annotations

import numpy as np
import pytest

from featx import heads


@pytest.mark.parametrize(
    ("counts", "folds"), [((10, 10), 5), ((10, 3), 3), ((10, 2), 2), ((10, 1), 2)]
)
def test_folds_follow_the_smallest_class(counts: tuple[int, ...], folds: int) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    splits = list(heads.StratifiedFolds(5).split(np.zeros((len(y), 1)), y))
    assert len(splits) == heads.StratifiedFolds(5).get_n_splits(None, y) == folds
    assert sorted(np.concatenate([valid for _, valid in splits])) == list(range(len(y)))
