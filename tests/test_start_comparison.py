"""Tests of the comparison of a training with its start."""

import json
import math
import warnings
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from tests.conftest import tiny_settings, write_images
from torch import Tensor, nn

from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.synthetic.street import StreetDrive, read_street
from egodepth.demo import KEPT_START, run_demo
from egodepth.geometry import se3
from egodepth.geometry.camera import Camera
from egodepth.geometry.warp import warp
from egodepth.models.networks import Networks
from egodepth.runs.folder import RunFolder
from egodepth.runs.run import Run
from egodepth.settings.model import ModelSettings
from egodepth.training.run import train
from egodepth.training.start_comparison import Comparison, Views, compare

TARGETS, GAP = (6, 12, 18), 3
BETTER = Comparison(
    targets=12, told=12, error=(0.1, 0.09), disagreement=(0.1, 0.1), through_ground=(0.0, 0.0)
)


class KnownDepth(nn.Module):
    """Stands for a DepthNet: the inverse depth that belongs to each known image."""

    def __init__(self, images: Tensor, inverse: Tensor):
        super().__init__()
        self.images, self.inverse = nn.Parameter(images, requires_grad=False), inverse

    def forward(self, image: Tensor, scales: int = 4) -> list[Tensor]:
        differences = (image[:, None] - self.images[None]).abs().flatten(2).mean(2)
        return [self.inverse[differences.argmin(1)][:, None]]


def networks_of(images: Tensor, inverse: Tensor) -> Networks:
    """Networks that predict this inverse depth (N, H, W) for these images."""
    networks = Networks(ModelSettings(pretrained=False), depth=False, pose=False, features=False)
    networks.depth = KnownDepth(images, inverse)  # type: ignore[assignment]
    return networks


@pytest.fixture(scope="module")
def street() -> tuple[Tensor, Tensor, Views]:
    """Frames of a street, their inverse depth, and views of three of them."""
    drive = StreetDrive(3, 24, 96, 320)
    numbers = sorted({t + d for t in TARGETS for d in (-GAP, 0, GAP) if 0 <= t + d < 24})
    rendered = {n: drive.render(n)[:2] for n in numbers}
    images = torch.stack([
        torch.from_numpy(rendered[n][0]).permute(2, 0, 1).float() / 255 for n in numbers
    ])  # fmt: skip
    depth = np.stack([np.where(rendered[n][1] > 0, rendered[n][1], 200.0) for n in numbers])
    place = {n: i for i, n in enumerate(numbers)}
    target = images[[place[t] for t in TARGETS]]
    sources = torch.stack([images[[place[t + d] for t in TARGETS]] for d in (-GAP, GAP)])
    matrix = drive.camera.matrix.float().expand(len(TARGETS), 3, 3)
    static = torch.zeros(len(TARGETS), 96, 320, dtype=torch.bool)
    return (
        images, torch.from_numpy(1 / depth).float(), Views(target, sources, Camera(matrix, 96, 320), static)
    )  # fmt: skip


def test_true_depth_is_better_than_a_blurred_one(street: tuple[Tensor, Tensor, Views]) -> None:
    images, inverse, views = street
    blurred = nn.functional.avg_pool2d(inverse[:, None], 33, 1, 16, count_include_pad=False)[:, 0]
    true, wrong = networks_of(images, inverse), networks_of(images, blurred)
    better, worse = compare(wrong, true, [views]), compare(true, wrong, [views])
    assert better.told == worse.told == len(TARGETS)
    assert better.error[1] < 0.8 * better.error[0]
    assert not better.worse
    assert "explains held-out frames worse" in worse.worse


def test_the_unit_of_depth_does_not_matter(street: tuple[Tensor, Tensor, Views]) -> None:
    images, inverse, views = street
    found = compare(networks_of(images, inverse), networks_of(images, 7 * inverse), [views])
    assert found.error[1] == pytest.approx(found.error[0], rel=0.05)
    assert found.disagreement[1] == pytest.approx(found.disagreement[0], abs=0.02)
    assert not found.worse


