"""Depth of exports: what views agree on is exact, and where they can't tell it, it is the network's."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Heard, write_images
from tests.test_cli import run
from tests.test_cloud import TrueDepth

import egodepth
from egodepth.core.errors import EgodepthError
from egodepth.data.sequence import Frame, TimedFrames
from egodepth.data.sets.point_cloud import read_ply
from egodepth.inference.export.cloud import DepthView, consistent_views, fuse_cloud
from egodepth.inference.export.mesh import fuse_mesh
from egodepth.inference.multi_view import FrameDepth, frame_depths
from egodepth.inference.odometry.trajectory import Trajectory

HEIGHT, WIDTH, FRAMES = 48, 160, 7
SCALE = 1.2
"""Of the network's depth, over that of the trajectory."""


class RoughDepth(TrueDepth):
    """A run whose depth is off by a quarter here and there, smooth at edges, and of a scale of its own."""

    def __init__(self) -> None:
        super().__init__(FRAMES)
        self.settings = type("Size", (), {"height": HEIGHT, "width": WIDTH})

    def depth(self, image: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        true = coarse(super().depth(image))
        y, x = np.mgrid[:HEIGHT, :WIDTH] / 8
        blurred = np.mean([np.roll(1 / true, shift, 1) for shift in (-2, 0, 2)], 0)
        return SCALE / blurred * np.exp(0.25 * np.sin(x + image.mean()) * np.cos(y))


def coarse(depth: np.ndarray) -> np.ndarray:
    """At the size of the network."""
    return depth[1::2, 1::2]


@pytest.fixture(scope="module")
def rough() -> RoughDepth:
    return RoughDepth()


def path(rough: RoughDepth, known: np.ndarray | None = None) -> Trajectory:
    """The true one, or that of poses that are known."""
    known = poses(rough) if known is None else known
    return Trajectory(known, rough.sequence.frames.numbers[: len(known)])


def poses(rough: RoughDepth) -> np.ndarray:
    world_from_camera = rough.sequence.world_from_camera
    assert world_from_camera is not None
    return np.linalg.inv(world_from_camera[0]) @ world_from_camera


def errors(rough: RoughDepth, view: DepthView, scale: float) -> np.ndarray:
    """Relative errors of the points of a view."""
    truth = coarse(rough.sequence.depth[view.number]())
    seen = view.valid & (truth > 0)
    return np.abs(view.depth[seen] / truth[seen] / scale - 1)


def test_points_of_views_are_exact_and_many(rough: RoughDepth) -> None:
    found: dict[str, np.ndarray] = {}
    done: list[int] = []
    for depth, scale in (("network", SCALE), ("views", 1.0)):
        with egodepth.reporting(Heard(lambda _, count: done.append(count))):
            views = list(consistent_views(
                rough, rough.sequence, path(rough), 3, depth=depth,  # type: ignore[arg-type]
            ))  # fmt: skip
        assert [view.number for view in views] == [0, 3, 6]
        found[depth] = np.concatenate([errors(rough, view, scale) for view in views])
    assert done == 2 * [0, 1, 2, 3, 3]
    views_, network = found["views"], found["network"]
    assert np.median(views_) < 0.03 < 0.8 * np.median(network)
    assert (views_ > 0.1).mean() < 0.5 * (network > 0.1).mean()
    assert len(views_) > 2 * len(network)


def test_a_mesh_of_views_lies_on_the_surfaces(rough: RoughDepth) -> None:
    mesh = fuse_mesh(rough, rough.sequence, path(rough), 3, voxel=0.2)  # type: ignore[arg-type]
    pose, camera = poses(rough)[3], rough.sequence.camera
    assert camera is not None
    moved = (mesh.vertices.astype(np.float64) - pose[:3, 3]) @ pose[:3, :3]
    moved = moved[moved[:, 2] > 2]
    projected = moved @ camera.matrix.double().numpy().T
    x, y = np.rint(projected[:, :2] / projected[:, 2:]).astype(int).T
    inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    truth = rough.sequence.depth[3]()[y[inside], x[inside]]
    known = truth > 0
    assert known.sum() > 10_000
    error = np.abs(moved[inside, 2][known] / truth[known] - 1)
    assert np.median(error) < 0.05  # of DepthNet's: 0.075
    assert (error > 0.1).mean() < 0.2  # 0.38


def test_where_views_do_not_agree_depth_has_their_scale(rough: RoughDepth) -> None:
    frame = middle(rough, poses(rough))
    truth = coarse(rough.sequence.depth[3]())
    assert 0.5 < frame.agreed.mean() < 1
    filled = ~frame.agreed & (truth > 0)
    assert np.median(frame.depth[filled] / truth[filled]) == pytest.approx(1, abs=0.1)
    own = rough.depth(rough.images[3])
    ratio = frame.depth[~frame.agreed] / own[~frame.agreed]
    np.testing.assert_allclose(ratio, ratio[0])


def middle(rough: RoughDepth, first_from_frame: np.ndarray) -> FrameDepth:
    found = path(rough, first_from_frame)
    frames = frame_depths(rough, rough.sequence, found, 1)  # type: ignore[arg-type]
    return next(frame for frame in frames if frame.number == 3)


def still(first_from_frame: np.ndarray) -> np.ndarray:
    return np.tile(np.eye(4), (FRAMES, 1, 1))


def two_frames(first_from_frame: np.ndarray) -> np.ndarray:
    known = np.full_like(first_from_frame, np.nan)
    known[3:5] = first_from_frame[3:5]
    return known


def one_frame(first_from_frame: np.ndarray) -> np.ndarray:
    known = two_frames(first_from_frame)
    known[4] = np.nan
    return known


@pytest.mark.parametrize("change", [still, two_frames, one_frame])
def test_without_views_there_is_the_networks_depth(
    rough: RoughDepth, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    frame = middle(rough, change(poses(rough)))
    assert not frame.agreed.any()
    np.testing.assert_array_equal(frame.depth, rough.depth(rough.images[3]))


class WithoutFrame(TimedFrames):
    """A video whose frame 2 is broken."""

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        return (frame for frame in super().at(indices) if frame.number != 2)


def test_frames_without_a_pose_or_an_image_are_left_out(rough: RoughDepth) -> None:
    known = poses(rough)
    known[5] = np.nan
    whole = rough.sequence
    footage = replace(whole, frames=WithoutFrame(whole.frames, 10.0))
    found = list(frame_depths(rough, footage, path(rough, known[:-1]), 1))  # type: ignore[arg-type]
    assert [frame.number for frame in found] == [0, 1, 3, 4]
    truth = coarse(whole.depth[3]())
    good = found[2].agreed & (truth > 0)
    assert good.mean() > 0.3
    assert np.median(np.abs(found[2].depth / np.where(good, truth, 1) - 1)[good]) < 0.03


def test_a_wrong_word_is_named(rough: RoughDepth) -> None:
    with pytest.raises(EgodepthError, match="depth must be views or network, got 'stereo'"):
        fuse_cloud(rough, rough.sequence, path(rough), 3, depth="stereo")  # type: ignore[arg-type]


def test_the_command_line_says_where_depth_comes_from(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wall of noise that passes by: views tell its depth, an untrained network does not."""
    write_images(tmp_path / "frames", 6)
    clouds = []
    for typed in ([], ["--depth", "network"]):
        out = tmp_path / f"{len(typed)}.ply"
        words = ["export", "points", tiny_run, tmp_path / "frames", "--out", out, "--every", 2]
        assert run(capsys, *words, *typed)[0] == 0
        clouds.append(read_ply(out))
    assert clouds[0].shape != clouds[1].shape
    status, _, err = run(capsys, *words, "--depth", "stereo")
    assert status == 2
    assert "--depth must be one of views or network, got 'stereo'" in err
