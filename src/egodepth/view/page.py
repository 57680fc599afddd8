"""Web pages served to this machine only."""

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

from egodepth.core.errors import EgodepthError

FIRST_PORT, TRIED_PORTS, LAST_PORT = 8765, 50, 65535
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
SECONDS_TO_FINISH = 1
"""Seconds that pending requests get to finish when the server stops."""


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
            middleware=[Middleware(_ForThisMachine)],
            exception_handlers=dict.fromkeys((KeyError, ValueError, IndexError), _nothing_here),
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off",
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


class _ForThisMachine:
    """Middleware that only accepts requests addressed to this host, and forbids caching."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_fresh(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        app = self._app
        if Request(scope).url.hostname not in LOCAL_NAMES:
            app = PlainTextResponse("this page is for this machine alone", 403)
        await app(scope, receive, send_fresh)


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
