"""Images as people have them: names without padding, turned photographs, more than 8 bits."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from tests.conftest import write_images

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.core.files import natural_order
from egodepth.data.footage.frame_cache import cached_frames
from egodepth.data.footage.own_footage import read_footage
from egodepth.data.pixels import open_image, read_values, upright_size
from egodepth.data.preparation.static_mask import read_mask
from egodepth.data.sources import read_source
from egodepth.runs.images import load_image
from egodepth.runs.run import Run

ORIENTATION = 0x0112


def grey(folder: Path, names: list[str]) -> None:
    """Images of one grey level each: 10, 20 and so on."""
    folder.mkdir()
    for index, name in enumerate(names):
        Image.new("L", (16, 12), 10 * (index + 1)).save(folder / name)


def levels(folder: Path | str) -> list[int]:
    (sequence,) = read_source(str(folder))
    return [int(frame.image[0, 0, 0]) for frame in sequence.frames.at()]


def test_numbers_in_names_count_as_numbers(tmp_path: Path) -> None:
    names = [f"frame{n}.png" for n in range(1, 13)]
    grey(tmp_path / "frames", names)
    expected = [10 * n for n in range(1, 13)]
    assert levels(tmp_path / "frames") == expected
    assert levels(tmp_path / "frames" / "*.png") == expected
    grey(tmp_path / "images", names)
    assert levels(tmp_path / "images" / "frame[0-9]*.png") == expected


@pytest.mark.parametrize(
    "names",
    [
        ["img_1_left.png", "img_2_left.png", "img_10_left.png"],
        ["a/9.png", "a/10.png", "b/1.png", "b10/0.png"],
        ["0.png", "0.25.png", "0.5.png", "1.0.png"],
        ["1.1.png", "1.2.png", "1.9.png", "1.10.png", "1.11.png"],
        ["0.1.png", "0.15.png", "0.2.png", "10.0.png"],
        ["01.png", "1.png", "2.png"],
        ["f_1305031102.1.png", "f_1305031102.163.png", "f_1305031102.17.png"],
        ["t_9.5.png", "t_9.75.png", "t_10.0.png"],
        ["img_1.9.png", "img_1.10.png", "img_1.11.png"],
        ["img_1.7.png", "img_1.9.png", "img_1.11.png", "img_1.13.png"],
        ["img.png", "img (1).png", "img (2).png", "img (10).png"],
        ["08.png", "09.png", "0a.png", "0f.png", "10.png", "11.png"],
        ["f_09.png", "f_0A.png", "f_10.png", "f_1A.png", "f_a0.png"],
        ["a1.png", "a2.png", "b1.png"],
    ],
)
def test_natural_order(names: list[str]) -> None:
    paths = [Path(name) for name in names]
    assert natural_order(reversed(paths)) == paths


def test_brackets_of_a_folder_in_a_pattern(tmp_path: Path) -> None:
    names = ["1.png", "2.png", "3.png"]
    grey(tmp_path / "d[1]", names)
    assert levels(tmp_path / "d[1]" / "*.png") == [10, 20, 30]
    assert levels(tmp_path / "d[1]" / "[23].png") == [20, 30]
    grey(tmp_path / "e1", names)
    assert levels(tmp_path / "e[1]" / "*.png") == [10, 20, 30]


def turned(path: Path, orientation: int, stored: np.ndarray, **tags: int) -> Path:
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    for name, value in tags.items():
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base[name]] = value
    image.save(path, exif=exif.tobytes())
    return path


def upright_picture() -> np.ndarray:
    """(24, 16, 3): a gradient from the top to the bottom, and a red left half."""
    picture = np.repeat(np.linspace(0, 230, 24)[:, None], 16, 1).astype(np.uint8)
    picture = np.repeat(picture[..., None], 3, 2)
    picture[:, :8, 0] = 255
    return picture


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_photographs_are_turned_upright(tmp_path: Path, suffix: str) -> None:
    picture = upright_picture()
    stored = {6: np.rot90(picture, 1), 8: np.rot90(picture, -1), 3: np.rot90(picture, 2)}
    for orientation, image in stored.items():
        options = {"lossless": True} if suffix == "webp" else {}
        made, file = (
            Image.fromarray(np.ascontiguousarray(image)),
            tmp_path / f"{orientation}.{suffix}",
        )
        exif = made.getexif()
        exif[ORIENTATION] = orientation
        made.save(file, exif=exif.tobytes(), **options)
    sequence = read_footage(tmp_path)
    assert (sequence.frames.height, sequence.frames.width) == (24, 16)
    for frame in sequence.frames.at():
        np.testing.assert_array_equal(frame.image, picture)
    for file in tmp_path.iterdir():
        np.testing.assert_array_equal(load_image(file), picture)
        np.testing.assert_array_equal(load_image(Image.open(file)), picture)
    frames, _ = cached_frames(sequence, 24, 16, tmp_path / "cache")
    np.testing.assert_array_equal(frames[0], picture.transpose(2, 0, 1))


def test_a_turned_photograph_keeps_its_focal_length(tmp_path: Path) -> None:
    stored = np.zeros((60, 80, 3), np.uint8)
    tags = {"FocalLengthIn35mmFilm": 36}
    flat = read_footage(turned(tmp_path / "a.jpg", 1, stored, **tags)).camera
    camera = read_footage(turned(tmp_path / "b.jpg", 6, stored, **tags)).camera
    assert flat is not None and camera is not None
    assert (camera.height, camera.width) == (80, 60)
    assert camera.matrix[0, 0] == flat.matrix[0, 0]
    assert camera.matrix[0, 2] == pytest.approx(29.5) and camera.matrix[1, 2] == pytest.approx(39.5)


def test_prediction_for_turned_photographs(tiny_run: Path, tmp_path: Path) -> None:
    stored = np.zeros((60, 80, 3), np.uint8)
    path = turned(tmp_path / "a.jpg", 6, stored)
    assert Run.load(tiny_run).depth(path).shape == (80, 60)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_grey_tiffs_are_turned_upright(tmp_path: Path, kind: type, compression: str | None) -> None:
    upright = np.arange(24 * 16).reshape(24, 16).astype(kind)
    for orientation, turns in ((6, 1), (8, -1), (3, 2)):
        image = Image.fromarray(np.ascontiguousarray(np.rot90(upright, turns)))
        exif = image.getexif()
        exif[ORIENTATION] = orientation
        image.save(tmp_path / "a.tif", exif=exif.tobytes(), compression=compression)
        with open_image(tmp_path / "a.tif") as opened:
            assert upright_size(opened) == (24, 16)
        with open_image(tmp_path / "a.tif") as opened:
            values = read_values(opened)
        np.testing.assert_array_equal(values if values.ndim == 2 else values[..., 0], upright)


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_colours_of_16_bits_are_turned_upright(tmp_path: Path, suffix: str) -> None:
    upright = np.random.default_rng(0).integers(0, 60000, (24, 16, 3)).astype(np.uint16)
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), np.rot90(upright, 1)[..., ::-1])
    content = path.read_bytes()
    if suffix == "png":
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        chunk = b"eXIf" + exif.tobytes()[6:]
        chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        path.write_bytes(content[:33] + chunk + content[33:])
    else:  # its list of tags again at the end, with one more
        start = struct.unpack("<I", content[4:8])[0]
        count = struct.unpack("<H", content[start : start + 2])[0]
        tags = [content[start + 2 + 12 * i :][:12] for i in range(count)]
        tags.append(struct.pack("<HHIHH", ORIENTATION, 3, 1, 6, 0))
        tags.sort(key=lambda tag: struct.unpack("<H", tag[:2]))
        table = struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4)
        path.write_bytes(content[:4] + struct.pack("<I", len(content)) + content[8:] + table)
    with open_image(path) as opened:
        assert upright_size(opened) == (24, 16)
    with open_image(path) as opened:
        np.testing.assert_array_equal(read_values(opened), upright)


def thermal(folder: Path, count: int = 4) -> np.ndarray:
    """(count, 20, 30) uint16 from 29000 to 29600, in files; returns the values."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    values = rng.integers(29100, 29500, (count, 20, 30)).astype(np.uint16)
    values += (40 * np.arange(count, dtype=np.uint16) - 60)[:, None, None]
    for index, image in enumerate(values):
        Image.fromarray(image).save(folder / f"{index}.png")
    return values


