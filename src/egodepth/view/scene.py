"""The 3D part of the page: trajectory, camera and points, shown with viser."""

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from http import HTTPStatus
from typing import Any

import numpy as np
import viser
import websockets.asyncio.server
from PIL import Image
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from egodepth.core.errors import EgodepthError
from egodepth.view.own_requests import REFUSAL, is_own_request
from egodepth.view.session import Session

CAMERA_SIZE = 0.06
"""Size of the drawn camera, in diameters of the scene."""
MIN_DIAMETER_IN_DEPTHS = 2.0
"""Minimum diameter of the scene in median depths, for a camera that hardly moves."""
PATH_COLOURS = ((255, 170, 60), (110, 220, 120), (230, 110, 220), (240, 230, 90))
"""Colours of the path, the next one after each break, over and over."""
LOOP_COLOUR = (90, 160, 255)
SEEN_FROM = (0.2, -0.4, -0.7)
"""Initial viewpoint relative to the middle of the trajectory, in diameters: above and behind."""


class Scene:
    """A viser server with the trajectory, moving camera and points of a session.

    Attributes:
        port: port that it listens on, on this machine only.
    """

    def __init__(self, port: int) -> None:
        """Listen on a free port.

        Raises:
            EgodepthError: a version of viser that can't be kept from answering other web pages.
        """
        # viser's own lines, its address above all, are of no use to users.
        with redirect_stdout(io.StringIO()), _answering_own_requests():
            self._server = viser.ViserServer(host="127.0.0.1", port=port, verbose=False)
        self._server.gui.configure_theme(
            control_layout="collapsible", show_logo=False, show_share_button=False, dark_mode=True
        )
        self._server.gui.main_panel.minimize()
        self._server.scene.set_up_direction("-y")
        self.port = self._server.get_port()
        self._session: Session | None = None
        self._shown: tuple[bool, bool] = (False, False)
        self._size = 1.0

    def stop(self) -> None:
        """Stop the server."""
        with redirect_stdout(io.StringIO()):
            self._server.stop()

    def _add_lines(self, name: str, lines: np.ndarray, colours: np.ndarray) -> None:
        if len(lines):
            self._server.scene.add_line_segments(
                name, lines, colors=colours, thickness=3.0, thickness_units="screen"
            )

    def show(self, session: Session, place: int) -> None:
        """Show a frame of a session; objects that are already in the scene are kept."""
        if session is not self._session:
            self._server.scene.reset()
            self._server.scene.set_up_direction("-y")
            self._session, self._shown = session, (False, False)
        poses, cloud = session.poses, session.cloud
        if poses is None or not 0 <= place < len(poses):
            return
        has_path, has_points = self._shown
        positions = poses[:, :3, 3]
        if not has_path:
            depth = float(np.median(session.frames[0].depth.astype(np.float32)))
            extent = float(
                np.linalg.norm(np.nanmax(positions, axis=0) - np.nanmin(positions, axis=0))
            )
            self._size = max(extent, MIN_DIAMETER_IN_DEPTHS * depth)
            self._add_lines("/path", *path_lines(positions))
            loops = positions[np.array(session.loops, int).reshape(-1, 2)].astype(np.float32)
            self._add_lines("/loops", loops, np.full_like(loops, LOOP_COLOUR, np.uint8))
            middle = tuple(np.nanmean(positions, axis=0))
            behind = tuple(np.array(middle) + self._size * np.array(SEEN_FROM))
            self._server.initial_camera.position = behind
            self._server.initial_camera.look_at = middle
            for client in self._server.get_clients().values():
                client.camera.position, client.camera.look_at = behind, middle
        if cloud is not None and not has_points:
            self._server.scene.add_point_cloud(
                "/points", cloud.points, cloud.colours, point_size=0.0015 * self._size
            )
        self._shown = (True, cloud is not None)
        if not np.isfinite(poses[place]).all():
            self._server.scene.remove_by_name("/camera")
            return
        camera = session.sequence.camera
        assert camera is not None
        fy = float(camera.matrix[1, 1])
        picture = Image.open(io.BytesIO(session.frames[place].image))
        picture.thumbnail((320, 320))
        self._server.scene.add_camera_frustum(
            "/camera", fov=2 * float(np.arctan(camera.height / (2 * fy))),
            aspect=camera.width / camera.height, scale=CAMERA_SIZE * self._size,
            color=(90, 200, 255), image=np.asarray(picture), wxyz=_quaternion(poses[place]),
            position=tuple(positions[place]),
        )  # fmt: skip


def path_lines(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lines (L, 2, 3) between neighbouring positions (N, 3) that are known, and their colours, which change
    after each position that is NaN."""
    steps = np.stack([positions[:-1], positions[1:]], axis=1).astype(np.float32)
    known = np.asarray(np.isfinite(steps).all((1, 2)))
    breaks = np.cumsum(np.diff(known, prepend=known[:1]) & known)
    colours = np.array(PATH_COLOURS, np.uint8)[breaks % len(PATH_COLOURS)]
    return steps[known], np.repeat(colours[known][:, None], 2, axis=1)


def _quaternion(pose: np.ndarray) -> np.ndarray:
    return viser.transforms.SO3.from_matrix(pose[:3, :3]).wxyz


@contextmanager
def _answering_own_requests() -> Iterator[None]:
    """Make the viser server that is started meanwhile answer only requests of its own page.

    viser answers everybody, and has no setting for that: its call of websockets is intercepted.
    """
    serve = websockets.asyncio.server.serve
    guarded = False

    def guarded_serve(*args: Any, process_request: Callable[..., Any], **options: Any) -> Any:
        nonlocal guarded
        guarded = True
        logger = logging.getLogger(f"{__name__}.websockets")
        logger.addFilter(_is_no_broken_request)
        options |= {"process_request": partial(_refuse_others, process_request), "logger": logger}
        return serve(*args, **options)

    websockets.asyncio.server.serve = guarded_serve  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        websockets.asyncio.server.serve = serve  # type: ignore[misc]
    if not guarded:
        raise EgodepthError(
            f"viser {viser.__version__} would answer every web page: install another, pip install viser==1.1.1"
        )


def _refuse_others(
    answer: Callable[[ServerConnection, Request], Response | None],
    connection: ServerConnection,
    request: Request,
) -> Response | None:
    if is_own_request(request.headers.get_all("Host"), request.headers.get_all("Origin")):
        return answer(connection, request)
    return connection.respond(HTTPStatus.FORBIDDEN, REFUSAL)


def _is_no_broken_request(record: logging.LogRecord) -> bool:
    """Whether a log record is of interest: requests that end early or are no HTTP come from outside."""
    return record.getMessage() != "opening handshake failed"
