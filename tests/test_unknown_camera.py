"""Cameras that nobody tells: from metadata, or from the frames themselves."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from benchmarks.simulated_drives import MOTORWAY, simulate
from PIL import Image
from scipy.spatial.transform import Rotation
from tests.conftest import write_images

from egodepth.core import config
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.camera_metadata import exif_focal, focal_of_equivalent
from egodepth.data.footage.own_footage import read_camera, read_footage, read_lens, write_camera
from egodepth.data.preparation import unknown_camera
from egodepth.data.preparation.clips import Clip
from egodepth.data.preparation.unknown_camera import estimate_unknown_camera, with_estimate
from egodepth.data.sequence import ChangedFrames, read_numbered
from egodepth.data.sources import read_source
from egodepth.geometry.camera import Camera
from egodepth.geometry.self_calibration import CameraEstimate, estimate_camera
from egodepth.runs.cameras import guess_camera, keep_cameras, with_camera
from egodepth.runs.folder import RunFolder
from egodepth.settings.training import DataSettings, TrainSettings
from egodepth.training import plan_cameras

FOCAL, WIDTH, HEIGHT = 500.0, 640, 480


def matches(turn: float, count: int = 12) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of views of random points by a camera that moves, and turns by about so many radians."""
    generator = np.random.default_rng(0)
    centre = np.array([WIDTH / 2 + 2, HEIGHT / 2 - 1])
    found = []
    for _ in range(count):
        depth = generator.uniform(3, 12, 300)
        first = generator.uniform([0, 0], [WIDTH, HEIGHT], (300, 2))
        points = np.column_stack([(first - centre) / FOCAL, np.ones(300)]) * depth[:, None]
        rotation = Rotation.from_rotvec(generator.normal(0, turn, 3)).as_matrix()
        step = np.array([0.1, 0, 0.8]) + generator.normal(0, 0.05, 3)
        moved = points @ rotation.T - step
        second = moved[:, :2] / moved[:, 2:] * FOCAL + centre
        ahead = moved[:, 2] > 0.5
        noise = generator.normal(0, 0.1, (2, ahead.sum(), 2))
        found.append((first[ahead] + noise[0], second[ahead] + noise[1]))
    return found


def test_the_focal_length_of_a_turning_camera() -> None:
    found = estimate_camera(matches(0.05), HEIGHT, WIDTH)
    assert found is not None and not found.doubt and found.k1 == 0
    assert found.focal == pytest.approx(FOCAL, rel=0.02)
    assert abs(found.focal / FOCAL - 1) < 4 * found.deviation < 0.1


