"""The digests of training images in a model: what they tell, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from featx.classifier.training_digests import MEMBER, among, compact, of_members
from featx.errors import ModelFormatError

DIGESTS = np.random.default_rng(0).integers(0, 256, (50, 32), dtype=np.uint8)


def test_images_are_found_by_their_first_bytes() -> None:
    kept = compact(np.concatenate([DIGESTS[:20], DIGESTS[:5]]))
    assert (kept.dtype, len(kept)) == (np.uint64, 20)
    assert int.from_bytes(DIGESTS[0, :8].tobytes(), "little") in kept.tolist()
    found = among(DIGESTS, kept)
    assert found is not None
    assert found.tolist() == [True] * 20 + [False] * 30
    np.testing.assert_array_equal(of_members({MEMBER: kept}, 20), kept)


def test_where_there_are_none_nothing_is_known() -> None:
    none = compact(None)
    assert len(none) == 0
    assert among(DIGESTS, none) is None
    assert among(None, compact(DIGESTS)) is None
    assert len(of_members({}, 20)) == 0


@pytest.mark.parametrize(
    "damaged",
    [
        np.array([2, 1], np.uint64),
        np.array([1, 1], np.uint64),
        np.array([1, 2], np.int64),
        np.array([[1, 2]], np.uint64),
        np.arange(9, dtype=np.uint64),
    ],
    ids=["unsorted", "twice", "signed", "of two dimensions", "more than images"],
)
def test_what_compact_never_returns_is_refused(damaged: np.ndarray) -> None:
    with pytest.raises(ModelFormatError, match="damaged"):
        of_members({MEMBER: damaged}, 8)