def test_grey_levels_of_16_bits_are_kept(tmp_path: Path) -> None:
    values = thermal(tmp_path / "thermal")
    sequence = read_footage(tmp_path / "thermal")
    with pytest.warns(
        EgodepthWarning, match=r"thermal: values of more than 8 bits, of which 29\d+"
    ):
        images = np.stack([frame.image for frame in sequence.frames.at()])
    low, high = float(values.min()), float(values.max())
    expected = np.rint((values - low) / (high - low) * 255)
    np.testing.assert_array_equal(images, np.repeat(expected[..., None], 3, 3))


def test_float_images_and_a_dead_pixel(tmp_path: Path) -> None:
    ramp = np.linspace(0.2, 0.6, 600, dtype=np.float32).reshape(20, 30)
    for index in range(3):
        Image.fromarray(ramp).save(tmp_path / f"{index}.tif")
    frames = read_footage(tmp_path).frames
    with pytest.warns(EgodepthWarning, match=r"of which 0\.2 to 0\.6 become black to white"):
        image = next(frames.at([1])).image
    np.testing.assert_allclose(image[..., 0], (ramp - 0.2) / 0.4 * 255, atol=0.51)
    spoilt = np.tile(ramp, (5, 10))
    spoilt[7, 7] = 1e6
    Image.fromarray(spoilt).save(tmp_path / "dead.tiff")
    with pytest.warns(EgodepthWarning):
        assert len(np.unique(load_image(tmp_path / "dead.tiff"))) > 100
    spoilt[7, 7] = np.nan
    Image.fromarray(spoilt).save(tmp_path / "dead.tiff")
    with pytest.raises(EgodepthError, match=r"dead\.tiff holds values that are not finite"):
        load_image(tmp_path / "dead.tiff")


