import math
import os
import pickle
import platform
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from tests.conftest import TINY, raw_batch, tiny_settings, write_images
from tests.layouts import make_odometry

from egodepth.cli.parsing import parse
from egodepth.cli.pretrain import Pretrain
from egodepth.core import config
from egodepth.core.config import override
from egodepth.core.errors import EgodepthError
from egodepth.core.memory import keep_large_allocations
from egodepth.core.schedule import Schedule
from egodepth.data.footage.own_footage import read_footage
from egodepth.data.image_files import ImageFiles
from egodepth.data.preparation import structure_from_motion
from egodepth.data.sequence import Sequence
from egodepth.geometry.camera import Camera
from egodepth.models.published import read_published
from egodepth.report.plots import read_log
from egodepth.runs.checkpoint import read_checkpoint, read_run
from egodepth.runs.devices import choose_device
from egodepth.runs.folder import RunFolder
from egodepth.settings.recipes import RECIPES, get_recipe, imagenet_recipe
from egodepth.settings.training import LossWeights, TrainSettings
from egodepth.training import build
from egodepth.training.augment import augment
from egodepth.training.batch import RawBatch, SnippetBatch
from egodepth.training.build import build_feature_net, build_networks
from egodepth.training.module import EgodepthModule
from egodepth.training.objective import compute_objective
from egodepth.training.run import TrainingInterrupted, train
from egodepth.training.terms import faded, feature_terms

TERMS = {
    "photometric": {"photometric", "coarse", "smooth_first", "smooth_second", "scale"},
    "joint": {
        "photometric", "coarse", "smooth_first", "smooth_second", "scale", "feature_metric",
        "reconstruction", "discriminative", "convergent",
    },
    "features": {"reconstruction", "discriminative", "convergent"},
}  # fmt: skip
TERMS["frozen"] = TERMS["images"] = TERMS["photometric"] | {"feature_metric"}


def make_batch(batch: int = 2, height: int = 32, width: int = 64) -> SnippetBatch:
    frames = torch.randint(0, 255, (3, batch, 3, height, width), dtype=torch.uint8)
    matrix = torch.tensor([[40.0, 0, 31.5], [0, 40.0, 15.5], [0, 0, 1]]).expand(batch, 3, 3)
    return augment(raw_batch(frames, matrix), 0)


def make_batch_of(seed: int) -> SnippetBatch:
    torch.manual_seed(seed)
    return make_batch()


def losses(run: Path) -> list[float]:
    return read_log(RunFolder.at(run))["total"][:, 1].tolist()


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    write_images(tmp_path / "frames", 9)
    return tmp_path / "frames"


@pytest.mark.parametrize("method", ["photometric", "images", "joint", "features"])
def test_terms_of_each_method(method: str, frames: Path) -> None:
    settings = tiny_settings(frames, method=method)
    networks = build_networks(settings).train()
    result = compute_objective(networks, make_batch(), settings)
    assert set(result.terms) == TERMS[method]
    weights = settings.loss.model_dump()
    expected = sum(weights[name] * value for name, value in result.terms.items())
    torch.testing.assert_close(result.total, expected)
    result.total.backward()
    trained = [
        n for n, p in networks.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    ]
    parts = {name.split(".")[0] for name in trained}
    networks_of = {"joint": {"depth", "pose", "features"}, "features": {"features"}}
    assert parts == networks_of.get(method, {"depth", "pose"})


def test_images_compared_by_the_feature_metric_loss(frames: Path) -> None:
    """A source equal to the target, at no motion, costs the robust L1's least value; one that is
    brighter by a tenth costs a tenth."""
    settings = tiny_settings(frames, method="images", **{"data.poses": "given"})
    batch = make_batch()
    still = torch.eye(4).expand(2, 2, 4, 4)
    target = batch.target * 0.8
    for change, expected in ((0.0, 1e-3), (0.1, math.hypot(0.1, 1e-3))):
        same = replace(batch, target=target, sources=(target + change).expand(2, *target.shape),
                       motions=still)  # fmt: skip
        terms = compute_objective(build_networks(settings), same, settings).terms
        assert terms["feature_metric"].item() == pytest.approx(expected, rel=1e-2)
    with pytest.raises(EgodepthError, match="method images has one level"):
        tiny_settings(frames, method="images", **{"loss.feature_levels": [0.5, 0.5]})


