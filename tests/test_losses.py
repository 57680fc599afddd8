import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import uniform_filter

from egodepth.losses import feature_regularizers, smoothness
from egodepth.losses.feature_metric import feature_metric_loss, structural_feature_loss
from egodepth.losses.masking import automask, minimum_over_sources
from egodepth.losses.photometric import (
    charbonnier,
    photometric_loss,
    structural_dissimilarity,
    target_statistics,
)


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64)


def test_ssim_agrees_with_scipy() -> None:
    x, y = images(1, 2, 3, 12, 15), images(2, 3, 12, 15)
    ours = structural_dissimilarity(x, target_statistics(y)).numpy()

    def mean(a: np.ndarray) -> np.ndarray:
        # scipy's "mirror" repeats no edge pixel, as PyTorch's "reflect"
        return uniform_filter(a, size=(1, 1, 3, 3), mode="mirror")

    a, b = x[0].numpy(), y.numpy()
    ma, mb = mean(a), mean(b)
    covariance = mean((a - 0) * b) - ma * mb
    va, vb = mean(a * a) - ma**2, mean(b * b) - mb**2
    ssim = (2 * ma * mb + 0.01**2) * (2 * covariance + 0.03**2)
    ssim /= (ma**2 + mb**2 + 0.01**2) * (va + vb + 0.03**2)
    np.testing.assert_allclose(ours[0], np.clip((1 - ssim) / 2, 0, 1), atol=1e-12)


def test_photometric_loss_of_equal_images_is_the_charbonnier_floor() -> None:
    y = images(2, 3, 8, 9)
    loss = photometric_loss(y[None], target_statistics(y))
    torch.testing.assert_close(loss, torch.full_like(loss, 0.15 * 1e-3), atol=1e-9, rtol=0)


def test_photometric_loss_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    x, y = images(3, 2, 3, 8, 9), images(2, 3, 8, 9)
    together = photometric_loss(x, target_statistics(y))
    for n in range(3):
        for b in range(2):
            alone = photometric_loss(x[n : n + 1, b : b + 1], target_statistics(y[b : b + 1]))
            torch.testing.assert_close(together[n, b], alone[0, 0])


def test_charbonnier_known_values() -> None:
    values = charbonnier(torch.tensor([0.0, 3e-3, -1.0], dtype=torch.float64))
    assert values.tolist() == pytest.approx([1e-3, 10**0.5 * 1e-3, (1 + 1e-6) ** 0.5])


def test_gradients_of_the_matching_losses() -> None:
    y = images(1, 2, 5, 6)
    x = images(2, 1, 2, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: photometric_loss(x, target_statistics(y)), x)
    assert torch.autograd.gradcheck(lambda x: feature_metric_loss(x, y), x)


def test_minimum_and_automask() -> None:
    per_source = torch.tensor([[[[1.0, 5.0]]], [[[2.0, 3.0]]]], requires_grad=True)
    least = minimum_over_sources(per_source)
    assert least.flatten().tolist() == [1, 3]
    masked = automask(least, torch.tensor([[[2.0, 2.0]]]))
    assert masked.flatten().tolist() == [1, 2]
    masked.sum().backward()
    assert per_source.grad is not None
    assert per_source.grad.flatten().tolist() == [1, 0, 0, 0]


def test_smoothness_known_values() -> None:
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
    plane = (2 * x + 3 * y + 1)[None, None].double()
    flat = torch.zeros(1, 3, 6, 7, dtype=torch.float64)
    assert smoothness.first_order_smoothness(plane, flat).mean().item() == pytest.approx(5)
    assert smoothness.second_order_smoothness(plane, flat).abs().max().item() == pytest.approx(0)
    second = smoothness.second_order_smoothness(plane**2, flat).mean().item()
    assert second == pytest.approx(8 + 18 + 2 * 12)


def test_an_image_edge_lowers_the_cost_of_a_depth_edge() -> None:
    step = torch.zeros(1, 1, 4, 6, dtype=torch.float64)
    step[..., 3:] = 1
    flat, edge = torch.zeros(1, 3, 4, 6).double(), step.expand(1, 3, 4, 6)
    for order in (smoothness.first_order_smoothness, smoothness.second_order_smoothness):
        ratio = order(step, edge).sum() / order(step, flat).sum()
        assert ratio < 0.5


def test_mean_normalisation_ignores_scale() -> None:
    inverse = 0.1 + images(2, 1, 4, 5)
    torch.testing.assert_close(
        smoothness.mean_normalized(inverse),
        smoothness.mean_normalized(7 * inverse),
        rtol=1e-5,
        atol=0,
    )


def test_feature_regularizers_known_values() -> None:
    x = torch.arange(8.0).expand(1, 2, 5, 8).double()
    flat = torch.zeros(1, 3, 5, 8, dtype=torch.float64)
    assert feature_regularizers.discriminative_loss(3 * x, flat).mean().item() == pytest.approx(-3)
    textured = (x[:, :1] * 0.5).expand(1, 3, 5, 8)
    weighted = feature_regularizers.discriminative_loss(3 * x, textured).mean().item()
    assert weighted == pytest.approx(-3 * np.exp(-0.5))
    assert feature_regularizers.convergent_loss(3 * x).abs().max().item() == pytest.approx(0)
    assert feature_regularizers.convergent_loss(x**2).mean().item() == pytest.approx(2)
    ones = torch.ones_like(flat)
    assert feature_regularizers.reconstruction_loss(0.25 * ones, ones).unique().item() == 0.75


