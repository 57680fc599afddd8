"""Scenes for neural rendering, read back: by an independent reader of transforms.json, and by pycolmap."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import trimesh
from PIL import Image
from tests.conftest import write_images
from tests.test_cli import run as run_command

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.footage.own_footage import with_lens
from egodepth.data.preparation.static_mask import find_mask_of_footage
from egodepth.data.sequence import Frame, Sequence
from egodepth.data.sources import read_source
from egodepth.data.synthetic.street import read_street
from egodepth.geometry.lens import Lens
from egodepth.inference.export import tracks
from egodepth.inference.export.colmap import write_colmap
from egodepth.inference.export.nerfstudio import write_nerfstudio
from egodepth.inference.export.scene import SceneSettings
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.runs.unit import Unit

FRAMES, EVERY = 9, 2
LENS = Lens("brown", (-0.12, 0.02, 0.001, -0.0005))


class Rendered:
    """Frames in memory."""

    seekable, times, fingerprint = True, None, "rendered"

    def __init__(self, images: list[np.ndarray]) -> None:
        self.images, self.numbers = images, list(range(len(images)))
        self.height, self.width = images[0].shape[:2]

    def __len__(self) -> int:
        return len(self.images)

    def at(self, indices: Iterable[int] | None = None) -> Iterator[Frame]:
        for i in self.numbers if indices is None else indices:
            yield Frame(i, None, self.images[i])


class TrueRun:
    """A run of a smaller input than the footage, whose depth is the footage's own."""

    device = "cpu"

    def __init__(self, sequence: Sequence, size: tuple[int, int] = (64, 212)) -> None:
        self.sequence = sequence
        self.settings = type("Size", (), {"height": size[0], "width": size[1]})
        self.images = [frame.image for frame in sequence.frames.at()]

    def maps(self, image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, None]:
        return self.depth(image, size), None

    def depth(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        index = next(i for i, other in enumerate(self.images) if np.array_equal(other, image))
        depth = self.sequence.depth[index]()
        inverse = np.where(depth > 0, 1 / np.maximum(depth, 1e-3), 1e-3)
        made = F.interpolate(torch.from_numpy(inverse)[None, None], size, mode="bilinear")
        return 1 / made[0, 0].numpy()


@pytest.fixture(scope="module")
def street() -> Sequence:
    drive = read_street(5, FRAMES)
    images = [frame.image for frame in drive.frames.at()]
    depth = {i: cache(read) for i, read in drive.depth.items()}
    return replace(drive, frames=Rendered(images), depth=depth)


@pytest.fixture(autouse=True)
def _few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracks, "MAX_POINTS", 5000)


def trajectory_of(sequence: Sequence) -> Trajectory:
    poses = sequence.world_from_camera
    assert poses is not None
    return Trajectory(np.linalg.inv(poses[0]) @ poses, sequence.frames.numbers)


SETTINGS = SceneSettings(EVERY, "network", "none")


