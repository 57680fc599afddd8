"""Runs saved for others, and depth models of others as DepthNet."""

from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from tests.conftest import TINY, tiny_settings, write_images
from tests.test_cli import run

import egodepth
from egodepth.core.config import override
from egodepth.core.errors import EgodepthError
from egodepth.models.transformers_depth import TransformersDepth
from egodepth.runs.checkpoint import read_run
from egodepth.runs.run import Run
from egodepth.settings.model import ModelSettings
from egodepth.training.run import train


def test_a_saved_run_predicts_the_same_and_tells_no_paths(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, error = run(capsys, "export", "hub", tiny_run, "--out", tmp_path / "hub")
    assert status == 0, error
    names = {path.name for path in (tmp_path / "hub").iterdir()}
    assert {"model.safetensors", "config.yaml", "run.json", "README.md"} <= names
    settings = yaml.safe_load((tmp_path / "hub" / "config.yaml").read_text())
    assert settings["data"]["sources"] == [] and settings["data"]["fov"] == 60.0
    texts = [
        p.read_text() for p in (tmp_path / "hub").glob("*.[ymj]*") if p.suffix != ".safetensors"
    ]
    assert not any(str(tiny_run.parent) in text for text in texts)
    (image,) = write_images(tmp_path / "frames", 1)
    expected = Run.load(tiny_run)
    for found in (Run.from_pretrained(tmp_path / "hub"), egodepth.load(str(tmp_path / "hub"))):
        np.testing.assert_array_equal(found.depth(image), expected.depth(image))
        np.testing.assert_array_equal(found.motion(image, image), expected.motion(image, image))
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    assert card.data.library_name == "egodepth" and card.data.pipeline_tag == "depth-estimation"
    assert "| image size | 64 x 32 |" in card.text and "| steps | 4 |" in card.text


def test_runs_of_the_hub_by_name(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The hub itself can't be reached by tests: its download is played by a folder."""
    Run.load(tiny_run).save_pretrained(tmp_path / "hub")
    asked: list[str] = []

    def play(name: str, **how: object) -> str:
        asked.append(name)
        if name != "me/drive":
            raise OSError("404 Client Error\nmore")
        return str(tmp_path / "hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", play)
    assert egodepth.load("hf:me/drive").settings.width == 64
    write_images(tmp_path / "frames", 2)
    words = ("predict", "hf:me/drive", tmp_path / "frames", "--out", tmp_path / "out")
    assert run(capsys, *words)[0] == 0 and asked == ["me/drive"] * 2
    with pytest.raises(EgodepthError, match=r"cannot get the run me/none .*: 404 Client Error$"):
        egodepth.load("hf:me/none")
    status, _, error = run(capsys, "predict", "hf:me/none", tmp_path, "--out", tmp_path / "o")
    assert status == 1 and "cannot get the run me/none" in error and len(error.splitlines()) == 1


def test_an_upload_that_fails_is_one_line(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def refuse(self: Run, name: str, **how: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(Run, "push_to_hub", refuse)
    words = ("export", "hub", tiny_run, "--out", tmp_path / "hub", "--push", "me/drive")
    status, _, error = run(capsys, *words)
    assert status == 1 and "cannot upload to me/drive: no route; log in" in error
    assert (tmp_path / "hub" / "model.safetensors").exists()


def test_broken_weights_are_named(tiny_run: Path, tmp_path: Path) -> None:
    Run.load(tiny_run).save_pretrained(tmp_path / "hub")
    (tmp_path / "hub" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(EgodepthError, match=r"model\.safetensors is broken"):
        read_run(tmp_path / "hub")


@pytest.fixture(scope="module")
def depth_anything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Depth Anything with random weights, saved as transformers does."""
    transformers = pytest.importorskip("transformers")
    backbone = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64,
        image_size=56, patch_size=14, out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8, head_in_channels=8, head_hidden_size=8, patch_size=14,
    )  # fmt: skip
    torch.manual_seed(1)
    model = transformers.AutoModelForDepthEstimation.from_config(config)
    with torch.no_grad():
        model.head.conv3.bias.fill_(0.5)  # else the random head's ReLU gives zero everywhere
    folder = tmp_path_factory.mktemp("depth_anything")
    model.save_pretrained(folder)
    return folder


def test_a_depth_model_of_others_starts_as_it_is(depth_anything: Path) -> None:
    """Inverse depth is the model's own up to scale, whose median is 1 / start_depth."""
    import transformers

    settings = override(ModelSettings(), {"depth_model": str(depth_anything), "start_depth": 2.0})
    network = TransformersDepth(settings.depth_model, {}, 0.1, 100.0, settings.start_depth)
    image = torch.rand(2, 3, 56, 84)
    inverse = network.train()(image)
    assert [tuple(level.shape) for level in inverse] == [
        (2, 1, 56 // 2**k, 84 // 2**k) for k in range(4)
    ]
    model = transformers.AutoModelForDepthEstimation.from_pretrained(depth_anything)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalized = (image - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    own = model(pixel_values=normalized).predicted_depth
    expected = 0.01 + own / own.median() / 2
    torch.testing.assert_close(inverse[0][:, 0], expected, rtol=1e-4, atol=1e-5)
    inverse[0].mean().backward()
    assert network.log_scale.grad is not None and network.net.head.conv1.weight.grad is not None


def test_a_depth_model_of_others_is_trained_and_read_back(
    depth_anything: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the same losses; the run needs the model's folder no more."""
    write_images(tmp_path / "frames", 7)
    source = tmp_path / "model"
    source.symlink_to(depth_anything)
    settings = tiny_settings(tmp_path / "frames", model__depth_model=str(source), steps=3)
    assert train(settings, tmp_path / "run").steps == 3
    source.unlink()
    loaded = Run.load(tmp_path / "run")
    depth = loaded.depth(tmp_path / "frames" / "000000.png")
    assert depth.shape == (40, 80) and (depth > 0).all()
    before = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)["state_dict"]
    assert bool(before["networks.depth.calibrated"])
    status, _, error = run(
        capsys, "predict", tmp_path / "run", tmp_path / "frames", "--out", tmp_path / "out"
    )
    assert status == 0, error
    loaded.save_pretrained(tmp_path / "hub")
    again = Run.from_pretrained(tmp_path / "hub").depth(tmp_path / "frames" / "000000.png")
    np.testing.assert_array_equal(again, depth)


def test_no_such_depth_model(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    settings = override(ModelSettings(), {k.removeprefix("model."): v for k, v in TINY.items()
                                          if k.startswith("model.")})  # fmt: skip
    with pytest.raises(EgodepthError, match=r"can't be loaded: .*; give the name of a depth model"):
        TransformersDepth(str(tmp_path), {}, settings.min_depth, settings.max_depth, 1.0)
