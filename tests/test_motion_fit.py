"""Whether PoseNet's motions fit the depth, and what is predicted where they do not."""

from pathlib import Path

import numpy as np
import pytest

import egodepth
from egodepth.cli import main
from egodepth.inference.odometry.motion_fit import MotionFit, fit_of_motions

ROOM = "synthetic:room:3:9"


def test_motions_that_do_not_fit_give_way_to_direct_alignment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PoseNet of builtin takes the steps of this room for several times too short."""
    run = egodepth.load("builtin")
    (room,) = run.open(ROOM)
    fit = fit_of_motions(run, room)
    assert fit is not None and fit.error > 0.5 and fit.ratio > 2
    assert "times too short" in fit.doubt
    out = tmp_path / "room"
    assert main(["predict", "builtin", ROOM, "--out", str(out), "--formats", "npz"]) == 0
    assert "the motion is found by direct alignment instead" in capsys.readouterr().err
    assert main(["odometry", "builtin", ROOM, "--out", str(tmp_path / "path")]) == 0
    written, tracked = (
        (next(folder.rglob("trajectory_kitti.txt"))).read_text()
        for folder in (out, tmp_path / "path")
    )
    assert written == tracked
    chained = [p.first_from_frame for p in egodepth.predict_sequence(run, room, motion="network")]
    way = np.linalg.norm(np.loadtxt(next(out.rglob("trajectory_kitti.txt")))[-1, 3::4])
    assert way > 2 * np.linalg.norm(chained[-1][:3, 3])


def test_motions_that_fit_are_told_from_others() -> None:
    assert MotionFit(0.2, 1.1).doubt == ""
    assert "off by 100% of the way, 5.0 times too short" in MotionFit(1.0, 5.0).doubt
    assert "2.0 times too long" in MotionFit(1.0, 0.5).doubt


def test_an_unknown_source_of_motion(tiny_run: Path) -> None:
    run = egodepth.load(tiny_run)
    (room,) = run.open(ROOM)
    with pytest.raises(egodepth.EgodepthError, match="unknown motion 'gps'; use auto, network, al"):
        next(egodepth.predict_sequence(run, room, motion="gps"))  # type: ignore[arg-type]
