from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import write_images

import egodepth
from egodepth.cli import main
from egodepth.core.errors import EgodepthError
from egodepth.data.sets.seven_scenes import HEIGHT, WIDTH, read_seven_scenes, register_depth
from egodepth.data.synthetic.street import read_street
from egodepth.evaluation.landscape import descend, score_surfaces, texture
from egodepth.inference.scoring.landscape import draw_landscape, find_matches, loss_surfaces
from egodepth.models.networks import FeatureNet
from egodepth.settings.model import ModelSettings

LINE = np.arange(-10, 11) * 0.5
X, Y = np.meshgrid(LINE, LINE)


def test_a_bowl_is_one_basin() -> None:
    scores = score_surfaces((X**2 + 2 * Y**2)[None], 0.5).mean()
    assert scores == {
        "basin": 5.0,
        "reach": 1.0,
        "minima": 1.0,
        "plateau": pytest.approx(0, abs=0.01),
        "miss": 0.0,
        "near_miss": 0.0,
    }


def test_a_wall_bounds_the_basin() -> None:
    # Beyond |x| = 3 the surface falls outwards: those starts end at the border.
    ridge = np.where(np.abs(X) <= 3, np.abs(X), 6 - np.abs(X)) + 0.01 * np.abs(Y)
    scores = score_surfaces(ridge[None], 0.5)
    assert 2 <= scores.basin[0] <= 3 and 0.5 < scores.reach[0] < 0.7


def test_a_shifted_minimum_is_not_the_truth() -> None:
    scores = score_surfaces(((X - 3) ** 2 + Y**2)[None], 0.5)
    assert scores.basin[0] == 0 and scores.reach[0] == 0 and scores.minima[0] == 1
    assert scores.miss[0] == 3
    further = score_surfaces(((X - 4) ** 2 + Y**2)[None], 0.5)
    assert further.miss[0] == 4 and further.near_miss[0] == 3


def test_flat_surroundings_are_a_plateau() -> None:
    hole = np.minimum(X**2 + Y**2, 4)
    scores = score_surfaces(np.stack([hole, X**2 + Y**2]), 0.5, scale=1.0)
    assert scores.plateau[0] > 0.7 > 0.1 > scores.plateau[1]
    assert 1.5 <= scores.basin[0] <= 2 and scores.basin[1] == 5


def test_descent_agrees_with_one_start_at_a_time() -> None:
    surface = np.random.default_rng(0).random((1, 9, 9))
    ends = descend(surface)[0]
    for start in range(81):
        y, x = divmod(start, 9)
        while True:
            falls = [
                ((surface[0, y, x] - surface[0, v, u]) / np.hypot(v - y, u - x), v, u)
                for v in range(max(y - 1, 0), min(y + 2, 9))
                for u in range(max(x - 1, 0), min(x + 2, 9))
                if (v, u) != (y, x)
            ]
            fall, v, u = max(falls)
            if fall <= 0:
                break
            y, x = v, u
        assert ends[start] == 9 * y + x


def test_texture_of_a_ramp_is_its_slope() -> None:
    ramp = np.repeat(np.arange(20)[None, :, None] * 0.02, 15, axis=0).repeat(3, axis=2)
    np.testing.assert_allclose(texture(ramp), 0.02)


def test_true_matches_of_the_street_are_near_the_minima() -> None:
    matches = find_matches(read_street(3), 20, height=96, width=320, count=80, margin=6)
    surfaces = loss_surfaces(matches, None, radius=6, step=1)
    assert len(matches) == 80 and matches.origin == "ground truth"
    photometric = surfaces["photometric"]
    assert photometric.shape == (80, 13, 13)
    rank = (photometric < photometric[:, 6:7, 6:7]).mean((1, 2))
    assert np.median(rank) < 0.05  # hardly any displacement is better than none


def test_features_are_sampled_where_the_image_is() -> None:
    """Of one frame matched with itself, every loss has its least value in the middle."""
    torch.manual_seed(0)
    street = read_street(3)
    matches = find_matches(street, 20, height=96, width=320, offset=1, count=40, margin=6)
    same = type(matches)(
        matches.target, matches.target, matches.pixels,
        matches.pixels[:, None, None]
        + torch.stack(torch.meshgrid(*[torch.tensor([-1.0, 0, 1])] * 2, indexing="xy"), -1),
        matches.texture, matches.origin,
    )  # fmt: skip
    net = FeatureNet(ModelSettings(feature_encoder="mobilenetv3_small_050", pretrained=False))
    for level in (0, 1):
        for name, values in loss_surfaces(same, net.eval(), radius=4, step=1, level=level).items():
            assert (values[:, 4, 4] <= values.min((1, 2)) + 1e-6).all(), (level, name)