class ReadScene:
    """transforms.json by its documentation alone: OpenGL axes, pixel coordinates from the image's corner."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tree = folder, json.loads((folder / "transforms.json").read_text())
        tree = self.tree
        self.matrix = np.array(
            [[tree["fl_x"], 0, tree["cx"]], [0, tree["fl_y"], tree["cy"]], [0, 0, 1]]
        )
        self.distortion = np.array([tree[n] for n in ("k1", "k2", "p1", "p2")])

    def image(self, i: int) -> np.ndarray:
        return np.asarray(Image.open(self.folder / self.tree["frames"][i]["file_path"]))

    def depth(self, i: int) -> np.ndarray:
        values = np.asarray(Image.open(self.folder / self.tree["frames"][i]["depth_file_path"]))
        return values * self.tree["depth_unit_scale_factor"]

    def world(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """World points of all pixels with a depth, and these pixels (x, y from the corner)."""
        depth = self.depth(i)
        y, x = np.nonzero(depth)
        pixels = np.stack([x, y], 1) + 0.5
        rays = cv2.undistortPoints(pixels[:, None], self.matrix, self.distortion)[:, 0]
        z = depth[y, x]
        points = np.stack([rays[:, 0] * z, -rays[:, 1] * z, -z], 1)
        pose = np.array(self.tree["frames"][i]["transform_matrix"])
        return points @ pose[:3, :3].T + pose[:3, 3], pixels

    def project(self, i: int, world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pose = np.linalg.inv(np.array(self.tree["frames"][i]["transform_matrix"]))
        points = (world @ pose[:3, :3].T + pose[:3, 3]) * [1, -1, -1]
        zero = np.zeros(3)
        pixels, _ = cv2.projectPoints(points, zero, zero, self.matrix, self.distortion)
        return pixels[:, 0], points[:, 2]


def true_flow(street: Sequence, source: int, target: int, pixels: np.ndarray) -> np.ndarray:
    """Where the true points at pixels (corner coordinates) of one frame are in another, by its ground truth."""
    assert street.camera is not None and street.world_from_camera is not None
    matrix = street.camera.matrix.double().numpy()
    depth = street.depth[source]().astype(np.float64)
    x, y = (pixels - 0.5).T
    z = depth[np.rint(y).astype(int), np.rint(x).astype(int)]
    points = np.linalg.inv(matrix) @ np.stack([x * z, y * z, z])
    poses = street.world_from_camera
    moved = np.linalg.inv(poses[target]) @ poses[source] @ np.vstack([points, np.ones(len(z))])
    seen = matrix @ moved[:3]
    return (seen[:2] / seen[2]).T + 0.5


def test_depth_of_transforms_json_lands_in_other_frames(street: Sequence, tmp_path: Path) -> None:
    """Reprojected by the exported poses and intrinsics, within a pixel of where the truth says."""
    facts = write_nerfstudio(
        tmp_path / "s", TrueRun(street), street, trajectory_of(street), SETTINGS
    )  # type: ignore[arg-type]
    scene = ReadScene(tmp_path / "s")
    assert facts.frames == len(scene.tree["frames"]) == 5
    assert scene.tree["camera_model"] == "OPENCV" and "mask_path" not in scene.tree["frames"][0]
    assert scene.tree["egodepth"] == {"unit": "the run's unit", "metres_per_unit": None}
    for i, frame in enumerate(street.frames.at(range(0, FRAMES, EVERY))):
        np.testing.assert_array_equal(scene.image(i), frame.image)
    for source, target in ((0, 1), (1, 3), (4, 2)):
        world, pixels = scene.world(source)
        assert len(pixels) > 8000
        landed, _ = scene.project(target, world)
        wanted = true_flow(street, source * EVERY, target * EVERY, pixels)
        inside = ((wanted > 0) & (wanted < (320, 96))).all(1)
        error = np.linalg.norm(landed - wanted, axis=1)[inside]
        assert inside.sum() > 4000 and np.quantile(error, 0.98) < 1


def test_points_of_transforms_json_lie_on_surfaces(street: Sequence, tmp_path: Path) -> None:
    found = replace(trajectory_of(street), unit=Unit(0.5, "metres, by a ruler"))
    facts = write_nerfstudio(tmp_path / "s", TrueRun(street), street, found, SETTINGS)  # type: ignore[arg-type]
    scene = ReadScene(tmp_path / "s")
    assert scene.tree["egodepth"] == {"unit": "metres, by a ruler", "metres_per_unit": 1.0}
    cloud = trimesh.load(tmp_path / "s" / scene.tree["ply_file_path"])
    points = np.asarray(cloud.vertices, np.float64)
    assert len(points) == facts.points > 3000
    # z points up: the road lies 1.6 m (0.8 of the halved) below the first camera.
    assert np.median(points[points[:, 2] < -0.5, 2]) == pytest.approx(-0.8, abs=0.05)
    pixels, z = scene.project(2, points)
    x, y = np.floor(pixels).astype(int).T
    inside = (z > 0) & (x >= 0) & (x < 320) & (y >= 0) & (y < 96)
    depth = np.zeros(len(z))
    depth[inside] = scene.depth(2)[y[inside], x[inside]]
    close = np.abs(z / np.maximum(depth, 1e-9) - 1)[depth > 0]
    assert len(close) > 1500 and np.median(close) < 0.01
    seen = inside & (np.abs(z / np.maximum(depth, 1e-9) - 1) < 0.01)
    colours = np.asarray(
        cloud.visual.vertices_colors if hasattr(cloud.visual, "vertices_colors") else cloud.colors
    )
    difference = np.abs(colours[seen, :3].astype(int) - scene.image(2)[y[seen], x[seen]]).mean()
    assert difference < 15


def test_a_scene_is_read_back_as_footage(street: Sequence, tmp_path: Path) -> None:
    found = trajectory_of(street)
    write_nerfstudio(tmp_path / "s", TrueRun(street), street, found, SETTINGS)  # type: ignore[arg-type]
    (sequence,) = read_source(tmp_path / "s" / "transforms.json")
    poses = sequence.world_from_camera
    assert poses is not None and sequence.camera is not None and street.camera is not None
    np.testing.assert_allclose(np.linalg.inv(poses[0]) @ poses[1], found.poses[EVERY], atol=1e-9)
    intrinsics = street.camera.focal_and_centre
    np.testing.assert_allclose(sequence.camera.focal_and_centre, intrinsics, atol=1e-4)
    depth, true = sequence.depth[1](), street.depth[EVERY]()
    known = (depth > 0) & (true > 0)
    assert known.mean() > 0.3 and np.median(np.abs(depth[known] / true[known] - 1)) < 0.01


def distorted(street: Sequence) -> Sequence:
    """The street as a lens would have recorded it, its frames undistorted again."""
    assert street.camera is not None
    opened = with_lens(street, street.camera, LENS, "given")
    return replace(opened, depth={i: opened.depth[i] for i in opened.depth}, opened=True)


def test_images_as_they_were_recorded_keep_their_lens(street: Sequence, tmp_path: Path) -> None:
    bent = distorted(street)
    settings = replace(SETTINGS, distorted=True)
    write_nerfstudio(tmp_path / "s", TrueRun(bent), bent, trajectory_of(bent), settings)  # type: ignore[arg-type]
    scene = ReadScene(tmp_path / "s")
    np.testing.assert_allclose(scene.distortion, LENS.coefficients)
    np.testing.assert_array_equal(scene.image(1), next(street.frames.at([EVERY])).image)
    world, _ = scene.world(1)
    depth = scene.depth(1)
    assert (depth[2:-2, 160] > 0).mean() > 0.4
    landed, z = scene.project(3, world)
    x, y = np.floor(landed).astype(int).T
    inside = (z > 0) & (x >= 0) & (x < 320) & (y >= 0) & (y < 96)
    seen = np.zeros(len(z))
    seen[inside] = scene.depth(3)[y[inside], x[inside]]
    ratio = np.abs(z[seen > 0] / seen[seen > 0] - 1)
    assert len(ratio) > 4000 and np.median(ratio) < 0.02
    other = replace(bent.frames.change.lens, coefficients=(*LENS.coefficients, 0.0, 0.1, 0.0, 0.0))  # type: ignore[attr-defined]
    rational = with_lens(street, street.camera, other, "given")  # type: ignore[arg-type]
    with pytest.raises(EgodepthError, match="no model of a lens with k4"):
        write_nerfstudio(
            tmp_path / "t", TrueRun(rational), rational, trajectory_of(rational), settings
        )  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "lens"), [(False, False), (True, True)])
def test_pycolmap_reads_points_with_their_tracks(
    street: Sequence, tmp_path: Path, text: bool, lens: bool
) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    sequence = distorted(street) if lens else street
    settings = replace(SETTINGS, distorted=lens)
    facts = write_colmap(
        tmp_path / "m", TrueRun(sequence), sequence, trajectory_of(sequence), settings, text=text  # type: ignore[arg-type]
    )  # fmt: skip
    folder = tmp_path / "m" / "sparse" / "0"
    assert sorted(p.suffix for p in folder.iterdir()) == [".txt" if text else ".bin"] * 3
    model = pycolmap.Reconstruction(str(folder))
    assert model.num_images() == facts.frames == 5 and model.num_points3D() == facts.points
    assert facts.points > 3000 and model.compute_mean_track_length() > 2.5
    (camera,) = model.cameras.values()
    assert camera.model.name == ("OPENCV" if lens else "PINHOLE")
    assert (camera.width, camera.height) == (320, 96)
    found = trajectory_of(sequence).first_from_frame
    truths = [sequence.depth[i]() for i in range(0, FRAMES, EVERY)]
    straight = np.array([[320 * 0.58, 0, 159.5], [0, 320 * 0.58, 47.5], [0, 0, 1]])
    for image in model.images.values():
        index = int(image.name[:10])
        assert (tmp_path / "m" / "images" / image.name).exists()
        np.testing.assert_allclose(image.projection_center(), found[index, :3, 3], atol=1e-6)
        seen = [p for p in image.points2D if p.has_point3D()]
        assert len(seen) == len(image.points2D) > 300
        xyz = np.array([model.points3D[p.point3D_id].xyz for p in seen])
        pixels = np.array([p.xy for p in seen])
        moved = np.column_stack([xyz, np.ones(len(xyz))]) @ image.cam_from_world().matrix().T
        landed = camera.img_from_cam(moved)
        assert np.linalg.norm(landed - pixels, axis=1).max() < 0.01
        for p, place in zip(seen[:20], range(20), strict=True):
            track = model.points3D[p.point3D_id].track
            assert (image.image_id, place) in [(e.image_id, e.point2D_idx) for e in track.elements]
        if not lens:
            # What is written is what the frame shows: the rendered depth is that of the point.
            projected = moved @ straight.T
            x, y = np.rint(projected[:, :2] / projected[:, 2:]).astype(int).T
            rendered = truths[index // EVERY][y, x]
            off = np.abs(moved[:, 2] / np.maximum(rendered, 1e-3) - 1)
            assert np.quantile(off, 0.9) < 0.05 and np.median(off) < 0.01
    errors = np.array([p.error for p in model.points3D.values()])
    assert (errors >= 0).all() and errors.max() < 2 and np.median(errors) < 0.3
    assert min(p.track.length() for p in model.points3D.values()) >= 2


def test_depth_maps_for_gaussian_splatting(street: Sequence, tmp_path: Path) -> None:
    """As train.py -d depths reads them: the PNG over 2^16, times the image's scale, is inverse depth."""
    settings = replace(SETTINGS, every=4)
    write_colmap(
        tmp_path / "m", TrueRun(street), street, trajectory_of(street), settings, depth_maps=True
    )  # type: ignore[arg-type]
    parameters = json.loads((tmp_path / "m" / "sparse" / "0" / "depth_params.json").read_text())
    assert list(parameters) == ["0000000000", "0000000004", "0000000008"]
    for name, values in parameters.items():
        png = cv2.imread(str(tmp_path / "m" / "depths" / f"{name}.png"), -1).astype(np.float64)
        inverse = png / 65536 * values["scale"] + values["offset"]
        true = street.depth[int(name)]()
        off = np.abs(inverse * true - 1)[true > 0]
        assert np.median(off) < 0.01 and np.quantile(off, 0.9) < 0.1
    bent = distorted(street)
    with pytest.raises(EgodepthError, match="undistorted images alone"):
        write_colmap(tmp_path / "n", TrueRun(bent), bent, trajectory_of(bent),  # type: ignore[arg-type]
                     replace(settings, distorted=True), depth_maps=True)  # fmt: skip


