"""An object store that fails on purpose, in the place of the client that featx's cache asks."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("obstore")

from obstore import exceptions as raised
from obstore.store import MemoryStore


class KilledError(BaseException):
    """The process ended at a request: what it asked next never left it."""


@dataclass
class Faults:
    """How often what goes wrong, as shares of the requests.

    Attributes
    ----------
    failed : float
        503: the request is refused and does nothing.
    lost : float
        A put or a delete is done, and its answer never comes.
    conflict : float
        409: a put on a condition is refused because of another one, and nothing is written.
    ignored : bool
        Whether the condition of a put is ignored: it replaces what is there.
    stale : float
        A listing lacks what was written since the one before.
    slow : float
        Seconds that a listing takes.
    end_at : int, optional
        The request at which the process ends, counted from 0.
    """

    failed: float = 0.0
    lost: float = 0.0
    conflict: float = 0.0
    ignored: bool = False
    stale: float = 0.0
    slow: float = 0.0
    end_at: int | None = None


@dataclass
class Service:
    """The client of one process, of a store in memory that several share."""

    store: MemoryStore
    faults: Faults = field(default_factory=Faults)
    seed: int = 0

    def __post_init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._chance = random.Random(self.seed)
        self._lock = threading.Lock()
        self._listed: dict[str | None, list[Any]] = {}

    def put(self, path: str, file: bytes, *, mode: Any, use_multipart: bool) -> Any:
        assert not use_multipart
        if mode != "overwrite" and self._happens(self.faults.conflict):
            raise raised.AlreadyExistsError("409")
        if self.faults.ignored:
            mode = "overwrite"
        return self._answer(
            "put", lambda: self.store.put(path, file, mode=mode, use_multipart=False), lossy=True
        )

    def get(self, path: str) -> Any:
        return self._answer("get", lambda: self.store.get(path))

    def get_range(self, path: str, *, start: int, length: int) -> Any:
        return self._answer(
            "get_range", lambda: self.store.get_range(path, start=start, length=length)
        )

    def head(self, path: str) -> Any:
        return self._answer("head", lambda: self.store.head(path))

    def list(self, prefix: str | None = None) -> Iterable[Sequence[Any]]:
        time.sleep(self.faults.slow)

        def pages() -> list[Any]:
            now = list(self.store.list(prefix))
            before = self._listed.get(prefix)
            self._listed[prefix] = now
            return before if before is not None and self._happens(self.faults.stale) else now

        return self._answer("list", pages)

    def list_with_delimiter(self, prefix: str | None = None) -> Any:
        return self._answer("list_with_delimiter", lambda: self.store.list_with_delimiter(prefix))

    def delete(self, paths: str) -> None:
        self._answer("delete", lambda: self.store.delete(paths), lossy=True)

    def _answer(self, name: str, work: Callable[[], Any], *, lossy: bool = False) -> Any:
        with self._lock:
            number = self.asked.total()
            self.asked[name] += 1
        if self.faults.end_at is not None and number >= self.faults.end_at:
            # Half of those that die have had their last request done.
            if number == self.faults.end_at and lossy and self._happens(0.5):
                work()
            raise KilledError
        if self._happens(self.faults.failed):
            raise raised.GenericError("status code: 503 Service Unavailable")
        answer = work()
        if lossy and self._happens(self.faults.lost):
            raise raised.GenericError("connection reset by peer")
        return answer

    def _happens(self, share: float) -> bool:
        with self._lock:
            return self._chance.random() < share
