"""Metres from one known length."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests import layouts
from tests.conftest import tiny_settings, write_images
from tests.test_cli import run
from tests.test_cloud import TrueDepth

from egodepth.cli import main
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.synthetic.street import CAMERA_HEIGHT
from egodepth.geometry.trajectory import read_kitti
from egodepth.inference.odometry.gps_track import read_gps
from egodepth.inference.odometry.known_length import (
    CameraHeight,
    GpsTrack,
    MeanSpeed,
    MeasuredDistance,
)
from egodepth.inference.odometry.unit import unit_by_motion, unit_by_view
from egodepth.training.run import train

FORWARD = np.column_stack([np.zeros(41), np.zeros(41), np.linspace(0, 8, 41)])
TIMES = 0.5 * np.arange(41)


@pytest.fixture(scope="module")
def street() -> TrueDepth:
    true = TrueDepth()
    true.unit = 7.0
    return true


def test_camera_height(street: TrueDepth) -> None:
    """The street's ground lies CAMERA_HEIGHT below its camera."""
    known = CameraHeight(CAMERA_HEIGHT)
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
    known = MeasuredDistance(3, x, y, float(distance))
    unit = unit_by_view(street, street.sequence, known)  # type: ignore[arg-type]
    assert unit.metres == pytest.approx(7.0, rel=1e-5)
    for wrong, message in (
        ((99, x, y, 1.0), "no frame 99"),
        ((3, 320, y, 1.0), "outside the frame"),
    ):
        with pytest.raises(EgodepthError, match=message):
            unit_by_view(street, street.sequence, MeasuredDistance(*wrong))  # type: ignore[arg-type]


def test_speed() -> None:
    unit = unit_by_motion(FORWARD, TIMES, MeanSpeed(10.0))
    assert unit.metres == pytest.approx(10 * 20 / 8)
    with pytest.raises(EgodepthError, match="stands still"):
        unit_by_motion(np.zeros((41, 3)), TIMES, MeanSpeed(10.0))


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
    unit = unit_by_motion(FORWARD, TIMES, GpsTrack(path))
    assert unit.metres == pytest.approx(25.0, rel=0.03) and "track.gpx" in unit.text
    moments, places = read_gps(path)
    rows = ["time,latitude,longitude"]
    rows += [f"{t + 5},{48 + np.degrees(y / 6_378_137.0)},9" for t, y in enumerate(north)]
    (tmp_path / "track.csv").write_text("\n".join(rows))
    same = read_gps(tmp_path / "track.csv")
    np.testing.assert_allclose(same[0], moments)
    np.testing.assert_allclose(same[1], places, atol=1e-3)


def as_csv(path: Path, times: object, longitudes: object) -> Path:
    rows = [f"{t},60,{x:.9f}" for t, x in zip(times, longitudes, strict=True)]  # type: ignore[call-overload]
    path.write_text("time[s],latitude,longitude\n" + "\n".join(rows))
    return path


def test_a_track_across_the_date_line_is_as_long_as_it_was_driven(tmp_path: Path) -> None:
    east = 180 + np.degrees(10 * np.arange(-10, 11) / 6_378_137.0)
    _, places = read_gps(
        as_csv(tmp_path / "t.csv", range(1, 22), np.where(east > 180, east - 360, east))
    )
    np.testing.assert_allclose(places[:, 0], 5 * np.arange(21), atol=1e-2)  # 60 degrees north


def test_times_of_a_track_that_go_back_are_refused(tmp_path: Path) -> None:
    week = (604_790 + np.arange(1, 21)) % 604_800
    path = as_csv(tmp_path / "t.csv", week, np.arange(1, 21) * 1e-5)
    with pytest.raises(EgodepthError, match="go back by 604799 s after its position 9"):
        read_gps(path)