def test_colours_of_16_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 1000, (20, 30, 3)).astype(np.uint16)  # all high bytes are below 4
    cv2.imwrite(str(tmp_path / "a.png"), dark[..., ::-1])
    cv2.imwrite(str(tmp_path / "b.tif"), dark[..., ::-1])
    for name in ("a.png", "b.tif"):
        with pytest.warns(EgodepthWarning, match="more than 8 bits"):
            image = load_image(tmp_path / name)
        np.testing.assert_allclose(image, dark / dark.max() * 255, atol=1)


@pytest.mark.filterwarnings("ignore::egodepth.core.errors.EgodepthWarning")
def test_pillow_images_of_all_modes() -> None:
    ramp = np.repeat(np.linspace(0, 1, 64)[None], 8, 0)
    expected = np.rint(255 * ramp)
    for made in (
        Image.fromarray((ramp * 700 + 3000).astype(np.uint16)),
        Image.fromarray((ramp * 7e6).astype(np.int32)),
        Image.fromarray(ramp.astype(np.float32)),
        Image.fromarray(expected.astype(np.uint8)).convert("LA"),
        Image.fromarray(expected.astype(np.uint8)).convert("RGBA"),
        Image.fromarray(expected.astype(np.uint8)).convert("P"),
        Image.fromarray(expected.astype(np.uint8)).convert("RGB").convert("CMYK"),
    ):
        np.testing.assert_allclose(load_image(made)[..., 1], expected, atol=1, err_msg=made.mode)
    flags = Image.fromarray(ramp > 0.5)
    assert flags.mode == "1"
    np.testing.assert_array_equal(load_image(flags)[..., 0], 255 * (ramp > 0.5))
    file = io.BytesIO()
    Image.fromarray(expected.astype(np.uint8)).convert("P").save(
        file, "png", transparency=b"\x00\x80"
    )
    np.testing.assert_array_equal(load_image(Image.open(file))[..., 0], expected)


def test_a_folder_of_several_kinds_is_refused(tmp_path: Path) -> None:
    thermal(tmp_path / "frames")
    Image.new("L", (30, 20)).save(tmp_path / "frames" / "2.png")
    frames = read_footage(tmp_path / "frames").frames
    with pytest.raises(
        EgodepthError, match=r"2\.png has 8 bits per channel, .*0\.png has more than 8"
    ):
        list(frames.at())