def test_a_mask_leaves_depth_and_points_out(street: Sequence, tmp_path: Path) -> None:
    black = np.full((96, 320), 255, np.uint8)
    black[64:] = 0
    Image.fromarray(black).save(tmp_path / "mask.png")
    settings = replace(SETTINGS, mask=str(tmp_path / "mask.png"))
    run: Any = TrueRun(street)
    facts = write_nerfstudio(tmp_path / "s", run, street, trajectory_of(street), settings)
    assert facts.masked == pytest.approx(1 / 3, abs=0.01) and "33 % of them masked" in str(facts)
    scene = ReadScene(tmp_path / "s")
    masks = {frame["mask_path"] for frame in scene.tree["frames"]}
    mask = np.asarray(Image.open(tmp_path / "s" / masks.pop()))
    assert not masks and set(np.unique(mask)) == {0, 255} and mask.shape == (96, 320)
    assert not scene.depth(1)[mask == 0].any() and scene.depth(1)[mask > 0].any()
    write_colmap(tmp_path / "m", run, street, trajectory_of(street), settings)
    model = pytest.importorskip("pycolmap").Reconstruction(str(tmp_path / "m" / "sparse" / "0"))
    lowest = max(p.xy[1] for image in model.images.values() for p in image.points2D)
    assert lowest <= 64
    again = np.asarray(Image.open(tmp_path / "m" / "masks" / "0000000002.png.png"))
    np.testing.assert_array_equal(again, mask)