def test_upright_footage_has_the_same_focal_length() -> None:
    """Turned by a quarter, and made smaller by five."""
    turned = [
        tuple(np.column_stack([HEIGHT - 1 - p[:, 1], p[:, 0]]) / 5 for p in pair)
        for pair in matches(0.05)
    ]
    found = estimate_camera(turned, WIDTH // 5, HEIGHT // 5)  # type: ignore[arg-type]
    assert found is not None and found.focal == pytest.approx(FOCAL / 5, rel=0.05)


def test_radial_distortion() -> None:
    """The same matches through a lens; without one, none is found."""
    centre, k1 = np.array([WIDTH / 2 + 2, HEIGHT / 2 - 1]), -0.2

    def distorted(pixels: np.ndarray) -> np.ndarray:
        rays = (pixels - centre) / FOCAL
        return rays * (1 + k1 * (rays**2).sum(1, keepdims=True)) * FOCAL + centre

    through = [(distorted(first), distorted(second)) for first, second in matches(0.05)]
    found = estimate_camera(through, HEIGHT, WIDTH)
    assert found is not None and not found.doubt
    assert found.k1 == pytest.approx(k1, abs=0.02)
    assert found.focal == pytest.approx(FOCAL, rel=0.02)


def test_the_lens_that_was_found_is_undone_and_kept(tmp_path: Path) -> None:
    """In the frames, and in the camera file of a run, from which other footage gets the same."""
    write_images(tmp_path / "frames", 3)
    sequence = replace(
        read_footage(tmp_path / "frames").with_fov(70.0), camera_from="guess"
    )  # fmt: skip
    estimate = CameraEstimate(70.0, np.array([40.0, 19.0]), 0.01, 60, -0.15)
    found = with_estimate(sequence, estimate)
    assert isinstance(found.frames, ChangedFrames) and found.camera_from == "estimate"
    clip = Clip(found, np.zeros((3, 3, 40, 80), np.uint8), np.arange(3), found.camera)  # type: ignore[arg-type]
    keep_cameras([clip], RunFolder.at(tmp_path))
    lens = read_lens(tmp_path / "camera.yaml")
    assert lens is not None and lens.coefficients == (-0.15, 0.0, 0.0, 0.0)
    assert read_camera(tmp_path / "camera.yaml").matrix[0, 0] == 70
    unknown = replace(sequence, camera=None)
    again = with_camera(unknown, DataSettings(camera=tmp_path / "camera.yaml"))
    for a, b in zip(found.frames.at(), again.frames.at(), strict=True):
        np.testing.assert_array_equal(a.image, b.image)
    assert again.camera is not None and found.camera is not None
    np.testing.assert_allclose(again.camera.matrix, found.camera.matrix, rtol=1e-5)


def test_a_camera_that_does_not_turn_leaves_it_open() -> None:
    straight = estimate_camera(matches(0.0), HEIGHT, WIDTH)
    assert straight is not None and straight.doubt and straight.k1 == 0


@pytest.mark.parametrize("kind", MOTORWAY)
def test_a_motorway_is_refused_or_right(kind: str) -> None:
    """With traffic, a swaying car, a rolling shutter and outliers."""
    drive = simulate(kind, 58, 0)
    found = estimate_camera(drive.matches, drive.height, drive.width)
    assert found is None or found.doubt or found.focal == pytest.approx(drive.focal, rel=0.1)


@pytest.mark.parametrize("fov", [60, pytest.param(118, marks=pytest.mark.slow)])
def test_a_hand_held_camera_is_decided(fov: float) -> None:
    """Wide ones too, against the prior."""
    drive = simulate("hand-held", fov, 0)
    found = estimate_camera(drive.matches, drive.height, drive.width)
    assert found is not None and not found.doubt
    assert found.focal == pytest.approx(drive.focal, rel=0.03)


@pytest.mark.parametrize("doubt", ["", "the camera turns too little"])
def test_a_doubtful_estimate_is_told_and_not_taken(
    doubt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "frames", 3)
    sequence = guess_camera(read_footage(tmp_path / "frames"))
    estimate = CameraEstimate(30.0, np.array([40.0, 19.0]), 0.01, 60, doubt=doubt)
    monkeypatch.setattr(plan_cameras, "estimate_unknown_camera", lambda *_: estimate)
    if doubt:
        with pytest.warns(
            EgodepthWarning, match="do not determine the focal length .the camera turns"
        ):
            (found,), lines = plan_cameras.find_cameras([sequence], tmp_path)
        assert found is sequence and not lines
    else:
        (found,), lines = plan_cameras.find_cameras([sequence], tmp_path)
        assert found.camera is not None and found.camera.matrix[0, 0] == 30
        assert "focal length 30 pixels" in lines[0]


def test_a_doubt_is_kept_with_the_estimate(tmp_path: Path) -> None:
    """The second time nothing is looked at."""
    drive = simulate("straight", 58, 0)
    write_images(tmp_path / "frames", 3)
    sequence = guess_camera(read_footage(tmp_path / "frames"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unknown_camera._Pairs, "end", lambda _: drive.matches)
        first = estimate_unknown_camera(sequence, tmp_path)
    second = estimate_unknown_camera(sequence, tmp_path)
    assert first is not None and second is not None and first.doubt
    assert first.doubt == second.doubt and first.focal == second.focal


def test_too_few_pairs() -> None:
    assert estimate_camera(matches(0.05, 3), HEIGHT, WIDTH) is None


def test_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[41989] = 28
    path = tmp_path / "a.jpg"
    Image.new("RGB", (400, 300)).save(path, exif=exif)
    assert exif_focal(path) == pytest.approx(28 / 43.2666 * 500, rel=1e-4)
    assert focal_of_equivalent(43.2666, 300, 400) == pytest.approx(500, rel=1e-4)
    sequence = read_footage(path)
    assert sequence.camera_from == "metadata" and sequence.camera is not None
    Image.new("RGB", (400, 300)).save(tmp_path / "b.jpg")
    assert exif_focal(tmp_path / "b.jpg") is None


def test_patterns(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "c.jpg"):
        Image.new("RGB", (64, 32)).save(tmp_path / name)
    sequences = read_source(str(tmp_path / "*.png"))
    assert len(sequences) == 1 and len(sequences[0].frames) == 2
    with pytest.raises(EgodepthError, match="nothing matches"):
        read_source(str(tmp_path / "*.mp4"))


def test_a_camera_file_is_read_as_written(tmp_path: Path) -> None:
    camera = Camera.from_parameters(500.0, 510.0, 319.0, 241.0, 480, 640)
    write_camera(tmp_path / "camera.yaml", camera)
    read = read_camera(tmp_path / "camera.yaml")
    assert read.matrix.tolist() == camera.matrix.tolist() and (read.height, read.width) == (
        480,
        640,
    )


def write_video(path: Path, stamps: list[int]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 100)
        for stamp in stamps:
            image = np.zeros((32, 64, 3), np.uint8)
            image[:, :16] = 255  # the left edge is white
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_times_of_a_variable_frame_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", [0, 4, 20, 24])
    frames = read_footage(tmp_path / "a.mp4").frames
    assert [round(f.time, 2) for f in frames.at()] == [0, 0.04, 0.2, 0.24]
    assert [f.number for f in frames.at([1, 3])] == [1, 3]


def test_the_rotation_flag_of_a_phone(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, [0, 4, 8])
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 4 + 5 * 4 + 8 + 8
    one = (1 << 16).to_bytes(4, "big")
    minus = (-(1 << 16)).to_bytes(4, "big", signed=True)
    content[at : at + 20] = bytes(4) + one + bytes(4) + minus + bytes(4)
    path.write_bytes(content)
    frames = read_footage(path).frames
    image = next(frames.at([0])).image
    assert image.shape == (64, 32, 3) == (frames.height, frames.width, 3)
    # A quarter turn clockwise brings the left edge to the top.
    assert image[:8].mean() > 200 and image[-8:].mean() < 50


@pytest.mark.parametrize(("aspect", "size"), [("4/3", (96, 160)), ("8/9", (108, 120))])
def test_pixels_that_are_not_square(tmp_path: Path, aspect: str, size: tuple[int, int]) -> None:
    """Frames are widened or heightened, and the camera's pixels are square."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 120, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for level in (0, 200):
            frame = av.VideoFrame.from_ndarray(
                np.full((96, 120, 3), level, np.uint8), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    sequence = read_footage(path).with_fov(60)
    assert (sequence.frames.height, sequence.frames.width) == size
    assert all(frame.image.shape == (*size, 3) for frame in sequence.frames.at())
    assert sequence.camera is not None
    expected = size[1] / 2 / np.tan(np.pi / 6)
    assert sequence.camera.focal_and_centre[:2].tolist() == pytest.approx([expected, expected])


def test_a_broken_frame_is_left_out_and_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuvj420p"
        packets = []
        for level in (50, 100, 150, 200):
            image = np.full((32, 64, 3), level, np.uint8)
            packets += stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
        for packet in packets + stream.encode():
            container.mux(packet)
    content, start = bytearray(path.read_bytes()), b"\xff\xd8\xff"
    places = [i for i in range(len(content)) if content[i : i + 3] == start]
    assert len(places) == 4
    content[places[1] : places[2] - 16] = bytes(places[2] - 16 - places[1])
    path.write_bytes(content)
    frames = read_footage(path).frames
    assert len(frames) == 4
    with pytest.warns(EgodepthWarning, match="1 of 4 frames are broken and were left out"):
        found = {f.number: int(f.image.mean().round(-1)) for f in frames.at()}
    assert found == {0: 50, 2: 150, 3: 200}
    assert [f.number for f in read_numbered(frames, [1, 3])] == [3]


def test_typed_settings_beat_metadata_and_no_other_camera(tmp_path: Path) -> None:
    Image.new("RGB", (64, 32)).save(tmp_path / "a.png")
    bare = read_footage(tmp_path / "a.png")
    asked = DataSettings(fov=90)  # half of the width
    of_metadata = with_camera(bare.with_focal(50.0, "metadata"), asked)
    assert of_metadata.camera is not None
    assert float(of_metadata.camera.matrix[0, 0]) == pytest.approx(32)
    for known in (bare.with_focal(50.0), bare.with_fov(70)):
        assert with_camera(known, asked) is known
    assert with_camera(bare, DataSettings()).camera_from == "guess"


def test_each_footage_keeps_its_own_camera(tmp_path: Path) -> None:
    """Two cameras in one training: footage of either name gets its own, other footage the first one's."""
    clips = []
    for name, focal in (("front", 70.0), ("rear", 90.0)):
        write_images(tmp_path / name, 2)
        sequence = read_footage(tmp_path / name).with_focal(focal, "estimate")
        assert sequence.camera is not None
        clips.append(Clip(sequence, np.zeros((2, 3, 20, 40), np.uint8), np.arange(2),
                          sequence.camera.resize(20, 40)))  # fmt: skip
    keep_cameras(clips, RunFolder.at(tmp_path / "run"), [1.0, 1.1])
    sources = [str(tmp_path / "front"), str(tmp_path / "rear")]
    trained = config.override(TrainSettings(), {"data.sources": sources})
    config.save(trained, tmp_path / "run" / "config.yaml")
    data = DataSettings(camera=tmp_path / "run" / "camera.yaml")
    write_images(tmp_path / "other", 2)
    for name, focal in (("front", 70), ("rear", 99), ("other", 70)):
        found = with_camera(read_footage(tmp_path / name), data).camera
        assert found is not None and float(found.matrix[0, 0]) == pytest.approx(focal, rel=1e-5)


def test_of_interlaced_frames_one_field_is_taken(tmp_path: Path) -> None:
    """A white column that jumps by 24 pixels from field to field is seen once."""
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.options = {"x264-params": "interlaced=1:crf=1"}
        for index in range(4):
            image = np.zeros((64, 96, 3), np.uint8)
            image[::2, 8 + index : 20 + index] = 255
            image[1::2, 32 + index : 44 + index] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    sequence = read_footage(tmp_path / "a.mp4")
    with pytest.warns(EgodepthWarning, match="4 frames are interlaced"):
        frames = list(sequence.frames.at())
    assert len(frames) == 4
    middle = frames[0].image[16:48].mean((0, 2))
    assert middle[10:18].min() > 180 and middle[34:42].max() < 60
