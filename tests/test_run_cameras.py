"""Every run keeps its cameras inside, and gives them to whatever is opened for it."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import ExifTags, Image
from tests.conftest import tiny_settings, write_images

import egodepth
from egodepth.cli import main
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.own_footage import read_camera, read_footage, read_lens, write_camera
from egodepth.data.sequence import Sequence
from egodepth.data.sources import read_source
from egodepth.geometry.camera import Camera
from egodepth.geometry.lens import Lens
from egodepth.runs.cameras import undistortion_of_run, with_run_camera
from egodepth.runs.footage import open_footage
from egodepth.settings.training import DataSettings
from egodepth.training.footage import read_training_sequences
from egodepth.training.run import train

CAMERA = "fx: 70\nfy: 68\ncx: 40\ncy: 19\nwidth: 80\nheight: 40\n"
LENS = CAMERA + "distortion: [-0.2, 0.05, 0, 0, 0]\n"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def train_on(out: Path, *folders: Path, **data: object) -> Path:
    """A run of one step, without the field of view of the tiny settings."""
    settings = tiny_settings(folders[0], steps=1, method="photometric", **data)
    changes = {"sources": tuple(str(f) for f in folders)}
    changes |= {} if "data__fov" in data else {"fov": None}
    settings = settings.changed(data=settings.data.changed(**changes))
    train(settings, out)
    return out


def focal(sequence: Sequence) -> float:
    assert sequence.camera is not None
    assert (sequence.camera.height, sequence.camera.width) == (
        sequence.frames.height, sequence.frames.width,
    )  # fmt: skip
    return float(sequence.camera.matrix[0, 0])


def enlarged(source: Path, target: Path, width: int, height: int) -> Path:
    target.mkdir(parents=True)
    for path in source.glob("*.png"):
        Image.open(path).resize((width, height)).save(target / path.name)
    return target


def test_a_focal_length_in_pixels_belongs_to_the_frames_of_the_training(tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 5)
    run = train_on(tmp_path / "run", tmp_path / "frames", data__focal=100)
    twice = enlarged(tmp_path / "frames", tmp_path / "twice", 160, 80)
    square = enlarged(tmp_path / "frames", tmp_path / "square", 80, 80)
    upright = enlarged(tmp_path / "frames", tmp_path / "upright", 40, 80)
    assert focal(open_footage(run, twice)[0]) == pytest.approx(200)
    with pytest.warns(EgodepthWarning, match="turned by 90 degrees"):
        assert focal(open_footage(run, upright)[0]) == pytest.approx(100)
    with pytest.raises(EgodepthError, match=r"is for 80x40 pixels, but square is 80x80.*--fov"):
        open_footage(run, square)
    assert focal(open_footage(run, square, fov=90)[0]) == pytest.approx(40)


def test_a_run_keeps_the_camera_file_that_it_was_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "a" / "frames", 5)
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "cam.yaml").write_text(LENS)
    (tmp_path / "b" / "cam.yaml").write_text(CAMERA.replace("70", "500"))
    monkeypatch.chdir(tmp_path / "a")
    run = train_on(tmp_path / "run", Path("frames"), data__camera=Path("cam.yaml"))
    kept = read_camera(run / "camera.yaml")
    np.testing.assert_allclose(kept.focal_and_centre, [70, 68, 40, 19], rtol=1e-5)
    assert read_lens(run / "camera.yaml") == Lens("brown", (-0.2, 0.05, 0.0, 0.0, 0.0))
    monkeypatch.chdir(tmp_path / "b")
    shutil.move(tmp_path / "a" / "cam.yaml", tmp_path / "gone.yaml")
    (found,) = egodepth.load(run).open(tmp_path / "a" / "frames")
    (trained,) = read_training_sequences(
        DataSettings(sources=(str(tmp_path / "a" / "frames"),), camera=tmp_path / "gone.yaml")
    )
    assert focal(found) == pytest.approx(focal(trained), rel=1e-5)
    image, expected = (next(iter(s.frames.at([0]))).image for s in (found, trained))
    np.testing.assert_array_equal(image, expected)


def test_resuming_takes_the_camera_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "frames", 5)
    (tmp_path / "cam.yaml").write_text(CAMERA)
    monkeypatch.chdir(tmp_path)
    settings = tiny_settings(
        tmp_path / "frames", steps=2, data__fov=None, data__camera=Path("cam.yaml")
    )
    train(settings, tmp_path / "run")
    (tmp_path / "cam.yaml").write_text(CAMERA.replace("70", "500"))
    train(settings, tmp_path / "run", resume=True)
    assert float(read_camera(tmp_path / "run" / "camera.yaml").matrix[0, 0]) == pytest.approx(70)


def test_footage_of_one_name_keeps_cameras_of_its_own(tmp_path: Path) -> None:
    for name, value in (("a", 70), ("b", 90)):
        write_images(tmp_path / name / "frames", 4)
        (tmp_path / name / "frames" / "camera.yaml").write_text(CAMERA.replace("70", str(value)))
    folders = [tmp_path / name / "frames" for name in ("a", "b")]
    run = train_on(tmp_path / "run", *folders)
    for name in ("a", "b"):
        (tmp_path / name / "frames" / "camera.yaml").unlink()
    assert [focal(open_footage(run, f)[0]) for f in folders] == pytest.approx([70, 90])
    assert [focal(s) for s in open_footage(run, folders)] == pytest.approx([70, 90])
    write_images(tmp_path / "c" / "frames", 2)
    with pytest.warns(EgodepthWarning, match="several cameras, and frames is none of it"):
        assert focal(open_footage(run, tmp_path / "c" / "frames")[0]) == pytest.approx(70)
    with pytest.warns(EgodepthWarning, match="its metadata name another camera"):
        other = read_footage(tmp_path / "c" / "frames").with_focal(300, "metadata")
        assert focal(with_run_camera(other, run)) == 300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = read_footage(folders[1]).with_focal(75, "metadata")
        assert focal(with_run_camera(same, run)) == pytest.approx(90)


def test_runs_of_older_versions(tmp_path: Path, tiny_run: Path) -> None:
    """They kept a field of view, but neither a focal length in pixels nor a camera file."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "camera.yaml").unlink()
    write_images(tmp_path / "frames", 2)
    frames = tmp_path / "frames"
    tree = yaml.safe_load((run / "config.yaml").read_text())
    for change, expected in (({"fov": 90.0}, 40), ({"fov": None}, 40 / np.tan(np.pi / 6))):
        tree["data"] |= change
        (run / "config.yaml").write_text(yaml.safe_dump(tree))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", EgodepthWarning)
            assert focal(open_footage(run, frames)[0]) == pytest.approx(expected)
        assert ["its camera is unknown" in str(w.message) for w in caught] == [True] * (
            change["fov"] is None
        )
    for change in ({"focal": 100.0}, {"focal": None, "camera": "cam.yaml"}):
        tree["data"] |= change
        (run / "config.yaml").write_text(yaml.safe_dump(tree))
        with pytest.raises(
            EgodepthError, match=r"trained by an older version.*give --fov or --camera"
        ):
            open_footage(run, frames)
        assert focal(open_footage(run, frames, fov=90)[0]) == pytest.approx(40)


