"""Scenes for nerfstudio: ``transforms.json`` with images, depth and points."""

from pathlib import Path
from typing import Any

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.core.files import write_json
from egodepth.core.outputs import OutputFolder
from egodepth.data.footage.camera_formats.colmap import CORNER, OPENGL_FROM_OPENCV
from egodepth.data.sequence import Sequence
from egodepth.inference.export.cloud import Cloud, write_ply
from egodepth.inference.export.scene import (
    Scene,
    SceneCamera,
    SceneFacts,
    SceneSettings,
    write_picture,
)
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.runs.destination import output_folder
from egodepth.runs.run import Run

NERFSTUDIO = "nerfstudio scene"
"""Kind of output, for :class:`OutputFolder`."""
TRANSFORMS, POINTS, MASK = "transforms.json", "points.ply", "masks/mask.png"
DEPTH_STEPS = 1000
"""Values of depth PNGs per unit of length; nerfstudio's default, whatever transforms.json says."""
UP_FROM_FIRST = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""nerfstudio's world, whose z points up, from the frame of the first camera (y down), taken for level."""


def write_nerfstudio(
    out: Path | OutputFolder,
    run: Run,
    sequence: Sequence,
    trajectory: Trajectory,
    settings: SceneSettings | None = None,
    *,
    comment: str = "",
) -> SceneFacts:
    """Write ``transforms.json``, ``images``, ``depths``, ``points.ply`` and, with a static mask, ``masks``.

    Poses map camera to world with OpenGL's camera axes (x right, y up, z back); z of the world points up. Depth
    is in 16-bit PNG, in thousandths of the unit, 0 where views disagree or beyond 65.535 units; masks are black
    where masked. The unit, and what it is in metres, stand under ``egodepth``. Files of an earlier scene are
    removed, see :class:`egodepth.core.outputs.OutputFolder`.

    Args:
        out: folder.
        run: trained networks.
        sequence: footage.
        trajectory: of its frames.
        settings: what to write; by default every fifth frame.
        comment: recorded under ``egodepth``.

    Raises:
        EgodepthError: a lens that nerfstudio has no model of, no points, a file that cannot be written, or as
            :class:`.scene.Scene`.
    """
    scene = Scene(run, sequence, trajectory, settings or SceneSettings())
    head = _camera_fields(scene.camera)
    folder = output_folder(out, NERFSTUDIO)
    frames: list[dict[str, Any]] = []
    for frame in scene:
        steps = np.rint(frame.depth.astype(np.float64) * DEPTH_STEPS)
        steps = np.where(steps < 1 << 16, steps, 0).astype(np.uint16)
        pose = UP_FROM_FIRST @ frame.first_from_frame @ OPENGL_FROM_OPENCV
        entry = {
            "file_path": f"images/{frame.file}", "depth_file_path": f"depths/{frame.file}",
            "transform_matrix": pose.tolist(),
        }  # fmt: skip
        write_picture(folder.file(entry["file_path"]), frame.image)
        write_picture(folder.file(entry["depth_file_path"]), steps)
        frames.append(entry if scene.mask is None else {**entry, "mask_path": MASK})
    if scene.mask is not None:
        write_picture(folder.file(MASK), np.where(scene.mask, 0, 255).astype(np.uint8))
    tracks = scene.points()
    points = (tracks.points @ UP_FROM_FIRST[:3, :3].T).astype(np.float32)
    write_ply(folder.file(POINTS), Cloud(points, tracks.colours), comment)
    unit = trajectory.unit
    about = {"unit": unit.text, "metres_per_unit": 1.0 if unit.metres else None}
    write_json(
        folder.file(TRANSFORMS),
        {
            **head, "ply_file_path": POINTS, "depth_unit_scale_factor": 1 / DEPTH_STEPS,
            "egodepth": {**about, **({"comment": comment} if comment else {})}, "frames": frames,
        },
    )  # fmt: skip
    return SceneFacts(len(frames), len(points), scene.masked_share)


def _camera_fields(camera: SceneCamera) -> dict[str, Any]:
    """Names and values in transforms.json of a camera."""
    fx, fy, cx, cy = camera.camera.focal_and_centre.double().tolist()
    names = ["k1", "k2", "p1", "p2", "k3"]
    values = [0.0] * 4
    kind = "OPENCV"
    if camera.lens is not None:
        values = list(camera.lens.coefficients)
        if camera.lens.model == "fisheye":
            kind, names = "OPENCV_FISHEYE", ["k1", "k2", "k3", "k4"]
        elif any(values[5:]):
            raise EgodepthError(
                "nerfstudio has no model of a lens with k4, k5 and k6: leave --distorted out, and the images "
                "are undistorted"
            )
    return {
        "camera_model": kind, "w": camera.camera.width, "h": camera.camera.height, "fl_x": fx, "fl_y": fy,
        "cx": cx + CORNER, "cy": cy + CORNER, **dict(zip(names, values, strict=False)),
    }  # fmt: skip
