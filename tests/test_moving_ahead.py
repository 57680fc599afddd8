"""What drives at the camera's speed gets the depth of the ground at its foot; static things keep theirs."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

import egodepth
from egodepth.data.preparation.clips import KnownMotion, read_clips
from egodepth.data.preparation.dense_depth import LabelMaker
from egodepth.geometry.camera import Camera, camera_rays
from egodepth.geometry.moving_ahead import SHADOW_MARGIN, depth_moving_ahead

HEIGHT, WIDTH = 96, 320
CAMERA = Camera(torch.tensor([[[180.0, 0, 160], [0, 180, 40], [0, 0, 1]]]), HEIGHT, WIDTH)
GROUND = torch.tensor([0.0, 1 / 1.5, 0.0])
TOP, FOOT, LEFT, RIGHT = 44, 75, 140, 180


def motions(step: float) -> Tensor:
    """To two frames before and two after, along the optical axis."""
    found = torch.eye(4).repeat(4, 1, 1, 1)
    found[:, 0, 2, 3] = step * torch.tensor([-2.0, -1, 1, 2])
    return found


def road() -> Tensor:
    """Inverse depth of an empty road; almost nothing above the horizon."""
    rays = camera_rays(Camera(CAMERA.matrix[0], HEIGHT, WIDTH))
    return (rays @ GROUND).clamp(min=1e-3)[None]


def with_thing(inverse_depth: float, seen: float) -> tuple[Tensor, Tensor]:
    """Inverse depth by a sweep, and what views agree on, with a thing on the road."""
    swept = road()
    swept[:, TOP : FOOT + 1, LEFT:RIGHT] = inverse_depth
    known = swept.where(swept > 2e-3, torch.nan)
    known[:, TOP : FOOT + 1, LEFT:RIGHT] = seen
    return swept, known


def test_a_car_ahead_gets_the_depth_of_the_ground_at_its_foot() -> None:
    swept, known = with_thing(1e-3, torch.nan)
    found = depth_moving_ahead(swept, known, motions(0.8), CAMERA)[0]
    inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    inside[TOP : FOOT + 1, LEFT:RIGHT] = True
    assert torch.equal(found.isfinite(), inside)
    expected = road()[0, FOOT + 1, 160] / (1 + SHADOW_MARGIN)
    assert found[inside] == pytest.approx(float(expected), rel=1e-5)


def test_what_stands_on_the_road_is_left_alone() -> None:
    at_foot = float(road()[0, FOOT + 1, 160])
    swept, known = with_thing(at_foot, at_foot)
    assert depth_moving_ahead(swept, known, motions(0.8), CAMERA).isnan().all()


def test_nothing_is_told_without_parallax_ground_or_foot() -> None:
    swept, known = with_thing(1e-3, torch.nan)
    assert depth_moving_ahead(swept, known, motions(0.05), CAMERA).isnan().all()
    wall = torch.full_like(swept, 0.2)
    assert depth_moving_ahead(swept, wall, motions(0.8), CAMERA).isnan().all()
    unseen = known.clone()
    unseen[:, FOOT + 1 : FOOT + 9, LEFT:RIGHT] = torch.nan
    assert depth_moving_ahead(swept, unseen, motions(0.8), CAMERA).isnan().all()


def test_the_van_of_kitti_04_is_labelled_where_it_is(data: Path, tmp_path: Path) -> None:
    sequence = next(
        s for s in egodepth.read_source(f"kitti_odometry:{data / 'kitti_odometry'}")
        if s.name == "04/image_2"
    )  # fmt: skip
    clip = read_clips([sequence], HEIGHT, WIDTH, tmp_path)[0]
    clip = replace(clip, motion=KnownMotion.given(sequence))
    index = 20
    inverse = LabelMaker(clip, index, torch.device("cpu")).label(index)[0].astype(np.float32)
    truth = sequence.depth[index]()
    inverse = cv2.resize(inverse, truth.shape[::-1], interpolation=cv2.INTER_NEAREST)
    van = np.zeros(truth.shape, bool)
    van[155:215, 565:635] = True
    van &= truth > 0
    van &= truth < 1.25 * np.median(truth[van])
    assert (inverse[van] > 0).mean() > 0.7
    both = van & (inverse > 0)
    assert np.median(1 / inverse[both]) == pytest.approx(np.median(truth[both]), rel=0.1)
