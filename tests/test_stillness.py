"""How still depth is: planes and flicker of known size, with the run's, given and other poses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.test_cli import run

from egodepth.core.errors import EgodepthError
from egodepth.data.footage.own_footage import read_footage
from egodepth.evaluation.temporal import score_pair, summarize_stillness
from egodepth.geometry.camera import Camera, camera_rays
from egodepth.geometry.pose_scale import find_pose_scale
from egodepth.geometry.warp import sample_on_surfaces
from egodepth.inference.scoring.predictions import Predictions
from egodepth.inference.scoring.stillness import evaluate_stillness

CAMERA = Camera.from_field_of_view(60.0, 48, 96)
NORMAL, DISTANCE = np.array([0.1, 0.9, 0.2]), 1.0


def plane(world_from_camera: np.ndarray) -> np.ndarray:
    """Depth of a plane, infinite above its horizon."""
    rays = camera_rays(CAMERA).double().numpy() @ world_from_camera[:3, :3].T
    with np.errstate(divide="ignore"):
        depth = (DISTANCE - world_from_camera[:3, 3] @ NORMAL) / (rays @ NORMAL)
    return np.where((depth > 0) & (depth < 100), depth, np.inf)


def pose(z: float, yaw: float = 0.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[[0, 0, 2, 2], [0, 2, 0, 2]] = np.cos(yaw), np.sin(yaw), -np.sin(yaw), np.cos(yaw)
    matrix[2, 3] = z
    return matrix


def test_a_plane_is_still_and_known_flicker_is_found() -> None:
    """Without noise depth agrees; a factor shows as the scale; noise of known size as median and percentile."""
    first, second = pose(0), pose(0.15, 0.02)
    motion = np.linalg.inv(second) @ first
    here, there = plane(first), plane(second)
    still = score_pair(here, there, motion, CAMERA)
    assert still is not None and still.median < 1e-6 and still.p95 < 0.02 and still.compared > 0.2
    larger = score_pair(here, 1.05 * there, motion, CAMERA)
    assert larger is not None and larger.scale == pytest.approx(np.log(1.05), abs=1e-6)
    assert still.step == larger.step and still.edges < 0.2
    noise = np.exp(0.1 * np.random.default_rng(0).standard_normal(here.shape))
    still_camera = score_pair(plane(first), plane(first) * noise, np.eye(4), CAMERA)
    assert still_camera is not None
    assert still_camera.median == pytest.approx(0.0674, abs=0.005)  # 0.6745 deviations
    assert still_camera.p95 == pytest.approx(0.196, abs=0.015)  # 1.96 deviations
    assert summarize_stillness([still, larger])["scale_step_spread"] == pytest.approx(
        np.log(1.05) / 2, abs=1e-6
    )


def test_what_is_hidden_is_left_out() -> None:
    """A post hides the wall behind it: the wall that it comes to hide is not compared."""
    camera = Camera.from_field_of_view(90.0, 20, 100)
    wall, post = 10.0, 2.0

    def seen(x: float) -> np.ndarray:
        columns = camera_rays(camera)[..., 0].numpy() * post + x
        return np.where(np.abs(columns) < 0.3, post, wall)

    motion = np.eye(4)
    motion[0, 3] = -0.4
    pair = score_pair(seen(0), seen(0.4), motion, camera)
    assert pair is not None and pair.p95 < 1e-6 and pair.compared > 0.8
    assert (
        score_pair(seen(0), seen(0.4), pose(0, 3.0), camera) is None
    )  # nothing is in both pictures


def test_surfaces_are_not_mixed() -> None:
    steps = torch.tensor([[1.0, 1.04, 2.0]]).expand(2, 3)
    at = torch.tensor([[[0.5, 0.0], [1.4, 0.0], [1.6, 0.0]]])
    torch.testing.assert_close(sample_on_surfaces(steps, at), torch.tensor([[1.02, 1.04, 2.0]]))
    nearest = sample_on_surfaces(steps, at, torch.full((1, 3), 2.0))
    torch.testing.assert_close(nearest, torch.tensor([[1.02, 2.0, 2.0]]))


def textured(world_from_camera: np.ndarray) -> np.ndarray:
    """Image (H, W, 3) of the plane, painted with waves."""
    depth = np.minimum(plane(world_from_camera), 1e3)
    rays = camera_rays(CAMERA).double().numpy() @ world_from_camera[:3, :3].T
    x, _, z = np.moveaxis(rays * depth[..., None] + world_from_camera[:3, 3], -1, 0)
    waves = [np.sin(5 * x) * np.cos(4 * z), np.sin(9 * z), np.cos(3 * x + 2 * z)]
    sky = np.isinf(plane(world_from_camera))
    return np.where(sky[..., None], 0.5, 0.5 + 0.4 * np.stack(waves, -1))


def test_the_scale_of_poses_is_found_by_the_images() -> None:
    a, b = pose(0), pose(0.15, 0.02)
    images = torch.from_numpy(np.stack([textured(a), textured(b)])).permute(0, 3, 1, 2).float()
    motion = torch.from_numpy(np.linalg.inv(b) @ a).float()[None]
    depth = torch.from_numpy(np.minimum(7 * plane(a), 700)).float()[None]
    assert find_pose_scale(depth, images[:1], images[1:], motion, CAMERA) == pytest.approx(
        7, rel=0.03
    )
    assert find_pose_scale(depth, images[:1], images[1:], torch.eye(4)[None], CAMERA) == 1.0


def write_drive(folder: Path, count: int = 6) -> np.ndarray:
    """Images of the plane, a trajectory, and depth maps of another program in a unit of its own, of which every
    second one is 4 % farther; returns the poses."""
    (folder / "frames").mkdir(parents=True)
    (folder / "theirs").mkdir()
    poses = np.stack([pose(0.1 * i, 0.01 * i) for i in range(count)])
    for i, p in enumerate(poses):
        Image.fromarray((255 * textured(p)).astype(np.uint8)).save(folder / f"frames/{i:03d}.png")
        np.save(folder / f"theirs/{i:03d}.npy", np.minimum(plane(p), 99) * (3.12 if i % 2 else 3))
    np.savetxt(folder / "poses.txt", poses[:, :3].reshape(-1, 12))
    return poses


def test_predictions_of_others_along_a_trajectory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_drive(tmp_path)
    (sequence,) = [replace(read_footage(tmp_path / "frames"), camera=CAMERA)]
    theirs = Predictions(tmp_path / "theirs")
    found = evaluate_stillness(theirs, [sequence], trajectory=tmp_path / "poses.txt")
    assert found.summary["pairs"] == 5
    assert found.summary["flicker_median"] == pytest.approx(np.log(1.04), abs=0.004)
    assert found.summary["scale_step_spread"] == pytest.approx(np.log(1.04), abs=0.004)
    assert "lengths times 3" in found.caption
    (tmp_path / "theirs" / "003.npy").unlink()
    with pytest.raises(EgodepthError, match="has no poses: give --trajectory FILE"):
        evaluate_stillness(theirs, [sequence])
    (tmp_path / "short.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 2)
    with pytest.raises(EgodepthError, match=r"short\.txt has 2 poses, frames 6 frames"):
        evaluate_stillness(theirs, [sequence], trajectory=tmp_path / "short.txt")
    (tmp_path / "frames" / "camera.yaml").write_text(
        f"width: 96\nheight: 48\nfx: {CAMERA.matrix[0, 0]}\nfy: {CAMERA.matrix[1, 1]}\ncx: 47.5\ncy: 23.5\n"
    )
    args = ("evaluate", "depth", tmp_path / "theirs", "--data", tmp_path / "frames", "--trajectory")
    status, _, err = run(capsys, *args, tmp_path / "poses.txt")
    assert status == 1 and "--trajectory is for --temporal" in err
    json_file = tmp_path / "still.json"
    status, out, err = run(capsys, *args, tmp_path / "poses.txt", "--temporal", "--json", json_file)
    assert status == 0, err
    assert "stillness" in out and "95th percentile" in out
    scores = json.loads(json_file.read_text())
    assert scores["kind"] == "temporal" and scores["temporal"]["pairs"] == 3