def test_what_is_typed_and_what_the_footage_brings(tmp_path: Path, tiny_run: Path) -> None:
    write_images(tmp_path / "frames", 2)
    (tmp_path / "cam.yaml").write_text(CAMERA)
    frames, run = tmp_path / "frames", egodepth.load(tiny_run)
    assert focal(run.open(frames, camera=tmp_path / "cam.yaml")[0]) == 70
    with pytest.raises(EgodepthError, match="not both"):
        run.open(frames, camera=tmp_path / "cam.yaml", fov=60)
    (frames / "camera.yaml").write_text(CAMERA.replace("70", "90"))
    assert focal(run.open(str(frames))[0]) == 90
    with pytest.warns(EgodepthWarning, match=r"brings its own camera \(camera file .*not used"):
        assert focal(run.open(frames, fov=60)[0]) == 90
    with pytest.warns(
        EgodepthWarning, match=r"brings its own camera .*--data\.fov does not replace"
    ):
        read_training_sequences(DataSettings(sources=(str(frames),), fov=60))


@pytest.mark.parametrize("value", ["0", "180", "200", "-3", "nan", "wide"])
def test_fields_of_view_that_are_none(
    tmp_path: Path, tiny_run: Path, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "frames", 2)
    rest = ["--out", tmp_path / "out", "--fov", value]
    for words in (
        ["predict", tiny_run, tmp_path / "frames", *rest],
        ["odometry", tiny_run, tmp_path / "frames", *rest],
        ["export", "points", tiny_run, tmp_path / "frames", *rest],
        ["landscape", tiny_run, tmp_path / "frames", "--frame", "0", *rest],
        ["view", tiny_run, tmp_path / "frames", "--fov", value],
        ["train", tmp_path / "frames", "--out", tmp_path / "out", "--data.fov", value],
    ):
        try:
            status = main([str(word) for word in words])
        except SystemExit as stop:
            status = int(stop.code or 0)
        said = capsys.readouterr().err
        assert status in (1, 2) and len(said.strip().splitlines()) == 1, said
    if value != "wide":
        sequence = read_footage(tmp_path / "frames")
        with pytest.raises(EgodepthError, match="between 0 and 170 degrees"):
            sequence.with_fov(float(value))
        with pytest.raises(EgodepthError, match="between 0 and 170 degrees"):
            egodepth.load(tiny_run).open(sequence, fov=float(value))


