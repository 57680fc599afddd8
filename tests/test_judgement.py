import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import TINY

from egodepth.cli import main
from egodepth.core.config import override
from egodepth.core.errors import EgodepthError
from egodepth.data.sources import read_source
from egodepth.evaluation.depth import get_protocol
from egodepth.geometry.warp import warp
from egodepth.losses.masking import automask, mean_over_sources, minimum_over_sources
from egodepth.losses.photometric import photometric_loss, target_statistics
from egodepth.settings.training import TrainSettings
from egodepth.training.judgement import (
    OFFSETS,
    base_settings,
    judge_losses,
    loss_settings,
    pixel_losses,
)
from egodepth.training.known_snippets import KnownSnippet, fill_in, find_known_snippets

HEIGHT, WIDTH, FOCAL, DEPTH, SHIFT = 32, 64, 40.0, 2.0, 4
"""The camera moves sideways past a wall, by 4 pixels of parallax per frame."""
SMALL = override(
    TrainSettings(), {name: value for name, value in TINY.items() if name.startswith("model.")}
)


def write_wall(
    folder: Path, *, flat: bool = False, step: int = SHIFT, motion: int = SHIFT, frames: int = 5
) -> Path:
    """A prepared folder of a textured or flat wall parallel to the image, with depth and poses in metres.

    Args:
        step, motion: pixels by which the images, and those by which the poses, move per frame.
    """
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 215, (HEIGHT // 4, WIDTH, 3), dtype=np.uint8)
    wall = np.asarray(Image.fromarray(coarse).resize((4 * WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    rows = []
    for i in range(frames):
        left = step * i
        image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8) if flat else wall[:, left : left + WIDTH]
        Image.fromarray(image).save(folder / "images" / f"{i:03d}.png")
        np.save(folder / "depth" / f"{i:03d}.npy", np.full((HEIGHT, WIDTH), DEPTH, np.float32))
        rows.append(f"1 0 0 {motion * i * DEPTH / FOCAL} 0 1 0 0 0 0 1 0\n")
    (folder / "poses.txt").write_text("".join(rows))
    (folder / "camera.yaml").write_text(
        f"fx: {FOCAL}\nfy: {FOCAL}\ncx: 31.5\ncy: 15.5\nwidth: {WIDTH}\nheight: {HEIGHT}\n"
        "poses_unit: metres\n"
    )
    return folder


def snippet_of(folder: Path, settings: TrainSettings = SMALL) -> KnownSnippet:
    return find_known_snippets([*read_source(folder)], settings, get_protocol("indoor"), (2,))[0]


def test_every_loss_finds_the_true_depth_of_a_textured_wall(tmp_path: Path) -> None:
    sequences = read_source(write_wall(tmp_path))
    torch.manual_seed(0)
    losses = {
        text: loss_settings(SMALL, text)
        for text in (
            "method=photometric",
            "method=images loss.photometric=0 loss.feature_comparison=structural",
            "loss.photometric=0",
            "loss.feature_metric=0.3 loss.feature_comparison=structural loss.feature_levels=[0,1]",
            "loss.photometric=0 loss.feature_scale=2",
        )
    }
    results = judge_losses(sequences, losses, "indoor")
    for text, found in results.items():
        assert found.pixels == 3 * HEIGHT * WIDTH and len(found.frames) == 3
        assert np.min(found.better["all"]) > 0.85, (text, found.better)
    photometric = results["method=photometric"]
    assert np.min(photometric.better["all"]) > 0.95 and photometric.mean() > 0.97
    assert photometric.dropped["all"] == {"photometric": pytest.approx(0, abs=0.03)}


def test_a_loss_is_indifferent_to_a_wall_without_texture(tmp_path: Path) -> None:
    """All losses are equal, so that no depth is better."""
    found = judge_losses(
        read_source(write_wall(tmp_path, flat=True)),
        {"L_ph": loss_settings(SMALL, "method=photometric")}, "indoor",
    )["L_ph"]  # fmt: skip
    np.testing.assert_allclose(found.better["all"], 0.5, atol=0.02)


def test_a_wrong_truth_is_not_preferred(tmp_path: Path) -> None:
    """Where the "true" depth is 20 % too near, an inverse depth that is 20 % lower is better."""
    folder = write_wall(tmp_path)
    for path in (folder / "depth").iterdir():
        np.save(path, np.full((HEIGHT, WIDTH), DEPTH / 1.25, np.float32))
    found = judge_losses(
        read_source(folder), {"L_ph": loss_settings(SMALL, "method=photometric")}, "indoor"
    )["L_ph"].better["all"]
    assert found[OFFSETS.index(-0.2)] < 0.05 and found[OFFSETS.index(0.4)] > 0.9


@pytest.mark.parametrize("over", ["minimum", "mean"])
def test_the_loss_of_a_pixel_is_the_one_that_is_trained(tmp_path: Path, over: str) -> None:
    """Against L_ph computed step by step, at a wrong depth and with the automask."""
    settings = loss_settings(SMALL, f"method=photometric loss.over_sources={over}")
    snippet = snippet_of(write_wall(tmp_path), settings)
    batch, depth = snippet.batch, 1 / (1.2 * snippet.inverse_depth[:, 0])
    statistics = target_statistics(batch.target)
    views = torch.stack([
        warp(source, depth, motion, batch.camera, batch.camera)[0]
        for source, motion in zip(batch.sources, snippet.motions, strict=True)
    ])  # fmt: skip
    combine = {"minimum": minimum_over_sources, "mean": mean_over_sources}[over]
    free = combine(photometric_loss(views, statistics))
    masked = automask(free, combine(photometric_loss(batch.sources, statistics)))
    for automasked, wanted in ((True, masked), (False, free)):
        found = pixel_losses(None, snippet, 0.2, settings.changed(automask=automasked))
        torch.testing.assert_close(found["photometric"], wanted[0], atol=1e-6, rtol=1e-4)


def test_stride_and_progress_change_what_is_judged(tmp_path: Path) -> None:
    sequences = read_source(write_wall(tmp_path))
    far = loss_settings(SMALL, "method=photometric data.stride=2")
    snippet = find_known_snippets(sequences, far, get_protocol("indoor"))
    assert len(snippet) == 1  # of five frames
    assert snippet[0].motions[0, 0, 0, 3].abs() == pytest.approx(2 * SHIFT * DEPTH / FOCAL)
    near = loss_settings(SMALL, "method=photometric")
    assert set(pixel_losses(None, snippet[0], 0.1, near, 0.5)) == {"photometric", "coarse"}
    assert set(pixel_losses(None, snippet[0], 0.1, near, 1.0)) == {"photometric"}


def test_features_may_have_the_mask_of_the_images(tmp_path: Path) -> None:
    """All images are the same, although the poses move: what is seen moves with the camera."""
    losses = {
        mask: loss_settings(SMALL, f"loss.feature_mask={mask} loss.feature_levels=[0,1]")
        for mask in ("own", "photometric")
    }
    stuck = judge_losses(read_source(write_wall(tmp_path / "stuck", step=0)), losses, "indoor")
    for found in stuck.values():
        assert found.dropped["all"]["photometric"] > 0.95
    assert stuck["photometric"].dropped["all"]["feature_metric"] == pytest.approx(
        stuck["photometric"].dropped["all"]["photometric"]
    )
    assert stuck["own"].dropped["all"]["feature_metric"] > 0.8
    moving = judge_losses(read_source(write_wall(tmp_path / "moving")), losses, "indoor")
    for found in moving.values():
        assert max(found.dropped["all"].values()) < 0.1


def test_depth_is_filled_in_as_on_a_plane() -> None:
    rows, columns = np.indices((12, 16)).astype(np.float32)
    plane = 0.1 + 0.01 * rows + 0.02 * columns
    sparse = np.where((rows % 3 == 0) & (columns % 4 == 0), plane, 0).astype(np.float32)
    filled = fill_in(sparse)
    np.testing.assert_allclose(filled[:10, :13], plane[:10, :13], rtol=1e-5)
    assert (filled > 0).all()
    line = np.zeros((5, 5), np.float32)
    line[2] = 0.5
    np.testing.assert_allclose(fill_in(line), 0.5)


def test_the_command_compares_losses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_wall(tmp_path / "wall")
    common = " ".join(f"{n}={v}" for n, v in TINY.items() if n in ("model.height", "model.width"))
    common += " model.feature_encoder=test_efficientnet model.pretrained=false"
    words = ["judge", str(folder), "--common", common, "--losses", "method=photometric"]
    words += ["loss.photometric=0", "--frames", "2", "--json", str(tmp_path / "l.json")]
    assert main(words) == 0
    assert "least texture" in capsys.readouterr().out
    found = json.loads((tmp_path / "l.json").read_text())
    assert list(found["losses"]) == ["method=photometric", "loss.photometric=0"]
    first = found["losses"]["method=photometric"]
    assert len(first["better"]["all"]) == len(first["offsets"]) == 6 and first["mean"]["all"] > 0.9
    assert first["frames"] == ["2 of wall"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--losses", "photometric"], "write NAME=VALUE"),
        (["--losses", "loss.feature_metrics=1"], "did you mean 'loss.feature_metric'"),
        (["--losses", "steps=100"], "changes no loss"),
        (["--losses", "loss.over_sources=median"], "loss.over_sources must be"),
        (["--losses", "loss.feature_levels=[0,0]"], "needs one share above zero"),
        (["--losses", "method=images loss.feature_scale=2"], "leave loss.feature_scale alone"),
        (["--losses", "method=photometric loss.photometric=0"], "no term that depends on depth"),
        (["--losses", "method=frozen"], "needs --feature_run"),
        (["--losses", "method=photometric", "method=photometric"], "given twice"),
        (["--losses", "automask=true automask=false"], "given twice"),
        (["--base", "builtim"], "neither a run nor a recipe"),
        (["--base", "footage"], "data.stride=N"),
        (["--frames", "77"], "there is no frame 77"),
        (["--frames", "0"], "there is no frame -1"),
        (["--common", "data.stride=3"], "no source"),
        (["--common", "data.views=stereo"], "no second camera"),
    ],
)
def test_what_cannot_be_judged_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    folder = write_wall(tmp_path)
    assert main(["judge", str(folder), *words]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: [p.unlink() for p in (f / "depth").iterdir()], "no ground-truth depth"),
        (lambda f: (f / "poses.txt").unlink(), "no poses"),
        (lambda f: (f / "poses.txt").write_text("nan " * 12 + "\n" + "1 0 0 1 0 1 0 0 0 0 1 0\n" * 2
                                                + ("nan " * 12 + "\n") * 2), "has no pose"),
        (lambda f: (f / "camera.yaml").write_text(
            (f / "camera.yaml").read_text().replace("poses_unit: metres\n", "")), "poses_unit"),
        (lambda f: [np.save(p, np.full((HEIGHT, WIDTH), 2000, np.float32))
                    for p in (f / "depth").iterdir()], "in range at 0 pixels"),
    ],
)  # fmt: skip
def test_footage_that_cannot_judge_says_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], break_it: object, message: str
) -> None:
    folder = write_wall(tmp_path)
    break_it(folder)  # type: ignore[operator]
    assert main(["judge", str(folder)]) == 1
    *_, error = capsys.readouterr().err.splitlines()  # after warnings
    assert error.startswith("egodepth: no true depth") and message in error


def test_a_still_camera_judges_nothing(tmp_path: Path) -> None:
    with pytest.raises(EgodepthError, match="hardly moves"):
        judge_losses(
            read_source(write_wall(tmp_path, motion=0)),
            {"L_ph": loss_settings(SMALL, "method=photometric")}, "indoor",
        )  # fmt: skip


def test_a_run_brings_its_own_features(tiny_run: Path, tmp_path: Path) -> None:
    base = base_settings(str(tiny_run))
    assert base.init == tiny_run
    settings = loss_settings(base, "loss.photometric=0 data.stride=1")
    found = judge_losses(read_source(write_wall(tmp_path)), {"L_fm": settings}, "indoor")["L_fm"]
    frozen = loss_settings(SMALL, f"method=frozen feature_run={tiny_run} loss.photometric=0")
    same = judge_losses(read_source(tmp_path), {"L_fm": frozen}, "indoor")["L_fm"]
    assert same.better == found.better
