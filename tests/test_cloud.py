"""Points and COLMAP models from depth and trajectory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_images

from egodepth.cli import main
from egodepth.core.errors import EgodepthError
from egodepth.data.sets.eth3d import _read_cameras, _read_images
from egodepth.data.sets.point_cloud import read_ply
from egodepth.data.sources import read_source
from egodepth.data.synthetic.street import read_street
from egodepth.inference.export.cloud import Cloud, fuse_cloud, write_colmap, write_ply
from egodepth.inference.odometry.trajectory import Trajectory


class TrueDepth:
    """A run whose depth is the street's own."""

    device = "cpu"

    def __init__(self, frames: int = 11) -> None:
        self.sequence = read_street(5, frames)
        self.settings = type("Size", (), {"height": 96, "width": 320})
        self.images = [frame.image for frame in self.sequence.frames.at()]
        self.wrong: int | None = None
        self.unit = 1.0

    def depth(self, image: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        index = next(i for i, other in enumerate(self.images) if np.array_equal(other, image))
        depth = self.sequence.depth[index]()
        depth = np.where(depth > 0, depth, 1e3)
        return depth * (1.5 if index == self.wrong else 1.0) / self.unit


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


def test_ply_and_colmap_files(tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 5)
    sequence = read_source(str(tmp_path / "frames"))[0].with_fov(60)
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 2, 3] = np.arange(5)
    cloud = Cloud(np.arange(12, dtype=np.float32).reshape(4, 3), np.full((4, 3), 7, np.uint8))
    write_ply(tmp_path / "c.ply", cloud)
    np.testing.assert_array_equal(read_ply(tmp_path / "c.ply"), cloud.points)
    assert (
        write_colmap(tmp_path / "model", sequence, Trajectory(poses, list(range(5))), cloud, 2) == 3
    )
    model = tmp_path / "model" / "sparse" / "0"
    camera = _read_cameras(model / "cameras.txt")["1"]
    assert sequence.camera is not None
    np.testing.assert_allclose(camera.matrix, sequence.camera.matrix, atol=1e-4)
    images = _read_images(model / "images.txt")
    assert list(images) == ["0000000000.png", "0000000002.png", "0000000004.png"]
    np.testing.assert_allclose(np.linalg.inv(images["0000000002.png"][1]), poses[2], atol=1e-8)
    assert len((model / "points3D.txt").read_text().splitlines()) == 4
    assert (tmp_path / "model" / "images" / "0000000004.png").exists()
    with pytest.raises(EgodepthError, match="has no camera"):
        found = Trajectory(poses, list(range(5)))
        write_colmap(tmp_path / "m", replace(sequence, camera=None), found, cloud, 1)


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


def test_pycolmap_reads_the_model(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    write_images(tmp_path / "frames", 3)
    sequence = read_source(str(tmp_path / "frames"))[0].with_fov(60)
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = np.arange(3)
    cloud = Cloud(np.ones((5, 3), np.float32), np.zeros((5, 3), np.uint8))
    write_colmap(tmp_path / "m", sequence, Trajectory(poses, [0, 1, 2]), cloud, 1)
    model = pycolmap.Reconstruction(str(tmp_path / "m" / "sparse" / "0"))
    assert model.num_images() == 3 and model.num_points3D() == 5
    centre = model.image(2).projection_center()
    np.testing.assert_allclose(centre, [1, 0, 0], atol=1e-8)