def test_positions_that_no_vehicle_reaches_are_left_out_or_refused(tmp_path: Path) -> None:
    longitudes = 50 + np.arange(1, 21) * 1e-4
    longitudes[6] = 0
    longitudes[12] += 0.05
    path = as_csv(tmp_path / "t.csv", range(1, 21), longitudes)
    with pytest.warns(EgodepthWarning, match="2 of 20 positions are left out.*position 7 for one"):
        moments, places = read_gps(path)
    assert len(moments) == len(places) == 18 and np.ptp(places[:, 0]) == pytest.approx(
        19e-4 * 111_319.5 / 2, rel=1e-3
    )
    path = as_csv(tmp_path / "t.csv", range(1, 21), longitudes + 5 * (np.arange(20) > 10))
    with pytest.raises(EgodepthError, match=r"no vehicle moves at the .* m/s"):
        read_gps(path)


def test_gps_positions_without_time_are_left_out_with_a_word(tmp_path: Path) -> None:
    path = write_gpx(tmp_path / "track.gpx", np.linspace(0, 200, 21))
    whole = read_gps(path)
    times = path.read_text().replace("<time>2026-05-01T10:00:05Z</time>", "")
    path.write_text(times.replace("<time>2026-05-01T10:00:09Z</time>", "<time/>"))
    with pytest.warns(EgodepthWarning, match="2 of 21 positions have no time"):
        moments, places = read_gps(path)
    kept = np.delete(np.arange(21), [5, 9])
    np.testing.assert_allclose(moments, whole[0][kept])
    np.testing.assert_allclose(places, whole[1][kept])


@pytest.mark.parametrize(
    "text",
    [
        "\ufefftime,latitude,longitude\n3,,\n5,48,9\n6,48.001,9\n",
        "Timestamp;Lat;Lon;speed\n3;0;0;1\n5;48,0;9;1\n6;48,001;9;1\n",
        "lon\tlat\ttime\n\t\t2026-05-01T10:00:03\n9\t48\t2026-05-01T10:00:05Z\n"
        + "9\t48.001\t2026-05-01T10:00:06Z\n",
    ],
)
def test_tables_of_positions(text: str, tmp_path: Path) -> None:
    """The track starts with its first line, whose position is not known."""
    (tmp_path / "t.csv").write_text(text)
    with pytest.warns(EgodepthWarning, match="1 of 3 positions"):
        moments, places = read_gps(tmp_path / "t.csv")
    np.testing.assert_allclose(moments, [2, 3])
    np.testing.assert_allclose(places, [[0, 0], [0, 111.319]], atol=1e-3)


NORTH = 48 + np.degrees(np.arange(6) * 2.0 / 6_378_137.0)
DATES = [f"2026-05-01T10:00:{5 + i / 5:09.6f}" for i in range(6)]


def gps_table(header: str, *columns: object, mark: str = ",") -> str:
    """Six positions 2 m and 0.2 s apart."""
    filled = [[c] * 6 if isinstance(c, str) else list(c) for c in columns]  # type: ignore[call-overload]
    return "\n".join([header, *(mark.join(map(str, row)) for row in zip(*filled, strict=True))])


