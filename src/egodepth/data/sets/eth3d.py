"""ETH3D, the low-resolution sets: stereo pairs, and a hand-held rig of four cameras.

Two-view: SCENE/im0.png, im1.png, calib.txt, disp0GT.pfm, mask0nocc.png. Many-view, undistorted:
SCENE/images/images_rig_camN_undistorted/TIME.png, SCENE/rig_calibration_undistorted/cameras.txt and
images.txt; laser scans in SCENE/scan_clean/*.ply with scan_alignment.mlp. https://www.eth3d.net/datasets
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch

from egodepth.core.errors import EgodepthError
from egodepth.core.files import find, natural_order, read_text, reading
from egodepth.data.image_files import ImageFiles, read_depth_png, require_depth
from egodepth.data.sequence import Sequence
from egodepth.data.sets.missing_items import MissingItems
from egodepth.data.sets.names import name_of_folder
from egodepth.data.sets.native_size import calibrated_camera, centred_camera, resized_camera
from egodepth.data.sets.point_cloud import depth_of_cloud, read_ply
from egodepth.geometry import se3
from egodepth.geometry.camera import Camera
from egodepth.geometry.plausible import FARTHEST_POSITION, ROTATION_TOLERANCE, require_rigid

NANOSECONDS = 1e9
NOT_HIDDEN = 255
"""Mask value of pixels visible in both cameras of a pair."""


def read_eth3d(root: Path) -> list[Sequence]:
    """Read two-view and many-view scenes, one sequence per camera.

    Raises:
        EgodepthError: no scenes, or a broken calibration.
    """
    missing = MissingItems("eth3d", root)
    pairs = sorted(path.parent for path in find(root, "im0.png"))
    rigs = sorted(path.parent for path in find(root, "rig_calibration_undistorted"))
    if not pairs and not rigs:
        raise EgodepthError(
            f"no ETH3D scenes under {root}: expected delivery_area_1l/im0.png with calib.txt, or "
            "delivery_area/rig_calibration_undistorted with images"
        )
    sequences = [s for folder in pairs for s in _read_pair(folder, root, missing)]
    sequences += [s for folder in rigs for s in _read_rig(folder, root, missing)]
    missing.warn()
    return sequences


def read_pfm(path: Path) -> np.ndarray:
    """Read a single-channel PFM file as (H, W) float32, top row first.

    Raises:
        EgodepthError: a missing or broken file.
    """
    with reading(path, "the PFM file"), path.open("rb") as file:
        if file.readline().strip() != b"Pf":
            raise ValueError("it does not begin with Pf")
        width, height = (int(word) for word in file.readline().split())
        order = "<" if float(file.readline()) < 0 else ">"
        content = file.read()
        if min(width, height) < 1 or len(content) != 4 * width * height:
            raise ValueError(f"{len(content)} bytes do not hold {width}x{height} values")
        values = np.frombuffer(content, f"{order}f4").reshape(height, width)
        return values[::-1].astype(np.float32)


def _read_pair(folder: Path, root: Path, missing: MissingItems) -> list[Sequence]:
    with reading(folder / "calib.txt", "the calibration"):
        text = read_text(folder / "calib.txt", "the calibration")
        values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        matrices = [
            np.array(
                [[float(v) for v in row.split()] for row in values[name].strip("[]").split(";")]
            )
            for name in ("cam0", "cam1")
        ]
        baseline, shift = float(values["baseline"]), float(values.get("doffs", 0))
        size = [int(values.get(name, 0)) for name in ("width", "height")]
        if not (0 < baseline < FARTHEST_POSITION and abs(shift) < FARTHEST_POSITION):
            raise ValueError(f"a baseline of {baseline:g} metres, a shift of {shift:g} pixels")
        if any(matrix.shape != (3, 3) for matrix in matrices):
            raise ValueError("cam0 and cam1 need 3x3 numbers each")
    name = name_of_folder(folder, root)
    sequences = []
    truth = folder / "disp0GT.pfm"
    if not truth.exists():
        missing.add("pairs without disparity", name)
    for index, side in enumerate(("left", "right")):
        image = folder / f"im{index}.png"
        if not image.exists():
            missing.add("images that are not there", image)
            continue
        frames = ImageFiles([image])
        matrix = matrices[index]
        native = centred_camera(
            matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2],
            size[1] or frames.height, size[0] or frames.width, image,
        )  # fmt: skip
        camera = resized_camera(native, frames, image)
        rig_from_camera = np.eye(4)
        rig_from_camera[0, 3] = index * baseline
        depth: dict[int, Callable[[], np.ndarray]] = {}
        if side == "left" and truth.exists():
            depth = {0: partial(_depth_of_disparity, truth, matrix[0, 0] * baseline, shift)}
        sequences.append(Sequence(
            name=f"{name}/{side}", frames=frames, camera=camera, depth=depth, camera_name=side,
            rig=name, rig_from_camera=rig_from_camera,
        ))  # fmt: skip
    return sequences


def _depth_of_disparity(path: Path, focal_baseline: float, shift: float) -> np.ndarray:
    """Depth in metres of pixels visible in both cameras; ``focal_baseline`` is in pixels times metres."""
    disparity = read_pfm(path)
    known = np.isfinite(disparity)
    mask = path.with_name("mask0nocc.png")
    if mask.exists():
        seen = read_depth_png(mask, 1.0) == NOT_HIDDEN
        if seen.shape != known.shape:
            raise EgodepthError(
                f"{mask} is {seen.shape[1]}x{seen.shape[0]}, {path.name} {known.shape[1]}x{known.shape[0]}; "
                "use the original mask"
            )
        known &= seen
    depth = np.zeros_like(disparity)
    pixels = disparity[known] + np.float32(shift)
    depth[known] = np.where(pixels > 0, focal_baseline / np.maximum(pixels, 1e-6), 0)
    with reading(path, "the disparity"):
        return require_depth(depth)


def _read_rig(scene: Path, root: Path, missing: MissingItems) -> list[Sequence]:
    calibration = scene / "rig_calibration_undistorted"
    cameras = _read_cameras(calibration / "cameras.txt")
    images = _read_images(calibration / "images.txt")
    unknown = sorted({camera for camera, _ in images.values()} - set(cameras))
    if unknown or not images:
        raise EgodepthError(
            f"{calibration / 'images.txt'} names {f'the camera {unknown[0]}' if unknown else 'no images'}"
            + (", which is not in cameras.txt" if unknown else "")
        )
    name = name_of_folder(scene, root)
    scans = _read_scans(scene)
    if not scans:
        missing.add("scenes without laser scans, so without depth", name)
    sequences = []
    for folder in sorted({Path(image).parent for image in images}):
        names = (Path(image) for image in images)
        mine = [path.as_posix() for path in natural_order(n for n in names if n.parent == folder)]
        there = [image for image in mine if (scene / "images" / image).exists()]
        missing.add("images that are not there", *sorted(set(mine) - set(there)))
        if not there:
            continue
        poses = np.stack([np.linalg.inv(images[image][1]) for image in there])
        camera = cameras[images[there[0]][0]]
        stems = [Path(image).stem for image in there]
        times = (
            np.array([float(s) for s in stems]) / NANOSECONDS
            if all(map(str.isdecimal, stems))
            else None
        )
        frames = ImageFiles([scene / "images" / image for image in there], times=times)
        depth: dict[int, Callable[[], np.ndarray]] = {}
        if scans:
            depth = {i: partial(_seen, scans, images[n][1], camera) for i, n in enumerate(there)}
        sequences.append(Sequence(
            name=f"{name}/{folder.as_posix()}", frames=frames,
            camera=resized_camera(camera, frames, scene / "images" / folder),
            world_from_camera=poses, depth=depth, camera_name=folder.name,
        ))  # fmt: skip
    return sequences


def _rows(path: Path) -> list[list[str]]:
    lines = read_text(path, "the calibration").splitlines()
    return [line.split() for line in lines if not line.startswith("#")]


def _read_cameras(path: Path) -> dict[str, Camera]:
    """Cameras in COLMAP's cameras.txt, whose pixel corners are at integers; ours have their centres there."""
    cameras = {}
    with reading(path, "the calibration"):
        for words in filter(None, _rows(path)):
            if words[1:2] != ["PINHOLE"] or len(words) != 8:
                raise ValueError(
                    f"expected undistorted PINHOLE cameras (ID PINHOLE WIDTH HEIGHT FX FY CX CY), got "
                    f"{' '.join(words)[:60]!r}"
                )
            width, height = int(words[2]), int(words[3])
            fx, fy, cx, cy = (float(word) for word in words[4:])
            cameras[words[0]] = calibrated_camera(fx, fy, cx - 0.5, cy - 0.5, height, width, path)
    return cameras


