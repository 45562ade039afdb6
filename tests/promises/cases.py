"""The table of bad inputs: what comes, and what featx must make of it.

The numbers are those of the reliability study's list, so that none is forgotten. A row is a
function that meets its case and says what came of it; `why` stands where featx decides otherwise
than that list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

HANDLED = "handled"

Meet = Callable[..., str | None]


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes
    ----------
    outcome : str
        "handled", or the name of the error, raised or in the ledger of failures.
    meet : callable
        Gets the fixtures that it names, and each of the `variants` in turn. What it returns is
        the outcome (nothing: handled), as is the error that it raises.
    says : str
        What the raised error's message must match.
    """

    id: int
    title: str
    outcome: str
    meet: Meet
    says: str = ""
    variants: Sequence[Any] = (None,)
    why: str = ""


CASES: dict[int, Case] = {}


def case(id: int, outcome: str = HANDLED, **more: Any) -> Callable[[Meet], Meet]:
    """Enter a function into the table; its name is the title unless one is given."""

    def enter(meet: Meet) -> Meet:
        assert id not in CASES, f"case {id} is in the table already"
        title = more.pop("title", meet.__name__)
        CASES[id] = Case(id, title, outcome, meet, **more)
        return meet

    return enter
