"""What a GPU must do as the CPU does. Where there is none the CPU stands in for it, so that the tests are known
to run; what only a GPU has is skipped. `benchmarks/gpu_check.sh` runs these first."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import TINY, raw_batch, tiny_settings, write_images

from egodepth.core.config import override
from egodepth.core.errors import EgodepthError
from egodepth.core.schedule import Schedule
from egodepth.data.footage.own_footage import read_footage
from egodepth.data.preparation.clips import KnownMotion, read_clips
from egodepth.geometry import se3
from egodepth.inference.odometry.track import track_sequence
from egodepth.losses.feature_metric import feature_metric_loss
from egodepth.losses.photometric import target_statistics
from egodepth.models.encoder import share_batch_statistics
from egodepth.models.networks import Networks
from egodepth.refine import SampleRefinement, refine_samples
from egodepth.report.plots import read_log
from egodepth.runs.devices import choose_device, choose_precision
from egodepth.runs.folder import RunFolder
from egodepth.runs.run import Run
from egodepth.settings.recipes import RECIPES, get_recipe
from egodepth.settings.training import TrainSettings
from egodepth.training.augment import augment
from egodepth.training.batch import RawBatch
from egodepth.training.compilation import Compiled, match_features, match_views
from egodepth.training.module import EgodepthModule, make_optimizer
from egodepth.training.motion_refinement import MotionRefinement
from egodepth.training.objective import ObjectiveResult
from egodepth.training.run import train
from egodepth.training.snippets import SnippetStream

pytestmark = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
SIZE = (64, 96)
POSES = ("network", "aligned", "sfm", "given")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=needs_gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(params=[pytest.param("cuda", marks=needs_gpu)])
def gpu(request: pytest.FixtureRequest) -> torch.device:
    """For what the CPU does not have."""
    return torch.device(request.param)


@pytest.fixture
def exact() -> Iterator[None]:
    """Convolutions in float32 proper: by default a GPU rounds their inputs to ten bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> SnippetStream:
    """A stream over a few frames, for its counts of frames and clips alone."""
    folder = tmp_path_factory.mktemp("clips")
    write_images(folder / "frames", 5)
    footage = read_footage(folder / "frames").with_fov(60)
    (clip,) = read_clips([footage], *SIZE, folder / "cache")
    motion = KnownMotion(np.tile(np.eye(4), (5, 1, 1)), np.zeros(5, int), {})
    clips = [replace(clip, motion=motion)]
    return SnippetStream(clips, directions=(-1, 1), batch_size=2, seed=0)


def small_motions(count: int, batch: int) -> torch.Tensor:
    """Known motions of a few degrees."""
    twist = torch.linspace(-0.03, 0.03, count * batch * 6).view(count, batch, 6)
    return se3.exp(twist)


def make_raw(settings: TrainSettings) -> RawBatch:
    """Smooth random pictures, as the loader hands them over."""
    data, batch = settings.data, 2
    count = len(data.directions) + data.partner
    height, width = settings.model.height, settings.model.width
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch * (1 + count), 3, height // 8, width // 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    frames = (255 * images).byte().unflatten(0, (1 + count, batch))
    matrix = torch.tensor([[80.0, 0, 47.5], [0, 80.0, 31.5], [0, 0, 1]]).repeat(batch, 1, 1)
    raw = raw_batch(frames, matrix)
    in_time = 1 + len(data.directions)
    return replace(
        raw, step=1, frame_ids=torch.arange(in_time * batch).view(in_time, batch) % 5,
        motions=small_motions(count, batch)[: in_time - 1],
        partner_motion=small_motions(count, batch)[in_time - 1 :] if data.partner else None,
        points=torch.tensor([20.0, 30.0, 0.5]).repeat(batch, 4, 1) if data.poses == "sfm" else None,
        static=torch.zeros(batch, 1, height, width, dtype=torch.bool),
    )  # fmt: skip


def make_module(
    settings: TrainSettings, stream: SnippetStream, device: torch.device, *, bf16: bool = False
) -> EgodepthModule:
    """As the training makes it, of random weights that are the same on every device."""
    torch.manual_seed(0)
    method = settings.method
    networks = Networks(
        settings.model, depth=method != "features",
        pose=method != "features" and settings.data.needs_pose_net,
        features=method in ("joint", "frozen", "features"), reconstructs=method != "frozen",
    )  # fmt: skip
    motions = None
    if settings.data.poses == "sfm" and settings.data.directions:
        motions = MotionRefinement(stream, settings.model.start_depth)
    module = EgodepthModule(settings, networks.use_bf16(bf16), Schedule(100), motions).train()
    return module.to(device).to(memory_format=torch.channels_last)


