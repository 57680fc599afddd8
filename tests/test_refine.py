import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import write_images
from tests.layouts import make_raw

from egodepth import refine
from egodepth.cli import main
from egodepth.core.errors import EgodepthError
from egodepth.data.footage.own_footage import read_camera, read_footage
from egodepth.data.preparation.clips import read_clips
from egodepth.data.preparation.survey import Survey
from egodepth.data.sequence import Sequence
from egodepth.geometry.camera import Camera
from egodepth.models.networks import Networks
from egodepth.refine import SampleRefinement, refine_samples, refine_split
from egodepth.runs.cameras import with_camera
from egodepth.runs.folder import RunFolder
from egodepth.runs.run import Run
from egodepth.settings.training import DataSettings, TrainSettings
from egodepth.training import pose_source
from egodepth.training.batch import SnippetBatch
from egodepth.training.held_out import HeldOutResult
from egodepth.training.hold_out import hold_out_every
from egodepth.training.objective import depth_loss
from egodepth.training.run import train
from egodepth.training.snippets import SnippetStream


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    write_images(tmp_path / "frames", 5)
    return tmp_path / "frames"


def test_every_sample_starts_afresh(tiny_run: Path, frames: Path) -> None:
    footage = read_footage(frames)
    plain = Run.load(tiny_run)
    how = SampleRefinement(iterations=2, learning_rate=1e-3)
    whole = list(refine_samples(tiny_run, footage, how, device="cpu"))
    assert len(whole) == 5 and all(np.isfinite(p.first_from_frame).all() for p in whole)
    for prediction in whole:
        assert not np.allclose(prediction.depth, plain.depth(prediction.frame.image), rtol=1e-3)
    # A frame refined alone comes out as it does after all the others.
    (alone,) = refine_samples(tiny_run, footage, how, frames=[3], device="cpu")
    np.testing.assert_allclose(alone.depth, whole[3].depth, rtol=1e-4)
    (untouched,) = refine_samples(
        tiny_run, footage, SampleRefinement(iterations=0), frames=[3], device="cpu"
    )
    np.testing.assert_allclose(untouched.depth, plain.depth(untouched.frame.image), rtol=1e-5)


