"""Trajectory scores against evo, which is GPL and used by tests alone."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from evo.core import metrics, sync
from evo.core.trajectory import PosePath3D, PoseTrajectory3D
from evo.tools import file_interface

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.evaluation.odometry import (
    align_trajectory,
    describe,
    path_lengths,
    rotations_look_transposed,
    score_trajectory,
    segment_errors,
    snippet_errors,
)
from egodepth.geometry import se3
from egodepth.geometry.pose_writing import write_euroc, write_kitti, write_tum
from egodepth.geometry.trajectory import (
    associate,
    poses_at,
    read_euroc,
    read_kitti,
    read_trajectory,
    read_tum,
)
from egodepth.inference.scoring.trajectory_files import evaluate_trajectory_file


def noisy(poses: np.ndarray, seed: int = 0, scale: float = 0.3) -> np.ndarray:
    """Every motion off by a little, and the whole in another frame and unit."""
    generator = torch.Generator().manual_seed(seed)
    twists = torch.randn(len(poses) - 1, 6, generator=generator, dtype=torch.float64)
    twists *= torch.tensor([2e-3] * 3 + [2e-2] * 3)
    motions = np.linalg.inv(poses[:-1]) @ poses[1:] @ se3.exp(twists).numpy()
    chained = [se3.exp(torch.tensor([0.3, -0.2, 0.5, 4.0, 1.0, -2.0]).double()).numpy()]
    for motion in motions:
        chained.append(chained[-1] @ motion)
    result = np.stack(chained)
    result[:, :3, 3] *= scale
    return result


def curve(count: int = 120) -> np.ndarray:
    twist = torch.tensor([0.0, 0.02, 0.004, 0.0, 0.0, 1.3], dtype=torch.float64)
    poses = [np.eye(4)]
    for step in se3.exp(twist.expand(count - 1, 6)).numpy():
        poses.append(poses[-1] @ step)
    return np.stack(poses)


def evo_scores(estimate: np.ndarray, truth: np.ndarray, alignment: str) -> tuple[float, float]:
    """ATE, and RPE between consecutive frames, by evo."""
    reference = PosePath3D(poses_se3=list(truth))
    path = PosePath3D(poses_se3=list(estimate))
    if alignment in ("origin", "scale"):
        path.align_origin(reference)
    if alignment == "scale":
        # evo scales about the world's origin; here the paths begin there.
        start = np.linalg.inv(truth[0])
        reference.transform(start)
        path.transform(start)
        path.align(reference, correct_only_scale=True)
    elif alignment in ("se3", "sim3"):
        path.align(reference, correct_scale=alignment == "sim3")
    ate = metrics.APE(metrics.PoseRelation.translation_part)
    ate.process_data((reference, path))
    rpe = metrics.RPE(metrics.PoseRelation.translation_part, 1, metrics.Unit.frames)
    rpe.process_data((reference, path))
    return ate.get_statistic(metrics.StatisticsType.rmse), rpe.get_statistic(
        metrics.StatisticsType.mean
    )


ALL = ("none", "origin", "scale", "se3", "sim3")


@pytest.mark.parametrize("alignment", ALL)
def test_agrees_with_evo(alignment: str) -> None:
    truth = se3.exp(torch.tensor([0.1, 0.4, -0.3, 9.0, 2.0, 1.0]).double()).numpy() @ curve()
    estimate = noisy(truth)
    scores = score_trajectory(estimate, truth, alignment)  # type: ignore[arg-type]
    ate, rpe = evo_scores(estimate, truth, alignment)
    assert scores["ate_m"] == pytest.approx(ate, abs=1e-6)
    assert scores["rpe_translation_m"] == pytest.approx(rpe, abs=1e-6)


@pytest.mark.real_data
@pytest.mark.parametrize("alignment", ALL)
def test_agrees_with_evo_on_kitti(data: Path, alignment: str) -> None:
    truth = read_kitti(data / "kitti_odometry" / "poses" / "00.txt")[:1000]
    estimate = noisy(truth, seed=1)
    scores = score_trajectory(estimate, truth, alignment)  # type: ignore[arg-type]
    ate, rpe = evo_scores(estimate, truth, alignment)
    assert scores["ate_m"] == pytest.approx(ate, abs=1e-6)
    assert scores["rpe_translation_m"] == pytest.approx(rpe, abs=1e-6)
    path = PosePath3D(poses_se3=list(estimate))
    reference = PosePath3D(poses_se3=list(truth))
    turn = metrics.RPE(metrics.PoseRelation.rotation_angle_deg, 1, metrics.Unit.frames)
    turn.process_data((reference, path))
    mean = turn.get_statistic(metrics.StatisticsType.mean)
    # The angle of a tiny rotation is known to about 1e-6 degrees from its matrix.
    assert scores["rpe_rotation_deg"] == pytest.approx(mean, abs=1e-5)


def test_segments_agree_with_evo_piece_by_piece() -> None:
    truth = curve(200)
    estimate = noisy(truth)
    aligned, scales = align_trajectory(estimate, truth, "segments")
    number = (path_lengths(truth) // 100).astype(int)
    assert len(np.unique(scales)) == len(np.unique(number)) == 3
    for n in np.unique(number):
        piece = number == n
        path = PosePath3D(poses_se3=list(estimate[piece]))
        path.align(PosePath3D(poses_se3=list(truth[piece])), correct_scale=True)
        np.testing.assert_allclose(aligned[piece], path.positions_xyz, atol=1e-6)


def test_kitti_errors_by_hand() -> None:
    truth = np.tile(np.eye(4), (400, 1, 1))
    truth[:, 2, 3] = np.arange(400)
    estimate = truth.copy()
    estimate[:, 2, 3] *= 1.02
    segments = segment_errors(estimate, truth, "none")
    # Segments of 100, 200 and 300 m start at frames 0, 10, ... as long as a frame lies beyond their end.
    counts = {
        length: len([s for s in segments if s.length == length]) for length in (100, 200, 300)
    }
    assert counts == {100: 30, 200: 20, 300: 10}
    # The last frame is the first one beyond the length: 101 m for 100 m.
    assert segments[0].translation == pytest.approx(0.02 * 101 / 100)
    scores = score_trajectory(estimate, truth, "none")
    assert scores["r_rel_deg_100m"] == pytest.approx(0, abs=1e-6)
    assert 2.0 < scores["t_rel_percent"] < 2.03
    assert score_trajectory(estimate, truth, "sim3")["t_rel_percent"] == pytest.approx(0, abs=1e-6)
    text = describe("none", scores)
    assert "over 100 to 300 m alone, 60 segments" in text


def test_kitti_rotation_error_is_per_metre() -> None:
    truth = np.tile(np.eye(4), (150, 1, 1))
    truth[:, 2, 3] = np.arange(150)
    turned = truth.copy()
    turned[101:, :3, :3] = se3.so3_exp(torch.tensor([0.0, np.radians(3.0), 0.0]).double()).numpy()
    first = segment_errors(turned, truth, "none")[0]
    assert np.degrees(first.rotation) * 100 == pytest.approx(3.0)


def test_too_short_for_segments_is_said() -> None:
    truth = curve(30)
    scores = score_trajectory(noisy(truth), truth)
    assert "t_rel_percent" not in scores
    assert "holds no segment of 100 m" in describe("sim3", scores)


def test_snippets_by_hand() -> None:
    truth = np.tile(np.eye(4), (6, 1, 1))
    truth[:, 2, 3] = np.arange(6)
    estimate = truth.copy()
    estimate[:, 2, 3] *= 0.1
    assert snippet_errors(estimate, truth) == pytest.approx([0, 0])
    estimate[2, 0, 3] = 0.05  # a tenth of the unit: half a metre sideways
    a = estimate[:5, :3, 3]
    scale = (a * truth[:5, :3, 3]).sum() / (a**2).sum()
    expected = np.sqrt(((scale * a - truth[:5, :3, 3]) ** 2).sum()) / 5
    assert snippet_errors(estimate, truth)[0] == pytest.approx(expected)


def test_frames_without_truth_are_left_out() -> None:
    truth = curve(40)
    estimate = noisy(truth)
    gap = truth.copy()
    gap[10:13] = np.nan
    scores = score_trajectory(estimate, gap)
    known = np.r_[0:10, 13:40]
    expected = score_trajectory(estimate[known], truth[known])
    assert scores["frames"] == 37
    assert scores["ate_m"] == pytest.approx(expected["ate_m"])
    # The step across the gap is none between consecutive frames.
    assert scores["rpe_translation_m"] < expected["rpe_translation_m"] * 1.2
    errors = np.linalg.inv(np.linalg.inv(truth[:-1]) @ truth[1:])
    assert errors.shape == (39, 4, 4)


def test_transposed_rotations_are_told_though_no_position_is_wrong(tmp_path: Path) -> None:
    truth = curve()
    world = se3.exp(torch.tensor([0.3, -0.2, 0.5, 4.0, 1.0, -2.0]).double()).numpy()
    transposed = world @ truth
    transposed[:, :3, :3] = transposed[:, :3, :3].transpose(0, 2, 1)
    write_kitti(tmp_path / "truth.txt", truth)
    write_kitti(tmp_path / "found.txt", transposed)
    with pytest.warns(EgodepthWarning, match="fit those of truth.txt only when transposed"):
        scores = evaluate_trajectory_file(tmp_path / "found.txt", tmp_path / "truth.txt")
    assert scores.summary["ate_m"] < 1e-3
    for other in (noisy(truth), truth[:, :, [1, 2, 0, 3]]):
        assert not rotations_look_transposed(other, truth)


def test_formats_agree_with_evo(tmp_path: Path) -> None:
    poses, times = noisy(curve(12)), 1403715000.0 + np.arange(12) / 20
    write_kitti(tmp_path / "kitti.txt", poses)
    write_tum(tmp_path / "tum.txt", poses, times)
    write_euroc(tmp_path / "euroc.csv", poses, times)
    np.testing.assert_allclose(read_kitti(tmp_path / "kitti.txt"), poses, atol=1e-8)
    for path, read in (("tum.txt", read_tum), ("euroc.csv", read_euroc)):
        read_times, read_poses = read(tmp_path / path)
        np.testing.assert_allclose(read_times, times, atol=1e-6)
        np.testing.assert_allclose(read_poses, poses, atol=1e-7)
        same_times, same_poses = read_trajectory(tmp_path / path)[:2]
        assert same_times is not None
        np.testing.assert_array_equal(same_poses, read_poses)
    assert read_trajectory(tmp_path / "kitti.txt")[0] is None
    for theirs in (
        file_interface.read_tum_trajectory_file(tmp_path / "tum.txt"),
        file_interface.read_euroc_csv_trajectory(tmp_path / "euroc.csv"),
        file_interface.read_kitti_poses_file(tmp_path / "kitti.txt"),
    ):
        np.testing.assert_allclose(np.stack(theirs.poses_se3), poses, atol=1e-7)


def test_association_agrees_with_evo() -> None:
    rng = np.random.default_rng(0)
    others = np.sort(rng.uniform(0, 10, 200))
    times = np.sort(rng.uniform(0, 10, 60))
    times = times[np.r_[True, np.diff(times) > 0.05]]  # evo gives one to several that are near it
    pairs = associate(times, others, 0.02)
    first, second = sync.matching_time_indices(times, others, 0.02)
    assert pairs.tolist() == np.stack([first, second], axis=1).tolist()
    assert associate(others, times, 0.02).tolist() == pairs[:, ::-1].tolist()
    shuffled = rng.permutation(200)
    again = associate(times, others[shuffled], 0.02)
    assert shuffled[again[:, 1]].tolist() == pairs[:, 1].tolist()
    poses = poses_at(times, others, np.tile(np.eye(4), (200, 1, 1)), 0.02)
    assert np.isfinite(poses[:, 0, 0]).sum() == len(pairs)


def test_each_moment_is_associated_once() -> None:
    assert associate(np.array([0.0, 0.01, 1.0]), np.array([0.008, 1.0, 2.0]), 0.02).tolist() == [
        [1, 0], [2, 1],
    ]  # fmt: skip


@pytest.mark.parametrize("every", [10, 1])
def test_a_perfect_trajectory_of_another_rate_has_no_error(tmp_path: Path, every: int) -> None:
    """An estimate ten times as often as the truth, and one a tenth as often."""
    dense, times = curve(391), 1305031098 + np.arange(391) / 100
    write_tum(tmp_path / "estimate.txt", dense[:: 11 - every], times[:: 11 - every])
    write_tum(tmp_path / "truth.txt", dense[::every], times[::every])
    scores = evaluate_trajectory_file(tmp_path / "estimate.txt", tmp_path / "truth.txt")
    assert scores.summary["frames"] == 40
    assert scores.summary["ate_m"] == pytest.approx(0, abs=1e-6)
    assert scores.summary["rpe_translation_m"] == pytest.approx(0, abs=1e-6)
    assert f"40 of {391 if every == 10 else 40} poses associated" in scores.caption


def test_files_are_scored_by_their_times(tmp_path: Path) -> None:
    truth, times = curve(40), np.arange(40) / 10
    write_tum(tmp_path / "truth.txt", truth, times)
    keep = np.r_[2:30:2]
    write_tum(tmp_path / "estimate.txt", noisy(truth)[keep], times[keep] + 0.004)
    scores = evaluate_trajectory_file(tmp_path / "estimate.txt", tmp_path / "truth.txt")
    path = PoseTrajectory3D(poses_se3=list(noisy(truth)[keep]), timestamps=times[keep] + 0.004)
    reference = PoseTrajectory3D(poses_se3=list(truth), timestamps=times)
    one, other = sync.associate_trajectories(reference, copy.deepcopy(path), max_diff=0.02)
    other.align(one, correct_scale=True)
    ate = metrics.APE(metrics.PoseRelation.translation_part)
    ate.process_data((one, other))
    expected = ate.get_statistic(metrics.StatisticsType.rmse)
    assert scores.summary["ate_m"] == pytest.approx(expected, abs=1e-6)
    assert "14 of 14 poses associated" in scores.caption
    write_tum(tmp_path / "late.txt", truth, times + 100)
    with pytest.raises(EgodepthError, match="only 0 of 40 poses"):
        evaluate_trajectory_file(tmp_path / "late.txt", tmp_path / "truth.txt")


def test_broken_trajectories_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("1 2 3\n")
    with pytest.raises(EgodepthError, match="is no trajectory: a line has 12 numbers"):
        read_trajectory(path)
    path.write_text("0 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 x\n")
    with pytest.raises(EgodepthError, match="line 2: expected 8 numbers, as in line 1"):
        read_trajectory(path)


def rows_of(poses: np.ndarray, times: np.ndarray, order: str = "xyzw") -> list[list[str]]:
    quaternions = se3.quaternion_from_matrix(torch.from_numpy(poses[:, :3, :3])).numpy()
    columns = ["xyzw".index(letter) for letter in order]
    return [
        [f"{time:.6f}", *(f"{v:.9f}" for v in (*pose[:3, 3], *quaternion[columns]))]
        for time, pose, quaternion in zip(times, poses, quaternions, strict=True)
    ]


KITTI_ROWS = [[f"{v:.9e}" for v in pose[:3].ravel()] for pose in noisy(curve(12))]
TIMES = 1403715000.0 + np.arange(12) / 20
TUM_ROWS = rows_of(noisy(curve(12)), TIMES)
NANOSECONDS = [str(1403715000 * 10**9 + i * 50_000_000) for i in range(12)]
STAMPED = [[stamp, *row[1:]] for stamp, row in zip(NANOSECONDS, TUM_ROWS, strict=True)]
W_FIRST = [[row[0], *row[1:4], row[7], *row[4:7]] for row in STAMPED]
STATE = [[*row, *(["0.1"] * 9)] for row in W_FIRST]
INDEX = [str(i) for i in range(12)]


def joined(rows: list[list[str]], mark: str, header: str = "") -> str:
    return header + "".join(mark.join(row) + "\n" for row in rows)


def after(first: list[str], rows: list[list[str]]) -> list[list[str]]:
    return [[one, *row] for one, row in zip(first, rows, strict=True)]


@pytest.mark.parametrize(
    ("text", "form", "timed"),
    [
        (joined(KITTI_ROWS, ","), "KITTI, comma-separated", False),
        (joined(KITTI_ROWS, "; "), "KITTI", False),
        (joined(KITTI_ROWS, "\t"), "KITTI", False),
        (joined(after(INDEX, KITTI_ROWS), " "), "KITTI after an index", False),
        (joined(after(NANOSECONDS, KITTI_ROWS), ","), "KITTI after a time in ns", True),
        (joined([[*row, "0", "0", "0", "1"] for row in KITTI_ROWS], " "), "KITTI with the", False),
        (joined(TUM_ROWS, ","), "TUM (times in s", True),
        (joined(TUM_ROWS, ",").replace("\n", ",\n"), "TUM (times in s", True),
        (joined(TUM_ROWS, ";").replace(".", ","), "TUM (times in s", True),
        (joined(TUM_ROWS, ",", "timestamp,tx,ty,tz,qx,qy,qz,qw\n"), "TUM (times in s", True),
        ("\ufeff" + joined(TUM_ROWS, " ", "# t x y z qx qy qz qw\n"), "TUM (times in s", True),
        (joined(after(INDEX, TUM_ROWS), ","), "TUM after an index", True),
        (joined(STAMPED, " "), "TUM (times in ns, quaternions x y z w)", True),
        (joined(STAMPED, ",", "#t [ns],x,y,z,qx,qy,qz,qw\n"), "TUM (times in ns", True),
        (joined(W_FIRST, ","), "EuRoC (times in ns, quaternions w x y z", True),
        (joined(STATE, ",", "#timestamp, p_RS_R_x [m]\n"), "EuRoC (times in ns", True),
        (joined(STATE, ","), "EuRoC (times in ns", True),
        (
            joined(after(INDEX, W_FIRST), ",", ",timestamp,x,y,z,q_w,q_x,q_y,q_z\n"),
            "EuRoC after an index (times in ns", True,
        ),
    ],
)  # fmt: skip
def test_what_people_have_is_recognised(tmp_path: Path, text: str, form: str, timed: bool) -> None:
    (tmp_path / "x").write_text(text)
    times, poses, said, *_ = read_trajectory(tmp_path / "x")
    assert said.startswith(form)
    np.testing.assert_allclose(poses, noisy(curve(12)), atol=1e-6)
    assert (times is not None) == timed
    if times is not None:
        np.testing.assert_allclose(times, TIMES, atol=1e-6)


def changed(rows: list[list[str]], row: int, column: int, value: str) -> list[list[str]]:
    return [
        [value if (i, j) == (row, column) else v for j, v in enumerate(r)]
        for i, r in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(KITTI_ROWS, 4, 0, "3"), "line 5: taken for KITTI.*is no rotation"),
        (changed(KITTI_ROWS, 4, 3, "inf"), "line 5: infinite numbers"),
        ([*KITTI_ROWS[:3], KITTI_ROWS[3][:11]], "line 4: expected 12 numbers, as in line 1"),
        (
            [["1", "0", "0", "0", "0", "1", "0", "0", "0", "0", "-1", "0"]] * 3,
            "mirror image, no rotation.*3 such lines",
        ),
        (changed(TUM_ROWS, 6, 5, "0.9"), "line 7: taken for TUM.*has length"),
        (changed(TUM_ROWS, 2, 0, "nan"), "line 3: taken for a trajectory, but it has no time"),
        ([row[1:] for row in TUM_ROWS], "is no trajectory.*line 1 has 7"),
        (after(["0", "3", "4", "9"], KITTI_ROWS[:4]), "frame numbers that do not count from 0 or 1"),
        ([[*row, "1"] for row in TUM_ROWS], "is no trajectory.*has 9"),
        ([[*row[:4], "0", "0", "0", "0"] for row in TUM_ROWS], "holds no pose with a valid"),
        ([["12", "x"]], "line 1: expected numbers, got"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", [" ", ","])
def test_what_fits_nothing_is_refused_by_its_line(
    tmp_path: Path, rows: list[list[str]], message: str, mark: str
) -> None:
    (tmp_path / "x").write_text(joined(rows, mark))
    with pytest.raises(EgodepthError, match=message) as refusal:
        read_trajectory(tmp_path / "x")
    assert "\n" not in str(refusal.value)


def test_lost_poses_are_left_out_with_a_word(tmp_path: Path) -> None:
    rows = TUM_ROWS
    for column in range(4, 8):
        rows = changed(rows, 3, column, "0")
    rows = changed(rows, 8, 2, "nan")
    (tmp_path / "estimate.txt").write_text(joined(rows, " "))
    write_tum(tmp_path / "truth.txt", curve(12), TIMES)
    with pytest.warns(EgodepthWarning, match="2 of 12 poses have no valid position and rotation"):
        scores = evaluate_trajectory_file(tmp_path / "estimate.txt", tmp_path / "truth.txt")
    assert scores.summary["frames"] == 10 and "10 of 12 poses associated" in scores.caption
    lost = [["nan"] * 12 if i == 5 else row for i, row in enumerate(KITTI_ROWS)]
    (tmp_path / "kitti.txt").write_text(joined(lost, " "))
    with pytest.warns(EgodepthWarning, match="1 of 12 poses .* .line 6."):
        scores = evaluate_trajectory_file(tmp_path / "kitti.txt", tmp_path / "truth.txt")
    assert "paired in order, 11 of 12 poses" in scores.caption


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.arange(40.0), "times of .*estimate.txt are frame numbers, not seconds"),
        (1e3 * np.arange(40) / 200, "one of them may be in milliseconds"),
        (
            1e3 * np.arange(40) / 25,
            "may be seconds, milliseconds or frame numbers: name their unit",
        ),
    ],
)
def test_times_in_another_unit_are_told(tmp_path: Path, times: np.ndarray, message: str) -> None:
    write_tum(tmp_path / "estimate.txt", curve(40), times)
    write_tum(tmp_path / "truth.txt", curve(40), np.arange(40) / (200 if times[1] == 5 else 25))
    with pytest.raises(EgodepthError, match=message):
        evaluate_trajectory_file(tmp_path / "estimate.txt", tmp_path / "truth.txt")


def test_a_quaternion_that_reads_as_no_rotation_in_the_other_order_is_told(tmp_path: Path) -> None:
    write_tum(tmp_path / "x.txt", curve(5), np.arange(5) / 10)
    rows = [line.split() for line in (tmp_path / "x.txt").read_text().splitlines()]
    (tmp_path / "x.txt").write_text(joined([[*r[:4], r[7], *r[4:7]] for r in rows], " "))
    with pytest.warns(EgodepthWarning, match="no rotation in the order w x y z"):
        read_trajectory(tmp_path / "x.txt")
