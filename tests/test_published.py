"""Agreement with the published implementation, number by number."""

import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.conftest import write_images
from torch import Tensor

from egodepth.cli import main
from egodepth.core.errors import EgodepthError
from egodepth.geometry.camera import Camera
from egodepth.geometry.limits import Sampling
from egodepth.geometry.warp import warp
from egodepth.losses.feature_metric import feature_metric_loss
from egodepth.losses.masking import automask, minimum_over_sources
from egodepth.losses.photometric import photometric_loss, target_statistics
from egodepth.losses.smoothness import (
    first_order_smoothness,
    mean_normalized,
    second_order_smoothness,
)
from egodepth.models.published import convert_published

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"
GOLDEN = REFERENCE / "featdepth_golden.npz"
pytestmark = pytest.mark.skipif(
    not GOLDEN.exists(), reason=f"the golden values are not here: {GOLDEN}"
)
SAMPLINGS: dict[bool, Sampling] = {True: "exact", False: "published_shift"}


def made_weight(name: str, shape: list[int]) -> Tensor:
    """The weight that ../shared/reference/README.md defines for a name."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    noise = noise.astype(np.float32)
    if name.endswith("running_var"):
        values = 0.1 * np.abs(noise) + 0.9
    elif name.endswith(("running_mean", "bias")):
        values = 0.05 * noise
    elif len(shape) == 1:
        values = 1 + 0.05 * noise
    else:
        gain = 3 if ".disp" in name else 8 if "PoseDecoder.conv3" in name else 0.8
        values = noise * gain / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, np.float32))


@cache
def published_state(model: str) -> dict[str, Tensor]:
    keys = json.loads((REFERENCE / "featdepth_keys.json").read_text())[model]
    return {name: made_weight(name, shape) for name, shape in keys.items()}


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays}


def agree(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_every_entry_is_mapped_once() -> None:
    for model, classifiers in (("mono_fm_r18", 6), ("autoencoder_r18", 2)):
        state = published_state(model)
        converted = convert_published(state)
        assert len(converted.unused) == classifiers
        assert all(".encoder.fc." in name for name in converted.unused)
        assert converted.mapped + classifiers == len(state)
        ours = converted.networks.state_dict().values()
        taken = sorted(float(v.double().sum()) for n, v in state.items() if ".fc." not in n)
        kept = sorted(float(v.double().sum()) for v in ours)
        # Beside the weights there are the constants: mean and deviation of inputs, scale of poses.
        assert len(kept) - len(taken) == (7 if model == "mono_fm_r18" else 2)
        assert not set(taken) - set(kept)


def test_networks(golden: dict[str, Tensor]) -> None:
    networks = convert_published(published_state("mono_fm_r18")).networks
    assert networks.depth and networks.pose and networks.features
    target = golden["image_0"]
    sources = torch.stack([golden["image_-1"], golden["image_1"]])
    with torch.no_grad():
        for scale, inverse in enumerate(networks.depth(target)):
            disparity = (inverse - 0.01) / (10 - 0.01)
            agree(disparity, golden[f"disp_{scale}"])
        motions = networks.pose.sources_from_target(target, sources, (-1, 1))
        agree(motions[0], golden["cam_T_cam_-1"])
        agree(motions[1], golden["cam_T_cam_1"])
        agree(networks.features.features(target)[0], golden["feature_0"])


def test_auto_encoder(golden: dict[str, Tensor]) -> None:
    net = convert_published(published_state("autoencoder_r18")).networks.features
    assert net is not None
    target = golden["image_0"]
    with torch.no_grad():
        _, reconstructions = net(target)
        levels = net.encoder(target)
    for scale, reconstruction in enumerate(reconstructions):
        agree(reconstruction, golden[f"autoencoder/reconstruction_{scale}"])
        resized = F.interpolate(target, reconstruction.shape[-2:], mode="area")
        loss = photometric_loss(reconstruction[None], target_statistics(resized)).mean() / 4
        expected = golden[f"autoencoder/loss/min_reconstruct_loss/{scale}"].item()
        assert loss.item() == pytest.approx(expected, rel=1e-4)
    for i, features in enumerate(levels):
        agree(features.mean((0, 2, 3)), golden[f"autoencoder/feature_mean_{i}"])
        resized = F.interpolate(target, features.shape[-2:], mode="area")
        first = first_order_smoothness(features, resized).mean()
        second = second_order_smoothness(features, resized).mean()
        loss = 1e-3 * (second - first) / 2**i / 5
        expected = golden[f"autoencoder/loss/smooth_loss/{i}"].item()
        assert loss.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("mask", [True, False])
def test_losses(golden: dict[str, Tensor], align_corners: bool, mask: bool) -> None:
    target = golden["image_0"]
    height, width = target.shape[-2:]
    sources = torch.cat([golden["image_-1"], golden["image_1"]])
    motions = torch.cat([golden["cam_T_cam_-1"], golden["cam_T_cam_1"]])
    camera = Camera(golden["K"][:, :3, :3], height, width).repeat(2)
    key = f"loss/align_corners={align_corners}/automask={mask}/"
    statistics = target_statistics(target)
    identity = minimum_over_sources(photometric_loss(sources.unflatten(0, (2, -1)), statistics))

    def warped(image: Tensor, scale: int, at: Camera) -> Tensor:
        disparity = F.interpolate(
            golden[f"disp_{scale}"], (at.height, at.width), mode="bilinear", align_corners=False
        )
        depth = 1 / (0.01 + (10 - 0.01) * disparity[:, 0])
        views, _ = warp(image, depth.repeat(2, 1, 1), motions, at, at, SAMPLINGS[align_corners])
        return views.unflatten(0, (2, -1))

    for scale in range(4):
        loss = minimum_over_sources(photometric_loss(warped(sources, scale, camera), statistics))
        loss = automask(loss, identity) if mask else loss
        expected = golden[f"{key}min_reconstruct_loss/{scale}"].item()
        assert loss.mean().item() / 4 == pytest.approx(expected, rel=1e-4)
        disparity = mean_normalized(golden[f"disp_{scale}"])
        resized = F.interpolate(target, disparity.shape[-2:], mode="area")
        smooth = first_order_smoothness(disparity, resized, 0.5)
        smooth = (smooth + second_order_smoothness(disparity, resized, 0.5)).mean()
        expected = golden[f"{key}smooth_loss/{scale}"].item()
        assert 1e-3 * smooth.item() / 2**scale / 4 == pytest.approx(expected, rel=1e-4)

    net = convert_published(published_state("mono_fm_r18")).networks.features
    assert net is not None
    with torch.no_grad():
        source_features, target_features = net.features(sources)[0], net.features(target)[0]
    # The published code halves the intrinsics as they are, half a pixel off the exact ones.
    halved = camera.matrix.clone()
    halved[:, :2] /= 2
    at = Camera(halved, height // 2, width // 2)
    views = warped(source_features, 0, at)
    loss = minimum_over_sources(feature_metric_loss(views, target_features)).mean()
    for scale in range(4):
        expected = golden[f"{key}min_perceptional_loss/{scale}"].item()
        assert 1e-3 * loss.item() / 4 == pytest.approx(expected, rel=1e-4)


def test_what_does_not_fit_is_named() -> None:
    state = dict(published_state("mono_fm_r18"))
    del state["DepthDecoder.merge3.conv.bias"]
    state["Discriminator.weight"] = torch.zeros(1)
    with pytest.raises(EgodepthError) as error:
        convert_published(state)
    assert "entries missing (1): depth.decoder.merge.2.bias" in str(error.value)
    assert "entries left over (1): Discriminator.weight" in str(error.value)
    with pytest.raises(EgodepthError, match="no networks of FeatDepth"):
        convert_published({"weight": torch.zeros(1)})


def test_an_imported_checkpoint_is_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in ("mono_fm_r18", "autoencoder_r18"):
        torch.save({"meta": {"epoch": 40}, "state_dict": published_state(model)}, tmp_path / model)
        arguments = ["import", "featdepth", tmp_path / model, "--out", tmp_path / f"run-{model}"]
        arguments += ["--height", 32, "--width", 64]
        assert main([str(word) for word in arguments]) == 0
    assert "none missing; 6 that no network uses" in capsys.readouterr().out
    write_images(tmp_path / "frames", 4)
    run = tmp_path / "run-mono_fm_r18"
    assert main(["predict", str(run), str(tmp_path / "frames"), "--out", str(tmp_path / "p")]) == 0
    assert len(list((tmp_path / "p" / "depth").iterdir())) == 4
    words = ["train", str(tmp_path / "frames"), "--data.fov", "60", "--steps", "1"]
    words += ["--data.poses", "network", "--data.stride", "1"]
    words += ["--batch_size", "2", "--learning_rate", "1e-9"]
    frozen = ["--method", "frozen", "--feature_run", str(tmp_path / "run-autoencoder_r18")]
    for extra in ([], frozen):
        out = tmp_path / f"trained-{len(extra)}"
        assert main([*words, "--out", str(out), "--init", str(run), *extra]) == 0
        before, after = (
            torch.load(folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
            for folder in (run, out)
        )
        name = "networks.depth.decoder.heads.0.weight"
        torch.testing.assert_close(before[name], after[name], atol=1e-6, rtol=1e-6)
    capsys.readouterr()
    assert main(["train", "footage", "--out", str(run), "--resume"]) == 1
    assert "start a new run with --init" in capsys.readouterr().err
