"""Pages for this machine alone."""

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
"""For requests that are under way when the server stops."""


class Server:
    """Serves routes on the loopback address, in a thread of its own, once it is started.

    Attributes:
        address: to open in a browser.
    """

    def __init__(self, routes: Sequence[BaseRoute], port: int | None = None):
        """Take the port.

        Args:
            routes: what is served; a KeyError, ValueError or IndexError is a page that is not there.
            port: by default the first free one from FIRST_PORT on.

        Raises:
            EgodepthError: a port that is taken.
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
        # Waited for in place of the thread, which Python takes for ended once a join was interrupted.
        self._ended = threading.Event()

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._run, daemon=True).start()

    def wait(self) -> None:
        """Until somebody interrupts."""
        self._ended.wait()

    def stop(self) -> None:
        """Listen no more."""
        self._server.should_exit = True
        self._ended.wait()

    def _run(self) -> None:
        try:
            self._server.run([self._socket])
        finally:
            self._ended.set()


class _ForThisMachine:
    """Answers a browser that asked for this page by its own name alone, and lets it keep nothing."""

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
    """A page of this package."""
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
