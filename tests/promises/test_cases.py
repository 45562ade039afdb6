"""Cases 1-106 of the reliability study, as one table: each input meets its expected outcome."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from featx.errors import FeatxError
from tests.promises import cache_cases, dataset_cases, file_cases  # noqa: F401  (they enter theirs)
from tests.promises.cases import CASES, HANDLED, Case
from tests.promises.content_cases import MAX_RSS_MB, MAX_SECONDS, READINGS
from tests.promises.isolated import Reader

ROWS = [
    pytest.param(case, variant, id=f"{case.id}-{case.title.replace(' ', '_')}-{number}")
    for _, case in sorted(CASES.items())
    for number, variant in enumerate(case.variants)
]


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a data set of classes a and b with a good image each."""
    for seed, label in enumerate("ab", start=1):
        (tmp_path / "d" / label).mkdir(parents=True)
        (tmp_path / "d" / label / "good.png").write_bytes(file_cases.other(seed))
    return tmp_path / "d"


def test_every_case_has_its_row() -> None:
    """Once each: `case` refuses a number that it has."""
    assert sorted(CASES) == list(range(1, 107))
    assert all(
        case.outcome in (HANDLED, cache_cases.QUARANTINED) or case.outcome.endswith("Error")
        for case in CASES.values()
    )


@pytest.mark.parametrize(("case", "variant"), ROWS)
def test_case(case: Case, variant: Any, request: pytest.FixtureRequest) -> None:
    wanted = inspect.signature(case.meet).parameters
    given = {name: request.getfixturevalue(name) for name in wanted if name != "variant"}
    if "variant" in wanted:
        given["variant"] = variant
    try:
        outcomes, said = [case.meet(**given) or HANDLED], case.says
    except (FeatxError, ValueError) as error:
        outcomes, said = [kind.__name__ for kind in type(error).__mro__], str(error)
    assert case.outcome in outcomes
    assert said == case.says or re.search(case.says, said)


def test_figures_of_the_readings(note: Callable[..., None]) -> None:
    """T13 for RESULTS.md; each reading was held to the same limits when it was made."""
    if not READINGS:
        pytest.skip("no case was read")
    assert max(reading["seconds"] for reading in READINGS) < MAX_SECONDS
    assert max(reading["rss_mb"] for reading in READINGS) < MAX_RSS_MB
    note(
        "T13",
        files=len(READINGS),
        slowest=round(max(reading["seconds"] for reading in READINGS), 2),
        most_mb=round(max(reading["rss_mb"] for reading in READINGS)),
    )
