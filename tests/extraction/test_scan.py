"""What a scan enters into its ledger, and what it gives the network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from featx.datasets.items import Item
from featx.errors import ImageError, ImageReadError, NotAnImageError
from featx.extraction.progress import ProgressBar
from featx.extraction.scan import MAX_BAD, Ledger, LookedUp, enter_all

PIXELS = np.zeros((2, 2, 3), np.uint8)
CACHED = b"c" * 32, None, True
FRESH = b"f" * 32, PIXELS, False
BAD = b"b" * 32, NotAnImageError("text"), False
KNOWN_BAD = b"k" * 32, NotAnImageError("text"), True
UNREADABLE = None, ImageReadError("gone"), False

Found = tuple[bytes | None, np.ndarray | ImageError | None, bool]


def entered(
    found: Iterable[Found], expected: int | None = None
) -> tuple[Ledger, list[tuple[str, bool, bool]]]:
    """Return the ledger, and of each miss its id, whether it has pixels and whether it counts."""
    ledger = Ledger(expected)
    looked_up = ((Item(str(i), None, b""), LookedUp(*each)) for i, each in enumerate(found))
    misses = enter_all(looked_up, ledger, ProgressBar(None, wanted=False))
    return ledger, [(entry.id, pixels is not None, entry.counted) for entry, pixels in misses]


def test_each_kind_of_image() -> None:
    ledger, misses = entered([CACHED, FRESH, BAD, KNOWN_BAD, UNREADABLE])
    assert ledger.ids == ["0", "1"]
    assert ledger.good == [CACHED[0], FRESH[0]]
    assert [failure.id for failure in ledger.failures] == ["2", "3", "4"]
    assert ledger.total == 5
    assert misses == [("1", True, True), ("2", False, False)]


def test_a_repeat_is_entered_and_not_computed_again() -> None:
    ledger, misses = entered([FRESH, FRESH, BAD, BAD])
    assert ledger.ids == ["0", "1"]
    assert [failure.id for failure in ledger.failures] == ["2", "3"]
    assert [id for id, *_ in misses] == ["0", "2"]


def test_another_file_of_the_same_content_keeps_its_place_and_does_not_count() -> None:
    def of(path: str, place: int) -> tuple[Item, LookedUp]:
        return Item(path, None, Path(path)), LookedUp(b"f" * 32, PIXELS, place=place)

    ledger = Ledger()
    found = [of("a", 0), of("b", 1), of("a", 2)]
    misses = list(enter_all(found, ledger, ProgressBar(None, wanted=False)))
    assert ledger.ids == ["a", "b", "a"]
    assert [(e.id, e.counted, e.place) for e, _ in misses] == [("a", True, 0), ("b", False, 1)]


def test_too_many_bad_images_end_it_after_the_last_of_them() -> None:
    found = [(bytes([i]) * 32, NotAnImageError("text"), False) for i in range(60)]
    ledger, misses = entered(found)
    assert len(misses) == ledger.total == MAX_BAD + 1
    assert ledger.too_many_bad()
    ledger, _ = entered(found, expected=1000)
    assert ledger.total == 51
