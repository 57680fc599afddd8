"""Metres from one known length."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import write_images
from tests.test_cli import run
from tests.test_cloud import TrueDepth

from egodepth.core.errors import EgodepthError
from egodepth.data.synthetic import CAMERA_HEIGHT
from egodepth.geometry.trajectory import read_kitti
from egodepth.inference.unit import KnownLength, read_gps, unit_by_motion, unit_by_view

FORWARD = np.column_stack([np.zeros(41), np.zeros(41), np.linspace(0, 8, 41)])
TIMES = 0.5 * np.arange(41)


@pytest.fixture(scope="module")
def street() -> TrueDepth:
    true = TrueDepth()
    true.unit = 7.0
    return true


def test_camera_height(street: TrueDepth) -> None:
    """The street's ground lies CAMERA_HEIGHT below its camera."""
    known = KnownLength(camera_height=CAMERA_HEIGHT)
    unit = unit_by_view(street, street.sequence, known)  # type: ignore[arg-type]
    assert unit.metres == pytest.approx(7.0, rel=0.01) and "camera height" in unit.text


def test_one_distance(street: TrueDepth) -> None:
    """A pixel at the edge, where the distance is longer than the depth by its ray."""
    camera, x, y = street.sequence.camera, 300, 70
    assert camera is not None
    fx, fy, cx, cy = camera.focal_and_centre.tolist()
    distance = street.sequence.depth[3]()[y, x] * np.hypot(
        1, np.hypot((x - cx) / fx, (y - cy) / fy)
    )
    known = KnownLength(distance=(3, x, y, float(distance)))
    unit = unit_by_view(street, street.sequence, known)  # type: ignore[arg-type]
    assert unit.metres == pytest.approx(7.0, rel=1e-5)
    for wrong, message in (
        ((99, x, y, 1.0), "no frame 99"),
        ((3, 320, y, 1.0), "outside the frame"),
    ):
        with pytest.raises(EgodepthError, match=message):
            unit_by_view(street, street.sequence, KnownLength(distance=wrong))  # type: ignore[arg-type]


def test_speed() -> None:
    unit = unit_by_motion(FORWARD, TIMES, KnownLength(speed=10.0))
    assert unit.metres == pytest.approx(10 * 20 / 8)
    with pytest.raises(EgodepthError, match="stands still"):
        unit_by_motion(np.zeros((41, 3)), TIMES, KnownLength(speed=10.0))


def write_gpx(path: Path, north: np.ndarray) -> Path:
    """Positions on a meridian, a second apart."""
    points = "".join(
        f'<trkpt lat="{48 + np.degrees(y / 6_378_137.0):.9f}" lon="9.0"><ele>1</ele>'
        f"<time>2026-05-01T10:00:{second:02d}Z</time></trkpt>"
        for second, y in enumerate(north)
    )
    path.write_text(
        '<?xml version="1.0"?><gpx xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>'
        f"{points}</trkseg></trk></gpx>"
    )
    return path


def test_gps_track(tmp_path: Path) -> None:
    """200 m in 20 s, with noise of half a metre and one bad fix."""
    noise = np.random.default_rng(0).normal(0, 0.5, 21)
    north = np.linspace(0, 200, 21) + noise
    north[7] += 40
    path = write_gpx(tmp_path / "track.gpx", north)
    unit = unit_by_motion(FORWARD, TIMES, KnownLength(gps=path))
    assert unit.metres == pytest.approx(25.0, rel=0.03) and "track.gpx" in unit.text
    moments, places = read_gps(path)
    rows = ["time,latitude,longitude"]
    rows += [f"{t + 5},{48 + np.degrees(y / 6_378_137.0)},9" for t, y in enumerate(north)]
    (tmp_path / "track.csv").write_text("\n".join(rows))
    same = read_gps(tmp_path / "track.csv")
    np.testing.assert_allclose(same[0], moments)
    np.testing.assert_allclose(same[1], places, atol=1e-3)


def test_east_is_shorter_at_a_high_latitude(tmp_path: Path) -> None:
    """A degree of longitude at 60 degrees is half of one at the equator, 111.3 km."""
    (tmp_path / "t.csv").write_text("time,latitude,longitude\n0,60,9\n1,60,10\n")
    assert read_gps(tmp_path / "t.csv")[1][1] == pytest.approx([111_319.49 / 2, 0], rel=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,latitude\n0,1\n", "cannot read the GPS track.*longitude"),
        ("<gpx><trkpt", "cannot read the GPS track.*GPX with times"),
        ("time,latitude,longitude\n0,48,9\n", "holds 1 positions"),
        (
            "time,latitude,longitude\n0,48,9\n30,48.00001,9\n",
            "gives no scale: it needs positions 10 m",
        ),
    ],
)
def test_tracks_that_tell_nothing(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "track").write_text(text)
    with pytest.raises(EgodepthError, match=message):
        unit_by_motion(FORWARD, TIMES, KnownLength(gps=tmp_path / "track"))


def test_prediction_in_metres(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Depth, PNG, trajectory and unit.json agree; the trajectory has the length that was told."""
    write_images(tmp_path / "frames", 7)
    plain, metric = tmp_path / "plain", tmp_path / "metric"
    assert run(capsys, "predict", tiny_run, tmp_path / "frames", "--out", plain)[0] == 0
    status, text, _ = run(
        capsys, "predict", tiny_run, tmp_path / "frames", "--out", metric, "--speed", 2
    )
    assert status == 0 and "metres, by a mean speed of 2 m/s" in text
    facts = json.loads((metric / "unit.json").read_text())
    depth, own = (np.load(out / "depth" / "0000000003.npz")["depth"] for out in (metric, plain))
    np.testing.assert_allclose(depth, own * facts["metres_per_unit"], rtol=1e-5)
    levels = np.asarray(Image.open(metric / "depth_png" / "0000000003.png"))
    np.testing.assert_allclose(levels, np.clip(256 * depth, 1, 65535), atol=0.51)
    poses = read_kitti(metric / "trajectory_kitti.txt")
    path = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum()
    assert path == pytest.approx(2 * 0.6, rel=1e-5)
    assert json.loads((plain / "unit.json").read_text())["metres_per_unit"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--distance", "1.5", "2", "2", "3"], "--distance needs a frame's whole number"),
        (["--distance", "1", "x", "2", "3"], "must be a number, zero or above, got 'x'"),
        (["--gps", "none.gpx"], "the GPS track is missing"),
        (["--speed", "1", "--camera_height", "2"], "not allowed with"),
    ],
)
def test_bad_input(
    words: list[str], message: str, tiny_run: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_images(tmp_path / "frames", 3)
    status, _, errors = run(
        capsys, "predict", tiny_run, tmp_path / "frames", "--out", tmp_path / "out", *words
    )
    assert status != 0 and message in errors and len(errors.splitlines()) == 1
