"""The filter that keeps depth still: noise, borders, what moves, cuts; with the footage's poses and
odometry."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.test_cli import run as command
from tests.test_stillness import CAMERA, plane, pose, textured, write_drive

from egodepth.core.errors import EgodepthError
from egodepth.data.footage.own_footage import read_footage
from egodepth.evaluation.temporal import score_pair, summarize_stillness
from egodepth.inference.predict import predict_sequence
from egodepth.inference.steady import SteadyDepth, SteadySettings
from egodepth.runs.run import Run

STEPS = [pose(0.04 * i, 0.004 * i) for i in range(12)]


def image_of(world_from_camera: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(textured(world_from_camera)).permute(2, 0, 1).float()


def inverse_of(world_from_camera: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(1 / np.minimum(plane(world_from_camera), 50)).float()


def flicker(maps: list[torch.Tensor]) -> float:
    pairs = [
        score_pair(1 / a.numpy(), 1 / b.numpy(), np.linalg.inv(second) @ first, CAMERA)
        for a, b, first, second in zip(maps, maps[1:], STEPS, STEPS[1:], strict=False)
    ]
    return float(summarize_stillness([p for p in pairs if p])["flicker_median"])


def test_noise_is_averaged_and_depth_is_nearer_to_the_truth() -> None:
    """Noise over areas and of the scale falls to less than half; so does the error."""
    rng, steady = np.random.default_rng(0), SteadyDepth(CAMERA)
    noisy, found, errors = [], [], []
    for world_from_camera in STEPS:
        coarse = torch.from_numpy(rng.standard_normal((1, 1, 4, 8))).float()
        noise = torch.nn.functional.interpolate(coarse, (48, 96), mode="bicubic")[0, 0]
        true = inverse_of(world_from_camera)
        noisy.append(true * (0.05 * noise + 0.05 * rng.standard_normal()).exp())
        found.append(steady.update(noisy[-1], image_of(world_from_camera), world_from_camera))
        errors.append([float((m[-1] / true).log().abs().mean()) for m in (noisy, found)])
    assert flicker(found) < 0.5 * flicker(noisy)
    before, after = np.mean(errors[4:], 0)
    assert after < 0.75 * before


def test_borders_stay_and_what_is_right_is_not_changed() -> None:
    """A board before the plane keeps its steps, and depth without noise stays as it is."""
    steady = SteadyDepth(CAMERA)
    board = torch.zeros(48, 96, dtype=torch.bool)
    board[10:30, 30:50] = True
    for _ in range(6):
        inverse = torch.where(board, 2.0, inverse_of(STEPS[0]))
        found = steady.update(inverse, image_of(STEPS[0]), STEPS[0])
        torch.testing.assert_close(found, inverse, rtol=1e-4, atol=1e-6)


def test_what_moves_gets_its_new_depth() -> None:
    """A box that drives ahead at the camera's own speed stays at its distance, though the motion brings every
    resting point nearer."""
    steady, texture = SteadyDepth(CAMERA), torch.rand(3, 20, 30)
    for step in range(10):
        world_from_camera = pose(0.1 * step)
        inverse, image = inverse_of(world_from_camera), image_of(world_from_camera)
        inverse[10:30, 30:60], image[:, 10:30, 30:60] = 0.5, texture
        found = steady.update(inverse, image, world_from_camera)
    inside = (found / inverse)[14:26, 34:56]
    assert inside.log().abs().median() < 0.01


def test_the_filter_starts_again_at_cuts_and_lost_poses() -> None:
    steady, noise = SteadyDepth(CAMERA), torch.rand(3, 48, 96)
    for world_from_camera in STEPS[:3]:
        steady.update(inverse_of(world_from_camera), image_of(world_from_camera), world_from_camera)
    other = torch.rand(48, 96) + 0.1
    assert torch.equal(steady.update(other, noise, STEPS[3]), other)
    assert torch.equal(steady.update(inverse_of(STEPS[4]), noise, None), inverse_of(STEPS[4]))
    assert not steady.started
    with pytest.raises(EgodepthError, match="memory must be at least 1 frame"):
        SteadySettings(memory=0.5)


def test_predict_steady(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Along the footage's poses, and with odometry along; the first frame's depth is the network's own."""
    poses = write_drive(tmp_path, 4)
    run = Run.load(tiny_run)
    sequence = replace(read_footage(tmp_path / "frames"), camera=CAMERA, world_from_camera=poses)
    plain = [seen.depth for seen in predict_sequence(run, sequence, motion="network")]
    found = [seen.depth for seen in predict_sequence(run, sequence, steady=True, motion="network")]
    assert len(found) == 4 and all(depth.shape == (48, 96) for depth in found)
    np.testing.assert_allclose(found[0], plain[0], rtol=1e-5)
    assert not np.allclose(found[-1], plain[-1], rtol=1e-3)
    status, _, err = command(
        capsys, "predict", tiny_run, tmp_path / "frames", "--out", tmp_path / "out", "--steady",
        "--formats", "npz",
    )  # fmt: skip
    assert status == 0, err
    assert len(list((tmp_path / "out" / "depth").glob("*.npz"))) == 4
