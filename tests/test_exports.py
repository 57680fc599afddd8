"""Meshes, EXR depth maps and recordings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from tests.conftest import write_images
from tests.test_cli import run
from tests.test_cloud import TrueDepth

from egodepth.core.errors import EgodepthError
from egodepth.data.sequence import Frame
from egodepth.geometry.camera import Camera, pixel_grid
from egodepth.inference.export.mesh import Mesh, Volume, fuse_mesh, write_mesh
from egodepth.inference.odometry.tracker import FrameMotion, Odometry
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.runs.unit import Unit

CENTRE = np.array([0.0, 0.0, 4.0])


def sphere_depth(camera: Camera, camera_from_world: np.ndarray) -> np.ndarray:
    """Depth of the unit sphere around CENTRE, 0 beside it."""
    grid = pixel_grid(camera.height, camera.width, torch.zeros(1, dtype=torch.float64))
    ones = torch.ones(len(grid), dtype=torch.float64)
    rays = camera.to(torch.float64).unproject(grid, ones).numpy()
    centre = camera_from_world[:3, :3] @ CENTRE + camera_from_world[:3, 3]
    a, b, c = (rays**2).sum(1), rays @ centre, centre @ centre - 1
    root = b * b - a * c
    depth = np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, 0)
    return depth.reshape(camera.height, camera.width)


def test_a_sphere_seen_from_all_around() -> None:
    camera = Camera.from_field_of_view(60.0, 96, 128)
    volume = Volume(CENTRE - 1.3, CENTRE + 1.3, 0.04)
    for angle in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        pose = np.eye(4)
        pose[:3, :3] = [
            [np.cos(angle), 0, np.sin(angle)],
            [0, 1, 0],
            [-np.sin(angle), 0, np.cos(angle)],
        ]
        pose[:3, 3] = CENTRE - pose[:3, :3] @ CENTRE
        depth = torch.from_numpy(sphere_depth(camera, pose))
        image = torch.full((96, 128, 3), 90, dtype=torch.uint8)
        volume.add(depth, depth > 0, image, camera, torch.from_numpy(pose))
    mesh = volume.mesh()
    radius = np.linalg.norm(mesh.vertices - CENTRE, axis=1)
    assert len(mesh.faces) > 5000 and np.abs(radius - 1).mean() < 0.015
    assert np.abs(radius - 1).max() < 0.08 and (mesh.colours == 90).all()
    made = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    outward = (made.face_normals * (made.triangles_center - CENTRE)).sum(1) > 0
    assert outward.mean() > 0.95


def test_a_street_is_meshed_where_it_is(tmp_path: Path) -> None:
    """Vertices in front of the middle camera lie at the rendered depth."""
    true = TrueDepth()
    poses = true.sequence.world_from_camera
    assert poses is not None and true.sequence.camera is not None
    relative = np.linalg.inv(poses[0]) @ poses
    found = Trajectory(relative, true.sequence.frames.numbers)
    mesh = fuse_mesh(true, true.sequence, found, 2, depth="network")  # type: ignore[arg-type]
    moved = mesh.vertices @ np.linalg.inv(relative[4])[:3, :3].T + np.linalg.inv(relative[4])[:3, 3]
    moved = moved[moved[:, 2] > 2].astype(np.float64)
    projected = moved @ true.sequence.camera.matrix.double().numpy().T
    x, y = np.rint(projected[:, :2] / projected[:, 2:]).astype(int).T
    inside = (x >= 0) & (x < 320) & (y >= 0) & (y < 96)
    rendered = true.sequence.depth[4]()[y[inside], x[inside]]
    error = np.abs(moved[inside, 2] - rendered) / rendered
    assert len(error) > 10_000 and np.median(error) < 0.02
    coarse = fuse_mesh(true, true.sequence, found, 2, 2 * mesh.voxel, depth="network")  # type: ignore[arg-type]
    for suffix in (".ply", ".obj", ".glb", ".stl"):
        write_mesh(tmp_path / f"mesh{suffix}", coarse)
        read = trimesh.load(tmp_path / f"mesh{suffix}", force="mesh", process=False)
        assert len(read.faces) == len(coarse.faces) > 10_000, suffix
    with pytest.raises(EgodepthError, match="must end in"):
        write_mesh(tmp_path / "mesh.dae", mesh)
    with pytest.raises(EgodepthError, match="too small for a scene"):
        fuse_mesh(true, true.sequence, found, 2, voxel=1e-3, depth="network")  # type: ignore[arg-type]
    with pytest.raises(EgodepthError, match="larger than the whole scene"):
        fuse_mesh(true, true.sequence, found, 2, voxel=1e308, depth="network")  # type: ignore[arg-type]
    metres = replace(found, unit=Unit(0.5, "metres, by a ruler"))
    half = fuse_mesh(true, true.sequence, metres, 2, mesh.voxel, depth="network")  # type: ignore[arg-type]
    np.testing.assert_allclose(half.vertices, coarse.vertices / 2, rtol=1e-4, atol=1e-4)


def test_an_empty_volume_has_no_surface() -> None:
    with pytest.raises(EgodepthError, match="no surface was found"):
        Volume(np.zeros(3), np.ones(3), 0.1).mesh()


@pytest.mark.parametrize("kind", ["points", "mesh", "colmap"])
def test_a_length_that_tells_no_unit_loses_no_tracking(
    tiny_run: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wall without any ground: a camera height means nothing, and neither do the metres of a voxel."""
    write_images(tmp_path / "frames", 4)
    out = tmp_path / ("model" if kind == "colmap" else "a.ply")
    words = ["export", kind, tiny_run, tmp_path / "frames", "--out", out, "--every", 2]
    words += ["--voxel", 1e9] if kind == "mesh" else []
    status, text, err = run(capsys, *words, "--camera_height", 1.5)
    assert status == 1 and "lengths in the run's unit" in text
    assert err.splitlines()[-1].endswith(f"{out} is in the run's own unit") and out.exists()
    other = tmp_path / f"plain{out.suffix}"
    words = [other if word is out else word for word in words[: -2 if kind == "mesh" else None]]
    assert run(capsys, *words)[0] == 0
    if kind != "colmap":
        assert other.read_bytes() == out.read_bytes()


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb", ".stl"])
def test_a_comment_is_kept_in_every_format_of_a_mesh(tmp_path: Path, suffix: str) -> None:
    triangle = Mesh(
        np.eye(3, dtype=np.float32), np.array([[0, 1, 2]]), np.full((3, 3), 90, np.uint8), 1.0
    )
    for comment in ("", "partial: interrupted after 3 of 6 frames"):
        path = tmp_path / f"mesh{len(comment)}{suffix}"
        write_mesh(path, triangle, comment)
        assert (b"partial" in path.read_bytes()) == bool(comment)
        read = trimesh.load(path, force="mesh", process=False)
        np.testing.assert_array_equal(read.triangles[0], np.eye(3))


