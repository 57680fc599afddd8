"""COLMAP models of whole footage, as 3D Gaussian splatting takes them.

COLMAP's pixel coordinates start at the corner of the image, egodepth's at the centre of its first pixel.
"""

import struct
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import atomic_path, write_json, write_text
from egodepth.core.outputs import OutputFolder
from egodepth.data.footage.camera_formats.colmap import CORNER
from egodepth.data.sequence import Sequence
from egodepth.geometry import se3
from egodepth.inference.export.scene import (
    Scene,
    SceneCamera,
    SceneFacts,
    SceneFrame,
    SceneSettings,
    write_picture,
)
from egodepth.inference.export.tracks import Tracks
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.runs.destination import output_folder
from egodepth.runs.run import Run

COLMAP = "COLMAP model"
"""Kind of output, for :class:`OutputFolder`."""
DEPTH_LEVELS = 1 << 16
"""Value in a depth PNG for 3D Gaussian splatting that stands for an image's scale."""
_MODELS = {"PINHOLE": 1, "OPENCV": 4, "OPENCV_FISHEYE": 5, "FULL_OPENCV": 6}
"""COLMAP's numbers of its camera models."""


class _Image(NamedTuple):
    """An image of a model.

    Attributes:
        number: of its frame.
        name: of its file.
        pose: w x y z and translation of world to camera.
    """

    number: int
    name: str
    pose: tuple[float, ...]


def write_colmap(
    out: Path | OutputFolder,
    run: Run,
    sequence: Sequence,
    trajectory: Trajectory,
    settings: SceneSettings | None = None,
    *,
    text: bool = False,
    depth_maps: bool = False,
    comment: str = "",
) -> SceneFacts:
    """Write a COLMAP model (``sparse/0``) and its images (``images``).

    Each point has a track: the frames that see it and where, see :class:`.tracks.Tracks`. Images without any
    are left out, with a warning, since methods that start from points refuse them. With a static mask there are
    ``masks/NAME.png.png``, black where masked, as COLMAP reads them. ``about.txt`` says the unit of lengths.
    Files of an earlier model are removed, see :class:`egodepth.core.outputs.OutputFolder`.

    Args:
        out: folder.
        run: trained networks.
        sequence: footage.
        trajectory: of its frames.
        settings: what to write; by default every fifth frame.
        text: write the text form of the model in place of the binary one.
        depth_maps: also write inverse depth for the depth regularization of 3D Gaussian splatting: 16-bit PNG
            (``depths``) and their scales (``sparse/0/depth_params.json``).
        comment: a line of ``about.txt``.

    Raises:
        EgodepthError: depth maps of distorted images, no points, a file that cannot be written, or as
            :class:`.scene.Scene`.
    """
    scene = Scene(run, sequence, trajectory, settings or SceneSettings())
    if depth_maps and scene.camera.lens:
        raise EgodepthError(
            "depth maps are for 3D Gaussian splatting, which takes undistorted images alone"
        )
    folder = output_folder(out, COLMAP)
    images: list[_Image] = []
    scales: dict[str, dict[str, float]] = {}
    for frame in scene:
        write_picture(folder.file(f"images/{frame.file}"), frame.image)
        if scene.mask is not None:
            white = np.where(scene.mask, 0, 255).astype(np.uint8)
            write_picture(folder.file(f"masks/{frame.file}.png"), white)
        if depth_maps:
            stem = frame.file.removesuffix(".png")
            scales[stem] = {"scale": _write_inverse_depth(folder, frame), "offset": 0.0}
        images.append(_Image(frame.number, frame.file, _pose(frame.first_from_frame)))
    tracks = scene.points()
    seen = set(tracks.frames.tolist())
    kept = [image for image in images if image.number in seen]
    if len(kept) < len(images):
        left = next(image.name for image in images if image.number not in seen)
        warnings.warn(
            f"{len(images) - len(kept)} of {len(images)} images show no point that another image shows, and "
            f"are not in the model: {left} for one",
            EgodepthWarning,
            stacklevel=2,
        )
    (_write_text if text else _write_binary)(folder, scene.camera, kept, tracks)
    if depth_maps:
        write_json(folder.file("sparse/0/depth_params.json"), scales)
    about = [f"lengths in {trajectory.unit}", *([comment] if comment else [])]
    write_text(folder.file("about.txt"), "\n".join(about) + "\n")
    return SceneFacts(len(kept), len(tracks.points), scene.masked_share)


def _write_inverse_depth(folder: OutputFolder, frame: SceneFrame) -> float:
    """Write a depth map, and return the inverse depth that DEPTH_LEVELS stands for."""
    inverse = 1 / frame.dense_depth
    scale = float(inverse.max())
    levels = np.rint(inverse / scale * DEPTH_LEVELS).clip(0, DEPTH_LEVELS - 1).astype(np.uint16)
    write_picture(folder.file(f"depths/{frame.file}"), levels)
    return scale


def _pose(first_from_frame: np.ndarray) -> tuple[float, ...]:
    frame_from_first = np.linalg.inv(first_from_frame)
    rotation = torch.from_numpy(frame_from_first[:3, :3].copy())
    x, y, z, w = se3.quaternion_from_matrix(rotation).tolist()
    return (w, x, y, z, *frame_from_first[:3, 3].tolist())


