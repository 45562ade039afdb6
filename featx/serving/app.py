"""The web application: a page, one thing to post, and limits on both."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
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

from featx.errors import FeatxError, ImageError
from featx.images import worker
from featx.serving.answers import Answers
from featx.serving.forms import images_of
from featx.serving.metrics import Metrics
from featx.serving.openapi import openapi

logger = logging.getLogger(__name__)

MAX_BYTES = 16 << 20
"""The largest body that is accepted, in bytes."""

_UPLOAD_SECONDS = 30
# An image is decoded and computed in a fraction of a second. One that holds a decoder up is stopped
# at the limits of `images.worker`; what else takes longer holds a thread, and nobody else.
_ANSWER_SECONDS = 30
# Bodies of 16 MiB that are in memory at a time.
_UPLOADS = 32
_CONNECTIONS = 1000
_SHUTDOWN_SECONDS = 5
# After so many seconds who asked while the model was loading may ask again.
_RETRY_SECONDS = 2
LOADING = "featx-load"
"""The name of the thread that loads the model; nothing can stop it."""
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


class _Service:
    """What the server answers, apart from its pages.

    Attributes
    ----------
    answers : Answers or None
        None while the model is loading.
    """

    def __init__(self, answers: Answers | None, name: str) -> None:
        self.answers = answers
        # The name of a file may be any bytes.
        self._name = name.encode("utf-8", "backslashreplace").decode()
        self._metrics = Metrics()
        self._uploads = asyncio.Semaphore(_UPLOADS)

    def _loaded(self) -> Answers:
        if self.answers is None:
            raise HTTPException(
                503,
                f"the model is loading: ask again in {_RETRY_SECONDS} seconds",
                {"retry-after": str(_RETRY_SECONDS)},
            )
        return self.answers

    async def _answer(self, content: bytes, explain: bool) -> dict[str, Any]:
        began = time.perf_counter()
        # Its thread is left behind where it takes too long: it cannot be stopped.
        answers = self._loaded()
        work = to_thread.run_sync(answers.answer, content, explain, abandon_on_cancel=True)
        try:
            found = await asyncio.wait_for(work, _ANSWER_SECONDS)
        except ImageError as error:
            raise HTTPException(422, f"this image cannot be used: {error}") from error
        except TimeoutError as error:
            raise HTTPException(
                503, f"no answer within {_ANSWER_SECONDS} seconds for this image"
            ) from error
        self._metrics.images += 1
        self._metrics.seconds += time.perf_counter() - began
        return found

    async def _answered(self, request: Request) -> dict[str, Any]:
        # No page from elsewhere: a browser says so, whatever type the body has.
        if request.headers.get("sec-fetch-site") == "cross-site":
            raise HTTPException(403, "only this server's own page may ask from a browser")
        self._loaded()  # before the body is read
        explain = _explain(request)
        async with self._uploads:
            body = await _upload(request)
            files = images_of(body, request.headers.get("content-type", ""))
            if files is None or len(files) == 1:
                return await self._answer(body if files is None else files[0], explain)
            if explain:
                raise HTTPException(400, f"explain=1 is for one image; the form has {len(files)}")
            del body
            found: list[dict[str, Any]] = []
            for content in files:
                try:
                    found.append(await self._answer(content, explain=False))
                except HTTPException as error:
                    found.append({"error": error.detail})
            return {"images": found}

    async def predict(self, request: Request) -> Response:
        """Answer the posted image, or each image of the posted form."""
        try:
            found = JSONResponse(await self._answered(request))
        except HTTPException as error:
            self._metrics.requests[error.status_code] += 1
            raise
        self._metrics.requests[200] += 1
        return found

    async def metadata(self, request: Request) -> Response:
        """Say what the model is."""
        return JSONResponse({"name": self._name, **self._loaded().metadata()})

    async def health(self, request: Request) -> Response:
        """Say whether the server can answer images yet."""
        if self.answers is None:
            headers = {"retry-after": str(_RETRY_SECONDS)}
            return JSONResponse({"status": "loading"}, 503, headers)
        return JSONResponse({"status": "ok"})

    async def counts(self, request: Request) -> Response:
        """Return the counts."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def described(self, request: Request) -> Response:
        """Return the OpenAPI document."""
        return JSONResponse(openapi(self._name, MAX_BYTES))


