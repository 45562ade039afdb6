"""HTTP connections with a deadline: one that asks for nothing is closed."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10.0
"""Within so many seconds the head of a request must come, or the connection is closed."""


class DeadlineProtocol(H11Protocol):
    """uvicorn's HTTP connection, closed where no whole head of a request comes in time.

    uvicorn itself waits for the first request for as long as a client likes, and for the next one
    as long as single bytes of it arrive.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came; between two requests, begin to wait for the rest of the next one."""
        super().data_received(data)
        if self._is_answering():
            self._end_wait()
        elif self._deadline is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the wait with the connection."""
        self._end_wait()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self._close_if_silent)

    def _end_wait(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_if_silent(self) -> None:
        self._deadline = None
        if not self._is_answering() and not self.transport.is_closing():
            self.transport.close()
