"""Live depth of a camera, on a web page."""

import asyncio
import io
import threading
import time
from collections import deque
from typing import Any

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from egodepth.core.colours import colourize_depth
from egodepth.core.errors import EgodepthError
from egodepth.data.footage.live_camera import LiveCamera
from egodepth.data.sequence import Frame
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Undistortion
from egodepth.inference.steady_run import SteadyRun
from egodepth.runs.cameras import camera_of_run
from egodepth.runs.not_finite import naming
from egodepth.runs.run import Run
from egodepth.view.page import Server, html_page

MAX_SIDE = 960
"""Largest width and height in pixels of a frame that is shown."""
SECONDS_TO_WAIT = 5
"""Seconds that a browser waits for the next frame before it gets the last one again."""
SETTLE = 0.05
"""Weight of each frame in the running mean of the brightest depth, which keeps colours from flickering."""


class LiveView:
    """A running page with image and depth of a camera.

    Attributes:
        address: URL of the page.
        frames: number of predicted frames.
        problem: error that ended it, in words; empty while it runs, and when the source ends.
    """

    def __init__(
        self,
        run: Run,
        camera: LiveCamera,
        port: int | None = None,
        *,
        steady: bool = False,
        fov: float | None = None,
    ):
        """Start to predict and serve, in threads, until :meth:`stop` or the end of the source.

        Args:
            run: trained networks.
            camera: source of frames.
            port: port to listen on; by default the first free one.
            steady: filter depth along the camera's motion, which odometry finds, see
                :class:`egodepth.inference.steady.SteadyDepth`.
            fov: horizontal field of view of the frames in degrees, for ``steady``; by default that of the run's
                camera.

        Raises:
            EgodepthError: the port is in use.
        """
        self.run, self.camera = run, camera
        self.frames, self.problem, self.ended = 0, "", False
        self._picture = b""
        self._nearest = 0.0
        self._undistortion: Undistortion | None = None
        self._keep_steady, self._fov = steady, fov
        self._steady: SteadyRun | None = None
        self._moments: deque[float] = deque(maxlen=30)
        self._server = Server(self._routes(), port)
        self.address = self._server.address
        self._over = threading.Event()
        threading.Thread(target=self._predict, daemon=True).start()
        self._server.start()

    def wait(self) -> None:
        """Wait until the source ends or the user interrupts."""
        self._over.wait()

    def stop(self) -> None:
        """Stop predicting and serving."""
        self.camera.close()
        self._over.wait(10)
        self._server.stop()

    @property
    def rate(self) -> float:
        """Frames per second over the last frames."""
        moments = list(self._moments)
        return (len(moments) - 1) / (moments[-1] - moments[0]) if len(moments) > 1 else 0.0

    def _routes(self) -> list[Route]:
        return [
            Route("/", lambda _: html_page("live.html")),
            Route("/state.json", self._state),
            Route("/frame", self._frame),
        ]

    def _state(self, request: Request) -> Response:
        return JSONResponse({
            "title": self.run.folder.name, "source": self.camera.source,
            "rate": self.rate, "frames": self.frames, "seen": self.camera.seen,
            "ended": self.ended, "problem": self.problem,
        })  # fmt: skip

    async def _frame(self, request: Request) -> Response:
        """Respond with the next frame; a browser that waits for it takes no thread from the others."""
        before, until = self.frames, time.monotonic() + SECONDS_TO_WAIT
        while self.frames == before and not self.ended and time.monotonic() < until:
            await asyncio.sleep(0.01)
        if not self._picture:
            raise KeyError("no frame yet")
        return Response(self._picture, media_type="image/jpeg")

    def _predict(self) -> None:
        try:
            for frame in self.camera:
                with naming(frame):
                    self._add(frame)
        except EgodepthError as error:
            self.problem = str(error)
        finally:
            self.ended = True
            self._over.set()

    def _add(self, frame: Frame) -> None:
        image = frame.image
        if self.frames == 0:
            self._undistortion = self.run.undistortion(
                image.shape[0], image.shape[1], self.camera.source
            )
        if self._undistortion is not None:
            image = self._undistortion(image)
        small = Image.fromarray(image)
        small.thumbnail((MAX_SIDE, MAX_SIDE))
        shown = np.asarray(small)
        depth = self._depth(frame._replace(image=image), (shown.shape[0], shown.shape[1]))
        nearest = float(np.percentile(depth, 2))
        self._nearest += (nearest - self._nearest) * (SETTLE if self._nearest else 1.0)
        file = io.BytesIO()
        picture: Any = np.vstack([shown, colourize_depth(depth, self._nearest)])
        Image.fromarray(picture).save(file, "jpeg", quality=85)
        self._picture = file.getvalue()
        self._moments.append(time.perf_counter())
        self.frames += 1

    def _depth(self, frame: Frame, size: tuple[int, int]) -> np.ndarray:
        if not self._keep_steady:
            return self.run.depth(frame.image, size)
        height, width = frame.image.shape[:2]
        if self._steady is None:
            if self._undistortion is not None:
                camera = self._undistortion.camera
            elif self._fov is not None:
                camera = Camera.from_field_of_view(self._fov, height, width)
            else:
                camera = camera_of_run(self.run.folder, height, width, self.camera.source)
            self._steady = SteadyRun(self.run, camera)
        return self._steady.maps(frame, self.run.prepare(frame.image), size)[0]