@pytest.mark.parametrize("kind", ["points", "mesh", "colmap", "nerfstudio", "rerun"])
def test_what_is_written_of_an_interrupted_tracking_says_so(
    tiny_run: Path, tmp_path: Path, kind: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if kind == "rerun":
        pytest.importorskip("rerun")
    write_images(tmp_path / "frames", 6)
    original, seen = Odometry.track, []

    def track(self: Odometry, frame: Frame) -> FrameMotion:
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(frame.number)
        return original(self, frame)

    monkeypatch.setattr(Odometry, "track", track)
    name = {"points": "a.ply", "mesh": "a.ply", "rerun": "a.rrd"}.get(kind, "scene")
    out = tmp_path / name
    status, text, err = run(
        capsys, "export", kind, tiny_run, tmp_path / "frames", "--out", out, "--every", 2
    )
    assert status == 130 and text == ""
    assert "interrupted after 4 of 6 frames; this is a part:" in err and str(out) in err
    file = {"colmap": out / "about.txt", "nerfstudio": out / "transforms.json"}.get(kind, out)
    assert b"partial: interrupted after 4 of 6 frames" in file.read_bytes()


def test_exr_and_chosen_formats(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    openexr = pytest.importorskip("OpenEXR")
    write_images(tmp_path / "frames", 3)
    out = tmp_path / "out"
    words = ("predict", tiny_run, tmp_path / "frames", "--out", out, "--formats", "exr", "npz")
    assert run(capsys, *words)[0] == 0
    depth = np.load(out / "depth" / "0000000002.npz")["depth"]
    read = openexr.File(str(out / "depth_exr" / "0000000002.exr")).channels()["Z"].pixels
    np.testing.assert_array_equal(read, depth)
    assert not (out / "depth.mp4").exists() and not (out / "depth_png").exists()
    status, _, error = run(capsys, *words[:-2], "tiff")
    assert status == 2 and "got 'tiff'" in error


def test_commands(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On an untrained run on noise: files are there, and hold something."""
    pytest.importorskip("rerun")
    write_images(tmp_path / "frames", 6)
    common = (tiny_run, tmp_path / "frames", "--every", 2, "--speed", 1, "--fps", 10)
    status, text, error = run(capsys, "export", "mesh", *common, "--out", tmp_path / "m.ply")
    assert status == 0, error
    assert "triangles" in text and "1 m/s" in text
    assert len(trimesh.load(tmp_path / "m.ply", force="mesh").faces) > 100
    status, text, error = run(capsys, "export", "rerun", *common, "--out", tmp_path / "r.rrd")
    assert status == 0, error
    assert "3 frames" in text and (tmp_path / "r.rrd").read_bytes()[:3] == b"RRF"