def test_where_nothing_moves_the_feature_metric_loss_says_nothing(frames: Path) -> None:
    """Sources equal to the target: any motion is worse than none, so the automask leaves all out."""
    batch = make_batch_of(1)
    motion = torch.eye(4)
    motion[0, 3] = 0.3
    batch = replace(batch, sources=batch.target.expand(2, *batch.target.shape),
                    motions=motion.expand(2, 2, 4, 4))  # fmt: skip
    pulls = []
    for automask in (True, False):
        torch.manual_seed(0)
        settings = tiny_settings(
            frames, method="images", automask=automask, **{"data.poses": "given"}
        )
        networks = build_networks(settings).eval()
        compute_objective(networks, batch, settings).terms["feature_metric"].backward()
        gradients = [p.grad for p in networks.parameters() if p.grad is not None]
        pulls.append(max(gradient.abs().max().item() for gradient in gradients))
    assert pulls[0] < 0.1 * pulls[1]  # some random pixels fit a neighbour better than themselves


def test_the_published_shift_reaches_every_warp(frames: Path) -> None:
    """Known motions, one network: only where pixels are sampled differs."""
    terms = []
    networks = None
    for sampling in ("exact", "published_shift"):
        settings = tiny_settings(frames, method="images", sampling=sampling)
        networks = networks or build_networks(settings).eval()
        terms.append(compute_objective(networks, make_batch_of(1), settings).terms)
    for name in ("photometric", "coarse", "feature_metric"):
        assert terms[0][name].item() != pytest.approx(terms[1][name].item(), rel=1e-4), name


def test_frozen_features_come_from_a_run_and_stay(
    tiny_run: Path, frames: Path, tmp_path: Path
) -> None:
    # Its own settings of FeatureNet are another one's: the run of the features counts.
    settings = tiny_settings(
        frames, method="frozen", feature_run=str(tiny_run), model__feature_encoder="resnet18",
        model__decoder_channels=(4, 4, 4, 4, 4),
    )  # fmt: skip
    train(settings, tmp_path / "run")
    before, after = read_run(tiny_run)[1].features, read_run(tmp_path / "run")[1].features
    assert before is not None and after is not None
    assert after.decoder is None and len(after.state_dict()) > 50
    for name, value in after.state_dict().items():
        torch.testing.assert_close(before.state_dict()[name], value)
    networks = build_networks(settings).train()
    assert networks.features is not None
    result = compute_objective(networks, make_batch(), settings)
    assert set(result.terms) == TERMS["frozen"]


def test_the_feature_metric_loss_does_not_reach_feature_net(frames: Path) -> None:
    settings = tiny_settings(frames)
    networks = build_networks(settings).train()
    result = compute_objective(networks, make_batch(), settings)
    assert networks.features is not None and networks.depth is not None
    result.terms["feature_metric"].backward()
    assert all(p.grad is None for p in networks.features.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in networks.depth.parameters())


@pytest.mark.parametrize(
    ("learns", "expected"),
    [("both", {"depth", "pose"}), ("depth", {"depth"}), ("motion", {"pose"})],
)
def test_the_feature_metric_loss_teaches_what_it_is_told_to(
    learns: str, expected: set[str], frames: Path
) -> None:
    settings = tiny_settings(frames, loss__feature_gradient=learns)
    networks = build_networks(settings).train()
    terms = compute_objective(networks, make_batch(), settings).terms
    terms["feature_metric"].backward(retain_graph=True)

    def reached() -> set[str]:
        return {
            name.split(".")[0]
            for name, p in networks.named_parameters()
            if p.grad is not None and p.grad.abs().sum() > 0
        }

    assert reached() == expected
    terms["photometric"].backward()
    assert reached() == {"depth", "pose"}