def test_a_hole_in_the_road_is_found(street: tuple[Tensor, Tensor, Views]) -> None:
    images, inverse, views = street
    holes = inverse.clone()
    holes[:, 60:80, 140:180] /= 3
    found = compare(networks_of(images, inverse), networks_of(images, holes), [views])
    assert found.through_ground[0] < 0.01
    assert found.through_ground[1] > 0.05
    assert found.worse


def test_ground_in_few_frames_is_none(street: tuple[Tensor, Tensor, Views]) -> None:
    images, inverse, views = street
    walls = torch.full_like(inverse, 0.2)
    one = walls.clone()
    shown = (images - views.target[0]).abs().flatten(1).mean(1).argmin()
    one[shown] = inverse[shown]
    found = compare(networks_of(images, one), networks_of(images, walls), [views])
    assert all(math.isnan(share) for share in found.through_ground)
    found = compare(networks_of(images, inverse), networks_of(images, walls), [views])
    assert found.through_ground == (pytest.approx(0, abs=0.01), 1)


def test_still_frames_tell_nothing(street: tuple[Tensor, Tensor, Views]) -> None:
    images, inverse, views = street
    generator = torch.Generator().manual_seed(0)
    noise = 0.01 * torch.randn(2, *views.target.shape, generator=generator)
    still = Views(views.target, views.target + noise, views.camera, views.static)
    same = networks_of(images, inverse)
    found = compare(same, same, [still])
    assert found.told == 0
    assert math.isnan(found.error[0])
    assert "parallax" in found.worse


@pytest.mark.parametrize("degrees", [1, 10])
def test_a_camera_that_only_turns_tells_nothing(degrees: int) -> None:
    drive = StreetDrive(3, 24, 96, 480)
    rendered = [drive.render(number)[:2] for number in TARGETS]
    wide = torch.stack([torch.from_numpy(i).permute(2, 0, 1).float() / 255 for i, _ in rendered])
    whole = Camera(drive.camera.matrix.float().expand(len(TARGETS), 3, 3), 96, 480)
    moved = whole.matrix.clone()
    moved[:, 0, 2] -= 80
    camera = Camera(moved, 96, 320)
    depth = torch.full((len(TARGETS), 96, 320), 1e4)

    def seen_at(angle: float) -> Tensor:
        turn = se3.exp(torch.tensor([0, math.radians(angle), 0, 0, 0, 0])).expand(
            len(TARGETS), 4, 4
        )
        return warp(wide, depth, turn, camera, whole)[0]

    target, sources = wide[..., 80:400], torch.stack([seen_at(-degrees), seen_at(degrees)])
    static = torch.zeros(len(TARGETS), 96, 320, dtype=torch.bool)
    true = torch.stack([torch.from_numpy(np.where(d > 0, d, 200.0)) for _, d in rendered]).float()
    images = torch.cat([target, *sources])
    right = (1 / true[..., 80:400]).repeat(3, 1, 1)
    views = Views(target, sources, camera, static)
    found = compare(networks_of(images, right), networks_of(images, right.flip(-2)), [views])
    assert found.told == 0
    assert "parallax" in found.worse


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"error": (0.1, 0.102)}, "explains"),
        ({"told": 2}, "parallax"),
        ({"through_ground": (0.0, 0.1)}, "ground"),
        ({"error": (0.1, 0.1), "disagreement": (0.1, 0.3)}, "disagree"),
        ({"disagreement": (0.1, 0.3)}, ""),
        ({"targets": 2, "told": 2}, ""),
    ],
)
def test_what_counts_as_worse(changed: dict[str, object], why: str) -> None:
    comparison = Comparison(**{**vars(BETTER), **changed})  # type: ignore[arg-type]
    assert (why in comparison.worse) if why else not comparison.worse
    assert comparison.facts()["worse"] == comparison.worse