@pytest.mark.parametrize("suffix", ["webp", "tif", "png"])
def test_several_pictures_in_a_file_are_refused(tmp_path: Path, suffix: str) -> None:
    write_images(tmp_path / "frames", 3)
    pictures = [Image.new("RGB", (80, 40), (60 * i, 0, 0)) for i in range(3)]
    file = tmp_path / "frames" / f"000001.{suffix}"
    pictures[0].save(file, save_all=True, append_images=pictures[1:])
    with pytest.raises(EgodepthError, match=rf"000001\.{suffix} holds 3 pictures"):
        read_footage(file)
    with pytest.raises(EgodepthError, match=rf"000001\.{suffix} holds 3 pictures"):
        list(read_footage(tmp_path / "frames").frames.at())


def test_a_phones_second_picture_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (40, 20), "red").save(
        path, "MPO", save_all=True, append_images=[Image.new("RGB", (10, 5))]
    )
    assert load_image(path).shape == (20, 40, 3)


def test_an_animated_gif_is_a_video(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (80, 40), (60 * i, 0, 0)) for i in range(4)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=200)
    assert levels(tmp_path / "a.gif") == [0, 60, 120, 180]


def test_pictures_that_are_left_out_are_told(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    Image.new("RGB", (80, 40)).save(tmp_path / "000003.gif")
    (tmp_path / "notes.txt").write_text("")
    with pytest.warns(EgodepthWarning, match=r"1 files in .*, as 000003\.gif, are left out"):
        assert len(read_footage(tmp_path).frames) == 3


def test_masks_of_any_kind(tmp_path: Path) -> None:
    upright = np.zeros((20, 30), np.uint8)
    upright[:10] = 255
    turned(tmp_path / "turned.png", 6, np.ascontiguousarray(np.rot90(upright)))
    Image.fromarray((upright.astype(np.uint16)) * 100).save(tmp_path / "deep.png")
    for name in ("turned.png", "deep.png"):
        np.testing.assert_array_equal(read_mask(tmp_path / name, 20, 30), upright == 0)


def test_a_deep_image_alone_has_its_own_range_and_a_pair_one(
    tiny_run: Path, tmp_path: Path
) -> None:
    """A folder's frames share one; said where it is not so. Motion of an image to itself, shown brighter in a
    pair, would come of two ranges."""
    values = np.random.default_rng(0).integers(1000, 3000, (40, 80)).astype(np.uint16)
    for number, factor in enumerate((1, 3)):
        Image.fromarray(values * factor).save(tmp_path / f"{number}.png")
    model, paths = Run.load(tiny_run), [tmp_path / f"{number}.png" for number in range(2)]
    alone = "of this image alone; as a frame of a folder it is scaled from the range of all frames"
    with pytest.warns(EgodepthWarning, match=rf"0\.png: values of more than 8 bits.*{alone}"):
        own = load_image(paths[0])
    with pytest.warns(EgodepthWarning, match=alone), Image.open(paths[0]) as image:
        np.testing.assert_array_equal(model.depth(image), model.depth(own))
    with pytest.warns(EgodepthWarning, match="become black to white in all frames"):
        both = [frame.image for frame in read_footage(tmp_path).frames.at()]
    assert np.abs(own.astype(int) - both[0]).mean() > 50
    with pytest.warns(EgodepthWarning, match="in all frames"):
        motion = model.motion(*paths)
    np.testing.assert_allclose(motion, model.motion(*both))
    with pytest.warns(EgodepthWarning):
        apart = model.motion(*(load_image(path) for path in paths))
    assert not np.allclose(motion, apart)


def test_the_cache_knows_the_range(tmp_path: Path) -> None:
    thermal(tmp_path / "thermal")
    with pytest.warns(EgodepthWarning):
        before = read_footage(tmp_path / "thermal").frames.fingerprint
    Image.fromarray(np.full((20, 30), 20000, np.uint16)).save(tmp_path / "thermal" / "9.png")
    with pytest.warns(EgodepthWarning):
        assert read_footage(tmp_path / "thermal").frames.fingerprint != before