def create_app(
    classifier: Any, *, k: int = 5, host: str = "127.0.0.1", name: str = "model"
) -> Starlette:
    """Return the application for a classifier, to be run by any ASGI server.

    `GET /` is the page. `POST /predict` accepts the bytes of an image or a form of images, at most
    16 MiB, and returns JSON: `top` and `near`; with `?explain=1` also images. `GET /metadata` names
    the classes, `/health` says that it answers, `/metrics` counts, `/openapi.json` describes all of
    it and `/api` shows that as a page.

    Parameters
    ----------
    classifier : ImageClassifier
        Fitted.
    k : int
        Number of classes, and of training images, in an answer.
    host : str
        The name or address that the server listens on. If only this machine reaches it, requests
        for other names are refused, so that a page from elsewhere cannot reach it by DNS rebinding.
    name : str
        What the model is called.

    Raises
    ------
    HeadError
        The head does not give probabilities.
    FeatureMismatchError
        The weights on this machine are not those the classifier was trained with.
    """
    return _application(_Service(Answers(classifier, k), name), host)


def _application(service: _Service, host: str) -> Starlette:
    pages = {"/": "page.html", "/api": "api.html"}
    pages |= {f"/{file}": file for file in ("page.js", "api.js", "page.css")}
    routes = [Route(path, _file(file)) for path, file in pages.items()]
    routes += [
        Route("/metadata", service.metadata),
        Route("/health", service.health),
        Route("/metrics", service.counts),
        Route("/openapi.json", service.described),
        Route("/predict", service.predict, methods=["POST"]),
    ]
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


def run(
    load: Callable[[], Any],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    k: int = 5,
    name: str = "model",
    announce: Callable[[], None] = lambda: None,
) -> None:
    """Serve until interrupted; requests that are answered then have 5 seconds left.

    The server listens at once. Until the model is loaded, `/health` and requests to predict are
    answered with 503.

    Parameters
    ----------
    load : callable
        Returns the fitted ImageClassifier; called in a thread of its own.
    host, port, k, name
        As in `create_app`, and the port to listen on.
    announce : callable
        Called once the port is ours.

    Raises
    ------
    FeatxError
        The port is in use, or the host is not one of this machine.
    Exception
        What `load` raised, or `create_app` would: the server ends with it.
    """
    import uvicorn

    from featx.serving.connections import DeadlineProtocol

    service = _Service(None, name)
    failed: list[BaseException] = []

    def make_ready() -> None:
        try:
            service.answers = Answers(load(), k)
            logger.info("the model is loaded")
        except BaseException as error:  # raised where the server was started
            failed.append(error)
            server.should_exit = True

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            threading.Thread(target=make_ready, name=LOADING, daemon=True).start()

    server = Server(
        uvicorn.Config(
            _application(service, host),
            host=host,
            port=port,
            http=DeadlineProtocol,
            log_level="warning",
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
    )
    sockets = _listening(host, port)
    announce()
    with suppress(KeyboardInterrupt):
        server.run(sockets)
    if failed:
        raise failed[0]


def _explain(request: Request) -> bool:
    """Return whether to explain the answer, the only thing that an address may ask for."""
    for name, value in request.query_params.multi_items():
        if name != "explain" or value not in ("0", "1"):
            raise HTTPException(400, f"?{name}={value} is not known: expected explain=1, or none")
    return request.query_params.get("explain") == "1"


def _listening(host: str, port: int) -> list[socket.socket]:
    """Return a socket on each address of a host that this machine has.

    uvicorn would log what went wrong, and end the process.
    """
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
        for family, address in addresses:
            try:
                made.append(socket.create_server(address, family=family, backlog=_CONNECTIONS))
            except OSError as error:
                # "localhost" names ::1 also where there is no IPv6.
                last = (family, address) == addresses[-1]
                if error.errno != errno.EADDRNOTAVAIL or (last and not made):
                    raise
        return made
    except OSError as error:
        for one in made:
            one.close()
        remedy = "is another server running there? Choose another port (--port)"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            remedy = "127.0.0.1 is this machine alone, 0.0.0.0 every address of it (--host)"
        elif error.errno in (errno.EACCES, errno.EPERM):
            remedy = "ports below 1024 are the administrator's; choose a higher one (--port)"
        raise FeatxError(
            f"cannot listen on port {port} of {host}: {error.strerror}; {remedy}."
        ) from error


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
    stated = request.headers.get("content-length", "0")
    if not stated.isascii() or not stated.isdigit() or int(stated) > MAX_BYTES:
        raise HTTPException(413, f"a body may have at most {MAX_BYTES:,} bytes")
    parts: list[bytes] = []

    async def read() -> None:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > MAX_BYTES:
                raise HTTPException(413, f"a body may have at most {MAX_BYTES:,} bytes")
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
