"""The fast step says what the straightforward one says; benchmarks of speed run."""

import json
import sys
from pathlib import Path

import pytest
import torch
from benchmarks import cost, gpu, gpu_check, loading, training_step
from tests.conftest import TINY, tiny_settings, write_images

from egodepth.cli import main
from egodepth.training.estimate import estimate


@pytest.mark.parametrize("task", ["R18", "losses"])
def test_the_step_agrees_with_the_straightforward_formulation(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_step, "HEIGHT", 64)
    monkeypatch.setattr(training_step, "WIDTH", 96)
    monkeypatch.setitem(training_step.ENCODERS, "R50", "resnet18")
    apart = training_step.differences(task)
    assert apart["loss"] < 1e-5
    # Pixels at which two sources or the automask tie may choose differently by rounding.
    assert apart["gradient"] < 0.02


@pytest.mark.parametrize("sources", [1, 2])
def test_the_cost_of_a_step_grows_with_its_size(
    sources: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "WARM_UP", 1)
    monkeypatch.setattr(cost, "TIMED", 2)
    small, large = (
        cost.measure("mobilenetv3_small_050", 32 * k, 64 * k, 2, sources)["seconds"] for k in (1, 6)
    )
    # 36 times the pixels; other users of the machine may take most of either step.
    assert large > 2 * small
    assert cost.megapixels({"height": 100, "width": 100, "batch": 5, "sources": 1}) == 0.1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_its_benchmark_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu"])
    gpu.main()
    assert "there is no CUDA GPU" in capsys.readouterr().out


def test_parts_of_the_gpu_check_fail_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [
        ("fine", "platform", 60.0),
        ("broken", "no_such_module", 60.0),
        ("endless", "http.server 0", 0.1),
    ]
    monkeypatch.setattr(gpu_check, "PARTS", [gpu_check.Part(n, w, "", s) for n, w, s in parts])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--out", str(tmp_path)])
    assert gpu_check.main() == 1
    found = json.loads((tmp_path / "gpu_check.json").read_text())["parts"]
    assert [part["passed"] for part in found.values()] == [True, False, False]
    assert "No module named no_such_module" in found["broken"]["last_lines"][-1]
    assert found["endless"]["stopped"] == "after its 1 s" and "endless" in capsys.readouterr().out


def test_loading_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    write_images(tmp_path / "frames", 5)
    monkeypatch.setattr(loading, "REPEATS", 1)
    monkeypatch.setattr(loading, "read_source", lambda source: [_with_camera(Path(source))])
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["x", "--source", str(tmp_path / "frames"), "--out", str(out)])
    try:
        loading.main()
    finally:
        torch.set_num_threads(threads)
    found = json.loads(out.read_text())["results"]
    assert set(found) == {"jpg", "png"}
    for row in found.values():
        assert row["ratio"] == pytest.approx(row["decoding_every_time"] / row["later_epochs"])


def _with_camera(folder: Path) -> object:
    from egodepth.data.footage.own_footage import read_footage

    return read_footage(folder).with_fov(60)


def test_an_estimate_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "frames", 6)
    settings = tiny_settings(tmp_path / "frames", data__poses="network", data__stride=1, epochs=3)
    found = estimate(settings)
    assert (found.snippets, found.steps_per_epoch, found.steps) == (4, 2, 6)
    assert found.hours() == pytest.approx(6 * found.seconds_per_step / 3600)
    assert found.hours(100, 2) == pytest.approx(100 * found.seconds_per_step / 3600)
    words = ["train", str(tmp_path / "frames"), "--out", str(tmp_path / "run"), "--estimate"]
    for name, value in (TINY | {"data.fov": 60, "data.poses": "network"}).items():
        words += [f"--{name}", str(list(value) if isinstance(value, tuple) else value)]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "s per step; 4 steps" in text and "KITTI's 39,810 snippets" in text
    assert not (tmp_path / "run").exists()
