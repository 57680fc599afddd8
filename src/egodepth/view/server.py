"""The page on which one looks at a run."""

import socket
import threading
from collections.abc import Callable
from importlib.resources import files

import numpy as np
from matplotlib import colormaps

from egodepth.data.sequence import Sequence
from egodepth.evaluation.depth import DepthProtocol
from egodepth.inference.arguments import footage_of
from egodepth.inference.odometry.unit import KnownLength
from egodepth.report.plots import read_log
from egodepth.runs.folder import RunFolder
from egodepth.runs.run import Run
from egodepth.view.page import Server, as_json
from egodepth.view.scene import Scene
from egodepth.view.session import Session

COLOUR_MAPS = ("magma", "viridis", "turbo", "gray")
MOST_CURVE_POINTS = 400


class View:
    """A running page.

    Attributes:
        address: to open in a browser.
        session: what is looked at.
    """

    def __init__(
        self, run: Run, sequences: list[Sequence], known: KnownLength | None = None,
        protocol: DepthProtocol | None = None, *, odometry: bool = False, port: int | None = None,
    ):  # fmt: skip
        """Serve, in threads of its own, until :meth:`stop`.

        Args:
            run: trained networks.
            sequences: footage; the first is shown first. The run gives it its camera where it brings none.
            known, protocol, odometry: see :class:`Session`.
            port: to listen on; by default the first free one.

        Raises:
            EgodepthError: a port that is taken, or footage without a camera.
        """
        sequences = [footage_of(run, sequence) for sequence in sequences]
        self._sequences = {sequence.name: sequence for sequence in sequences}
        self._make: Callable[[Sequence], Session] = lambda sequence: Session(
            run, sequence, known, protocol, odometry=odometry
        )
        self._lock = threading.Lock()
        self._curves = _curves(run.folder)
        self._server = Server(self, port)
        self._scene = Scene(_free_port())
        self.session = self._make(sequences[0])
        self.title = run.folder.name
        self.address = self._server.address
        self._server.start()

    def wait(self) -> None:
        """Until somebody interrupts."""
        self._server.wait()

    def stop(self) -> None:
        """Close the page."""
        self.session.stop()
        self._server.stop()
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
            return as_json({
                "title": self.title, "sequences": list(self._sequences), "curves": self._curves,
                "scene": f"http://127.0.0.1:{self._scene.port}/", "maps": _colour_maps(),
            })  # fmt: skip
        if path == "/state.json":
            return as_json(self.session.describe())
        if path == "/sequence":
            chosen = self._sequences[query["name"][0]]
            with self._lock:
                if chosen is not self.session.sequence:
                    self.session.stop()
                    self.session = self._make(chosen)
            return as_json({})
        if path == "/show":
            with self._lock:
                self._scene.show(self.session, int(query["place"][0]))
            return as_json({})
        kind, _, place = path.removeprefix("/").partition("/")
        frame = self.session.frames[int(place)]
        if kind == "image":
            return "image/jpeg", frame.image
        if kind == "depth":
            return "application/octet-stream", frame.depth.astype("<f4").tobytes()
        raise KeyError(path)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _colour_maps() -> dict[str, list[int]]:
    """256 colours of each map, red, green and blue one after the other."""
    steps = np.arange(256)
    return {
        name: (colormaps[name](steps)[:, :3] * 255).round().astype(int).ravel().tolist()
        for name in COLOUR_MAPS
    }


def _curves(run: RunFolder) -> dict[str, list[list[float]]]:
    """Steps and values of every loss term, thinned out."""
    found = {}
    for name, rows in read_log(run).items():
        every = max(1, -(-len(rows) // MOST_CURVE_POINTS))
        thin = rows[::every]
        found[name] = [thin[:, 0].tolist(), thin[:, 1].tolist()]
    return found
