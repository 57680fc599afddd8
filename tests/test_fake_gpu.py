"""Training steps on fake CUDA tensors: types and devices as on a GPU, without one and without computing."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch
from tests.conftest import TINY, raw_batch
from tests.host_waits import HostWaits
from torch._subclasses.fake_tensor import FakeTensorMode

from egodepth.core.config import override
from egodepth.core.schedule import Schedule
from egodepth.data.preparation.clips import Clip, KnownMotion, SparsePoints, read_clips
from egodepth.data.synthetic.street import read_street
from egodepth.models.networks import Networks
from egodepth.settings.model import ModelSettings
from egodepth.settings.recipes import RECIPES, get_recipe
from egodepth.settings.training import TrainSettings
from egodepth.training.batch import RawBatch
from egodepth.training.module import EgodepthModule, make_optimizer
from egodepth.training.motion_refinement import MotionRefinement
from egodepth.training.snippets import SnippetStream

GPU = torch.device("cuda")
FAKE = FakeTensorMode(allow_non_fake_inputs=True)
"""One for all tests, so that they share networks, and what PyTorch has found out about operations."""


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is made on ``cuda`` has type, device and shape, and no values; a look at one raises."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    with FAKE:
        yield


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Eight frames with poses, as if structure from motion had found them, and a point in each."""
    clip = read_clips([read_street(5, frames=8)], 32, 64, tmp_path_factory.mktemp("street"))[0]
    known = KnownMotion.given(clip.sequence)
    point = SparsePoints(torch.tensor([[10.0, 20.0]]).numpy(), torch.tensor([0.5]).numpy())
    return replace(clip, motion=replace(known, points=dict.fromkeys(range(8), point)))


def make_raw(settings: TrainSettings) -> RawBatch:
    """A batch on the CPU, as the loader hands it over."""
    data, batch = settings.data, settings.batch_size
    sources = len(data.directions) + data.partner
    size = (settings.model.height, settings.model.width)
    matrix = torch.tensor([[50.0, 0, 31.5], [0, 50.0, 15.5], [0, 0, 1]]).expand(batch, 3, 3)
    raw = raw_batch(torch.zeros(1 + sources, batch, 3, *size, dtype=torch.uint8), matrix)
    in_time = 1 + len(data.directions)
    return replace(
        raw, step=1, frame_ids=torch.arange(in_time)[:, None].expand(in_time, batch),
        points=torch.ones(batch, 4, 3) if data.poses == "sfm" else None,
        motions=torch.eye(4).expand(in_time - 1, batch, 4, 4) if in_time > 1 else None,
        partner_motion=torch.eye(4).expand(1, batch, 4, 4) if data.partner else None,
        static=torch.zeros(batch, 1, *size, dtype=torch.bool),
    )  # fmt: skip


def make_module(settings: TrainSettings, street: Clip) -> EgodepthModule:
    """As :func:`egodepth.training.build.build_module` makes it, without reading weights."""
    method, poses = settings.method, settings.data.poses
    stream = SnippetStream([street], directions=(-1, 1), batch_size=2, seed=0)
    networks = make_networks(
        settings.model.model_dump_json(), depth=method != "features",
        pose=method != "features" and settings.data.needs_pose_net,
        features=method in ("joint", "frozen", "features"), reconstructs=method != "frozen",
    )  # fmt: skip
    with GPU:
        refined = poses == "sfm" and bool(settings.data.directions)
        motions = MotionRefinement(stream, settings.model.start_depth) if refined else None
    return EgodepthModule(settings, networks.use_bf16(), Schedule(100), motions).train()


@cache
def make_networks(model: str, **needed: bool) -> Networks:
    with GPU:
        return Networks(ModelSettings.model_validate_json(model), **needed)


def step(settings: TrainSettings, street: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """One training step, for which the host never waits. Its backward pass is PyTorch's own, and asks for a
    real device."""
    module = make_module(settings, street)
    # The source that depth must be consistent with is drawn on the CPU, where values are real.
    monkeypatch.setattr("egodepth.training.objective.torch.randint", lambda *_: 0)
    with HostWaits() as forward:
        batch, result = module(make_raw(settings).to(GPU))
    assert not forward.found
    seen = {
        "total": result.total,
        "camera": batch.camera.matrix,
        "motions": batch.with_partner(batch.motions),
    }
    for name, value in (seen | result.terms).items():
        assert (value.dtype, value.device.type) == (torch.float32, "cuda"), name
    optimizer = make_optimizer(module)
    for parameter in module.parameters():
        assert parameter.device.type == "cuda"
        parameter.grad = torch.empty_like(parameter)
    with HostWaits() as update:
        module.configure_gradient_clipping(optimizer)
        optimizer.step()
    assert not update.found


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_step_of_every_recipe(
    name: str, fake_gpu: None, street: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders = {key: value for key, value in TINY.items() if "encoder" in key}
    changes = {"model.pretrained": False, "data.poses": "network", **encoders}
    step(override(get_recipe(name), changes), street, monkeypatch)


@pytest.mark.parametrize(
    ("views", "poses"),
    [("stereo", "network"), ("mono_stereo", "network"), ("mono_stereo", "aligned"), ("mono", "sfm"),
     ("mono", "given")],
)  # fmt: skip
def test_a_step_with_every_source_of_motion(
    views: str, poses: str, fake_gpu: None, street: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**TINY, "data.poses": poses, "data.views": views, "moving_mask": True,
               "loss.ground_contact": 0.03}  # fmt: skip
    step(override(TrainSettings(), changes), street, monkeypatch)


def test_what_makes_the_host_wait_is_seen(fake_gpu: None) -> None:
    values = torch.zeros(3, device=GPU)
    with HostWaits() as waits:
        values.new_tensor([1.0, 2.0])
        values.to("cpu")
        values[[0, 1]]
        values[values > 0] = 1.0
        torch.linalg.inv(torch.eye(3, device=GPU))
    assert len(waits.found) == 5
    with HostWaits() as waits:
        torch.zeros(3).to(GPU, non_blocking=True)
        torch.where(values > 0, values, 1.0)
        values[0:2] = 1.0
        torch.linalg.inv_ex(torch.eye(3, device=GPU))
    assert not waits.found
