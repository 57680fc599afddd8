"""Footage that a JSON file lists with its poses: nerfstudio's transforms.json, Record3D's metadata.json."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation
from tests.conftest import write_images

import egodepth
from egodepth.core.errors import EgodepthError, EgodepthWarning

TURN = Rotation.from_euler("xyz", [0.1, 0.2, -0.3]).as_matrix()
# Looking along OpenGL's -z is looking along z here: x right, y down.
AXES = np.diag([1.0, -1, -1])


def transforms(folder: Path, count: int = 4, **changes: Any) -> Path:
    """A scene whose images are listed in reverse."""
    frames = []
    for i, path in enumerate(write_images(folder / "images", count)):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = TURN, (i, 2 * i, 0)
        frames.append({"file_path": f"images/{path.name}", "transform_matrix": pose.tolist()})
    tree = {"w": 80, "h": 40, "fl_x": 60.0, "fl_y": 61.0, "cx": 40.0, "cy": 20.5, **changes}
    (folder / "transforms.json").write_text(json.dumps({**tree, "frames": frames[::-1]}))
    return folder / "transforms.json"


def edit(path: Path, change: Any) -> Path:
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))
    return path


def test_a_scene_is_footage_with_camera_and_poses(tmp_path: Path) -> None:
    path = transforms(tmp_path / "scene")
    (sequence,) = egodepth.read_source(path)
    assert sequence.name == "scene" and len(sequence.frames) == 4 and sequence.frames.times is None
    assert [frame.name for frame in sequence.frames.at()] == [f"{i:06d}" for i in range(4)]
    assert sequence.camera is not None and sequence.camera_from == "given"
    np.testing.assert_allclose(sequence.camera.focal_and_centre, [60, 61, 39.5, 20])
    poses = sequence.world_from_camera
    assert poses is not None and not sequence.metric_poses
    np.testing.assert_allclose(poses[:, :3, 3], [(i, 2 * i, 0) for i in range(4)])
    np.testing.assert_allclose(poses[1, :3, :3], TURN @ AXES)
    (tmp_path / "scene" / "camera.yaml").write_text("poses_unit: metres\n")
    assert egodepth.read_source(path)[0].metric_poses


def test_depth_and_times_are_read(tmp_path: Path) -> None:
    path = transforms(tmp_path, depth_unit_scale_factor=0.01)
    values = np.arange(800, dtype=np.uint16).reshape(20, 40)
    Image.fromarray(values).save(tmp_path / "0.png")

    def change(tree: dict[str, Any]) -> None:
        for i, frame in enumerate(tree["frames"]):
            frame["timestamp"] = 5.0 + i  # the listed order, against that of the names
        tree["frames"][1]["depth_file_path"] = "0.png"
        del tree["frames"][2]["transform_matrix"]

    (sequence,) = egodepth.read_source(edit(path, change))
    assert sequence.frames.times is not None and sequence.frames.times.tolist() == [5, 6, 7, 8]
    assert [frame.name for frame in sequence.frames.at()] == [f"{i:06d}" for i in (3, 2, 1, 0)]
    np.testing.assert_allclose(sequence.depth[1](), values * 0.01, rtol=1e-6)
    assert list(sequence.depth) == [1]
    assert sequence.world_from_camera is not None
    assert np.isnan(sequence.world_from_camera[:, 0, 0]).tolist() == [False, False, True, False]


def test_intrinsics_of_autofocus_get_their_median(tmp_path: Path) -> None:
    def change(tree: dict[str, Any]) -> None:
        for i, frame in enumerate(tree["frames"]):
            frame["fl_x"] = frame["fl_y"] = 60 + 0.2 * i

    path = edit(transforms(tmp_path), change)
    with pytest.warns(EgodepthWarning, match=r"differ by up to 0\.5 % of the focal length"):
        (sequence,) = egodepth.read_source(path)
    assert sequence.camera is not None
    np.testing.assert_allclose(sequence.camera.focal_and_centre, [60.3, 60.3, 39.5, 20], atol=1e-5)
    edit(path, lambda tree: tree["frames"][0].update(fl_x=90))
    with pytest.raises(EgodepthError, match="has several cameras"):
        egodepth.read_source(path)


def test_scenes_of_nerf_lack_sizes_and_suffixes(tmp_path: Path) -> None:
    def change(tree: dict[str, Any]) -> None:
        for name in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
            del tree[name]
        tree["camera_angle_x"] = 2 * np.arctan(0.5)
        for frame in tree["frames"]:
            frame["file_path"] = "./" + frame["file_path"].removesuffix(".png")

    (sequence,) = egodepth.read_source(edit(transforms(tmp_path), change))
    assert sequence.camera is not None
    np.testing.assert_allclose(sequence.camera.focal_and_centre, [80, 80, 39.5, 19.5])


def test_record3d(tmp_path: Path) -> None:
    quaternion = Rotation.from_matrix(TURN).as_quat().tolist()
    write_images(tmp_path / "capture" / "rgb", 3)
    tree = {
        "w": 80, "h": 40, "fps": 30, "K": [60, 0, 0, 0, 61, 0, 40, 20.5, 1],
        "poses": [[*quaternion, i, 0, 0] for i in range(3)], "frameTimestamps": [0.0, 0.1, 0.2],
    }  # fmt: skip
    path = tmp_path / "capture" / "metadata.json"
    path.write_text(json.dumps(tree))
    (sequence,) = egodepth.read_source(path)
    assert sequence.name == "capture" and sequence.metric_poses
    assert sequence.camera is not None and sequence.world_from_camera is not None
    np.testing.assert_allclose(sequence.camera.focal_and_centre, [60, 61, 39.5, 20])
    np.testing.assert_allclose(sequence.world_from_camera[2, :3, :3], TURN @ AXES, atol=1e-9)
    assert sequence.world_from_camera[2, 0, 3] == 2
    np.testing.assert_allclose(sequence.frames.times, [0, 0.1, 0.2])
    tree["poses"] = tree["poses"][:2]  # type: ignore[index]
    path.write_text(json.dumps(tree))
    with pytest.raises(EgodepthError, match=r"\(2, 7\) for 3 images in rgb"):
        egodepth.read_source(path)


@pytest.mark.parametrize(
    ("change", "match"),
    [(lambda t: t.pop("frames"), "is no footage: it lists neither frames"),
     (lambda t: t["frames"].clear(), "lists no images"),
     (lambda t: t["frames"][0].update(file_path="images/none.png"), "4 images, of which 1 are not there"),
     (lambda t: t["frames"].append(t["frames"][0]), "lists 1 images twice"),
     (lambda t: t["frames"][0].update(transform_matrix=[[1, 2]]), r"shape \(1, 2\) for 000003.png"),
     (lambda t: t["frames"][0].update(transform_matrix="x"), "something else than numbers"),
     (lambda t: t["frames"][0].update(transform_matrix=(2 * np.eye(4)).tolist()), r"json: .*no rigid"),
     (lambda t: t["frames"][0].update(depth_file_path=[[1]]), "path of depth for 000003.png that is no text"),
     (lambda t: t.update(depth_unit_scale_factor=0), "unit of depth of 0"),
     (lambda t: t.pop("fl_x"), "lacks fl_x")],
)  # fmt: skip
def test_what_is_wrong_is_told(change: Any, match: str, tmp_path: Path) -> None:
    path = edit(transforms(tmp_path), change)
    with pytest.raises(EgodepthError, match=match) as error:
        egodepth.read_source(path)
    assert str(path) in str(error.value) or "frame" in str(error.value)