@pytest.mark.parametrize(
    "text",
    [
        gps_table("time(millisecond),datetime(utc),latitude,longitude,speed(m/s)",
                  range(0, 1200, 200), "2026-05-01 10:00:05", NORTH, "9", "3"),
        gps_table("sep=,\nCUSTOM.date [local],CUSTOM.updateTime [local],OSD.flyTime [s],OSD.latitude,"
                  "OSD.longitude,HOME.latitude,HOME.longitude", "5/1/2026", "10:00:05 AM",
                  np.arange(6) / 5, NORTH, "9", "48", "9"),
        gps_table('"cts","date","GPS (Lat.) [deg]","GPS (Long.) [deg]","GPS (Alt.) [m]"',
                  range(33, 1233, 200), [d + "Z" for d in DATES], NORTH, "9", "1"),
        gps_table("Milliseconds,Latitude,Longitude", range(0, 1200, 200), NORTH, "9"),
        gps_table('"Time (s)","Latitude (°)","Longitude (°)"', np.arange(6) / 5, NORTH, "9"),
        gps_table("time,seconds_elapsed,horizontalAccuracy,longitude,latitude",
                  [1_777_000_000_000_000_000 + i * 200_000_000 for i in range(6)],
                  np.arange(6) / 5, "3", "9", NORTH),
        gps_table("%time,field.header.seq,field.header.stamp,field.header.frame_id,field.latitude,"
                  "field.longitude,field.position_covariance0",
                  [1_777_000_000_000_000_000 + i * 200_000_000 for i in range(6)], range(6),
                  [1_777_000_000_000_000_000 + i * 200_000_000 for i in range(6)], "gps", NORTH, "9", "1"),
        gps_table("header.stamp.sec,header.stamp.nanosec,latitude,longitude", "1777000000",
                  [f"{i}00000000" for i in range(0, 10, 2)] + ["999999999"], NORTH, "9"),
        gps_table("date,time,lat,lon", "2026-05-01", [d[11:] for d in DATES], NORTH, "9"),
        gps_table("date,time,lat,lon", "2026/05/01", [d[11:] for d in DATES], NORTH, "9"),
        gps_table("timestampMs;lat;lon", range(0, 1200, 200), NORTH, "9", mark=";").replace(".", ","),
        gps_table("# timestamp lat lon", np.arange(6) / 5, NORTH, "9", mark=" "),
    ],
)  # fmt: skip
def test_tables_of_receivers(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        moments, places = read_gps(tmp_path / "t.csv")
    np.testing.assert_allclose(moments, np.arange(6) / 5, atol=1e-6)
    np.testing.assert_allclose(places, np.stack([np.zeros(6), np.arange(6) * 2], 1), atol=1e-2)
    assert [str(w.message).partition("taken for ")[2] for w in said] == ["nanoseconds"] * (
        "_000" in text or "17770000000" in text
    )


def test_east_is_shorter_at_a_high_latitude(tmp_path: Path) -> None:
    """A degree of longitude at 60 degrees is half of one at the equator, 111.3 km."""
    (tmp_path / "t.csv").write_text("time,latitude,longitude\n0,60,9\n1,60,10\n")
    assert read_gps(tmp_path / "t.csv")[1][1] == pytest.approx([111_319.49 / 2, 0], rel=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,latitude\n0,1\n", "the GPS track.* is broken.*longitude"),
        ('<gpx><trkpt lat="48" lon="9"/><trkpt lat="48" lon="9.1"/></gpx>', "track has no times"),
        ('<gpx><rtept lat="48" lon="9"/><rtept lat="48" lon="9.1"/></gpx>', "track has no times"),
        ("time,latitude,longitude\n0,48,9\n1,x,9\n", "line 3: could not convert"),
        ("time,latitude,longitude\n0,48,9\n1,9\n", "line 3 has 2 columns, the first line 3"),
        ("time,latitude,longitude\n0,48,9\n1,480000000,9\n", "position 2 has latitude 4.8e"),
        (
            "time,latitude,longitude\n0,48,9\n1000,48.1,9\n2000,48.2,9\n",
            "microseconds or frame numbers: name",
        ),
        (
            "time,latitude,longitude\n0,48,9\n40,48.1,9\n80,48.2,9\n",
            "seconds, milliseconds or frame numbers: name",
        ),
        (
            "time_s,latitude,longitude\n1700000000000,48,9\n1700000000100,48.1,9\n",
            "are no seconds, though",
        ),
        ("time,latitude,longitude\n2026-05-01,48,9\n2026-05-02,48.1,9\n", "86400 s apart, too far"),
        ('<kml><Point lat="48" lon="9"/></kml>', "it is kml, not gpx.*GPX with times"),
        ("sec,latitude,longitude\n" + "7,48,9\n7,48.1,9\n", "2 positions of .* all have one time"),
        ("<gpx><trkpt", "the GPS track.* is broken.*GPX with times"),
        ("time,latitude,longitude\n0,48,9\n", "holds 1 positions"),
        (
            "time_s,latitude,longitude\n0,48,9\n30,48.00001,9\n",
            "gives no scale: it needs positions 10 m",
        ),
    ],
)
def test_tracks_that_tell_nothing(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "track").write_text(text)
    with pytest.raises(EgodepthError, match=message):
        unit_by_motion(FORWARD, TIMES, GpsTrack(tmp_path / "track"))