def _read_images(path: Path) -> dict[str, tuple[str, np.ndarray]]:
    """Camera and ``camera_from_world`` by image name from COLMAP's images.txt; every other line is points."""
    images = {}
    for words in _rows(path)[::2]:
        try:
            w, x, y, z, *translation = (float(word) for word in words[1:8])
            if len(words) != 10:
                raise ValueError("it needs 10 words")
            pose = np.eye(4)
            quaternion = torch.tensor([x, y, z, w], dtype=torch.float64)
            if not abs(float(quaternion.norm()) - 1) <= ROTATION_TOLERANCE:
                raise ValueError("its quaternion has not the length 1")
            pose[:3, :3] = se3.matrix_from_quaternion(quaternion).numpy()
            pose[:3, 3] = translation
            images[words[9]] = (words[8], require_rigid(pose, f"{path}, image {words[9]}"))
        except (ValueError, IndexError) as error:
            raise EgodepthError(f"{path}: broken line {' '.join(words)[:60]!r}") from error
    return images


def _read_scans(scene: Path) -> list[tuple[Path, np.ndarray]]:
    """Paths of the laser scans and their ``world_from_scan``, from the MeshLab project file."""
    project = next(iter(find(scene, "scan_alignment.mlp")), None)
    if project is None:
        return []
    scans = []
    with reading(project, "the list of laser scans"):
        for mesh in ElementTree.parse(project).iter("MLMesh"):
            matrix = np.array([float(v) for v in (mesh.findtext("MLMatrix44") or "").split()])
            place = project.parent / mesh.attrib["filename"]
            scans.append((place, require_rigid(matrix.reshape(4, 4), project)))
    return [scan for scan in scans if scan[0].exists()]


def _seen(
    scans: list[tuple[Path, np.ndarray]], camera_from_world: np.ndarray, camera: Camera
) -> np.ndarray:
    nearest = np.full((camera.height, camera.width), np.inf, np.float32)
    for path, world_from_scan in scans:
        depth = depth_of_cloud(read_ply(path), camera_from_world @ world_from_scan, camera)
        nearest = np.minimum(nearest, np.where(depth > 0, depth, np.inf))
    return np.where(np.isfinite(nearest), nearest, 0).astype(np.float32)