def test_levels_of_features_fade_from_coarse_to_fine(frames: Path) -> None:
    shares = (0.0, 0.5, 0.25, 0.25)
    assert faded(shares, 0.0) == (0, 0, 0, 1)
    assert faded(shares, 0.5) == (0, 0, 1, 0)
    assert faded(shares, 0.75) == pytest.approx((0, 2 / 3, 1 / 3, 0))
    assert faded(shares, 1.0) == (0, 1, 0, 0)
    networks, batch = build_networks(tiny_settings(frames)).eval(), make_batch(height=64, width=96)

    def fm(progress: float, **changes: object) -> float:
        settings = tiny_settings(frames, **changes)
        return compute_objective(networks, batch, settings, progress).terms["feature_metric"].item()

    levels = (0.5, 0.5)
    assert fm(0.0, loss__feature_levels=levels, loss__feature_fading=True) == pytest.approx(
        fm(0.0, loss__feature_levels=(0.0, 1.0))
    )
    assert fm(0.0, loss__feature_levels=levels) == pytest.approx(
        fm(1.0, loss__feature_levels=levels)
    )


@pytest.mark.parametrize(("depth", "expected"), [(50.0, math.log(5) ** 2), (5.0, 0.0)])
def test_the_scale_term_pulls_fleeing_depth_back(
    depth: float, expected: float, frames: Path
) -> None:
    settings = tiny_settings(frames, method="photometric")
    networks = build_networks(settings)
    assert networks.depth is not None
    head = networks.depth.decoder.heads[0]
    assert isinstance(head, torch.nn.Conv2d) and head.bias is not None
    torch.nn.init.zeros_(head.weight)
    share = (1 / depth - 0.01) / (10 - 0.01)
    torch.nn.init.constant_(head.bias, math.log(share / (1 - share)))
    term = compute_objective(networks, make_batch(), settings).terms["scale"]
    assert term.item() == pytest.approx(expected, rel=1e-3)
    term.backward()  # type: ignore[no-untyped-call]
    assert head.bias.grad is not None
    assert (head.bias.grad.item() < 0) == (expected > 0)  # a step makes it nearer


def test_nothing_is_computed_twice(frames: Path) -> None:
    settings = tiny_settings(frames)
    networks = build_networks(settings).train()
    counts = {"depth": 0, "pose": 0, "deep": 0, "shallow": 0}
    assert networks.depth and networks.pose and networks.features

    def count(name: str) -> object:
        return lambda *_: counts.__setitem__(name, counts[name] + 1)

    networks.depth.encoder.register_forward_hook(count("depth"))  # type: ignore[arg-type]
    networks.pose.encoder.register_forward_hook(count("pose"))  # type: ignore[arg-type]
    encoder = networks.features.encoder.net.model
    encoder.conv_stem.register_forward_hook(count("shallow"))
    encoder.blocks[-1].register_forward_hook(count("deep"))
    compute_objective(networks, make_batch(), settings)
    # FeatureNet sees the target once to the end, the sources once and no deeper than needed.
    assert counts == {"depth": 1, "pose": 1, "deep": 1, "shallow": 2}


