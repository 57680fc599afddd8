"""Readers of all layouts on tiny instances of them."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from tests import layouts
from tests.conftest import tiny_settings

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.sequence import Sequence
from egodepth.data.sets.eth3d import read_pfm
from egodepth.data.sets.point_cloud import depth_of_cloud, read_ply
from egodepth.data.sources import DATA_SETS, read_source
from egodepth.geometry.camera import Camera
from egodepth.training.run import train


def read(name: str, root: Path) -> tuple[list[Sequence], list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EgodepthWarning)
        sequences = read_source(f"{name}:{root}")
    return sequences, [str(w.message) for w in caught if w.category is EgodepthWarning]


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_layout_can_be_read_and_its_absence_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EgodepthError, match="expected"):
        read_source(f"{name}:{tmp_path / 'empty'}")
    with pytest.raises(EgodepthError, match="there is no folder"):
        read_source(f"{name}:{tmp_path / 'nowhere'}")
    root = tmp_path / "data"
    root.mkdir()
    layouts.MAKERS[name](root)
    sequences, _ = read(name, root)
    for sequence in sequences:
        frames = list(sequence.frames.at())
        assert len(frames) == len(sequence.frames) > 0
        assert [f.number for f in frames] == sequence.frames.numbers
        times = sequence.frames.times
        assert [f.time for f in frames] == (
            [None] * len(frames) if times is None else times.tolist()
        )
        size = (sequence.frames.height, sequence.frames.width)
        assert all(f.image.shape == (*size, 3) and f.image.dtype == np.uint8 for f in frames)
        assert sequence.camera is not None
        assert (sequence.camera.height, sequence.camera.width) == size
        for depth in sequence.depth.values():
            values = depth()
            assert values.dtype == np.float32 and values.ndim == 2 and (values > 0).any()
    assert any(sequence.depth for sequence in sequences)


def test_symbolic_links_and_improved_depth_of_kitti(tmp_path: Path) -> None:
    drive = layouts.make_raw(tmp_path / "disk")
    layouts.make_improved_depth(tmp_path / "data_depth_annotated", drive.name, [6, 7])
    (tmp_path / "raw").symlink_to(tmp_path / "disk")
    ((sequence,), _) = read("kitti_raw", tmp_path / "raw")
    assert list(sequence.depth) == [1]
    layouts.make_improved_depth(tmp_path / "disk", drive.name, [6, 7, 9])
    ((sequence,), lines) = read("kitti_raw", tmp_path / "raw")
    assert lines == []  # the folders of the depth maps are no drives
    assert list(sequence.improved_depth) == [1, 2]  # number 9 has no image
    assert (sequence.improved_depth[1]() == 7).all()


def test_linked_sequences_are_found_and_loops_end(tmp_path: Path) -> None:
    layouts.make_seven_scenes(tmp_path / "disk")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "chess").symlink_to(tmp_path / "disk" / "chess")
    (tmp_path / "disk" / "chess" / "again").symlink_to(tmp_path / "disk")
    sequences, _ = read("seven_scenes", tmp_path / "root")
    assert [s.name for s in sequences] == ["chess/seq-03"]


def test_what_kitti_lacks_is_told_once(tmp_path: Path) -> None:
    layouts.make_raw(tmp_path)
    for number in (1, 2):
        folder = (
            tmp_path / "2011_09_28" / f"2011_09_28_drive_000{number}_sync" / "image_02" / "data"
        )
        layouts.write_images(folder, 1)
    oxts = tmp_path / "2011_09_26/2011_09_26_drive_0001_sync/oxts/data/0000000005.txt"
    oxts.unlink()
    (sequence,), lines = read("kitti_raw", tmp_path)
    assert len(lines) == 1
    assert "drives without calibration, left out: 2 (2011_09_28/2011_09_28_drive_0001" in lines[0]
    assert "frames without a GPS/IMU record: 1" in lines[0]
    assert sequence.world_from_camera is not None
    assert np.isnan(sequence.world_from_camera[0]).all()
    assert np.isfinite(sequence.world_from_camera[1:]).all()


def test_odometry_frames_beyond_the_poses_have_none(tmp_path: Path) -> None:
    layouts.make_odometry(tmp_path)
    (tmp_path / "poses" / "07.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 2)
    (left, _), lines = read("kitti_odometry", tmp_path)
    assert left.world_from_camera is not None
    assert np.isnan(left.world_from_camera[:, 0, 0]).tolist() == [False, False, True]
    assert "frames beyond the poses: 2 (07/image_2 2, 07/image_3 2)" in lines[0]


def test_cityscapes_cuts_the_bonnet_and_turns_disparity_into_depth(tmp_path: Path) -> None:
    layouts.make_cityscapes(tmp_path)
    (left, right), lines = read("cityscapes", tmp_path)
    assert lines == []
    assert (left.frames.height, left.frames.width) == (30, 80)
    assert left.camera is not None and left.camera.matrix[1, 2] == 19.5
    assert left.rig == right.rig and right.rig_from_camera[0, 3] == 0.2
    assert list(left.depth) == [1] and left.frames.numbers == [18, 19, 20]
    depth = left.depth[1]()
    assert depth.shape == (30, 80)
    assert (depth[0] == 0).all()
    np.testing.assert_allclose(depth[1:], 4.0)


def test_cityscapes_snippets_of_one_drive_are_apart(tmp_path: Path) -> None:
    layouts.make_cityscapes(tmp_path, frames=5)
    folder = tmp_path / "leftImg8bit_sequence" / "train" / "aachen"
    for path in sorted(folder.iterdir()):
        number = int(path.stem.split("_")[-2])
        later = folder / f"aachen_000000_{number + 100:06d}_leftImg8bit.png"
        later.write_bytes(path.read_bytes())
        (folder / f"aachen_000001_{number:06d}_leftImg8bit.png").write_bytes(path.read_bytes())
    (folder / "aachen_000000_000120_leftImg8bit.png").unlink()
    sequences, lines = read("cityscapes", tmp_path)
    left = {s.name: s.frames.numbers for s in sequences if s.camera_name == "left"}
    assert left == {
        "train/aachen_000000/left": [18, 19, 20, 21, 22],
        "train/aachen_000000_1/left": [118, 119, 121, 122],
    }
    assert "snippets without a camera file, left out: 1 (train/aachen_000001 (left))" in lines[0]


def test_euroc_is_undistorted_and_posed(tmp_path: Path) -> None:
    layouts.make_euroc(tmp_path)
    (left, right), _ = read("euroc", tmp_path)
    assert left.camera is not None and right.camera is not None
    assert left.camera.matrix.tolist() == right.camera.matrix.tolist()
    assert left.frames.numbers == [0, 1, 2, 3]
    assert left.world_from_camera is not None and right.world_from_camera is not None
    np.testing.assert_allclose(left.world_from_camera[2, :3, 3], [0, 0, 2])
    np.testing.assert_allclose(right.world_from_camera[2, :3, 3], [0.11, 0, 2])
    depth = left.depth[3]()
    np.testing.assert_allclose(depth[depth > 0], 7.0, rtol=1e-5)
    assert (depth > 0).mean() > 0.5


def test_nyu_reads_matlab_order(tmp_path: Path) -> None:
    layouts.make_nyu(tmp_path)
    (raw, labelled), _ = read("nyu", tmp_path)
    assert raw.name == "kitchen_0001a" and not raw.depth
    assert labelled.frames.numbers == [0, 3]
    depth = labelled.depth[1]()
    assert depth.shape == (480, 640) and depth[7, 5] == 9 and depth[0, 0] == 4
    (tmp_path / "splits.mat").unlink()
    with pytest.raises(EgodepthError, match=r"needs splits\.mat beside it"):
        read("nyu", tmp_path)


def test_seven_scenes_frame_without_pose(tmp_path: Path) -> None:
    layouts.make_seven_scenes(tmp_path)
    (sequence,), lines = read("seven_scenes", tmp_path)
    assert sequence.world_from_camera is not None
    assert np.isnan(sequence.world_from_camera[:, 0, 0]).tolist() == [False, False, True]
    assert "frames without a pose: 1 (chess/seq-03/frame-000002.pose.txt)" in lines[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 0 0 1\n0 2 0 0\n0 0 2 0\n0 0 0 1\n", "its 3x3 part is no rotation"),
        ("1 0 0 1\n0 1 0 0\n0 0 -1 0\n0 0 0 1\n", "its 3x3 part is no rotation"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n3 0 0 1\n", "last row is not 0 0 0 1"),
    ],
)
def test_seven_scenes_poses_are_rigid(tmp_path: Path, text: str, message: str) -> None:
    layouts.make_seven_scenes(tmp_path)
    next(tmp_path.rglob("frame-000000.pose.txt")).write_text(text)
    with pytest.raises(EgodepthError, match=f"the pose .*{message}"):
        read("seven_scenes", tmp_path)


def test_tum_associates_by_time(tmp_path: Path) -> None:
    layouts.make_tum(tmp_path)
    (sequence,), lines = read("tum_rgbd", tmp_path)
    assert sorted(sequence.depth) == [0, 1, 2]
    assert "images without depth in time: 1" in lines[0]
    assert sequence.world_from_camera is not None
    np.testing.assert_allclose(sequence.world_from_camera[:, 0, 3], [0, 1, 2, 3])
    assert sequence.depth[0]()[240, 320] == pytest.approx(1.5)
    (tmp_path / "rgbd_dataset_freiburg1_tiny").rename(tmp_path / "mine")
    with pytest.raises(EgodepthError, match="which camera it is of"):
        read("tum_rgbd", tmp_path)


def test_times_of_images_in_another_unit(tmp_path: Path) -> None:
    """EuRoC's in milliseconds, and TUM's in steps of 33, would be associated with any pose."""
    layouts.make_euroc(tmp_path / "euroc")
    for file in (tmp_path / "euroc").rglob("cam0/data.csv"):
        rows = [row.split(",") for row in file.read_text().splitlines()]
        rows = [[f"{33 * i}", *row[1:]] if row[0].isdigit() else row for i, row in enumerate(rows)]
        file.write_text("\n".join(map(",".join, rows)))
    with pytest.raises(
        EgodepthError, match=r"data\.csv.* are no nanoseconds, though its header or format"
    ):
        read("euroc", tmp_path / "euroc")
    layouts.make_tum(tmp_path / "tum")
    file = next((tmp_path / "tum").rglob("rgb.txt"))
    names = [row.split()[1] for row in file.read_text().splitlines() if not row.startswith("#")]
    file.write_text("".join(f"{33 * i} {name}\n" for i, name in enumerate(names)))
    with pytest.raises(EgodepthError, match="may be seconds, milliseconds or frame numbers"):
        read("tum_rgbd", tmp_path / "tum")


def test_eth3d_pair(tmp_path: Path) -> None:
    folder = layouts.make_eth3d_pair(tmp_path)
    (left, right), _ = read("eth3d", tmp_path)
    depth = left.depth[0]()
    assert depth[0, 0] == 0 and depth[1, 1] == 0  # unknown; hidden from the other camera
    assert depth[0, 5] == pytest.approx(50 * 0.06 / 5)
    assert depth[10, 10] == pytest.approx(50 * 0.06 / 4)
    assert right.rig_from_camera[0, 3] == 0.06
    (folder / "disp0GT.pfm").write_bytes(b"PF\n80 40\n-1\n")
    with pytest.raises(EgodepthError, match=r"the PFM file .* is broken"):
        read_pfm(folder / "disp0GT.pfm")


def test_eth3d_rig_sees_its_scan(tmp_path: Path) -> None:
    layouts.make_eth3d_rig(tmp_path)
    (sequence,), _ = read("eth3d", tmp_path)
    assert sequence.camera is not None and sequence.camera.matrix[0, 2] == 39.5
    assert sequence.world_from_camera is not None
    np.testing.assert_allclose(sequence.world_from_camera[1, :3, 3], [0, 0, 1])
    near = sequence.depth[1]()
    np.testing.assert_allclose(near[near > 0], 4.0, rtol=1e-5)


def test_make3d_keeps_the_central_strip(tmp_path: Path) -> None:
    layouts.make_make3d(tmp_path)
    (sequence,), lines = read("make3d", tmp_path)
    assert len(sequence.frames) == 1 and "images without laser depth, left out: 1 (op1" in lines[0]
    assert (sequence.frames.height, sequence.frames.width) == (30, 60)
    depth = sequence.depth[0]()
    assert depth.shape == (21, 305) and depth[0, 0] == 18 and depth[-1, 0] == 38


def test_footage_with_depth_poses_and_camera(tmp_path: Path) -> None:
    folder = layouts.make_footage(tmp_path)
    (sequence,) = read_source(str(folder))
    assert sequence.camera is not None and sequence.camera.matrix[0, 0] == 50
    assert sequence.world_from_camera is not None and sequence.world_from_camera[2, 0, 3] == 2
    assert (sequence.depth[1]() == 3).all()
    (folder / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(EgodepthError, match="holds 1 poses for 3 images"):
        read_source(str(folder))


def test_points_behind_a_surface_are_hidden() -> None:
    camera = Camera.from_parameters(50.0, 50.0, 39.5, 19.5, 40, 80)
    x, y = np.meshgrid(np.arange(0, 80, 2), np.arange(0, 40, 2))
    rays = np.stack([(x - 39.5) / 50, (y - 19.5) / 50, np.ones_like(x)], -1).reshape(-1, 3)
    near, far = (
        2 * rays,
        8 * (rays + np.array([1 / 50, 0, 0])),
    )  # the far points show through the gaps
    depth = depth_of_cloud(np.concatenate([near, far]), np.eye(4), camera)
    assert set(np.unique(depth)) == {0.0, 2.0}
    alone = depth_of_cloud(far, np.eye(4), camera)
    assert set(np.unique(alone)) == {0.0, 8.0}


def test_broken_point_clouds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    layouts.write_ply(path, np.zeros((5, 3), np.float32))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(EgodepthError, match=r"point cloud .*a\.ply is broken: 4 of 5 points"):
        read_ply(path)
    path.write_text("ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\n"
                    "property float z\nend_header\n1 2 3\n4 5 6\n")  # fmt: skip
    np.testing.assert_array_equal(read_ply(path), [[1, 2, 3], [4, 5, 6]])
    path.write_text("no")
    with pytest.raises(EgodepthError, match="does not begin with `ply`"):
        read_ply(path)


@pytest.mark.parametrize(
    ("name", "views"),
    [("cityscapes", "mono_stereo"), ("euroc", "mono_stereo"), ("eth3d", "stereo")],
)
def test_stereo_data_sets_can_be_trained_on(name: str, views: str, tmp_path: Path) -> None:
    layouts.MAKERS[name](tmp_path / "data")
    settings = tiny_settings(
        tmp_path, data__sources=[f"{name}:{tmp_path / 'data'}"], data__views=views, steps=2
    )
    result = train(settings, tmp_path / "run")
    assert result.steps == 2
