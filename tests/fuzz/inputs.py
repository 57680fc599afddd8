"""Small valid inputs of every reader, and what is done with them, from Python and from the command line."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import numpy as np
import torch
from PIL import Image
from tests import layouts
from tests.conftest import TINY, write_images
from tests.fuzz import options
from tests.fuzz.breaks import Break

from egodepth.core import config
from egodepth.core.config import override
from egodepth.data.sequence import Sequence
from egodepth.settings.training import TrainSettings

MAX_METRES = 1e6
"""Depths and positions beyond are nonsense."""


class NonsenseError(Exception):
    """A reader returned what no valid file can hold."""


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        make: writes a valid input into an empty folder.
        read: reads it with Python, all of it, and raises NonsenseError where the result is nonsense.
        command: arguments of the command line that reads it, or None.
        files: pattern of the files that are broken.
        weight: its share of the inputs.
        table: ways to break the files; by default those that suit them.
        by_command: whether it is read by the command line alone.
        optional: parts of names of files that may be destroyed without a word, since the command does not read
            them, or they are made anew.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    command: Callable[[Path], list[str]] | None = None
    files: str = "**/*"
    weight: int = 2
    optional: tuple[str, ...] = ()
    table: dict[str, Break] | None = None
    by_command: bool = False


def _require(fine: object, what: str) -> None:
    if not fine:
        raise NonsenseError(what)


def check_camera(camera: Any) -> None:
    """A pinhole camera whose numbers are finite and positive, its principal point in the image."""
    fx, fy, cx, cy = camera.focal_and_centre.double().tolist()
    size = max(camera.width, camera.height)
    _require(np.isfinite([fx, fy, cx, cy]).all(), f"camera {fx} {fy} {cx} {cy}")
    _require(camera.width > 0 and camera.height > 0, f"camera size {camera.width}x{camera.height}")
    _require(1e-3 * size < min(fx, fy) and max(fx, fy) < 1e4 * size, f"focal lengths {fx} {fy}")
    _require(-1 < cx < camera.width and -1 < cy < camera.height, f"principal point {cx} {cy}")


def check_poses(poses: np.ndarray) -> None:
    """Poses that are rigid, or NaN as a whole."""
    known = poses[np.isfinite(poses).all((1, 2))]
    _require(np.isnan(poses).any((1, 2)).sum() + len(known) == len(poses), "infinite poses")
    _require(len(known), "no pose is known")
    rotations = known[:, :3, :3]
    off = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max()
    _require(
        off < 0.02 and (np.linalg.det(rotations) > 0).all(), f"poses that are not rigid: {off}"
    )
    _require(np.abs(known[:, :3, 3]).max() < 1e9, "positions beyond 1e9")


def check_depth(depth: np.ndarray, *, known: bool = True) -> None:
    """Depth in metres, 0 where unknown."""
    _require(depth.ndim == 2 and depth.dtype.kind == "f", f"depth {depth.shape} {depth.dtype}")
    _require(np.isfinite(depth).all(), "depth that is not finite")
    _require(depth.min() >= 0 and depth.max() < MAX_METRES, f"depth {depth.min()} to {depth.max()}")


def check_times(times: np.ndarray | None, count: int) -> None:
    """One finite time per frame, ascending."""
    if times is not None:
        _require(len(times) == count and np.isfinite(times).all(), f"times {times}")
        _require((np.diff(times) >= 0).all(), "times that go back")


def check_sequence(sequence: Sequence) -> None:
    """Read all of a sequence."""
    frames = sequence.frames
    count = 0
    check_times(frames.times, len(frames))
    for frame in frames.at():
        count += 1
        fits = (
            frame.image.shape == (frames.height, frames.width, 3) and frame.image.dtype == np.uint8
        )
        _require(fits, f"image {frame.image.shape} {frame.image.dtype}")
    _require(count, "no frames")
    if sequence.camera is not None:
        check_camera(sequence.camera)
        size = (sequence.camera.height, sequence.camera.width)
        _require(size == (frames.height, frames.width), f"camera of {size}")
    if sequence.world_from_camera is not None:
        _require(len(sequence.world_from_camera) == len(frames), "another number of poses")
        check_poses(sequence.world_from_camera)
    _require(np.isfinite(sequence.rig_from_camera).all(), "rig_from_camera is not finite")
    for truths in (sequence.depth, sequence.improved_depth, sequence.lidar_forward):
        for read in truths.values():
            check_depth(read())


def read_sequences(source: str) -> None:
    from egodepth.data.sources import read_source

    for sequence in read_source(source):
        check_sequence(sequence)


def _data_set(name: str, make: Callable[[Path], object]) -> Kind:
    return Kind(
        make, lambda root: read_sequences(f"{name}:{root}"),
        lambda root: ["data", "check", f"{name}:{root}", "--out", str(root.parent / "check.png")],
        weight=4,
    )  # fmt: skip


OWN = "fx: 50\nfy: 50.5\ncx: 39.5\ncy: 19.5\nwidth: 80\nheight: 40\ndepth_steps: 1000\n"
CAMERAS = {
    "own": OWN,
    "own_lens": OWN + "lens: brown\ndistortion: [-0.1, 0.02, 0.0, 0.0, 0.0]\n",
    "opencv": "%YAML:1.0\n---\nimage_width: 80\nimage_height: 40\ncamera_matrix: !!opencv-matrix\n"
    "   rows: 3\n   cols: 3\n   dt: d\n   data: [ 50., 0., 39.5, 0., 50., 19.5, 0., 0., 1. ]\n"
    "distortion_coefficients: !!opencv-matrix\n   rows: 1\n   cols: 5\n   dt: d\n"
    "   data: [ -0.1, 0.02, 0., 0., 0. ]\n",
    "opencv_xml": '<?xml version="1.0"?>\n<opencv_storage>\n<image_width>80</image_width>\n'
    "<image_height>40</image_height>\n"
    '<camera_matrix type_id="opencv-matrix">\n<rows>3</rows>\n<cols>3</cols>\n<dt>d</dt>\n'
    "<data>50. 0. 39.5 0. 50. 19.5 0. 0. 1.</data></camera_matrix>\n"
    '<distortion_coefficients type_id="opencv-matrix">\n<rows>1</rows>\n<cols>4</cols>\n<dt>d</dt>\n'
    "<data>-0.1 0.02 0. 0.</data></distortion_coefficients>\n</opencv_storage>\n",
    "ros": "image_width: 80\nimage_height: 40\ncamera_name: left\ncamera_matrix:\n  rows: 3\n  cols: 3\n"
    "  data: [50.0, 0.0, 39.5, 0.0, 50.0, 19.5, 0.0, 0.0, 1.0]\ndistortion_model: plumb_bob\n"
    "distortion_coefficients:\n  rows: 1\n  cols: 5\n  data: [-0.1, 0.02, 0.0, 0.0, 0.0]\n"
    "roi:\n  x_offset: 0\n  width: 80\n  height: 40\n",
    "kalibr": "cam0:\n  camera_model: pinhole\n  intrinsics: [50.0, 50.0, 39.5, 19.5]\n"
    "  distortion_model: radtan\n  distortion_coeffs: [-0.1, 0.02, 0.0, 0.0]\n  resolution: [80, 40]\n",
    "colmap": "# Camera list\n1 OPENCV 80 40 50 50 40 20 -0.1 0.02 0 0\n",
    "nerfstudio": json.dumps({
        "fl_x": 50.0, "fl_y": 50.0, "cx": 40.0, "cy": 20.0, "w": 80, "h": 40, "k1": -0.1, "k2": 0.02,
        "camera_model": "OPENCV", "frames": [{"file_path": "a.png", "transform_matrix": [[1]]}],
    }),
}  # fmt: skip


def _camera(text: str) -> Kind:
    def make(folder: Path) -> None:
        write_images(folder, 3)
        (folder / "camera.yaml").write_text(text)

    def read(folder: Path) -> None:
        from egodepth.data.footage.camera_file import read_calibration

        found = read_calibration(folder / "camera.yaml")
        check_camera(found.camera)
        if found.lens is not None:
            coefficients = np.array(found.lens.coefficients)
            _require(np.isfinite(coefficients).all(), f"lens {coefficients}")
        read_sequences(str(folder))

    def command(folder: Path) -> list[str]:
        return ["data", "check", str(folder), "--out", str(folder.parent / "check.png")]

    return Kind(make, read, command, "camera.yaml")


T = [f"{1.5e9 + 0.1 * i:.1f}" for i in range(12)]
NS = [str(1403715000000000000 + 100_000_000 * i) for i in range(12)]
X = [f"{0.5 * i:g} {0.1 * i * i:g} {0.3 * i:g}" for i in range(12)]
TRAJECTORIES = {
    "kitti": "".join(f"1 0 0 {i} 0 1 0 {0.1 * i * i:g} 0 0 1 {0.3 * i:g}\n" for i in range(12)),
    "tum": "# timestamp tx ty tz qx qy qz qw\n"
    + "".join(f"{t} {x} 0 0 0 1\n" for t, x in zip(T, X, strict=True)),
    "euroc": "#timestamp [ns],x,y,z,qw,qx,qy,qz\n"
    + "".join(f"{t},{x.replace(' ', ',')},1,0,0,0\n" for t, x in zip(NS, X, strict=True)),
    "named": "time[s];x[m];y[m];z[m];qw;qx;qy;qz\n"
    + "".join(f"{t};{x.replace(' ', ';')};1;0;0;0\n" for t, x in zip(T, X, strict=True)),
    "matrices": "".join(f"1 0 0 {i}\n0 1 0 {0.1 * i * i:g}\n0 0 1 0\n0 0 0 1\n" for i in range(12)),
}


def _trajectory(text: str) -> Kind:
    def make(folder: Path) -> None:
        (folder / "poses.txt").write_text(text)

    def read(folder: Path) -> None:
        from egodepth.geometry.trajectory import read_trajectory

        found = read_trajectory(folder / "poses.txt")
        check_poses(found.poses)
        check_times(found.times, len(found.poses))

    def command(folder: Path) -> list[str]:
        truth = folder.parent / "truth.txt"
        truth.write_text(text)
        return ["evaluate", "odometry", str(folder / "poses.txt"), "--truth", str(truth)]

    return Kind(make, read, command, weight=3)


GPX = (
    '<?xml version="1.0"?>\n<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>\n'
    + "".join(
        f'<trkpt lat="{48.1 + 1e-5 * i:.6f}" lon="11.5"><ele>500</ele><time>2024-05-01T10:00:{i:02d}Z</time>'
        "</trkpt>\n"
        for i in range(12)
    )
    + "</trkseg></trk></gpx>\n"
)
GPS_CSV = "time,latitude,longitude\n" + "".join(
    f"{i}.5,{48.1 + 1e-5 * i:.6f},11.5\n" for i in range(12)
)


def _gps(text: str) -> Kind:
    def make(folder: Path) -> None:
        (folder / "track.csv").write_text(text)

    def read(folder: Path) -> None:
        from egodepth.inference.odometry.gps_track import read_gps

        times, places = read_gps(folder / "track.csv")
        check_times(times, len(places))
        _require(np.isfinite(places).all(), "places that are not finite")
        _require(np.abs(places).max() < 1e9, "places beyond the Earth")

    return Kind(make, read, weight=4)


def _settings() -> Kind:
    def make(folder: Path) -> None:
        write_images(folder / "frames", 3)
        settings = override(TrainSettings(), {**TINY, "data.sources": [str(folder / "frames")]})
        config.save(settings, folder / "settings.yaml")

    def read(folder: Path) -> None:
        settings = config.merge_file(TrainSettings(), folder / "settings.yaml")
        _require(
            settings.steps > 0 and settings.model.min_depth < settings.model.max_depth, "settings"
        )

    return Kind(make, read, lambda folder: [
        "train", str(folder / "no_footage"), "--out", str(folder.parent / "run"),
        "--config", str(folder / "settings.yaml"), "--data.sources", str(folder / "nothing_is_here"),
    ], "settings.yaml", weight=5)  # fmt: skip


def _footage() -> Kind:
    def make(folder: Path) -> None:
        made = layouts.make_footage(folder)
        for number in range(3):
            values = np.full((40, 80), 3.0, np.float32)
            path = made / "depth" / f"{number:06d}.png"
            if number < 2:
                path.unlink()
            if number == 0:
                np.save(path.with_suffix(".npy"), values)
            elif number == 1:
                np.savez_compressed(path.with_suffix(".npz"), depth=values)

    return Kind(
        make, lambda folder: read_sequences(str(folder / "mine")),
        lambda folder: ["data", "check", str(folder / "mine"), "--out", str(folder.parent / "check.png")],
        weight=8,
    )  # fmt: skip


def _predictions(suffix: str) -> Kind:
    def make(folder: Path) -> None:
        layouts.make_footage(folder)
        maps = folder / "maps"
        maps.mkdir()
        for number in range(3):
            values = np.full((40, 80), 3.0 + number, np.float32)
            path = maps / f"{number:06d}{suffix}"
            if suffix == ".png":
                layouts.write_depth(path, values, 256)
            elif suffix == ".npz":
                np.savez_compressed(path, depth=values)
            else:
                np.save(path, values)

    def read(folder: Path) -> None:
        from egodepth.data.sources import read_source
        from egodepth.evaluation.depth import get_protocol
        from egodepth.inference.scoring.depth_scores import evaluate_predictor
        from egodepth.inference.scoring.predictions import Predictions

        sequences = read_source(str(folder / "mine"))
        scores = evaluate_predictor(
            Predictions(folder / "maps"), sequences, get_protocol("indoor"), None, ""
        )
        _require(np.isfinite(scores.summary["abs_rel"]), "scores that are not finite")

    return Kind(make, read, lambda folder: [
        "evaluate", "depth", str(folder / "maps"), "--data", str(folder / "mine"),
    ], "maps/*", weight=4)  # fmt: skip


def _stack() -> Kind:
    def make(folder: Path) -> None:
        layouts.make_footage(folder)
        np.save(folder / "stack.npy", np.full((3, 40, 80), 4.0, np.float32))
        (folder / "split.txt").write_text("".join(f"mine {i}\n" for i in range(3)))

    def read(folder: Path) -> None:
        from egodepth.data.sources import read_source
        from egodepth.data.splits import read_split
        from egodepth.evaluation.depth import get_protocol
        from egodepth.inference.scoring.depth_scores import evaluate_predictor
        from egodepth.inference.scoring.predictions import Predictions

        split = read_split(folder / "split.txt")
        sequences = read_source(str(folder / "mine"))
        predictions = Predictions(folder / "stack.npy", "depth", split)
        scores = evaluate_predictor(predictions, sequences, get_protocol("indoor"), split, "")
        _require(np.isfinite(scores.summary["abs_rel"]), "scores that are not finite")

    return Kind(make, read, lambda folder: [
        "evaluate", "depth", str(folder / "stack.npy"), "--data", str(folder / "mine"),
        "--split", str(folder / "split.txt"),
    ], "s*.*", weight=4)  # fmt: skip


def _images(suffix: str) -> Kind:
    def make(folder: Path) -> None:
        for path in write_images(folder, 3):
            image = Image.open(path)
            path.unlink()
            target = path.with_suffix(suffix.removeprefix("16"))
            if suffix == "16.png":
                image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200)
            exif = image.getexif()
            exif[0x0112] = 1
            image.save(target, **({"exif": exif} if suffix in (".jpg", ".webp", ".png") else {}))

    def command(folder: Path) -> list[str]:
        return ["data", "check", str(folder), "--out", str(folder.parent / "check.png")]

    return Kind(make, lambda folder: read_sequences(str(folder)), command, weight=2)


def _posed_images(folder_of_images: str, tree: dict[str, Any]) -> Kind:
    def make(folder: Path) -> None:
        write_images(folder / folder_of_images, 3)
        np.save(folder / "depth.npy", np.full((20, 40), 3.0, np.float32))
        (folder / "images.json").write_text(json.dumps(tree))

    def command(folder: Path) -> list[str]:
        file = str(folder / "images.json")
        return ["data", "check", file, "--out", str(folder.parent / "check.png")]

    return Kind(
        make, lambda folder: read_sequences(str(folder / "images.json")), command, "*.json", weight=4
    )  # fmt: skip


POSE = [[0.8, -0.6, 0, 1], [0.6, 0.8, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
TRANSFORMS: dict[str, Any] = {
    "w": 80, "h": 40, "fl_x": 60.0, "fl_y": 61.0, "cx": 40.0, "cy": 20.5, "k1": -0.05, "k2": 0.01,
    "camera_model": "OPENCV", "depth_unit_scale_factor": 0.01,
    "frames": [
        {"file_path": f"images/{i:06d}.png", "transform_matrix": POSE, "timestamp": i / 10,
         "depth_file_path": "depth.npy"}
        for i in range(3)
    ],
}  # fmt: skip
RECORD3D: dict[str, Any] = {
    "w": 80, "h": 40, "fps": 30, "K": [60, 0, 0, 0, 61, 0, 40, 20.5, 1],
    "poses": [[0, 0, 0.6, 0.8, i, 0, 0] for i in range(3)], "frameTimestamps": [0, 0.1, 0.2],
    "perFrameIntrinsicCoeffs": [[60, 61, 40, 20.5]] * 3,
}  # fmt: skip

ROBOTICS = find_spec("mcap") and find_spec("rosbags")


def _recordings() -> dict[str, Kind]:
    """Recordings of robots: the files broken, and their messages, records and tables."""
    if not ROBOTICS:
        return {}
    from tests.fuzz import recordings

    def source(folder: Path, kind: str) -> str:
        return f"{folder / kind}{json.loads((folder / recordings.SOURCE_FILE).read_text())}"

    def of(kind: str, files: str, **more: Any) -> Kind:
        def make(folder: Path) -> None:
            recordings.make_log(kind).write(folder, kind)
            (folder / recordings.SOURCE_FILE).write_text('""')

        def read(folder: Path) -> None:
            from egodepth.inference.odometry.gps_track import read_gps

            read_sequences(source(folder, kind))
            times, places = read_gps(folder / kind, 0.0)
            _require(np.isfinite(times).all() and np.isfinite(places).all(), "odd places")

        def command(folder: Path) -> list[str]:
            return [
                "data",
                "check",
                source(folder, kind),
                "--out",
                str(folder.parent / "check.png"),
            ]

        return Kind(make, read, command, files, **more)

    found = {}
    for kind in recordings.KINDS:
        found[f"recording {kind}"] = of(
            kind, f"{kind}/*" if kind == "ros2_sqlite" else kind, weight=3
        )
        found[f"messages {kind}"] = of(
            kind, recordings.SOURCE_FILE, weight=6, table=recordings.breaks_of(kind)
        )
    return found


def _video(suffix: str, codec: str) -> Kind:
    def make(folder: Path) -> None:
        rng = np.random.default_rng(0)
        with av.open(str(folder / f"drive{suffix}"), "w") as container:
            container.metadata["title"] = "a drive"
            stream: Any = container.add_stream(codec, rate=10)
            stream.width, stream.height = 80, 48
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for _ in range(6):
                image = rng.integers(0, 255, (48, 80, 3), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())

    def command(folder: Path) -> list[str]:
        video = str(folder / f"drive{suffix}")
        return ["data", "check", video, "--out", str(folder.parent / "check.png")]

    return Kind(
        make, lambda folder: read_sequences(str(folder / f"drive{suffix}")), command, weight=4
    )


def make_run(folder: Path) -> Path:
    """A run folder of untrained networks with everything a training writes."""
    from egodepth.core.files import write_json
    from egodepth.models.networks import Networks
    from egodepth.runs.checkpoint import networks_checkpoint

    torch.manual_seed(0)
    settings = override(TrainSettings(), {**TINY, "data.sources": ["frames"]})
    run = folder / "run"
    config_folder = run / "logs" / "csv_0000000"
    config_folder.mkdir(parents=True)
    config.save(settings, run / "config.yaml")
    networks = Networks(settings.model, depth=True, pose=True, features=True, reconstructs=True)
    torch.save(networks_checkpoint(networks), run / "checkpoint.ckpt")
    write_json(run / "run.json", {
        "egodepth": "0.1.0", "steps": 4, "seconds": 2.5, "poses": "network", "unit": "the run's unit",
        "motion_gap": {"frames": 1}, "sizes": [[32, 64]], "machine": "x", "cores": 2,
    })  # fmt: skip
    write_json(run / "metrics.json", {"depth": {"abs_rel": 0.1, "rmse": 4.0, "a1": 0.9}})
    (run / "camera.yaml").write_text(CAMERAS["own"].replace("depth_steps: 1000\n", ""))
    (config_folder / "metrics.csv").write_text(
        "epoch,step,total,photometric\n0,0,1.0,0.5\n0,1,0.9,0.4\n"
    )
    return run


def _run(files: str, weight: int, *words: str, optional: tuple[str, ...] = ()) -> Kind:
    def make(folder: Path) -> None:
        make_run(folder)
        write_images(folder / "frames", 2)

    def read(folder: Path) -> None:
        from egodepth.report.html_report import ReportContent, write_report
        from egodepth.runs.hub import card_values
        from egodepth.runs.run import Run

        run = Run.load(folder / "run", "cpu")
        (sequence,) = run.open(folder / "frames")
        check_sequence(sequence)
        depth = run.depth(folder / "frames" / "000000.png")
        _require(np.isfinite(depth).all() and depth.min() > 0, "depth that is not finite")
        _require(depth.shape == (40, 80), f"depth {depth.shape}")
        size = (run.settings.height, run.settings.width)
        _require(size == (32, 64), f"networks at {size}")
        write_report(folder / "run", ReportContent("run"), folder.parent / "report.html")
        card_values(run.folder)

    def command(folder: Path) -> list[str]:
        names = {
            "RUN": folder / "run", "FRAMES": folder / "frames", "OUT": folder.parent / "out",
            "OUT.html": folder.parent / "out.html",
        }  # fmt: skip
        return [str(names.get(word, word)) for word in words]

    return Kind(make, read, command, files, weight, optional)


def _safe_run() -> Kind:
    def make(folder: Path) -> None:
        from egodepth.runs.checkpoint import read_run, write_weights

        run = make_run(folder)
        write_weights(read_run(run)[1], run / "model.safetensors")
        (run / "checkpoint.ckpt").unlink()
        write_images(folder / "frames", 2)

    usual = _run("run/model.safetensors", 5, "predict", "RUN", "FRAMES", "--out", "OUT")
    return Kind(make, usual.read, usual.command, usual.files, usual.weight)


def _published() -> Kind:
    def make(folder: Path) -> None:
        state = {"DepthEncoder.encoder.conv1.weight": torch.zeros(64, 3, 7, 7)}
        torch.save({"state_dict": state}, folder / "featdepth.pth")

    def read(folder: Path) -> None:
        from egodepth.training.published import import_featdepth

        import_featdepth(folder / "featdepth.pth", folder.parent / "run", height=64, width=64)

    return Kind(make, read, lambda folder: [
        "import", "featdepth", str(folder / "featdepth.pth"), "--out", str(folder.parent / "run"),
    ])  # fmt: skip


def _scores() -> Kind:
    def make(folder: Path) -> None:
        depth = {
            "kind": "depth", "protocol": "eigen", "images": 697, "data": "kitti_raw", "name": "a",
            "abs_rel": 0.1, "sq_rel": 0.8, "rmse": 4.5, "rmse_log": 0.2, "a1": 0.9, "a2": 0.95, "a3": 0.98,
            "seconds": 100, "prepare_seconds": 5, "cores": 2, "seed": 0, "size": "64x32",
        }  # fmt: skip
        odometry = {
            "kind": "odometry", "protocol": "x; sim3", "sequence": "07", "ate_m": 1.5, "t_rel_percent": 3.0,
        }  # fmt: skip
        (folder / "depth.json").write_text(json.dumps(depth))
        (folder / "odometry.json").write_text(json.dumps(odometry))

    def read(folder: Path) -> None:
        from egodepth.report.leaderboard import as_html, as_markdown, collect

        boards = collect(folder)
        page = as_markdown(boards) + as_html(boards)
        _require(
            "nan" not in page.lower().split() and "inf" not in page.lower().split(),
            "nan in a table",
        )

    return Kind(make, read, lambda folder: ["leaderboard", str(folder)], weight=5)


def _mask() -> Kind:
    def make(folder: Path) -> None:
        values = np.full((40, 80), 255, np.uint8)
        values[30:] = 0
        Image.fromarray(values).save(folder / "mask.png")

    def read(folder: Path) -> None:
        from egodepth.data.preparation.static_mask import read_mask

        mask = read_mask(folder / "mask.png", 20, 40)
        _require(mask.any() and not mask.all(), "a mask of nothing or everything")

    return Kind(make, read, weight=2)


def _cache() -> Kind:
    def make(folder: Path) -> None:
        from egodepth.data.footage.frame_cache import cached_frames
        from egodepth.data.sources import read_source

        write_images(folder.parent / "cached", 3)
        cached_frames(read_source(folder.parent / "cached")[0], 20, 40, folder)
        for lock in folder.glob("*.lock"):
            lock.unlink()

    def read(folder: Path) -> None:
        from egodepth.data.footage.frame_cache import cached_frames
        from egodepth.data.sources import read_source

        write_images(folder.parent / "cached", 3)
        sequence = read_source(folder.parent / "cached")[0]
        frames, numbers = cached_frames(sequence, 20, 40, folder)
        true, _ = cached_frames(sequence, 20, 40, folder.parent / "other_cache")
        _require(list(numbers) == [0, 1, 2], f"frame numbers {numbers}")
        _require(np.array_equal(frames, true), "frames that differ from those of the images")

    return Kind(make, read, weight=3, optional=(".npy",))


def _results_cache() -> Kind:
    """What structure from motion and self-calibration found, as they are cached."""

    def found(folder: Path, cache: Path) -> tuple[Any, Any]:
        from egodepth.data.preparation import structure_from_motion, unknown_camera
        from egodepth.data.preparation.clips import read_clips
        from egodepth.data.sources import read_source
        from egodepth.geometry.self_calibration import CameraEstimate

        write_images(folder.parent / "cached", 3)
        (sequence,) = read_source(folder.parent / "cached")
        (clip,) = read_clips([sequence.with_fov(60)], 20, 40, folder.parent / "frames_cache")
        result = {
            "world_from_camera": np.tile(np.eye(4), (3, 1, 1)), "part": np.zeros(3, int),
            "point_frame": np.arange(3).repeat(4), "pixels": np.full((12, 2), 7.0),
            "inverse_depth": np.full(12, 0.25), "matrix": clip.camera.matrix.numpy(),
            "notes": np.array([], str),
        }  # fmt: skip
        camera = CameraEstimate(70.0, np.array([39.5, 19.5]), 0.01, 8)
        with (
            patch.object(structure_from_motion, "_run_colmap", lambda _: result),
            patch.object(unknown_camera, "_estimate", lambda _: camera),
            # A copy has another path and time, by which it would look for another cache file.
            patch.object(type(sequence.frames), "fingerprint", "the frames of the fuzz"),
        ):
            motion = structure_from_motion.reconstruct(clip, cache).motion
            return motion, unknown_camera.estimate_unknown_camera(sequence, cache)

    def make(folder: Path) -> None:
        found(folder, folder)
        for lock in folder.glob("*.lock"):
            lock.unlink()

    def read(folder: Path) -> None:
        true, other = found(folder, folder.parent / "other_cache"), found(folder, folder)
        _require(repr(true[1]) == repr(other[1]), "another camera")
        same = np.array_equal(true[0].world_from_camera, other[0].world_from_camera)
        points = [
            np.concatenate([p.inverse_depth for p in m.points.values()]) for m, _ in (true, other)
        ]
        _require(same and np.array_equal(*points), "another motion")

    return Kind(make, read, weight=3)


def _options() -> Kind:
    def make(folder: Path) -> None:
        make_run(folder)
        write_images(folder / "frames", 3)
        layouts.make_footage(folder)
        (folder / "words.json").write_text(json.dumps(["data", "sets"]))
        (folder / "file").write_text("x")
        (folder / "loop").symlink_to("loop")

    return Kind(
        make, lambda folder: None, options.command_of, "words.json", 24,
        table={"odd_option": options.odd_option}, by_command=True,
    )  # fmt: skip


KINDS: dict[str, Kind] = {
    "options": _options(),
    **{f"camera {name}": _camera(text) for name, text in CAMERAS.items()},
    **{f"trajectory {name}": _trajectory(text) for name, text in TRAJECTORIES.items()},
    "gps gpx": _gps(GPX),
    "gps csv": _gps(GPS_CSV),
    "settings": _settings(),
    "footage": _footage(),
    **{f"predictions {suffix}": _predictions(suffix) for suffix in (".npy", ".npz", ".png")},
    "stack and split": _stack(),
    **{f"images {s}": _images(s) for s in (".png", ".jpg", ".webp", ".tiff", ".bmp", ".ppm", "16.png")},
    "transforms.json": _posed_images("images", TRANSFORMS),
    "record3d": _posed_images("rgb", RECORD3D),
    "video mp4": _video(".mp4", "mpeg4"),
    "video avi": _video(".avi", "mjpeg"),
    "video mkv": _video(".mkv", "mpeg4"),
    **_recordings(),
    **{f"data {name}": _data_set(name, make) for name, make in layouts.MAKERS.items()},
    "data eth3d rig": _data_set("eth3d", layouts.make_eth3d_rig),
    "run predicts": _run(
        "run/*.*", 10, "predict", "RUN", "FRAMES", "--out", "OUT", optional=("metrics.json",)
    ),
    "run report": _run(
        "run/**/*", 6, "report", "RUN", "--out", "OUT.html",
        optional=("metrics.json", "checkpoint", "camera"),
    ),
    "run export": _run("run/*.*", 6, "export", "hub", "RUN", "--out", "OUT"),
    "run config": _run("run/config.yaml", 5, "predict", "RUN", "FRAMES", "--out", "OUT"),
    "run facts": _run("run/run.json", 4, "predict", "RUN", "FRAMES", "--out", "OUT"),
    "run checkpoint": _run("run/checkpoint.ckpt", 5, "predict", "RUN", "FRAMES", "--out", "OUT"),
    "run safetensors": _safe_run(),
    "published": _published(),
    "scores": _scores(),
    "mask": _mask(),
    "cache": _cache(),
    "cache of results": _results_cache(),
}  # fmt: skip


def files_of(kind: Kind, folder: Path) -> list[Path]:
    """The files of a valid input that may be broken."""
    return sorted(path for path in folder.glob(kind.files) if path.is_file())


def copy_of(valid: Path, target: Path) -> None:
    """A fresh copy of a valid input."""
    shutil.copytree(valid, target, symlinks=True)
