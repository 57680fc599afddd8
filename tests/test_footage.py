import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests import layouts
from tests.conftest import Heard, write_images

import egodepth
from egodepth.core.errors import EgodepthError
from egodepth.core.video import VideoWriter
from egodepth.data.footage.frame_cache import cached_frames
from egodepth.data.footage.own_footage import read_camera, read_footage
from egodepth.data.preparation.clips import read_clips
from egodepth.data.sources import read_source, read_sources, select
from egodepth.geometry.lens import Lens, Undistortion
from egodepth.runs.cameras import with_camera
from egodepth.settings.training import DataSettings


def make_video(path: Path, count: int = 6) -> Path:
    with VideoWriter(path) as video:
        for index in range(count):
            video.write(np.full((32, 64, 3), 40 * index, np.uint8))
    return path


def test_a_video_is_read_frame_by_frame(tmp_path: Path) -> None:
    sequence = read_footage(make_video(tmp_path / "a.mp4"))
    frames = list(sequence.frames.at())
    assert len(sequence.frames) == len(frames) == 6
    for index, frame in enumerate(frames):
        assert frame.number == index and frame.time == pytest.approx(0.1 * index)
        assert abs(frame.image.mean() - 40 * index) < 4
    assert [f.number for f in sequence.frames.at([1, 4])] == [1, 4]


def test_a_video_without_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"not a video at all")
    with pytest.raises(
        EgodepthError, match=r"cannot read the video .*a\.mp4: Invalid data found [a-z ]*$"
    ):
        read_footage(path)
    video = make_video(tmp_path / "b.mp4")
    video.write_bytes(video.read_bytes()[:300])
    with pytest.raises(EgodepthError, match=r"b\.mp4"):
        read_footage(video)


def test_images_that_are_too_small_to_learn_from(tmp_path: Path) -> None:
    folder = tmp_path / "thin"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(np.zeros((1, 64, 3), np.uint8)).save(folder / f"{number}.png")
    thin = read_footage(folder).with_fov(60)
    with pytest.raises(EgodepthError, match="thin are 64x1 pixels; depth needs at least 16"):
        read_clips([thin], 32, 64, tmp_path / "cache")


def test_frames_of_images_are_called_like_these(tmp_path: Path) -> None:
    (path,) = write_images(tmp_path / "frames", 1)
    path.rename(path.with_name("IMG_0042.left.png"))
    (frame,) = read_footage(tmp_path / "frames").frames.at()
    assert (frame.number, frame.name, frame.stem) == (0, "IMG_0042.left", "IMG_0042.left")
    (filmed, *_) = read_footage(make_video(tmp_path / "a.mp4")).frames.at()
    assert (filmed.name, filmed.stem) == ("", "0000000000")
    # One name for two images names neither.
    Image.new("RGB", (80, 40)).save(tmp_path / "frames" / "IMG_0042.left.jpg")
    assert [f.stem for f in read_footage(tmp_path / "frames").frames.at()] == [
        "0000000000", "0000000001",
    ]  # fmt: skip


def test_an_empty_folder_and_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(EgodepthError, match="holds no images"):
        read_footage(tmp_path)
    with pytest.raises(EgodepthError, match="no file or folder"):
        read_source(str(tmp_path / "nothing"))
    with pytest.raises(EgodepthError, match="unknown kind of footage 'kity'"):
        read_source("kity:/data")


