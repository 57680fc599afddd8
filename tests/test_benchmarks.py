"""The benchmarks run, on so little that their numbers mean nothing."""

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from benchmarks import (
    ablation,
    at_scale_page,
    basin,
    before_after,
    broken_footage,
    judge,
    landscape,
    odometry,
    odometry_memory,
    poses,
    results_page,
    unknown_camera,
)
from benchmarks.real_excerpts import EXCERPTS
from tests.conftest import TINY
from tests.rendered_kitti import FRAMES

from egodepth.core.errors import EgodepthError


def run(module: object, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    module.main()  # type: ignore[attr-defined]


@pytest.fixture
def kitti(rendered_kitti: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words for the rendered stand-in of KITTI's excerpts, on which the networks are tiny."""
    for name in set(TINY) - {"model.height", "model.width", "steps"}:
        monkeypatch.setitem(EXCERPTS["kitti"].training, name, TINY[name])
    return ["kitti", "--data", str(rendered_kitti)]


@pytest.fixture
def small(kitti: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The same with small images."""
    for name in ("model.height", "model.width"):
        monkeypatch.setitem(EXCERPTS["kitti"].training, name, TINY[name])
    return kitti


def test_losses_are_judged_and_become_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = "data.stride=3 model.height=32 model.width=64"
    monkeypatch.setattr(judge, "FOOTAGE", {"street 5": ("synthetic:5", small)})
    monkeypatch.setattr(judge, "FRAMES", 1)
    chosen = {name: judge.LOSSES[name] for name in ("L_ph", "L_ph + 0.7 of it")}
    monkeypatch.setattr(judge, "LOSSES", chosen)
    run(judge, monkeypatch, "--data", str(tmp_path), "--out", str(tmp_path / "judge.json"))
    facts = json.loads((tmp_path / "judge.json").read_text())
    assert facts["results"]["street 5"]["L_ph"]["all"] > 0.6
    rows = results_page.judge(facts)
    assert rows[0] == ["loss", "street 5", "street 5, low"] and len(rows) == 3


def test_the_ablation_scores_every_variant_and_goes_on(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*small, "--out", str(tmp_path), "--steps", "1", "--feature-steps", "1", "--seeds", "0"]
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


def test_the_landscape_benchmark(
    kitti: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landscape, "variants", lambda: {"auto-encoder": (0.0, 0.0)})
    monkeypatch.setattr(landscape, "RADIUS", 4.0)
    monkeypatch.setattr(landscape, "STEP", 1.0)
    run(landscape, monkeypatch, *kitti, "--out", str(tmp_path), "--steps", "1", "--count", "39")
    written = json.loads((tmp_path / "kitti.json").read_text())
    assert written["pixels"] == 39 and written["frames"] == 1
    assert len(written["results"]) == 2 + 2 * 3 * 2
    # The least loss is near the true match; a random place on the surface is 3 pixels off.
    assert written["results"]["photometric"]["all"]["miss"] < 1.5


def test_the_benchmark_of_poses_goes_on(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*small, "--out", str(tmp_path), "--steps", "1", "--seeds", "0"]
    run(poses, monkeypatch, *words, "--variants", "network")
    checkpoints = {p: p.stat().st_mtime_ns for p in tmp_path.glob("**/checkpoint.ckpt")}
    assert len(checkpoints) == 1
    run(poses, monkeypatch, *words, "--variants", "network", "given")
    assert all(path.stat().st_mtime_ns == time for path, time in checkpoints.items())
    results = json.loads((tmp_path / "kitti.json").read_text())["results"]
    assert list(results) == ["network", "given"]


def test_the_benchmark_of_basins(
    kitti: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts near the truth come back to where it leads; far ones do less often."""
    monkeypatch.setattr(basin, "STARTS", 2)
    monkeypatch.setattr(basin, "START_ERRORS", [(0.5, 0.1), (40.0, 10.0)])
    run(basin, monkeypatch, *kitti, "--out", str(tmp_path), "--pairs", "1", "--feature-steps", "1")
    results = json.loads((tmp_path / "kitti.json").read_text())["results"]
    assert list(results) == [
        "images", "ImageNet features", "FeatureNet features", "features of builtin"
    ]  # fmt: skip
    near, far = (row["at_own_end"] for row in results["images"])
    assert near > 0.8 and far < near


def test_the_benchmark_of_odometry(
    rendered_kitti: Path, tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"KITTI 07": ("kitti_odometry:kitti_odometry", "07/image_2", "kitti", 1)}
    monkeypatch.setattr(odometry, "SEQUENCES", short)
    out = tmp_path / "odometry.json"
    words = ["--data", str(rendered_kitti), "--kitti", str(tiny_run), "--skip-colmap"]
    run(odometry, monkeypatch, *words, "--out", str(out))
    scores = json.loads(out.read_text())["results"]["KITTI 07"]
    methods = ["PoseNet, chained", "egodepth odometry", "egodepth odometry --loops no"]
    assert list(scores) == methods
    assert all(row["frames"] == FRAMES and row["seconds"] > 0 for row in scores.values())


def test_the_benchmark_of_broken_footage(
    rendered_kitti: Path, tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broken_footage, "BREAK", 2)
    monkeypatch.setattr(broken_footage, "PAUSE", 2)
    monkeypatch.setattr(broken_footage, "MISSING", 3)
    assert [len(order) for order in broken_footage.edits(6).values()] == [6, 6, 8, 4, 6, 8, 4]
    plain = broken_footage.edits(FRAMES)["as it is"]
    monkeypatch.setattr(broken_footage, "edits", lambda count: {"as it is": plain})
    words = [f"kitti_odometry:{rendered_kitti / 'kitti_odometry'}", "--run", str(tiny_run)]
    out = tmp_path / "broken.json"
    run(
        broken_footage,
        monkeypatch,
        *words,
        "--frames",
        str(FRAMES),
        "--elsewhere",
        "0",
        "--out",
        str(out),
    )
    row = json.loads(out.read_text())["results"]["as it is"]
    assert row["frames"] == FRAMES and row["parts"] == len(row["ate_m"])


def test_the_benchmark_of_odometrys_memory(
    tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odometry_memory, "STREET", range(60, 63))
    out = tmp_path / "memory.json"
    words = ["--run", str(tiny_run), "--frames", "4", "--out", str(out)]
    run(odometry_memory, monkeypatch, *words)
    facts = json.loads(out.read_text())
    assert facts["results"][-1]["frames"] == 4 and facts["latency_ms"]["p95"] > 0


@pytest.mark.real_data
@pytest.mark.slow
def test_the_focal_length_of_kitti_00_is_found_and_that_of_04_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "camera.json"
    words = ["--data", str(data), "--sequences", "00", "04", "--out", str(out)]
    run(unknown_camera, monkeypatch, *words)
    found = json.loads(out.read_text())["results"]
    assert found["00"]["taken"] and abs(found["00"]["found"] - 1) < 0.05
    assert not found["04"]["taken"]


def test_the_table_of_poses_has_mean_and_worst() -> None:
    runs = [{"abs_rel": 0.1, "rmse": 4.0, "a1": 0.9}, {"abs_rel": 0.2, "rmse": 6.0, "a1": 0.7}]
    last = poses.as_table({"network": runs}).splitlines()[-1]
    assert last == "| network | 0.1500 | 0.2000 | 5.0000 | 6.0000 | 0.8000 | 0.7000 |"


def test_depth_maps_of_two_runs_are_drawn_beside_each_other_and_the_truth(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["synthetic:3", "--frames", "0", "2", "--runs", str(tiny_run), str(tiny_run)]
    run(before_after, monkeypatch, *words, "--width", "80", "--out", str(tmp_path / "b.png"))
    drawn = cv2.imread(str(tmp_path / "b.png"))
    height, width = drawn.shape[:2]
    assert abs(width - 4 * 80) < 6 and abs(height - 2 * 24) < 4
    first, second, truth = (drawn[:24, x : x + 76].astype(int) for x in (82, 163, 245))
    assert np.abs(first - second).mean() < 3 < np.abs(first - truth).mean()


def test_the_page_of_results_is_what_the_script_writes() -> None:
    """After a new measurement: python -m benchmarks.results_page."""
    assert results_page.PAGE.read_text(encoding="utf-8") == results_page.render()
    text = at_scale_page.PAGE.read_text(encoding="utf-8")
    assert text == at_scale_page.render(text) and "ten million frames |" in text


def test_every_file_of_results_is_on_the_page() -> None:
    text = results_page.PAGE.read_text(encoding="utf-8")
    names = {path.name for path in results_page.RESULTS.glob("*.json")}
    assert names == set(re.findall(r"\(results/(\w+\.json)\)", text))


def test_tables_come_from_the_json() -> None:
    rows = results_page.ablation({"results": {"L_ph": [
        {"abs_rel": 0.1, "rmse": 4.0, "a1": 0.9, "low_abs_rel": 0.2, "low_rmse": 3.0, "low_a1": 0.8},
        {"abs_rel": 0.3, "rmse": 6.0, "a1": 0.7, "low_abs_rel": 0.2, "low_rmse": 3.0, "low_a1": 0.8},
    ]}})  # fmt: skip
    assert rows[1][:3] == ["L_ph", "0.2000 ± 0.1000", "5.000 ± 1.000"]
    simulated = {"taken": [0.02, -0.08], "refused": [-0.5, None, 0.1]}
    rows = results_page.simulated_cameras({"results": {"town 60": simulated}})
    assert rows[1] == ["town 60°", "5", "2", "8.0 %", "30.0 %"]
    assert results_page.markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
