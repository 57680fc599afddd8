"""Trajectory files as people have them: read right, or refused in one line."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tests.conftest import write_images

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.sources import read_source
from egodepth.geometry.trajectory import read_euroc, read_trajectory, read_tum

COUNT = 8
RNG = np.random.default_rng(3)
POSITIONS = np.cumsum(RNG.normal(size=(COUNT, 3)), axis=0)
ROTATIONS = Rotation.random(COUNT, rng=RNG)
MATRICES = np.tile(np.eye(4), (COUNT, 1, 1))
MATRICES[:, :3, :3], MATRICES[:, :3, 3] = ROTATIONS.as_matrix(), POSITIONS
X, Y, Z, W = ROTATIONS.as_quat().T
SECONDS = np.arange(COUNT) / 30
EPOCH = 1403715000 + SECONDS
UNTURNED = Rotation.concatenate([Rotation.identity(), ROTATIONS[1:]])


def table(header: str, *columns: object, mark: str = " ") -> str:
    """Text of columns (each an array of numbers or texts, or one text for all rows) below a header."""
    filled = [np.full(COUNT, c) if isinstance(c, str) else np.atleast_2d(c.T).T for c in columns]
    rows = ["" for _ in range(COUNT)]
    for place in range(COUNT):
        words = []
        for column in filled:
            for value in np.atleast_1d(column[place]):
                whole = isinstance(value, str) or float(value) == int(value)
                words.append(
                    str(value)
                    if isinstance(value, str)
                    else f"{int(value)}"
                    if whole
                    else f"{value:.9f}"
                )
        rows[place] = mark.join(words)
    return header + "\n".join(rows) + "\n"


P, XYZW, WXYZ = POSITIONS, np.stack([X, Y, Z, W], 1), np.stack([W, X, Y, Z], 1)
NS = np.array([int(1403715000e9) + i * 33_333_333 for i in range(COUNT)])
ROWS = MATRICES[:, :3].reshape(-1, 12)
ALL = MATRICES.reshape(-1, 16)
NO_TIME = np.array([])
RIGHT = {
    "bare w x y z": (table("t,tx,ty,tz,w,x,y,z\n", SECONDS, P, WXYZ, mark=","), SECONDS),
    "bare x y z w": (table("t,tx,ty,tz,x,y,z,w\n", SECONDS, P, XYZW, mark=","), SECONDS),
    "all bare": (table("t,x,y,z,w,x,y,z\n", SECONDS, P, WXYZ, mark=","), SECONDS),
    "qw first": (table("timestamp x y z qw qx qy qz\n", SECONDS, P, WXYZ), SECONDS),
    "qx but w": (table("timestamp x y z qx qy qz w\n", SECONDS, P, XYZW), SECONDS),
    "format": (table("# format: timestamp tx ty tz qx qy qz qw\n", SECONDS, P, XYZW), SECONDS),
    "format, w first": (
        table("# format: timestamp tx ty tz qw qx qy qz\n", SECONDS, P, WXYZ),
        SECONDS,
    ),
    "comments after": (
        table("# t x y z qw qx qy qz\n# made by a tracker\n#\n", SECONDS, P, WXYZ),
        SECONDS,
    ),
    "units in brackets": (
        table("# time [s] x [m] y [m] z [m] q_w [] q_x [] q_y [] q_z []\n", SECONDS, P, WXYZ),
        SECONDS,
    ),
    "units in parentheses": (
        table("t (ms);x (mm);y (mm);z (mm);qw;qx;qy;qz\n", 1e3 * SECONDS, 1e3 * P, WXYZ, mark=";"),
        SECONDS,
    ),
    "EuRoC": (
        table(
            "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], "
            "q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z [], "
            + ", ".join(f"{v}_{a} []" for v in ("v_RS_R", "b_w_RS_S", "b_a_RS_S") for a in "xyz")
            + "\n",
            NS,
            P,
            WXYZ,
            np.zeros((COUNT, 9)),
            mark=",",
        ),
        EPOCH,
    ),
    "EuRoC of VINS, seconds": (
        table("time,px,py,pz,qw,qx,qy,qz,vx,vy,vz\n", EPOCH, P, WXYZ, P, mark=","),
        EPOCH,
    ),
    "quaternion before position": (
        table("timestamp,qx,qy,qz,qw,tx,ty,tz\n", SECONDS, XYZW, P, mark=","),
        SECONDS,
    ),
    "rostopic echo -p": (
        table(
            "%time,field.header.seq,field.header.stamp,field.header.frame_id,field.child_frame_id,"
            + ",".join(f"field.pose.pose.position.{a}" for a in "xyz")
            + ","
            + ",".join(f"field.pose.pose.orientation.{a}" for a in "xyzw")
            + ","
            + ",".join(f"field.pose.covariance{i}" for i in range(3))
            + ","
            + ",".join(f"field.twist.twist.{k}.{a}" for k in ("linear", "angular") for a in "xyz")
            + "\n",
            NS + 5_000_000,
            np.arange(COUNT),
            NS,
            "map",
            "cam",
            P,
            XYZW,
            np.zeros((COUNT, 9)),
            mark=",",
        ),
        EPOCH,
    ),
    "bagpy": (
        table(
            "Time,header.seq,header.stamp.secs,header.stamp.nsecs,header.frame_id,"
            + ",".join(f"pose.position.{a}" for a in "xyz")
            + ","
            + ",".join(f"pose.orientation.{a}" for a in "xyzw")
            + "\n",
            EPOCH + 0.5,
            np.arange(COUNT),
            NS // 10**9,
            NS % 10**9,
            "world",
            P,
            XYZW,
            mark=",",
        ),
        EPOCH,
    ),
    "ROS 2, seconds and nanoseconds": (
        table(
            "sec,nanosec,transform.translation.x,transform.translation.y,transform.translation.z,"
            "transform.rotation.x,transform.rotation.y,transform.rotation.z,transform.rotation.w\n",
            NS // 10**9,
            NS % 10**9,
            P,
            XYZW,
            mark=",",
        ),
        EPOCH,
    ),
    "pandas' index": (
        table(",timestamp_ns,tx,ty,tz,qw,qx,qy,qz\n", np.arange(COUNT), NS, P, WXYZ, mark=","),
        EPOCH,
    ),
    "pandas' index, spaces": (
        table(" time x y z qx qy qz qw\n", np.arange(COUNT), SECONDS, P, XYZW),
        SECONDS,
    ),
    "ZED": (
        table("timestamp(ms) tx ty tz ox oy oz ow\n", 1e3 * SECONDS, P, XYZW),
        SECONDS,
    ),
    "AirSim": (
        table(
            "VehicleName\tTimeStamp\tPOS_X\tPOS_Y\tPOS_Z\tQ_W\tQ_X\tQ_Y\tQ_Z\tImageFile\n",
            "car",
            NS // 10**6,
            P,
            WXYZ,
            "a.png",
            mark="\t",
        ),
        NS // 10**6 / 1e3,
    ),
    "maplab": (
        table(
            "timestamp [ns], vertex-id, mission-id, p_G_Ix, p_G_Iy, p_G_Iz, "
            "q_G_Iw, q_G_Ix, q_G_Iy, q_G_Iz\n",
            NS,
            "4f0e",
            "b1",
            P,
            WXYZ,
            mark=", ",
        ),
        EPOCH,
    ),
    "OpenVINS": (
        table(
            "# timestamp(s) qx qy qz qw px py pz vx vy vz bgx bgy bgz bax bay baz\n",
            EPOCH,
            XYZW,
            P,
            np.zeros((COUNT, 9)),
        ),
        EPOCH,
    ),
    "all bare, quaternion last": (table("t x y z x y z w\n", SECONDS, P, XYZW), SECONDS),
    "wxyz": (table("# time pos quat_wxyz\n", SECONDS, P, WXYZ), SECONDS),
    "w x y z": (table("# quaternion order: w x y z\n", SECONDS, P, WXYZ), SECONDS),
    "q = [w, x, y, z]": (table("# q = [w, x, y, z]\n", SECONDS, P, WXYZ), SECONDS),
    "q0 in words": (table("# q0 is the scalar\nt x y z q0 q1 q2 q3\n", SECONDS, P, WXYZ), SECONDS),
    "r_w": (table("t t_x t_y t_z r_w r_x r_y r_z\n", SECONDS, P, WXYZ), SECONDS),
    "pipes": (table("# t | tx | ty | tz | qw | qx | qy | qz\n", SECONDS, P, WXYZ), SECONDS),
    "quoted": (
        table('"time (s)","x","y","z","qw","qx","qy","qz"\n', SECONDS, P, WXYZ, mark=","),
        SECONDS,
    ),
    "tabs and names with spaces": (
        table(
            "Time (ms)\tPosition X\tPosition Y\tPosition Z\tRotation X\tRotation Y\tRotation Z\tRotation W\n",
            1e3 * SECONDS,
            P,
            XYZW,
            mark="\t",
        ),
        SECONDS,
    ),
    "frame numbers": (
        table("frame,x,y,z,qx,qy,qz,qw\n", np.arange(COUNT), P, XYZW, mark=","),
        NO_TIME,
    ),
    "no time": (table("x y z qw qx qy qz\n", P, WXYZ), NO_TIME),
    "time[ms]": (
        table("time[ms] tx ty tz qx qy qz qw\n", np.arange(COUNT) * 40, P, XYZW),
        np.arange(COUNT) / 25,
    ),
    "time_us": (
        table("time_us,x,y,z,qx,qy,qz,qw\n", np.arange(COUNT) * 2000, P, XYZW, mark=","),
        np.arange(COUNT) / 500,
    ),
    "timestampMs": (
        table("timestampMs,x,y,z,qx,qy,qz,qw\n", np.arange(COUNT) * 33, P, XYZW, mark=","),
        np.arange(COUNT) * 0.033,
    ),
    "t (s)": (
        table("# t (s) x y z qx qy qz qw\n", np.arange(COUNT) * 15, P, XYZW),
        np.arange(COUNT) * 15.0,
    ),
    "in words": (
        table("# times in milliseconds\n", np.arange(COUNT) * 40, P, XYZW),
        np.arange(COUNT) / 25,
    ),
    "order in words": (table("# quaternions are scalar first\n", SECONDS, P, WXYZ), SECONDS),
    "order in words, 2": (table("# pose = position, qw qx qy qz\n", SECONDS, P, WXYZ), SECONDS),
    "q0 is w, by words": (
        table("# w first\nt,x,y,z,q0,q1,q2,q3\n", SECONDS, P, WXYZ, mark=","),
        SECONDS,
    ),
    "q0(w)": (table("t,x,y,z,q0(w),q1(x),q2(y),q3(z)\n", SECONDS, P, WXYZ, mark=","), SECONDS),
    "KITTI, time 4x4": (table("", SECONDS, ALL), SECONDS),
    "KITTI, ns 4x4": (table("", NS, ALL, mark=","), EPOCH),
    "index 4x4": (table("", np.arange(COUNT), ALL), NO_TIME),
    "4x4": (table("", ALL, mark=";"), NO_TIME),
    "4x4 in four lines": (
        "\n\n".join("\n".join(" ".join(map(str, r)) for r in m) for m in MATRICES),
        NO_TIME,
    ),
    "KITTI with a header": (
        table("r11,r12,r13,tx,r21,r22,r23,ty,r31,r32,r33,tz\n", ROWS, mark=","),
        NO_TIME,
    ),
    "decimal commas": (
        table("t;x;y;z;qx;qy;qz;qw\n", SECONDS, P, XYZW, mark=";").replace(".", ","),
        SECONDS,
    ),
    "ms since 1970": (table("", NS // 1_000_000, P, XYZW), NS // 1_000_000 / 1e3),
    "ns since the start": (
        table("", np.arange(COUNT) * 33_333_333, P, WXYZ, mark=","),
        np.arange(COUNT) / 30,
    ),
    "millimetres in words": (
        table("# time x y z qx qy qz qw (translation in mm)\n", SECONDS, 1e3 * P, XYZW),
        SECONDS,
    ),
    "millimetres in words and in names": (
        table(
            "# positions are in millimetres\n# t[s] x[mm] y[mm] z[mm] qx qy qz qw\n",
            SECONDS,
            1e3 * P,
            XYZW,
        ),
        SECONDS,
    ),
    "us since the start": (
        table("", np.arange(COUNT) * 33_333, P, XYZW),
        np.arange(COUNT) * 0.033333,
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_read_right(name: str, tmp_path: Path) -> None:
    text, times = RIGHT[name]
    (tmp_path / "p.txt").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_trajectory(tmp_path / "p.txt")
    np.testing.assert_allclose(found.poses, MATRICES, atol=1e-7)
    assert (found.times is None) == (times is NO_TIME)
    if found.times is not None:
        np.testing.assert_allclose(found.times, times, atol=1e-5)


TUM = (P, XYZW)
WRONG = {
    "T_camera_world": (
        table("# T_camera_world timestamp tx ty tz qx qy qz qw\n", SECONDS, *TUM),
        "from world to camera",
    ),
    "cam_T_world": (
        table("# time cam_T_world: tx ty tz qx qy qz qw\n", SECONDS, *TUM),
        "invert them",
    ),
    "extrinsics": (table("# extrinsics: t tx ty tz qx qy qz qw\n", SECONDS, *TUM), "invert them"),
    "two poses of one time": (
        table("", np.where(np.arange(COUNT) == 5, SECONDS[4], SECONDS), *TUM),
        "lines 5 and 6 have different poses of the same time",
    ),
    "steps of 33": (
        table("", np.arange(COUNT) * 33, *TUM),
        "may be seconds, milliseconds or frame numbers: name",
    ),
    "steps of 40, 0 40 80": (
        table("", np.arange(COUNT) * 40, *TUM, mark=","),
        "name their unit in a header",
    ),
    "steps of 33.3": (table("", SECONDS * 1e3, *TUM), "name their unit in a header"),
    "steps of 40, time in the header": (
        table("time x y z qx qy qz qw\n", np.arange(COUNT) * 40, *TUM),
        "name their unit",
    ),
    "steps of 40 before matrices": (table("", np.arange(COUNT) * 40, ROWS), "name their unit"),
    "steps of 2000": (
        table("", np.arange(COUNT) * 2000, *TUM),
        "milliseconds, microseconds or frame numbers",
    ),
    "seconds called ns": (
        table("t[ns] x y z qx qy qz qw\n", SECONDS, *TUM),
        "are no nanoseconds, though its header",
    ),
    "ns called s": (
        table("t[s] x y z qx qy qz qw\n", NS, *TUM),
        "are no seconds, though its header or format says s",
    ),
    "us called ms": (
        table("t_ms x y z qx qy qz qw\n", np.arange(COUNT) * 33333, *TUM),
        "are no milliseconds",
    ),
    "minutes": (table("t[min] x y z qx qy qz qw\n", SECONDS, *TUM), "gives times in 'min'"),
    "times without their last digits": (
        table("", np.full(COUNT, f"{NS[0]:e}"), P, XYZW),
        "its 8 poses have 1 different times",
    ),
    "seconds without nanoseconds": (
        table("sec,x,y,z,qx,qy,qz,qw\n", NS // 10**9, P, XYZW, mark=","),
        "write times with all their digits",
    ),
    "position alone": (table("t,x,y,z\n", SECONDS, P, mark=","), "a position and no quaternion"),
    "COLMAP, names with spaces": (
        "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n1 1 0 0 0 0 0 0 1 a b.jpg\n\n",
        "COLMAP's images.txt",
    ),
    "one name too many": (
        table("t x y z qx qy qz qw confidence\n", SECONDS, *TUM),
        "header names 9 columns, but the rows have 8",
    ),
    "one name too few": (
        table("x y z qx qy qz qw\n", SECONDS, *TUM),
        "names 7 columns, but the rows have 8",
    ),
    "two orders": (
        table("# scalar first\n# t x y z qx qy qz qw\n", SECONDS, *TUM),
        "both w first and w last|both xyzw and wxyz",
    ),
    "angles": (
        table("t,x,y,z,roll,pitch,yaw\n", SECONDS, P, P, mark=","),
        "angles in place of a quaternion",
    ),
    "three of four": (
        table("t,x,y,z,qx,qy,qz,confidence\n", SECONDS, *TUM, mark=","),
        "no whole pose",
    ),
    "numbered quaternion": (
        table("t,x,y,z,q0,q1,q2,q3\n", SECONDS, *TUM, mark=","),
        "whether w is the first or the last",
    ),
    "world to camera": (table("# world-to-camera poses\n", ROWS), "from world to camera: invert"),
    "COLMAP": (
        "# Image list with two lines of data per image:\n"
        "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n"
        "#   POINTS2D[] as (X, Y, POINT3D_ID)\n1 1 0 0 0 0 0 0 1 a.jpg\n100.5 20 -1\n",
        "COLMAP's images.txt",
    ),
    "column by column": (
        table("", np.swapaxes(MATRICES, 1, 2).reshape(-1, 16)),
        "no trajectory.*has 16",
    ),
    "named frame with gaps": (
        table("frame x y z qx qy qz qw\n", np.arange(COUNT) * 3, *TUM),
        "frame numbers that do not",
    ),
    "no rotation": (table("", SECONDS, ALL * ([1.5] * 12 + [1] * 4)), "3x3 part is no rotation"),
    "wrong length": (
        table("t x y z qx qy qz qw\n", SECONDS, P, 1.2 * XYZW),
        "has length 1.2, not 1 .8 such lines",
    ),
    "zero quaternions": (table("", SECONDS, P, 0 * XYZW), "holds no pose with a valid"),
    "text in a named column": (
        table("t x y z qx qy qz qw\n", SECONDS, P, XYZW[:, :3], "lost"),
        "line 2: expected numbers",
    ),
    "log of Open3D": (
        "".join(
            f"{i} {i} {i + 1}\n" + "\n".join(" ".join(map(str, r)) for r in m) + "\n"
            for i, m in enumerate(MATRICES)
        ),
        "expected 3 numbers, as in line 1",
    ),
    "decimal commas between spaces": (
        table("", SECONDS, *TUM).replace(".", ","),
        "expected 8 numbers",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused_in_a_line(name: str, tmp_path: Path) -> None:
    text, message = WRONG[name]
    (tmp_path / "p.txt").write_text(text)
    with pytest.raises(EgodepthError, match=message) as refusal:
        read_trajectory(tmp_path / "p.txt")
    assert "\n" not in str(refusal.value) and "p.txt" in str(refusal.value)


@pytest.mark.parametrize(("order", "row"), [("w", WXYZ), ("x", XYZW)])
def test_a_first_pose_without_rotation_tells_which_of_four_numbers_is_w(
    tmp_path: Path, order: str, row: np.ndarray
) -> None:
    first = (1, 0, 0, 0) if order == "w" else (0, 0, 0, 1)
    text = table("t,x,y,z,q[0],q[1],q[2],q[3]\n", SECONDS, P, np.vstack([first, row[1:]]), mark=",")
    (tmp_path / "p.txt").write_text(text)
    found = read_trajectory(tmp_path / "p.txt").poses[:, :3, :3]
    np.testing.assert_allclose(found, UNTURNED.as_matrix(), atol=1e-7)


def test_zero_quaternions_are_counted(tmp_path: Path) -> None:
    lost = np.arange(COUNT)[:, None] % 3 == 1
    (tmp_path / "p.txt").write_text(table("", SECONDS, P, np.where(lost, 0, XYZW)))
    with pytest.warns(EgodepthWarning, match="3 of 8 poses have no valid position and rotation"):
        assert np.isnan(read_trajectory(tmp_path / "p.txt").poses[:, 0, 0]).sum() == 3


def test_data_sets_with_another_header_are_read_by_it(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(table("# timestamp tx ty tz qw qx qy qz\n", EPOCH, P, WXYZ))
    for read in (read_tum, read_euroc):
        times, poses = read(tmp_path / "p.txt")
        np.testing.assert_allclose(times, EPOCH, atol=1e-6)
        np.testing.assert_allclose(poses, MATRICES, atol=1e-7)


def test_own_poses_must_be_in_the_order_of_their_images(tmp_path: Path) -> None:
    write_images(tmp_path / "images", COUNT)
    for times in (np.roll(SECONDS, 3), SECONDS[::-1]):
        (tmp_path / "poses.txt").write_text(table("", times, *TUM))
        with pytest.raises(
            EgodepthError, match=r"poses.txt line \d: the time .* follows .* in the order of"
        ):
            read_source(tmp_path)


def test_times_of_own_poses_that_count_frames_are_no_seconds(tmp_path: Path) -> None:
    write_images(tmp_path / "images", COUNT)
    for header, told in (("", True), ("# t[s] x y z qx qy qz qw\n", False)):
        (tmp_path / "poses.txt").write_text(table(header, np.arange(COUNT), *TUM))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            (sequence,) = read_source(tmp_path)
        assert (sequence.frames.times is None) == told
        assert any("taken for frame numbers" in str(w.message) for w in said) == told
        np.testing.assert_allclose(sequence.world_from_camera, MATRICES, atol=1e-7)