def _model(camera: SceneCamera) -> tuple[str, list[float]]:
    """COLMAP's name and parameters of a camera."""
    fx, fy, cx, cy = camera.camera.focal_and_centre.double().tolist()
    pinhole = [fx, fy, cx + CORNER, cy + CORNER]
    if camera.lens is None:
        return "PINHOLE", pinhole
    values = list(camera.lens.coefficients)
    if camera.lens.model == "fisheye":
        return "OPENCV_FISHEYE", pinhole + values
    if not any(values[4:]):
        return "OPENCV", pinhole + values[:4]
    return "FULL_OPENCV", pinhole + values + [0.0] * (8 - len(values))


class _Observations(NamedTuple):
    """Observations of a model by image and by point.

    Attributes:
        of_image: for each image, the places of its observations in the tracks.
        place: (O,) image of each observation, and its place among those of the image.
        starts: (P + 1,) where the observations of each point begin.
    """

    of_image: list[np.ndarray]
    place: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, images: list[_Image], tracks: Tracks) -> "_Observations":
        of_image = [np.flatnonzero(tracks.frames == image.number) for image in images]
        place = np.zeros((len(tracks.frames), 2), np.int64)
        for index, members in enumerate(of_image):
            place[members, 0], place[members, 1] = index + 1, np.arange(len(members))
        starts = np.searchsorted(tracks.indices, np.arange(len(tracks.points) + 1))
        return cls(of_image, place, starts)


def _write_binary(
    folder: OutputFolder, camera: SceneCamera, images: list[_Image], tracks: Tracks
) -> None:
    """Write ``cameras.bin``, ``images.bin`` and ``points3D.bin``."""
    name, parameters = _model(camera)
    size = (camera.camera.width, camera.camera.height)
    head = struct.pack("<QIiQQ", 1, 1, _MODELS[name], *size)
    _write(folder, "cameras.bin", [head + struct.pack(f"<{len(parameters)}d", *parameters)])
    found = _Observations.of(images, tracks)
    kind: Any = [("x", "<f8"), ("y", "<f8"), ("point", "<u8")]
    parts = [struct.pack("<Q", len(images))]
    for index, (image, members) in enumerate(zip(images, found.of_image, strict=True)):
        rows = np.zeros(len(members), kind)
        rows["x"], rows["y"] = (tracks.pixels[members] + CORNER).T
        rows["point"] = tracks.indices[members] + 1
        head = struct.pack("<I7dI", index + 1, *image.pose, 1)
        parts += [head, image.name.encode(), b"\0", struct.pack("<Q", len(rows)), rows.tobytes()]
    _write(folder, "images.bin", parts)
    places = found.place.astype("<u4")
    parts = [struct.pack("<Q", len(tracks.points))]
    for index, (point, colour, error) in enumerate(
        zip(tracks.points.tolist(), tracks.colours.tolist(), tracks.errors.tolist(), strict=True)
    ):
        track = places[found.starts[index] : found.starts[index + 1]]
        head = struct.pack("<Q3d3BdQ", index + 1, *point, *colour, error, len(track))
        parts += [head, track.tobytes()]
    _write(folder, "points3D.bin", parts)


def _write(folder: OutputFolder, name: str, parts: list[bytes]) -> None:
    with atomic_path(folder.file(f"sparse/0/{name}")) as partial:
        partial.write_bytes(b"".join(parts))


def _write_text(
    folder: OutputFolder, camera: SceneCamera, images: list[_Image], tracks: Tracks
) -> None:
    """Write ``cameras.txt``, ``images.txt`` and ``points3D.txt``."""
    name, parameters = _model(camera)
    numbers = " ".join(f"{value:.9g}" for value in parameters)
    size = f"{camera.camera.width} {camera.camera.height}"
    write_text(folder.file("sparse/0/cameras.txt"), f"1 {name} {size} {numbers}\n")
    found = _Observations.of(images, tracks)
    lines: list[str] = []
    for index, (image, members) in enumerate(zip(images, found.of_image, strict=True)):
        pose = " ".join(f"{value:.9f}" for value in image.pose)
        pixels = (tracks.pixels[members] + CORNER).tolist()
        points = (tracks.indices[members] + 1).tolist()
        seen = (f"{x:.3f} {y:.3f} {i}" for (x, y), i in zip(pixels, points, strict=True))
        lines += [f"{index + 1} {pose} 1 {image.name}", " ".join(seen)]
    write_text(folder.file("sparse/0/images.txt"), "\n".join(lines) + "\n")
    lines = []
    for index, (point, colour, error) in enumerate(
        zip(tracks.points.tolist(), tracks.colours.tolist(), tracks.errors.tolist(), strict=True)
    ):
        track = found.place[found.starts[index] : found.starts[index + 1]].ravel().tolist()
        where = " ".join(f"{value:.6f}" for value in point)
        tail = " ".join(map(str, [*colour, f"{error:.4f}", *track]))
        lines.append(f"{index + 1} {where} {tail}")
    write_text(folder.file("sparse/0/points3D.txt"), "\n".join(lines) + "\n")
