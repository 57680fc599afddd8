"""Serves the page on this machine alone."""

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from matplotlib import colormaps

from egodepth.core.errors import EgodepthError
from egodepth.data.sequence import Sequence
from egodepth.evaluation.depth import DepthProtocol
from egodepth.inference.run import Run
from egodepth.inference.unit import NOTHING_KNOWN, KnownLength
from egodepth.report.plots import read_log
from egodepth.view.scene import Scene
from egodepth.view.session import Session

FIRST_PORT, TRIED_PORTS = 8765, 50
COLOUR_MAPS = ("magma", "viridis", "turbo", "gray")
MOST_CURVE_POINTS = 400
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


class View:
    """A running page.

    Attributes:
        address: to open in a browser.
        session: what is looked at.
    """

    def __init__(
        self, run: Run, sequences: list[Sequence], known: KnownLength = NOTHING_KNOWN,
        protocol: DepthProtocol | None = None, *, odometry: bool = False, port: int | None = None,
    ):  # fmt: skip
        """Serve, in threads of its own, until :meth:`stop`.

        Args:
            run: trained networks.
            sequences: footage with cameras; the first is shown first.
            known, protocol, odometry: see :class:`Session`.
            port: to listen on; by default the first free one from FIRST_PORT on.

        Raises:
            EgodepthError: a port that is taken, or footage without a camera.
        """
        lacking = next((s.name for s in sequences if s.camera is None), None)
        if lacking:
            raise EgodepthError(f"{lacking} has no camera; give its field of view with --fov")
        self._sequences = {sequence.name: sequence for sequence in sequences}
        self._make: Callable[[Sequence], Session] = lambda sequence: Session(
            run, sequence, known, protocol, odometry=odometry
        )
        self._lock = threading.Lock()
        self._curves = _curves(run.folder)
        self._server = _listen(port, self)
        self._scene = Scene(_free_port())
        self.session = self._make(sequences[0])
        self.title = run.folder.resolve().name
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until somebody interrupts."""
        self._thread.join()

    def stop(self) -> None:
        """Close the page."""
        self.session.stop()
        self._server.shutdown()
        self._server.server_close()
        self._scene.stop()
        self.session.wait(10)

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[str, bytes]:
        """Content type and body of a request.

        Raises:
            KeyError, ValueError, IndexError: for what there is not.
        """
        if path == "/":
            return "text/html; charset=utf-8", (files("egodepth.view") / "page.html").read_bytes()
        if path == "/about.json":
            return _json({
                "title": self.title, "sequences": list(self._sequences), "curves": self._curves,
                "scene": f"http://127.0.0.1:{self._scene.port}/", "maps": _colour_maps(),
            })  # fmt: skip
        if path == "/state.json":
            return _json(self.session.describe())
        if path == "/sequence":
            chosen = self._sequences[query["name"][0]]
            with self._lock:
                if chosen is not self.session.sequence:
                    self.session.stop()
                    self.session = self._make(chosen)
            return _json({})
        if path == "/show":
            with self._lock:
                self._scene.show(self.session, int(query["place"][0]))
            return _json({})
        kind, _, place = path.removeprefix("/").partition("/")
        frame = self.session.frames[int(place)]
        if kind == "image":
            return "image/jpeg", frame.image
        if kind == "depth":
            return "application/octet-stream", frame.depth.astype("<f4").tobytes()
        raise KeyError(path)


class _Handler(BaseHTTPRequestHandler):
    """Answers of a :class:`View`."""

    view: View
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer, to a browser on this machine that asked for this page by its own name alone."""
        name = self.headers.get("Host", "").rpartition(":")[0]
        if name not in LOCAL_NAMES:
            self._send(403, "text/plain", b"this page is for this machine alone")
            return
        parts = urlsplit(self.path)
        try:
            kind, body = self.view.answer(parts.path, parse_qs(parts.query))
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


def _listen(port: int | None, view: View) -> ThreadingHTTPServer:
    handler = type("Handler", (_Handler,), {"view": view})
    candidates = range(FIRST_PORT, FIRST_PORT + TRIED_PORTS) if port is None else [port]
    for candidate in candidates:
        with suppress(OSError):
            return ThreadingHTTPServer(("127.0.0.1", candidate), handler)
    taken = f"port {port} is" if port is not None else f"all ports from {FIRST_PORT} on are"
    raise EgodepthError(f"cannot serve the page: {taken} taken; choose another by --port")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _json(values: dict[str, Any]) -> tuple[str, bytes]:
    return "application/json", json.dumps(values).encode()


def _colour_maps() -> dict[str, list[int]]:
    """256 colours of each map, red, green and blue one after the other."""
    steps = np.arange(256)
    return {
        name: (colormaps[name](steps)[:, :3] * 255).round().astype(int).ravel().tolist()
        for name in COLOUR_MAPS
    }


def _curves(run: Path) -> dict[str, list[list[float]]]:
    """Steps and values of every loss term, thinned out."""
    found = {}
    for name, rows in read_log(run).items():
        every = max(1, -(-len(rows) // MOST_CURVE_POINTS))
        thin = rows[::every]
        found[name] = [thin[:, 0].tolist(), thin[:, 1].tolist()]
    return found