def test_a_broken_image_in_the_middle_leaves_no_cache(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "frames", 6)
    paths[3].write_bytes(paths[3].read_bytes()[:200])
    sequence = read_footage(tmp_path / "frames")
    with pytest.raises(EgodepthError, match=r"cannot read the image .*000003\.png"):
        cached_frames(sequence, 32, 64, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_frames_of_different_sizes(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "frames", 4)
    Image.new("RGB", (30, 20)).save(paths[2])
    with pytest.raises(EgodepthError, match=r"000002\.png is 30x20, .*000000\.png is 80x40"):
        cached_frames(read_footage(tmp_path / "frames"), 32, 64, tmp_path / "cache")


def test_the_cache_is_made_once_and_follows_the_files(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "frames", 4)
    decoded: list[int] = []

    def read() -> np.ndarray:
        sequence = read_footage(tmp_path / "frames")
        with egodepth.reporting(Heard(lambda _, done: decoded.append(done))):
            frames, numbers = cached_frames(sequence, 32, 64, tmp_path / "cache")
        assert numbers.tolist() == list(range(4))
        return np.array(frames)

    first = read()
    assert first.shape == (4, 3, 32, 64) and decoded == [0, 1, 2, 3, 4, 4]  # and the end
    assert np.array_equal(read(), first) and len(decoded) == 6
    Image.new("RGB", (80, 40), "red").save(paths[1])
    assert not np.array_equal(read(), first) and len(decoded) == 12


def test_frames_of_the_cache_that_were_cut_short_are_made_again(tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 4)
    sequence, folder = read_footage(tmp_path / "frames"), tmp_path / "cache"
    first = np.array(cached_frames(sequence, 32, 64, folder)[0])
    for path in sorted(folder.iterdir()):
        for size in (path.stat().st_size // 2, 0):
            os.truncate(path, size)
            frames, numbers = cached_frames(sequence, 32, 64, folder)
            assert np.array_equal(frames, first) and numbers.tolist() == list(range(4))
        path.unlink()
        assert np.array_equal(cached_frames(sequence, 32, 64, folder)[0], first)


def test_resizing_keeps_the_half_pixel(tmp_path: Path) -> None:
    # A ramp in x stays the ramp at the mapped positions (x + 0.5) s - 0.5.
    ramp = np.repeat(np.arange(80, dtype=np.uint8)[None] * 3, 40, 0)
    (tmp_path / "frames").mkdir()
    Image.fromarray(np.stack([ramp] * 3, -1)).save(tmp_path / "frames" / "0.png")
    frames, _ = cached_frames(read_footage(tmp_path / "frames"), 32, 32, tmp_path / "cache")
    expected = 3 * ((np.arange(32) + 0.5) * 80 / 32 - 0.5)
    np.testing.assert_allclose(frames[0, 0, 16, 3:-3], expected[3:-3], atol=1)


def test_camera_files(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text("fx: 700\nfy: 710\ncx: 600\ncy: 180\nwidth: 1242\nheight: 375\n")
    camera = read_camera(path)
    assert camera.matrix[1, 1] == 710 and camera.width == 1242
    path.write_text("fx: 700\ncx: 600\nwidth: 1242\n")
    with pytest.raises(EgodepthError, match=r"camera\.yaml lacks fy, cy, height"):
        read_camera(path)
    path.write_text("fx: wide\nfy: 710\ncx: 600\ncy: 180\nwidth: 1242\nheight: 375\n")
    with pytest.raises(EgodepthError, match="something else than numbers"):
        read_camera(path)
    with pytest.raises(EgodepthError, match="there is no file"):
        read_camera(tmp_path / "none.yaml")


def test_the_lens_of_a_camera_file_is_undone(tmp_path: Path) -> None:
    folder = layouts.make_footage(tmp_path)
    (plain,) = read_source(str(folder))
    file = folder / "camera.yaml"
    bent = file.read_text() + "distortion: [-0.3, 0.1, 0, 0, 0]\n"
    file.write_text(bent)
    (straight,) = read_source(str(folder))
    assert straight.camera is not None and plain.camera is not None
    assert straight.camera.matrix[0, 0] != plain.camera.matrix[0, 0]
    assert straight.frames.fingerprint != plain.frames.fingerprint
    first, undone = (next(iter(s.frames.at([0]))).image for s in (plain, straight))
    expected = Undistortion(plain.camera, Lens("brown", (-0.3, 0.1, 0.0, 0.0, 0.0)))(first)
    np.testing.assert_array_equal(undone, expected)
    assert straight.depth[0]().shape == (40, 80)
    data = DataSettings(camera=file)
    again = with_camera(read_footage(folder / "images"), data)
    assert again.frames.fingerprint == straight.frames.fingerprint
    refused = r"camera\.yaml: lens '.*use `lens: brown`"
    for lens, distortion, message in (
        ("brown", "[1]", refused),
        ("magic", "[1, 2, 3, 4]", refused),
        ("fisheye", "[a, 1, 2, 3]", "something else than numbers in distortion"),
    ):
        file.write_text(bent.replace("[-0.3, 0.1, 0, 0, 0]", distortion) + f"lens: {lens}\n")
        with pytest.raises(EgodepthError, match=message):
            read_source(str(folder))


def test_select_by_name(tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 2)
    sequences = read_source(str(tmp_path / "frames"))
    assert select(sequences, None) == select(sequences, "frames") == sequences
    with pytest.raises(EgodepthError, match="no sequence '00'; there are frames"):
        select(sequences, "00")


def test_footage_of_one_name_is_told_apart_by_its_path(tmp_path: Path) -> None:
    for name in ("a/frames", "b/frames", "c/b/frames", "c/other"):
        write_images(tmp_path / name, 2)
    (tmp_path / "d").mkdir()
    for name in ("a", "d"):
        make_video(tmp_path / name / "x.mp4")
    folders = [str(tmp_path / name) for name in ("a/frames", "b/frames", "c/b/frames", "c/other")]
    names = [s.name for s in read_sources(folders)]
    assert names[::3] == ["a/frames", "other"] and names[2] == "c/b/frames"
    assert names[1] == f"{tmp_path.name}/b/frames"
    assert [s.name for s in read_source(str(tmp_path / "*" / "x.mp4"))] == ["a/x.mp4", "d/x.mp4"]
    twice = [s.name for s in read_sources([folders[0], folders[0], folders[1]])]
    assert len(set(twice)) == 3 and twice[2] == "b/frames"
