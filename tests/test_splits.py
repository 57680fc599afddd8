import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from tests import layouts

from egodepth.core.errors import EgodepthError
from egodepth.data.image_files import ImageFiles
from egodepth.data.preparation.clips import read_clips
from egodepth.data.sequence import Sequence
from egodepth.data.sources import read_source
from egodepth.data.splits import EIGEN, SPLITS, get_split
from egodepth.settings.training import DataSettings
from egodepth.training.footage import read_training_sequences
from egodepth.training.plan import restrict
from egodepth.training.snippets import SnippetStream


def sequence(tmp_path: Path, name: str, rig: str = "", side: str = "left") -> Sequence:
    (path,) = layouts.write_images(tmp_path / name, 1)
    return Sequence(name, ImageFiles([path]), rig=rig, camera_name=side)


def test_eigen_test_has_the_published_frames() -> None:
    assert len(EIGEN) == 697 == SPLITS["eigen_test"].size
    assert len({(e.folder, e.number) for e in EIGEN}) == 697
    drives = {entry.folder for entry in EIGEN}
    assert len(drives) == 28
    # Its size as a text file of `DATE/DRIVE NUMBER l` lines is that of the file the field shares.
    lines = [f"{e.folder[:10]}/{e.folder} {e.number:010d} l\n" for e in EIGEN]
    assert sum(map(len, lines)) == 35547
    assert lines[0] == "2011_09_26/2011_09_26_drive_0002_sync 0000000069 l\n"


def test_frames_of_a_drive(tmp_path: Path) -> None:
    drive = "2011_09_26_drive_0009_sync"
    left = sequence(tmp_path, f"{drive}/image_02", drive)
    right = sequence(tmp_path, f"{drive}/image_03", drive, "right")
    other = sequence(tmp_path, "2011_09_26_drive_0001_sync/image_02", "2011_09_26_drive_0001_sync")
    test, train = SPLITS["eigen_test"], SPLITS["eigen_train"]
    numbers = test.numbers(left)
    assert numbers is not None and {0, 16, 32, 48} <= numbers and len(numbers) == 25
    assert test.numbers(right) == set() == test.numbers(other)
    assert train.numbers(left) == set() and train.numbers(other) is None


def test_folders_of_other_data_sets(tmp_path: Path) -> None:
    nine = sequence(tmp_path, "09/image_2", "09")
    assert SPLITS["odometry_test"].numbers(nine) is None
    assert SPLITS["odometry_train"].numbers(nine) == set()
    chess = sequence(tmp_path, "chess/seq-03")
    assert SPLITS["seven_scenes_test"].numbers(chess) is None
    assert SPLITS["seven_scenes_train"].numbers(chess) == set()
    fire = sequence(tmp_path, "fire/seq-03x")
    assert SPLITS["seven_scenes_test"].numbers(fire) == set()


def test_split_files(tmp_path: Path) -> None:
    path = tmp_path / "files.txt"
    path.write_text(
        "2011_09_26/2011_09_26_drive_0009_sync 5 l\n\n# comment\n"
        "2011_09_26/2011_09_26_drive_0009_sync 0000000007 r\n"
        "2011_09_26/2011_09_26_drive_0009_sync/image_03/data/0000000008.png\n9 3 l\n"
    )
    split = get_split(path)
    drive = "2011_09_26_drive_0009_sync"
    assert split.numbers(sequence(tmp_path, f"{drive}/image_02", drive)) == {5}
    assert split.numbers(sequence(tmp_path, f"{drive}/image_03", drive, "right")) == {7, 8}
    assert split.numbers(sequence(tmp_path, "09/image_2", "09")) == {3}
    assert split.places()[drive, "right", 8] == 2
    for line in ("folder 3 x", "folder,3,l", "folder 3 l 4", "folder 3.5 l"):
        path.write_text(f"folder 2 l\n{line}\n")
        with pytest.raises(EgodepthError, match="line 2: expected `folder frame side`"):
            get_split(path)
    with pytest.raises(
        EgodepthError, match=r"unknown split 'eigne', and .*; did you mean 'eigen_test'"
    ):
        get_split("eigne")


def test_fetched_splits(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    text = b"2011_09_26/2011_09_26_drive_0001_sync 5 l\n"
    (tmp_path / "served" / "train.txt").write_bytes(text)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/train.txt"
        good = f"{url}#sha256={hashlib.sha256(text).hexdigest()}"
        assert get_split(good).entries[0].number == 5
        with pytest.raises(EgodepthError, match=r"cannot fetch .*train\.txt: SHA256 hash"):
            get_split(f"{url}#sha256={'0' * 64}")
        with pytest.raises(EgodepthError, match="needs the sum of its file"):
            get_split(url)
        server.shutdown()
    assert get_split(good).name == good  # from the cache: nobody serves it any more


def test_training_targets_are_those_of_the_split(tmp_path: Path) -> None:
    layouts.make_odometry(tmp_path / "data")
    path = tmp_path / "split.txt"
    path.write_text("7 1 l\n")
    source = f"kitti_odometry:{tmp_path / 'data'}"
    settings = DataSettings(sources=(source,), split=str(path))
    (left,) = read_training_sequences(settings)
    assert left.camera_name == "left"
    both = read_training_sequences(settings.changed(views="mono_stereo"))
    assert [s.camera_name for s in both] == ["left", "right"]
    clips = restrict(read_clips(both, 32, 64, tmp_path / "cache"), get_split(path))
    stream = SnippetStream(clips, directions=(-1, 1), batch_size=4, seed=0, partner=True)
    assert stream.snippet_count == 1
    assert np.array_equal(stream.batch(0).frame_ids[:, 0].numpy(), [1, 0, 2])
    path.write_text("8 1 l\n")
    with pytest.raises(EgodepthError, match="names no frame of 07/image_2"):
        read_training_sequences(settings)
    assert read_source(source)