def test_a_training_that_ends_worse_keeps_its_start(tmp_path: Path, tiny_run: Path) -> None:
    write_images(tmp_path / "frames", 12)  # which pan over a flat picture, without parallax
    settings = tiny_settings(tmp_path / "frames", steps=2, init=tiny_run)
    result = train(settings, tmp_path / "run")
    assert result.comparison is not None
    assert result.comparison.worse
    kept = RunFolder.at(tmp_path / "run").start
    assert kept.exists
    with pytest.warns(EgodepthWarning, match="ended worse than it started"):
        used = Run.load(tmp_path / "run", "cpu")
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    before = Run.load(tiny_run, "cpu").depth(image)
    assert np.allclose(used.depth(image), before, rtol=1e-4)
    assert used.folder.path == kept.path
    with pytest.raises(EgodepthError, match="already holds a run"):
        train(settings, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.ckpt").rename(tmp_path / "trained.ckpt")
    again = train(settings.changed(init=None), tmp_path / "run")
    assert again.comparison is None and not kept.path.exists(), "a start outlived its training"
    (tmp_path / "trained.ckpt").rename(tmp_path / "run" / "checkpoint.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("error", EgodepthWarning)
        trained = Run.load(tmp_path / "run", "cpu").depth(image)
    assert not np.allclose(trained, before, rtol=1e-4)


def test_a_training_is_compared_halfway_too(
    tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("egodepth.core.progress.note", said.append)
    monkeypatch.setattr("egodepth.training.callbacks.COMPARED_AFTER", 2)
    write_images(tmp_path / "frames", 12)
    train(tiny_settings(tmp_path / "frames", steps=4, init=tiny_run), tmp_path / "run")
    found = [line for line in said if "so far this training is not better than its start" in line]
    assert len(found) == 1
    assert found[0].startswith("step 2: ")


def small_demo(monkeypatch: pytest.MonkeyPatch, init: Path, frames: Path) -> None:
    """Let the demo train two steps on these frames, and score a short street."""
    settings = tiny_settings(frames, steps=2, init=init, recipe="demo")
    monkeypatch.setattr("egodepth.demo.requested_settings", lambda *_, **__: settings)
    monkeypatch.setattr("egodepth.demo.read_source", lambda _: [read_street(3, frames=12)])
    monkeypatch.setattr("egodepth.demo.train", lambda _, out: train(settings, out))


def test_the_demo_says_that_it_kept_its_start(
    tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "frames", 12)
    small_demo(monkeypatch, tiny_run, tmp_path / "frames")
    with pytest.warns(EgodepthWarning, match="ended worse than it started"):
        result = run_demo(tmp_path / "demo", minutes=2)
    assert result.kept_start
    metrics = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    assert metrics["kept_start"] == result.kept_start
    assert KEPT_START[1:] in (tmp_path / "demo" / "report.html").read_text()


def test_a_run_named_start_is_neither_used_nor_replaced(tmp_path: Path, tiny_run: Path) -> None:
    copytree(tiny_run, tmp_path / "runs" / "start")
    copytree(tiny_run, tmp_path / "runs", dirs_exist_ok=True)
    assert RunFolder.to_use(tmp_path / "runs").path == tmp_path / "runs"
    (tmp_path / "runs" / "checkpoint.ckpt").unlink()
    write_images(tmp_path / "frames", 5)
    with pytest.raises(EgodepthError, match="is a run of its own"):
        train(tiny_settings(tmp_path / "frames", steps=1), tmp_path / "runs")
    assert (tmp_path / "runs" / "start" / "checkpoint.ckpt").exists()


def test_a_training_from_imagenet_is_not_compared(tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 5)
    settings = tiny_settings(tmp_path / "frames", steps=1)
    assert train(settings, tmp_path / "run").comparison is None
