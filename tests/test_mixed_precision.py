"""bfloat16 stays within the networks: poses, intrinsics, warps and their gradients are float32."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.conftest import tiny_settings
from torch import Tensor

from egodepth.core.schedule import Schedule
from egodepth.data.preparation.clips import Clip, KnownMotion, read_clips
from egodepth.data.synthetic.street import read_street
from egodepth.geometry import se3
from egodepth.models.mixed_precision import Network, mixed_precision
from egodepth.settings.training import TrainSettings
from egodepth.training.batch import RawBatch
from egodepth.training.build import build_module, build_networks
from egodepth.training.module import EgodepthModule
from egodepth.training.snippets import SnippetStream

FIVE_DEGREES = 0.087


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    clip = read_clips([read_street(5, frames=6)], 32, 64, tmp_path_factory.mktemp("street"))[0]
    sequence = replace(clip.sequence, camera_from="fov")
    return replace(clip, sequence=sequence, motion=KnownMotion.given(clip.sequence))


class KnownDepth(Network):
    """A DepthNet that says the same, whatever it computes in."""

    def __init__(self) -> None:
        super().__init__()
        self.computed_in: set[torch.dtype] = set()
        self.weight = torch.nn.Parameter(torch.eye(4))

    @mixed_precision
    def forward(self, image: Tensor, scales: int = 4) -> list[Tensor]:
        self.computed_in.add((self.weight @ self.weight).dtype)
        height, width = image.shape[-2:]
        ramp = torch.linspace(0.02, 0.3, height)[:, None].expand(len(image), 1, height, width)
        return [ramp[..., :: 2**k, :: 2**k] for k in range(scales)]


def moved_module(
    settings: TrainSettings, street: Clip, precision: str
) -> tuple[EgodepthModule, RawBatch]:
    """A training with refined poses that turned by degrees, and a batch of it."""
    stream = SnippetStream([street], directions=(-1, 1), batch_size=4, seed=0)
    stream.schedule = Schedule(4)
    torch.manual_seed(0)
    module = build_module(settings, stream, precision).train()
    assert module.motions is not None
    with torch.no_grad():
        module.motions.twist.normal_(std=FIVE_DEGREES)
        module.motions.log_focal.fill_(0.01)
    return module, stream.batch(1)


def sfm_settings(folder: Path) -> TrainSettings:
    return tiny_settings(
        folder,
        method="photometric",
        data__poses="sfm",
        data__augment=False,
        model__start_depth=10.0,
    )


def test_poses_and_intrinsics_are_not_rounded(street: Clip, tmp_path: Path) -> None:
    module, raw = moved_module(sfm_settings(tmp_path), street, "bf16")
    batch, result = module(raw)
    assert module.motions is not None and result.motions is not None
    corrections = se3.exp(module.motions.twist.detach().double()[raw.frame_ids])
    found = raw.motions.double()
    found[..., :3, 3] *= module.motions.log_scale.detach().double().exp()
    expected = corrections[1:] @ found @ se3.inverse(corrections[:1])
    torch.testing.assert_close(result.motions.double(), expected, rtol=1e-6, atol=2e-6)
    focal = raw.matrix.double()[:, 0, 0] * torch.tensor(0.01).double().exp()
    torch.testing.assert_close(batch.camera.matrix.double()[:, 0, 0], focal, rtol=1e-6, atol=0)
    assert {value.dtype for value in result.terms.values()} == {torch.float32}


def test_gradients_of_poses_are_those_of_float32(street: Clip, tmp_path: Path) -> None:
    """With one depth, whatever PoseNet computes in: the losses and their way back are the same."""
    gradients = []
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        module, raw = moved_module(sfm_settings(tmp_path), street, precision)
        depth = KnownDepth()
        depth.bf16 = precision == "bf16"
        module.networks.depth = depth  # type: ignore[assignment]
        _, result = module(raw)
        assert depth.computed_in == {dtype}
        result.terms["photometric"].backward()
        assert module.motions is not None and module.motions.twist.grad is not None
        gradients.append(module.motions.twist.grad)
    assert gradients[0].any()
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_networks_compute_in_bf16_and_give_float32(tmp_path: Path) -> None:
    networks = build_networks(tiny_settings(tmp_path)).use_bf16().eval()
    assert networks.depth and networks.pose and networks.features
    seen: list[torch.dtype] = []
    for network in networks.children():
        first = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
        first.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    image = torch.rand(2, 3, 32, 64)
    features, reconstructions = networks.features(image)
    outputs = [*networks.depth(image), networks.pose(image, image), *features, *reconstructions]
    assert {output.dtype for output in outputs} == {torch.float32}
    assert seen == [torch.bfloat16] * 3
    networks.use_bf16(False)
    networks.depth(image)
    assert seen[-1] == torch.float32
    # What comes between the network and the losses is computed outside of it.
    motions = networks.use_bf16().pose.sources_from_target(image, image[None], (-1,))
    torch.testing.assert_close(motions @ se3.inverse(motions), torch.eye(4).expand(1, 2, 4, 4))
