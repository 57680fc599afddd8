"""Pages for this machine alone."""

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from egodepth.core.errors import EgodepthError

FIRST_PORT, TRIED_PORTS = 8765, 50
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Page(Protocol):
    """What is served."""

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[str, bytes]:
        """Content type and body of a request.

        Raises:
            KeyError, ValueError, IndexError: for what there is not.
        """
        ...


class Server:
    """Serves a page on the loopback address, in threads of its own, once it is started.

    Attributes:
        address: to open in a browser.
    """

    def __init__(self, page: Page, port: int | None = None):
        """Take the port.

        Args:
            page: what is served.
            port: by default the first free one from FIRST_PORT on.

        Raises:
            EgodepthError: a port that is taken.
        """
        self._server = _listen(port, page)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def wait(self) -> None:
        """Until somebody interrupts."""
        self._thread.join()

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers of a :class:`Page`."""

    page: Page
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer, to a browser on this machine that asked for this page by its own name alone."""
        name = self.headers.get("Host", "").rpartition(":")[0]
        if name not in LOCAL_NAMES:
            self._send(403, "text/plain", b"this page is for this machine alone")
            return
        parts = urlsplit(self.path)
        try:
            kind, body = self.page.answer(parts.path, parse_qs(parts.query))
        except (KeyError, ValueError, IndexError):
            self._send(404, "text/plain", b"there is nothing here")
            return
        self._send(200, kind, body)

    def _send(self, status: int, kind: str, body: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: every frame would be a line."""


def _listen(port: int | None, page: Page) -> ThreadingHTTPServer:
    handler = type("Handler", (_Handler,), {"page": page})
    candidates = range(FIRST_PORT, FIRST_PORT + TRIED_PORTS) if port is None else [port]
    for candidate in candidates:
        with suppress(OSError):
            return ThreadingHTTPServer(("127.0.0.1", candidate), handler)
    taken = f"port {port} is" if port is not None else f"all ports from {FIRST_PORT} on are"
    raise EgodepthError(f"cannot serve the page: {taken} taken; choose another by --port")


def as_json(values: dict[str, Any]) -> tuple[str, bytes]:
    """Content type and body."""
    return "application/json", json.dumps(values).encode()
