"""Points from depth and trajectory."""

from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_images

from egodepth.cli import main
from egodepth.core.errors import EgodepthError
from egodepth.data.sets.point_cloud import read_ply
from egodepth.data.synthetic.street import read_street
from egodepth.inference.export.cloud import Cloud, fuse_cloud, write_ply
from egodepth.inference.odometry.trajectory import Trajectory


class TrueDepth:
    """A run whose depth is the street's own."""

    device, folder = "cpu", "the street"

    def __init__(self, frames: int = 11) -> None:
        self.sequence = read_street(5, frames)
        self.settings = type("Size", (), {"height": 96, "width": 320})
        self.images = [frame.image for frame in self.sequence.frames.at()]
        self.wrong: int | None = None
        self.wrong_by = 1.5
        self.unit = 1.0
        self.deviation: np.ndarray | None = None

    @property
    def has_confidence(self) -> bool:
        return self.deviation is not None

    def maps(
        self, image: np.ndarray, size: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        return self.depth(image, size), self.deviation

    def depth(self, image: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        index = next(i for i, other in enumerate(self.images) if np.array_equal(other, image))
        depth = self.sequence.depth[index]()
        depth = np.where(depth > 0, depth, 1e3)
        return depth * (self.wrong_by if index == self.wrong else 1.0) / self.unit


def test_points_lie_on_the_surfaces_that_two_frames_see() -> None:
    true = TrueDepth()
    sequence, poses = true.sequence, true.sequence.world_from_camera
    assert poses is not None and sequence.camera is not None
    relative = np.linalg.inv(poses[0]) @ poses
    found = Trajectory(relative, sequence.frames.numbers)
    cloud = fuse_cloud(true, sequence, found, every=5, depth="network")  # type: ignore[arg-type]
    assert cloud.points.shape == cloud.colours.shape and len(cloud.points) > 20_000
    # Seen from frame 5, the points of frame 0 have the depth that is rendered there.
    first = len(cloud.points) // 10
    seen = cloud.points[:first].astype(np.float64)
    moved = seen @ np.linalg.inv(relative[5])[:3, :3].T + np.linalg.inv(relative[5])[:3, 3]
    projected = moved @ sequence.camera.matrix.double().numpy().T
    x, y = np.rint(projected[:, :2] / projected[:, 2:]).astype(int).T
    rendered = sequence.depth[5]()[y, x]
    assert np.abs(moved[:, 2] / rendered - 1).max() < 0.05 + 1e-6
    # A frame whose depth is wrong agrees with nobody.
    true.wrong = 10
    fewer = fuse_cloud(true, sequence, found, every=5, depth="network")  # type: ignore[arg-type]
    assert len(fewer.points) < 0.5 * len(cloud.points)


def test_what_the_run_is_unsure_of_is_left_out() -> None:
    true = TrueDepth(6)
    sequence, poses = true.sequence, true.sequence.world_from_camera
    assert poses is not None
    found = Trajectory(np.linalg.inv(poses[0]) @ poses, sequence.frames.numbers)

    def count(**options: float) -> int:
        cloud = fuse_cloud(true, sequence, found, 5, depth="network", **options)  # type: ignore[arg-type]
        return len(cloud.points)

    without = count()
    with pytest.raises(EgodepthError, match="the street has no confidence; make it by"):
        count(max_deviation=0.1)
    true.deviation = np.full((96, 320), 0.05)
    true.deviation[:, :160] = 0.5
    sure = count()
    assert 0.3 * without < sure < 0.7 * without and count(max_deviation=0.1) == sure
    with pytest.raises(EgodepthError, match=r"no point is as sure as 0\.01"):
        count(max_deviation=0.01)
    for wrong in (0, -0.1, np.nan, "0.1"):
        with pytest.raises(EgodepthError, match="max_deviation must be a number above zero"):
            count(max_deviation=wrong)  # type: ignore[arg-type]
    # Depths that differ by less than the deviation agree.
    true.wrong, true.wrong_by = 5, 1.1
    true.deviation[:] = 0.05
    few = count()
    true.deviation[:] = 0.19
    assert count() > 2 * few


def test_ply(tmp_path: Path) -> None:
    cloud = Cloud(np.arange(12, dtype=np.float32).reshape(4, 3), np.full((4, 3), 7, np.uint8))
    write_ply(tmp_path / "c.ply", cloud)
    np.testing.assert_array_equal(read_ply(tmp_path / "c.ply"), cloud.points)


@pytest.mark.parametrize("kind", ["points", "colmap"])
def test_export_from_the_command_line(
    kind: str, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "frames", 6)
    out = tmp_path / ("c.ply" if kind == "points" else "model")
    command = ["export", kind, str(tiny_run), str(tmp_path / "frames"), "--out", str(out)]
    assert main([*command, "--every", "2"]) == 0
    assert "lengths in the run's unit" in capsys.readouterr().out
    assert out.exists()
    assert main([*command, "--every", "0"]) == 2
    assert "--every must be a whole number of at least 1, got" in capsys.readouterr().err