def test_a_bonnet_is_found() -> None:
    """The same as training finds, without a clip."""
    wide = np.random.default_rng(0).integers(0, 255, (30, 160, 3), dtype=np.uint8)
    wall = np.asarray(Image.fromarray(wide).resize((640, 120), Image.Resampling.BICUBIC))
    images = [wall[:, 2 * i : 2 * i + 200].copy() for i in range(100)]
    for image in images:
        image[90:] = np.arange(200)[None, :, None] // 20 % 2 * 90 + 40
    sequence = Sequence("drive", Rendered(images))
    mask = find_mask_of_footage(sequence, 120, 200)
    assert mask is not None and mask[100:].mean() > 0.9 and mask[:80].mean() < 0.05
    assert find_mask_of_footage(sequence, 60, 100) is None


def test_what_cannot_be_a_scene_is_told(street: Sequence, tmp_path: Path) -> None:
    run: Any = TrueRun(street)
    found = trajectory_of(street)
    with pytest.raises(EgodepthError, match="every 20th of 9 frames leaves 1 with a pose"):
        write_colmap(tmp_path / "m", run, street, found, replace(SETTINGS, every=20))
    # A frame that looks elsewhere shares no points.
    lost = found.poses.copy()
    lost[8] = np.diag([1.0, -1, -1, 1]) @ lost[8]
    with pytest.warns(EgodepthWarning, match=r"2 of 5 images .*: 0000000006\.png"):
        facts = write_colmap(tmp_path / "m", run, street, replace(found, poses=lost), SETTINGS)
    assert facts.frames == 3  # nothing confirms the depth of its neighbour either
    turned = np.array([np.diag([1.0, -1, -1, 1]) if i // 2 % 2 else np.eye(4) for i in range(9)])
    turned[:, 0, 3] = 100 * np.arange(9)
    with pytest.raises(EgodepthError, match="no point is at the same depth"):
        write_nerfstudio(tmp_path / "s", run, street, replace(found, poses=turned), SETTINGS)


def test_commands(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "frames", 6)
    common = ("export", "nerfstudio", tiny_run, tmp_path / "frames", "--every", 2)
    status, text, error = run_command(capsys, *common, "--out", tmp_path / "s")
    assert status == 0, error
    assert "3 frames with poses, and" in text and "lengths in the run's unit" in text
    assert (tmp_path / "s" / "transforms.json").exists()
    status, _, error = run_command(capsys, *common, "--out", tmp_path / "t", "--mask", "no.png")
    assert status == 1 and "no.png" in error and not (tmp_path / "t").exists()
    status, _, error = run_command(
        capsys,
        "export",
        "colmap",
        *common[2:],
        "--out",
        tmp_path / "t",
        "--depth_maps",
        "--distorted",
    )
    assert status == 2 and "only one of --depth_maps and --distorted" in error
