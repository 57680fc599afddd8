import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_images
from tests.layouts import make_raw

from egodepth.cli import main
from egodepth.data.own_footage import read_footage
from egodepth.inference.run import Run
from egodepth.refine import SampleRefinement, refine_samples, refine_split


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    write_images(tmp_path / "frames", 5)
    return tmp_path / "frames"


def test_every_sample_starts_afresh(tiny_run: Path, frames: Path) -> None:
    footage = read_footage(frames)
    plain = Run.load(tiny_run)
    how = SampleRefinement(iterations=3, learning_rate=1e-3)
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
    from egodepth.data.clips import read_clips
    from egodepth.data.snippets import SnippetStream, augment
    from egodepth.refine import _load, with_camera
    from egodepth.training.objective import compute_objective

    settings, networks = _load(tiny_run)
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