def take_step(module: EgodepthModule, raw: RawBatch) -> ObjectiveResult:
    """One step of the optimizer."""
    optimizer = make_optimizer(module)
    _, result = module(raw)
    result.total.backward()
    module.configure_gradient_clipping(optimizer)
    optimizer.step()
    return result


def check_step(settings: TrainSettings, stream: SnippetStream, device: torch.device) -> None:
    """A step in the device's own precision learns, and judges in float32."""
    bf16 = choose_precision("auto", device.type) == "bf16"
    module = make_module(settings, stream, device, bf16=bf16)
    before = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
    result = take_step(module, make_raw(settings).to(device))
    for value in (result.total, *result.terms.values()):
        assert value.device.type == device.type and value.dtype == torch.float32
        assert torch.isfinite(value)
    after = dict(module.named_parameters())
    assert all(torch.isfinite(after[name]).all() for name in before)
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    for network in ("depth", "pose", "features"):
        prefix = f"networks.{network}."
        learns = any(name.startswith(prefix) for name in before)
        assert learns == any(name.startswith(prefix) for name in moved), network


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_step_of_every_recipe(name: str, device: torch.device, clips: SnippetStream) -> None:
    small = {"model.pretrained": False, "model.height": SIZE[0], "model.width": SIZE[1],
             "model.pose_size": None, "data.poses": "network"}  # fmt: skip
    if device.type == "cpu":  # whose steps of every recipe test_training takes
        small |= {name: value for name, value in TINY.items() if "encoder" in name}
    check_step(override(get_recipe(name), small), clips, device)


@pytest.mark.parametrize("views", ["mono", "mono_stereo"])
@pytest.mark.parametrize("poses", POSES)
def test_a_step_with_every_source_of_motion(
    poses: str, views: str, device: torch.device, clips: SnippetStream
) -> None:
    settings = tiny(
        poses, **{"data.views": views, "moving_mask": True, "loss.ground_contact": 0.03}
    )
    check_step(settings, clips, device)


def tiny(poses: str, **changes: object) -> TrainSettings:
    size = {"model.height": SIZE[0], "model.width": SIZE[1], "data.poses": poses}
    return override(TrainSettings(), TINY | size | changes)


@pytest.mark.parametrize("poses", POSES)
def test_a_step_agrees_with_that_of_the_cpu(
    poses: str, device: torch.device, clips: SnippetStream, exact: None
) -> None:
    settings = tiny(poses, **{"data.augment": False})
    results, gradients = [], []
    for place in (torch.device("cpu"), device):
        module = make_module(settings, clips, place)
        # Batch statistics of a few pixels in the deepest layers magnify rounding.
        module.networks.eval()
        _, result = module(make_raw(settings).to(place))
        result.total.backward()
        results.append({name: value.detach().cpu() for name, value in result.terms.items()})
        flat = [p.grad.flatten().cpu() for p in module.parameters() if p.grad is not None]
        gradients.append(torch.cat(flat))
    for name, expected in results[0].items():
        torch.testing.assert_close(results[1][name], expected, rtol=1e-3, atol=1e-5, msg=name)
    # Pixels at which two sources or the automask tie may choose differently by rounding.
    assert (gradients[1] - gradients[0]).norm() < 0.02 * gradients[0].norm()