def test_losses_fall_on_one_batch(frames: Path) -> None:
    settings = tiny_settings(frames)
    networks = build_networks(settings).train()
    optimizer = torch.optim.AdamW(networks.parameters(), lr=2e-3)
    images = [frame.image for frame in read_footage(frames).frames.at([3, 2, 4])]
    raw = torch.stack([torch.from_numpy(image[:32, :64].copy()) for image in images])
    matrix = torch.tensor([[[40.0, 0, 31.5], [0, 40.0, 15.5], [0, 0, 1]]])
    batch = augment(raw_batch(raw.permute(0, 3, 1, 2)[:, None], matrix), 0, enabled=False)
    trace = []
    for _ in range(40):
        result = compute_objective(networks, batch, settings)
        optimizer.zero_grad()
        result.total.backward()
        optimizer.step()
        trace.append(result.total.item())
    assert trace[-1] < 0.6 * trace[0], trace


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_two_steps_of_every_recipe(name: str, tiny_run: Path, tmp_path: Path) -> None:
    make_odometry(tmp_path)
    recipe = imagenet_recipe(name)
    changes = {
        "data.sources": [f"kitti_odometry:{tmp_path}"], **TINY, "model.pose_size": None,
        "data.stride": 1, "steps": 2, "minutes": None, "epochs": None,
    }  # fmt: skip
    if recipe.method == "frozen":
        changes["feature_run"] = str(tiny_run)
    result = train(config.override(recipe, changes), tmp_path / "run")
    assert result.steps == 2
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "run"))
    networks = read_run(tmp_path / "run")[1]
    assert (networks.pose is not None) == recipe.data.needs_pose_net * (recipe.method != "features")


def test_a_run_folder_holds_everything(tiny_run: Path) -> None:
    for name in ("config.yaml", "run.json", "checkpoint.ckpt", "logs/csv_0000000/metrics.csv"):
        assert (tiny_run / name).exists(), name
    assert list((tiny_run / "logs" / "tensorboard").glob("events*"))
    assert list((tiny_run / "samples").glob("*.png"))
    assert config.load(TrainSettings, tiny_run / "config.yaml").batch_size == 2
    content = torch.load(tiny_run / "checkpoint.ckpt", weights_only=True)
    assert content["global_step"] == 4
    assert set(read_log(RunFolder.at(tiny_run))) >= TERMS["joint"] | {"total"}


def test_a_resumed_run_repeats_the_uninterrupted_one(frames: Path, tmp_path: Path) -> None:
    settings = tiny_settings(frames, steps=7, checkpoint_every=3)
    train(settings, tmp_path / "whole")
    interrupt_after(3, settings, tmp_path / "parts")
    assert read_checkpoint(tmp_path / "parts" / "checkpoint.ckpt")["global_step"] == 3
    resumed = train(settings, tmp_path / "parts", resume=True)
    assert resumed.steps == 7
    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert len(whole) == 7
    assert parts == whole
    a, b = (read_run(tmp_path / name)[1].state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def interrupt_after(
    steps: int, settings: TrainSettings, out: Path, sequences: list[Sequence] | None = None
) -> None:
    """Send this process a SIGTERM during a step, as a scheduler does."""
    from egodepth.training import module

    original = module.EgodepthModule.training_step

    def step(self: object, raw: RawBatch, batch_idx: int) -> torch.Tensor:
        if raw.step == steps - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, raw, batch_idx)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.EgodepthModule, "training_step", step)
        with pytest.raises(TrainingInterrupted) as stop:
            train(settings, out, sequences=sequences)
    assert (stop.value.stopped_by, stop.value.result.steps) == ("SIGTERM", steps)


