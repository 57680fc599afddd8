"""Web pages served to this machine only."""

import asyncio
import errno
import socket
import threading
from collections.abc import Sequence
from importlib.resources import files

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from egodepth.core.errors import EgodepthError
from egodepth.view.own_requests import REFUSAL, is_own_request

FIRST_PORT, TRIED_PORTS, LAST_PORT = 8765, 50, 65535
SECONDS_TO_FINISH = 1
"""Seconds that pending requests get to finish when the server stops."""
SECONDS_TO_REQUEST = 5
"""Seconds without data after which a connection is closed on which no request is being answered."""
HEADERS = [
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]
"""Headers of all responses: no copies, and nothing of it within a foreign page."""


class Server:
    """A server of routes on the loopback address, in its own thread once it is started.

    Attributes:
        address: URL of the page.
    """

    def __init__(self, routes: Sequence[BaseRoute], port: int | None = None):
        """Bind the port.

        Args:
            routes: routes to serve; a KeyError, ValueError or IndexError becomes 404 (not found).
            port: port to listen on; by default the first free one from FIRST_PORT.

        Raises:
            EgodepthError: the port is in use.
        """
        self._socket = _listen(port)
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        app = Starlette(
            routes=routes,
            middleware=[Middleware(_OwnRequests)],
            exception_handlers=dict.fromkeys((KeyError, ValueError, IndexError), _nothing_here),
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, log_config=None, log_level="error", access_log=False, lifespan="off",
                http=_Connection, ws="none", timeout_keep_alive=SECONDS_TO_REQUEST,
                timeout_graceful_shutdown=SECONDS_TO_FINISH,
            )
        )  # fmt: skip
        # Waited for instead of the thread, which Python considers finished after an interrupted join.
        self._ended = threading.Event()

    def start(self) -> None:
        """Start serving."""
        threading.Thread(target=self._run, daemon=True).start()

    def wait(self) -> None:
        """Wait until the user interrupts."""
        self._ended.wait()

    def stop(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._ended.wait()

    def _run(self) -> None:
        try:
            self._server.run([self._socket])
        finally:
            self._ended.set()


class _Connection(H11Protocol):
    """A connection that is closed when no whole request arrives: uvicorn would keep it forever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.timeout_keep_alive_task is None and (
            self.cycle is None or self.cycle.response_complete
        ):
            self._wait_for_request()

    def _wait_for_request(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


class _OwnRequests:
    """Middleware that answers only requests of the page itself, and adds :data:`HEADERS`."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += HEADERS
            await send(message)

        request = Request(scope)
        origins = request.headers.getlist("origin")
        foreign = request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
        # A link on a foreign page may open this one.
        followed = request.headers.get("sec-fetch-dest") == "document" and request.method == "GET"
        app = self._app
        if not is_own_request(request.headers.getlist("host"), origins) or (
            foreign and not followed
        ):
            app = PlainTextResponse(REFUSAL, 403)
        await app(scope, receive, send_with_headers)


def _nothing_here(request: Request, error: Exception) -> Response:
    return PlainTextResponse("there is nothing here", 404)


def html_page(name: str) -> HTMLResponse:
    """Load an HTML page of this package."""
    return HTMLResponse((files("egodepth.view") / name).read_bytes())


def _listen(port: int | None) -> socket.socket:
    if port is not None and not 0 <= port <= LAST_PORT:
        raise EgodepthError(f"--port must be between 0 and {LAST_PORT}, got {port}")
    candidates = range(FIRST_PORT, FIRST_PORT + TRIED_PORTS) if port is None else [port]
    reason = ""
    for candidate in candidates:
        try:
            return socket.create_server(("127.0.0.1", candidate))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            reason = "taken" if taken else f"refused ({error.strerror or error})"
    which = f"port {port} is" if port is not None else f"all ports from {FIRST_PORT} on are"
    raise EgodepthError(f"cannot serve the page: {which} {reason}; choose another by --port")