def test_geometry_is_not_rounded_to_bfloat16(device: torch.device, clips: SnippetStream) -> None:
    """Known motions and intrinsics come out of a step in bfloat16 as they went in."""
    settings = tiny("sfm", **{"data.augment": False})
    batch, result = make_module(settings, clips, device, bf16=True)(make_raw(settings).to(device))
    known = small_motions(2, 2)
    assert result.motions is not None
    torch.testing.assert_close(result.motions.detach().cpu(), known, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(batch.camera.matrix.detach().cpu()[:, 0, 0], torch.full((2,), 80.0))
    small = batch.camera.resize(11, 17).matrix.detach().cpu()
    torch.testing.assert_close(small[0, 0, 0], torch.tensor(80.0 * 17 / 96), rtol=1e-6, atol=0)


@pytest.mark.parametrize("poses", POSES)
def test_the_host_never_waits_within_a_step(
    poses: str, gpu: torch.device, clips: SnippetStream
) -> None:
    """PyTorch raises where it would: the error's traceback tells the line."""
    settings = tiny(poses, **{"moving_mask": True, "loss.ground_contact": 0.03})
    module = make_module(settings, clips, gpu, bf16=True)
    raw, optimizer = make_raw(settings).pin_memory(), make_optimizer(module)
    for mode in ("default", "error"):  # the first step makes what is kept
        torch.cuda.set_sync_debug_mode(mode)
        try:
            _, result = module(raw.to(gpu))
            result.total.backward()
            module.configure_gradient_clipping(optimizer)
            optimizer.step()
            optimizer.zero_grad()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_training_stops_resumes_and_repeats_its_steps(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "frames", 7)
    settings = tiny_settings(tmp_path / "frames", device=device.type, precision="auto")
    train(settings, tmp_path / "whole")
    step = EgodepthModule.training_step

    def stop_after_two(self: EgodepthModule, raw: RawBatch, index: int) -> torch.Tensor:
        self.trainer.should_stop = raw.step == 1
        return step(self, raw, index)

    with monkeypatch.context() as patch:
        patch.setattr(EgodepthModule, "training_step", stop_after_two)
        train(settings, tmp_path / "parts")
    result = train(settings, tmp_path / "parts", resume=True)
    assert result.steps == 4
    whole, parts = (read_log(RunFolder.at(tmp_path / name))["total"] for name in ("whole", "parts"))
    np.testing.assert_allclose(
        parts[:, 1], whole[:, 1], rtol=1e-4 if device.type == "cpu" else 2e-2
    )


def test_prediction_is_that_of_the_cpu(
    device: torch.device, tiny_run: Path, tmp_path: Path, exact: None
) -> None:
    first, second = write_images(tmp_path / "frames", 2)
    expected, run = Run.load(tiny_run), Run.load(tiny_run, device.type)
    np.testing.assert_allclose(run.depth(first), expected.depth(first), rtol=1e-3)
    np.testing.assert_allclose(run.motion(first, second), expected.motion(first, second), atol=1e-4)
    reduced = run.use_backend("torch-bf16").depth(first)
    np.testing.assert_allclose(reduced, expected.depth(first), rtol=0.1)


def test_odometry_is_that_of_the_cpu(
    device: torch.device, tiny_run: Path, tmp_path: Path, exact: None
) -> None:
    write_images(tmp_path / "frames", 4)
    footage = read_footage(tmp_path / "frames").with_fov(60)
    expected, found = (
        track_sequence(Run.load(tiny_run, place), footage) for place in ("cpu", device.type)
    )
    scale = np.abs(expected.first_from_frame[:, :3, 3]).max() + 1e-3
    np.testing.assert_allclose(
        found.first_from_frame, expected.first_from_frame, atol=0.05 * scale, rtol=0.02
    )


def test_samples_are_refined(device: torch.device, tiny_run: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 3)
    footage = read_footage(tmp_path / "frames")
    found = list(refine_samples(tiny_run, footage, SampleRefinement(2), device=device.type))
    assert len(found) == 3 and all(np.isfinite(p.depth).all() for p in found)


def test_devices_that_are_not_there_are_named(tiny_run: Path) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    assert choose_device("auto") == (("cuda", [0]) if count else ("cpu", [0]))
    missing = f"cuda:{count}"
    with pytest.raises(EgodepthError, match=f"no device {missing}: this machine has {count} CUDA"):
        choose_device(missing)
    with pytest.raises(EgodepthError, match="there is no device"):
        Run.load(tiny_run, missing)
    with pytest.raises(EgodepthError, match="unknown device"):
        choose_device("gpu")


def test_batches_come_pinned_and_are_moved_without_waiting(
    gpu: torch.device, clips: SnippetStream
) -> None:
    clips.schedule, clips.prefetch = Schedule(3), True
    for raw in clips:
        assert raw.motions is not None and raw.motions.is_pinned() and raw.frames.is_pinned()
        moved = augment(raw.to(gpu), raw.step, enabled=False)
        torch.testing.assert_close(moved.target.cpu(), raw.frames[0].float() / 255)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler, which Triton needs")
def test_compiled_comparisons_are_the_plain_ones(gpu: torch.device) -> None:
    generator = torch.Generator(device=gpu).manual_seed(0)
    views = torch.rand(4, 2, 3, 24, 40, generator=generator, device=gpu)
    target = torch.rand(2, 3, 24, 40, generator=generator, device=gpu)
    compiled_views, compiled_features = Compiled(match_views), Compiled(match_features)
    pairs = (
        (compiled_views, match_views, (target_statistics(target), 2)),
        (compiled_features, match_features, (target, feature_metric_loss)),
    )
    for compiled, plain, others in pairs:
        results = []
        for compare in (plain, compiled):
            leaf = views.clone().requires_grad_()
            loss = compare(leaf, *others)  # type: ignore[operator]
            loss.mean().backward()
            results.append((loss.detach(), leaf.grad))
        torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)
        assert compiled._compiled is not None  # type: ignore[attr-defined]


def test_a_step_with_shared_batch_statistics(
    gpu: torch.device, clips: SnippetStream, tmp_path: Path
) -> None:
    """As several processes have them, though here there is one."""
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        settings = tiny("network")
        plain, shared = (make_module(settings, clips, gpu) for _ in range(2))
        share_batch_statistics(shared)
        raw = make_raw(settings).to(gpu)
        expected, found = take_step(plain, raw).total, take_step(shared, raw).total
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-4)
    finally:
        torch.distributed.destroy_process_group()