def test_a_focal_length_holds_for_one_size(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 2)
    write_images(tmp_path / "b", 2, 80, 160)
    write_images(tmp_path / "c", 2, 80, 40)
    sources = tuple(str(tmp_path / name) for name in ("a", "b"))
    with pytest.raises(
        EgodepthError, match=r"--data\.focal 100 is in pixels of one size, but a is 80x40"
    ):
        read_training_sequences(DataSettings(sources=sources, focal=100))
    wide = read_training_sequences(DataSettings(sources=sources, fov=90))
    assert [focal(s) for s in wide] == pytest.approx([40, 80])
    with pytest.raises(
        EgodepthError, match=r"--data\.fov 90 is from the left to the right edge, but"
    ):
        read_training_sequences(DataSettings(sources=(*sources, str(tmp_path / "c")), fov=90))
    for value in (0.0, float("nan"), float("inf"), -2.0):
        with pytest.raises(EgodepthError, match="above 0 pixels"):
            read_footage(tmp_path / "a").with_focal(value)
    for wrong in ("100", True, None):
        with pytest.raises(EgodepthError, match="above 0 pixels"):
            read_footage(tmp_path / "a").with_focal(wrong)  # type: ignore[arg-type]
        with pytest.raises(EgodepthError, match="between 0 and 170 degrees"):
            read_footage(tmp_path / "a").with_fov(wrong)  # type: ignore[arg-type]


def test_one_limit_for_what_a_camera_sees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """170 degrees, from left to right and from top to bottom, whoever gives the camera."""
    write_images(tmp_path / "a", 2)
    write_images(tmp_path / "tall", 2, 160, 40)
    (wide,), (tall,) = (read_source(str(tmp_path / name)) for name in ("a", "tall"))
    limit = 40 / np.tan(np.radians(85))
    assert wide.with_focal(limit * 1.001).camera is not None
    for focal_length in (limit * 0.99, 0.5):
        with pytest.raises(
            EgodepthError, match=r"fx .* for a width of 80 pixels.*more than the 170"
        ):
            wide.with_focal(focal_length)
        with pytest.raises(EgodepthError, match="focal lengths are in pixels of the frames, 80x40"):
            read_training_sequences(
                DataSettings(sources=(str(tmp_path / "a"),), focal=focal_length)
            )
    assert wide.with_fov(170).camera is not None
    with pytest.raises(
        EgodepthError, match=r"of 170 degrees gives fy .* for a height of 160 pixels"
    ):
        tall.with_fov(170)
    for place in (tmp_path / "a" / "0.jpg", tmp_path / "b.jpg"):
        image = Image.new("RGB", (80, 40))
        exif = image.getexif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 1
        image.save(place, exif=exif.tobytes())
        source = place if place.name == "b.jpg" else place.parent
        with pytest.warns(EgodepthWarning, match=r"EXIF or container data give fx .* are ignored"):
            (sequence,) = read_source(str(source))
        assert sequence.camera is None


def test_a_camera_file_beside_images_or_a_video(tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 2)
    (tmp_path / "frames" / "camera.yaml").write_text(LENS)
    for source in (
        tmp_path / "frames",
        tmp_path / "frames" / "000000.png",
        tmp_path / "frames" / "*.png",
    ):
        (sequence,) = read_source(str(source))
        assert sequence.camera_from == "given" and "camera file" in sequence.camera_note
        assert focal(sequence) != 70  # undistorted
    (tmp_path / "camera.yaml").write_text(CAMERA)
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 40))
    for level in (10, 90):
        writer.write(np.full((40, 80, 3), level, np.uint8))
    writer.release()
    assert focal(read_footage(tmp_path / "a.avi")) == 70
    write_images(tmp_path / "images", 2, 40, 60)
    (tmp_path / "images" / "camera.yaml").write_text(CAMERA)
    with pytest.raises(
        EgodepthError, match=r"images.camera\.yaml is for 80x40 pixels, but images is 60x40"
    ):
        read_footage(tmp_path / "images")


