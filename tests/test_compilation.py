"""The compiled comparison of images, which must say the same as the plain one."""

import shutil
from pathlib import Path

import pytest
import torch
from tests.conftest import tiny_settings, write_images

from egodepth.core.errors import EgodepthWarning
from egodepth.losses.feature_metric import feature_metric_loss, structural_feature_loss
from egodepth.losses.photometric import target_statistics
from egodepth.report.plots import read_log
from egodepth.runs.folder import RunFolder
from egodepth.training.compilation import Compiled, FeatureComparison, match_features, match_views
from egodepth.training.run import train


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    views = torch.rand(4, 1, 3, 8, 12, generator=generator)
    return views, torch.rand(1, 3, 8, 12, generator=generator)


needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="no C++ compiler on this machine"
)


@needs_compiler
@pytest.mark.parametrize("loss", [feature_metric_loss, structural_feature_loss])
def test_compiled_and_plain_features_agree(loss: FeatureComparison) -> None:
    generator = torch.Generator().manual_seed(0)
    warped = torch.randn(2, 1, 5, 8, 12, generator=generator)
    target = torch.randn(1, 5, 8, 12, generator=generator)
    results = []
    for how in (match_features, Compiled(match_features)):
        leaf = warped.clone().requires_grad_()
        value = how(leaf, target, loss)
        value.mean().backward()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-6, rtol=1e-4)


@needs_compiler
def test_compiled_and_plain_agree() -> None:
    match = Compiled(match_views)
    views, target = inputs()
    results = []
    for how in (match_views, match):
        leaf = views.clone().requires_grad_()
        loss = how(leaf, target_statistics(target), 2)
        loss.mean().backward()
        results.append((loss.detach(), leaf.grad))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-6, rtol=1e-4)
    # Another batch size is computed without compiling again.
    more = torch.cat([views, views], dim=1)
    statistics = target_statistics(torch.cat([target, target]))
    torch.testing.assert_close(match(more, statistics, 2), match_views(more, statistics, 2))
    assert match._compiled is not None


def test_a_broken_compiler_is_told_once_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: broken)
    match = Compiled(match_views)
    views, target = inputs()
    with pytest.warns(EgodepthWarning, match=r"compiling did not work \(no compiler\)"):
        loss = match(views, target_statistics(target), 2)
    torch.testing.assert_close(loss, match_views(views, target_statistics(target), 2))
    match(views, target_statistics(target), 2)  # without a second warning


@needs_compiler
def test_a_compiled_training_takes_the_same_steps(tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 6)
    totals = []
    for choice in ("never", "always"):
        settings = tiny_settings(
            tmp_path / "frames", method="photometric", compile=choice, data__poses="network",
            data__stride=1,
        )  # fmt: skip
        train(settings, tmp_path / choice)
        log = read_log(RunFolder.at(tmp_path / choice))
        totals.append(log["total"][:, 1])
    assert totals[0] == pytest.approx(totals[1], rel=1e-3)
