"""Pretraining on rendered worlds."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.ship import ship
from PIL import Image
from tests.conftest import TINY, Heard, write_images

import egodepth
from egodepth.cli import main
from egodepth.core.config import override
from egodepth.core.errors import EgodepthError, EgodepthWarning
from egodepth.data.preparation.clips import NO_PART
from egodepth.data.sources import read_source
from egodepth.data.synthetic.worlds import pairs
from egodepth.data.synthetic.worlds.world import World
from egodepth.geometry.camera import Camera
from egodepth.losses.exact import exact_depth_loss, exact_motion_loss
from egodepth.runs import folder
from egodepth.runs.checkpoint import read_checkpoint, read_run
from egodepth.runs.folder import RunFolder
from egodepth.settings.model import ModelSettings
from egodepth.settings.recipes import get_recipe, imagenet_recipe, worlds
from egodepth.settings.training import TrainSettings
from egodepth.training import held_out_worlds, world_stream
from egodepth.training.augment import augment
from egodepth.training.build import build_networks, fit_size
from egodepth.training.held_out_worlds import HeldOutWorlds
from egodepth.training.pretraining import pretrain
from egodepth.training.pretraining_module import LATEST, PretrainingModule
from egodepth.training.requested import requested_settings
from egodepth.training.world_stream import WorldStream


@pytest.fixture
def tiny_worlds(monkeypatch: pytest.MonkeyPatch) -> HeldOutWorlds:
    """Few small worlds of the kinds that are built fastest, and what scores them."""
    monkeypatch.setattr(pairs, "SIZES", {(32, 64): 0.7, (64, 64): 0.3})
    monkeypatch.setattr(pairs, "KIND_SHARES", {"stairs": 0.5, "room": 0.5})
    monkeypatch.setattr(pairs, "PAIRS", 4)
    monkeypatch.setattr(world_stream, "FIRST_WORLDS", 2)
    monkeypatch.setattr(held_out_worlds, "KIND_SHARES", ["room"])
    return HeldOutWorlds(((32, 64),))


def _settings(**changes: object) -> TrainSettings:
    tiny = {
        name: value for name, value in TINY.items() if name not in ("model.height", "model.width")
    }
    return override(worlds(), tiny | changes)


@pytest.mark.parametrize("size", [(64, 96), (32, 96)])
def test_depth_and_motion_of_a_pair_agree_in_their_unit(size: tuple[int, int]) -> None:
    world = World("shapes", 3, 20, 64, 96)
    pair = pairs.pair_of(world, 4, 8).resized((0, 0, 64, 96), size)
    camera: Camera = world.camera.resize(*size)
    matrix = camera.matrix.numpy()
    np.testing.assert_allclose(pair.matrix, matrix, atol=1e-4)
    y, x = np.mgrid[: size[0], : size[1]]
    rays = np.linalg.inv(matrix) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    depth = 1 / pair.inverse_depth[0].astype(np.float64).ravel()
    assert pair.motion is not None
    there = pair.motion[:3, :3] @ (rays * depth) + pair.motion[:3, 3:]
    place = np.round((matrix @ there)[:2] / there[2]).astype(int)
    seen = (place >= 0).all(0) & (place[0] < size[1]) & (place[1] < size[0]) & (there[2] > 0)
    found = pair.inverse_depth[1][place[1, seen], place[0, seen]] * there[2, seen]
    assert seen.mean() > 0.3
    assert np.median(np.abs(np.log(found))) < 0.01
    moved = np.median(np.abs(np.log(depth[seen] / there[2, seen])))
    assert moved > 0.01  # else the motion would not matter


def test_the_canonical_unit_does_not_depend_on_the_field_of_view() -> None:
    world = World("room", 3, 20, 64, 96)
    whole = pairs.pair_of(world, 0, 1)
    part = whole.resized((16, 24, 32, 48), (64, 96))
    assert part.motion is None
    # The pixel in the middle of the crop looks the same way as in the whole image.
    ways = [
        np.linalg.solve(pair.matrix, [x, y, 1])
        for pair, x, y in ((whole, 47.5, 31.5), (part, 47.5, 31.5))
    ]
    np.testing.assert_allclose(*ways, atol=1e-12)
    # The middle, twice as large, lies at half the depth.
    inner = whole.inverse_depth[:, 16:48, 24:72].astype(np.float32)
    np.testing.assert_allclose(part.inverse_depth[:, ::2, ::2], 2 * inner, rtol=2e-3)


def test_exact_losses_have_known_values() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 1, 12, 20, generator=generator) + 0.1
    labels = torch.cat([truth, torch.ones_like(truth)], dim=1)
    assert exact_depth_loss(truth, labels).abs().max() == 0
    twice = exact_depth_loss(2 * truth, labels)
    torch.testing.assert_close(twice, torch.full_like(twice, 0.2 * math.log(2)), atol=1e-5, rtol=0)
    labels[:, 1] = 0
    assert exact_depth_loss(2 * truth, labels).abs().max() < 1e-5
    # One wrong pixel of the sky: its own difference and all its gradients count by its weight.
    wrong = truth.clone()
    wrong[:, :, 2, 3] *= 3
    labels[:, 1] = 1
    full = exact_depth_loss(wrong, labels).sum()
    labels[:, 1, 2, 3] = 0.3
    torch.testing.assert_close(exact_depth_loss(wrong, labels).sum(), 0.3 * full)
    motion = torch.eye(4).repeat(3, 1, 1)
    motion[:, :3, 3] = torch.tensor([0.0, 0.0, 1.0])
    vector = torch.tensor([[0, 0, 0, 0, 0, 1.0], [0, 0, 0, 0, 0, 3.0], [1, 1, 1, 1, 1, 1.0]])
    found = exact_motion_loss(vector.requires_grad_(), motion, torch.tensor([True, True, False]))
    torch.testing.assert_close(found, torch.tensor([0, 2 / 1.05 - 0.5, 0]))
    found.sum().backward()
    assert vector.grad is not None and bool(vector.grad.isfinite().all())


def test_a_stream_of_worlds_follows_from_its_seed(tiny_worlds: HeldOutWorlds) -> None:
    def batches(workers: int) -> list[world_stream.RawBatch]:
        stream = WorldStream(batch_size=3, seed=5, draws=1.5, workers=workers)
        stream.schedule = world_stream.Schedule(4)
        return list(stream)

    own, rendered_apart = batches(0), batches(1)
    assert [raw.step for raw in own] == [0, 1, 2, 3]
    for one, other in zip(own, rendered_apart, strict=True):
        assert torch.equal(one.frames, other.frames)
        assert one.dense is not None and other.dense is not None
        assert torch.equal(one.dense, other.dense)
        assert bool((one.dense[:, 0] >= 0.0099).all())


def test_pretraining_makes_a_run_that_predicts_and_resumes(
    tmp_path: Path, tiny_worlds: HeldOutWorlds
) -> None:
    out = tmp_path / "run"
    pretrain(_settings(steps=3), out, workers=0, held_out=tiny_worlds)
    saved = read_checkpoint(out / "checkpoint.ckpt")
    name = "networks.depth.decoder.heads.0.weight"
    assert not torch.equal(saved["state_dict"][name], saved[LATEST][name])
    run = egodepth.load(str(out), "cpu")
    depth = run.depth(np.zeros((40, 80, 3), np.uint8))
    assert depth.shape == (40, 80) and bool(np.isfinite(depth).all())
    assert run.has_motion and run.motion_gap.frames == 3
    facts = json.loads((out / "run.json").read_text())
    assert facts["worlds"][-1]["step"] == 3
    assert 0 < facts["worlds"][-1]["all"]["abs_rel"] < 10
    with pytest.raises(EgodepthError, match="already holds a run"):
        pretrain(_settings(steps=3), out, workers=0, held_out=tiny_worlds)


def test_a_pretraining_goes_on_from_another_with_new_worlds(
    tmp_path: Path, tiny_worlds: HeldOutWorlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(_settings(steps=2), tmp_path / "one", workers=0, held_out=tiny_worlds)
    one = RunFolder.at(tmp_path / "one").facts()
    rendered: list[int] = []
    known = world_stream.world_pairs
    monkeypatch.setattr(
        world_stream,
        "world_pairs",
        lambda seed, number: rendered.append(number) or known(seed, number),
    )
    two = _settings(steps=1, init=tmp_path / "one")
    pretrain(two, tmp_path / "two", workers=0, held_out=tiny_worlds)
    facts = RunFolder.at(tmp_path / "two").facts()
    assert rendered == list(range(one.rendered_worlds, facts.rendered_worlds))
    assert (facts.earlier_steps, facts.steps) == (2, 1)
    assert facts.earlier_seconds == one.seconds > 0


@pytest.mark.parametrize("method", ["features", "joint"])
def test_a_feature_net_is_pretrained_alone_or_along(
    method: str, tmp_path: Path, tiny_worlds: HeldOutWorlds
) -> None:
    settings = _settings(steps=2, method=method, log_every=1)
    pretrain(settings, tmp_path / "run", workers=0, held_out=tiny_worlds)
    networks = read_run(tmp_path / "run")[1]
    assert networks.features is not None
    assert (networks.depth is None) == (networks.pose is None) == (method == "features")
    log = next((tmp_path / "run").glob("logs/csv_*/metrics.csv"))
    terms = set(log.read_text().splitlines()[0].split(","))
    assert {"reconstruction", "discriminative", "convergent"} <= terms
    assert ("exact_depth" in terms) == (method == "joint")
    before = build_networks(settings).features
    assert before is not None
    pairs_of = zip(before.parameters(), networks.features.parameters(), strict=True)
    assert not all(torch.equal(old, new) for old, new in pairs_of)


def test_self_supervision_of_a_pretraining_finds_the_truth(
    tmp_path: Path, tiny_worlds: HeldOutWorlds
) -> None:
    settings = _settings(steps=2, log_every=1).changed(batch_size=6)
    settings = override(settings, {"loss.photometric": 0.1, "automask": False})
    stream = WorldStream(batch_size=6, seed=5, draws=1.5, workers=0)
    stream.schedule = world_stream.Schedule(1)
    (raw,) = stream
    batch, known = augment(raw, 0), raw.parts != NO_PART
    assert known.any() and batch.dense is not None and batch.motions is not None
    module = PretrainingModule(settings, build_networks(settings), stream)
    truth = batch.dense[:, :1]
    losses = [
        float(module._photometric(batch, [scale * truth], batch.motions, known))
        for scale in (1, 0.7, 1.4)
    ]
    assert losses[0] < 0.9 * min(losses[1:])
    pretrain(settings, tmp_path / "run", workers=0, held_out=tiny_worlds)
    log = next((tmp_path / "run").glob("logs/csv_*/metrics.csv"))
    assert "photometric" in log.read_text().splitlines()[0].split(",")


def test_pretraining_takes_no_frozen_features(tmp_path: Path) -> None:
    with pytest.raises(EgodepthError, match="photometric, features, joint, not frozen"):
        pretrain(_settings(method="frozen"), tmp_path / "run")


def test_an_interrupted_pretraining_goes_on(
    tmp_path: Path, tiny_worlds: HeldOutWorlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    from egodepth.training.run import TrainingInterrupted

    out, settings = tmp_path / "run", _settings(steps=4, checkpoint_every=2)

    def stop(*_: object) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(held_out_worlds, "LOOK_EVERY", 0.5)
        patch.setattr(
            tiny_worlds, "score", lambda *_: stop() or {"all": {"abs_rel": 1.0, "a1": 0.0}}
        )
        with pytest.raises(TrainingInterrupted) as stopped:
            pretrain(settings, out, workers=0, held_out=tiny_worlds)
    assert stopped.value.result.steps == 2
    before = json.loads((out / "run.json").read_text())
    result = pretrain(settings, out, resume=True, workers=0, held_out=tiny_worlds)
    assert result.steps == 4
    after = json.loads((out / "run.json").read_text())
    assert after["worlds"][0] == before["worlds"][0] and len(after["worlds"]) > 1
    assert after["rendered_worlds"] > before["rendered_worlds"]
    assert after["seconds"] > before["seconds"]
    _, networks = read_run(out)
    assert networks.depth is not None and networks.pose is not None


def test_an_interrupt_ends_the_scoring(tiny_worlds: HeldOutWorlds) -> None:
    networks = build_networks(_settings()).eval()
    assert tiny_worlds.score(networks, lambda: True) == {}
    asked = iter([False, False, True, True])  # after one of two frames
    assert tiny_worlds.score(networks, lambda: next(asked)) == {}


def test_resuming_takes_no_new_hours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--out", str(tmp_path), "--resume", "--hours", "2"]) == 1
    assert "--resume takes the settings of the run" in capsys.readouterr().err


def test_a_training_on_footage_is_not_resumed_on_worlds(tiny_run: Path) -> None:
    with pytest.raises(EgodepthError, match="egodepth train"):
        pretrain(RunFolder.at(tiny_run).settings(), tiny_run, resume=True, workers=0)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the run builtin, empty, in place of the package's."""
    found = tmp_path / "package" / "builtin"
    monkeypatch.setattr(folder, "BUILTIN_FOLDER", found)
    monkeypatch.chdir(tmp_path)
    return found