def test_pictures_beside_the_folder_images(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 3)
    Image.new("L", (80, 40)).save(tmp_path / "mask.png")
    with pytest.warns(
        EgodepthWarning, match=r"frames are those in images; mask\.png beside it is not read"
    ):
        assert len(read_footage(tmp_path).frames) == 3
    Image.new("L", (80, 40)).save(tmp_path / "thumbnail.png")
    with pytest.raises(
        EgodepthError, match=r"holds 2 pictures itself and 3 in .*images; name .*images, or"
    ):
        read_footage(tmp_path)
    (tmp_path / "camera.yaml").write_text(CAMERA)
    with pytest.warns(EgodepthWarning, match=r"mask\.png, thumbnail\.png beside it are not read"):
        assert focal(read_footage(tmp_path)) == 70


def test_the_lens_of_a_run_is_undone_in_live_images(tmp_path: Path) -> None:
    assert undistortion_of_run(tmp_path, 40, 80, "0") is None
    camera = Camera.from_parameters(70.0, 68.0, 40.0, 19.0, 40, 80)
    write_camera(tmp_path / "camera.yaml", camera)
    assert undistortion_of_run(tmp_path, 40, 41, "0") is None
    write_camera(tmp_path / "camera.yaml", camera, Lens("brown", (-0.2, 0.05, 0.0, 0.0)))
    change = undistortion_of_run(tmp_path, 80, 160, "0")
    assert change is not None and float(change.distorted_camera.matrix[0, 0]) == 140
    with pytest.raises(EgodepthError, match="another aspect ratio"):
        undistortion_of_run(tmp_path, 40, 41, "0")


def test_without_a_camera(tmp_path: Path, tiny_run: Path) -> None:
    write_images(tmp_path / "frames", 3)
    (sequence,) = read_source(str(tmp_path / "frames"))
    run = egodepth.load(tiny_run)
    known = egodepth.MeasuredDistance(0, 40.0, 20.0, 3.0)
    unit = egodepth.find_unit(run, sequence, known)
    assert unit == egodepth.find_unit(run, run.open(sequence)[0], known)
    for opened in (run.open(sequence), run.open([sequence]), run.open([tmp_path / "frames"])):
        assert focal(opened[0]) == pytest.approx(focal(replace(sequence).with_fov(60)))


def test_a_name_alone_is_told_where_cameras_differ(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "frames", tmp_path / "b" / "other"]
    for folder, value in zip(folders, ("70", "90"), strict=True):
        write_images(folder, 4)
        (folder / "camera.yaml").write_text(CAMERA.replace("70", value))
    run = train_on(tmp_path / "run", *folders)
    for folder in folders:
        (folder / "camera.yaml").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [focal(open_footage(run, f)[0]) for f in folders] == pytest.approx([70, 90])
    write_images(tmp_path / "z" / "other", 2)
    with pytest.warns(
        EgodepthWarning, match="gets that of the footage called other, which lay else"
    ):
        open_footage(run, tmp_path / "z" / "other")


@pytest.mark.parametrize(
    "name",
    ["camera.yml", "Camera.yaml", "camera.json", "cameras.txt", "calibration.yaml", "transforms.json",
     "camera_info.yaml"],
)  # fmt: skip
def test_a_camera_file_of_another_name_is_told(tmp_path: Path, tiny_run: Path, name: str) -> None:
    folder = tmp_path / "frames"
    write_images(folder, 2)
    (tmp_path / "frames" / name).write_text(CAMERA)
    said = rf"{name} beside the images is not read: name it .*camera\.yaml, or give --data\.camera"
    with pytest.warns(EgodepthWarning, match=said):
        open_footage(tiny_run, folder)
    with pytest.warns(EgodepthWarning, match=said):
        read_training_sequences(DataSettings(sources=(str(folder),)))
    (folder / name).rename(folder / "camera.yaml")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_footage(tiny_run, folder)


def test_a_camera_file_that_is_given_is_not_told(tmp_path: Path, tiny_run: Path) -> None:
    write_images(tmp_path / "images", 2)
    file = tmp_path / "images" / "calibration.yaml"
    file.write_text(CAMERA)
    with pytest.warns(EgodepthWarning, match=r"images.calibration\.yaml beside the images"):
        open_footage(tiny_run, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_footage(tiny_run, tmp_path, camera=file)
        read_training_sequences(DataSettings(sources=(str(tmp_path),), camera=file))
