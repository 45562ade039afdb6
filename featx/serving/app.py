"""The web application: a page, one thing to post, and limits on both."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featx.errors import ImageError
from featx.images import worker
from featx.serving.answers import Answers

logger = logging.getLogger(__name__)

MAX_BYTES = 16 << 20
"""The largest image that is accepted, in bytes."""

TYPES = frozenset(
    f"image/{kind}"
    for kind in (
        "jpeg", "png", "webp", "bmp", "gif", "tiff", "avif", "heic", "heif", "jp2", "jpx",
        "x-portable-anymap", "x-portable-bitmap", "x-portable-graymap", "x-portable-pixmap",
    )
) | {"application/octet-stream"}  # fmt: skip
"""The content types that are accepted; the bytes decide what an image is."""

_UPLOAD_SECONDS = 30
# An image is decoded and computed in a fraction of a second. One that holds a decoder up is stopped
# at the limits of `images.worker`; what else takes longer holds a thread, and nobody else.
_ANSWER_SECONDS = 30
# Bodies of 16 MiB that are in memory at a time.
_UPLOADS = 32
_CONNECTIONS = 1000
_SHUTDOWN_SECONDS = 5
_LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
_HERE = Path(__file__).parent
_HEADERS = {
    # Nothing from elsewhere, and no script or style but the page's own two files.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class _SecurityHeaders:
    """Middleware that adds headers which restrict a browser to what the page needs."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                others = [(k, v) for k, v in message["headers"] if k.decode() not in _HEADERS]
                message["headers"] = others + added
            await send(message)

        await self.app(scope, receive, with_headers)


def create_app(classifier: Any, *, k: int = 5, host: str = "127.0.0.1") -> Starlette:
    """Return the application for a classifier, to be run by any ASGI server.

    `GET /` is the page. `POST /predict` accepts the bytes of an image, at most 16 MiB, and returns
    JSON: `top` and `near`; with `?explain=1` also images. `GET /metadata` names the classes.

    Parameters
    ----------
    classifier : ImageClassifier
        Fitted.
    k : int
        Number of classes, and of training images, in an answer.
    host : str
        The name or address that the server listens on. If only this machine reaches it, requests
        for other names are refused, so that a page from elsewhere cannot reach it by DNS rebinding.

    Raises
    ------
    HeadError
        The head does not give probabilities.
    FeatureMismatchError
        The weights on this machine are not those the classifier was trained with.
    """
    answers = Answers(classifier, k)
    uploads = asyncio.Semaphore(_UPLOADS)

    async def predict(request: Request) -> Response:
        explain = request.query_params.get("explain") == "1"
        async with uploads:
            content = await _upload(request)
            # Its thread is left behind where it takes too long: it cannot be stopped.
            work = to_thread.run_sync(answers.answer, content, explain, abandon_on_cancel=True)
            try:
                return JSONResponse(await asyncio.wait_for(work, _ANSWER_SECONDS))
            except ImageError as error:
                raise HTTPException(422, f"this image cannot be used: {error}") from error
            except TimeoutError as error:
                raise HTTPException(
                    503, f"no answer within {_ANSWER_SECONDS} seconds for this image"
                ) from error

    async def metadata(request: Request) -> Response:
        return JSONResponse(answers.metadata())

    pages = {"/": "page.html", "/page.js": "page.js", "/page.css": "page.css"}
    routes = [Route(path, _file(name)) for path, name in pages.items()]
    routes += [Route("/metadata", metadata), Route("/predict", predict, methods=["POST"])]
    known = [*_LOOPBACK, host.casefold()] if is_loopback(host) else ["*"]
    return Starlette(
        routes=routes,
        lifespan=_until_shutdown,
        middleware=[
            Middleware(_SecurityHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=known, www_redirect=False),
        ],
        exception_handlers={HTTPException: _refusal, Exception: _failure},
    )


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server that listens on this name or address.

    >>> [is_loopback(host) for host in ("127.0.0.2", "LOCALHOST", "[::1]", "0.0.0.0", "a.org")]
    [True, True, True, False, False]
    """
    name = host.strip("[]").casefold().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def run(classifier: Any, *, host: str = "127.0.0.1", port: int = 8000, k: int = 5) -> None:
    """Serve until interrupted; requests that are answered then have 5 seconds left.

    Raises
    ------
    OSError
        The port is in use.
    """
    import uvicorn

    from featx.serving.connections import DeadlineProtocol

    uvicorn.run(
        create_app(classifier, k=k, host=host),
        host=host,
        port=port,
        http=DeadlineProtocol,
        log_level="warning",
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )


@asynccontextmanager
async def _until_shutdown(app: Starlette) -> AsyncIterator[None]:
    yield
    worker.close()  # what is being decoded now is given up


def _file(name: str) -> Any:
    async def page(request: Request) -> Response:
        return FileResponse(_HERE / name)

    return page


async def _upload(request: Request) -> bytes:
    """Return the body of a request; no more than the limit is read."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in TYPES:
        raise HTTPException(415, f"expected one of {', '.join(sorted(TYPES))} as content-type")
    stated = request.headers.get("content-length", "0")
    if not stated.isascii() or not stated.isdigit() or int(stated) > MAX_BYTES:
        raise HTTPException(413, f"an image may have at most {MAX_BYTES:,} bytes")
    parts: list[bytes] = []

    async def read() -> None:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > MAX_BYTES:
                raise HTTPException(413, f"an image may have at most {MAX_BYTES:,} bytes")
            parts.append(part)

    try:
        await asyncio.wait_for(read(), _UPLOAD_SECONDS)
    except (TimeoutError, ClientDisconnect) as error:
        raise HTTPException(408, f"no complete image within {_UPLOAD_SECONDS} seconds") from error
    return b"".join(parts)


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _failure(request: Request, error: Exception) -> Response:
    # The reason is only logged: it may name paths of this machine.
    logger.error("a request failed", exc_info=error)
    return JSONResponse({"error": "the server failed; see its log"}, 500)