def test_a_package_without_builtin_says_so(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(Path("frames"), 3)
    for words in (
        ["predict", "builtin", "frames", "--out", "x"],
        ["train", "frames", "--init", "builtin", "--out", "x"],
        ["report", "builtin"],
    ):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert "without the run builtin" in error and error.count("\n") == 1
    assert not Path("x").exists()


def test_a_shipped_run_is_called_builtin(
    package: Path, tiny_worlds: HeldOutWorlds, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(_settings(steps=2), "run", workers=0, held_out=tiny_worlds)
    shallow = {"method": "features", "model.feature_depth": 2}
    features = override(_settings(steps=1), shallow)
    pretrain(features, "features", workers=0)
    values = ship(Path("run"), package, tiny_worlds, features=Path("features"))
    assert values["scores"]["all"]["abs_rel"] > 0
    settings, networks = read_run("builtin")
    assert settings.feature_depth == 2 and networks.features is not None
    assert len(networks.features.encoder.channels) == 2
    card = (package / "README.md").read_text()
    assert f"| room | {values['scores']['room']['abs_rel']:.3f} |" in card
    whole = sum(p.numel() * 4 for p in read_run("run")[1].parameters())
    assert (package / "model.safetensors").stat().st_size < 0.75 * whole
    run, before = egodepth.load("builtin", "cpu"), egodepth.load("run", "cpu")
    (image,) = write_images(Path("frames"), 1)
    np.testing.assert_allclose(run.depth(image), before.depth(image), rtol=0.02)
    assert run.folder.name == "builtin"
    write_images(Path("frames"), 3)
    assert main(["predict", "builtin", "frames", "--fov", "60", "--out", "depth"]) == 0
    assert main(["report", "builtin"]) == 1
    assert "nothing is written beside" in capsys.readouterr().err
    (Path("builtin")).mkdir()
    (Path("builtin") / "config.yaml").write_text("")
    with pytest.warns(EgodepthWarning, match="for the folder of that name"):
        egodepth.load("builtin")
    with pytest.raises(EgodepthError, match="written over itself"):
        ship(package, package)


def test_a_run_of_several_sizes_takes_the_one_that_fits(
    tmp_path: Path, tiny_worlds: HeldOutWorlds
) -> None:
    pretrain(_settings(steps=1), tmp_path / "run", workers=0, held_out=tiny_worlds)
    run = egodepth.load(str(tmp_path / "run"), "cpu")
    for height, width, expected in ((40, 80, (32, 64)), (60, 70, (64, 64)), (90, 60, (64, 64))):
        assert run.depth(np.zeros((height, width, 3), np.uint8)).shape == (height, width)
        assert (run.settings.height, run.settings.width) == expected
    write_images(tmp_path / "frames", 3, 64, 64)
    run.open(str(tmp_path / "frames"), fov=60)
    assert run.prepare(np.zeros((64, 64, 3), np.uint8)).shape == (3, 64, 64)


@pytest.mark.parametrize("out", ["builtin", "hf:me/drive"])
def test_names_of_runs_elsewhere_are_no_place_to_write(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(Path("frames"), 3)
    for words in (
        ["train", "frames", "--fov", "60"],
        ["pretrain"],
        ["pretrain", "--resume"],
        ["demo"],
    ):
        assert main([*words, "--out", out]) == 1
        assert f"{out} names a run that is kept elsewhere" in capsys.readouterr().err


def test_a_training_from_a_run_keeps_what_it_knows(tiny_run: Path) -> None:
    plain = requested_settings("kitti_small", changes={"init": "none"})
    assert plain == imagenet_recipe("kitti_small") and plain.init is None
    assert plain.learning_rate == 3e-4
    started = requested_settings("kitti_small", changes={"init": str(tiny_run), "decoder_rate": 7})
    assert (started.learning_rate, started.decoder_rate) == (4e-4, 7)
    assert started.model == read_run(tiny_run)[0]


def test_recipes_start_from_builtin_but_the_published_ones(tmp_path: Path) -> None:
    settings = requested_settings("kitti_small")
    assert str(settings.init) == "builtin"
    assert settings == get_recipe("kitti_small")
    shipped = RunFolder.at("builtin")
    assert settings.model == shipped.section(ModelSettings, "model")
    assert read_run(shipped)[1].pose is not None
    assert shipped.weights.stat().st_size < 20_000_000
    assert get_recipe("featdepth_kitti_mono").init is None
    file = tmp_path / "mine.yaml"
    file.write_text("init: null\nsteps: 7\n")
    assert requested_settings("demo", config_file=file) == imagenet_recipe("demo").changed(steps=7)


@pytest.mark.parametrize(
    ("frames", "size"),
    [
        ((375, 1242), (96, 320)),
        ((48, 64), (192, 256)),
        ((72, 128), (128, 224)),
        ((64, 48), (224, 128)),
    ],
)
def test_footage_is_trained_at_its_aspect_ratio(
    frames: tuple[int, int], size: tuple[int, int], tmp_path: Path, tiny_run: Path
) -> None:
    Image.new("RGB", frames[::-1]).save(tmp_path / "0.png")

    def found(**changes: Any) -> tuple[int, int]:
        settings = requested_settings(str(tmp_path), changes=changes)
        if settings.data.fit_size:
            settings, _ = fit_size(settings, read_source(str(tmp_path)))
        return settings.model.height, settings.model.width

    assert not get_recipe("footage").data.fit_size  # else a size set in Python would be replaced
    assert found() == found(init="none") == size
    assert found(**{"model.height": 64}) == (64, 320)
    assert found(**{"model.height": 96, "model.width": 320}) == (96, 320)
    tiny = read_run(tiny_run)[0]
    assert found(init=str(tiny_run)) == (tiny.height, tiny.width)


def test_other_networks_start_from_imagenet() -> None:
    heard = Heard(lambda name, count: None)
    with egodepth.reporting(heard):
        settings = requested_settings("kitti_small", changes={"model.depth_encoder": "resnet18"})
        larger = requested_settings("kitti_small", changes={"model.width": 640})
    assert settings.init is None and settings.learning_rate == 3e-4
    assert str(larger.init) == "builtin"
    assert heard.notes == [
        "starting from ImageNet weights: builtin has other networks (model.depth_encoder)"
    ]
    named = {"model.depth_encoder": "resnet18", "init": "builtin"}
    assert str(requested_settings("kitti_small", changes=named).init) == "builtin"
