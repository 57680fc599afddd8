"""The page that shows a run."""

import socket
import threading
from collections.abc import Callable

import numpy as np
from matplotlib import colormaps
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from egodepth.core.colours import LEAST_SURE, SUREST
from egodepth.data.sequence import Sequence
from egodepth.evaluation.depth import DepthProtocol
from egodepth.inference.arguments import footage_of
from egodepth.inference.odometry.known_length import KnownLength
from egodepth.report.plots import read_log
from egodepth.runs.folder import RunFolder
from egodepth.runs.run import Run
from egodepth.view.page import Server, html_page
from egodepth.view.scene import Scene
from egodepth.view.session import Session

COLOUR_MAPS = ("magma", "viridis", "turbo", "gray")
MAX_CURVE_POINTS = 400


class View:
    """A running page.

    Attributes:
        address: URL of the page.
        session: the session that is shown.
    """

    def __init__(
        self, run: Run, sequences: list[Sequence], known: KnownLength | None = None,
        protocol: DepthProtocol | None = None, *, odometry: bool = False, steady: bool = False,
        port: int | None = None,
    ):  # fmt: skip
        """Start to serve, in threads, until :meth:`stop`.

        Args:
            run: trained networks.
            sequences: footage; the first is shown first. Footage without a camera gets the run's.
            known, protocol, odometry, steady: see :class:`Session`.
            port: port to listen on; by default the first free one.

        Raises:
            EgodepthError: the port is in use, or footage without a camera.
        """
        sequences = [footage_of(run, sequence) for sequence in sequences]
        self._sequences = {sequence.name: sequence for sequence in sequences}
        self._make: Callable[[Sequence], Session] = lambda sequence: Session(
            run, sequence, known, protocol, odometry=odometry, steady=steady
        )
        self._lock = threading.Lock()
        self._left: list[Session] = []
        self._curves = _curves(run.folder)
        self._server = Server(self._routes(), port)
        self._scene = Scene(_free_port())
        self.session = self._make(sequences[0])
        self.title = run.folder.name
        self.address = self._server.address
        self._server.start()

    def wait(self) -> None:
        """Wait until the user interrupts."""
        self._server.wait()

    def stop(self) -> None:
        """Close the page."""
        self.session.stop()
        self._server.stop()
        self._scene.stop()
        for session in (*self._left, self.session):
            session.wait()

    def _routes(self) -> list[Route]:
        return [
            Route("/", lambda _: html_page("page.html")),
            Route("/about.json", self._about),
            Route("/state.json", lambda _: JSONResponse(self.session.describe())),
            Route("/sequence", self._choose, methods=["POST"]),
            Route("/show", self._show, methods=["POST"]),
            Route("/image/{place:int}", self._image),
            Route("/depth/{place:int}", self._depth),
            Route("/confidence/{place:int}", self._confidence),
        ]

    def _about(self, request: Request) -> Response:
        return JSONResponse({
            "title": self.title, "sequences": list(self._sequences), "curves": self._curves,
            "scene": f"http://127.0.0.1:{self._scene.port}/", "maps": _colour_maps(),
            "deviations": [SUREST, LEAST_SURE],
        })  # fmt: skip

    def _choose(self, request: Request) -> Response:
        chosen = self._sequences[request.query_params["name"]]
        with self._lock:
            if chosen is not self.session.sequence:
                self.session.stop()
                self._left.append(self.session)
                self.session = self._make(chosen)
        return JSONResponse({})

    def _show(self, request: Request) -> Response:
        place = int(request.query_params["place"])
        with self._lock:
            self._scene.show(self.session, place)
        return JSONResponse({})

    def _image(self, request: Request) -> Response:
        frame = self.session.frames[request.path_params["place"]]
        return Response(frame.image, media_type="image/jpeg")

    def _depth(self, request: Request) -> Response:
        return _values(self.session.frames[request.path_params["place"]].depth)

    def _confidence(self, request: Request) -> Response:
        deviation = self.session.frames[request.path_params["place"]].deviation
        if deviation is None:
            raise KeyError("the run has no confidence")
        return _values(deviation)


def _values(values: np.ndarray) -> Response:
    return Response(values.astype("<f4").tobytes(), media_type="application/octet-stream")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _colour_maps() -> dict[str, list[int]]:
    """256 colours of each colour map, as a flat list of red, green and blue values."""
    steps = np.arange(256)
    return {
        name: (colormaps[name](steps)[:, :3] * 255).round().astype(int).ravel().tolist()
        for name in COLOUR_MAPS
    }


def _curves(run: RunFolder) -> dict[str, list[list[float]]]:
    """Steps and values of every loss term, subsampled."""
    found = {}
    for name, rows in read_log(run).items():
        every = max(1, -(-len(rows) // MAX_CURVE_POINTS))
        thin = rows[::every]
        found[name] = [thin[:, 0].tolist(), thin[:, 1].tolist()]
    return found
