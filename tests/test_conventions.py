"""Conventions of cameras, poses, depth and pixels, on a street rendered into KITTI's layouts.

:mod:`tests.test_real_data` asserts the same of the real excerpts, where they are.
"""

from pathlib import Path

import numpy as np
import pytest
from tests.rendered_kitti import BASELINE, FRAMES, SCANNED
from tests.test_real_data import check_neighbours, check_rig, read

LEFT = ["2011_09_26_drive_0001_sync/image_02", "07/image_2"]
RIGHT = ["2011_09_26_drive_0001_sync/image_03", "07/image_3"]


@pytest.mark.parametrize("name", LEFT + RIGHT)
def test_depth_and_pose_explain_the_neighbours(name: str, rendered_kitti: Path) -> None:
    sequence = read(rendered_kitti, name)
    assert (len(sequence.frames), list(sequence.depth)) == (FRAMES, [SCANNED])
    check_neighbours(sequence)


@pytest.mark.parametrize("name", LEFT)
def test_depth_and_the_baseline_explain_the_other_camera(name: str, rendered_kitti: Path) -> None:
    left, right = read(rendered_kitti, name), read(rendered_kitti, RIGHT[LEFT.index(name)])
    between = np.linalg.inv(left.rig_from_camera) @ right.rig_from_camera
    np.testing.assert_allclose(between[:3, 3], [BASELINE, 0, 0], atol=1e-6)
    check_rig(left, right)


def test_both_layouts_tell_the_same(rendered_kitti: Path) -> None:
    raw, odometry = (read(rendered_kitti, name) for name in LEFT)
    motions = []
    for sequence in (raw, odometry):
        poses = sequence.world_from_camera
        assert poses is not None
        motions.append(np.linalg.inv(poses[:-1]) @ poses[1:])
    np.testing.assert_allclose(motions[0], motions[1], atol=1e-5)
    np.testing.assert_array_equal(raw.depth[SCANNED](), odometry.depth[SCANNED]())
