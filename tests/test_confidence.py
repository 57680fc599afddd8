"""Confidence: its metrics, its head, and how it is learned, written and scored."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import TINY, write_images

from egodepth.cli import main
from egodepth.core.config import override
from egodepth.core.errors import EgodepthError
from egodepth.data.synthetic.street import read_street
from egodepth.evaluation.confidence import LEFT_OUT, score_confidence, sparsify
from egodepth.inference.confidence import add_confidence
from egodepth.inference.odometry.trajectory import Trajectory
from egodepth.inference.scoring.depth_scores import evaluate_depth
from egodepth.models.confidence import ConfidenceHead, depth_and_features
from egodepth.models.networks import DepthNet
from egodepth.runs.confidence_fit import KnownFrame, calibrate_confidence, drawer, fit_confidence
from egodepth.runs.run import Run
from egodepth.settings.training import TrainSettings

MODEL = override(TrainSettings(), TINY).model


def test_sparsification_has_known_values() -> None:
    cost = np.arange(1.0, 101)  # left out from the largest on, the mean falls linearly
    best = sparsify(cost, cost)
    assert best.ause == pytest.approx(0)
    np.testing.assert_allclose(best.curve[:-1], (101 - 100 * LEFT_OUT[:-1]) / 2, atol=0.51)
    assert best.aurg == pytest.approx(np.trapezoid(50 * LEFT_OUT, LEFT_OUT), rel=0.03)
    worst = sparsify(cost, -cost)
    assert worst.aurg == pytest.approx(-best.aurg, rel=0.05)
    assert worst.ause == pytest.approx(2 * best.aurg, rel=0.05)
    constant = sparsify(cost, np.ones(100))  # ties stay together: no order of the pixels, no gain
    assert constant.aurg == pytest.approx(0)
    assert sparsify(cost**2, cost, root=True).curve[0] == pytest.approx(np.sqrt(np.mean(cost**2)))


def test_coverage_of_a_true_deviation() -> None:
    rng = np.random.default_rng(0)
    deviation = rng.uniform(0.05, 0.3, 40_000)
    truth = rng.uniform(2, 20, 40_000)
    scores = score_confidence(truth * np.exp(deviation * rng.normal(size=40_000)), truth, deviation)
    assert scores.metrics["coverage_1"] == pytest.approx(0.683, abs=0.01)
    assert scores.metrics["coverage_2"] == pytest.approx(0.954, abs=0.01)
    assert scores.metrics["aurg_abs_rel"] > 0
    assert scores.metrics["sure_abs_rel"] < scores.curves["abs_rel"].curve[0]
    with pytest.raises(EgodepthError, match="no deviations"):
        score_confidence(truth, truth, -deviation)


@pytest.mark.parametrize("decoder", ["unet", "cascaded"])
def test_depth_is_the_same_with_a_head(decoder: str) -> None:
    encoder = "test_efficientnet" if decoder == "unet" else "test_resnet"
    net = DepthNet(MODEL.changed(depth_decoder=decoder, depth_encoder=encoder)).eval()
    head, image = ConfidenceHead.of(net), torch.rand(1, 3, 64, 64)
    inverse, features = depth_and_features(net, image)
    assert torch.equal(inverse, net(image, scales=1)[0])
    head(image, inverse.detach(), [f.detach() for f in features]).sum().backward()
    assert all(p.grad is not None for p in head.parameters())


def test_calibration_makes_a_wrong_scale_right() -> None:
    """Errors with heavy tails, of a scale that is not the one predicted."""
    rng = np.random.default_rng(0)
    log_scale = torch.from_numpy(rng.uniform(-4, -1, 50_000)).float()
    error = torch.from_numpy(rng.laplace(size=50_000)).float().abs() * (0.5 * log_scale - 1).exp()
    head = ConfidenceHead(())
    before = head.calibrated(log_scale).exp()
    torch.testing.assert_close(before, log_scale.exp(), rtol=1e-3, atol=0)
    head.calibrate(log_scale, error)
    deviation = head.calibrated(log_scale).exp()
    assert (error <= deviation).float().mean() == pytest.approx(0.68, abs=0.05)
    assert (error <= 2 * deviation).float().mean() == pytest.approx(0.95, abs=0.05)
    order = log_scale.argsort()
    assert bool((deviation[order].diff() >= -1e-6).all())


def test_the_head_learns_where_depth_is_wrong() -> None:
    net, rng = DepthNet(MODEL).eval(), np.random.default_rng(0)
    frames = []
    for _ in range(12):
        image = np.full((32, 64, 3), 40, np.uint8)
        image[:, 32:] = 200  # wrong by 30 % where it is bright, by 3 % elsewhere
        image = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
        with torch.no_grad():
            shown = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
            inverse = net(shown, scales=1)[0][0, 0].numpy()
        spread = np.where(np.arange(64) < 32, 0.03, 0.3)
        frames.append(KnownFrame(image, inverse * np.exp(spread * rng.normal(size=(32, 64)))))
    head = ConfidenceHead.of(net)
    fit_confidence(net, head, drawer(frames), steps=40)
    calibrate_confidence(net, head, frames)
    with torch.no_grad():
        inverse, features = depth_and_features(net, shown)
        deviation = head(shown, inverse, features)[0, 0]
    assert float(deviation[:, :14].median()) == pytest.approx(0.03, rel=0.4)
    assert float(deviation[:, 18:].median()) == pytest.approx(0.3, rel=0.4)


def test_a_trained_run_writes_its_confidence_and_is_scored(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(tiny_run), str(write_images(tmp_path / "in", 3)[0].parent)]
    options = ["--fov", "60", "--formats", "npz", "png", "--out"]
    assert main([*command, *options, str(tmp_path / "out")]) == 0
    with np.load(tmp_path / "out" / "depth" / "0000000001.npz") as file:
        assert file["confidence"].shape == file["depth"].shape
        assert file["confidence"].dtype == np.float16 and (file["confidence"] > 0).all()
    assert len(list((tmp_path / "out" / "confidence_png").iterdir())) == 3
    assert "no confidence" not in capsys.readouterr().err
    run = Run.load(tiny_run, "cpu")
    sequence = read_street(3, frames=3)
    scores = evaluate_depth(run, [sequence], "synthetic")
    assert 0 <= scores.summary["coverage_1"] <= scores.summary["coverage_2"] <= 1
    old = tmp_path / "old"
    shutil.copytree(tiny_run, old)
    (old / "confidence.safetensors").unlink()
    assert main([*command[:1], str(old), *command[2:], *options, str(tmp_path / "two")]) == 0
    assert f"egodepth confidence {old} FOOTAGE" in capsys.readouterr().err
    with np.load(tmp_path / "two" / "depth" / "0000000001.npz") as file:
        assert file.files == ["depth"]


def test_confidence_in_files_is_scored_and_drawn(tmp_path: Path) -> None:
    from tests import layouts

    footage = layouts.make_footage(tmp_path)
    rng, folder = np.random.default_rng(0), tmp_path / "theirs"
    folder.mkdir()
    depth = np.full((40, 80), 3.0)
    for number, path in enumerate(sorted((footage / "depth").iterdir())):
        layouts.write_depth(path, depth, 1000)
        spread = rng.uniform(0.02, 0.3, depth.shape)
        guess = depth * np.exp(spread * rng.normal(size=depth.shape))
        np.savez(folder / f"{number:010d}.npz", depth=guess, confidence=spread.astype(np.float16))
    out = [str(tmp_path / "scores.json"), str(tmp_path / "curves.png")]
    words = ["evaluate", "depth", str(folder), "--data", str(footage)]
    assert main([*words, "--json", out[0], "--plot_confidence", out[1]]) == 0
    scores = json.loads(Path(out[0]).read_text())
    assert scores["coverage_1"] == pytest.approx(0.68, abs=0.03)
    assert scores["ause_abs_rel"] < scores["aurg_abs_rel"] + scores["ause_abs_rel"]
    assert Path(out[1]).stat().st_size > 1000


def test_footage_gives_a_run_confidence(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    before = (run / "confidence.safetensors").read_bytes()
    street = read_street(2, frames=8)
    assert street.world_from_camera is not None
    true = Trajectory(street.world_from_camera, list(street.frames.numbers))
    add_confidence(Run.load(run, "cpu"), [street], 2, track=lambda *_: true)
    assert (run / "confidence.safetensors").read_bytes() != before
    assert Run.load(run, "cpu").has_confidence
    with pytest.raises(EgodepthError, match="--out"):
        add_confidence(Run.load("builtin", "cpu"), [street], 1)
