"""The benchmarks on real data run, on so little that their numbers mean nothing."""

import json
import sys
from pathlib import Path

import pytest
from benchmarks import ablation, landscape

from egodepth.core.errors import EgodepthError


def run(module: object, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    module.main()  # type: ignore[attr-defined]


@pytest.mark.real_data
@pytest.mark.slow
def test_the_ablation_scores_every_variant_and_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["kitti", "--data", str(data), "--out", str(tmp_path), "--steps", "1",
             "--feature-steps", "1", "--seeds", "0"]  # fmt: skip
    run(ablation, monkeypatch, *words, "--variants", "L_ph", "+ L_fm on images", "+ L_cvt")
    checkpoints = {p: p.stat().st_mtime_ns for p in tmp_path.glob("**/checkpoint.ckpt")}
    assert len(checkpoints) == 4  # three variants and a FeatureNet
    run(ablation, monkeypatch, *words, "--variants", "L_ph", "+ L_fm on images", "all, joint")
    assert all(path.stat().st_mtime_ns == time for path, time in checkpoints.items())
    results = json.loads((tmp_path / "kitti.json").read_text())["results"]
    assert list(results) == ["L_ph", "+ L_fm on images", "all, joint"]
    assert 0 < results["L_ph"][0]["low_abs_rel"] < 2
    assert (tmp_path / "kitti.md").read_text().count("+-") == 18
    with pytest.raises(EgodepthError, match="was trained with other settings"):
        run(ablation, monkeypatch, *words, "--coarse", "1", "--variants", "L_ph")


@pytest.mark.real_data
@pytest.mark.slow
def test_the_landscape_benchmark(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landscape, "variants", lambda: {"auto-encoder": (0.0, 0.0)})
    words = ["kitti", "--data", str(data), "--out", str(tmp_path), "--steps", "1", "--count", "39"]
    run(landscape, monkeypatch, *words)
    written = json.loads((tmp_path / "kitti.json").read_text())
    assert written["pixels"] == 39 and written["frames"] == 13
    assert len(written["results"]) == 2 + 2 * 3 * 2
    assert 0 < written["results"]["auto-encoder, level 1, structural"]["all"]["near_miss"] < 3
