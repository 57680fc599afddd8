"""Footage that breaks: black frames, and a cut to another place."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.test_loops import Reordered
from tests.test_odometry import OracleRun, the_street

from egodepth.data.sequence import Frame
from egodepth.data.synthetic.street import StreetDrive
from egodepth.evaluation.odometry import score_trajectory
from egodepth.geometry import se3, sim3
from egodepth.geometry.pose_graph import Edges, join_segments, select_loops
from egodepth.geometry.trajectory import read_kitti, read_tum
from egodepth.inference.odometry.track import track_sequence, write_trajectory
from egodepth.report.plots import plot_trajectory
from egodepth.view.scene import PATH_COLOURS, path_lines

THERE, ELSEWHERE, BLACK = [*range(85, 101, 2)], [*range(10, 17)], -1
PATH = [*THERE, *[BLACK] * 4, *THERE[::-1], *ELSEWHERE]


class Broken(Reordered):
    """Frames of a drive in any order, some of them black."""

    images: dict[int, np.ndarray]

    def at(self, indices: object = None) -> Iterator[Frame]:
        for number, index in enumerate(self.path):
            image = np.zeros((self.height, self.width, 3), np.uint8)
            yield Frame(number, number / 10, self.images.get(index, image))


def test_tracking_goes_on_after_black_frames_and_cuts(tmp_path: Path) -> None:
    street = the_street()
    drive = street.frames
    assert isinstance(drive, StreetDrive) and street.world_from_camera is not None
    oracle = OracleRun(drive, [*THERE, *ELSEWHERE])
    frames = Broken(drive, PATH)
    frames.images = {frame.number: frame.image for frame in drive.at(oracle.seen)}
    frames.times = np.arange(len(PATH)) / 10
    truth = street.world_from_camera[PATH]
    sequence = replace(street, frames=frames, world_from_camera=truth, depth={})
    found = track_sequence(oracle, sequence)

    # Beyond the black frames the same street is recognised; the other place stays apart.
    assert np.flatnonzero(found.known).tolist() == [*range(8), *range(12, 20)]
    assert found.untrusted == [*range(8, 12), 20, 21]
    assert [segment.numbers for segment in found.segments] == [[*range(22, 27)]]
    assert found.lost == "11 of 27 frames have no pose" and found.lost in found.comment
    assert [len(strip) for strip in found.strips()] == [8, 8]
    scores = write_trajectory(found, sequence, tmp_path)
    assert scores["frames"] == 16 and scores["ate_percent"] < 1.5
    (segment,) = found.segments
    own = score_trajectory(segment.first_from_frame, truth[segment.numbers])
    assert own["ate_percent"] < 1.5

    facts = json.loads((tmp_path / "odometry.json").read_text())
    assert facts["untrusted"] == found.untrusted
    assert facts["segments"] == [
        {"name": "trajectory", "frames": [[0, 7], [12, 19]]},
        {"name": "trajectory_segment_2", "frames": [[22, 26]]},
    ]
    assert len(read_tum(tmp_path / "trajectory_tum.txt")[0]) == 16
    assert read_tum(tmp_path / "trajectory_segment_2_tum.txt")[0] == pytest.approx(
        np.arange(22, 27) / 10
    )
    with pytest.warns(match="11 of 27 poses have no valid"):
        assert len(read_kitti(tmp_path / "trajectory_kitti.txt")) == 27
    plot_trajectory(tmp_path / "path.png", found.first_from_frame, truth)
    plot_trajectory(tmp_path / "path.png", found.first_from_frame)


def test_segments_are_joined_by_two_loops_that_agree() -> None:
    """Two segments of a path, each in a world and a unit of its own; a third loop between them is wrong."""
    twist = torch.tensor([0.0, 0.1, 0.0, 0.0, 0.0, 1.0]).double()
    truth = se3.exp(torch.arange(20)[:, None] * twist)
    segments = torch.arange(20) // 10
    away = sim3.scaled(se3.exp(torch.tensor([0.3, 1, 0, 5, 0, 2]).double()), torch.tensor(1.5))
    path = torch.cat([truth[:10], away.double() @ truth[10:]])
    path[10:] = sim3.rigid(path[10:])
    first, second = torch.tensor([2, 4, 3]), torch.tensor([12, 15, 18])
    units = sim3.scaled(torch.eye(4).double(), torch.tensor(1 / 1.5).double())
    motions = sim3.inverse(truth[first]) @ truth[second] @ units
    motions[2] = motions[2] @ se3.exp(torch.tensor([0.0, 0.4, 0, 1, 0, 0]).double())
    loops = Edges(first, second, motions, torch.full((3, 7), 0.01).double())
    kept = select_loops(loops, path, torch.full((19, 7), 0.001).double(), segments)
    assert kept.tolist() == [True, True, False]
    right = Edges(*(vars(loops)[name][kept] for name in vars(loops)))
    joined, part = join_segments(right, path, segments)
    assert part.tolist() == [0] * 20
    torch.testing.assert_close(sim3.rigid(joined), truth)
    alone = Edges(*(vars(loops)[name][:1] for name in vars(loops)))
    assert not select_loops(alone, path, torch.full((19, 7), 0.001).double(), segments).any()


def test_the_shown_path_changes_colour_after_a_break() -> None:
    positions = np.arange(27, dtype=float).reshape(9, 3)
    positions[[3, 7]] = np.nan
    lines, colours = path_lines(positions)
    assert lines[:, 0, 0].tolist() == [0, 3, 12, 15] and lines.shape == colours.shape
    first, second, *_ = PATH_COLOURS
    assert [tuple(pair[0]) for pair in colours.tolist()] == [first] * 2 + [second] * 2