def test_the_command_draws_and_scores(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "frames", 4)
    words = ["landscape", str(tiny_run), str(tmp_path / "frames"), "--frame", "1", "--fov", "60"]
    words += ["--radius", "4", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "feature_metric" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "landscape.png") as picture:
        assert picture.width > 600
    assert main([*words, "--pixel", "40", "20"]) == 0
    assert (tmp_path / "out" / "landscape.json").read_text().count("basin") == 4
    assert "removed the 2 files of an earlier landscape" in capsys.readouterr().err
    for wrong, message in (
        (["--pixel", "400", "20"], "lies outside of the frame"),
        (["--level", "9"], "levels 0 to"),
        (["--step", "9"], "0 < step"),
        (["--offset", "5"], "is not among them"),
        (["--frame", "77"], "has no frame 77"),
    ):
        others = words if wrong[0] != "--frame" else [w for w in words if w not in ("--frame", "1")]
        assert main([*others, *wrong]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def make_seven_scenes(root: Path) -> Path:
    folder = root / "scene" / "seq-01"
    folder.mkdir(parents=True)
    for number in range(2):
        stem = folder / f"frame-{number:06d}"
        Image.new("RGB", (WIDTH, HEIGHT)).save(f"{stem}.color.jpg")
        Path(f"{stem}.pose.txt").write_text(f"1 0 0 {number}\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    depth = np.full((HEIGHT, WIDTH), 2000, np.uint16)
    depth[:, :100] = 65535
    Image.fromarray(depth).save(folder / "frame-000000.depth.png")
    return folder


def test_seven_scenes(tmp_path: Path) -> None:
    folder = make_seven_scenes(tmp_path)
    (sequence,) = read_seven_scenes(tmp_path)
    assert sequence.name == "scene/seq-01" and list(sequence.depth) == [0]
    assert sequence.world_from_camera is not None
    np.testing.assert_allclose(sequence.world_from_camera[1, :3, 3], [1, 0, 0])
    depth = sequence.depth[0]()
    assert set(np.unique(depth)) == {0, 2}
    # Column 100 of the depth camera: ((100 - 320) / 585 * 2 - 0.025) / 2 * 525 + 320 = 116.0
    assert (depth[240, :116] == 0).all() and (depth[240, 116:320] > 0).mean() > 0.8
    (folder / "frame-000001.pose.txt").write_text("1 2 3")
    with pytest.raises(EgodepthError, match=r"the pose .*frame-000001"):
        read_seven_scenes(tmp_path)
    with pytest.raises(EgodepthError, match="no 7-Scenes sequences under"):
        read_seven_scenes(tmp_path / "scene" / "none")


def test_registered_depth_keeps_the_nearest() -> None:
    depth = np.zeros((HEIGHT, WIDTH), np.float32)
    depth[240, 320], depth[240, 321] = 1.0, 4.0
    registered = register_depth(depth)
    # x: -0.025 * 525 / 1 + 320 = 306.9; ((1 / 585 * 4) - 0.025) / 4 * 525 + 320 = 317.6
    assert registered[237, 307] == 1 and registered[239, 318] == 4
    assert (registered > 0).sum() == 2


@pytest.mark.real_data
def test_real_frames_of_7_scenes(data: Path) -> None:
    (sequence,) = read_seven_scenes(data / "seven_scenes")
    assert len(sequence.frames) == 600 and len(sequence.depth) == 120
    assert sequence.world_from_camera is not None
    inverted = replace(sequence, world_from_camera=np.linalg.inv(sequence.world_from_camera))
    ranks = {}
    for name, poses in (("given", sequence), ("inverted", inverted)):
        values = []
        for index in range(0, 600, 100):
            matches = find_matches(
                poses, index, height=256, width=320, offset=5, count=100, margin=4
            )
            photometric = loss_surfaces(matches, None, radius=4, step=1)["photometric"]
            values.append((photometric < photometric[:, 4:5, 4:5]).mean((1, 2)))
        ranks[name] = np.median(np.concatenate(values))
    # Share of displacements that explain the neighbour better than depth and poses do.
    assert ranks["given"] < 0.15 < 0.25 < ranks["inverted"], ranks
    with pytest.raises(EgodepthError, match="has no ground-truth depth and poses"):
        find_matches(sequence, 101, height=256, width=320)


def test_a_run_serves_where_there_is_no_truth(tiny_run: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 3)
    from egodepth.data.footage.own_footage import read_footage

    (opened,) = egodepth.load(tiny_run).open(tmp_path / "frames", fov=60.0)
    result = draw_landscape(tiny_run, opened, 1, radius=4)
    assert "prediction of" in result.protocol
    # The run's own camera is 60 degrees wide too.
    by_run = draw_landscape(tiny_run, read_footage(tmp_path / "frames"), 1, radius=4)
    np.testing.assert_allclose(by_run.pixels, result.pixels)