def test_more_iterations_lower_the_loss_on_the_sample(tiny_run: Path, frames: Path) -> None:
    from egodepth.data.preparation.clips import read_clips
    from egodepth.refine import _load
    from egodepth.training.augment import augment
    from egodepth.training.objective import compute_objective
    from egodepth.training.snippets import SnippetStream

    settings, networks = _load(RunFolder.at(tiny_run))
    footage = with_camera(read_footage(frames), settings.data)
    clips = read_clips([footage], 32, 64, frames.parent / "cache")
    stream = SnippetStream(clips, directions=(-1, 1), batch_size=1, seed=0)
    batch = augment(stream.snippet_near(0, 0), 0, enabled=False)
    assert stream.snippet_near(0, 0).frames.equal(stream.snippet_near(0, 1).frames)
    before = compute_objective(networks, batch, settings, 1.0).total.item()
    import torch

    optimizer = torch.optim.Adam([p for p in networks.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(20):
        optimizer.zero_grad()
        compute_objective(networks, batch, settings, 1.0).total.backward()
        optimizer.step()
    assert compute_objective(networks, batch, settings, 1.0).total.item() < 0.98 * before


def test_both_modes_from_the_command_line(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = np.random.default_rng(0).uniform([5, -3, -1, 0], [30, 3, 0, 1], (500, 4))
    make_raw(tmp_path / "raw", scan=scan.astype(np.float32))
    source = f"kitti_raw:{tmp_path / 'raw'}"
    words = ["refine", str(tiny_run), source, "--device", "cpu", "--out"]
    assert main([*words, str(tmp_path / "s"), "--iterations", "2", "--truth_only"]) == 0
    scores = json.loads((tmp_path / "s" / "scores.json").read_text())
    assert "refined on each test frame by 2 iterations" in scores["protocol"]
    assert len(list((tmp_path / "s" / "depth").iterdir())) == 1
    assert main([*words, str(tmp_path / "r"), "--mode", "split", "--epochs", "2"]) == 0
    evaluate = ["evaluate", "depth", str(tmp_path / "r"), "--data", source, "--json"]
    assert main([*evaluate, str(tmp_path / "r.json")]) == 0
    protocol = json.loads((tmp_path / "r.json").read_text())["protocol"]
    assert f"refined on all frames of {source} for 2 epochs" in protocol
    assert "refined" in capsys.readouterr().out


def test_footage_is_refined_with_the_camera_and_rate_that_are_typed(
    tiny_run: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[Sequence] = []
    make_streams = refine._make_streams

    def watched(settings: TrainSettings, footage: list[Sequence], gap: int) -> Any:
        seen.extend(footage)
        return make_streams(settings, footage, gap)

    monkeypatch.setattr(refine, "_make_streams", watched)
    size = read_footage(frames).frames.height, read_footage(frames).frames.width
    file = tmp_path / "other.yaml"
    file.write_text(
        f"fx: 61\nfy: 61\ncx: {size[1] / 2}\ncy: {size[0] / 2}\nwidth: {size[1]}\nheight: {size[0]}\n"
    )
    words = ["refine", str(tiny_run), str(frames), "--device", "cpu"]
    for place, (option, value) in enumerate((("--fov", "100"), ("--camera", str(file)))):
        out = tmp_path / f"sample{place}"
        assert (
            main([*words, "--out", str(out), option, value, "--iterations", "0", "--fps", "5"]) == 0
        )
        focal = float(seen[-1].camera.matrix[0, 0])  # type: ignore[union-attr]
        expected = size[1] / 2 / math.tan(math.radians(50)) if option == "--fov" else 61
        assert focal == pytest.approx(expected, rel=1e-4)
        np.testing.assert_allclose(seen[-1].frames.times, np.arange(5) / 5)
        out = tmp_path / f"split{place}"
        status = main(
            [*words, "--out", str(out), option, value, "--mode", "split", "--epochs", "1"]
        )
        assert status == 0 and read_camera(out / "camera.yaml").matrix[0, 0] == pytest.approx(
            expected,
            rel=0.05,  # a field of view is refined
        )
        data = RunFolder.at(out).data_settings()
        assert data.fov == (100 if option == "--fov" else None)
        assert data.camera == (None if option == "--fov" else out / "camera.yaml")
    # From Python, footage is opened so.
    opened = Run.load(tiny_run).open(frames, fov=100)[0].with_fps(5)
    list(refine_samples(tiny_run, opened, SampleRefinement(0), frames=[2], device="cpu"))
    assert seen[-1].camera is opened.camera
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "x"), "--fov", "175"]) == 2
    assert "up to 170, got" in capsys.readouterr().err


def test_what_was_refined_is_told_when_scoring_fails_or_work_is_interrupted(
    tiny_run: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(*_: object, **__: object) -> None:
        raise EgodepthError("no pixel to score")

    make_raw(tmp_path / "raw", scan=np.float32([[10, 0, 0, 1]]))
    source = f"kitti_raw:{tmp_path / 'raw'}"
    words = ["refine", str(tiny_run), source, "--device", "cpu", "--iterations", "0", "--out"]
    with monkeypatch.context() as patch:
        patch.setattr("egodepth.inference.scoring.depth_scores.evaluate_depth", fail)
        assert main([*words, str(tmp_path / "out"), "--truth_only"]) == 0
    told = capsys.readouterr().err.splitlines()[-1]
    assert (
        told == f"egodepth: the depth maps in {tmp_path / 'out'} are not scored: no pixel to score"
    )

    refined = refine.refine_samples

    def interrupted(*arguments: Any, **options: Any) -> Iterator[object]:
        predictions = refined(*arguments, **options)
        yield next(predictions)
        raise KeyboardInterrupt

    monkeypatch.setattr(refine, "refine_samples", interrupted)
    words[2] = str(frames)
    assert main([*words, str(tmp_path / "some")]) == 130
    assert (
        f"interrupted after 1 of 5 frames of frames; {tmp_path / 'some'} holds"
        in capsys.readouterr().err
    )


def test_a_sample_is_refined_by_the_networks_that_the_run_keeps(
    tiny_run: Path, frames: Path, tmp_path: Path
) -> None:
    how = SampleRefinement(iterations=2, learning_rate=1e-3)
    footage = Run.load(tiny_run).open(frames)[0]

    def refined(run: Path) -> np.ndarray:
        (one,) = refine_samples(run, footage, how, frames=[2], device="cpu")
        return one.depth

    # Neither ImageNet's weights nor the run that FeatureNet came from are asked for again.
    shutil.copytree(tiny_run, tmp_path / "frozen")
    file = tmp_path / "frozen" / "config.yaml"
    changed = {"method: joint": "method: frozen", "feature_run: null": "feature_run: /gone",
               "pretrained: false": "pretrained: true"}  # fmt: skip
    text = file.read_text()
    for old, new in changed.items():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    assert np.isfinite(refined(tmp_path / "frozen")).all()
    Run.load(tiny_run).save_pretrained(tmp_path / "shared")
    assert np.isfinite(refined(tmp_path / "shared")).all()


def test_the_split_of_the_training_does_not_hold_for_test_frames(
    tiny_run: Path, frames: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    config_file = run / "config.yaml"
    text = config_file.read_text()
    assert "split: null" in text
    config_file.write_text(text.replace("split: null", "split: odometry_train"))
    how = SampleRefinement(iterations=1)
    (one,) = refine_samples(run, read_footage(frames), how, frames=[2], device="cpu")
    assert np.isfinite(one.depth).all()
    result = refine_split(
        run, str(frames), [read_footage(frames)], tmp_path / "refined", epochs=0.5, device="cpu"
    )
    assert result.steps >= 1


def test_a_stream_is_split_into_what_is_learned_from_and_what_is_held_out(frames: Path) -> None:
    write_images(frames, 14)
    footage = with_camera(read_footage(frames), DataSettings(fov=60))
    clips = read_clips([footage], 32, 64, frames.parent / "cache")
    stream = SnippetStream(clips, directions=(-1, 1), batch_size=2, seed=0)
    kept, held = hold_out_every(stream, 5)
    targets = {
        name: [int(n) for raw in s.in_order(4) for n in raw.frame_ids[0]]
        for name, s in (("all", stream), ("kept", kept), ("held", held))
    }
    assert targets["all"] == list(range(1, 13))
    assert targets["held"] == [3, 8]
    assert sorted(targets["kept"] + targets["held"]) == targets["all"]
    assert kept.steps_per_epoch == 5 and stream.steps_per_epoch == 6


def test_true_depth_explains_held_out_frames_better_than_wrong_depth() -> None:
    # A wall that stands askew, seen by a camera that moves sideways.
    height, width, focal = 48, 96, 60.0
    camera = Camera.from_parameters(focal, focal, 47.5, 23.5, height, width)
    across = torch.arange(width, dtype=torch.float32)
    inverse = (0.15 + 0.15 * across / width).expand(1, height, width)
    rng = torch.Generator().manual_seed(0)
    texture = torch.rand(1, 3, height // 4, width // 2, generator=rng)
    texture = torch.nn.functional.interpolate(texture, (height, 2 * width), mode="bicubic").clamp(
        0, 1
    )

    def seen_from(shift: float) -> torch.Tensor:
        # SparsePoints keep their row; column u of the target is seen at u + focal * shift * inverse depth.
        place = across - focal * shift * 0.15
        place = place / (1 + focal * shift * 0.15 / width)
        grid = torch.stack(
            torch.broadcast_tensors(
                (place + width / 2 + 0.5) / width - 1, torch.linspace(-1, 1, height)[:, None]
            ),
            dim=-1,
        )
        return torch.nn.functional.grid_sample(texture, grid[None], align_corners=False)

    frames = torch.stack([seen_from(shift) for shift in (0.0, -0.3, 0.3)])
    motions = torch.eye(4).repeat(2, 1, 1, 1)
    motions[0, 0, 0, 3], motions[1, 0, 0, 3] = -0.3, 0.3
    batch = SnippetBatch(
        frames[0], frames[1:], frames[0], frames[1:], camera.repeat(1), motions
    )  # fmt: skip
    settings = TrainSettings(data=DataSettings(poses="given"))
    networks = Networks(settings.model, depth=False, pose=False, features=False)

    def loss(values: torch.Tensor) -> float:
        networks.depth = lambda image, scales: [values[:, None]]  # type: ignore[assignment]
        return float(depth_loss(networks, batch, settings))

    true = loss(inverse)
    assert true < 0.6 * loss(inverse.flip(-1))
    assert true < 0.9 * loss(inverse.mean().expand_as(inverse))
    # The scale is free: the motion follows it.
    assert loss(1.3 * inverse) == pytest.approx(true, rel=0.2)


def test_a_refinement_that_does_harm_is_undone_in_both_modes(
    tiny_run: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pose_source, "find_colmap", lambda: None)
    plain, footage = Run.load(tiny_run), read_footage(frames)
    found: list[HeldOutResult | None] = []
    how = SampleRefinement(iterations=5, learning_rate=1.0)
    samples = refine_samples(
        tiny_run, footage, how, frames=[2], device="cpu", on_frame=found.append
    )
    (sample,) = samples
    assert found[0] is not None and not found[0].improved and found[0].after == found[0].before
    np.testing.assert_allclose(sample.depth, plain.depth(sample.frame.image), rtol=1e-4)
    result = refine_split(
        tiny_run, str(frames), [footage], tmp_path / "split", epochs=3, learning_rate=1.0,
        device="cpu",
    )  # fmt: skip
    assert result.held_out is not None and result.held_out.step == 0
    assert (
        "the weights before are kept"
        in json.loads((tmp_path / "split" / "run.json").read_text())["held_out"]
    )
    image = sample.frame.image
    np.testing.assert_allclose(
        Run.load(tmp_path / "split").depth(image), plain.depth(image), rtol=1e-4
    )


def test_a_refinement_that_helps_is_kept(
    tiny_run: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pose_source, "find_colmap", lambda: None)
    write_images(frames, 12)
    result = refine_split(
        tiny_run, str(frames), [read_footage(frames)], tmp_path / "run", epochs=3,
        learning_rate=1e-3, device="cpu",
    )  # fmt: skip
    assert result.held_out is not None and result.held_out.improved
    assert result.held_out.after < result.held_out.before
    # Resumed at its end it still knows what it was refined on.
    train(RunFolder.at(tmp_path / "run").settings(), tmp_path / "run", resume=True)
    assert Run.load(tmp_path / "run").refined.startswith("refined on all frames of")


def test_a_camera_that_turns_is_aligned(
    tiny_run: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, _ = refine._load(RunFolder.at(tiny_run))
    footage = [with_camera(read_footage(frames), settings.data)]
    driving = Survey(1, 0.02, 0.1, frozenset(), frozenset())
    monkeypatch.setattr(refine, "survey", lambda clip, stride=None: driving)
    drives = refine._make_streams(settings, footage, 1)[0]
    assert drives.data.poses == settings.data.poses == "network"
    turning = Survey(1, 0.02, 2.0, frozenset(), frozenset())
    monkeypatch.setattr(refine, "survey", lambda clip, stride=None: turning)
    turns, near, wide = refine._make_streams(settings, footage, 1)
    assert turns.data.poses == "aligned" and turns.loss.scale == turns.loss.consistency == 0
    assert wide is not None and wide.clips[0].stride == 2 * near.clips[0].stride


def test_footage_too_short_to_hold_frames_out(tiny_run: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "short", 3)
    found: list[HeldOutResult | None] = []
    footage, how = read_footage(tmp_path / "short"), SampleRefinement(iterations=1)
    list(refine_samples(tiny_run, footage, how, device="cpu", on_frame=found.append))
    assert found == [None, None, None]
    with pytest.raises(EgodepthError, match="one snippet, and none to hold out"):
        refine_split(tiny_run, "short", [footage], tmp_path / "run", epochs=1, device="cpu")