def test_an_interrupt_that_does_not_wait_reaches_the_caller(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the second Ctrl-C does. Lightning would end the process, and ignore Ctrl-C from then on."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(EgodepthModule, "training_step", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(tiny_settings(frames, steps=3), tmp_path / "run")
    assert not isinstance(caught.value, TrainingInterrupted)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_ctrl_c_of_the_command_writes_a_checkpoint(frames: Path, tmp_path: Path) -> None:
    words = ["train", str(frames), "--out", str(tmp_path / "run"), "--data.fov", "60"]
    for name, value in (TINY | {"steps": 100_000}).items():
        words += [f"--{name}", str(list(value) if isinstance(value, tuple) else value)]
    process = subprocess.Popen(
        [sys.executable, "-m", "egodepth.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "run" / "logs" / "csv_0000000" / "metrics.csv"
    for _ in range(3000):
        time.sleep(0.1)
        if log.exists() or process.poll() is not None:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "stopped by SIGINT; go on with: egodepth train" in err
    assert read_checkpoint(tmp_path / "run" / "checkpoint.ckpt")["global_step"] > 0


def test_minutes_bound_the_steps(frames: Path, tmp_path: Path) -> None:
    settings = tiny_settings(frames, steps=100_000, minutes=0.04)
    result = train(settings, tmp_path / "run")
    assert 1 <= result.total_steps < 2000 and result.seconds < 20


def test_folders_are_not_overwritten(tiny_run: Path, frames: Path, tmp_path: Path) -> None:
    with pytest.raises(EgodepthError, match="already holds a run: add --resume"):
        train(tiny_settings(frames), tiny_run)
    with pytest.raises(EgodepthError, match="cannot resume"):
        train(tiny_settings(frames), tmp_path, resume=True)


def test_devices_are_checked() -> None:
    assert choose_device("cpu") == ("cpu", [0])
    with pytest.raises(EgodepthError, match="unknown device 'tpu'"):
        choose_device("tpu")
    with pytest.raises(EgodepthError, match="no device cuda:99"):
        choose_device("cuda:99")


def test_checkpoints_of_something_else(tmp_path: Path, tiny_run: Path) -> None:
    path = tmp_path / "checkpoint.ckpt"
    with pytest.raises(EgodepthError, match=r"no checkpoint .*train or pretrain\) ended before"):
        read_checkpoint(path)
    path.write_bytes(b"garbage")
    with pytest.raises(EgodepthError, match="not a checkpoint of egodepth"):
        read_checkpoint(path)
    torch.save({"state_dict": {"layer.weight": torch.zeros(2)}}, path)
    with pytest.raises(EgodepthError, match="a checkpoint of something else"):
        read_checkpoint(path)
    path.write_bytes((tiny_run / "checkpoint.ckpt").read_bytes()[:5000])
    with pytest.raises(EgodepthError, match="not a checkpoint of egodepth"):
        read_checkpoint(path)
    torch.save({"state_dict": torch.nn.Linear(2, 2), "code": os.system}, path)
    with pytest.raises(EgodepthError, match="not a checkpoint of egodepth"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", "PyTorch did not write it, or it is damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "PyTorch did not write it, or it is damaged"),
        (pickle.dumps({"a": os.system}), "PyTorch did not write it, or it is damaged"),
        (None, "it holds Python objects, which are not loaded; save the state_dict alone"),
    ],
)
def test_no_word_of_pytorch_reaches_the_user(
    content: bytes | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.pth"
    if content is None:
        torch.save(torch.nn.Linear(2, 2), path)
    else:
        path.write_bytes(content)
    for read, what in ((read_checkpoint, "egodepth"), (read_published, "FeatDepth")):
        with pytest.raises(EgodepthError) as error:
            read(path)
        assert str(error.value) == f"{path} is not a checkpoint of {what}: {reason}"


def test_large_allocations_are_kept_where_there_is_glibc() -> None:
    assert keep_large_allocations() == (platform.libc_ver()[0] == "glibc")


def test_frozen_without_a_feature_net_is_refused(frames: Path) -> None:
    with pytest.raises(EgodepthError, match="method frozen needs --feature_run RUN"):
        build_networks(tiny_settings(frames, method="frozen"))


def test_a_baseline_and_structure_from_motion_have_two_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = [
        Sequence(camera, ImageFiles(write_images(tmp_path / camera, 9)), rig="rig",
                 camera=Camera.from_field_of_view(60.0, 40, 80), camera_name=camera)
        for camera in ("left", "right")
    ]  # fmt: skip
    monkeypatch.setattr(build, "require_colmap", lambda: None)
    changes = {"data.views": "mono_stereo", "data.poses": "sfm"}
    settings = override(tiny_settings(tmp_path), changes)
    with pytest.raises(
        EgodepthError, match=r"metres.*--data\.poses sfm has a unit of its own: use"
    ):
        train(settings, tmp_path / "run", sequences=pair)


def test_a_start_with_other_networks_is_refused_at_once(
    frames: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is asked of the hub, which is asked for nothing that the run has."""
    asked: list[str] = []
    create = timm.create_model

    def create_model(name: str, *, pretrained: bool, **options: Any) -> Any:
        asked.extend([name] * pretrained)
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", create_model)
    start = {"init": str(tiny_run), "model__pretrained": True}
    for setting, value, network in (
        ("depth_encoder", "resnet10t", "depth"), ("pose_encoder", "resnet10t", "pose"),
        ("decoder_channels", "[8, 8, 8, 8, 16]", "depth"), ("depth_decoder", "cascaded", "depth"),
        ("pose_decoder", "published", "pose"),
    ):  # fmt: skip
        settings = tiny_settings(frames, **start, **{f"model__{setting}": value})
        with pytest.raises(
            EgodepthError,
            match=rf"the {network} network of .* has {setting} .*, not .*{value[1:-1]}",
        ):
            build_networks(settings)
    assert not asked
    networks = build_networks(tiny_settings(frames, **start))
    assert not asked and networks.settings.pretrained
    found = read_run(tiny_run)[1]
    assert networks.pose is not None and found.pose is not None
    for own, theirs in zip(networks.pose.parameters(), found.pose.parameters(), strict=True):
        assert torch.equal(own, theirs)
    command = parse(["pretrain", "--out", "x", "--init", str(tiny_run)])
    assert isinstance(command, Pretrain)
    assert command._settings().model.depth_encoder == "test_efficientnet"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "frozen"}, "needs --feature_run RUN"),
        ({"method": "frozen", "feature_run": "nowhere"}, "nowhere"),
        ({"init": "nowhere"}, "nowhere"),
        ({"model.depth_encoder": "no_such"}, "timm knows no encoder"),
        ({"model.pretrained": True, "model.pose_encoder": "resnet10t"}, "can't be had"),
        ({"device": "cuda:9"}, "no device cuda:9"),
        ({"data.cache": "taken"}, "cannot write"),
        ({"data.mask": "nowhere.png"}, "nowhere.png"),
        ({"data.views": "stereo"}, "no second camera"),
        ({"data.poses": "given"}, "has no poses"),
        ({"data.poses": "sfm"}, "need pycolmap"),
    ],
    ids=str,
)
def test_what_a_training_lacks_is_told_before_its_footage_is_prepared(
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    monkeypatch.setattr(structure_from_motion, "find_colmap", lambda: None)
    monkeypatch.setattr(
        "egodepth.training.build.make_stream", lambda *_: pytest.fail("footage was prepared")
    )
    (tmp_path / "taken").touch()
    with pytest.raises(EgodepthError, match=message):
        train(override(tiny_settings(frames), changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def offline(*_: object, **__: object) -> None:
    raise OSError("no network")


def test_the_published_recipes_say_what_was_published() -> None:
    features = get_recipe("featdepth_features")
    assert (features.model.height, features.model.width, features.epochs) == (256, 800, 30)
    assert [features.epochs * share for share in features.halve_at] == [10, 20]
    for name in ("kitti_mono", "kitti_stereo", "kitti_mono_stereo", "odometry"):
        recipe = get_recipe(f"featdepth_{name}")
        assert (recipe.model.height, recipe.model.width, recipe.epochs) == (320, 1024, 40)
        assert [recipe.epochs * share for share in recipe.halve_at] == [20, 30]
        assert (recipe.learning_rate, recipe.weight_decay, recipe.gradient_clip) == (1e-4, 0, 35)
        assert recipe.automask == ("stereo" not in name)
        assert recipe.data.partner == ("stereo" in name)


def test_epochs_are_passes_over_all_snippets(frames: Path, tmp_path: Path) -> None:
    # 9 frames make 7 snippets, which are 4 batches of 2.
    result = train(tiny_settings(frames, epochs=1.5), tmp_path / "run")
    assert result.total_steps == 6


def test_the_halved_schedule(frames: Path) -> None:
    settings = tiny_settings(frames, schedule="halved", learning_rate=0.8)
    module = EgodepthModule(settings, build_networks(settings), Schedule(4000))
    configured = module.configure_optimizers()
    scheduler = configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(4000):
        rates.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(0.8 / 3)
    assert rates[250] == pytest.approx(0.8 * 2 / 3, rel=0.01)
    assert rates[500] == rates[1999] == pytest.approx(0.8)
    assert rates[2000] == rates[2999] == pytest.approx(0.4)
    assert rates[3000] == rates[3999] == pytest.approx(0.2)


def test_a_level_that_feature_net_lacks_is_no_level(frames: Path, tiny_run: Path) -> None:
    with pytest.raises(
        EgodepthError, match=r"weighs level 4, but FeatureNet has 3: .*feature_depth"
    ):
        build_networks(
            tiny_settings(frames, model__feature_depth=3, loss__feature_levels=[0.0, 0.0, 0.5, 0.5])
        )
    shares = [0.0] * 5 + [1.0]
    with pytest.raises(EgodepthError, match="weighs level 6, but FeatureNet has 5"):
        build_feature_net(
            tiny_settings(
                frames, method="frozen", feature_run=str(tiny_run), loss__feature_levels=shares
            )
        )


def test_feature_levels_are_weighed_and_regularized(frames: Path) -> None:
    """L_fm is the sum of the shares of the levels, L_dis and L_cvt the mean over them."""
    results = {}
    networks = build_networks(tiny_settings(frames))
    batch = make_batch(height=64, width=96)
    for levels in ((1.0,), (0.0, 1.0), (1.0, 0.5)):
        settings = tiny_settings(frames, loss__feature_levels=levels)
        results[levels] = compute_objective(networks.eval(), batch, settings).terms
    first, second, both = results.values()
    expected = first["feature_metric"] + 0.5 * second["feature_metric"]
    torch.testing.assert_close(both["feature_metric"], expected)
    for name in ("discriminative", "convergent"):
        torch.testing.assert_close(both[name], (first[name] + second[name]) / 2)
        assert first[name] != second[name]
    every = tiny_settings(frames, loss__regularize="all")
    terms = compute_objective(networks, batch, every).terms
    alone = [
        compute_objective(
            networks, batch, tiny_settings(frames, loss__feature_levels=[0.0] * level + [1.0])
        ).terms["convergent"]
        for level in range(5)
    ]
    halved = torch.stack([value / 2**level for level, value in enumerate(alone)])
    torch.testing.assert_close(terms["convergent"], halved.mean())


def test_normalized_regularizers_do_not_depend_on_the_size_of_features(tiny_run: Path) -> None:
    levels, image = [torch.rand(2, 4, 16, 24), torch.rand(2, 6, 8, 12)], torch.rand(2, 3, 32, 48)
    for norm, factor in (("none", 5.0), ("spread", 1.0)):
        loss = LossWeights(regularizer_norm=norm, regularize="all")
        terms, larger = (
            feature_terms([scale * level for level in levels], [image], image, loss)
            for scale in (1.0, 5.0)
        )
        for name in ("discriminative", "convergent"):
            torch.testing.assert_close(larger[name], factor * terms[name], rtol=1e-3, atol=1e-4)
    # Rough features have 3.1; those of the tiny run are hardly trained.
    log = read_log(RunFolder.at(tiny_run))
    assert (log["feature_roughness"][:, 1] > 0.5).all() and len(log["feature_roughness"]) == 4