def roughness(features: torch.Tensor) -> float:
    flat = torch.zeros(1, 3, *features.shape[-2:])
    dis = feature_regularizers.discriminative_loss(features, flat).mean()
    return float(-feature_regularizers.convergent_loss(features).mean() / dis)


def test_the_ratio_of_the_regularizers_tells_rough_features_from_smooth_ones() -> None:
    noise = torch.randn(1, 8, 160, 160)
    # Differences of white noise are normal: sqrt(6) twice and 2 twice, over sqrt(2) twice.
    white = (2 * 6**0.5 + 2 * 2) / (2 * 2**0.5)
    assert roughness(noise) == pytest.approx(white, rel=0.01) == pytest.approx(3.14, abs=0.02)
    assert roughness(0.01 * noise) == pytest.approx(white, rel=0.01)  # shrinking changes nothing
    blurred = F.avg_pool2d(noise, 5, stride=1)
    # Of 5x5 cells, four rows of five, four corners, and two rows of five are left over.
    smooth = (2 * 20**0.5 + 2 * 4**0.5) / (2 * 10**0.5)
    assert roughness(blurred) == pytest.approx(smooth, rel=0.02) == pytest.approx(2.05, abs=0.05)
    assert roughness(torch.arange(8.0).expand(1, 1, 8, 8)) == pytest.approx(0)


def test_normalized_features_do_not_get_smooth_by_shrinking() -> None:
    features = images(2, 3, 6, 7) * torch.tensor([0.1, 1.0, 30.0]).view(3, 1, 1).double()
    once = feature_regularizers.normalized(features)
    torch.testing.assert_close(
        once.std((0, 2, 3), correction=0), torch.ones(3).double(), rtol=1e-3, atol=0
    )
    twice = feature_regularizers.normalized(5 * features)
    torch.testing.assert_close(once, twice, rtol=1e-3, atol=1e-3)
    # The derivative along the features themselves, which is how they would shrink, is zero.
    size = torch.ones((), dtype=torch.float64, requires_grad=True)
    for loss in (
        feature_regularizers.convergent_loss,
        lambda f: feature_regularizers.discriminative_loss(f, torch.zeros(2, 3, 6, 7).double()),
    ):
        (raw,) = torch.autograd.grad(loss(size * features).mean(), size)
        (slope,) = torch.autograd.grad(
            loss(feature_regularizers.normalized(size * features)).mean(), size
        )
        assert abs(slope) < 1e-3 * abs(raw)
    constant = torch.ones(1, 2, 4, 4, requires_grad=True)
    feature_regularizers.convergent_loss(feature_regularizers.normalized(constant)).sum().backward()
    assert constant.grad is not None and bool(constant.grad.isfinite().all())


@pytest.mark.parametrize(
    "loss",
    [
        lambda f: feature_regularizers.discriminative_loss(f, torch.zeros(1, 3, 4, 5).double()),
        feature_regularizers.convergent_loss,
        lambda f: feature_regularizers.convergent_loss(feature_regularizers.normalized(f)),
        lambda f: smoothness.first_order_smoothness(f[:, :1], torch.zeros(1, 3, 4, 5).double()),
        lambda f: smoothness.second_order_smoothness(f[:, :1], torch.zeros(1, 3, 4, 5).double()),
    ],
)
def test_gradients_of_the_regularizers(loss: object) -> None:
    features = images(1, 3, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(loss, features)  # type: ignore[arg-type]


def test_structural_comparison_of_features_by_definition() -> None:
    """SSIM and robust L1 of channels brought to one spread, with moments from unfolded windows."""
    torch.manual_seed(0)
    target, other = torch.rand(2, 3, 5, 6, 7, dtype=torch.float64) * 40
    mean = target.mean((0, 2, 3), keepdim=True)
    spread = target.std((0, 2, 3), keepdim=True, correction=0)
    a, b = (0.5 + 0.2 * (x - mean) / spread for x in (other, target))

    def moments(x: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2)

    p, q = moments(a), moments(b)
    mp, mq = p.mean(-1), q.mean(-1)
    vp, vq = p.var(-1, correction=0), q.var(-1, correction=0)
    cross = ((p - mp[..., None]) * (q - mq[..., None])).mean(-1)
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mp * mq + c1) * (2 * cross + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))
    expected = 0.85 * ((1 - ssim) / 2).clamp(0, 1).mean(1) + 0.15 * (
        (a - b) ** 2 + 1e-6
    ).sqrt().mean(1)
    found = structural_feature_loss(other[None], target)[0]
    torch.testing.assert_close(found, expected)
    # How large the features are does not matter.
    torch.testing.assert_close(
        structural_feature_loss(7 * other[None] + 3, 7 * target + 3)[0], found
    )