def test_prediction_in_metres(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Depth, PNG, trajectory and unit.json agree."""
    write_images(tmp_path / "frames", 7)
    plain, metric = tmp_path / "plain", tmp_path / "metric"
    assert run(capsys, "predict", tiny_run, tmp_path / "frames", "--out", plain)[0] == 0
    status, text, _ = run(
        capsys, "predict", tiny_run, tmp_path / "frames", "--out", metric, "--speed", 2, "--fps", 10,
    )  # fmt: skip
    assert status == 0 and "metres, by a mean speed of 2 m/s" in text
    facts = json.loads((metric / "unit.json").read_text())
    depth, own = (np.load(out / "depth" / "0000000003.npz")["depth"] for out in (metric, plain))
    np.testing.assert_allclose(depth, own * facts["metres_per_unit"], rtol=1e-5)
    levels = np.asarray(Image.open(metric / "depth_png" / "0000000003.png"))
    np.testing.assert_allclose(levels, np.clip(256 * depth, 1, 65535), atol=0.51)
    there, here = (read_kitti(out / "trajectory_kitti.txt")[:, :3, 3] for out in (metric, plain))
    np.testing.assert_allclose(there, here * facts["metres_per_unit"], rtol=1e-4, atol=1e-6)
    assert json.loads((plain / "unit.json").read_text())["metres_per_unit"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--distance", "1.5", "2", "2", "3"],
            "--distance must be 4 values (a whole number, a number,",
        ),
        (["--distance", "1", "x", "2", "3"], "a number), got '1 x 2 3'"),
        (["--gps", "none.gpx", "--fps", "10"], "the GPS track is missing"),
        (["--speed", "1", "--camera_height", "2"], "give only one of --camera_height and --speed"),
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


def jittered(path: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    return path + np.random.default_rng(seed).normal(0, sigma, path.shape)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("speed", [0.5, 1.0, 8.0])
def test_jitter_of_single_frames_does_not_lengthen_the_path(speed: float, seed: int) -> None:
    """1 cm at 30 frames per second: summed over all frames, the path at 1 m/s is 18 % too long."""
    times = np.arange(300) / 30
    way = np.column_stack([speed * times, 0 * times, 0 * times])
    unit = unit_by_motion(jittered(way, 0.01, seed), times, MeanSpeed(speed))
    assert unit.metres == pytest.approx(1, rel=0.01)


def test_standing_counts_as_standing() -> None:
    """Stop and go: the mean speed is that of the whole footage, wherever the standing parts are."""
    times = np.arange(600) / 30
    for moving in (times < 4, times > 17, (times % 6) < 2):
        way = np.cumsum(np.where(moving, 3.0, 0.0)) / 30
        way = np.column_stack([0 * times, 0 * times, way])
        mean = float(way[-1, 2] - way[0, 2]) / times[-1]
        unit = unit_by_motion(jittered(way, 0.005), times, MeanSpeed(mean))
        assert unit.metres == pytest.approx(1, rel=0.02)


def test_a_bend_a_bad_frame_and_uneven_times() -> None:
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 20, 400))
    way = np.column_stack([10 * np.cos(times / 2), 10 * np.sin(times / 2), 0 * times])
    way[200] += 40  # 80 units more for a path of 100
    unit = unit_by_motion(way, times, MeanSpeed(5.0))
    assert unit.metres == pytest.approx(1, rel=0.03)
    slow = np.arange(20.0)  # a frame per second
    way = np.column_stack([slow, 0.5 * (slow % 2), 0 * slow])
    unit = unit_by_motion(way, slow, MeanSpeed(1.25**0.5))
    assert unit.metres == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("walks", [True, False])
@pytest.mark.parametrize("option", ["speed", "gps"])
def test_noise_is_refused(walks: bool, option: str, tmp_path: Path) -> None:
    """Chained motions that are noise (a random walk), and jitter around a place."""
    known = MeanSpeed(1.0)
    if option == "gps":
        known = GpsTrack(write_gpx(tmp_path / "track.gpx", np.linspace(0, 200, 21)))
    for count, seed in ((60, 0), (300, 1), (600, 2)):
        noise = np.random.default_rng(seed).normal(0, 0.01, (count, 3))
        with pytest.raises(
            EgodepthError, match=f"--{option} gives no scale: the run's path is noise"
        ):
            unit_by_motion(noise.cumsum(0) if walks else noise, np.arange(count) / 30, known)


def test_too_few_frames_tell_no_motion() -> None:
    path, times = np.linspace(0, 1, 601)[:, None] * [1, 0, 0], np.arange(601) / 30
    with pytest.raises(EgodepthError, match=r"2 frames over 0.033 s are too few|is noise"):
        unit_by_motion(path[:2], times[:2], MeanSpeed(1.0))


def test_a_track_that_does_not_fit_the_path_is_told(tmp_path: Path) -> None:
    path = np.concatenate([np.linspace(0, 2, 21), np.linspace(2.4, 10, 20)])
    positions = np.column_stack([0 * path, 0 * path, path])
    known = GpsTrack(write_gpx(tmp_path / "track.gpx", np.linspace(0, 200, 21)))
    with pytest.warns(EgodepthWarning, match=r"track.gpx and the run's path differ"):
        unit_by_motion(positions, TIMES, known)


@pytest.mark.parametrize("metric", [False, True])
def test_own_poses_are_metres_only_where_somebody_says_so(
    metric: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = layouts.make_footage(tmp_path)
    if metric:
        camera = folder / "camera.yaml"
        camera.write_text(camera.read_text() + "poses_unit: metres\n")
    train(tiny_settings(folder, data__poses="given", steps=1), tmp_path / "run")
    status, text, _ = run(
        capsys,
        "predict",
        tmp_path / "run",
        folder / "images",
        "--out",
        tmp_path / "out",
        "--fov",
        60,
    )
    wanted = "metres, by the poses that the run" if metric else "lengths in the unit of poses.txt"
    assert status == 0 and wanted in text
    facts = json.loads((tmp_path / "out" / "unit.json").read_text())
    assert facts["metres_per_unit"] == (1.0 if metric else None)
    (tmp_path / "own.txt").write_text((folder / "poses.txt").read_text())
    status, text, _ = run(capsys, "evaluate", "odometry", tmp_path / "own.txt", "--data", folder)
    assert status == 0 and ("not metres" in " ".join(text.split())) != metric


def test_a_trajectory_is_kept_where_what_was_measured_tells_no_unit(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A wall without any ground: a camera height means nothing.
    write_images(tmp_path / "frames", 5)
    words = ["odometry", str(tiny_run), str(tmp_path / "frames"), "--out", str(tmp_path / "out")]
    assert main([*words, "--camera_height", "1.5", "--device", "cpu"]) == 1
    assert "the trajectory is in the run's own unit" in capsys.readouterr().err
    assert len((tmp_path / "out" / "trajectory_kitti.txt").read_text().splitlines()) == 5
    assert "metres" not in (tmp_path / "out" / "odometry.json").read_text()
